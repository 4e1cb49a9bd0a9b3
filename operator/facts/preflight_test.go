// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package facts

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/validate"
)

// server answers lists with one object a page, as an API server may.
type server struct {
	client.Reader // nothing else is asked

	objects []client.Object
	// refuse is what a list of a kind is answered with.
	refuse map[string]error
	// asked are the kinds that were listed.
	asked map[string]bool
}

func (s *server) List(_ context.Context, list client.ObjectList, opts ...client.ListOption) error {
	options := (&client.ListOptions{}).ApplyOptions(opts)
	if options.Limit != pageSize {
		return errors.New("the list is not bounded")
	}
	var kind string
	var page []client.Object
	switch list := list.(type) {
	case *unstructured.UnstructuredList:
		kind = strings.TrimSuffix(list.GetKind(), "List")
		for _, o := range s.objects {
			if u, ok := o.(*unstructured.Unstructured); ok && u.GroupVersionKind() == list.GroupVersionKind().GroupVersion().WithKind(kind) {
				page = append(page, o)
			}
		}
	case *policyv1.PodDisruptionBudgetList:
		kind, page = "PodDisruptionBudget", of[*policyv1.PodDisruptionBudget](s.objects)
	case *corev1.NodeList:
		kind, page = "Node", of[*corev1.Node](s.objects)
	case *corev1.PodList:
		kind, page = "Pod", of[*corev1.Pod](s.objects)
	}
	if s.asked == nil {
		s.asked = map[string]bool{}
	}
	s.asked[kind] = true
	if err := s.refuse[kind]; err != nil {
		return err
	}
	first := 0
	if options.Continue != "" {
		var err error
		if first, err = strconv.Atoi(options.Continue); err != nil {
			return err
		}
	}
	if first+1 < len(page) {
		list.SetContinue(strconv.Itoa(first + 1))
	}
	if len(page) == 0 {
		return nil
	}
	return meta.SetList(list, []runtime.Object{page[first].DeepCopyObject()})
}

func of[T client.Object](all []client.Object) (out []client.Object) {
	for _, o := range all {
		if _, ok := o.(T); ok {
			out = append(out, o)
		}
	}
	return out
}

func custom(kind schema.GroupVersionKind, name string, spec map[string]any) client.Object {
	u := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	u.SetGroupVersionKind(kind)
	u.SetNamespace("shop")
	u.SetName(name)
	return u
}

// ofMesh marks an object as one that the operator has applied.
func ofMesh(o client.Object) client.Object {
	o.SetLabels(map[string]string{v1alpha1.LabelMesh: "default", v1alpha1.LabelGateway: "ingress"})
	return o
}

func pdb(namespace string) client.Object {
	return &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "cart"},
		Status:     policyv1.PodDisruptionBudgetStatus{DisruptionsAllowed: 1, ExpectedPods: 3},
	}
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

func requests(cpu string) corev1.ResourceRequirements {
	return corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}}
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

func tainted(effect corev1.TaintEffect) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: "x", Effect: effect}} }
}

func cluster() *server {
	always := corev1.ContainerRestartPolicyAlways
	whole := requests("1")
	return &server{objects: []client.Object{
		custom(envoyFilter, "headers", map[string]any{"priority": int64(1)}), custom(envoyFilter, "limits", nil),
		ofMesh(custom(envoyFilter, "ingress-connection-age", nil)),
		custom(wasmPlugin, "auth", map[string]any{"url": "x"}),
		pdb("shop"), pdb("other"), pdb("left"), pdb("cart"),
		node("a", nil), node("b", tainted(corev1.TaintEffectPreferNoSchedule)),
		node("cordoned", func(n *corev1.Node) { n.Spec.Unschedulable = true }),
		node("control", tainted(corev1.TaintEffectNoSchedule)), node("sick", tainted(corev1.TaintEffectNoExecute)),
		pod("containers", "a", nil),
		pod("done", "a", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }),
		pod("failed", "a", func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }),
		pod("waiting", "", nil), pod("elsewhere", "control", nil),
		pod("sidecar", "a", func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Resources: requests("100m"), RestartPolicy: &always}, {Resources: requests("3")}}
			p.Spec.Overhead = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("50m")}
		}),
		pod("whole", "b", func(p *corev1.Pod) { p.Spec.Resources = &whole }),
	}}
}

// What is there is gathered; what the operator itself has applied, for every version of Istio, is no finding.
func TestPreflight(t *testing.T) {
	wants := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("500m"), corev1.ResourceMemory: resource.MustParse("2Gi")}
	free := func(cpu, pods string) corev1.ResourceList {
		return corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse("8Gi"), corev1.ResourcePods: resource.MustParse(pods),
		}
	}
	namespaces := map[string]bool{"shop": true, "cart": true, "left": false}
	got, err := (&Gatherer{}).Preflight(t.Context(), cluster(), namespaces, wants)
	if err != nil {
		t.Fatal(err)
	}
	want := validate.Preflight{
		EnvoyFilters: []validate.Extension{
			{Namespace: "shop", Name: "headers", Spec: map[string]any{"priority": int64(1)}},
			{Namespace: "shop", Name: "limits"},
		},
		WasmPlugins: []validate.Extension{{Namespace: "shop", Name: "auth", Spec: map[string]any{"url": "x"}}},
		Budgets: []validate.Budget{
			{Namespace: "shop", Name: "cart", DisruptionsAllowed: 1, ExpectedPods: 3},
			{Namespace: "cart", Name: "cart", DisruptionsAllowed: 1, ExpectedPods: 3},
		},
		Capacity: validate.Capacity{Wants: wants, Nodes: []validate.Node{
			{Name: "a", Free: free("2350m", "108")}, {Name: "b", Free: free("3", "109")},
		}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestUnknownWants(t *testing.T) {
	s := cluster()
	got, err := (&Gatherer{}).Preflight(t.Context(), s, nil, nil)
	if err != nil || s.asked["Node"] || s.asked["Pod"] {
		t.Errorf("nodes and pods are read for nothing: %v, %v", s.asked, err)
	}
	if diff := cmp.Diff(validate.Capacity{}, got.Capacity); diff != "" {
		t.Errorf("capacity is said to be known (-want +got):\n%s", diff)
	}
}

func TestRefusedLists(t *testing.T) {
	wants := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("500m")}
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "x"}, "", errors.New("no"))
	missing := apierrors.NewNotFound(schema.GroupResource{Resource: "x"}, "")
	for _, tc := range []struct {
		reason, kind string
		err          error
		want         string
	}{
		{"clusters without the kind have none", "EnvoyFilter", &meta.NoKindMatchError{GroupKind: envoyFilter.GroupKind()}, ""},
		{"the kind was just taken away", "WasmPlugin", missing, ""},
		{"filters", "EnvoyFilter", forbidden, "need the right to list envoyfilters.networking.istio.io of the whole cluster"},
		{"plugins", "WasmPlugin", forbidden, "need the right to list wasmplugins.extensions.istio.io of the whole cluster"},
		{"budgets", "PodDisruptionBudget", forbidden, "need the right to list poddisruptionbudgets.policy of the whole cluster"},
		{"nodes", "Node", forbidden, "need the right to list nodes of the whole cluster"},
		{"pods", "Pod", forbidden, "need the right to list pods of the whole cluster"},
		{"a kind of Kubernetes is never missing", "Pod", missing, "list pods: "},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			s := cluster()
			s.refuse = map[string]error{tc.kind: tc.err}
			_, err := (&Gatherer{}).Preflight(t.Context(), s, nil, wants)
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("%v, though none is an answer", err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want) || !errors.Is(err, tc.err)):
				t.Errorf("%v does not say %q", err, tc.want)
			}
		})
	}
}
