// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"time"

	"github.com/Masterminds/semver/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

func configured(kind, spec string) func(*Facts) {
	return func(f *Facts) {
		f.Deprecated = append(f.Deprecated, Configuration(f.Mesh)(Extension{Kind: kind, Namespace: "shop", Name: "cart", Spec: from[map[string]any](spec)})...)
	}
}

func crds(all ...CRD) func(*Facts) { return func(f *Facts) { f.CRDs = append(f.CRDs, all...) } }

var deprecatedCases = []testCase{
	{
		reason: "groups that nobody reads", change: crds(CRD{Name: "serviceroles.rbac.istio.io", Group: "rbac.istio.io", Kind: "ServiceRole"}),
		want: []string{"Warning MW201 CustomResourceDefinition/serviceroles.rbac.istio.io: no Istio reads ServiceRole of rbac.istio.io any more"},
	},
	{
		reason: "fields, in lists and deep, as JSON and as protobuf have them",
		change: configured("VirtualService", `{http: [{route: []}, {mirror_percent: 10, fault: {delay: {percent: 5, fixedDelay: 1s}}}]}`),
		want: []string{
			"Warning MW202 VirtualService/shop/cart: spec.http[1].fault.delay.percent is deprecated",
			"Warning MW202 VirtualService/shop/cart: spec.http[1].mirror_percent is deprecated",
		},
	},
	{
		reason: "a deprecated value of an enumeration", change: configured("DestinationRule", `{trafficPolicy: {loadBalancer: {simple: LEAST_CONN}}}`),
		want: []string{"Warning MW202 DestinationRule/shop/cart: spec.trafficPolicy.loadBalancer.simple LEAST_CONN is deprecated"},
	},
	{reason: "values that are not", change: configured("DestinationRule", `{trafficPolicy: {loadBalancer: {simple: LEAST_REQUEST}}, host: x, unknown: 7}`)},
	{
		reason: "what Istio ignores", change: configured("Sidecar", `{outboundTrafficPolicy: {egressProxy: {host: x}}}`),
		want: []string{"Warning MW202 Sidecar/shop/cart: spec.outboundTrafficPolicy.egressProxy is ignored"},
	},
	{
		reason: "a provider that is deprecated",
		change: changes(meshConfig(`{extensionProviders: [{name: old, lightstep: {service: x, port: 1}}, {name: new, opentelemetry: {service: x, port: 1}}]}`),
			configured("Telemetry", `{tracing: [{providers: [{name: old}, {name: new}]}]}`)),
		want: []string{
			"Warning MW302 MeshInstallation/default: spec.controlPlane.meshConfig.extensionProviders[0].lightstep is deprecated",
			"Warning MW202 Telemetry/shop/cart: its provider old is of the type lightstep, which is deprecated",
		},
	},
	{
		reason: "annotations of what makes pods, once each; a namespace of ours is left out, and so is what Istio writes",
		change: func(f *Facts) {
			for range 2 {
				p := cart()
				p.Annotations = map[string]string{"sidecar.istio.io/inject": "true", "sidecar.istio.io/proxyCPU": "1", "sidecar.istio.io/status": "{}", "other.istio.io/x": ""}
				f.Pods = append(f.Pods, p)
			}
			f.Namespaces[0].Annotations = map[string]string{"sidecar.istio.io/proxyCPU": "1"}
			f.Annotated = []Annotated{{Kind: "Service", Namespace: "shop", Name: "cart", Annotations: map[string]string{"alpha.istio.io/kubernetes-serviceaccounts": "x"}}}
		},
		want: []string{
			"Warning MW203 Deployment/shop/cart: the annotation sidecar.istio.io/inject is deprecated",
			"Warning MW203 Service/shop/cart: the annotation alpha.istio.io/kubernetes-serviceaccounts is deprecated",
			"Info MW204 Deployment/shop/cart: the annotation sidecar.istio.io/proxyCPU is alpha: Istio may change or drop it in any version",
		},
	},
	{
		reason: "the label took the annotation's place, and the injector writes ports where the CNI agent redirects",
		change: func(f *Facts) {
			p := cart()
			p.Init = false
			p.Labels = map[string]string{"sidecar.istio.io/inject": "true"}
			p.Annotations = map[string]string{"sidecar.istio.io/inject": "true", "traffic.sidecar.istio.io/includeInboundPorts": "*"}
			f.Pods = []Pod{p}
		},
	},
}

var sidecars = CRD{Name: "sidecars.networking.istio.io", Group: "networking.istio.io", Kind: "Sidecar", Version: "1.28.3", Served: []string{"v1"}, Versions: []string{"v1"}, Stored: []string{"v1"}}

// of changes the CRD that is there, beside the one of the target.
func of(change func(*CRD)) func(*Facts) {
	return func(f *Facts) {
		c := sidecars
		change(&c)
		f.CRDs, f.TargetCRDs = []CRD{c}, []CRD{sidecars}
	}
}

var crdCases = []testCase{
	{reason: "the same CRD", change: of(func(*CRD) {})},
	{
		reason: "objects in a version that goes", change: of(func(c *CRD) { c.Stored, c.Served = []string{"v1alpha9", "v1"}, []string{"v1", "v1alpha9"} }),
		want: []string{"Error MW205 CustomResourceDefinition/sidecars.networking.istio.io: objects may be stored as v1alpha9, which Istio 1.29.1 does not have: " +
			"the API server will refuse the new CRD"},
	},
	{
		reason: "clients of a version that goes", change: of(func(c *CRD) { c.Served = []string{"v1", "v1alpha9"} }),
		want: []string{"Error MW205 CustomResourceDefinition/sidecars.networking.istio.io: it serves v1alpha9, which Istio 1.29.1 does not: what reads or writes " +
			"that version will fail"},
	},
	{
		reason: "a newer one is left, whatever it has", change: of(func(c *CRD) { c.Version, c.Served = "1.31.0", []string{"v1", "v2"} }),
		want: []string{"Warning MW206 CustomResourceDefinition/sidecars.networking.istio.io: it is of Istio 1.31.0, newer than 1.29.1, and is left as it is"},
	},
	{
		reason: "two writers", change: of(func(c *CRD) { c.Writers = []string{"helm"} }),
		want: []string{"Warning MW207 CustomResourceDefinition/sidecars.networking.istio.io: helm writes its versions, beside Meshwright"},
	},
	{reason: "where Meshwright keeps no mesh, somebody else does", change: changes(of(func(c *CRD) { c.Writers = []string{"helm"} }), func(f *Facts) { f.Mesh = nil })},
	{
		reason: "1.29 reads v1 of the Gateway API", change: crds(gatewayCRD("HTTPRoute", "httproutes", "", "v1beta1")),
		want: []string{"Error MW208 CustomResourceDefinition/httproutes.gateway.networking.k8s.io: it serves v1beta1, and Istio 1.29.1 reads v1"},
	},
	{reason: "1.28 reads v1beta1", change: changes(to("1.28.4"), crds(gatewayCRD("HTTPRoute", "httproutes", "", "v1beta1")))},
	{
		reason: "GRPCRoutes have been read as v1 since 1.26", change: changes(to("1.28.4"), crds(gatewayCRD("GRPCRoute", "grpcroutes", "", "v1alpha2"))),
		want: []string{"Error MW208 CustomResourceDefinition/grpcroutes.gateway.networking.k8s.io: it serves v1alpha2, and Istio 1.28.4 reads v1"},
	},
	{
		reason: "grants are read as v1beta1, and kinds of the experimental channel are not judged",
		change: crds(gatewayCRD("ReferenceGrant", "referencegrants", "v1.4.0", "v1beta1"), gatewayCRD("TLSRoute", "tlsroutes", "v1.4.0", "v1alpha2")),
	},
	{
		reason: "what Istio ignores for its age; a candidate counts as its release",
		change: crds(gatewayCRD("BackendTLSPolicy", "backendtlspolicies", "v1.3.0", "v1alpha3"), gatewayCRD("GRPCRoute", "grpcroutes", "v1.1.0-rc1", "v1")),
		want:   []string{"Warning MW209 CustomResourceDefinition/backendtlspolicies.gateway.networking.k8s.io: it is of the Gateway API v1.3.0, and Istio 1.29.1 ignores the kind before 1.4.0"},
	},
	{
		reason: "newer Istio takes less",
		change: changes(to("1.31.0"), func(f *Facts) { f.Move.From, f.Move.Line.Name = semver.MustParse("1.30.0"), "" },
			crds(gatewayCRD("TLSRoute", "tlsroutes", "v1.4.0", "v1alpha2"), gatewayCRD("TCPRoute", "tcproutes", "v1.5.0", "v1alpha2")),
			func(f *Facts) { f.Pods = nil }),
		want: []string{
			"Warning MW209 CustomResourceDefinition/tcproutes.gateway.networking.k8s.io: it is of the Gateway API v1.5.0, and Istio 1.31.0 ignores the kind before 1.6.0",
			"Warning MW209 CustomResourceDefinition/tlsroutes.gateway.networking.k8s.io: it is of the Gateway API v1.4.0, and Istio 1.31.0 ignores the kind before 1.5.0",
		},
	},
}

func gatewayCRD(kind, plural, bundle, served string) CRD {
	return CRD{
		Name: plural + "." + gatewayGroup, Group: gatewayGroup, Kind: kind, Bundle: bundle, Served: []string{served}, Versions: []string{served}, Stored: []string{served},
	}
}

var configurationCases = []testCase{
	{
		reason: "values", change: func(f *Facts) {
			f.Charts = Charts{Failure: "unknown profile", Unknown: []string{"spec.controlPlane.values.x: no"}}
		},
		want: []string{
			"Error MW303 MeshInstallation/default: unknown profile",
			"Warning MW301 MeshInstallation/default: spec.controlPlane.values.x: no",
		},
	},
	{
		reason: "values of a gateway", change: func(f *Facts) { f.Gateways = []Gateway{{Namespace: "team", Name: "edge", Failure: "no such service"}} },
		want: []string{"Error MW303 MeshGateway/team/edge: no such service"},
	},
	{
		reason: "mesh configuration", change: meshConfig(`{verifyCertificateAtClient: true, enableTracing: true, defaultConfig: {zipkinAddress: x, proxyMetadata: {debug: x}}}`),
		want: []string{
			"Warning MW302 MeshInstallation/default: spec.controlPlane.meshConfig.defaultConfig.zipkinAddress is deprecated",
			"Warning MW302 MeshInstallation/default: spec.controlPlane.meshConfig.verifyCertificateAtClient is deprecated",
		},
	},
	{reason: "without a mesh there is no configuration", change: func(f *Facts) { f.Mesh, f.Charts.Failure = nil, "x" }},
}

var aroundCases = []testCase{
	{
		reason: "what could not be read is no pass",
		change: func(f *Facts) {
			f.Unread = []Unread{{Resource: "nodes", Verb: "list"}, {Resource: "configmaps", Verb: "list", Namespace: "istio-system"}}
		},
		want: []string{
			"Warning MW901 Resource/istio-system/configmaps: not checked: the right to list configmaps in namespace istio-system is missing",
			"Warning MW901 Resource/nodes: not checked: the right to list nodes of the whole cluster is missing",
		},
	},
	{
		reason: "where a rollout is granted, what could not be read holds it back if it could have been an error",
		change: func(f *Facts) {
			f.Grants = true
			f.Unread = []Unread{{Resource: "poddisruptionbudgets.policy", Verb: "list"}, {Resource: "nodes", Verb: "list"}, {Resource: "services", Verb: "get", Namespace: "policy"}, {Resource: "services", Verb: "list"}}
		},
		want: []string{
			"Error MW901 Resource/poddisruptionbudgets.policy: not checked: the right to list poddisruptionbudgets.policy of the whole cluster is missing",
			"Error MW901 Resource/policy/services: not checked: the right to get services in namespace policy is missing",
			"Warning MW901 Resource/nodes: not checked: the right to list nodes of the whole cluster is missing",
			"Warning MW901 Resource/services: not checked: the right to list services of the whole cluster is missing",
		},
	},
	{
		reason: "what the operator may not do", change: func(f *Facts) {
			f.Permissions = []Permission{{Who: "the operator", Resource: "deployments", Namespace: "istio-system"}}
		},
		want: []string{"Warning MW902 Resource/istio-system/deployments: the operator may not create deployments in namespace istio-system"},
	},
	{
		reason: "what Meshwright renews in time ends soon by design",
		change: func(f *Facts) {
			f.Mesh.Status.Certificates.Intermediates = []v1alpha1.CertificateInfo{certificate("CN=a", 20)}
			f.Mesh.Status.Certificates.Next = new(metav1.NewTime(now.Add(time.Hour)))
		},
	},
	{
		reason: "certificates that end soon, while the rollout may run, and long after",
		change: func(f *Facts) {
			f.Mesh.Status.Certificates.Roots = []v1alpha1.CertificateInfo{certificate("CN=a", 20*24), certificate("CN=b", 40*24)}
			f.Mesh.Status.Certificates.Intermediates = []v1alpha1.CertificateInfo{certificate("CN=c", 23), certificate("CN=d", -1)}
		},
		want: []string{
			"Error MW903 MeshInstallation/default: the intermediate CN=c expires at 2026-03-02T11:00:00Z",
			"Error MW903 MeshInstallation/default: the intermediate CN=d has expired at 2026-03-01T11:00:00Z",
			"Warning MW903 MeshInstallation/default: the root CN=a expires at 2026-03-21T12:00:00Z",
		},
	},
}

func certificate(subject string, hours int) v1alpha1.CertificateInfo {
	return v1alpha1.CertificateInfo{Subject: subject, NotAfter: metav1.NewTime(now.Add(time.Duration(hours) * time.Hour))}
}
