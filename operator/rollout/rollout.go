// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package rollout decides how a mesh moves from one revision to another. It is pure: from a frozen plan, the verbs of people,
// the progress so far, an observation of the cluster and the time it makes one decision of a closed set, which explains itself.
//
//   - plan.go computes a plan from an installation, and says what a changed installation means for a rollout under way.
//   - decide.go walks: forward through the steps of the plan (steps.go), or back through those that were reached (back.go), until
//     a revision is retired (end.go). clock.go counts the time without progress.
//   - wants.go says what a step wants of a namespace, of the default revision and of the tags, weights.go what it wants of a gateway. Other
//     controllers make it true.
//   - gates.go says which gates judge, and waits for them.
//   - waves.go counts workloads, and chooses those that may be restarted next.
//   - windows.go says when a maintenance window is open.
//
// Nothing here reads a cluster or a clock, or writes a log.
package rollout

import (
	"time"

	"github.com/meshwright/meshwright/operator/analysis"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// Answer is what is known of a question about the cluster. Unknown is never taken for a yes.
type Answer int8

// The values of Answer.
const (
	Unknown Answer = iota
	No
	Yes
)

// Observation is what the cluster looks like.
type Observation struct {
	// Granted says that the rollout is the active operation of its mesh.
	Granted bool
	// Paused is spec.paused of the installation.
	Paused bool
	// Superseded says that the installation wants something else by now, which waits for this rollout to end: the old revision is
	// not kept longer than it is used.
	Superseded bool
	// From and To are the two control planes.
	From, To ControlPlane
	// Proofs that the canary has to give before anything moves, and an istiod that is replaced in place each time before something moves.
	Proofs map[v1alpha1.Proof]Evidence
	// Waves by name, counted towards the revision that the rollout moves to at present.
	Waves map[string]Wave
	// Gateways that follow the mesh, in the order of their names; nil while they are not known.
	Gateways []Gateway
	// Measured is the last measurement of each gate.
	Measured map[string]analysis.Measurement
	// Promoted says whether the default revision, the tags and the gateways are at To.
	Promoted Evidence
	// UseOfFrom and UseOfTo are what refers to the revisions.
	UseOfFrom, UseOfTo Use
}

// ControlPlane is one revision as it is.
type ControlPlane struct {
	// Exists says that there is a MeshRevision with the inputs of the plan; Leaving that it is being removed.
	Exists, Leaving bool
	// Ready says that its newest spec serves; Problem why it does not.
	Ready   bool
	Problem string
}

// Evidence is an answer and its reason.
type Evidence struct {
	Answer Answer
	// Why is a sentence: what was seen, or why nothing could be seen, with the remedy.
	Why string
}

// Use is what refers to a revision.
type Use struct {
	// Known says that By is complete. Unknown counts as in use. Pending says that it is being asked for: the operator has just
	// started.
	Known, Pending bool
	// By names what refers to it, or why that is not known.
	By string
}

// Decision is what is to be done now.
type Decision struct {
	Act v1alpha1.RolloutAct
	// Reason of the closed list of the API.
	Reason string
	// Note is a sentence for people.
	Note string
	// Until is when a wait ends by itself; zero where that is not known.
	Until time.Time
	// Moving says that workloads may be restarted.
	Moving bool
	// Left says of steps that were left with this decision what they came to, by their index.
	Left map[int]string
	// Progress to keep.
	Progress v1alpha1.RolloutProgress

	// ticks says that the clock of the progress deadline runs.
	ticks bool
}

// Refresh says whether a plan moves proxies only: the control plane stays as it is.
func Refresh(plan *v1alpha1.RolloutPlan) bool {
	return inPlace(plan) && plan.From.InputsDigest == plan.To.InputsDigest
}

// Reconnects says whether the step that a rollout is at moves something under an istiod that was replaced in place.
func Reconnects(plan *v1alpha1.RolloutPlan, p v1alpha1.RolloutProgress) bool {
	return inPlace(plan) && p.Proven != nil && p.Step >= 0 && int(p.Step) < len(plan.Steps) && plan.Steps[p.Step].Type != v1alpha1.StepPause
}

// inPlace says whether both sides of a plan are one revision.
func inPlace(plan *v1alpha1.RolloutPlan) bool { return plan.From.Revision == plan.To.Revision }
