// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package facts

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Masterminds/semver/v3"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	policyv1 "k8s.io/api/policy/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/yaml"

	"github.com/meshwright/meshwright/bundles/istio"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/preflight"
)

// asking is a gatherer with the built-in charts.
func asking(t *testing.T) *Gatherer {
	t.Helper()
	library, err := istio.Open(t.Context(), istio.Builtin())
	if err != nil {
		t.Fatal(err)
	}
	catalogue, err := istio.BuiltinCatalogue()
	if err != nil {
		t.Fatal(err)
	}
	return &Gatherer{
		Library: library, Catalogue: catalogue, Kubernetes: semver.MustParse("1.34.1"), Namespace: "meshwright-system",
		Clock: clocktesting.NewFakePassiveClock(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)),
	}
}

// upgrade is what is asked of the mesh of the test.
func upgrade() Inquiry {
	m := &v1alpha1.MeshInstallation{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	m.Spec.Namespace, m.Spec.Version, m.Status.StableRevision = "istio-system", "1.29.1", "1-28-2"
	m.Spec.DataPlane.Restart.Type = v1alpha1.RestartRollout
	return Inquiry{Mesh: m, From: semver.MustParse("1.28.2"), To: semver.MustParse("1.29.1")}
}

func object(t *testing.T, text string) client.Object {
	t.Helper()
	o := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &o.Object); err != nil {
		t.Fatal(err)
	}
	return o
}

// typed reads an object as Kubernetes' own type.
func typed[T any](t *testing.T, text string) T {
	t.Helper()
	var out T
	if err := yaml.UnmarshalStrict([]byte(text), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func pod(name, node string, change func(*corev1.Pod)) client.Object {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}}
	p.Spec.NodeName = node
	p.Spec.Containers = []corev1.Container{{Resources: requests("500m")}, {Resources: requests("250m")}, {}}
	if change != nil {
		change(p)
	}
	return p
}

func requests(cpu string) corev1.ResourceRequirements {
	return corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}}
}

func node(name string, change func(*corev1.Node)) client.Object {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	n.Status.Allocatable = corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("8Gi"),
		corev1.ResourcePods: resource.MustParse("110"), corev1.ResourceEphemeralStorage: resource.MustParse("1Gi"),
	}
	if change != nil {
		change(n)
	}
	return n
}

func tainted(effect corev1.TaintEffect) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: "x", Effect: effect}} }
}

// everyKind is a cluster with one of each.
func everyKind(t *testing.T) []client.Object {
	t.Helper()
	always, whole, ready := corev1.ContainerRestartPolicyAlways, requests("1"), true
	mesh := upgrade().Mesh.DeepCopy()
	return []client.Object{
		mesh,
		&v1alpha1.MeshGateway{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "edge"}, Spec: v1alpha1.MeshGatewaySpec{Mesh: "default"}},
		object(t, `{apiVersion: v1, kind: Namespace, metadata: {name: istio-system, labels: {meshwright.io/mesh: default}}}`),
		object(t, `{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {istio.io/rev: 1-28-2}}}`),
		object(t, `{apiVersion: v1, kind: Namespace, metadata: {name: team}}`),
		object(t, `{apiVersion: v1, kind: Namespace, metadata: {name: other}}`),
		object(t, `{apiVersion: networking.istio.io/v1alpha3, kind: EnvoyFilter, metadata: {namespace: shop, name: headers}, spec: {priority: 1}}`),
		object(t, `{apiVersion: networking.istio.io/v1alpha3, kind: EnvoyFilter, metadata: {namespace: shop, name: ours, labels: {meshwright.io/mesh: default}}}`),
		object(t, `{apiVersion: extensions.istio.io/v1alpha1, kind: WasmPlugin, metadata: {namespace: shop, name: auth}, spec: {url: x}}`),
		object(t, `{apiVersion: networking.istio.io/v1, kind: Sidecar, metadata: {namespace: shop, name: all}, spec: {outboundTrafficPolicy: {egressProxy: {host: x}}}}`),
		object(t, `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: sidecars.networking.istio.io
  labels: {app.kubernetes.io/version: 1.28.2}
spec: {group: networking.istio.io, names: {kind: Sidecar}, versions: [{name: v1, served: true, storage: true}, {name: v1old, served: false}]}
status: {storedVersions: [v1]}`),
		object(t, `{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: x.example.com}, spec: {group: example.com}}`),
		object(t, `{apiVersion: admissionregistration.k8s.io/v1, kind: MutatingWebhookConfiguration, metadata: {name: a}, webhooks: [{name: a.b.c, clientConfig: {service: {namespace: policy, name: engine}}}]}`),
		object(t, `{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingWebhookConfiguration, metadata: {name: b}, webhooks: [{name: a.b.c, clientConfig: {service: {namespace: policy, name: gone}}}]}`),
		&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "policy", Name: "engine", Annotations: map[string]string{"networking.istio.io/exportTo": "."}}},
		&discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{Namespace: "policy", Name: "engine-1", Labels: map[string]string{discoveryv1.LabelServiceName: "engine"}},
			Endpoints:  []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.1"}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}},
		},
		&corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "istio-sidecar-injector-1-28-2"},
			Data:       map[string]string{"values": `{"global": {"hub": "docker.io/istio", "tag": "1.28.2", "proxy": {"image": "proxyv2"}}, "pilot": {"cni": {"enabled": true}}}`},
		},
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "istio-1-28-2"}},
		&policyv1.PodDisruptionBudget{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart"},
			Spec:       policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "cart"}}},
			Status:     policyv1.PodDisruptionBudgetStatus{DisruptionsAllowed: 1, ExpectedPods: 3},
		},
		&policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: "other", Name: "cart"}},
		&corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "team"}},
		&corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "edges"}},
		&corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "team"}},
		&corev1.LimitRange{ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "small"}},
		&autoscalingv2.HorizontalPodAutoscaler{
			ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "istiod"},
			Spec:       autoscalingv2.HorizontalPodAutoscalerSpec{ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{Kind: "Deployment", Name: "istiod-1-28-2"}},
		},
		&autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "other"}},
		object(t, `{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {namespace: shop, name: deny}}`),
		object(t, `{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {namespace: other, name: deny}}`),
		new(typed[appsv1.Deployment](t, `
metadata: {namespace: team, name: edge}
spec: {template: {metadata: {labels: {app: edge}}, spec: {containers: [{name: istio-proxy, image: auto}]}}}`)),
		&appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "other", Name: "plain"}},
		node("a", nil), node("b", tainted(corev1.TaintEffectPreferNoSchedule)),
		node("cordoned", func(n *corev1.Node) { n.Spec.Unschedulable = true }),
		node("control", tainted(corev1.TaintEffectNoSchedule)), node("sick", tainted(corev1.TaintEffectNoExecute)),
		pod("containers", "a", nil),
		pod("done", "a", func(p *corev1.Pod) { p.Namespace, p.Status.Phase = "other", corev1.PodSucceeded }),
		pod("failed", "a", func(p *corev1.Pod) { p.Namespace, p.Status.Phase = "other", corev1.PodFailed }),
		pod("elsewhere", "control", func(p *corev1.Pod) { p.Namespace = "other" }),
		pod("sidecar", "a", func(p *corev1.Pod) {
			p.Annotations = map[string]string{"sidecar.istio.io/status": `{"revision":"1-28-2"}`, "example.com/x": "y"}
			p.Spec.InitContainers = []corev1.Container{
				{Name: "istio-proxy", Image: "docker.io/istio/proxyv2:1.28.2", Resources: requests("100m"), RestartPolicy: &always},
				{Name: "istio-init", Resources: requests("3")},
			}
			p.Spec.Overhead = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("50m")}
		}),
		pod("whole", "b", func(p *corev1.Pod) { p.Namespace, p.Spec.Resources = "other", &whole }),
	}
}

// answering is a cluster that answers with objects; refuse are errors by the kind that is listed or got.
func answering(t *testing.T, objects []client.Object, refuse map[string]error) client.WithWatch {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	for _, kind := range append([]schema.GroupVersionKind{envoyFilter, wasmPlugin, crdKind}, kinds()...) {
		scheme.AddKnownTypeWithName(kind, &unstructured.Unstructured{})
		scheme.AddKnownTypeWithName(kind.GroupVersion().WithKind(kind.Kind+"List"), &unstructured.UnstructuredList{})
	}
	kindOf := func(o runtime.Object) string {
		kind := o.GetObjectKind().GroupVersionKind().Kind
		if known, _, err := scheme.ObjectKinds(o); kind == "" && err == nil {
			kind = known[0].Kind
		}
		return strings.TrimSuffix(kind, "List")
	}
	return fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithInterceptorFuncs(interceptor.Funcs{
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			if err := refuse[kindOf(list)]; err != nil {
				return err
			}
			return c.List(ctx, list, slices.DeleteFunc(opts, func(o client.ListOption) bool {
				raw, is := o.(*client.ListOptions) // the fake has no index of the phase of pods
				return is && raw.Raw != nil
			})...)
		},
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if err := refuse[kindOf(o)]; err != nil {
				return err
			}
			return c.Get(ctx, key, o, opts...)
		},
		Create: func(_ context.Context, _ client.WithWatch, o client.Object, _ ...client.CreateOption) error {
			review := o.(*authorizationv1.SubjectAccessReview)
			review.Status.Allowed = review.Spec.ResourceAttributes.Resource != "deployments"
			return refuse[kindOf(o)]
		},
	}).Build()
}

func kinds() (out []schema.GroupVersionKind) {
	for _, kind := range configuration {
		out = append(out, kind)
	}
	return out
}

func TestPreflight(t *testing.T) {
	g := asking(t)
	q := upgrade()
	c := answering(t, everyKind(t), nil)
	q.Reviewer = c
	got, err := g.Preflight(t.Context(), c, q)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(14, len(got.TargetCRDs)); diff != "" {
		t.Errorf("CRDs of 1.29.1 (-want +got):\n%s", diff)
	}
	free := func(cpu, pods string) corev1.ResourceList {
		return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse("8Gi"), corev1.ResourcePods: resource.MustParse(pods)}
	}
	want := &preflight.Facts{
		Now: g.Clock.Now(), Mesh: q.Mesh, Kubernetes: g.Kubernetes,
		Move: preflight.Move{
			From: q.From, To: q.To, Line: g.Catalogue["1.29"], Revision: "1-29-1", Namespace: "istio-system", Restart: v1alpha1.RestartRollout,
			Operator: preflight.Peer{Namespace: "meshwright-system", Labels: map[string]string{"app.kubernetes.io/name": "meshwright"}},
		},
		Permissions:  []preflight.Permission{{Who: "the operator", Resource: "deployments", Namespace: "istio-system"}},
		EnvoyFilters: []preflight.Extension{{Kind: "EnvoyFilter", Namespace: "shop", Name: "headers", Spec: map[string]any{"priority": int64(1)}}},
		WasmPlugins:  []preflight.Extension{{Kind: "WasmPlugin", Namespace: "shop", Name: "auth", Spec: map[string]any{"url": "x"}}},
		Deprecated: []preflight.Finding{{
			Code: preflight.DeprecatedField, Severity: preflight.SeverityWarning, Object: preflight.Object{Kind: "Sidecar", Namespace: "shop", Name: "all"},
			Why: "spec.outboundTrafficPolicy.egressProxy is ignored", Remedy: "remove it; route to an egress gateway",
		}},
		CRDs: []preflight.CRD{{
			Name: "sidecars.networking.istio.io", Group: "networking.istio.io", Kind: "Sidecar", Version: "1.28.2",
			Served: []string{"v1"}, Versions: []string{"v1", "v1old"}, Stored: []string{"v1"},
		}},
		Backends: map[types.NamespacedName]preflight.Backend{
			{Namespace: "policy", Name: "engine"}: {Exists: true, Ready: true}, {Namespace: "policy", Name: "gone"}: {},
		},
		Revisions: []string{"1-28-2", "1-29-1"},
		Proxies:   map[string]string{"1-28-2": "docker.io/istio/proxyv2:1.28.2"},
		Namespaces: []preflight.Namespace{
			{Name: "istio-system", Labels: map[string]string{v1alpha1.LabelMesh: "default"}, Ours: true},
			{Name: "other"},
			{Name: "shop", Labels: map[string]string{v1alpha1.IstioRevision: "1-28-2"}, Member: true},
			{Name: "team", Gateway: true},
		},
		Pods: []preflight.Pod{
			{Namespace: "shop", Name: "containers", Owner: "Pod/containers", Annotations: map[string]string{}},
			{
				Namespace: "shop", Name: "sidecar", Owner: "Pod/sidecar", Annotations: map[string]string{"sidecar.istio.io/status": `{"revision":"1-28-2"}`},
				Proxy: "docker.io/istio/proxyv2:1.28.2", Injected: true, Revision: "1-28-2", Init: true,
			},
		},
		Annotated: []preflight.Annotated{
			{Kind: "Deployment", Namespace: "team", Name: "edge", Annotations: map[string]string{}, AutoImage: true, Template: map[string]string{"app": "edge"}},
			{Kind: "Service", Namespace: "policy", Name: "engine", Annotations: map[string]string{"networking.istio.io/exportTo": "."}},
		},
		Budgets: []preflight.Budget{{
			Namespace: "shop", Name: "cart", Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "cart"}}, DisruptionsAllowed: 1, ExpectedPods: 3,
		}},
		Capacity: preflight.Capacity{
			Containers: []corev1.ResourceRequirements{{
				Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("500m"), corev1.ResourceMemory: resource.MustParse("2Gi")},
			}},
			Nodes: []preflight.Node{{Name: "a", Free: free("2350m", "108")}, {Name: "b", Free: free("3", "109")}},
		},
	}
	ignored := cmpopts.IgnoreFields(preflight.Facts{}, "TargetCRDs", "Gateways", "Istiod", "Mutating", "Validating", "Unmovable", "Quotas", "LimitRanges", "Autoscalers", "NetworkPolicies")
	if diff := cmp.Diff(want, got, ignored, cmp.Comparer(func(a, b *semver.Version) bool { return a.Equal(b) })); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	var unmovable, policies []string
	for _, u := range got.Unmovable {
		unmovable = append(unmovable, u.Workload)
	}
	for _, p := range got.NetworkPolicies {
		policies = append(policies, p.Namespace+"/"+p.Name)
	}
	slices.Sort(unmovable)
	if diff := cmp.Diff([]string{"Pod/shop/containers", "Pod/shop/sidecar"}, unmovable); diff != "" {
		t.Errorf("unmovable (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"shop/deny"}, policies); diff != "" {
		t.Errorf("policies (-want +got):\n%s", diff)
	}
	if len(got.Mutating) != 1 || len(got.Validating) != 1 || len(got.Quotas) != 2 || len(got.LimitRanges) != 1 || len(got.Autoscalers) != 1 {
		t.Errorf("%d, %d webhooks, %d quotas, %d ranges, %d autoscalers: want one of each, and a quota for the gateway", len(got.Mutating), len(got.Validating), len(got.Quotas), len(got.LimitRanges), len(got.Autoscalers))
	}
}

// How the pods of the next istiod are labelled depends on whether it is a canary.
func TestLabelsOfIstiod(t *testing.T) {
	for _, tc := range []struct {
		reason          string
		upgrade         v1alpha1.UpgradeType
		istio, revision string
	}{
		{"a canary", v1alpha1.UpgradeCanary, "istiod", "1-29-1"},
		{"in place", v1alpha1.UpgradeInPlace, "pilot", "default"},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			q := upgrade()
			q.Mesh.Spec.Upgrade.Type = tc.upgrade
			q.Mesh.Spec.ControlPlane.Values = &apiextensionsv1.JSON{Raw: []byte(`{"podLabels": {"team": "platform"}}`)}
			got, err := asking(t).Preflight(t.Context(), answering(t, everyKind(t), nil), q)
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]string{"app": "istiod", "istio": tc.istio, v1alpha1.IstioRevision: tc.revision, "app.kubernetes.io/name": "istiod", "team": "platform"}
			for key, value := range want {
				if got.Istiod[key] != value {
					t.Errorf("%s is %q, want %q", key, got.Istiod[key], value)
				}
			}
		})
	}
}

// The gateways that move are those that the mesh lists and those of teams; each is as large as its Deployments, or as its values have it.
func TestGatewaysThatMove(t *testing.T) {
	raw := func(text string) *apiextensionsv1.JSON { return &apiextensionsv1.JSON{Raw: []byte(text)} }
	q := upgrade()
	q.Mesh.Spec.Gateways = []v1alpha1.Gateway{
		{Namespace: "web", Name: "a", Values: raw(`{"autoscaling": {"minReplicas": 3}}`), Shift: v1alpha1.GatewayShift{MaxConnectionAgeSeconds: 60}},
		{Namespace: "web", Name: "b", VersionPolicy: v1alpha1.VersionHold},
		{Namespace: "web", Name: "c", Shift: v1alpha1.GatewayShift{Type: v1alpha1.ShiftHTTPRoute, HTTPRoute: &v1alpha1.RouteShift{}}},
		{Namespace: "web", Name: "refused", Values: raw(`{"replicaCount": []}`)},
		{Namespace: "web", Name: "d", Values: raw(`{"strategy": {"rollingUpdate": {"maxUnavailable": 1}}}`)},
	}
	gateway := func(namespace, name, mesh string) client.Object {
		return &v1alpha1.MeshGateway{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: v1alpha1.MeshGatewaySpec{Mesh: mesh}}
	}
	deployment := func(name string, replicas *int32) client.Object {
		d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: name, Labels: map[string]string{v1alpha1.LabelGateway: "edge"}}}
		d.Spec.Replicas = replicas
		return d
	}
	c := answering(t, []client.Object{
		q.Mesh, gateway("web", "a", "default"), gateway("web", "b", "default"), gateway("team", "edge", "default"), gateway("other", "edge", "other"),
		deployment("edge-1-28-2", new(int32(4))), deployment("edge-1-29-1", nil),
	}, nil)
	type row struct {
		name           string
		pods           int32
		filters, route bool
	}
	rows := func() (out []row) {
		got, err := asking(t).Preflight(t.Context(), c, q)
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range got.Gateways {
			if g.Name == "refused" {
				if g.Failure == "" || len(g.Writes) > 0 {
					t.Errorf("%+v: the chart does not take its values", g)
				}
				continue
			}
			if len(g.Containers) != 1 || g.Labels["app"] != g.Name || !slices.Contains(g.Writes, schema.GroupResource{Resource: "services"}) {
				t.Errorf("%+v is not what the chart renders", g)
			}
			out = append(out, row{
				g.Namespace + "/" + g.Name, g.Pods, slices.Contains(g.Writes, schema.GroupResource{Group: "networking.istio.io", Resource: "envoyfilters"}),
				slices.Contains(g.Writes, schema.GroupResource{Group: "gateway.networking.k8s.io", Resource: "httproutes"}),
			})
		}
		return out
	}
	want := []row{{"team/edge", 5, false, false}, {"web/a", 3, true, false}, {"web/c", 1, false, true}, {"web/d", 1, false, false}}
	if diff := cmp.Diff(want, rows(), cmp.AllowUnexported(row{})); diff != "" {
		t.Errorf("a canary (-want +got):\n%s", diff)
	}
	// In place a rolling update takes one more, unless it may take some away: a quarter of five is one, as the API server rounds it.
	q.Mesh.Spec.Upgrade.Type, q.Mesh.Status.StableRevision = v1alpha1.UpgradeInPlace, "default"
	want = []row{{"team/edge", 0, false, false}, {"web/a", 1, true, false}, {"web/c", 1, false, true}, {"web/d", 0, false, false}}
	if diff := cmp.Diff(want, rows(), cmp.AllowUnexported(row{})); diff != "" {
		t.Errorf("in place (-want +got):\n%s", diff)
	}
}

// Who else writes the versions of a CRD is in its managed fields; labels and the status are anybody's.
func TestWritersOfCRDs(t *testing.T) {
	o := object(t, `
metadata:
  managedFields:
  - {manager: meshwright-installation, operation: Apply, fieldsV1: {"f:spec": {"f:versions": {}}}}
  - {manager: helm, operation: Update, fieldsV1: {"f:spec": {"f:versions": {}}}}
  - {manager: helm, operation: Apply, fieldsV1: {"f:spec": {"f:versions": {}}}}
  - {manager: kubectl, operation: Update, fieldsV1: {"f:metadata": {"f:labels": {}}}}
  - {manager: kube-apiserver, operation: Update, subresource: status, fieldsV1: {"f:status": {"f:versions": {}}}}`)
	if diff := cmp.Diff([]string{"helm"}, crdOf(o.(*unstructured.Unstructured)).Writers); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// What may not be read is a finding that names the right, and never an error; what is not there is nothing; any other error is one.
func TestSectionsThatCanNotBeRead(t *testing.T) {
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "x"}, "", errors.New("no"))
	broken := errors.New("connection refused")
	for _, tc := range []struct {
		kind, resource, namespace string
		// holds says that what depends on it could hold a rollout back.
		holds bool
	}{
		{"Namespace", "namespaces", "", true},
		{"MeshGateway", "meshgateways.meshwright.io", "", true},
		{"EnvoyFilter", "envoyfilters.networking.istio.io", "", true},
		{"WasmPlugin", "wasmplugins.extensions.istio.io", "", true},
		{"VirtualService", "virtualservices.networking.istio.io", "", false},
		{"CustomResourceDefinition", "customresourcedefinitions.apiextensions.k8s.io", "", true},
		{"MutatingWebhookConfiguration", "mutatingwebhookconfigurations.admissionregistration.k8s.io", "", true},
		{"ValidatingWebhookConfiguration", "validatingwebhookconfigurations.admissionregistration.k8s.io", "", true},
		{"EndpointSlice", "endpointslices.discovery.k8s.io", "policy", true},
		{"ConfigMap", "configmaps", "istio-system", false},
		{"Node", "nodes", "", false},
		{"Pod", "pods", "", true},
		{"Deployment", "deployments.apps", "", true},
		{"StatefulSet", "deployments, statefulsets and daemonsets.apps", "", false},
		{"PodDisruptionBudget", "poddisruptionbudgets.policy", "", true},
		{"ResourceQuota", "resourcequotas", "istio-system", true},
		{"LimitRange", "limitranges", "istio-system", true},
		{"HorizontalPodAutoscaler", "horizontalpodautoscalers.autoscaling", "istio-system", false},
		{"NetworkPolicy", "networkpolicies.networking.k8s.io", "", false},
		{"SubjectAccessReview", "subjectaccessreviews.authorization.k8s.io", "", false},
	} {
		t.Run(tc.kind, func(t *testing.T) {
			ask := func(err error) ([]preflight.Finding, error) {
				q := upgrade()
				c := answering(t, everyKind(t), map[string]error{tc.kind: err})
				q.Reviewer, q.Grants = c, true
				return asking(t).Check(t.Context(), c, q)
			}
			all, err := ask(forbidden)
			if err != nil {
				t.Fatal(err)
			}
			told := slices.ContainsFunc(all, func(f preflight.Finding) bool {
				return f.Code == preflight.NotChecked && f.Object == preflight.Object{Kind: "Resource", Namespace: tc.namespace, Name: tc.resource} && f.Holds() == tc.holds
			})
			if !told {
				t.Errorf("nobody says that %s were not read, or not as grave as it is (%v): %v", tc.resource, tc.holds, all)
			}
			if _, err := ask(broken); !errors.Is(err, broken) {
				t.Errorf("%v is not the error that there was", err)
			}
		})
	}
	t.Run("kinds that the cluster does not know", func(t *testing.T) {
		none := &meta.NoKindMatchError{GroupKind: envoyFilter.GroupKind()}
		c := answering(t, everyKind(t), map[string]error{"EnvoyFilter": none, "WasmPlugin": apierrors.NewNotFound(schema.GroupResource{}, "")})
		got, err := asking(t).Preflight(t.Context(), c, upgrade())
		if err != nil || len(got.EnvoyFilters)+len(got.WasmPlugins)+len(got.Unread) > 0 {
			t.Errorf("%v, %v: none is an answer", got, err)
		}
	})
}

// Who redirects traffic is what the next control plane injects, not what the present one does; where Meshwright keeps no mesh, it is what
// is there.
func TestWhoRedirects(t *testing.T) {
	for _, tc := range []struct {
		reason string
		values string
		none   bool
		want   bool
	}{
		{reason: "the agent of today is not that of the target"},
		{reason: "the target's values turn it on", values: `{"cni": {"enabled": true}}`, want: true},
		{reason: "the chart lays what is below pilot over its values", values: `{"pilot": {"cni": {"enabled": true}}}`, want: true},
		{reason: "what is there", none: true, want: true},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			q := upgrade()
			if tc.values != "" {
				q.Mesh.Spec.ControlPlane.Values = &apiextensionsv1.JSON{Raw: []byte(tc.values)}
			}
			if tc.none {
				q.Mesh, q.Namespace = nil, "istio-system"
			}
			got, err := asking(t).Preflight(t.Context(), answering(t, everyKind(t), nil), q)
			if err != nil {
				t.Fatal(err)
			}
			if got.CNI != tc.want {
				t.Errorf("an agent redirects: %v, want %v", got.CNI, tc.want)
			}
			if len(got.Charts.Unknown) > 0 {
				t.Errorf("the chart knows each of these values: %v", got.Charts.Unknown)
			}
		})
	}
}

// What only restarts pods leaves the revision as it is.
func TestWhatOnlyRestarts(t *testing.T) {
	for _, tc := range []struct {
		reason string
		change func(*Inquiry)
		want   bool
	}{
		{"another version", func(*Inquiry) {}, false},
		{"the same revision", func(q *Inquiry) { q.To = q.From }, true},
		{"another revision of the same version", func(q *Inquiry) {
			q.To, q.Mesh.Spec.Upgrade.Canary.RevisionFor = q.From, v1alpha1.RevisionForAnyChange
		}, false},
		{"another version where the old one stands", func(q *Inquiry) {
			q.Mesh.Spec.Upgrade.Type, q.Mesh.Status.StableRevision = v1alpha1.UpgradeInPlace, "default"
		}, false},
		{"no mesh has no revision", func(q *Inquiry) { q.Mesh, q.To = nil, q.From }, false},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			q := upgrade()
			tc.change(&q)
			if got := asking(t).move(q).Restarts; got != tc.want {
				t.Errorf("it only restarts: %v, want %v", got, tc.want)
			}
		})
	}
}

func TestOperatorNamespace(t *testing.T) {
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "x"}, "", errors.New("no"))
	named := func(labels map[string]string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: "platform", Name: "meshwright", Labels: labels}
	}
	operator := map[string]string{operatorLabel: operatorName}
	part := map[string]string{operatorLabel: operatorName, v1alpha1.LabelMesh: "default"}
	for _, tc := range []struct {
		reason  string
		objects []client.Object
		refuse  map[string]error
		want    string
	}{
		{"nowhere", nil, nil, ""},
		{"by its Deployment", []client.Object{&appsv1.Deployment{ObjectMeta: named(operator)}}, nil, "platform"},
		{"by its pods", []client.Object{&corev1.Pod{ObjectMeta: named(operator)}}, map[string]error{"Deployment": forbidden}, "platform"},
		{"what a mesh has is not it", []client.Object{&appsv1.Deployment{ObjectMeta: named(part)}}, nil, ""},
		{"nobody may look", []client.Object{&corev1.Pod{ObjectMeta: named(operator)}}, map[string]error{"Deployment": forbidden, "Pod": forbidden}, ""},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			got, err := OperatorNamespace(t.Context(), answering(t, tc.objects, tc.refuse))
			if err != nil || got != tc.want {
				t.Errorf("%q, %v: want %q", got, err, tc.want)
			}
		})
	}
}

// Acknowledged findings are marked, of the mesh that is asked about.
func TestCheckAcknowledges(t *testing.T) {
	q := upgrade()
	q.Mesh.Spec.Upgrade.Acknowledged = []string{"Deployment/team/edge"}
	all, err := asking(t).Check(t.Context(), answering(t, everyKind(t), nil), q)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(f preflight.Finding) bool { return f.Code == preflight.ImageAuto })
	if i < 0 || !all[i].Acknowledged || all[i].Holds() {
		t.Errorf("%+v: the gateway without an injector is acknowledged", all)
	}
}

// Where Meshwright keeps no mesh, istiod tells what is installed.
func TestInstalled(t *testing.T) {
	istiod := func(name, image string) client.Object {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: name, Labels: map[string]string{"app": "istiod"}},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "discovery", Image: image}, {Name: "other", Image: "x:9.9.9"}}},
		}
	}
	for _, tc := range []struct {
		reason string
		images []string
		want   string
	}{
		{"none", nil, ""},
		{"the highest of several; variants and ports are no versions", []string{"registry.example.com:5000/istio/pilot:1.28.2-distroless", "docker.io/istio/pilot:1.27.9"}, "1.28.2"},
		{"a digest tells nothing", []string{"docker.io/istio/pilot@sha256:0123"}, ""},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			var all []client.Object
			for i, image := range tc.images {
				all = append(all, istiod(string(rune('a'+i)), image))
			}
			got, namespace, err := Installed(t.Context(), answering(t, all, nil))
			if err != nil {
				t.Fatal(err)
			}
			text := ""
			if got != nil {
				text = got.String()
			}
			if text != tc.want || (namespace == "istio-system") != (tc.want != "") {
				t.Errorf("%q in %q, want %q", text, namespace, tc.want)
			}
		})
	}
}
