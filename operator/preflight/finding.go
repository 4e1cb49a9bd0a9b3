// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"cmp"
	"slices"
	"strings"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// Object is what a finding is about. Namespace is empty for what has none.
type Object struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

// String is how the object is named: EnvoyFilter/shop/headers, Namespace/shop.
func (o Object) String() string {
	if o.Namespace == "" {
		return o.Kind + "/" + o.Name
	}
	return o.Kind + "/" + o.Namespace + "/" + o.Name
}

// Finding is one thing that the upgrade would meet.
type Finding struct {
	Code     Code     `json:"code"`
	Severity Severity `json:"severity"`
	Object   Object   `json:"object"`
	// Why says what was found.
	Why string `json:"why"`
	// Remedy says what to do about it.
	Remedy string `json:"remedy"`
	// Acknowledged says that it would hold the rollout back, and that spec.upgrade.acknowledged names it.
	Acknowledged bool `json:"acknowledged,omitempty"`
}

// Runbook is the page about the finding.
func (f Finding) Runbook() string { return v1alpha1.Runbook(string(f.Code)) }

// Name is how a plan has the finding, and how it is acknowledged: by its object, with all that is found of that. The mesh is one object
// of which all sorts of things are found, also later: there it is each thing by its code.
func (f Finding) Name() string {
	if f.Object.Kind == meshKind {
		return f.coded()
	}
	return f.Object.String()
}

// coded names this finding alone: MW103/EnvoyFilter/shop/headers.
func (f Finding) coded() string { return string(f.Code) + "/" + f.Object.String() }

// meshKind is the kind of the object that stands for the mesh.
const meshKind = "MeshInstallation"

// Holds says whether the finding holds a rollout back.
func (f Finding) Holds() bool { return f.Severity == SeverityError && !f.Acknowledged }

// found makes a finding, as grave as the catalogue has it.
func found(c Code, o Object, why, remedy string) Finding {
	info, _ := InfoOf(c)
	return Finding{Code: c, Severity: info.Severity, Object: o, Why: why, Remedy: remedy}
}

// as makes a finding less grave than the catalogue has it.
func (f Finding) as(s Severity) Finding {
	f.Severity = s
	return f
}

// Acknowledge marks the errors that are among names, by code and object or by the object alone, as [Finding.Name] has them.
func Acknowledge(all []Finding, names []string) {
	for i := range all {
		f := &all[i]
		f.Acknowledged = f.Severity == SeverityError && (slices.Contains(names, f.Name()) || slices.Contains(names, f.coded()))
	}
}

// Sort orders findings by severity, object, code and words.
func Sort(all []Finding) {
	slices.SortFunc(all, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Severity.rank(), b.Severity.rank()), strings.Compare(a.Object.String(), b.Object.String()),
			strings.Compare(string(a.Code), string(b.Code)), strings.Compare(a.Why, b.Why))
	})
}
