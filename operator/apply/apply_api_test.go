// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build api

package apply

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/testkit"
)

// Every case has a mesh and a namespace of its own, of the name of the case, on one API server.
func TestApply(t *testing.T) {
	config := testkit.StartAPIServer(t)
	for _, c := range []struct {
		name, reason string
		run          func(*testing.T, *world)
	}{
		{"fixpoint", "what is as it is wanted costs no request", testFixpoint},
		{"drift", "what somebody changes of ours is forced back, and nothing else is touched", testDrift},
		{"restart", "a new process finds the fixpoint of the old one", testRestart},
		{"newcontent", "a changed wish is applied, and fields that left it go", testNewContent},
		{"webhook", "caBundle and failurePolicy are istiod's once it takes them", testWebhook},
		{"crd", "a newer CRD is left, an older one is replaced, none is pruned", testCRD},
		{"taken", "what has to be ours alone is not taken from somebody else", testTaken},
		{"intent", "nothing is created that is not recorded before", testIntent},
		{"phases", "a phase waits for the one before, pruning for all", testPhases},
		{"observe", "looking writes nothing", testObserve},
		{"handover", "replicas outlive the handover to an autoscaler", testHandOver},
		{"pods", "a Deployment is not ready for its pods' own reason", testPods},
		{"refused", "one refused object is named and holds back no other", testRefused},
		{"terminating", "a namespace that is going is no refusal", testTerminating},
		{"helm", "what Helm left in an object goes when it is taken over", testHelm},
		{"adopt", "what somebody else installed becomes ours where it stands", testAdopt},
		{"adopttaken", "what is another mesh's is not adopted", testAdoptTaken},
		{"adoptcrashes", "an adoption that is interrupted ends in the same state", testAdoptCrashes},
		{"removal", "webhooks go first, and what is held is waited for", testRemoval},
		{"crashes", "a crash before or after any write ends in the same state", testCrashes},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Log(c.reason)
			c.run(t, newWorld(t, config, c.name))
		})
	}
}

const deployment = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: istiod, namespace: NS}
spec:
  selector: {matchLabels: {app: istiod}}
  template:
    metadata: {labels: {app: istiod, meshwright.io/mesh: NS}}
    spec:
      containers:
      - name: discovery
        image: example.com/pilot:1
        resources: {requests: {cpu: 1000m, memory: 1024Mi}}
        env: [{name: A, value: "1"}]
`

const webhook = `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: NS}
webhooks:
- &one
  name: one.example.com
  admissionReviewVersions: [v1]
  sideEffects: None
  failurePolicy: Ignore
  clientConfig: {service: {name: istiod, namespace: NS, path: /validate}}
  rules: [{apiGroups: [never.example.com], apiVersions: ["*"], operations: [CREATE], resources: ["*"]}]
- <<: *one
  name: two.example.com
`

// Quantities such as 1000m and defaulted fields come back written otherwise: that is no drift.
func testFixpoint(t *testing.T, w *world) {
	phase := phaseOf(t, w.configMap(t, "settings", "a"), w.marked(t, deployment), w.marked(t, webhook), w.marked(t, crd("fixpoint", "1.29.1")))
	result := w.apply(t, phase)
	if result.Applied != 4 || result.Corrected != 0 {
		t.Errorf("applied %d and corrected %d objects, want 4 and 0", result.Applied, result.Corrected)
	}
	w.unchanged(t, phase)
}

func testDrift(t *testing.T, w *world) {
	settings, istiod := w.configMap(t, "settings", "a"), w.marked(t, deployment)
	phase := phaseOf(t, settings, istiod)
	w.apply(t, phase)
	for _, c := range []struct {
		reason    string
		object    *unstructured.Unstructured
		how       func(map[string]any)
		corrected int
	}{
		{"a value of ours", settings, set("b", "data", "key"), 1},
		{"a field of ours removed", settings, set(nil, "data", "key"), 1},
		{"a field of somebody else's", settings, set("theirs", "data", "other"), 0},
		{"an annotation of somebody else's", settings, set("theirs", "metadata", "annotations", "theirs"), 0},
		{"the label by which we know it", settings, set(nil, "metadata", "labels", v1alpha1.LabelMesh), 1},
		{"replicas, which an autoscaler sets", istiod, set(int64(3), "spec", "replicas"), 0},
		{"a selector of ours", istiod, set("mine", "spec", "template", "metadata", "labels", v1alpha1.LabelMesh), 1},
	} {
		t.Run(c.reason, func(t *testing.T) {
			w.change(t, "somebody", c.object, c.how)
			if c.object.GetLabels()[v1alpha1.LabelMesh] == w.live(t, c.object).GetLabels()[v1alpha1.LabelMesh] {
				w.cached(t, c.object)
			} else {
				w.until(t, "the object is gone from it", func() bool {
					there, err := w.owned.Get(t.Context(), c.object.GroupVersionKind(), client.ObjectKeyFromObject(c.object))
					return err == nil && there == nil
				})
			}
			if result := w.apply(t, phase); result.Corrected != c.corrected || result.Applied != c.corrected {
				t.Errorf("corrected %d, applied %d, want %d", result.Corrected, result.Applied, c.corrected)
			}
			w.unchanged(t, phase)
		})
	}
	live := w.live(t, settings)
	if diff := cmp.Diff(map[string]any{"key": "a", "other": "theirs"}, field(t, live, "data")); diff != "" {
		t.Errorf("data in the end (-want +got):\n%s", diff)
	}
	if got := field(t, w.live(t, istiod), "spec", "replicas"); got != int64(3) {
		t.Errorf("replicas = %v, want the autoscaler's 3", got)
	}
	w.remove(t, settings)
	w.cached(t, settings)
	if result := w.apply(t, phase); result.Corrected != 1 {
		t.Errorf("corrected %d, want the removed object", result.Corrected)
	}
	w.unchanged(t, phase)
}

func testRestart(t *testing.T, w *world) {
	phase := phaseOf(t, w.configMap(t, "settings", "a"), w.marked(t, deployment), w.marked(t, webhook))
	w.apply(t, phase)
	w.start(t, nil)
	if result := w.apply(t, phase); result.Applied != 0 {
		t.Errorf("a new process applied %d objects again", result.Applied)
	}
	w.unchanged(t, phase)
}

func testNewContent(t *testing.T, w *world) {
	w.apply(t, phaseOf(t, w.configMap(t, "settings", "a")))
	other := w.configMap(t, "settings", "b")
	set("new", "data", "added")(other.Object)
	set(nil, "data", "key")(other.Object)
	phase := phaseOf(t, other)
	if result := w.apply(t, phase); result.Applied != 1 || result.Corrected != 0 {
		t.Errorf("applied %d, corrected %d, want 1 and no correction", result.Applied, result.Corrected)
	}
	if diff := cmp.Diff(map[string]any{"added": "new"}, field(t, w.live(t, other), "data")); diff != "" {
		t.Errorf("data (-want +got):\n%s", diff)
	}
	w.unchanged(t, phase)
}

func testWebhook(t *testing.T, w *world) {
	o := w.marked(t, webhook)
	phase := phaseOf(t, o)
	w.apply(t, phase)
	if diff := cmp.Diff([]string{"Ignore", "Ignore"}, policies(t, w.live(t, o))); diff != "" {
		t.Fatalf("failurePolicy at first (-want +got):\n%s", diff)
	}
	const bundle = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1JSUJPekNCNHFBREFnRUNBZ0VCTUFvR0NDcUdTTTQ5QkFNQ01BQXdIaGNOTWpVd01UQXhNREF3TURBd1doY04KTXpVd01UQXhNREF3TURBd1dqQUFNRmt3RXdZSEtvWkl6ajBDQVFZSUtvWkl6ajBEQVFjRFFnQUUKLS0tLS1FTkQgQ0VSVElGSUNBVEUtLS0tLQo="
	w.change(t, "pilot-discovery", o, func(live map[string]any) {
		first := live["webhooks"].([]any)[0].(map[string]any)
		first["failurePolicy"] = "Fail"
		if err := unstructured.SetNestedField(first, bundle, "clientConfig", "caBundle"); err != nil {
			t.Fatal(err)
		}
	})
	w.cached(t, o)
	if result := w.apply(t, phase); result.Applied != 0 {
		t.Errorf("applied %d after istiod took its fields, want none", result.Applied)
	}
	w.unchanged(t, phase)
	w.change(t, "somebody", o, func(live map[string]any) {
		for _, webhook := range live["webhooks"].([]any) {
			if err := unstructured.SetNestedField(webhook.(map[string]any), "/elsewhere", "clientConfig", "service", "path"); err != nil {
				t.Fatal(err)
			}
		}
	})
	w.cached(t, o)
	if result := w.apply(t, phase); result.Corrected != 1 {
		t.Errorf("corrected %d, want the changed path", result.Corrected)
	}
	live := w.live(t, o)
	if diff := cmp.Diff([]string{"Fail", "Ignore"}, policies(t, live)); diff != "" {
		t.Errorf("failurePolicy after the correction: the first is istiod's, the second is still ours (-want +got):\n%s", diff)
	}
	first := field(t, live, "webhooks").([]any)[0].(map[string]any)
	if got, _, _ := unstructured.NestedString(first, "clientConfig", "caBundle"); got != bundle {
		t.Errorf("caBundle = %q, want istiod's", got)
	}
	if got, _, _ := unstructured.NestedString(first, "clientConfig", "service", "path"); got != "/validate" {
		t.Errorf("path = %q, want ours", got)
	}
	w.unchanged(t, phase)
}

func policies(t *testing.T, o *unstructured.Unstructured) []string {
	t.Helper()
	var out []string
	for _, w := range field(t, o, "webhooks").([]any) {
		out = append(out, fmt.Sprint(w.(map[string]any)[failurePolicy]))
	}
	return out
}

// crd is a CRD in the way of Istio's; the description of its schema is the version.
func crd(name, version string) string {
	return fmt.Sprintf(`
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: %[1]ss.test.example.com, labels: {app.kubernetes.io/version: %[2]s}}
spec:
  group: test.example.com
  scope: Namespaced
  names: {kind: %[3]s, plural: %[1]ss}
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, description: "%[2]s"}}}
`, name, version, strings.ToUpper(name[:1])+name[1:])
}

func testCRD(t *testing.T, w *world) {
	newerThere, older, settings := w.object(t, crd("newer", "1.31.0")), w.object(t, crd("older", "1.26.0")), w.configMap(t, "settings", "a")
	w.create(t, "helm", newerThere)
	w.create(t, "helm", older)
	phase := phaseOf(t, w.marked(t, crd("newer", "1.29.1")), w.marked(t, crd("older", "1.29.1")), settings)
	w.apply(t, phase)
	description := func(o *unstructured.Unstructured) any {
		versions := field(t, w.live(t, o), "spec", "versions").([]any)
		text, _, _ := unstructured.NestedString(versions[0].(map[string]any), "schema", "openAPIV3Schema", "description")
		return text
	}
	if got := description(newerThere); got != "1.31.0" {
		t.Errorf("the newer CRD is now of %v", got)
	}
	if got := description(older); got != "1.29.1" {
		t.Errorf("the older CRD is of %v, want it replaced by 1.29.1", got)
	}
	w.cached(t, newerThere)
	w.unchanged(t, phase)

	w.until(t, "the CRDs are established", func() bool { return w.apply(t, phase).Ready() })
	only := phaseOf(t, settings)
	if result := w.apply(t, only); result.Pruned != 0 {
		t.Errorf("pruned %d objects, want none: they are CRDs", result.Pruned)
	}
	if w.live(t, older) == nil {
		t.Error("a CRD was pruned")
	}
	items := []v1alpha1.InventoryItem{itemOf(newerThere), itemOf(older)}
	w.removed(t, items)
	if w.live(t, newerThere) == nil {
		t.Error("somebody else's CRD was removed with the mesh")
	}
	if w.live(t, older) != nil {
		t.Error("our CRD was not removed when it was asked for")
	}
}

// removed removes until nothing is left.
func (w *world) removed(t *testing.T, items []v1alpha1.InventoryItem) {
	t.Helper()
	w.until(t, "everything is removed", func() bool {
		left, err := w.Remove(t.Context(), w.mesh, items)
		if err != nil {
			t.Fatal(err)
		}
		return len(left) == 0
	})
}

func testTaken(t *testing.T, w *world) {
	tag := w.marked(t, webhook)
	for _, c := range []struct {
		reason, label, owner string
	}{
		{"an object that no mesh owns", "", ""},
		{"an object of another mesh", "other", "other"},
	} {
		t.Run(c.reason, func(t *testing.T) {
			theirs := w.object(t, webhook)
			if c.label != "" {
				theirs.SetLabels(map[string]string{v1alpha1.LabelMesh: c.label})
			}
			w.create(t, "somebody", theirs)
			before := w.live(t, theirs)
			_, err := w.try(t, phaseOf(t, w.configMap(t, "before", "a")), phaseOf(t, tag, w.configMap(t, "beside", "a")))
			var taken *TakenError
			if !errors.As(err, &taken) || !IsTerminal(err) {
				t.Fatalf("error %v, want a terminal TakenError", err)
			}
			want := &TakenError{Kind: "ValidatingWebhookConfiguration", Name: "taken", Owner: c.owner}
			if diff := cmp.Diff(want, taken); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
			for _, name := range []string{"before", "beside"} {
				if w.live(t, w.configMap(t, name, "a")) != nil {
					t.Errorf("ConfigMap %s was written although the webhook is somebody else's", name)
				}
			}
			w.removed(t, w.inventory)
			if diff := cmp.Diff(before, w.live(t, theirs)); diff != "" {
				t.Errorf("their object was changed (-before +after):\n%s", diff)
			}
			w.remove(t, theirs)
			w.cached(t, theirs)
			w.inventory = nil
		})
	}
	w.apply(t, phaseOf(t, tag))
	w.unchanged(t, phaseOf(t, tag))
}

func testIntent(t *testing.T, w *world) {
	settings := w.configMap(t, "settings", "a")
	full := errors.New("disk full")
	request := Request{
		Manager: manager, Mesh: w.mesh, Phases: []Phase{phaseOf(t, settings)},
		Record: func(_ context.Context, intents []v1alpha1.InventoryItem) error {
			if diff := cmp.Diff([]v1alpha1.InventoryItem{itemOf(settings)}, intents); diff != "" {
				t.Errorf("intents (-want +got):\n%s", diff)
			}
			return full
		},
	}
	if _, err := w.Apply(t.Context(), request); !errors.Is(err, full) {
		t.Errorf("error %v, want that of Record", err)
	}
	if w.live(t, settings) != nil {
		t.Error("the object was created, and is recorded nowhere")
	}
}

func testPhases(t *testing.T, w *world) {
	istiod, old, next := w.marked(t, deployment), w.configMap(t, "old", "a"), w.configMap(t, "next", "a")
	w.apply(t, phaseOf(t, old))
	first := phaseOf(t, istiod)
	first.Await = true
	result := w.apply(t, first, phaseOf(t, next))
	if result.Complete || result.Ready() {
		t.Error("complete before the Deployment is ready")
	}
	if w.live(t, next) != nil {
		t.Error("the second phase did not wait")
	}
	if w.live(t, old) == nil {
		t.Error("an object was pruned before what is wanted is ready")
	}
	w.unchanged(t, first, phaseOf(t, next))
	w.serve(t, istiod)
	result = w.apply(t, first, phaseOf(t, next))
	if !result.Ready() || result.Pruned != 1 {
		t.Errorf("ready %v, pruned %d, not ready %v; want ready and 1", result.Ready(), result.Pruned, result.NotReady)
	}
	if w.live(t, next) == nil || w.live(t, old) != nil {
		t.Error("the second phase was not applied, or the old object not pruned")
	}
	w.unchanged(t, first, phaseOf(t, next))

	// What was applied once is kept while the phase before is not ready again; what is new waits.
	w.change(t, "somebody", istiod, set(int64(5), "spec", "replicas"))
	w.cached(t, istiod)
	w.remove(t, next)
	w.cached(t, next)
	late := w.configMap(t, "late", "a")
	if result = w.apply(t, first, phaseOf(t, next, late)); result.Corrected != 1 || result.Complete {
		t.Errorf("corrected %d, complete %v; want 1 and not", result.Corrected, result.Complete)
	}
	if w.live(t, next) == nil || w.live(t, late) != nil {
		t.Error("what was applied was not kept, or what is new did not wait")
	}
}

func testObserve(t *testing.T, w *world) {
	gone, changed := w.configMap(t, "gone", "a"), w.configMap(t, "changed", "a")
	w.apply(t, phaseOf(t, gone, changed))
	w.remove(t, gone)
	w.cached(t, gone)
	w.requests.Take()
	observed, err := w.Apply(t.Context(), Request{
		Manager: manager, Mesh: w.mesh, Inventory: w.inventory, Observe: true,
		Phases: []Phase{phaseOf(t, gone, w.configMap(t, "changed", "b"), w.configMap(t, "new", "a"))},
	})
	if err != nil {
		t.Fatal(err)
	}
	if asked := w.requests.Take(); len(asked) > 0 {
		t.Errorf("looking asked the API server:\n%s", strings.Join(asked, "\n"))
	}
	var notReady []string
	for _, o := range observed.NotReady {
		notReady = append(notReady, o.Name)
	}
	if diff := cmp.Diff([]string{"gone", "changed", "new"}, notReady); diff != "" {
		t.Errorf("not ready (-want +got):\n%s", diff)
	}
	if !slices.Equal(observed.Inventory, w.inventory) {
		t.Errorf("looking changed the inventory to %v", observed.Inventory)
	}
}

func testHandOver(t *testing.T, w *world) {
	istiod := w.marked(t, deployment)
	fixed := func(n int64) *unstructured.Unstructured {
		o := istiod.DeepCopy()
		set(n, "spec", "replicas")(o.Object)
		return o
	}
	w.apply(t, phaseOf(t, fixed(5)))
	w.cached(t, istiod)
	w.apply(t, phaseOf(t, istiod)) // from now on an autoscaler decides
	if got := field(t, w.live(t, istiod), "spec", "replicas"); got != int64(5) {
		t.Errorf("%v replicas after the handover, want the 5 that there were", got)
	}
	w.change(t, "kube-controller-manager", istiod, set(int64(3), "spec", "replicas"))
	w.cached(t, istiod)
	w.unchanged(t, phaseOf(t, istiod))
	w.apply(t, phaseOf(t, fixed(2)))
	if got := field(t, w.live(t, istiod), "spec", "replicas"); got != int64(2) {
		t.Errorf("%v replicas after they were fixed again, want 2", got)
	}
}

// serve plays the controllers that make a Deployment ready.
func (w *world) serve(t *testing.T, o *unstructured.Unstructured) {
	t.Helper()
	live := w.live(t, o)
	live.Object["status"] = map[string]any{
		"observedGeneration": live.GetGeneration(), "replicas": int64(1), "updatedReplicas": int64(1), "readyReplicas": int64(1),
		"availableReplicas": int64(1),
		"conditions": []any{
			map[string]any{"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable"},
			map[string]any{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"},
		},
	}
	if err := w.others.Status().Update(t.Context(), live); err != nil {
		t.Fatal(err)
	}
	w.cached(t, o)
}

func testPods(t *testing.T, w *world) {
	phase := phaseOf(t, w.marked(t, deployment))
	w.apply(t, phase)
	pod := w.object(t, `
apiVersion: v1
kind: Pod
metadata: {name: istiod-x7k2p, namespace: NS, labels: {app: istiod, meshwright.io/mesh: NS}}
spec: {containers: [{name: discovery, image: "example.com/pilot:1"}]}`)
	w.create(t, "kube-controller-manager", pod)
	live := w.live(t, pod)
	live.Object["status"] = map[string]any{"containerStatuses": []any{map[string]any{
		"name": "discovery", "image": "example.com/pilot:1", "imageID": "", "ready": false, "restartCount": int64(3),
		"state":     map[string]any{"waiting": map[string]any{"reason": "CrashLoopBackOff", "message": "back-off 40s"}},
		"lastState": map[string]any{"terminated": map[string]any{"exitCode": int64(137), "reason": "OOMKilled"}},
	}}}
	if err := w.others.Status().Update(t.Context(), live); err != nil {
		t.Fatal(err)
	}
	w.cached(t, pod)
	want := []NotReady{{
		Kind: "Deployment", Namespace: "pods", Name: "istiod", Reason: "CrashLoopBackOff",
		Message: "CrashLoopBackOff in container discovery: it ended with code 137 (OOMKilled)",
	}}
	if diff := cmp.Diff(want, w.apply(t, phase).NotReady); diff != "" {
		t.Errorf("not ready (-want +got):\n%s", diff)
	}
}

func testRefused(t *testing.T, w *world) {
	bad := w.configMap(t, "bad", "a")
	set("no key of a ConfigMap", "data", "not/a/key")(bad.Object)
	good := w.configMap(t, "good", "a")
	_, err := w.try(t, phaseOf(t, bad, good))
	var refused *RefusedError
	if !errors.As(err, &refused) || !IsTerminal(err) {
		t.Fatalf("error %v, want a terminal RefusedError", err)
	}
	if refused.Name != "bad" || !strings.Contains(err.Error(), "ConfigMap refused/bad") {
		t.Errorf("error %q does not name the object", err)
	}
	if w.live(t, good) == nil {
		t.Error("the refused object held back another")
	}
	healed := phaseOf(t, w.configMap(t, "bad", "a"), good)
	w.apply(t, healed)
	w.unchanged(t, healed)
}

func testTerminating(t *testing.T, w *world) {
	w.remove(t, w.object(t, "{apiVersion: v1, kind: Namespace, metadata: {name: NS}}"))
	if _, err := w.try(t, phaseOf(t, w.configMap(t, "settings", "a"))); err == nil || IsTerminal(err) {
		t.Errorf("error %v, want one that passes", err)
	}
}

func testHelm(t *testing.T, w *world) {
	for name, install := range map[string]func(*testing.T, string, *unstructured.Unstructured){"updated": w.create, "applied": w.serverSide} {
		there := w.object(t, fmt.Sprintf("{apiVersion: v1, kind: ConfigMap, metadata: {name: %s, namespace: NS}, data: {key: a, helms: a}}", name))
		install(t, "helm", there)
		w.change(t, "somebody", there, set("a", "data", "theirs"))
		phase := phaseOf(t, w.configMap(t, name, "b"))
		phase.Shared = true
		w.apply(t, phase)
		if diff := cmp.Diff(map[string]any{"key": "b", "theirs": "a"}, field(t, w.live(t, there), "data")); diff != "" {
			t.Errorf("data that Helm has %s (-want +got):\n%s", name, diff)
		}
		w.unchanged(t, phase)
		w.inventory = nil
	}
}

func testRemoval(t *testing.T, w *world) {
	hook, istiod, settings := w.marked(t, webhook), w.marked(t, deployment), w.configMap(t, "settings", "a")
	hook.SetFinalizers([]string{"example.com/hold"})
	w.apply(t, phaseOf(t, settings, istiod, hook))
	for range 2 {
		left, err := w.Remove(t.Context(), w.mesh, w.inventory)
		if err != nil {
			t.Fatal(err)
		}
		if len(left) != 3 {
			t.Errorf("%d objects are said to be left, want 3: the webhook is held", len(left))
		}
	}
	if w.live(t, istiod) == nil {
		t.Error("istiod went before the webhook that calls it")
	}
	w.change(t, "somebody", hook, set(nil, "metadata", "finalizers"))
	w.removed(t, w.inventory)
	for _, o := range []*unstructured.Unstructured{hook, istiod, settings} {
		if w.live(t, o) != nil {
			t.Errorf("%s is still there", o.GetKind())
		}
	}
	w.requests.Take()
	w.removed(t, w.inventory)
	if asked := w.requests.Take(); len(asked) > 0 {
		t.Errorf("removing what is gone asked for %v", asked)
	}
}

// A scenario of install, change and prune is interrupted at each of its writes: once before the API server sees it, once
// after it carried it out. A new process with the recorded inventory always comes to the state of the undisturbed run.
func testCrashes(t *testing.T, w *world) {
	scenario := [][]Phase{
		{phaseOf(t, w.configMap(t, "one", "a"), w.configMap(t, "two", "a")), phaseOf(t, w.marked(t, webhook))},
		{phaseOf(t, w.configMap(t, "one", "b"), w.configMap(t, "three", "a")), phaseOf(t, w.marked(t, webhook))},
	}
	all := []*unstructured.Unstructured{
		w.configMap(t, "one", "a"), w.configMap(t, "two", "a"), w.configMap(t, "three", "a"), w.marked(t, webhook),
	}
	state := func() map[string]any {
		out := map[string]any{}
		for _, o := range all {
			live := w.live(t, o)
			if live == nil {
				out[o.GetKind()+" "+o.GetName()] = nil
				continue
			}
			for _, volatile := range []string{"uid", "resourceVersion", "creationTimestamp", "managedFields", "generation"} {
				unstructured.RemoveNestedField(live.Object, "metadata", volatile)
			}
			out[o.GetKind()+" "+o.GetName()] = live.Object
		}
		return out
	}
	play := func(t *testing.T) error {
		for _, phases := range scenario {
			if _, err := w.try(t, phases...); err != nil {
				return err
			}
		}
		return nil
	}
	var writes atomic.Int64
	w.start(t, func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		if r.Method != http.MethodGet {
			writes.Add(1)
		}
		return next.RoundTrip(r)
	})
	if err := play(t); err != nil {
		t.Fatal(err)
	}
	want, wantInventory := state(), slices.Clone(w.inventory)
	total := writes.Load()
	if total < 6 {
		t.Fatalf("the scenario has %d writes, want 3 creations, a change, a creation and a deletion at least", total)
	}
	for _, after := range []bool{false, true} {
		for n := int64(1); n <= total; n++ {
			t.Run(fmt.Sprintf("write %d, carried out %v", n, after), func(t *testing.T) {
				w.start(t, nil)
				w.removed(t, slices.Clone(wantInventory))
				w.inventory = nil
				var count atomic.Int64
				w.start(t, func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
					if r.Method == http.MethodGet || count.Add(1) != n {
						return next.RoundTrip(r)
					}
					if after {
						response, err := next.RoundTrip(r)
						if err != nil {
							return nil, err
						}
						if err := response.Body.Close(); err != nil {
							return nil, err
						}
					}
					return nil, io.ErrUnexpectedEOF
				})
				if err := play(t); err == nil {
					t.Fatal("the crash was not noticed")
				}
				w.start(t, nil)
				if err := play(t); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, state()); diff != "" {
					t.Errorf("state after the crash (-undisturbed +crashed):\n%s", diff)
				}
				if diff := cmp.Diff(wantInventory, w.inventory); diff != "" {
					t.Errorf("inventory after the crash (-undisturbed +crashed):\n%s", diff)
				}
			})
		}
	}
}
