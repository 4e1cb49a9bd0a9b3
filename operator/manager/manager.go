// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package manager puts the operator together: scheme, caches, clients, controllers, webhooks and health.
package manager

import (
	"context"
	"crypto/tls"
	"fmt"
	"time"

	"github.com/Masterminds/semver/v3"
	"github.com/go-logr/logr"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/discovery"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	crconfig "sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	crmanager "sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics/filters"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/meshwright/meshwright/bundles/istio"
	controllerdataplane "github.com/meshwright/meshwright/controllers/dataplane"
	"github.com/meshwright/meshwright/controllers/gateway"
	"github.com/meshwright/meshwright/controllers/installation"
	"github.com/meshwright/meshwright/controllers/revision"
	"github.com/meshwright/meshwright/controllers/rollout"
	"github.com/meshwright/meshwright/controllers/rotation"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/apply"
	"github.com/meshwright/meshwright/operator/authority"
	"github.com/meshwright/meshwright/operator/dataplane"
	"github.com/meshwright/meshwright/operator/facts"
	"github.com/meshwright/meshwright/operator/metrics"
	"github.com/meshwright/meshwright/operator/probe"
)

// Names of the operator's own objects, as config/default has them.
const (
	leaseName      = "meshwright"
	webhookSecret  = "meshwright-webhook-cert"
	webhookService = "meshwright-webhook"
	webhookName    = "meshwright-validating-webhook"
	serviceAccount = "meshwright"
)

// proxiesEvery bounds how often changes of pods make the installations look at the counts.
const proxiesEvery = 2 * time.Second

// workloadsEvery bounds how often changes of pods and workloads make a rollout look again.
const workloadsEvery = 200 * time.Millisecond

// reconcileTimeout ends a reconcile that hangs: one takes seconds at most, an image pull is never waited for inside.
const reconcileTimeout = time.Minute

// Scheme holds the kinds that the operator reads and writes as Go types.
func Scheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	return scheme, nil
}

// New makes a manager that runs the whole operator.
func New(ctx context.Context, config *rest.Config, o Options) (ctrl.Manager, error) {
	scheme, err := Scheme()
	if err != nil {
		return nil, err
	}
	config = rest.CopyConfig(config)
	config.QPS, config.Burst = 100, 200 // an installation is a burst of some sixty requests; API priority and fairness is the real bound
	kubernetes, err := serverVersion(config)
	if err != nil {
		return nil, err
	}
	certificate, err := newCertificate(o)
	if err != nil {
		return nil, err
	}
	mgr, err := ctrl.NewManager(config, managerOptions(o, scheme, certificate))
	if err != nil {
		return nil, err
	}
	if o.KeepPolicies {
		if err := keepPolicies(ctx, mgr, o.Namespace); err != nil {
			return nil, err
		}
	}
	parts, err := newParts(ctx, mgr, o, kubernetes)
	if err != nil {
		return nil, err
	}
	if err := parts.addControllers(mgr); err != nil {
		return nil, err
	}
	if o.WebhookPort != 0 {
		if err := parts.addWebhooks(ctx, mgr, certificate); err != nil {
			return nil, err
		}
	}
	return mgr, mgr.AddHealthzCheck("ping", healthz.Ping)
}

func serverVersion(config *rest.Config) (*semver.Version, error) {
	client, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, err
	}
	info, err := client.ServerVersion()
	if err != nil {
		return nil, fmt.Errorf("asking the API server for its version: %w", err)
	}
	full, err := semver.NewVersion(info.GitVersion)
	if err != nil {
		return nil, fmt.Errorf("version of Kubernetes %q: %w", info.GitVersion, err)
	}
	// What vendors add to it, no rule of Istio speaks of.
	return semver.New(full.Major(), full.Minor(), full.Patch(), "", ""), nil
}

func managerOptions(o Options, scheme *runtime.Scheme, certificate certificate) ctrl.Options {
	out := ctrl.Options{
		Scheme:                        scheme,
		HealthProbeBindAddress:        o.ProbeAddress,
		LeaderElection:                o.LeaderElection,
		LeaderElectionID:              leaseName,
		LeaderElectionNamespace:       o.Namespace,
		LeaderElectionReleaseOnCancel: true,
		Metrics: metricsserver.Options{
			BindAddress: o.MetricsAddress, SecureServing: true, FilterProvider: filters.WithAuthenticationAndAuthorization,
		},
		Cache: cache.Options{
			ReaderFailOnMissingInformer: true, // a forgotten kind must fail, not start to cache a cluster's worth of it
			ByObject: map[client.Object]cache.ByObject{
				&v1alpha1.MeshInstallation{}: {},
				&v1alpha1.MeshRevision{}:     {},
				&v1alpha1.MeshGateway{}:      {},
				&v1alpha1.MeshRollout{}:      {},
				&v1alpha1.MeshRotation{}:     {},
				namespaceMetadata():          {Transform: trimNamespace},
				&admissionregistrationv1.ValidatingWebhookConfiguration{}: {
					Field: fields.OneTermEqualSelector("metadata.name", webhookName),
				},
			},
		},
		Controller: crconfig.Controller{
			EnableWarmup:          new(true), // every replica watches: its webhook reads, and the next leader knows the world already
			ReconciliationTimeout: reconcileTimeout,
			SkipNameValidation:    new(true), // a process may run one operator after the other
		},
		MapperProvider: newMapper,
		NewClient:      newClient,
	}
	if o.WebhookPort != 0 {
		// The metrics are served with the same certificate, which is replaced in time; controller-runtime's own one is made once, for a year.
		out.Metrics.TLSOpts = []func(*tls.Config){func(c *tls.Config) { c.GetCertificate = certificate.GetCertificate }}
		out.WebhookServer = webhook.NewServer(webhook.Options{
			Port:    o.WebhookPort,
			TLSOpts: []func(*tls.Config){func(c *tls.Config) { c.GetCertificate = certificate.GetCertificate }},
		})
	}
	return out
}

func namespaceMetadata() *metav1.PartialObjectMetadata {
	out := &metav1.PartialObjectMetadata{}
	out.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	return out
}

// trimNamespace keeps of a namespace what enrollment reads.
func trimNamespace(in any) (any, error) {
	if n, ok := in.(*metav1.PartialObjectMetadata); ok {
		n.ManagedFields = dataplane.LabelOwners(n.ManagedFields)
		delete(n.Annotations, corev1.LastAppliedConfigAnnotation)
	}
	return in, nil
}

// parts are what controllers and webhooks share.
type parts struct {
	owned   *apply.Owned
	index   *dataplane.Index
	proxies chan event.GenericEvent
	// walked and restarted are told of changes of the index, for the controllers that move workloads.
	walked, restarted chan event.GenericEvent
	gatherer          *facts.Gatherer
	library           *istio.Library
	kubernetes        *semver.Version
	// namespace of the operator, and the file with its token for istiods.
	namespace, tokenFile string
	// settle is how long kubelets take to bring a ConfigMap to files.
	settle time.Duration
}

func newParts(ctx context.Context, mgr ctrl.Manager, o Options, kubernetes *semver.Version) (*parts, error) {
	log := mgr.GetLogger().WithName("bundles")
	library, unread := istio.Open(ctx, o.sources()...)
	if unread != nil {
		log.Error(unread, "some versions of Istio can't be had now; what is installed is kept, and these sources are tried again", "after", bundlesAgain)
	}
	catalogue, err := istio.BuiltinCatalogue()
	if err != nil {
		return nil, err
	}
	owned, err := apply.NewOwned(mgr.GetConfig(), mgr.GetScheme(), mgr.GetRESTMapper())
	if err != nil {
		return nil, err
	}
	proxies, poke := told()
	index := dataplane.NewIndex(proxiesEvery, poke)
	walked, pokeWalked := told()
	index.Listen(workloadsEvery, pokeWalked)
	restarted, pokeRestarted := told()
	index.Listen(workloadsEvery, pokeRestarted)
	watcher, err := dataplane.NewWatcher(mgr.GetConfig(), index)
	if err != nil {
		return nil, err
	}
	for _, runnable := range []crmanager.Runnable{owned, watcher, &bundleRetry{library: library, failed: unread != nil, found: poke, log: log}} {
		if err := mgr.Add(onEveryReplica{runnable}); err != nil {
			return nil, err
		}
	}
	return &parts{
		owned: owned, index: index, proxies: proxies, walked: walked, restarted: restarted, library: library, kubernetes: kubernetes,
		namespace: o.Namespace, tokenFile: o.IstioTokenFile, settle: o.settle(),
		gatherer: &facts.Gatherer{
			Library: library, Catalogue: catalogue, Kubernetes: kubernetes, Clock: clock.RealClock{}, Namespace: o.Namespace,
		},
	}, nil
}

// told makes a channel, and what tells it without ever waiting: one event that is not read yet says as much as many.
func told() (channel chan event.GenericEvent, tell func()) {
	channel = make(chan event.GenericEvent, 1)
	return channel, func() {
		select {
		case channel <- event.GenericEvent{Object: namespaceMetadata()}:
		default:
		}
	}
}

// bundlesAgain is how soon sources of bundles that could not be read are tried again.
const bundlesAgain = time.Minute

// bundleRetry tries sources of bundles again that could not be read when the operator started: a registry that is down must
// not keep it from looking after what is installed.
type bundleRetry struct {
	library *istio.Library
	failed  bool
	found   func()
	log     logr.Logger
}

func (b *bundleRetry) Start(ctx context.Context) error {
	for b.failed {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(bundlesAgain):
		}
		err := b.library.Retry(ctx)
		b.failed = err != nil
		if err != nil && ctx.Err() == nil {
			b.log.Error(err, "some versions of Istio still can't be had", "after", bundlesAgain)
		}
		b.found()
	}
	return nil
}

// onEveryReplica marks what does not wait for leadership: the webhook of any replica is asked whether a mesh is in use.
type onEveryReplica struct{ crmanager.Runnable }

func (onEveryReplica) NeedLeaderElection() bool { return false }

func (p *parts) addControllers(mgr ctrl.Manager) error {
	applier := apply.New(p.owned, mgr.GetAPIReader())
	version := "v" + p.kubernetes.String()
	prober := probe.New()
	meter := &probe.Meter{Read: prober.Gateway, Pods: probe.PodsOf(p.owned.Client), Clock: clock.RealClock{}, Cut: metrics.Cut}
	counted, tellCounted := told()
	meter.Listen(tellCounted)
	secrets := probe.Secrets(mgr.GetAPIReader(), p.namespace)
	gauge := &rollout.Gauge{
		Prober: prober, Meter: meter, Secrets: secrets, Clock: clock.RealClock{},
		Jobs: &rollout.Jobs{Client: mgr.GetClient(), Live: mgr.GetAPIReader()},
	}
	notifier := probe.NewNotifier(metrics.Notified)
	witness := &rollout.Witness{
		Live: mgr.GetAPIReader(), Client: mgr.GetClient(), Prober: prober, Clock: clock.RealClock{}, Examples: p.index.Examples, Ready: p.index.Ready,
		Owned: p.owned.Client,
	}
	gauge.Istiods = witness.Istiods
	// Each controller that reads the Secrets of CAs is told of their changes by a channel of its own.
	installed, tellInstallation := told()
	rotated, tellRotation := told()
	scheduled, tellScheduler := told()
	authorities, err := authority.NewWatcher(mgr.GetConfig(), func() { tellInstallation(); tellRotation(); tellScheduler() })
	if err != nil {
		return err
	}
	prover := &rotation.Witness{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Owned: p.owned.Client, Prober: prober, Index: p.index, Clock: clock.RealClock{},
		TokenFile: p.tokenFile, Namespace: p.namespace, ServiceAccount: serviceAccount,
	}
	for _, runnable := range []crmanager.Runnable{witness, meter, gauge, notifier, authorities, prover} {
		if err := mgr.Add(runnable); err != nil {
			return err
		}
	}
	for _, controller := range []interface{ SetupWithManager(ctrl.Manager) error }{
		&installation.Reconciler{
			Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Applier: applier, Owned: p.owned, Index: p.index, Proxies: p.proxies,
			Facts: p.gatherer, Library: p.library, Recorder: mgr.GetEventRecorder("meshwright"), Clock: clock.RealClock{}, KubeVersion: version,
			Namespace: p.namespace, Authority: authorities, Secrets: installed,
		},
		&rotation.Scheduler{
			Client: mgr.GetClient(), Authority: authorities, Secrets: scheduled, Recorder: mgr.GetEventRecorder("meshwright"), Clock: clock.RealClock{},
		},
		&rotation.Reconciler{
			Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Owned: p.owned, Authority: authorities, Secrets: rotated, Witness: prover,
			Recorder: mgr.GetEventRecorder("meshwright"), Clock: clock.RealClock{}, Namespace: p.namespace, SettleSeconds: int32(p.settle.Seconds()),
		},
		&revision.Reconciler{Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Applier: applier, Owned: p.owned},
		&gateway.Reconciler{
			Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Applier: applier, Owned: p.owned, Library: p.library, KubeVersion: version,
			Meter: meter, Read: counted, Clock: clock.RealClock{},
		},
		&gateway.Classed{
			Client: mgr.GetClient(), Owned: p.owned, Mapper: mgr.GetRESTMapper(), Recorder: mgr.GetEventRecorder("meshwright"),
		},
		&controllerdataplane.Reconciler{Client: mgr.GetClient(), Namespace: p.namespace},
		&controllerdataplane.Restarter{
			Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Index: p.index, Changed: p.restarted,
			Recorder: mgr.GetEventRecorder("meshwright"), Clock: clock.RealClock{}, Namespace: p.namespace,
		},
		&rollout.Reconciler{
			Client: mgr.GetClient(), Index: p.index, Changed: p.walked, Witness: witness, Gauge: gauge,
			Announcer: &rollout.Announcer{Notifier: notifier, Secrets: secrets, Clock: clock.RealClock{}},
			Recorder:  mgr.GetEventRecorder("meshwright"), Clock: clock.RealClock{}, Namespace: p.namespace,
		},
	} {
		if err := controller.SetupWithManager(mgr); err != nil {
			return err
		}
	}
	return nil
}
