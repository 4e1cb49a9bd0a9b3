// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package validate

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/version"
)

// Facts are what the rules need to know of the rest of the world.
type Facts struct {
	// Now decides whether a line's support has ended.
	Now time.Time
	// Kubernetes is the cluster's version.
	Kubernetes *semver.Version
	// Available Istio versions, and what is known of their lines by name.
	Available []*semver.Version
	Lines     map[string]version.Line
	// Installed is the version of the mesh's MeshRevision, nil while it has none.
	Installed *semver.Version
	// Installations are all others, Gateways all MeshGateways, of the cluster.
	Installations []v1alpha1.MeshInstallation
	Gateways      []v1alpha1.MeshGateway
	// TagUsers are the namespaces that name a revision or tag, by what they name; "default" also by istio-injection=enabled.
	TagUsers map[string][]string
	// KnownValues are the default values of a chart for a version; nil where they can't be had.
	KnownValues func(v *semver.Version, chart string) map[string]any
	// OperatorNamespace is that of the Secrets that an installation names.
	OperatorNamespace string
	// Secrets by name, and OuterGateways, of those that are named. What is not in the maps was not looked for, and is not judged.
	Secrets       map[string]Secret
	OuterGateways map[types.NamespacedName]OuterGateway
}

// The charts whose values users write.
const (
	istiodChart  = "istiod"
	gatewayChart = "gateway"
)

// Target is the version that an installation means, given the facts. The error names its cause; it is the one that
// Installation reports for spec.version.
func Target(m *v1alpha1.MeshInstallation, f Facts) (*semver.Version, error) {
	wanted, err := version.Parse(m.Spec.Version)
	if err != nil {
		return nil, err
	}
	patches := m.Spec.Upgrade.AutoUpgrade == v1alpha1.AutoUpgradePatch
	return version.Resolve(wanted, f.Available, f.Installed, patches)
}

// Move says whether the move from the installed version to a target is one that Istio supports, or need not be. The error is a
// [*version.SkewError].
func Move(m *v1alpha1.MeshInstallation, target *semver.Version, f Facts) error {
	if f.Installed == nil || m.Spec.Upgrade.VersionSkew == v1alpha1.VersionSkewAccept {
		return nil
	}
	return version.CheckMove(f.Installed, target, m.Spec.Upgrade.Type == v1alpha1.UpgradeInPlace)
}

// RevisionName is what the revision of a version is called in an installation.
func RevisionName(m *v1alpha1.MeshInstallation, v *semver.Version) string {
	if m.Spec.Upgrade.Type == v1alpha1.UpgradeInPlace {
		return version.DefaultRevisionName
	}
	name := version.RevisionName(v)
	if m.Spec.Upgrade.Canary.RevisionFor == v1alpha1.RevisionForAnyChange {
		name += "-" + inputsHash(m)
	}
	return name
}

// inputsHash tells the configurations of one version apart.
func inputsHash(m *v1alpha1.MeshInstallation) string {
	raw, err := json.Marshal(map[string]any{"images": m.Spec.Images, "controlPlane": m.Spec.ControlPlane})
	if err != nil {
		return "invalid" // the API server keeps no such object
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:4])
}

// Installation checks an installation. Errors name field and remedy; warnings are what a user probably did not mean.
func Installation(m *v1alpha1.MeshInstallation, f Facts) (errs field.ErrorList, warnings []string) {
	spec := field.NewPath("spec")
	target, err := Target(m, f)
	if err != nil {
		errs = append(errs, field.Invalid(spec.Child("version"), m.Spec.Version, err.Error()))
	} else if f.Installed == nil || !f.Installed.Equal(target) {
		// Gates judge new targets only: what is installed is kept, whatever happened beneath it.
		moreErrs, moreWarnings := newTarget(m, target, f)
		errs, warnings = append(errs, moreErrs...), append(warnings, moreWarnings...)
		if err := Move(m, target, f); err != nil {
			detail := fmt.Sprintf("%v; or set spec.upgrade.versionSkew to Accept", err)
			errs = append(errs, field.Invalid(spec.Child("version"), m.Spec.Version, detail))
		}
	}
	wrong := course(m)
	if len(wrong) == 0 {
		warnings = append(warnings, unasked(m)...)
	}
	errs = append(errs, wrong...)
	errs = append(errs, rotationRules(m)...)
	errs = append(errs, shared(m, target, f)...)
	errs = append(errs, droppedTags(m, f)...)
	if m.Spec.DataPlane.NamespaceSelector != nil {
		if _, err := metav1.LabelSelectorAsSelector(m.Spec.DataPlane.NamespaceSelector); err != nil {
			path := spec.Child("dataPlane", "namespaceSelector")
			errs = append(errs, field.Invalid(path, m.Spec.DataPlane.NamespaceSelector, err.Error()))
		}
	}
	moreErrs, moreWarnings := values(m, target, f)
	errs, warnings = append(errs, moreErrs...), append(warnings, moreWarnings...)
	for _, rules := range []func(*v1alpha1.MeshInstallation, Facts) (field.ErrorList, []string){gateways, judgement} {
		moreErrs, moreWarnings := rules(m, f)
		errs, warnings = append(errs, moreErrs...), append(warnings, moreWarnings...)
	}
	return errs, warnings
}

// Supported says whether the version that an installation means and that is not installed supports this Kubernetes, or need not. The error is a
// [*version.UnsupportedKubernetesError].
func Supported(m *v1alpha1.MeshInstallation, f Facts) error {
	target, err := Target(m, f)
	if err != nil || f.Installed != nil && f.Installed.Equal(target) || m.Spec.Upgrade.UnsupportedKubernetes == v1alpha1.UnsupportedKubernetesAccept {
		return nil //nolint:nilerr // what version is meant is another question
	}
	line, known := f.Lines[version.LineOf(target)]
	if !known {
		return nil
	}
	return version.CheckKubernetes(line, f.Kubernetes)
}

func newTarget(m *v1alpha1.MeshInstallation, target *semver.Version, f Facts) (errs field.ErrorList, warnings []string) {
	path := field.NewPath("spec", "version")
	line, known := f.Lines[version.LineOf(target)]
	if !known {
		return nil, []string{fmt.Sprintf("%s: nothing is known of Istio %s: its Kubernetes range and end of life are not checked", path, version.LineOf(target))}
	}
	if err := Supported(m, f); err != nil {
		detail := fmt.Sprintf("%v: choose a version that supports it, or set spec.upgrade.unsupportedKubernetes to Accept", err)
		errs = append(errs, field.Invalid(path, m.Spec.Version, detail))
	} else if err := version.CheckKubernetes(line, f.Kubernetes); err != nil {
		warnings = append(warnings, fmt.Sprintf("%s: %v", path, err))
	}
	if why, bad := line.KnownBad[target.String()]; bad {
		errs = append(errs, field.Invalid(path, m.Spec.Version, fmt.Sprintf("Istio %s should not be installed: %s", target, why)))
	}
	if version.Ended(line, f.Now) {
		about := ""
		if line.Approximate {
			about = "about "
		}
		warnings = append(warnings, fmt.Sprintf("%s: support of Istio %s ended %s%s", path, line.Name, about, line.EndOfLife.Format(time.DateOnly)))
	}
	return errs, warnings
}

// elder says whether another installation was there first: what exists once is its. One that is only being created has no
// time yet.
func elder(other, m *v1alpha1.MeshInstallation) bool {
	switch {
	case other.CreationTimestamp.IsZero():
		return false
	case m.CreationTimestamp.IsZero(), other.CreationTimestamp.Before(&m.CreationTimestamp):
		return true
	}
	return other.CreationTimestamp.Equal(&m.CreationTimestamp) && other.Name < m.Name
}

// shared checks what exists once in a cluster against the installations that were there first: a mistake in a new one must
// not hurt a mesh that serves.
func shared(m *v1alpha1.MeshInstallation, target *semver.Version, f Facts) (errs field.ErrorList) {
	spec := field.NewPath("spec")
	for i, tag := range m.Spec.Tags {
		if target != nil && tag.Name == RevisionName(m, target) {
			detail := "is the name of the revision itself, which can be used without a tag: choose another name"
			errs = append(errs, field.Invalid(spec.Child("tags").Index(i).Child("name"), tag.Name, detail))
		}
	}
	for i := range f.Installations {
		if other := &f.Installations[i]; other.Name != m.Name && elder(other, m) {
			errs = append(errs, overlap(m, other, target, f)...)
		}
	}
	return errs
}

// overlap is what an installation claims that another one has.
func overlap(m, other *v1alpha1.MeshInstallation, target *semver.Version, f Facts) (errs field.ErrorList) {
	spec := field.NewPath("spec")
	taken := func(path *field.Path, value any, what, remedy string) {
		detail := fmt.Sprintf("%s belongs to MeshInstallation %s: %s", what, other.Name, remedy)
		errs = append(errs, field.Invalid(path, value, detail))
	}
	if other.Spec.Namespace == m.Spec.Namespace {
		taken(spec.Child("namespace"), m.Spec.Namespace, "the namespace", "choose another one")
	}
	if claims(m) && claims(other) {
		taken(spec.Child("defaultRevision"), m.Spec.DefaultRevision, "the default revision", "set defaultRevision to Leave here or there")
	}
	theirRevision := revisionOf(other, f)
	for i, tag := range m.Spec.Tags {
		path := spec.Child("tags").Index(i).Child("name")
		if slices.Contains(other.Spec.Tags, tag) {
			taken(path, tag.Name, "the tag", "choose another name")
		}
		if tag.Name == theirRevision {
			taken(path, tag.Name, "the revision of that name", "choose another name")
		}
	}
	if target != nil && RevisionName(m, target) == theirRevision {
		taken(spec.Child("version"), m.Spec.Version, "the revision "+RevisionName(m, target), "choose another version")
	}
	for i, g := range m.Spec.Gateways {
		if slices.ContainsFunc(other.Spec.Gateways, func(theirs v1alpha1.Gateway) bool { return g.Name == theirs.Name && g.Namespace == theirs.Namespace }) {
			taken(spec.Child("gateways").Index(i), g.Namespace+"/"+g.Name, "the gateway", "choose another name")
		}
	}
	return errs
}

// tagObjects is how the webhook of a revision tag begins, before the tag's name.
const tagObjects = "istio-revision-tag-"

// droppedTags refuses to take away a tag that namespaces name: their new pods would get no sidecar, without a word.
func droppedTags(m *v1alpha1.MeshInstallation, f Facts) (errs field.ErrorList) {
	spec := field.NewPath("spec")
	for _, item := range m.Status.Inventory {
		tag, isTag := strings.CutPrefix(item.Name, tagObjects)
		if !isTag || item.Kind != "MutatingWebhookConfiguration" || len(f.TagUsers[tag]) == 0 {
			continue
		}
		who := f.TagUsers[tag]
		detail := fmt.Sprintf("namespace %s and %d more name it: label them otherwise first", who[0], len(who)-1)
		if len(who) == 1 {
			detail = fmt.Sprintf("namespace %s names it: label it otherwise first", who[0])
		}
		switch {
		case tag == version.DefaultRevisionName && !claims(m):
			errs = append(errs, field.Invalid(spec.Child("defaultRevision"), m.Spec.DefaultRevision, "the default revision is in use: "+detail))
		case tag != version.DefaultRevisionName && !slices.ContainsFunc(m.Spec.Tags, func(t v1alpha1.Tag) bool { return t.Name == tag }):
			errs = append(errs, field.Invalid(spec.Child("tags"), tag, "the tag is in use and can't be taken away: "+detail))
		}
	}
	return errs
}

func claims(m *v1alpha1.MeshInstallation) bool {
	return m.Spec.DefaultRevision != v1alpha1.DefaultRevisionLeave
}

// revisionOf is the revision that another installation has or is about to have.
func revisionOf(other *v1alpha1.MeshInstallation, f Facts) string {
	if other.Status.StableRevision != "" {
		return other.Status.StableRevision
	}
	theirs := f
	theirs.Installed = nil
	v, err := Target(other, theirs)
	if err != nil {
		return ""
	}
	return RevisionName(other, v)
}

func gateways(m *v1alpha1.MeshInstallation, f Facts) (errs field.ErrorList, warnings []string) {
	for i, g := range m.Spec.Gateways {
		path := field.NewPath("spec", "gateways").Index(i)
		if strings.HasPrefix(g.Namespace, "kube-") {
			errs = append(errs, field.Invalid(path.Child("namespace"), g.Namespace, "belongs to Kubernetes: choose a namespace of the gateway's own"))
		}
		if g.Namespace == m.Spec.Namespace {
			errs = append(errs, field.Invalid(path.Child("namespace"), g.Namespace, "is that of the control plane: choose a namespace of the gateway's own"))
		}
		for _, there := range f.Gateways {
			if there.Name == g.Name && there.Namespace == g.Namespace && !Written(&there) {
				errs = append(errs, field.Invalid(path, g.Namespace+"/"+g.Name, "a MeshGateway of that name was written by somebody else: choose another name"))
			}
		}
		decoded, err := v1alpha1.DecodeMap(g.Values)
		if err != nil {
			continue // said already
		}
		moreErrs, moreWarnings := shiftRules(shifted{path.Child("shift"), path.Child("values"), g.Shift, decoded, g.Namespace}, f)
		errs, warnings = append(errs, moreErrs...), append(warnings, moreWarnings...)
	}
	return errs, warnings
}

// Written says whether a MeshGateway was written by the installation controller.
func Written(g *v1alpha1.MeshGateway) bool {
	for _, entry := range g.ManagedFields {
		if entry.Manager == v1alpha1.ManagerInstallation && entry.Operation == metav1.ManagedFieldsOperationApply {
			return true
		}
	}
	return false
}
