// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/facts"
	"github.com/meshwright/meshwright/operator/preflight"
	"github.com/meshwright/meshwright/operator/validate"
)

// MeshPreflight is what an upgrade would meet, as kubectl mesh preflight -o json has it.
type MeshPreflight struct {
	metav1.TypeMeta `json:",inline"`
	// Name of the mesh; empty where Meshwright keeps none yet.
	Name string `json:"name,omitempty"`
	// From and To are versions of Istio.
	From string `json:"from"`
	To   string `json:"to"`
	// Holds says that something holds a rollout back; the exit code is 3 then.
	Holds bool `json:"holds"`
	// Unchecked is how many things could not be looked at (MW901): of these nothing is known.
	Unchecked int32 `json:"unchecked"`
	// Findings, the gravest first.
	Findings []FindingView `json:"findings"`
}

// FindingView is one thing that an upgrade would meet.
type FindingView struct {
	// Code has a page in the runbook.
	Code preflight.Code `json:"code"`
	// Severity: Error (it holds a rollout back unless it is acknowledged), Warning or Info.
	Severity preflight.Severity `json:"severity"`
	// Object that it is about: kind/namespace/name.
	Object string `json:"object"`
	// Name as it is acknowledged: the object, for the mesh with the code before it.
	Name string `json:"name"`
	// Why says what was found, and Remedy what to do.
	Why    string `json:"why"`
	Remedy string `json:"remedy"`
	// Acknowledged says that spec.upgrade.acknowledged names it.
	Acknowledged bool `json:"acknowledged,omitempty"`
	// Runbook is the page about the code.
	Runbook string `json:"runbook"`
}

// preflightOptions are the flags of preflight.
type preflightOptions struct {
	*factory

	to, from, failOn string
	charts           charts
	output           *output
}

func newPreflight(f *factory) *cobra.Command {
	o := &preflightOptions{factory: f}
	c := &cobra.Command{
		Use:   "preflight [MESH]",
		Short: "Say what an upgrade would meet in the cluster",
		Long: `Say what an upgrade would meet in the cluster: what it would break, what would break it, and what it can't move.

The target is what spec.version stands for, if that is not installed yet, else the newest of status.upgradeTargets. Where Meshwright keeps no mesh yet,
--to is needed, and what is installed is read from the images of istiod.

The exit code is 0 when nothing holds a rollout back, and 3 when something does. What you may not read is told as a finding.`,
		Example: example(
			"kubectl mesh preflight                           # of the newest version that the mesh could move to",
			"kubectl mesh preflight --to 1.29.1 -o wide       # with the remedies",
			"kubectl mesh preflight --fail-on warning -o json # in CI",
		),
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: first(f.live(meshNames)),
		RunE: func(c *cobra.Command, args []string) error {
			return o.run(c.Context(), strings.Join(args, ""))
		},
	}
	flags := c.Flags()
	flags.StringVar(&o.to, "to", "", "version to move to, such as 1.29.1")
	flags.StringVar(&o.from, "from", "", "version that is installed, where Meshwright does not keep it and no istiod tells")
	flags.StringVar(&o.failOn, "fail-on", "error", "least severity that fails: error, warning or info; what is acknowledged does not")
	o.charts.bind(flags)
	o.output = addOutput(c)
	mustComplete(c, "fail-on", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return []string{"error", "warning", "info"}, cobra.ShellCompDirectiveNoFileComp
	})
	mustComplete(c, "to", f.live(f.targetNames))
	mustComplete(c, "from", nothing)
	return c
}

func (o *preflightOptions) run(ctx context.Context, name string) error {
	if err := o.output.check(); err != nil {
		return err
	}
	i := slices.IndexFunc(preflight.Severities(), func(s preflight.Severity) bool { return strings.EqualFold(string(s), o.failOn) })
	if i < 0 {
		return usagef("--fail-on %s: choose error, warning or info", o.failOn)
	}
	least := preflight.Severities()[i]
	c, err := o.Client()
	if err != nil {
		return err
	}
	gatherer, err := o.gatherer(ctx)
	if err != nil {
		return err
	}
	inquiry, err := o.inquiry(ctx, c, gatherer, name)
	if err != nil {
		return err
	}
	all, err := gatherer.Check(ctx, c, inquiry)
	if err != nil {
		return explain(err)
	}
	view := viewOfPreflight(inquiry, all)
	var names []string
	for _, f := range view.Findings {
		names = append(names, f.Object)
	}
	if err := o.view(o.output, view, slices.Compact(names), func(p *page, wide bool) { view.say(p, wide) }); err != nil {
		return err
	}
	if slices.ContainsFunc(all, func(f preflight.Finding) bool { return !f.Acknowledged && f.Severity.AtLeast(least) }) {
		return &exitError{code: ExitBlocked}
	}
	return nil
}

// gatherer has the charts that are built in, and those of the flags.
func (o *preflightOptions) gatherer(ctx context.Context) (*facts.Gatherer, error) {
	library, catalogue, err := o.charts.open(ctx)
	if err != nil {
		return nil, err
	}
	_, kubernetes, err := o.kubernetesVersion()
	if err != nil {
		return nil, err
	}
	return &facts.Gatherer{Library: library, Catalogue: catalogue, Kubernetes: kubernetes, Clock: o.Clock}, nil
}

// inquiry says what is asked, of a mesh or, where Meshwright keeps none, of the Istio that is there.
func (o *preflightOptions) inquiry(ctx context.Context, c client.Client, g *facts.Gatherer, name string) (facts.Inquiry, error) {
	q := facts.Inquiry{Reviewer: c}
	var err error
	if g.Namespace, err = o.operatorNamespace(ctx, c); err != nil {
		return q, explain(err)
	}
	if q.Mesh, err = o.maybeMesh(ctx, c, name); err != nil {
		return q, err
	}
	if q.Mesh == nil {
		return q, o.withoutMesh(ctx, c, g, &q)
	}
	if q.From, err = semver.NewVersion(q.Mesh.Status.ResolvedVersion); err != nil {
		return q, usagef("mesh %s has nothing installed yet: there is no upgrade to look at", q.Mesh.Name)
	}
	revisions, err := facts.RevisionsOf(ctx, c, q.Mesh.Name)
	if err != nil && !apierrors.IsForbidden(err) {
		return q, explain(err)
	}
	if stable := facts.Stable(revisions, q.Mesh.Status.StableRevision); stable != nil { // the status says what is wanted, where that differs
		if q.From, err = semver.NewVersion(stable.Spec.Version); err != nil {
			return q, err
		}
	}
	if q.To, err = o.target(q.Mesh, validate.Facts{Available: g.Library.Versions(), Installed: q.From}); err != nil {
		return q, err
	}
	q.Mesh.Spec.Version = q.To.String()
	return q, nil
}

// maybeMesh is the mesh of a name, nil where no name is given and there is none to be found.
func (o *preflightOptions) maybeMesh(ctx context.Context, c client.Client, name string) (*v1alpha1.MeshInstallation, error) {
	if name != "" {
		return o.Mesh(ctx, c, name)
	}
	var all v1alpha1.MeshInstallationList
	err := c.List(ctx, &all)
	if apimeta.IsNoMatchError(err) || apierrors.IsNotFound(err) || err == nil && len(all.Items) == 0 {
		return nil, nil
	}
	return o.Mesh(ctx, c, name)
}

func (o *preflightOptions) withoutMesh(ctx context.Context, c client.Client, g *facts.Gatherer, q *facts.Inquiry) error {
	if o.to == "" {
		return usagef("Meshwright keeps no mesh here: say by --to which version to look at")
	}
	var err error
	if q.To, err = versionOf("--to", o.to); err != nil {
		return err
	}
	if !slices.ContainsFunc(g.Library.Versions(), q.To.Equal) {
		return usagef("--to %s: there are no charts of it; name more by --bundle-folder or --bundle-registry", q.To)
	}
	installed, namespace, err := facts.Installed(ctx, c)
	switch {
	case apierrors.IsForbidden(err) && o.from != "": // that the pods could not be read is a finding
	case apierrors.IsForbidden(err):
		return fmt.Errorf("no istiod tells which version is installed: %w; say it by --from", err)
	case err != nil:
		return explain(err)
	}
	q.From, q.Namespace = installed, namespace
	if namespace == "" {
		q.Namespace = "istio-system"
	}
	if o.from != "" {
		if q.From, err = versionOf("--from", o.from); err != nil {
			return err
		}
	}
	if q.From == nil {
		return usagef("no istiod tells which version is installed: say it by --from")
	}
	return nil
}

func versionOf(flag, text string) (*semver.Version, error) {
	v, err := semver.StrictNewVersion(text)
	if err != nil {
		return nil, usagef("%s %s: want an exact version, such as 1.29.1", flag, text)
	}
	return v, nil
}

// target is what a mesh would move to.
func (o *preflightOptions) target(m *v1alpha1.MeshInstallation, known validate.Facts) (*semver.Version, error) {
	wanted := m.DeepCopy()
	if o.to != "" {
		wanted.Spec.Version = o.to
		known.Installed = nil // what --to names is meant anew
	}
	to, err := validate.Target(wanted, known)
	if err != nil {
		return nil, blockedf("%s", err)
	}
	anew := m.Spec.Upgrade.Canary.RevisionFor == v1alpha1.RevisionForAnyChange && validate.RevisionName(m, to) != m.Status.StableRevision
	if o.to != "" || !to.Equal(known.Installed) || anew {
		return to, nil
	}
	for _, target := range m.Status.UpgradeTargets { // the newest first; the operator may have more charts than the plugin
		if v, err := semver.NewVersion(target); err == nil && slices.ContainsFunc(known.Available, v.Equal) {
			return v, nil
		}
	}
	return to, nil
}

func viewOfPreflight(q facts.Inquiry, all []preflight.Finding) *MeshPreflight {
	view := &MeshPreflight{
		TypeMeta: metav1.TypeMeta{APIVersion: SchemaVersion, Kind: "MeshPreflight"}, From: q.From.String(), To: q.To.String(), Findings: []FindingView{},
	}
	if q.Mesh != nil {
		view.Name = q.Mesh.Name
	}
	for _, f := range all {
		view.Holds = view.Holds || f.Holds()
		if f.Code == preflight.NotChecked {
			view.Unchecked++
		}
		view.Findings = append(view.Findings, FindingView{
			Code: f.Code, Severity: f.Severity, Object: f.Object.String(), Name: f.Name(), Why: f.Why, Remedy: f.Remedy, Acknowledged: f.Acknowledged, Runbook: f.Runbook(),
		})
	}
	return view
}

// colour of a severity.
func colour(s preflight.Severity) style {
	switch s {
	case preflight.SeverityError:
		return bad
	case preflight.SeverityWarning:
		return warn
	case preflight.SeverityInfo:
		fallthrough
	default:
		return plain
	}
}

// say writes the view for people: by severity, and the page of each code once at the end.
func (v *MeshPreflight) say(p *page, wide bool) {
	p.line(cell{fmt.Sprintf("Istio %s -> %s", v.From, v.To), bold})
	var pages []string
	for _, severity := range preflight.Severities() {
		var here []FindingView
		for _, f := range v.Findings {
			if f.Severity == severity {
				here = append(here, f)
			}
		}
		if len(here) == 0 {
			continue
		}
		p.line()
		p.line(cell{fmt.Sprintf("%s (%d)", severity, len(here)), colour(severity)})
		for _, f := range here {
			note := ""
			if f.Acknowledged {
				note = "  (acknowledged)"
			}
			p.line(say("  "+string(f.Code)+"  "), cell{f.Object, bold}, cell{note, dim})
			p.row("", "", []int{8}, []cell{say("       "), say(f.Why)})
			p.row("", "", []int{8}, []cell{say("       "), say("-> " + f.Remedy)})
			if wide {
				p.line(say("          "), cell{f.Runbook, dim})
			}
			if !slices.Contains(pages, f.Runbook) {
				pages = append(pages, f.Runbook)
			}
		}
	}
	p.line()
	if !wide && len(pages) > 0 {
		p.line(say("More about each:"))
		slices.Sort(pages)
		for _, url := range pages {
			p.line(say("  "), cell{url, dim})
		}
		p.line()
	}
	unchecked := ""
	if v.Unchecked > 0 {
		unchecked = " " + count(v.Unchecked, "thing", "things") + " could not be looked at."
	}
	switch {
	case v.Holds:
		p.line(cell{"A rollout is held back: mend the errors, or add each to spec.upgrade.acknowledged, as code/object." + unchecked, bad})
	case v.Unchecked > 0:
		p.line(cell{"Nothing that was looked at holds a rollout back." + unchecked, warn})
	case len(v.Findings) == 0:
		p.line(cell{"Nothing was found.", good})
	default:
		p.line(cell{"Nothing holds a rollout back.", good})
	}
}
