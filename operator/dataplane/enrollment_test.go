// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// namespace has labels, of which setters (label by label) hold istio.io/rev.
func namespace(name string, all map[string]string, setters ...string) *metav1.PartialObjectMetadata {
	n := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: all}}
	for _, s := range setters {
		n.ManagedFields = append(n.ManagedFields, metav1.ManagedFieldsEntry{
			Manager: s, FieldsV1: metav1.NewFieldsV1(`{"f:metadata":{"f:labels":{"f:istio.io/rev":{}}}}`),
		})
	}
	return n
}

var shop = Mesh{
	Revision: "1-29-1", Tags: []string{"stable"}, Default: true, Label: true, Selector: labels.SelectorFromSet(labels.Set{"mesh": "yes"}),
	Around: Around{
		Reserved: map[string]bool{"istio-system": true, "other-system": true, "meshwright-system": true},
		Gateways: map[string]bool{"istio-ingress": true}, Teams: map[string]bool{"istio-ingress": true, "team": true},
	},
}

func TestJudge(t *testing.T) {
	yes := func(more ...string) map[string]string {
		out := map[string]string{"mesh": "yes"}
		for i := 0; i < len(more); i += 2 {
			out[more[i]] = more[i+1]
		}
		return out
	}
	const us = v1alpha1.ManagerDataPlane
	for _, tc := range []struct {
		reason    string
		mesh      func(*Mesh)
		namespace *metav1.PartialObjectMetadata
		want      Verdict
	}{
		{"selected and free", nil, namespace("a", yes()), Verdict{Enroll: true}},
		{"selected and labelled by us", nil, namespace("a", yes(RevisionLabel, "1-29-1"), us), Verdict{Member: true}},
		{"labelled by us with an earlier revision", nil, namespace("a", yes(RevisionLabel, "1-28-2"), us), Verdict{Enroll: true}},
		{"labelled by people with our revision", nil, namespace("a", yes(RevisionLabel, "1-29-1"), "kubectl"), Verdict{Member: true}},
		{"labelled by people with our tag", nil, namespace("a", yes(RevisionLabel, "stable"), "kubectl"), Verdict{Member: true}},
		{"labelled by somebody for another mesh", nil, namespace("a", yes(RevisionLabel, "x"), "argocd"), Verdict{Blocked: BlockedByLabel}},
		{"injection turned off", nil, namespace("a", yes(InjectionLabel, "disabled")), Verdict{Blocked: BlockedDisabled}},
		{"injected by the default revision, which is ours", nil, namespace("a", yes(InjectionLabel, "enabled")), Verdict{Member: true}},
		{
			"injected by the default revision, which is not ours", func(m *Mesh) { m.Default = false }, namespace("a", yes(InjectionLabel, "enabled")),
			Verdict{Blocked: BlockedByLabel},
		},
		{"a namespace of Kubernetes", nil, namespace("kube-system", yes()), Verdict{Blocked: BlockedSystem}},
		{"that of the control plane", nil, namespace("istio-system", yes()), Verdict{Blocked: BlockedSystem}},
		{"that of another mesh's control plane", nil, namespace("other-system", yes()), Verdict{Blocked: BlockedSystem}},
		{"that of the operator", nil, namespace("meshwright-system", yes()), Verdict{Blocked: BlockedSystem}},
		{"that of a gateway", nil, namespace("istio-ingress", yes()), Verdict{Blocked: BlockedGateway}},
		{"labelled before it got a gateway", nil, namespace("istio-ingress", yes(RevisionLabel, "1-29-1"), us), Verdict{Member: true, Blocked: BlockedGateway}},
		{"that of a team's gateway", nil, namespace("team", yes()), Verdict{Blocked: BlockedGateway, Stays: true}},
		{"not selected", nil, namespace("a", nil), Verdict{}},
		{"not selected any more", nil, namespace("a", map[string]string{RevisionLabel: "1-29-1"}, us), Verdict{Member: true}},
		{"not selected, labelled by people", nil, namespace("a", map[string]string{RevisionLabel: "1-29-1"}, "kubectl"), Verdict{Member: true}},
		{"no revision serves yet", func(m *Mesh) { m.Revision = "" }, namespace("a", yes()), Verdict{}},
		{"people label, with tags", func(m *Mesh) { m.Label = false }, namespace("a", yes()), Verdict{}},
		{"people have labelled, with a tag", func(m *Mesh) { m.Label = false }, namespace("a", yes(RevisionLabel, "stable")), Verdict{Member: true}},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			m := shop
			if tc.mesh != nil {
				tc.mesh(&m)
			}
			got := Judge(m, tc.namespace)
			if (got.Blocked == "") != (got.Message == "") {
				t.Errorf("blocked %q with message %q: want both or none", got.Blocked, got.Message)
			}
			got.Message = ""
			if got != tc.want {
				t.Errorf("Judge = %+v, want %+v", got, tc.want)
			}
		})
	}
}

// Who holds a label that is not ours is named.
func TestBlockedNamesTheManager(t *testing.T) {
	v := Judge(shop, namespace("a", map[string]string{"mesh": "yes", RevisionLabel: "x"}, "argocd-controller"))
	if !strings.Contains(v.Message, "argocd-controller") {
		t.Errorf("message = %q, want the manager named", v.Message)
	}
}

// The label that should be on a namespace, whatever several meshes want of it.
func TestLabelOfSeveralMeshes(t *testing.T) {
	first, second := Named{Name: "a", Mesh: shop}, Named{Name: "b", Mesh: shop}
	second.Revision, second.Default = "1-28-2", false
	still := func(m Named) Named {
		m.Still, m.Selector = true, nil
		return m
	}
	away := func(m Named) Named {
		m.Selector = nil
		return m
	}
	const us = v1alpha1.ManagerDataPlane
	free := namespace("x", map[string]string{"mesh": "yes"})
	of := func(name, revision string, setter string) *metav1.PartialObjectMetadata {
		return namespace(name, map[string]string{"mesh": "yes", RevisionLabel: revision}, setter)
	}
	terminating := of("x", "1-29-1", us)
	terminating.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
	for _, tc := range []struct {
		reason    string
		meshes    []Named
		namespace *metav1.PartialObjectMetadata
		want      Label
		// blocked is the index of the mesh that is told so, if any.
		blocked int
	}{
		{"the first by name gets it", []Named{first, second}, free, Label{true, "1-29-1"}, 1},
		{"the first by name has it", []Named{first, second}, of("x", "1-29-1", us), Label{true, "1-29-1"}, 1},
		{"who has it keeps it, also against an earlier name", []Named{first, second}, of("x", "1-28-2", us), Label{true, "1-28-2"}, 0},
		{"who had it selects it no more", []Named{first, away(second)}, of("x", "1-28-2", us), Label{true, "1-29-1"}, -1},
		{"nobody selects it", []Named{away(first), away(second)}, of("x", "1-28-2", us), Label{}, -1},
		{"nobody selects it, and people have labelled it", []Named{away(first)}, of("x", "1-29-1", "kubectl"), Label{false, "1-29-1"}, -1},
		{"no mesh is left", nil, of("x", "1-29-1", us), Label{}, -1},
		{"who has it is paused, or its selector does not parse", []Named{still(first), second}, of("x", "1-29-1", us), Label{true, "1-29-1"}, -1},
		{"another mesh is paused", []Named{away(first), still(second)}, of("x", "1-29-1", us), Label{}, -1},
		{"whose it was is not known, and one may not be asked", []Named{still(first)}, of("x", "1-27-0", us), Label{true, "1-27-0"}, -1},
		{"who wants it too is paused", []Named{away(first), {Name: "b", Mesh: second.Mesh, Still: true}}, of("x", "1-29-1", us), Label{}, -1},
		{"a paused mesh takes nothing new", []Named{{Name: "a", Mesh: shop, Still: true}}, free, Label{}, -1},
		{"a gateway of a mesh came into it", []Named{first}, of("istio-ingress", "1-29-1", us), Label{}, 0},
		{"a team put a gateway into it: its pods keep their sidecars", []Named{first}, of("team", "1-29-1", us), Label{true, "1-29-1"}, 0},
		{"it is going", []Named{away(first)}, terminating, Label{true, "1-29-1"}, -1},
	} {
		verdicts, got := Decide(tc.meshes, tc.namespace)
		if got != tc.want {
			t.Errorf("%s: label %+v, want %+v", tc.reason, got, tc.want)
		}
		for i, v := range verdicts {
			if (v.Blocked != "") != (i == tc.blocked) {
				t.Errorf("%s: verdict of %s: %+v", tc.reason, tc.meshes[i].Name, v)
			}
		}
	}
}

func TestOnlyTheLabelsOwnersAreKept(t *testing.T) {
	n := namespace("a", nil, "kubectl")
	n.ManagedFields = append(n.ManagedFields, metav1.ManagedFieldsEntry{
		Manager: "other", FieldsV1: metav1.NewFieldsV1(`{"f:metadata":{"f:labels":{"f:team":{}}}}`),
	})
	if got := LabelOwners(n.ManagedFields); len(got) != 1 || got[0].Manager != "kubectl" {
		t.Errorf("kept %+v, want the entry of kubectl only", got)
	}
}
