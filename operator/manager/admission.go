// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"context"
	"crypto/tls"
	"fmt"
	"path/filepath"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/certwatcher"
	"sigs.k8s.io/controller-runtime/pkg/client"
	crmanager "sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/meshwright/meshwright/webhooks"
	"github.com/meshwright/meshwright/webhooks/certs"
	"github.com/meshwright/meshwright/webhooks/policies"
)

// certificate is what webhooks and metrics are served with.
type certificate interface {
	crmanager.Runnable
	GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error)
}

// newCertificate is one that the operator issues, or one that its installer has put into files.
func newCertificate(o Options) (certificate, error) {
	if o.WebhookCertDir == "" {
		return &certs.Keeper{
			Secret: client.ObjectKey{Namespace: o.Namespace, Name: webhookSecret}, Service: webhookService, Webhook: webhookName,
			Clock: clock.RealClock{},
		}, nil
	}
	watcher, err := certwatcher.New(filepath.Join(o.WebhookCertDir, corev1.TLSCertKey), filepath.Join(o.WebhookCertDir, corev1.TLSPrivateKeyKey))
	if err != nil {
		return nil, fmt.Errorf("the certificate of the webhook in --webhook-cert-dir: %w", err)
	}
	return watcher, nil
}

// keepPolicies makes the admission policies that are missing before anything else is done, and has the leader keep them. Without them the
// operator does not start: they hold it, too.
func keepPolicies(ctx context.Context, mgr ctrl.Manager, namespace string) error {
	live, err := client.New(mgr.GetConfig(), client.Options{Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper()})
	if err != nil {
		return err
	}
	keeper := &policies.Keeper{Client: live, Namespace: namespace, Clock: clock.RealClock{}}
	if err := keeper.Begin(ctx); err != nil {
		return fmt.Errorf("--keep-policies: %w", err)
	}
	return mgr.Add(keeper)
}

func (p *parts) addWebhooks(ctx context.Context, mgr ctrl.Manager, served certificate) error {
	if keeper, ok := served.(*certs.Keeper); ok {
		if err := trustOwn(ctx, mgr, keeper); err != nil {
			return err
		}
	}
	if err := mgr.Add(served); err != nil {
		return err
	}
	if err := mgr.AddReadyzCheck("webhook", mgr.GetWebhookServer().StartedChecker()); err != nil {
		return err
	}
	return webhooks.SetupWithManager(mgr, webhooks.Dependencies{
		Reader: mgr.GetClient(), Live: mgr.GetAPIReader(), Facts: p.gatherer, Index: p.index, Self: self(p.namespace),
	})
}

// self is the name by which the API server knows an operator in a namespace.
func self(namespace string) string {
	return "system:serviceaccount:" + namespace + ":" + serviceAccount
}

// trustOwn has the certificate that the operator issues trusted by its webhook configuration, whenever that changes.
func trustOwn(ctx context.Context, mgr ctrl.Manager, keeper *certs.Keeper) error {
	live, err := client.New(mgr.GetConfig(), client.Options{Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper()})
	if err != nil {
		return err
	}
	changed := make(chan struct{}, 1)
	keeper.Client, keeper.Configurations, keeper.Changed = live, mgr.GetClient(), changed
	informer, err := mgr.GetCache().GetInformer(ctx, &admissionregistrationv1.ValidatingWebhookConfiguration{}, cache.BlockUntilSynced(false))
	if err != nil {
		return err
	}
	poke := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{AddFunc: func(any) { poke() }, UpdateFunc: func(any, any) { poke() }})
	return err
}
