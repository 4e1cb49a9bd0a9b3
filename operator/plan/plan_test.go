// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/Masterminds/semver/v3"
	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/meshwright/meshwright/bundles/istio"
	"github.com/meshwright/meshwright/operator/admit"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/rollout"
	"github.com/meshwright/meshwright/operator/validate"
)

func mesh(t *testing.T, spec string) *v1alpha1.MeshInstallation {
	t.Helper()
	written := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte("{apiVersion: meshwright.io/v1alpha1, kind: MeshInstallation, metadata: {name: default}, spec: "+spec+"}"), &written.Object); err != nil {
		t.Fatal(err)
	}
	out, problems, err := admit.Installation(t.Context(), written)
	if err != nil || len(problems) > 0 {
		t.Fatal(err, problems)
	}
	return out
}

// world is one with the charts of this build and nothing else; before is what is installed, empty for nothing.
func world(t *testing.T, before string) World {
	t.Helper()
	library, err := istio.Open(t.Context(), istio.Builtin())
	if err != nil {
		t.Fatal(err)
	}
	lines, err := istio.BuiltinCatalogue()
	if err != nil {
		t.Fatal(err)
	}
	w := World{Library: library, KubeVersion: "v1.34.0", Facts: validate.Facts{
		Now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), Kubernetes: semver.MustParse("1.34.0"), Available: library.Versions(), Lines: lines,
	}}
	if before == "" {
		return w
	}
	if w, err = Installed(t.Context(), mesh(t, before), w); err != nil {
		t.Fatal(err)
	}
	return w
}

// told are the objects of a plan but for CRDs, and the steps, in a line each.
func told(p *Plan) []string {
	var out []string
	for _, s := range p.Steps {
		out = append(out, "step "+s.Name)
	}
	crds := 0
	for _, o := range p.Objects {
		if o.Kind == "CustomResourceDefinition" {
			crds++
			continue
		}
		out = append(out, fmt.Sprintf("%s %s %s", o.Action, o.Kind, strings.TrimPrefix(o.Namespace+"/"+o.Name, "/")))
	}
	if crds > 0 {
		out = append(out, fmt.Sprintf("%d CRDs", crds))
	}
	return out
}

func TestOf(t *testing.T) {
	const gateway = `gateways: [{name: ingress, namespace: edge}]`
	for _, tc := range []struct {
		reason, before, wanted string
		move                   rollout.Move
		has, hasNot            []string
	}{
		{
			reason: "nothing is there", wanted: `{version: "1.29.1"}`, move: rollout.MoveInstall,
			has:    []string{"Create MeshInstallation default", "Create Deployment istio-system/istiod-1-29-1", "14 CRDs"},
			hasNot: []string{"Change", "Remove", "step"},
		},
		{reason: "the same again", before: `{version: "1.29.1", ` + gateway + `}`, wanted: `{version: "1.29.1", ` + gateway + `}`, move: rollout.MoveNone, hasNot: []string{""}},
		{
			reason: "a line that means what is there already", before: `{version: "1.29.1"}`, wanted: `{version: "1.29"}`, move: rollout.MoveNone,
			has: []string{"Change MeshInstallation default"}, hasNot: []string{"Deployment", "step"},
		},
		{
			reason: "another version", before: `{version: "1.28.2", ` + gateway + `}`, wanted: `{version: "1.29.1", ` + gateway + `}`, move: rollout.MoveRollOut,
			has: []string{
				"step gateways-50", "step promote", "Create Deployment istio-system/istiod-1-29-1", "Remove Deployment istio-system/istiod-1-28-2",
				"Change MutatingWebhookConfiguration istio-revision-tag-default", "Create Deployment edge/ingress-1-29-1", "Change Service edge/ingress",
			},
			hasNot: []string{"Create Service edge/ingress"},
		},
		{
			reason: "a gateway that is held stays at its version", before: `{version: "1.28.2", gateways: [{name: ingress, namespace: edge, versionPolicy: Hold}]}`,
			wanted: `{version: "1.29.1", gateways: [{name: ingress, namespace: edge, versionPolicy: Hold}]}`, move: rollout.MoveRollOut,
			has: []string{"Create Deployment istio-system/istiod-1-29-1"}, hasNot: []string{"edge/"},
		},
		{
			reason: "mesh configuration changes where it stands", before: `{version: "1.29.1"}`,
			wanted: `{version: "1.29.1", controlPlane: {meshConfig: {accessLogFile: /dev/stdout}}}`, move: rollout.MoveConfigure,
			has: []string{"Change ConfigMap istio-system/istio-1-29-1"}, hasNot: []string{"Create", "Remove", "step"},
		},
		{
			reason: "in place, objects keep their names", before: `{version: "1.28.2", upgrade: {type: InPlace}}`,
			wanted: `{version: "1.29.1", upgrade: {type: InPlace}}`, move: rollout.MoveRollOut,
			has: []string{"Change Deployment istio-system/istiod", "step rest"}, hasNot: []string{"Create", "Remove", "step promote"},
		},
		{
			reason: "a gateway that is taken out", before: `{version: "1.29.1", ` + gateway + `}`, wanted: `{version: "1.29.1"}`, move: rollout.MoveNone,
			has: []string{"Remove Deployment edge/ingress-1-29-1", "Remove Service edge/ingress"}, hasNot: []string{"istiod"},
		},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			p, err := Of(t.Context(), mesh(t, tc.wanted), world(t, tc.before))
			if err != nil || len(p.Problems) > 0 {
				t.Fatal(err, p)
			}
			if p.Move != tc.move {
				t.Errorf("move %s, want %s", p.Move, tc.move)
			}
			lines := told(p)
			all := strings.Join(lines, "\n")
			for _, want := range tc.has {
				if !strings.Contains(all+"\n", want+"\n") {
					t.Errorf("no %q in\n%s", want, all)
				}
			}
			for _, not := range tc.hasNot {
				if strings.Contains(all, not) && (not != "" || len(lines) > 0) {
					t.Errorf("%q in\n%s", not, all)
				}
			}
			if got, want := p.Changes(), len(lines) > 0; got != want {
				t.Errorf("changes: %t, want %t", got, want)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	for _, tc := range []struct{ reason, before, wanted, problem string }{
		{"a version that nobody has", "", `{version: "1.28.99"}`, "no charts of 1.28.99"},
		{"three minors at once", `{version: "1.26.1"}`, `{version: "1.29.1"}`, "versionSkew"},
		{"values that the operator sets", "", `{version: "1.29.1", controlPlane: {values: {revision: x}}}`, "spec.controlPlane.values.revision"},
		{"values that the chart refuses", "", `{version: "1.29.1", gateways: [{name: ingress, namespace: edge, values: {autoscaling: 3}}]}`, "spec.gateways[0].values"},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			p, err := Of(t.Context(), mesh(t, tc.wanted), world(t, tc.before))
			if err != nil {
				t.Fatal(err)
			}
			if p.Move != "" || !strings.Contains(fmt.Sprint(p.Problems), tc.problem) {
				t.Errorf("move %q, problems %v; want %q", p.Move, p.Problems, tc.problem)
			}
		})
	}
}

// What is under way, and what failed before, decide what becomes of a change.
func TestStand(t *testing.T) {
	from := v1alpha1.RolloutRevision{Revision: "1-28-2", Version: "1.28.2"}
	to := v1alpha1.RolloutRevision{Revision: "1-29-1", Version: "1.29.1"}
	active := &v1alpha1.MeshRollout{Spec: v1alpha1.MeshRolloutSpec{Plan: v1alpha1.RolloutPlan{From: from, To: to, Steps: make([]v1alpha1.RolloutStep, 3)}}}
	active.Name = "default-2"
	for _, tc := range []struct {
		reason, wanted, waits string
		world                 func(*World)
		held                  bool
	}{
		{"the target of the rollout", `{version: "1.29.1"}`, "MeshRollout default-2 to 1.29.1 goes on as it was planned", func(w *World) { w.Active = active }, false},
		{"back again", `{version: "1.28.2"}`, "MeshRollout default-2 to 1.29.1 is rolled back first", func(w *World) { w.Active = active }, false},
		{"a rotation is under way", `{version: "1.29.1"}`, "MeshRotation default-ca-1 ends first", func(w *World) {
			w.Mesh.Status.ActiveOperation = &v1alpha1.ActiveOperation{Kind: "MeshRotation", Name: "default-ca-1"}
		}, false},
		{"paused, with other values", `{version: "1.28.2", paused: true, controlPlane: {meshConfig: {accessLogFile: /dev/stdout}}}`, "spec.paused is true: nothing is done before it is false", func(*World) {}, true},
		{"paused", `{version: "1.29.1", paused: true}`, "spec.paused is true: nothing is done before it is false", func(*World) {}, true},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			w := world(t, `{version: "1.28.2"}`)
			tc.world(&w)
			p, err := Of(t.Context(), mesh(t, tc.wanted), w)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]any{tc.waits, tc.held}, []any{p.Waits, p.Held}); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A target that failed is not tried again by the same spec.
func TestFailedBefore(t *testing.T) {
	w := world(t, `{version: "1.28.2"}`)
	wanted := mesh(t, `{version: "1.29.1"}`)
	first, err := Of(t.Context(), wanted, w)
	if err != nil {
		t.Fatal(err)
	}
	w.Mesh = wanted.DeepCopy()
	w.Mesh.Status.FailedTarget = &v1alpha1.FailedTarget{Version: "1.29.1", InputsDigest: first.To.InputsDigest, Rollout: "default-1"}
	again, err := Of(t.Context(), wanted, w)
	if err != nil {
		t.Fatal(err)
	}
	if want := "MeshRollout default-1 to 1.29.1 did not get there: change the spec, or kubectl mesh retry --rollout default-1"; again.Waits != want || !again.Held {
		t.Errorf("got %q (held %t), want %q", again.Waits, again.Held, want)
	}
	w.Failed = &v1alpha1.MeshRollout{ObjectMeta: metav1.ObjectMeta{Name: "default-1"}, Spec: v1alpha1.MeshRolloutSpec{Retries: 1}}
	if given, err := Of(t.Context(), wanted, w); err != nil || given.Held {
		t.Errorf("with a retry given: %q (held %t), %v", given.Waits, given.Held, err)
	}
	w.Failed = nil
	changed := wanted.DeepCopy()
	changed.Spec.Upgrade.RolloutHistoryLimit++
	if other, err := Of(t.Context(), changed, w); err != nil || other.Held {
		t.Errorf("with another spec: %q (held %t), %v", other.Waits, other.Held, err)
	}
}
