// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package artifact

// kind is the closed set of things that can be made.
type kind string

const (
	kindKube             kind = "kube"
	kindKubeadm          kind = "kubeadm"
	kindEtcd             kind = "etcd"
	kindCoreDNS          kind = "coredns"
	kindHelm             kind = "helm"
	kindPause            kind = "pause"
	kindRuncw            kind = "runcw"
	kindNodeInit         kind = "nodeinit"
	kindNodeImage        kind = "node-image"
	kindPilot            kind = "pilot-discovery"
	kindAgent            kind = "pilot-agent"
	kindIstioctl         kind = "istioctl"
	kindBootstrap        kind = "envoy-bootstrap"
	kindEnvoy            kind = "envoy"
	kindEcho             kind = "echo"
	kindLoad             kind = "load"
	kindOperator         kind = "meshwright"
	kindSources          kind = "sources"
	kindPrometheus       kind = "prometheus"
	kindCertManager      kind = "cert-manager"
	kindKubeImage        kind = "kube-image"
	kindEtcdImage        kind = "etcd-image"
	kindCoreDNSImage     kind = "coredns-image"
	kindPauseImage       kind = "pause-image"
	kindPilotImage       kind = "pilot-image"
	kindProxyImage       kind = "proxyv2-image"
	kindEchoImage        kind = "echo-image"
	kindLoadImage        kind = "load-image"
	kindOperatorImage    kind = "meshwright-image"
	kindPrometheusImage  kind = "prometheus-image"
	kindCertManagerImage kind = "cert-manager-image"
)

// Artifact names one thing that a cluster is made of. Artifacts are comparable and made by the functions below only;
// the zero Artifact names nothing and is refused.
type Artifact struct {
	kind    kind
	version string
}

// String is the artifact's name as progress and file names show it, such as "kube-1.34.4" or "echo-image".
func (a Artifact) String() string {
	if a.version == "" {
		return string(a.kind)
	}
	return string(a.kind) + "-" + a.version
}

// Names of the images that exist only in test clusters.
const (
	// EchoImageName answers every request with what it knows of itself and of its peer.
	EchoImageName = "local.test/echo:1"
	// LoadImageName sends a bounded, counted number of requests.
	LoadImageName = "local.test/load:1"
	// OperatorImageName is the operator built from this source tree.
	OperatorImageName = "local.test/meshwright:dev"
	// PrometheusImageName is the Prometheus server, without its web pages.
	PrometheusImageName = "local.test/prometheus:3"
	// CertManagerImageName is cert-manager's controllers for issuers of the types CA and SelfSigned.
	CertManagerImageName = "local.test/cert-manager:" + CertManagerVersion
)

// Kube is one multi-call binary: kube-apiserver, kube-controller-manager, kube-scheduler, kubelet, kube-proxy and
// kubectl, chosen by the name it is called with or by its first argument. Versions: see [KubeVersions].
func Kube(version string) Artifact { return Artifact{kindKube, version} }

// Kubeadm of a Kubernetes version.
func Kubeadm(version string) Artifact { return Artifact{kindKubeadm, version} }

// Etcd is the server, whatever the version of Kubernetes.
func Etcd() Artifact { return Artifact{kind: kindEtcd} }

// CoreDNS with the plugins that kubeadm's Corefile names, whatever the version of Kubernetes.
func CoreDNS() Artifact { return Artifact{kind: kindCoreDNS} }

// HelmCLI is the helm command, which benchmarks measure ours against.
func HelmCLI() Artifact { return Artifact{kind: kindHelm} }

// Istioctl of an Istio version; [IstioctlVersions] says for which it can be made.
func Istioctl(istio string) Artifact { return Artifact{kindIstioctl, istio} }

// Runcw stands before runc and asks for no capability that the machine does not have.
func Runcw() Artifact { return Artifact{kind: kindRuncw} }

// Pause is the process that holds a pod's namespaces.
func Pause() Artifact { return Artifact{kind: kindPause} }

// NodeInit is the first process of the node image, built from this source tree.
func NodeInit() Artifact { return Artifact{kind: kindNodeInit} }

// PilotImage is docker.io/istio/pilot:<istio>.
func PilotImage(istio string) Artifact { return Artifact{kindPilotImage, istio} }

// ProxyImage is docker.io/istio/proxyv2:<istio>: pilot-agent, the upstream Envoy of the version that this Istio
// released with, and iptables for istio-init.
func ProxyImage(istio string) Artifact { return Artifact{kindProxyImage, istio} }

// IstioImages are all images that one Istio version needs in a cluster.
func IstioImages(istio string) []Artifact { return []Artifact{PilotImage(istio), ProxyImage(istio)} }

// EchoImage is [EchoImageName].
func EchoImage() Artifact { return Artifact{kind: kindEchoImage} }

// LoadImage is [LoadImageName].
func LoadImage() Artifact { return Artifact{kind: kindLoadImage} }

// OperatorImage is [OperatorImageName]. It is built anew whenever a source file that goes into it changes.
func OperatorImage() Artifact { return Artifact{kind: kindOperatorImage} }

// PrometheusImage is [PrometheusImageName]: a server that answers queries and finds what it scrapes in the cluster.
func PrometheusImage() Artifact { return Artifact{kind: kindPrometheusImage} }

// CertManagerImage is [CertManagerImageName]: what approves requests for certificates and signs them.
func CertManagerImage() Artifact { return Artifact{kind: kindCertManagerImage} }

// ControlPlaneImages are the images that kubeadm of a Kubernetes version asks for, under exactly the names that this
// kubeadm prints; the binaries for all versions' etcd and CoreDNS are the ones of [Etcd] and [CoreDNS].
func ControlPlaneImages(kubernetes string) []Artifact {
	return []Artifact{
		{kindKubeImage, kubernetes},
		{kindEtcdImage, kubernetes},
		{kindCoreDNSImage, kubernetes},
		{kindPauseImage, kubernetes},
	}
}
