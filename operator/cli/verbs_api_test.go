// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build api

package cli

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/testkit"
)

// world is a real API server with the CRDs, roles and policies of config/, and a mesh in the middle of a rollout.
type world struct {
	kubeconfig string
	admin      client.Client
	// operator writes what the operator would.
	operator client.Client
}

// The users of the tests; what each may do is a ClusterRole of config/rbac, or written below.
const (
	approver = "approver@example.com"
	oncall   = "oncall@example.com"
	viewer   = "viewer@example.com"
	stranger = "stranger@example.com"
)

func newWorld(t *testing.T) *world {
	t.Helper()
	config := testkit.StartAPIServer(t)
	w := &world{kubeconfig: filepath.Join(t.TempDir(), "config")}
	if err := clientcmd.WriteToFile(kubeconfigOf(config), w.kubeconfig); err != nil {
		t.Fatal(err)
	}
	w.admin = w.client(t, config)
	as := rest.CopyConfig(config)
	as.Impersonate = rest.ImpersonationConfig{UserName: "system:serviceaccount:meshwright-system:meshwright", Groups: []string{"system:masters"}}
	w.operator = w.client(t, as)
	for _, dir := range []string{"rbac", "policy"} {
		built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Join("..", "..", "config", dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range built.Resources() {
			content, err := r.Map()
			if err != nil {
				t.Fatal(err)
			}
			if o := (&unstructured.Unstructured{Object: content}); o.GetNamespace() == "" {
				w.create(t, w.admin, o)
			}
		}
	}
	w.create(t, w.admin, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "viewer"}, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{v1alpha1.GroupVersion.Group}, Resources: []string{"*"}, Verbs: []string{"get", "list", "watch"}},
	}})
	for user, roles := range map[string][]string{
		approver: {"meshwright-rollout-approver"}, oncall: {"meshwright-rollout-operator", "meshwright-rotation-operator"}, viewer: {"viewer"},
	} {
		for _, role := range roles {
			w.create(t, w.admin, &rbacv1.ClusterRoleBinding{
				ObjectMeta: metav1.ObjectMeta{Name: role + "-" + strings.Split(user, "@")[0]},
				RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
				Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user}},
			})
		}
	}
	return w
}

// awaitPolicies waits until the API server has taken in the policies, and the roles.
func (w *world) awaitPolicies(t *testing.T) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, 30*time.Second, true, func(ctx context.Context) (bool, error) {
		for _, user := range []string{approver, oncall, viewer} {
			if code, _, _ := w.runIn(ctx, user, "status"); code != ExitOK {
				return false, nil
			}
		}
		return w.admin.Create(ctx, named("probe"), client.DryRunAll) != nil, nil
	})
	if err != nil {
		t.Fatalf("the policies never applied: %v", err)
	}
}

// named is a MeshRollout that nobody but the operator may create.
func named(name string) *v1alpha1.MeshRollout {
	o := aRollout()
	o.ObjectMeta = metav1.ObjectMeta{Name: name}
	return o
}

func kubeconfigOf(config *rest.Config) clientcmdapi.Config {
	out := clientcmdapi.NewConfig()
	out.Clusters["test"] = &clientcmdapi.Cluster{Server: config.Host, CertificateAuthorityData: config.CAData}
	out.AuthInfos["admin"] = &clientcmdapi.AuthInfo{ClientCertificateData: config.CertData, ClientKeyData: config.KeyData, Token: config.BearerToken}
	out.Contexts["test"] = &clientcmdapi.Context{Cluster: "test", AuthInfo: "admin"}
	out.CurrentContext = "test"
	return *out
}

func (w *world) client(t *testing.T, config *rest.Config) client.Client {
	t.Helper()
	config = rest.CopyConfig(config)
	config.QPS = -1
	c, err := client.New(config, client.Options{Scheme: newScheme(t)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// create creates an object, with the status that it has.
func (w *world) create(t *testing.T, c client.Client, o client.Object) {
	t.Helper()
	status := o.DeepCopyObject().(client.Object)
	o.SetUID("")
	o.SetManagedFields(nil)
	if err := c.Create(t.Context(), o); err != nil {
		t.Fatalf("creating %T %s: %v", o, o.GetName(), err)
	}
	switch status.(type) {
	case *v1alpha1.MeshInstallation, *v1alpha1.MeshRollout, *v1alpha1.MeshRotation, *v1alpha1.MeshRevision, *v1alpha1.MeshGateway:
		status.SetResourceVersion(o.GetResourceVersion())
		status.SetUID(o.GetUID())
		if err := c.Status().Update(t.Context(), status); err != nil {
			t.Fatalf("status of %T %s: %v", o, o.GetName(), err)
		}
	}
}

// change changes the status of an object as the operator would.
func change[T client.Object](t *testing.T, w *world, name string, o T, how func(T)) {
	t.Helper()
	if err := w.operator.Get(t.Context(), client.ObjectKey{Name: name}, o); err != nil {
		t.Fatal(err)
	}
	how(o)
	if err := w.operator.Status().Update(t.Context(), o); err != nil {
		t.Fatal(err)
	}
}

// run runs the plugin as a user; an empty name is the administrator.
func (w *world) run(t *testing.T, user string, args ...string) (code ExitCode, out, errs string) {
	t.Helper()
	return w.runIn(t.Context(), user, args...)
}

func (w *world) runIn(ctx context.Context, user string, args ...string) (code ExitCode, out, errs string) {
	flags := []string{"--kubeconfig", w.kubeconfig}
	if user != "" {
		flags = append(flags, "--as", user)
	}
	if len(args) > 0 && args[0] == "__complete" {
		args = slices.Concat(args[:1], flags, args[1:]) // what is completed comes last
	} else {
		args = append(args, flags...)
	}
	var stdout, stderr bytes.Buffer
	code = Run(ctx, args, genericiooptions.IOStreams{In: strings.NewReader(""), Out: &stdout, ErrOut: &stderr})
	return code, stdout.String(), stderr.String()
}

// expect runs the plugin and wants a code, and texts among all that it says.
func (w *world) expect(t *testing.T, reason, user string, code ExitCode, args []string, texts ...string) {
	t.Helper()
	got, out, errs := w.run(t, user, args...)
	if got != code {
		t.Errorf("%s: kubectl mesh %s ends with %d, want %d:\n%s%s", reason, strings.Join(args, " "), got, code, out, errs)
	}
	for _, text := range texts {
		if !strings.Contains(out+errs, text) {
			t.Errorf("%s: kubectl mesh %s does not say %q:\n%s%s", reason, strings.Join(args, " "), text, out, errs)
		}
	}
}

// midway creates a mesh that waits for the approval of step go.
func (w *world) midway(t *testing.T) {
	t.Helper()
	rollout := aRollout()
	w.create(t, w.operator, rollout)
	for _, o := range []client.Object{aRevision("1-28-2", "1.28.2"), aRevision("1-29-1", "1.29.1")} {
		w.create(t, w.operator, o)
	}
	mesh := aMesh()
	mesh.Status.ActiveOperation.UID = rollout.UID
	w.create(t, w.operator, mesh)
}

// Each verb of a rollout, as different users: what it says, what it sets, what it says when that is so already, and what is missing when it is denied.
func TestVerbsOnARealAPIServer(t *testing.T) {
	w := newWorld(t)
	w.midway(t)
	w.awaitPolicies(t)

	denied := func(verbs string) []string {
		return []string{"needs the RBAC verb " + verbs + " on meshrollouts.meshwright.io"}
	}
	for _, tc := range []struct {
		reason, user string
		code         ExitCode
		args         []string
		texts        []string
	}{
		{"who may look only", viewer, ExitError, []string{"pause"}, append(denied("patch and pause"), "viewer@example.com may not pause", "meshwright-rollout-operator")},
		{"who may approve only", approver, ExitError, []string{"pause"}, denied("pause")},
		{"who may approve only", approver, ExitError, []string{"abort"}, denied("abort")},
		{"who may approve only", approver, ExitError, []string{"rollback"}, denied("rollback")},
		{"who may approve only", approver, ExitError, []string{"waive", "Injection", "--for", "1h"}, denied("waive")},
		{"who may look only", viewer, ExitError, []string{"approve"}, append(denied("patch and approve"), "meshwright-rollout-approver")},
		{"who may look only", viewer, ExitError, []string{"upgrade", "1.30.0"}, []string{"needs the RBAC verb patch on meshinstallations.meshwright.io"}},
		{"who may not even look", stranger, ExitError, []string{"status"}, []string{"cannot list resource \"meshinstallations\"", "meshwright-reader"}},

		{"a pause", oncall, ExitOK, []string{"pause"}, []string{"MeshRollout default-8 paused", "kubectl mesh resume"}},
		{"a second pause", oncall, ExitOK, []string{"pause"}, []string{"is already paused"}},
		{"what waits is said", approver, ExitOK, []string{"status"}, []string{"MeshRollout default-8 is paused", "kubectl mesh resume"}},
		{"resumed", oncall, ExitOK, []string{"resume", "-o", "name"}, []string{"meshrollout.meshwright.io/default-8", "resumed"}},
		{"a second resume", oncall, ExitOK, []string{"resume"}, []string{"is not paused"}},
		{"pausing the mesh is the administrator's", oncall, ExitError, []string{"pause", "--mesh-wide"}, []string{"verb patch on meshinstallations"}},
		{"the mesh", "", ExitOK, []string{"pause", "--mesh-wide"}, []string{"mesh default paused", "resume --mesh-wide"}},
		{"the mesh again", "", ExitOK, []string{"pause", "--mesh-wide"}, []string{"is already paused"}},
		{"the mesh goes on", "", ExitOK, []string{"resume", "--mesh-wide"}, []string{"mesh default resumed"}},

		{"a step that is not there", approver, ExitUsage, []string{"approve", "nowhere"}, []string{"ingress-33, judge, go, early, promote"}},
		{"the step that waits", approver, ExitOK, []string{"approve"}, []string{"step go approved by approver@example.com", "it goes on"}},
		{"somebody was faster", oncall, ExitOK, []string{"approve", "go"}, []string{"approved already, by approver@example.com"}},
		{"a step ahead", approver, ExitOK, []string{"approve", "early", "--rollout", "default-8"}, []string{"step early approved", "it will not wait there"}},
		{"a proof", oncall, ExitOK, []string{"waive", "Injection", "--for", "1h"}, []string{"proof Injection waived by oncall@example.com until"}},
		{"a proof again", oncall, ExitOK, []string{"waive", "Injection", "--for", "30m"}, []string{"for as long already"}},
		{"no such proof", oncall, ExitUsage, []string{"waive", "Hope", "--for", "1h"}, []string{"Injection, Configuration, Connection"}},
		{"a waiver without an end", oncall, ExitUsage, []string{"waive", "Injection"}, []string{"for"}},
		{"nothing has halted", oncall, ExitBlocked, []string{"retry"}, []string{"has not halted"}},
		{"an abort", oncall, ExitOK, []string{"abort"}, []string{"MeshRollout default-8 is to be aborted"}},
		{"an abort again", oncall, ExitOK, []string{"abort"}, []string{"already to be aborted"}},
		{"a rollback", oncall, ExitOK, []string{"rollback"}, []string{"is to be rolled back", "goes back to 1-28-2"}},
		{"the goal goes one way", oncall, ExitBlocked, []string{"abort"}, []string{"Complete, Abort, RollBack"}},
		{"a rollout that is not there", oncall, ExitError, []string{"pause", "--rollout", "default-9"}, []string{"no MeshRollout is called default-9; there are default-8"}},
		{"a mesh that is not there", oncall, ExitError, []string{"status", "mesh-1"}, []string{"no MeshInstallation is called mesh-1; there are default"}},
		{"both", oncall, ExitUsage, []string{"pause", "--rollout", "a", "--rotation", "b"}, []string{"rollout", "rotation"}},
		{"no such command", oncall, ExitUsage, []string{"upgrdae"}, []string{"unknown command", "upgrade"}},
		{"no such flag", oncall, ExitUsage, []string{"status", "--wacth"}, []string{"unknown flag"}},
	} {
		w.expect(t, tc.reason, tc.user, tc.code, tc.args, tc.texts...)
	}
	var o v1alpha1.MeshRollout
	if err := w.admin.Get(t.Context(), client.ObjectKey{Name: "default-8"}, &o); err != nil {
		t.Fatal(err)
	}
	s := o.Spec
	if s.Paused || s.Goal != v1alpha1.GoalRollBack || len(s.Approvals) != 2 || s.Approvals[0] != (v1alpha1.Approval{Step: "go", By: approver}) || len(s.Waivers) != 1 {
		t.Errorf("the verbs of the rollout: paused %v, goal %s, approvals %v, waivers %v", s.Paused, s.Goal, s.Approvals, s.Waivers)
	}

	t.Run("retry", func(t *testing.T) {
		change(t, w, "default-8", &v1alpha1.MeshRollout{}, func(o *v1alpha1.MeshRollout) { o.Status.Progress.Halted = true })
		w.expect(t, "who may approve only", approver, ExitError, []string{"retry"}, denied("retry")...)
		w.expect(t, "a halt", oncall, ExitOK, []string{"retry"}, "is given a retry (spec.retries 1)")
		w.expect(t, "a halt again", oncall, ExitOK, []string{"retry"}, "told to try again already")
	})
	t.Run("what has ended", func(t *testing.T) {
		change(t, w, "default-8", &v1alpha1.MeshRollout{}, func(o *v1alpha1.MeshRollout) { o.Status.Progress.Outcome = v1alpha1.OutcomeRolledBack })
		change(t, w, "default", &v1alpha1.MeshInstallation{}, func(m *v1alpha1.MeshInstallation) {
			m.Status.ActiveOperation, m.Status.FailedTarget = nil, &v1alpha1.FailedTarget{
				Version: "1.29.1", InputsDigest: "j", Generation: m.Generation, Rollout: "default-8", Retries: 1,
			}
			m.Status.Conditions = []metav1.Condition{condition(v1alpha1.ConditionUpToDate, metav1.ConditionFalse, v1alpha1.ReasonTargetFailed, "did not get there")}
		})
		w.expect(t, "nothing is under way", oncall, ExitBlocked, []string{"pause"}, "nothing is under way on mesh default", "kubectl mesh retry --rollout default-8")
		w.expect(t, "nobody is there to try", oncall, ExitTimeout, []string{"retry", "--wait", "--timeout", "1s"}, "(spec.retries 2)", "another rollout tries its target again", "the retry of MeshRollout default-8 has not ended within 1s")
		w.expect(t, "by name", oncall, ExitBlocked, []string{"pause", "--rollout", "default-8"}, "has ended as RolledBack")
	})
}

func TestVerbsOfRotationsOnARealAPIServer(t *testing.T) {
	w := newWorld(t)
	mesh := settledMesh()
	w.create(t, w.operator, mesh)
	w.awaitPolicies(t)
	w.expect(t, "who may look only", viewer, ExitError, []string{"certs", "rotate", "--kind", "Root"}, "needs the RBAC verb create on meshrotations.meshwright.io")
	w.expect(t, "no such kind", oncall, ExitUsage, []string{"certs", "rotate", "--kind", "Hope"}, "Source, Intermediate, Root, Revoke")
	w.expect(t, "a root", oncall, ExitOK, []string{"certs", "rotate", "--kind", "Root", "--name", "default-2"}, "MeshRotation default-2 (Root) created")
	w.expect(t, "a root again", oncall, ExitOK, []string{"certs", "rotate", "--kind", "Root"}, "MeshRotation default-2 (Root) is under way already")
	w.expect(t, "nothing is to be signed", oncall, ExitBlocked, []string{"certs", "csr"}, "no MeshRotation waits for a signature")
	change(t, w, "default-2", &v1alpha1.MeshRotation{}, func(o *v1alpha1.MeshRotation) {
		o.Status = aRotation().Status
		o.Status.Progress.Phase, o.Status.Request = v1alpha1.PhaseDrain, "-----BEGIN CERTIFICATE REQUEST-----\n"
		o.Status.Conditions = []metav1.Condition{condition(v1alpha1.ConditionComplete, metav1.ConditionFalse, v1alpha1.ReasonAwaitingApproval, "phase Drop waits")}
	})
	w.expect(t, "a request", oncall, ExitOK, []string{"certs", "csr"}, "BEGIN CERTIFICATE REQUEST", "kubectl create secret generic")
	w.expect(t, "a proxy", oncall, ExitOK, []string{"certs", "waive", "shop/cart-1", "--for", "1h"}, "proxy shop/cart-1 waived by oncall@example.com")
	w.expect(t, "no proxy", oncall, ExitUsage, []string{"certs", "waive", "cart-1", "--for", "1h"}, "namespace/pod")
	w.expect(t, "a phase", oncall, ExitOK, []string{"approve"}, "step Drop approved by oncall@example.com")
	w.expect(t, "a pause, by who may not", viewer, ExitError, []string{"pause"}, "needs the RBAC verb patch and pause on meshrotations.meshwright.io")
	w.expect(t, "a pause", oncall, ExitOK, []string{"pause", "--rotation", "default-2"}, "MeshRotation default-2 paused")
	w.expect(t, "a rollback that does not name it", oncall, ExitUsage, []string{"rollback"}, "no rollout is under way", "name it by --rotation default-2")
	w.expect(t, "an abort that does not name it", oncall, ExitUsage, []string{"abort"}, "name it by --rotation default-2")
	w.expect(t, "a rollback of another mesh", oncall, ExitUsage, []string{"rollback", "--mesh", "prod", "--rotation", "default-2"}, "is of mesh default, not of prod")
	w.expect(t, "a rollback", oncall, ExitOK, []string{"rollback", "--rotation", "default-2"}, "it goes back to the old CA")
	w.expect(t, "an abort of what goes back, which somebody's change may ask for", oncall, ExitOK, []string{"abort", "--rotation", "default-2"}, "is to be aborted")
	w.expect(t, "the whole of it", oncall, ExitOK, []string{"certs", "status"}, "rotation default-2", "Drop", "approved by oncall@example.com", "MeshRotation default-2 is paused")
	change(t, w, "default", &v1alpha1.MeshInstallation{}, func(*v1alpha1.MeshInstallation) {})
}

// Names that a shell completes are those of the cluster.
func TestCompletionOnARealAPIServer(t *testing.T) {
	w := newWorld(t)
	w.midway(t)
	rotation := aRotation()
	w.create(t, w.operator, rotation)
	w.awaitPolicies(t)
	for _, tc := range []struct {
		reason string
		args   []string
		want   []string
	}{
		{"meshes", []string{"status", ""}, []string{"default"}},
		{"meshes by flag", []string{"upgrade", "--mesh", ""}, []string{"default"}},
		{"versions", []string{"upgrade", ""}, []string{"1.30.0", "1.29.1"}},
		{"versions that are begun", []string{"upgrade", "1.3"}, []string{"1.30.0"}},
		{"steps that wait", []string{"approve", ""}, []string{"go"}},
		{"rollouts", []string{"pause", "--rollout", ""}, []string{"default-8"}},
		{"rotations", []string{"pause", "--rotation", ""}, []string{"default-2"}},
		{"meshes, rollouts and rotations", []string{"history", ""}, []string{"default", "default-8", "default-2"}},
		{"proxies", []string{"certs", "waive", ""}, []string{"shop/cart-1"}},
		{"proofs", []string{"waive", ""}, []string{"Injection", "Configuration", "Connection"}},
		{"kinds", []string{"certs", "rotate", "--kind", ""}, []string{"Source", "Intermediate", "Root", "Revoke"}},
		{"formats", []string{"status", "-o", ""}, []string{"json", "yaml", "wide", "name"}},
		{"contexts", []string{"status", "--context", ""}, []string{"test"}},
		{"namespaces", []string{"proxies", "-n", "kube-p"}, []string{"kube-public"}},
	} {
		code, out, errs := w.run(t, "", append([]string{"__complete"}, tc.args...)...)
		lines := strings.Split(strings.TrimSpace(out), "\n")
		lines = slices.DeleteFunc(lines, func(line string) bool { return strings.HasPrefix(line, "--") }) // a flag that is required is proposed, too
		if got := lines[:len(lines)-1]; code != ExitOK || !slices.Equal(got, tc.want) {
			t.Errorf("%s: %q, want %q\n%s", tc.reason, got, tc.want, errs)
		}
	}
}

// An upgrade is refused with the reason, tried without being kept, and followed until everything has moved.
func TestUpgradeOnARealAPIServer(t *testing.T) {
	w := newWorld(t)
	w.create(t, w.operator, aRevision("1-28-2", "1.28.2"))
	w.create(t, w.operator, settledMesh())
	w.awaitPolicies(t)
	version := func() string {
		var m v1alpha1.MeshInstallation
		if err := w.admin.Get(t.Context(), client.ObjectKey{Name: "default"}, &m); err != nil {
			t.Fatal(err)
		}
		return m.Spec.Version
	}
	w.expect(t, "no version", "", ExitUsage, []string{"upgrade", "newest"}, "is not a version")
	w.expect(t, "none given", "", ExitUsage, []string{"upgrade"}, "give the version that is wanted")
	w.expect(t, "too far", "", ExitBlocked, []string{"upgrade", "1.31.0"}, "go to 1.30 first", "it could move to 1.30.0, 1.29.1")
	w.expect(t, "down", "", ExitBlocked, []string{"upgrade", "1.27.1"}, "a mesh does not move down")
	w.expect(t, "not there", "", ExitBlocked, []string{"upgrade", "1.29.7"}, "no charts of such a version", "1.29.1")
	w.expect(t, "a dry run", "", ExitOK, []string{"upgrade", "1.29", "--dry-run=server"}, "Istio 1.28.2 -> 1.29.1: revision 1-29-1 comes up beside 1-28-2", "(server dry run)")
	w.expect(t, "a dry run here", "", ExitOK, []string{"upgrade", "1.29.1", "--dry-run"}, "(dry run)")
	w.expect(t, "a wait for a dry run", "", ExitUsage, []string{"upgrade", "1.29.1", "--dry-run", "--wait"}, "nothing to wait for")
	if v := version(); v != "1.28.2" {
		t.Fatalf("what was refused or tried has set the version to %s", v)
	}
	w.expect(t, "an upgrade", "", ExitOK, []string{"upgrade", "1.29.1"}, "spec.version 1.28.2 -> 1.29.1")
	w.expect(t, "again", "", ExitOK, []string{"upgrade", "1.29.1"}, "is 1.29.1 already")
	if v := version(); v != "1.29.1" {
		t.Fatalf("the version is %s", v)
	}
	w.expect(t, "nobody is there to do it", "", ExitTimeout, []string{"upgrade", "1.29.1", "--wait", "--timeout", "1s"}, "has not ended within 1s, and goes on")
	interrupted, cancel := context.WithCancel(t.Context())
	cancel()
	if code, _, errs := w.runIn(interrupted, "", "pause", "--mesh-wide"); code != ExitInterrupted {
		t.Errorf("an interruption ends with %d: %s", code, errs)
	}
}

// What is said when there is no cluster, or no Meshwright in it.
func TestWithoutMeshwright(t *testing.T) {
	w := &world{kubeconfig: filepath.Join(t.TempDir(), "config")}
	config := clientcmdapi.NewConfig()
	config.Clusters["test"] = &clientcmdapi.Cluster{Server: "https://127.0.0.1:1"}
	config.Contexts["test"] = &clientcmdapi.Context{Cluster: "test"}
	config.CurrentContext = "test"
	if err := clientcmd.WriteToFile(*config, w.kubeconfig); err != nil {
		t.Fatal(err)
	}
	w.expect(t, "nobody listens", "", ExitError, []string{"status"}, "unable to connect to the server", "connection refused")
	w.expect(t, "the plugin's own version all the same", "", ExitError, []string{"version"}, "kubectl mesh", "unable to connect to the server")
	w.expect(t, "and nothing else", "", ExitOK, []string{"version", "--client"}, "kubectl mesh")

	empty := newWorld(t)
	for _, kind := range []string{"meshinstallations", "meshrollouts"} {
		crd := &unstructured.Unstructured{}
		crd.SetAPIVersion("apiextensions.k8s.io/v1")
		crd.SetKind("CustomResourceDefinition")
		crd.SetName(kind + ".meshwright.io")
		if err := empty.admin.Delete(t.Context(), crd); err != nil {
			t.Fatal(err)
		}
	}
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, 30*time.Second, true, func(ctx context.Context) (bool, error) {
		code, _, errs := empty.runIn(ctx, "", "status")
		return code == ExitError && strings.Contains(errs, "install the operator"), nil
	})
	if err != nil {
		code, out, errs := empty.run(t, "", "status")
		t.Errorf("without CRDs: %d\n%s%s", code, out, errs)
	}
	if _, err := os.Stat(empty.kubeconfig); err != nil {
		t.Error(err)
	}
}
