// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/rollout"
)

// Mesh is what enrollment needs to know of a mesh.
type Mesh struct {
	// Revision is the stable one; empty while there is none.
	Revision string
	// Tags that follow it, without "default".
	Tags []string
	// Default says that the mesh is the cluster's default.
	Default bool
	// Selector of the namespaces to enroll, nil for none.
	Selector labels.Selector
	// Label says that Meshwright sets the label; otherwise people do, with a tag.
	Label bool
	// Course is the rollout that is active on the mesh; nil for none.
	Course *Course
	Around
}

// Course is what enrollment needs to know of a rollout.
type Course struct {
	Plan     *v1alpha1.RolloutPlan
	Sorter   *rollout.Sorter
	Progress v1alpha1.RolloutProgress
}

// Revisions of the mesh: the stable one and both sides of a rollout.
func (m Mesh) Revisions() []string {
	var out []string
	if m.Revision != "" {
		out = append(out, m.Revision)
	}
	if m.Course == nil {
		return out
	}
	for _, side := range []string{m.Course.Plan.From.Revision, m.Course.Plan.To.Revision} {
		if !slices.Contains(out, side) {
			out = append(out, side)
		}
	}
	return out
}

// Follows says whether a member namespace follows a tag or the default revision, instead of naming a revision.
func (m Mesh) Follows(all map[string]string) bool {
	return all[InjectionLabel] == "enabled" || !slices.Contains(m.Revisions(), all[RevisionLabel])
}

// Wave is the wave of a namespace in the active rollout. One that is not labelled yet will be, by us.
func (m Mesh) Wave(all map[string]string) string {
	return m.Course.Sorter.WaveOf(all, m.Follows(all) && (all[RevisionLabel] != "" || all[InjectionLabel] != ""))
}

// wanted is the revision that a namespace which we label should name.
func (m Mesh) wanted(namespace metav1.Object) string {
	if m.Course == nil || m.Course.Progress.Outcome != "" {
		return m.Revision
	}
	wave := m.Course.Sorter.WaveOf(namespace.GetLabels(), false)
	return rollout.RevisionOf(m.Course.Plan, m.Course.Progress, wave)
}

// Around are namespaces that are not enrolled, whichever mesh selects them.
type Around struct {
	// Reserved are those of control planes and of the operator.
	Reserved map[string]bool
	// Gateways are those of gateways that installations list; Teams are those of all gateways.
	Gateways, Teams map[string]bool
}

// MeshOf gathers it from an installation. The error is that of a selector that does not parse; it selects nothing then.
func MeshOf(m *v1alpha1.MeshInstallation, around Around) (Mesh, error) {
	out := Mesh{
		Revision: m.Status.StableRevision,
		Default:  m.Spec.DefaultRevision != v1alpha1.DefaultRevisionLeave,
		Label:    m.Spec.DataPlane.Enrollment != v1alpha1.EnrollmentTag,
		Around:   around,
	}
	for _, t := range m.Spec.Tags {
		out.Tags = append(out.Tags, t.Name)
	}
	if m.Spec.DataPlane.NamespaceSelector == nil || Removing(m) {
		return out, nil
	}
	selector, err := metav1.LabelSelectorAsSelector(m.Spec.DataPlane.NamespaceSelector)
	if err == nil {
		out.Selector = selector
	}
	return out, err
}

// Removing says whether an installation is being removed and nothing holds that any more: it enrolls no namespace then.
func Removing(m *v1alpha1.MeshInstallation) bool {
	ready := apimeta.FindStatusCondition(m.Status.Conditions, v1alpha1.ConditionReady)
	return m.DeletionTimestamp != nil && ready != nil && ready.Reason == v1alpha1.ReasonRemoving
}

// Verdict is what a mesh wants of a namespace.
type Verdict struct {
	// Member says that new pods of the namespace get a proxy of the mesh, as it is labelled now.
	Member bool
	// Enroll says that our label should be on it. Stays says that our label, where it is, is left there although the namespace
	// would not be enrolled now: a team may not take sidecars away from others.
	Enroll, Stays bool
	// Blocked is the reason why a namespace that the selector matches is not enrolled, with a message; empty for none.
	Blocked, Message string
}

// Named is a mesh with the name of its installation.
type Named struct {
	Name string
	Mesh
	// Still says that nothing may be done for the mesh now: it is paused, or its selector does not parse. What is labelled for it
	// stays.
	Still bool
}

// Decide says what each of several meshes wants of a namespace, and which label of ours should be on it. It can be enrolled
// in one mesh: where several want it, the one that has it keeps it, else the first by name gets it; the others are told.
func Decide(meshes []Named, namespace metav1.Object) ([]Verdict, Label) {
	out := make([]Verdict, len(meshes))
	ours, now := OwnsLabel(namespace), namespace.GetLabels()[RevisionLabel]
	holder, owner := -1, -1
	for i, m := range meshes {
		out[i] = Judge(m.Mesh, namespace)
		has := ours && slices.Contains(m.Revisions(), now)
		if has {
			owner = i
		}
		if m.wants(namespace) && out[i].Blocked == "" && (has || holder < 0 && !m.Still) {
			holder = i
		}
	}
	for i, m := range meshes {
		if i != holder && holder >= 0 && m.wants(namespace) && out[i].Blocked == "" {
			//nolint:gosec // holder is an index of meshes
			message := "it is enrolled in MeshInstallation " + meshes[holder].Name + ": narrow a selector"
			out[i] = Verdict{Member: out[i].Member, Blocked: BlockedByLabel, Message: message}
		}
	}
	label := Label{Ours: ours, Revision: now}
	switch {
	case owner >= 0 && meshes[owner].Still || namespace.GetDeletionTimestamp() != nil:
	case holder >= 0 && out[holder].Enroll:
		label = Label{Ours: true, Revision: meshes[holder].wanted(namespace)}
	case holder >= 0 || !ours:
	case owner >= 0 && out[owner].Stays:
	case owner < 0 && slices.ContainsFunc(meshes, func(m Named) bool { return m.Still }):
		// Whose label it was is not known, and one of those who could say so may not be asked.
	default:
		label = Label{}
	}
	return out, label
}

// Label is the revision label of a namespace.
type Label struct {
	// Ours says that this operator sets it. Where it does not, nothing is written.
	Ours     bool
	Revision string
}

// LabelOf is the label as it is.
func LabelOf(namespace metav1.Object) Label {
	return Label{Ours: OwnsLabel(namespace), Revision: namespace.GetLabels()[RevisionLabel]}
}

// wants says whether a mesh's selector asks for a namespace.
func (m Mesh) wants(namespace metav1.Object) bool {
	return m.Label && m.Revision != "" && m.Selector != nil && namespace.GetDeletionTimestamp() == nil &&
		m.Selector.Matches(labels.Set(namespace.GetLabels()))
}

// Reasons for which a namespace is not enrolled.
const (
	BlockedSystem   = "SystemNamespace"
	BlockedGateway  = "GatewayNamespace"
	BlockedByLabel  = "LabelledByOther"
	BlockedDisabled = "InjectionDisabled"
)

// Judge says what a mesh wants of a namespace, of which the metadata are enough.
func Judge(m Mesh, namespace metav1.Object) Verdict {
	all := namespace.GetLabels()
	ours := OwnsLabel(namespace)
	v := Verdict{Member: m.member(all)}
	if !m.wants(namespace) {
		return v
	}
	switch name := namespace.GetName(); {
	case strings.HasPrefix(name, "kube-"), m.Reserved[name]:
		v.Blocked, v.Message = BlockedSystem, "namespaces of the system, of control planes and of the operator get no sidecars: narrow the selector"
	case m.Gateways[name]:
		v.Blocked, v.Message = BlockedGateway, "it holds a gateway of a mesh, whose pods would be injected twice: narrow the selector"
	case m.Teams[name]:
		v.Blocked, v.Message = BlockedGateway, "it holds a team's gateway, whose pods would be injected twice: move the gateway, or narrow the selector"
		v.Stays = true
	case all[InjectionLabel] == "disabled":
		v.Blocked, v.Message = BlockedDisabled, "it is labelled istio-injection=disabled: remove the label, or narrow the selector"
	case all[InjectionLabel] == "enabled" && !m.Default:
		v.Blocked, v.Message = BlockedByLabel, "it is labelled istio-injection=enabled, which beats istio.io/rev and belongs to the default revision: remove that label"
	case all[InjectionLabel] == "enabled":
		// The default revision is this mesh's: the namespace is a member already.
	case all[RevisionLabel] == "" || ours && all[RevisionLabel] != m.wanted(namespace):
		v.Enroll = true
	case !v.Member:
		v.Blocked = BlockedByLabel
		v.Message = fmt.Sprintf("istio.io/rev=%s was set by %s: remove the label there, or narrow the selector", all[RevisionLabel], setter(namespace))
	}
	return v
}

// member says whether the injector gives pods of a namespace with such labels a proxy of the mesh: istio-injection beats
// istio.io/rev.
func (m Mesh) member(all map[string]string) bool {
	if m.Revision == "" {
		return false
	}
	switch all[InjectionLabel] {
	case "disabled":
		return false
	case "enabled":
		return m.Default
	}
	rev := all[RevisionLabel]
	if rev == "" {
		return false
	}
	if slices.Contains(m.Revisions(), rev) || rev == "default" && m.Default {
		return true
	}
	return slices.Contains(m.Tags, rev)
}

var labelPath = fieldpath.MakePathOrDie("metadata", "labels", RevisionLabel)

// OwnsLabel says whether the revision label of a namespace was set by controllers/dataplane.
func OwnsLabel(namespace metav1.Object) bool {
	for _, entry := range namespace.GetManagedFields() {
		if entry.Manager == v1alpha1.ManagerDataPlane && owns(entry) {
			return true
		}
	}
	return false
}

// labelledAt is when we last wrote the label.
func labelledAt(namespace metav1.Object) time.Time {
	for _, entry := range namespace.GetManagedFields() {
		if entry.Manager == v1alpha1.ManagerDataPlane && owns(entry) && entry.Time != nil {
			return entry.Time.Time
		}
	}
	return time.Time{}
}

// setter names the managers that hold the label, for people.
func setter(namespace metav1.Object) string {
	var names []string
	for _, entry := range namespace.GetManagedFields() {
		if entry.Manager != v1alpha1.ManagerDataPlane && owns(entry) {
			names = append(names, entry.Manager)
		}
	}
	if len(names) == 0 {
		return "somebody else"
	}
	return strings.Join(names, " and ")
}

func owns(entry metav1.ManagedFieldsEntry) bool {
	if entry.FieldsV1 == nil {
		return false
	}
	raw := entry.FieldsV1.GetRawBytes()
	if string(raw) == labelAlone {
		return true // what we write ourselves: a thousand namespaces need not be parsed for it at each look
	}
	set := &fieldpath.Set{}
	return bytes.Contains(raw, []byte(RevisionLabel)) && set.FromJSON(bytes.NewReader(raw)) == nil && set.Has(labelPath)
}

// labelAlone is how the API server writes that a manager owns the revision label and nothing else.
const labelAlone = `{"f:metadata":{"f:labels":{"f:` + RevisionLabel + `":{}}}}`

// LabelOwners keeps of the managed fields of a namespace those that this package reads.
func LabelOwners(entries []metav1.ManagedFieldsEntry) []metav1.ManagedFieldsEntry {
	return slices.DeleteFunc(entries, func(e metav1.ManagedFieldsEntry) bool { return !owns(e) })
}
