// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/e2e/framework"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// What is said of these measurements.
const (
	besideTitle = "What a rollout costs the operator in a large cluster"
	besideText  = "The operator runs as a process beside an API server of its own that nothing else is connected to, with the environment of its\n" +
		"Deployment: its memory is what the kernel counts for that process. The pods are API objects with sidecars. The benchmark plays the\n" +
		"Deployment controller, kubelets and the injector: pods that move are ready at once, so that the operator has more to do in a second\n" +
		"than in any cluster. The proofs of the rollout are waived. Requests are those of the API server's audit log, with all until 11 s\n" +
		"after a wave has moved."
)

// waveSizes are the two waves that move, each with so many namespaces of one Deployment.
var waveSizes = []struct {
	wave       string
	namespaces int
}{{"few", 5}, {"many", 50}}

// moves measures what a rollout costs the operator, as a process beside an API server of its own, with ten thousand pods of a
// thousand Deployments of which first few move and then ten times as many.
func moves(ctx context.Context, report *report) (err error) {
	dir, err := os.MkdirTemp("", "meshwright-bench")
	if err != nil {
		return err
	}
	p, err := startPlane(ctx, dir)
	if err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	defer func() {
		if err = errors.Join(err, p.stop()); err != nil {
			err = fmt.Errorf("%w\nlogs are in %s", err, dir)
			return
		}
		err = os.RemoveAll(dir)
	}()
	p.report = report
	played := &players{client: p.client}
	if err := played.node(ctx); err != nil {
		return err
	}
	playing, finish := context.WithCancel(ctx)
	group, grouped := errgroup.WithContext(playing)
	group.Go(func() error { return played.play(grouped) })
	group.Go(func() error {
		defer finish()
		if err := p.settlers(grouped, played); err != nil {
			return err
		}
		return p.walk(grouped, played)
	})
	return group.Wait()
}

// settlers lets an operator install a mesh and enroll the crowd, and ends it.
func (p *plane) settlers(ctx context.Context, played *players) (err error) {
	operator, err := p.operate(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, operator.end()) }()
	mesh := framework.Mesh("default", framework.Istio129)
	pause := func(name string) v1alpha1.Step { return v1alpha1.Step{Name: name, Type: v1alpha1.StepPause} }
	steps := []v1alpha1.Step{pause("before")}
	for _, w := range waveSizes {
		mesh.Spec.DataPlane.Waves = append(mesh.Spec.DataPlane.Waves, framework.Waves(w.wave)...)
		move := v1alpha1.Step{Name: w.wave, Type: v1alpha1.StepDataPlane, DataPlane: &v1alpha1.DataPlaneStep{Wave: w.wave, Percent: 100}}
		steps = append(steps, move, pause("after-"+w.wave))
	}
	mesh.Spec.Upgrade.Canary.Steps = steps
	if err := p.client.Create(ctx, mesh); err != nil {
		return err
	}
	if _, err := p.env.WaitReady(ctx, mesh.Name); err != nil {
		return err
	}
	if err := p.crowd(ctx, played); err != nil {
		return err
	}
	if err := p.counted(ctx, crowdNamespaces*crowdPods); err != nil {
		return err
	}
	return p.env.WaitFor(ctx, "all namespaces to be enrolled", func(ctx context.Context) (bool, string, error) {
		var all corev1.NamespaceList
		err := p.client.List(ctx, &all, client.MatchingLabels{v1alpha1.IstioRevision: "1-29-1"})
		return len(all.Items) == crowdNamespaces, fmt.Sprintf("%d are", len(all.Items)), err
	})
}

// crowd creates the namespaces with a Deployment each, and its pods.
func (p *plane) crowd(ctx context.Context, played *players) (err error) {
	end := p.env.Progress.Begin(fmt.Sprintf("creating %d pods of %d Deployments", crowdNamespaces*crowdPods, crowdNamespaces), 3*time.Minute)
	defer func() { end(err) }()
	var revision v1alpha1.MeshRevision
	if err := p.client.Get(ctx, client.ObjectKey{Name: "1-29-1"}, &revision); err != nil {
		return err
	}
	waves := make([]string, 0, crowdNamespaces)
	for _, w := range waveSizes {
		waves = append(waves, slices.Repeat([]string{w.wave}, w.namespaces)...)
	}
	group, grouped := errgroup.WithContext(ctx)
	group.SetLimit(16)
	for n := range crowdNamespaces {
		group.Go(func() error {
			labels := map[string]string{framework.EnrollLabel: "default"}
			if n < len(waves) {
				labels[framework.WaveLabel] = waves[n]
			}
			name := fmt.Sprintf("crowd-%04d", n)
			if err := p.client.Create(grouped, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}); err != nil {
				return err
			}
			d := deploymentOf(name)
			if err := p.client.Create(grouped, d); err != nil {
				return err
			}
			for k := range *d.Spec.Replicas {
				if err := played.pod(grouped, podOf(d, &revision, firstHash, k)); err != nil {
					return err
				}
			}
			return played.status(grouped, d, crowdPods, crowdPods)
		})
	}
	return group.Wait()
}

// walk starts the operator anew, lets it walk a rollout, and measures it.
func (p *plane) walk(ctx context.Context, played *players) (err error) {
	operator, err := p.operate(ctx)
	if err != nil {
		return err
	}
	ended := false
	defer func() {
		if !ended {
			err = errors.Join(err, operator.end())
		}
	}()
	if err := p.knows(ctx, operator); err != nil {
		return err
	}
	if err := idle(ctx, p.env, "measuring memory at rest", 130*time.Second); err != nil {
		return err
	}
	rest, err := operator.usage()
	if err != nil {
		return err
	}
	asked := time.Now()
	if err := p.prove(ctx); err != nil {
		return err
	}
	proven := time.Now()
	before, err := operator.scrape(ctx)
	if err != nil {
		return err
	}
	runs := make([]stretch, len(waveSizes))
	for i, w := range waveSizes {
		if runs[i], err = p.move(ctx, operator, played, int32(2*i), w.wave); err != nil { //nolint:gosec // there are two
			return err
		}
	}
	after, err := operator.scrape(ctx)
	if err != nil {
		return err
	}
	most, err := operator.usage()
	if err != nil {
		return err
	}
	ended = true
	if err := operator.end(); err != nil { // the log is whole then
		return err
	}
	events, err := p.requests()
	if err != nil {
		return err
	}
	events = slices.DeleteFunc(events, func(e framework.AuditEvent) bool { return e.Received.Before(operator.started) })
	p.tellMemory(rest, most)
	p.tellDecisions(after.reconciles("rollout").since(before.reconciles("rollout")))
	p.tellLists(events, asked, proven)
	return p.tellRuns(events, runs)
}

// knows waits until the operator has counted the crowd.
func (p *plane) knows(ctx context.Context, operator *process) error {
	return p.env.WaitFor(ctx, "the operator to know all pods", func(ctx context.Context) (bool, string, error) {
		all, err := operator.scrape(ctx)
		if err != nil {
			return false, "", err
		}
		counted := 0.0
		for _, m := range all.with("meshwright_proxies", "state", "current") {
			counted += m.GetGauge().GetValue()
		}
		return counted == crowdNamespaces*crowdPods, fmt.Sprintf("%.0f are", counted), nil
	})
}

func idle(ctx context.Context, env *framework.Env, what string, long time.Duration) (err error) {
	end := env.Progress.Begin(what, long)
	defer func() { end(err) }()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(long):
		return nil
	}
}

// prove begins a rollout and waives its proofs: no istiod runs here that could give them.
func (p *plane) prove(ctx context.Context) error {
	if err := p.env.SetVersion(ctx, "default", framework.Istio131); err != nil {
		return err
	}
	if _, err := p.env.WaitRollout(ctx, "default-1", "to be created", func(*v1alpha1.MeshRollout) bool { return true }); err != nil {
		return err
	}
	waivers, until := []any{}, time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	for _, proof := range []v1alpha1.Proof{v1alpha1.ProofConfiguration, v1alpha1.ProofInjection} {
		waivers = append(waivers, map[string]any{"proof": proof, "by": "bench", "expires": until})
	}
	if err := p.env.Steer(ctx, "default-1", map[string]any{"waivers": waivers}); err != nil {
		return err
	}
	_, err := p.awaits(ctx, 0)
	return err
}

// awaits waits until the rollout awaits the approval of a step.
func (p *plane) awaits(ctx context.Context, step int32) (*v1alpha1.MeshRollout, error) {
	at := framework.Acts(v1alpha1.ActAwaitApproval, v1alpha1.ReasonAwaitingApproval)
	return p.env.WaitRollout(ctx, "default-1", fmt.Sprintf("to await the approval of step %d", step), func(o *v1alpha1.MeshRollout) bool {
		return at(o) && o.Status.Progress.Step == step
	})
}

// stretch is one wave that moved: when, how many pods of it, and how long the operator ran meanwhile.
type stretch struct {
	wave      string
	from, to  time.Time
	pods      int32
	took, ran time.Duration
}

// coalesced is a little more than what a write of counts alone waits for: what a move causes late belongs to it.
const coalesced = 11 * time.Second

// move lets one wave move: it approves the step before, and waits until the step after awaits approval.
func (p *plane) move(ctx context.Context, operator *process, played *players, step int32, wave string) (out stretch, err error) {
	if err := idle(ctx, p.env, "letting the last writes of counts pass", coalesced); err != nil {
		return stretch{}, err
	}
	end := p.env.Progress.Begin("moving the wave "+wave, time.Minute)
	defer func() { end(err) }()
	o, err := p.env.Rollout(ctx, "default-1")
	if err != nil {
		return stretch{}, err
	}
	before, err := operator.usage()
	if err != nil {
		return stretch{}, err
	}
	out, pods := stretch{wave: wave, from: time.Now()}, played.moved.Load()
	approvals := append(slices.Clone(o.Spec.Approvals), v1alpha1.Approval{Step: o.Spec.Plan.Steps[step].Name, By: "bench"})
	if err := p.env.Steer(ctx, "default-1", map[string]any{"approvals": approvals}); err != nil {
		return stretch{}, err
	}
	if o, err = p.awaits(ctx, step+2); err != nil {
		return stretch{}, err
	}
	out.took = time.Since(out.from)
	if err := idle(ctx, p.env, "waiting for what comes late", coalesced); err != nil {
		return stretch{}, err
	}
	after, err := operator.usage()
	if err != nil {
		return stretch{}, err
	}
	out.to, out.pods, out.ran = time.Now(), played.moved.Load()-pods, after.ran-before.ran
	if o.Status.UnmovableCount > 0 {
		return stretch{}, fmt.Errorf("%d workloads can't be moved: %+v", o.Status.UnmovableCount, o.Status.Unmovable)
	}
	return out, nil
}

func megabytes(n int64) string { return fmt.Sprintf("%.0f MB", float64(n)/1e6) }

func (p *plane) tellMemory(rest, most usage) {
	all := fmt.Sprintf("%d pods of %d Deployments in as many namespaces", crowdNamespaces*crowdPods, crowdNamespaces)
	p.report.add("memory of the operator at rest, started with "+all+": anonymous", "< 150 MB", megabytes(rest.anonymous))
	p.report.add("– VmRSS", "< 150 MB", megabytes(rest.resident))
	p.report.add("– VmHWM at the end: the most that was ever resident, a rollout included", "< 150 MB", megabytes(most.peak))
}

func (p *plane) tellDecisions(h histogram) {
	milliseconds := func(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d)/1e6) }
	p.report.add(fmt.Sprintf("reconciles of controller rollout while they move (%d), writes of status included: mean", h.count), "< 10 ms", milliseconds(h.mean()))
	p.report.add("– median", "< 10 ms", milliseconds(h.quantile(0.5)))
	p.report.add("– 99th percentile", "", milliseconds(h.quantile(0.99)))
}

// tellLists counts LIST requests: those between the change of the version and the first step are the checks before a rollout.
func (p *plane) tellLists(events []framework.AuditEvent, asked, proven time.Time) {
	checks, others := map[string]int{}, map[string]int{}
	for _, e := range events {
		switch {
		case e.Verb != "list":
		case e.Received.After(asked) && e.Received.Before(proven):
			checks[e.ObjectRef.Resource]++
		default:
			others[e.ObjectRef.Resource]++
		}
	}
	p.report.add("LIST requests of the operator from its start to the end of the moves, without those of the checks before a rollout", "0", counts(others))
	p.report.add("– of the checks before a rollout, in pages of 500", "", counts(checks))
}

// counts is a sum and what it is made of.
func counts(of map[string]int) string {
	sum, parts := 0, []string{}
	for _, name := range slices.Sorted(maps.Keys(of)) {
		sum += of[name]
		parts = append(parts, fmt.Sprintf("%s %d", name, of[name]))
	}
	if sum == 0 {
		return "0"
	}
	return strconv.Itoa(sum) + " (" + strings.Join(parts, ", ") + ")"
}

func (p *plane) tellRuns(events []framework.AuditEvent, runs []stretch) error {
	var each []float64
	for i, r := range runs {
		if want := int32(waveSizes[i].namespaces * crowdPods); r.pods != want { //nolint:gosec // it is small
			return fmt.Errorf("%d pods were made anew, and %d should have been", r.pods, want)
		}
		n, kinds := 0, map[string]int{}
		for _, e := range events {
			if e.Received.After(r.from) && e.Received.Before(r.to) {
				n++
				kinds[strings.TrimSuffix(e.Verb+" "+e.ObjectRef.Resource+"/"+e.ObjectRef.Subresource, "/")]++
			}
		}
		each = append(each, float64(n)/float64(r.pods))
		p.env.Progress.Say(fmt.Sprintf("%s: %d pods in %s, the operator ran %s; %s", r.wave, r.pods, r.took.Round(time.Second/10), r.ran, counts(kinds)))
		bound := ""
		if i > 0 {
			bound = "no more than that"
		}
		p.report.add(fmt.Sprintf("requests of the operator for each pod that moves, while %d workloads (%d pods) of a wave move", waveSizes[i].namespaces, r.pods),
			bound, fmt.Sprintf("%.2f (%d)", each[i], n))
	}
	return nil
}
