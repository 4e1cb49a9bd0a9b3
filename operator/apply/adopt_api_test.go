// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build api

package apply

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// A gateway as Istio's chart makes it, in the hands of Helm.
const (
	helmsService = `
apiVersion: v1
kind: Service
metadata:
  name: ingress
  namespace: NS
  labels: {app: ingress, app.kubernetes.io/managed-by: Helm, helm.sh/chart: gateway-1.28.2}
  annotations: {meta.helm.sh/release-name: ingress, meta.helm.sh/release-namespace: NS, theirs: "yes"}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  selector: {app: ingress, istio: ingress}
  ports:
  - {name: http2, port: 80, targetPort: 80, protocol: TCP}
  - {name: https, port: 443, targetPort: 443, protocol: TCP}
  - {name: legacy, port: 31400, targetPort: 31400, protocol: TCP}
`
	ourService = `
apiVersion: v1
kind: Service
metadata: {name: ingress, namespace: NS, labels: {app: ingress}}
spec:
  type: LoadBalancer
  selector: {app: ingress, istio: ingress}
  ports:
  - {name: http2, port: 80, targetPort: 80, protocol: TCP}
  - {name: https, port: 443, targetPort: 443, protocol: TCP}
`
	budget = `
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: ingress, namespace: NS, labels: {app.kubernetes.io/managed-by: Helm}, annotations: {meta.helm.sh/release-name: ingress}}
spec: {selector: {matchLabels: {app: ingress}}, %s: 1}
`
	account = "{apiVersion: v1, kind: ServiceAccount, metadata: {name: ingress, namespace: NS%s}}"
	role    = `
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: ingress, namespace: NS%s}
rules: [{apiGroups: [""], resources: [secrets], verbs: [get, watch, list]}]
`
)

// bare is an object without the labels and annotations of whoever installed it.
func (w *world) bare(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	o := w.marked(t, text)
	o.SetAnnotations(nil)
	return o
}

// adoption is a phase that takes over a Service, a budget, a service account and a role.
func (w *world) adoption(t *testing.T) Phase {
	t.Helper()
	phase := phaseOf(t, w.marked(t, ourService), w.bare(t, fmt.Sprintf(budget, "maxUnavailable")),
		w.marked(t, fmt.Sprintf(account, "")), w.marked(t, fmt.Sprintf(role, "")))
	phase.Adopt = true
	return phase
}

// serverSide applies an object as Helm does from version 4.
func (w *world) serverSide(t *testing.T, by string, o *unstructured.Unstructured) {
	t.Helper()
	if err := w.others.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(o.DeepCopy()), client.FieldOwner(by)); err != nil {
		t.Fatal(err)
	}
}

// installed is the gateway in the hands of others, each object by another way of installing it.
func (w *world) installed(t *testing.T) {
	t.Helper()
	w.create(t, "helm", w.object(t, helmsService))
	w.serverSide(t, "helm", w.object(t, fmt.Sprintf(budget, "minAvailable")))
	w.create(t, "kubectl-client-side-apply", w.object(t, fmt.Sprintf(account, `, annotations: {kubectl.kubernetes.io/last-applied-configuration: "{}", theirs: "yes"}`)))
	w.create(t, "terraform-provider-helm_v2", w.object(t, fmt.Sprintf(role, `, annotations: {meta.helm.sh/release-name: ingress, theirs: "yes"}`)))
}

// gateway are the objects of the gateway by kind, without what changes by itself.
func (w *world) gateway(t *testing.T) map[string]map[string]any {
	t.Helper()
	out := map[string]map[string]any{}
	for _, text := range []string{ourService, fmt.Sprintf(budget, "maxUnavailable"), fmt.Sprintf(account, ""), fmt.Sprintf(role, "")} {
		o := w.object(t, text)
		live := w.live(t, o)
		for _, volatile := range []string{"uid", "resourceVersion", "creationTimestamp", "managedFields", "generation"} {
			unstructured.RemoveNestedField(live.Object, "metadata", volatile)
		}
		out[o.GetKind()] = live.Object
	}
	return out
}

// What Helm, kubectl or another program with Helm in it has installed becomes ours where it stands: addresses and ports stay, so does what
// controllers have written, and what the installer wrote besides goes, its marks among it.
func testAdopt(t *testing.T, w *world) {
	w.installed(t)
	service := w.object(t, ourService)
	w.change(t, "cloud-controller-manager", service, func(o map[string]any) {
		set("arn:1", "metadata", "annotations", "cloud")(o)
		if err := unstructured.SetNestedStringSlice(o, []string{"service.kubernetes.io/load-balancer-cleanup"}, "metadata", "finalizers"); err != nil {
			t.Fatal(err)
		}
	})
	balanced := w.live(t, service)
	balanced.Object["status"] = map[string]any{"loadBalancer": map[string]any{"ingress": []any{map[string]any{"ip": "192.0.2.1"}}}}
	if err := w.others.Status().Update(t.Context(), balanced, client.FieldOwner("cloud-controller-manager")); err != nil {
		t.Fatal(err)
	}
	before := w.live(t, service)
	phase := w.adoption(t)
	if result := w.apply(t, phase); result.Applied != 4 || result.Corrected != 0 {
		t.Errorf("applied %d and corrected %d objects, want 4 and 0", result.Applied, result.Corrected)
	}
	after := w.live(t, service)
	for _, path := range [][]string{{"metadata", "uid"}, {"spec", "clusterIP"}, {"spec", "clusterIPs"}, {"status"}} {
		if diff := cmp.Diff(field(t, before, path...), field(t, after, path...)); diff != "" {
			t.Errorf("%v was changed (-before +after):\n%s", path, diff)
		}
	}
	if diff := cmp.Diff(field(t, before, "spec", "ports").([]any)[:2], field(t, after, "spec", "ports")); diff != "" {
		t.Errorf("ports: those that both have keep their node ports, the third goes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"service.kubernetes.io/load-balancer-cleanup"}, after.GetFinalizers()); diff != "" {
		t.Errorf("finalizers of the load balancer (-want +got):\n%s", diff)
	}
	if got := field(t, after, "spec", "externalTrafficPolicy"); got != "Cluster" {
		t.Errorf("externalTrafficPolicy = %v, want the default: only the installer had set it", got)
	}
	wantLabels := map[string]string{"app": "ingress", v1alpha1.LabelMesh: w.mesh, managedBy: "meshwright"}
	if diff := cmp.Diff(wantLabels, after.GetLabels()); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	wantAnnotations := map[string]map[string]string{
		"Service": {"cloud": "arn:1"}, "PodDisruptionBudget": nil, "ServiceAccount": nil, "Role": nil,
	}
	got := map[string]map[string]string{}
	for kind, o := range w.gateway(t) {
		got[kind] = (&unstructured.Unstructured{Object: o}).GetAnnotations()
	}
	if diff := cmp.Diff(wantAnnotations, got); diff != "" {
		t.Errorf("annotations (-want +got):\n%s", diff)
	}
	spec := w.gateway(t)["PodDisruptionBudget"]["spec"].(map[string]any)
	if spec["maxUnavailable"] != int64(1) || spec["minAvailable"] != nil {
		t.Errorf("the budget is %v, want ours alone", spec)
	}
	for _, o := range []*unstructured.Unstructured{service, w.object(t, fmt.Sprintf(budget, "x"))} {
		w.cached(t, o)
		for _, entry := range w.live(t, o).GetManagedFields() {
			if strings.HasPrefix(entry.Manager, "helm") {
				t.Errorf("%s of %s still belongs to %s", entry.FieldsV1, o.GetKind(), entry.Manager)
			}
		}
	}
	w.unchanged(t, phase)
}

// A mesh takes nothing from another one, and nothing at all when one object is another mesh's.
func testAdoptTaken(t *testing.T, w *world) {
	w.installed(t)
	w.change(t, "other", w.object(t, fmt.Sprintf(role, "")), set("other", "metadata", "labels", v1alpha1.LabelMesh))
	before := w.gateway(t)
	_, err := w.try(t, w.adoption(t))
	var taken *TakenError
	if !errors.As(err, &taken) || taken.Owner != "other" || taken.Kind != "Role" {
		t.Errorf("error %v, want that the Role is of the other mesh", err)
	}
	if diff := cmp.Diff(before, w.gateway(t)); diff != "" {
		t.Errorf("their objects were changed (-before +after):\n%s", diff)
	}
}

// An adoption is interrupted at each of its writes: once before the API server sees it, once after it carried it out. A new process always
// comes to the state of the undisturbed run.
func testAdoptCrashes(t *testing.T, w *world) {
	isWrite := func(r *http.Request) bool { return r.Method != http.MethodGet }
	var writes atomic.Int64
	w.installed(t)
	w.start(t, func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		if isWrite(r) {
			writes.Add(1)
		}
		return next.RoundTrip(r)
	})
	w.apply(t, w.adoption(t))
	want, total := addressless(w.gateway(t)), writes.Load()
	if total != 8 {
		t.Errorf("%d writes, want two for each object: its fields are taken over, and it is applied", total)
	}
	for _, after := range []bool{false, true} {
		for n := int64(1); n <= total; n++ {
			t.Run(fmt.Sprintf("write %d, carried out %v", n, after), func(t *testing.T) {
				w.start(t, nil)
				w.apply(t, w.adoption(t))
				w.removed(t, w.inventory)
				w.inventory = nil
				w.installed(t)
				var count atomic.Int64
				w.start(t, func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
					if !isWrite(r) || count.Add(1) != n {
						return next.RoundTrip(r)
					}
					if after {
						response, err := next.RoundTrip(r)
						if err != nil {
							return nil, err
						}
						_ = response.Body.Close()
					}
					return nil, io.ErrUnexpectedEOF
				})
				if _, err := w.try(t, w.adoption(t)); err == nil {
					t.Fatal("the crash was not noticed")
				}
				w.start(t, nil)
				w.apply(t, w.adoption(t))
				if diff := cmp.Diff(want, addressless(w.gateway(t))); diff != "" {
					t.Errorf("state after the crash (-undisturbed +crashed):\n%s", diff)
				}
			})
		}
	}
}

// addressless leaves out what the API server hands out anew to each Service.
func addressless(objects map[string]map[string]any) map[string]map[string]any {
	spec := objects["Service"]["spec"].(map[string]any)
	delete(spec, "clusterIP")
	delete(spec, "clusterIPs")
	for _, p := range spec["ports"].([]any) {
		delete(p.(map[string]any), "nodePort")
	}
	return objects
}
