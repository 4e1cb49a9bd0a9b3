// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

func newHistory(f *factory) *cobra.Command {
	mesh := ""
	var out *output
	cmd := &cobra.Command{
		Use:   "history [MESH|NAME]",
		Short: "List the rollouts and rotations of a mesh, or tell the story of one",
		Long: `List the rollouts and the rotations of a mesh, the newest first: from what, to what, what became of it, when, how long it took, and who approved what.

With the name of one, its whole story: steps and their times, what the gates said, approvals and waivers, why it failed, and its events, as long as the API
server keeps them.`,
		Example: example(
			"kubectl mesh history",
			"kubectl mesh history default-8",
			"kubectl mesh history -o json | jq -r '.operations[].outcome'",
		),
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: first(f.live(operationNames)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && mesh != "" {
				return usagef("--mesh %s says nothing beside %s: leave out --mesh for what %[2]s names, or %[2]s for all operations of the mesh", mesh, args[0])
			}
			if err := out.check(); err != nil {
				return err
			}
			c, err := f.Client()
			if err != nil {
				return err
			}
			return f.history(cmd.Context(), c, out, cmp.Or(strings.Join(args, ""), mesh))
		},
	}
	out = addOutput(cmd)
	f.addMesh(cmd, &mesh)
	return cmd
}

func (f *factory) history(ctx context.Context, c client.Client, out *output, name string) error {
	one, err := f.operationNamed(ctx, c, name)
	if err != nil {
		return err
	}
	if one.object() != nil {
		return f.story(ctx, c, out, one)
	}
	s, err := f.take(ctx, c, name)
	if err != nil {
		return err
	}
	now := f.Clock.Now()
	view := &MeshHistory{TypeMeta: viewOf("MeshHistory"), Name: s.mesh.Name, Operations: []OperationView{}, Unreadable: s.unreadable}
	for i := range s.rollouts {
		view.Operations = append(view.Operations, operationView(operation{rollout: &s.rollouts[i]}, now))
	}
	for i := range s.rotations {
		view.Operations = append(view.Operations, operationView(operation{rotation: &s.rotations[i]}, now))
	}
	slices.SortStableFunc(view.Operations, func(a, b OperationView) int { return b.Started.Compare(a.Started.Time) })
	var names []string
	for _, o := range view.Operations {
		names = append(names, nameOf(o.Kind, o.Name))
	}
	return f.view(out, view, names, func(p *page, wide bool) { view.says(p, now, wide) })
}

// operationNamed is the rollout or the rotation of a name, unless a mesh has it; empty for none.
func (f *factory) operationNamed(ctx context.Context, c client.Reader, name string) (operation, error) {
	if name == "" {
		return operation{}, nil
	}
	err := c.Get(ctx, client.ObjectKey{Name: name}, &v1alpha1.MeshInstallation{})
	if !apierrors.IsNotFound(err) {
		return operation{}, explain(err)
	}
	rollout := &v1alpha1.MeshRollout{}
	if err := c.Get(ctx, client.ObjectKey{Name: name}, rollout); err == nil {
		return operation{rollout: rollout}, nil
	}
	rotation := &v1alpha1.MeshRotation{}
	if err := c.Get(ctx, client.ObjectKey{Name: name}, rotation); err == nil {
		return operation{rotation: rotation}, nil
	}
	return operation{}, nil
}

// story is all that there is to say of one operation.
func (f *factory) story(ctx context.Context, c client.Reader, out *output, o operation) error {
	now := f.Clock.Now()
	view := &MeshOperation{TypeMeta: viewOf("MeshOperation"), Operation: operationView(o, now)}
	if o.rollout != nil {
		view.Rollout = rolloutView(o.rollout)
		for _, w := range o.rollout.Spec.Waivers {
			view.Waivers = append(view.Waivers, WaiverView{Of: string(w.Proof), By: w.By, Expires: w.Expires})
		}
	} else {
		view.Rotation = rotationView(o.rotation)
		for _, w := range o.rotation.Spec.Waivers {
			view.Waivers = append(view.Waivers, WaiverView{Of: w.Proxy, By: w.By, Expires: w.Expires})
		}
	}
	var events eventsv1.EventList
	err := c.List(ctx, &events, client.InNamespace(metav1.NamespaceDefault))
	switch {
	case apierrors.IsForbidden(err):
		view.Unreadable = append(view.Unreadable, "events of namespace default: you may not list them")
	case err != nil:
		return explain(err)
	}
	for i := range events.Items {
		e := &events.Items[i]
		if e.Regarding.Kind == o.kind() && e.Regarding.Name == o.object().GetName() {
			view.Events = append(view.Events, EventView{At: eventTime(e), Type: e.Type, Reason: e.Reason, Message: e.Note})
		}
	}
	slices.SortStableFunc(view.Events, func(a, b EventView) int { return a.At.Compare(b.At.Time) })
	return f.view(out, view, []string{nameOf(o.kind(), o.object().GetName())}, func(p *page, _ bool) { view.says(p, now) })
}

// eventTime is when an event was seen last.
func eventTime(e *eventsv1.Event) metav1.Time {
	switch {
	case e.Series != nil:
		return metav1.NewTime(e.Series.LastObservedTime.Time)
	case !e.EventTime.IsZero():
		return metav1.NewTime(e.EventTime.Time)
	}
	return e.DeprecatedLastTimestamp
}

func (h *MeshHistory) says(p *page, now time.Time, wide bool) {
	if len(h.Operations) == 0 {
		p.line(say("mesh " + h.Name + " has no rollouts or rotations yet"))
		saysUnreadable(p, h.Unreadable)
		return
	}
	heading := []string{"NAME", "KIND", "FROM", "TO", "OUTCOME", "STARTED", "TOOK", "APPROVED BY"}
	if wide {
		heading = append(heading, "MESSAGE")
	}
	var rows [][]cell
	for _, o := range h.Operations {
		var by []string
		for _, a := range o.Approvals {
			by = append(by, a.By+" ("+a.Step+")")
		}
		from, to := o.From, o.To
		if o.Kind == rotationKind {
			from, to = short(from), short(to)
		}
		row := []cell{
			say(o.Name), say(o.Kind), say(cmp.Or(from, "-")), say(cmp.Or(to, "-")),
			{o.Outcome, styleOf(o.Outcome)},
			say(clockOf(o.Started, now)), say(seconds(o.Seconds)), say(cmp.Or(strings.Join(by, ", "), "-")),
		}
		if wide {
			row = append(row, say(o.Message))
		}
		rows = append(rows, row)
	}
	p.table(heading, rows)
	saysUnreadable(p, h.Unreadable)
}

func seconds(n int64) string { return duration.HumanDuration(time.Duration(n) * time.Second) }

func (v *MeshOperation) says(p *page, now time.Time) {
	o := v.Operation
	p.line(cell{o.Kind + " " + o.Name, bold}, say("  "), cell{o.Outcome, styleOf(o.Outcome)}, say("  "+o.State))
	p.row("", "", nil, []cell{say(o.Message)})
	root := &branch{}
	times := root.add(cell{"times", bold})
	times.add(say("started"), say(clockOf(o.Started, now)))
	if o.Ended != nil {
		times.add(say("ended"), say(clockOf(*o.Ended, now)))
	}
	times.add(say("took"), say(seconds(o.Seconds)))
	if r := v.Rollout; r != nil {
		r.branches(root.add(cell{"rollout", bold}, say(r.From+" ("+r.FromVersion+") -> "+r.To+" ("+r.ToVersion+")")), now)
	}
	if r := v.Rotation; r != nil {
		(&CertificatesView{Rotation: r}).branches(root, now)
	}
	if len(o.Approvals) > 0 {
		b := root.add(cell{"approvals", bold})
		for _, a := range o.Approvals {
			at := ""
			if a.At != nil {
				at = clockOf(*a.At, now)
			}
			b.add(say(a.Step), say("by "+a.By), say(at))
		}
	}
	if len(v.Waivers) > 0 {
		b := root.add(cell{"waivers", bold})
		for _, w := range v.Waivers {
			b.add(say(w.Of), say("by "+w.By), say("until "+clockOf(w.Expires, now)))
		}
	}
	if len(v.Events) > 0 {
		b := root.add(cell{"events", bold})
		for _, e := range v.Events {
			look := plain
			if e.Type != "Normal" {
				look = warn
			}
			b.add(say(clockOf(e.At, now)), cell{e.Reason, look}, say(e.Message))
		}
	}
	p.tree(root.below, "")
	saysUnreadable(p, v.Unreadable)
}
