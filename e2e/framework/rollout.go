// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package framework

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
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
	for ended := false; !ended; {
		select {
		case <-ctx.Done():
			ended = true // one last look
		case <-ticker.C:
		}
		events, err := e.RolloutEvents(context.WithoutCancel(ctx), name)
		if err != nil {
			continue // the next look may do better
		}
		for _, event := range events {
			if seen[event.Name] || event.EventTime.Time.Before(start) {
				continue
			}
			seen[event.Name] = true
			after := event.EventTime.Sub(start).Round(time.Second)
			fmt.Fprintf(out, "t+%-8s %-14s %-16s %s\n", after, event.Action, event.Reason, event.Note)
		}
	}
}

// RolloutEvents are the events of a MeshRollout, in their order: what it decided and did.
func (e *Env) RolloutEvents(ctx context.Context, name string) (out []eventsv1.Event, err error) {
	all, err := e.Kube.EventsV1().Events("default").List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	for _, event := range all.Items {
		if event.Regarding.Kind == "MeshRollout" && event.Regarding.Name == name {
			out = append(out, event)
		}
	}
	slices.SortFunc(out, func(a, b eventsv1.Event) int { return a.EventTime.Compare(b.EventTime.Time) })
	return out, nil
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

// Mentions says whether the state of a rollout contains every one of some texts.
func Mentions(o *v1alpha1.MeshRollout, texts ...string) bool {
	state := StateOf(o)
	return !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(state, text) })
}

// Revisions counts the running pods of an application by the revision of their sidecar; empty for none.
func (e *Env) Revisions(ctx context.Context, app Echo) (map[string]int, error) {
	var pods corev1.PodList
	if err := e.Client.List(ctx, &pods, client.InNamespace(app.Namespace), client.MatchingLabels{"app": app.Name}); err != nil {
		return nil, err
	}
	out := map[string]int{}
	for _, p := range pods.Items {
		if p.DeletionTimestamp == nil {
			out[p.Annotations[v1alpha1.IstioRevision]]++
		}
	}
	return out, nil
}

// ServiceAccount creates a service account with a cluster role, and returns a client that acts as it, and its user name.
func (e *Env) ServiceAccount(ctx context.Context, namespace, name, role string) (client.Client, string, error) {
	user := "system:serviceaccount:" + namespace + ":" + name
	err := e.apply(ctx,
		&corev1.ServiceAccount{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"},
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		},
		&rbacv1.ClusterRoleBinding{
			TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "ClusterRoleBinding"},
			ObjectMeta: metav1.ObjectMeta{Name: "meshwright-e2e-" + name},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: name}},
		})
	if err != nil {
		return nil, "", err
	}
	config := rest.CopyConfig(e.Config)
	config.Impersonate = rest.ImpersonationConfig{UserName: user}
	c, err := client.New(config, client.Options{Scheme: e.Client.Scheme(), Mapper: e.Client.RESTMapper()})
	return c, user, err
}

// WaitBudget waits until a PodDisruptionBudget has counted its pods.
func (e *Env) WaitBudget(ctx context.Context, budget *policyv1.PodDisruptionBudget, pods int32) error {
	return e.WaitFor(ctx, "PodDisruptionBudget "+budget.Name+" to count its pods", func(ctx context.Context) (bool, string, error) {
		err := e.Client.Get(ctx, client.ObjectKeyFromObject(budget), budget)
		return budget.Status.ExpectedPods == pods && budget.Status.CurrentHealthy == pods, fmt.Sprintf("%+v", budget.Status), err
	})
}

// WaitLeader waits until a replica of the operator that runs holds the lease.
func (e *Env) WaitLeader(ctx context.Context) error {
	return e.WaitFor(ctx, "a replica of the operator to lead", func(ctx context.Context) (bool, string, error) {
		var lease coordinationv1.Lease
		if err := e.Client.Get(ctx, client.ObjectKey{Namespace: OperatorNamespace, Name: OperatorDeployment}, &lease); err != nil {
			return false, "there is no lease", client.IgnoreNotFound(err)
		}
		if lease.Spec.HolderIdentity == nil {
			return false, "nobody holds the lease", nil
		}
		pod, _, _ := strings.Cut(*lease.Spec.HolderIdentity, "_")
		err := e.Client.Get(ctx, client.ObjectKey{Namespace: OperatorNamespace, Name: pod}, &corev1.Pod{})
		return err == nil, "the lease is that of " + pod, client.IgnoreNotFound(err)
	})
}
