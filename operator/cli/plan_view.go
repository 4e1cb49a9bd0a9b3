// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/plan"
	"github.com/meshwright/meshwright/operator/preflight"
	"github.com/meshwright/meshwright/operator/rollout"
)

// SchemaVersion is the apiVersion of what commands print by -o json and yaml, where it is no object of the API.
const SchemaVersion = "cli.meshwright.io/v1alpha1"

// MeshPlan is what Meshwright would do with a mesh, as kubectl mesh plan -o json has it.
type MeshPlan struct {
	metav1.TypeMeta `json:",inline"`
	// Mesh is the name of the MeshInstallation.
	Mesh string `json:"mesh"`
	// Result: NothingToDo, Changes or Blocked; the exit code says the same (0, 2, 3).
	Result PlanResult `json:"result"`
	// Move: Install, None, Configure (where the control plane stands) or RollOut; empty when the spec is refused.
	Move string `json:"move,omitempty"`
	// From and To are the revisions; absent where there is none.
	From *PlanSide `json:"from,omitempty"`
	To   *PlanSide `json:"to,omitempty"`
	// Waits says what is under way or stands in the way, and what becomes of it.
	Waits string `json:"waits,omitempty"`
	// Steps of the rollout.
	Steps []PlanStep `json:"steps,omitempty"`
	// Objects that are created, changed or removed.
	Objects []PlanObject `json:"objects,omitempty"`
	// Findings of preflight; they need a cluster.
	Findings []FindingView `json:"findings,omitempty"`
	// Problems are why the spec is refused.
	Problems []string `json:"problems,omitempty"`
	// Warnings are what was probably not meant.
	Warnings []string `json:"warnings,omitempty"`
}

// PlanResult is what a plan comes to.
type PlanResult string

// The results.
const (
	PlanNothing PlanResult = "NothingToDo"
	PlanChanges PlanResult = "Changes"
	PlanBlocked PlanResult = "Blocked"
)

// PlanSide is a revision.
type PlanSide struct {
	Revision string `json:"revision"`
	Version  string `json:"version"`
}

// PlanStep is a step of a rollout.
type PlanStep struct {
	// Name and Type as in the MeshRollout.
	Name string `json:"name"`
	Type string `json:"type"`
	// Does says what the step does.
	Does string `json:"does"`
}

// PlanObject is an object that is created, changed or removed.
type PlanObject struct {
	// Action: Create, Change or Remove (when nothing uses the old revision any more).
	Action string `json:"action"`
	// ObjectKind, Namespace and Name of the object.
	ObjectKind string `json:"kind"`
	Namespace  string `json:"namespace,omitempty"`
	Name       string `json:"name"`
	// Beside is the object of the old revision that it was compared with.
	Beside string `json:"beside,omitempty"`
	// Added and Removed count lines that differ.
	Added   int `json:"added"`
	Removed int `json:"removed"`
	// Diff is the unified diff, with --diff.
	Diff string `json:"diff,omitempty"`
}

func viewOfPlan(wanted *v1alpha1.MeshInstallation, p *plan.Plan, findings []FindingView, withDiff bool) *MeshPlan {
	out := &MeshPlan{
		TypeMeta: metav1.TypeMeta{APIVersion: SchemaVersion, Kind: "MeshPlan"}, Mesh: wanted.Name, Move: string(p.Move), Waits: p.Waits,
		From: planSide(p.From), To: planSide(p.To), Problems: sentences(p.Problems), Warnings: p.Warnings, Result: PlanNothing,
	}
	for _, s := range p.Steps {
		out.Steps = append(out.Steps, PlanStep{Name: s.Name, Type: string(s.Type), Does: stepDoes(s)})
	}
	for _, o := range p.Objects {
		seen := PlanObject{
			Action: string(o.Action), ObjectKind: o.Kind, Namespace: o.Namespace, Name: o.Name, Beside: o.Beside, Added: o.Added, Removed: o.Removed,
		}
		if withDiff {
			seen.Diff = o.Diff
		}
		out.Objects = append(out.Objects, seen)
	}
	if p.Changes() {
		out.Result = PlanChanges
	}
	held := len(p.Problems) > 0 || p.Held
	if p.Move == rollout.MoveRollOut {
		out.Findings = findings
		for _, f := range findings {
			held = held || f.Severity == preflight.SeverityError && !f.Acknowledged
		}
	}
	if held {
		out.Result = PlanBlocked
	}
	return out
}

// severity as people read it.
func (f FindingView) severity() string {
	if f.Acknowledged {
		return "Acknowledged"
	}
	return string(f.Severity)
}

// exit is the exit code of a plan that was printed.
func (p *MeshPlan) exit() error {
	switch p.Result {
	case PlanChanges:
		return &exitError{code: ExitChanges}
	case PlanBlocked:
		return &exitError{code: ExitBlocked}
	case PlanNothing:
	}
	return nil
}

func planSide(r *v1alpha1.RolloutRevision) *PlanSide {
	if r == nil {
		return nil
	}
	return &PlanSide{Revision: r.Revision, Version: r.Version}
}

func sentences(problems field.ErrorList) (out []string) {
	for _, p := range problems {
		out = append(out, p.Error())
	}
	return out
}

// stepDoes says what a step does.
func stepDoes(s v1alpha1.RolloutStep) string {
	switch {
	case s.GatewayWeight != nil:
		return fmt.Sprintf("%d%% of what the gateways newly open goes to the new version%s", s.GatewayWeight.Percent, baked(s.GatewayWeight.BakeSeconds))
	case s.Analysis != nil:
		return "gates judge the new version: " + strings.Join(s.Analysis.Gates, ", ")
	case s.Type == v1alpha1.StepPromote:
		return "the default revision and the tags follow, then the namespaces that follow these"
	case s.DataPlane != nil:
		return fmt.Sprintf("%d%% of wave %s is restarted%s", s.DataPlane.Percent, s.DataPlane.Wave, baked(s.DataPlane.BakeSeconds))
	case s.Pause != nil:
		return fmt.Sprintf("waits for %d s", s.Pause.DurationSeconds)
	}
	return "waits for an approval"
}

func baked(seconds int32) string {
	if seconds == 0 {
		return ""
	}
	return fmt.Sprintf(", and is watched for %d s", seconds)
}

// print writes the plan for people, or in a format.
func (o *planOptions) print(p *MeshPlan) error {
	switch o.output.format {
	case outputText:
		return p.write(o.Out)
	case outputName:
		for _, object := range p.Objects {
			if _, err := fmt.Fprintln(o.Out, strings.ToLower(object.ObjectKind)+"/"+object.Name); err != nil {
				return err
			}
		}
		return nil
	}
	return encode(o.Out, o.output.format, p)
}

// write is the plan for people.
func (p *MeshPlan) write(to io.Writer) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0) //nolint:mnd // two spaces between columns
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) }
	say("%s", p.headline())
	if p.Waits != "" {
		say("%s.", p.Waits)
	}
	for _, text := range p.Problems {
		say("  refused: %s", text)
	}
	for _, text := range p.Warnings {
		say("  warning: %s", text)
	}
	if len(p.Steps) > 0 {
		say("\nSteps")
		for i, s := range p.Steps {
			say("  %d\t%s\t%s\t%s", i+1, s.Name, s.Type, s.Does)
		}
		_ = w.Flush()
	}
	if len(p.Findings) > 0 {
		say("\nFindings")
		for _, f := range p.Findings {
			say("  %s\t%s\t%s\t%s", f.severity(), f.Code, f.Object, f.Why)
		}
		_ = w.Flush()
	}
	if len(p.Objects) > 0 {
		say("\nObjects")
		p.writeObjects(say)
		_ = w.Flush()
	}
	say("\n%s", p.summary())
	return w.Flush()
}

// signs of the actions, as diffs have them.
var signs = map[string]string{string(plan.Create): "+", string(plan.Change): "~", string(plan.Remove): "-"}

// writeObjects lists what differs; what is long or the same is counted, and listed by -o name and json.
func (p *MeshPlan) writeObjects(say func(string, ...any)) {
	crds, same, gone := map[string]int{}, 0, 0
	var shown []PlanObject
	for _, o := range p.Objects {
		switch {
		case o.ObjectKind == "CustomResourceDefinition":
			crds[o.Action]++
		case o.Beside != "" && o.Added+o.Removed == 0:
			same++
		case o.Action == string(plan.Remove) && p.Move == string(rollout.MoveRollOut):
			gone++
		default:
			shown = append(shown, o)
		}
	}
	for _, action := range []plan.Action{plan.Create, plan.Change, plan.Remove} {
		if n := crds[string(action)]; n > 0 {
			say("  %s\tCustomResourceDefinition\t%d of Istio's", signs[string(action)], n)
		}
	}
	for _, o := range shown {
		name := o.Name
		if o.Namespace != "" {
			name = o.Namespace + "/" + o.Name
		}
		var about []string
		if o.Beside != "" {
			about = append(about, "beside "+o.Beside)
		}
		if o.Added+o.Removed > 0 {
			about = append(about, fmt.Sprintf("+%d -%d lines", o.Added, o.Removed))
		}
		say("  %s\t%s\t%s\t%s", signs[o.Action], o.ObjectKind, name, strings.Join(about, ", "))
		for line := range strings.Lines(o.Diff) {
			say("      %s", strings.TrimSuffix(line, "\n"))
		}
	}
	if same > 0 {
		say("  %s\t%d more\tthe same as those of revision %s, but for its name", signs[string(plan.Create)], same, p.From.Revision)
	}
	if gone > 0 {
		say("  %s\t%d objects\tof revision %s, when nothing uses it any more", signs[string(plan.Remove)], gone, p.From.Revision)
	}
}

func (p *MeshPlan) headline() string {
	side := func(s *PlanSide) string { return fmt.Sprintf("Istio %s (revision %s)", s.Version, s.Revision) }
	head := "MeshInstallation " + p.Mesh + ": "
	switch rollout.Move(p.Move) {
	case rollout.MoveInstall:
		return head + "installs " + side(p.To)
	case rollout.MoveRollOut:
		return head + "moves from " + side(p.From) + " to " + side(p.To) + " by a rollout"
	case rollout.MoveConfigure:
		return head + "configures " + side(p.To) + " anew, where it stands"
	case rollout.MoveNone:
		return head + "stays at " + side(p.To)
	}
	return head + "the spec is refused, and what serves goes on"
}

func (p *MeshPlan) summary() string {
	counts := map[string]int{}
	for _, o := range p.Objects {
		counts[o.Action]++
	}
	about := fmt.Sprintf("%d objects to create, %d to change, %d to remove at last", counts[string(plan.Create)], counts[string(plan.Change)], counts[string(plan.Remove)])
	switch p.Result {
	case PlanNothing:
		return "Nothing to do."
	case PlanChanges:
		return "Changes: " + about + "."
	case PlanBlocked:
	}
	return "Blocked: see above. Otherwise " + about + "."
}
