// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"strings"
	"testing"

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
	Revision: "1-29-1", Tags: []string{"stable"}, Default: true, Label: true, Namespace: "istio-system",
	Gateways: map[string]bool{"istio-ingress": true}, Selector: labels.SelectorFromSet(labels.Set{"mesh": "yes"}),
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
		{"that of a gateway", nil, namespace("istio-ingress", yes()), Verdict{Blocked: BlockedGateway}},
		{"no gateway's any more than before", nil, namespace("istio-ingress", yes(RevisionLabel, "1-29-1"), us), Verdict{Member: true, Blocked: BlockedGateway, Release: true}},
		{"not selected", nil, namespace("a", nil), Verdict{}},
		{"not selected any more", nil, namespace("a", map[string]string{RevisionLabel: "1-29-1"}, us), Verdict{Member: true, Release: true}},
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

// Two meshes that want one namespace don't fight: the first has it, the other is told.
func TestTwoMeshesDontFight(t *testing.T) {
	second := shop
	second.Revision, second.Default = "1-28-2", false
	meshes := []Named{{"a", shop}, {"b", second}}
	for _, n := range []*metav1.PartialObjectMetadata{
		namespace("x", map[string]string{"mesh": "yes"}),
		namespace("x", map[string]string{"mesh": "yes", RevisionLabel: "1-29-1"}, v1alpha1.ManagerDataPlane),
	} {
		got := Decide(meshes, n)
		if got[0].Blocked != "" || got[1].Blocked != BlockedByLabel || got[1].Enroll || got[0].Release || got[1].Release {
			t.Errorf("Decide = %+v, want the first to have it", got)
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
