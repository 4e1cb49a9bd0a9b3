// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"errors"
	"flag"
	"os"
	"strings"
	"time"

	"github.com/meshwright/meshwright/bundles/istio"
	"github.com/meshwright/meshwright/operator/authority"
)

// Options of the operator, as flags give them.
type Options struct {
	// MetricsAddress serves metrics by TLS to authenticated readers; "0" turns them off.
	MetricsAddress string
	// ProbeAddress serves /healthz and /readyz.
	ProbeAddress string
	// WebhookPort serves admission reviews; 0 turns the webhooks off.
	WebhookPort int
	// WebhookCertDir holds tls.crt and tls.key of somebody who also writes the caBundle, such as OLM. Empty: the operator issues its own.
	WebhookCertDir string
	// KeepPolicies applies the admission policies of config/policy, for installers that can't.
	KeepPolicies bool
	// Namespace the operator runs in.
	Namespace string
	// LeaderElection lets one of several replicas act.
	LeaderElection bool
	// IstioTokenFile holds the operator's own token of the audience istio-ca, with which it asks istiods for what they sign with.
	IstioTokenFile string
	// Settle is, for tests, how long kubelets take to bring a ConfigMap to files, at most. It has no flag. Default: two minutes.
	Settle time.Duration
	// BundleFolders and BundleRegistries hold further Istio versions.
	BundleFolders, BundleRegistries list
}

// list is a flag that can be given several times.
type list []string

func (l *list) String() string { return strings.Join(*l, ",") }

func (l *list) Set(value string) error {
	*l = append(*l, value)
	return nil
}

// Bind declares the flags.
func (o *Options) Bind(flags *flag.FlagSet) {
	flags.StringVar(&o.MetricsAddress, "metrics-bind-address", ":8443", "address that serves metrics over TLS to authenticated readers; 0 turns them off")
	flags.StringVar(&o.ProbeAddress, "health-probe-bind-address", ":8081", "address that serves /healthz and /readyz")
	flags.IntVar(&o.WebhookPort, "webhook-port", 9443, "port that serves admission reviews; 0 turns the webhooks off")
	flags.StringVar(&o.WebhookCertDir, "webhook-cert-dir", "",
		"folder with tls.crt and tls.key of an installer that also writes the caBundle of the webhooks, such as OLM; default: the operator issues its own")
	flags.BoolVar(&o.KeepPolicies, "keep-policies", false,
		"apply the operator's admission policies at each start and keep them, where the installer can't, such as OLM")
	flags.StringVar(&o.Namespace, "namespace", os.Getenv("POD_NAMESPACE"), "namespace the operator runs in; default: POD_NAMESPACE")
	flags.BoolVar(&o.LeaderElection, "leader-elect", true, "let one of several replicas act")
	flags.StringVar(&o.IstioTokenFile, "istio-token-file", "/var/run/secrets/tokens/istio-token",
		"file with a token of the operator's service account, audience istio-ca, with which it asks istiods for what they sign with")
	flags.Var(&o.BundleFolders, "bundle-folder", "folder with charts of further Istio versions; may be given several times")
	flags.Var(&o.BundleRegistries, "bundle-registry", "OCI repository with charts of further Istio versions; may be given several times")
}

// Validate says what is missing.
func (o *Options) Validate() error {
	if o.Namespace == "" {
		return errors.New("--namespace is empty: set it, or POD_NAMESPACE, to the namespace the operator runs in")
	}
	return nil
}

// settle is how long kubelets take to bring a ConfigMap to files, at most.
func (o *Options) settle() time.Duration {
	if o.Settle == 0 {
		return authority.Settle
	}
	return o.Settle
}

// sources of Istio versions: those built in first, so that a user's own of the same version wins.
func (o *Options) sources() []istio.Source { return istio.Sources(o.BundleFolders, o.BundleRegistries) }
