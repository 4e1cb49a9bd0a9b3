// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package framework

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// WaveLabel on a namespace, with the name of a wave, puts it into that wave in the meshes of the suites.
const WaveLabel = "wave"

// Waves are waves that select namespaces by WaveLabel.
func Waves(names ...string) []v1alpha1.Wave {
	var out []v1alpha1.Wave
	for _, name := range names {
		out = append(out, v1alpha1.Wave{Name: name, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{WaveLabel: name}}})
	}
	return out
}

// Rollout reads a MeshRollout.
func (e *Env) Rollout(ctx context.Context, name string) (*v1alpha1.MeshRollout, error) {
	out := &v1alpha1.MeshRollout{}
	return out, e.Client.Get(ctx, client.ObjectKey{Name: name}, out)
}

// WaitRollout waits until a MeshRollout is as wanted; says names what is waited for.
func (e *Env) WaitRollout(ctx context.Context, name, says string, done func(*v1alpha1.MeshRollout) bool) (*v1alpha1.MeshRollout, error) {
	var last *v1alpha1.MeshRollout
	err := e.WaitFor(ctx, "MeshRollout "+name+" "+says, func(ctx context.Context) (bool, string, error) {
		o, err := e.Rollout(ctx, name)
		if err != nil {
			return false, "", err
		}
		last = o
		return done(o), StateOf(o), nil
	})
	return last, err
}

// Ended says that a rollout has come to an outcome.
func Ended(outcome v1alpha1.RolloutOutcome) func(*v1alpha1.MeshRollout) bool {
	return func(o *v1alpha1.MeshRollout) bool { return o.Status.Progress.Outcome == outcome }
}

// Acts says that a rollout does something for a reason.
func Acts(act v1alpha1.RolloutAct, reason string) func(*v1alpha1.MeshRollout) bool {
	return func(o *v1alpha1.MeshRollout) bool {
		c := apimeta.FindStatusCondition(o.Status.Conditions, v1alpha1.ConditionComplete)
		return o.Status.Act == act && c != nil && c.Reason == reason
	}
}

// StateOf is what a rollout does and why, in a line.
func StateOf(o *v1alpha1.MeshRollout) string {
	c := apimeta.FindStatusCondition(o.Status.Conditions, v1alpha1.ConditionComplete)
	if c == nil {
		return "no decision yet"
	}
	return fmt.Sprintf("%s %s %s: %s", o.Status.Summary, o.Status.Act, c.Reason, c.Message)
}

// Approve approves a step as the administrator of the cluster.
func (e *Env) Approve(ctx context.Context, name, step string) error {
	return e.Steer(ctx, name, map[string]any{"approvals": []any{map[string]any{"step": step, "by": "kubernetes-admin"}}})
}

// Steer sets verbs of a MeshRollout.
func (e *Env) Steer(ctx context.Context, name string, verbs map[string]any) error {
	patch, err := json.Marshal(map[string]any{"spec": verbs})
	if err != nil {
		return err
	}
	o := &v1alpha1.MeshRollout{ObjectMeta: metav1.ObjectMeta{Name: name}}
	return e.Client.Patch(ctx, o, client.RawPatch("application/merge-patch+json", patch))
}

// Trace writes what a rollout decides and does, from its events, as it happens, until the context ends.
func (e *Env) Trace(ctx context.Context, name string, out io.Writer) {
	start := time.Now()
	seen := map[string]bool{}
	ticker := time.NewTicker(Poll)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		all, err := e.Kube.EventsV1().Events("default").List(ctx, metav1.ListOptions{})
		if err != nil {
			continue // the next look may do better
		}
		slices.SortFunc(all.Items, func(a, b eventsv1.Event) int { return a.EventTime.Compare(b.EventTime.Time) })
		for _, event := range all.Items {
			if event.Regarding.Kind != "MeshRollout" || event.Regarding.Name != name || seen[event.Name] || event.EventTime.Time.Before(start) {
				continue
			}
			seen[event.Name] = true
			after := event.EventTime.Sub(start).Round(time.Second)
			fmt.Fprintf(out, "t+%-8s %-14s %-16s %s\n", after, event.Action, event.Reason, event.Note)
		}
	}
}

// SetVersion edits spec.version of a mesh.
func (e *Env) SetVersion(ctx context.Context, mesh, version string) error {
	patch := fmt.Appendf(nil, `{"spec":{"version":%q}}`, version)
	m := &v1alpha1.MeshInstallation{ObjectMeta: metav1.ObjectMeta{Name: mesh}}
	return e.Client.Patch(ctx, m, client.RawPatch("application/merge-patch+json", patch))
}

// Enrolled creates a namespace with labels and waits until it is enrolled in a revision.
func (e *Env) Enrolled(ctx context.Context, namespace, revision string, labels map[string]string) error {
	if err := e.Namespace(ctx, namespace, labels); err != nil {
		return err
	}
	return e.WaitFor(ctx, namespace+" to be enrolled in "+revision, e.NamespaceHasLabel(namespace, v1alpha1.IstioRevision, revision))
}

// WaitLoading waits until the containers of a load pod run.
func (e *Env) WaitLoading(ctx context.Context, load Load) error {
	key := client.ObjectKey{Namespace: load.Namespace, Name: load.Name}
	return e.WaitFor(ctx, "load pod "+key.String()+" to run", func(ctx context.Context) (bool, string, error) {
		var pod corev1.Pod
		if err := e.Client.Get(ctx, key, &pod); err != nil {
			return false, "", err
		}
		for _, c := range pod.Status.ContainerStatuses {
			if c.Name == "load" && c.State.Running != nil {
				return true, "", nil
			}
		}
		return false, string(pod.Status.Phase), nil
	})
}
