// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/dataplane"
)

var update = flag.Bool("update", false, "write testdata anew")

// golden compares a text with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs; if it should, run this test with -update (-want +got):\n%s", name, diff)
	}
}

// begun is when the fixtures' rollout began, and noon when they are looked at.
var (
	begun = time.Date(2026, 3, 1, 11, 50, 0, 0, time.UTC)
	noon  = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
)

func at(minutes int) *metav1.Time {
	return &metav1.Time{Time: begun.Add(time.Duration(minutes) * time.Minute)}
}

// still is a clock that stands still, and whose waits end at once.
type still struct{ clock.RealClock }

func (still) Now() time.Time { return noon }

// streams are those of a command, to be read by the test.
type streams struct{ out, err bytes.Buffer }

// newFactory is what commands stand on in tests without a server: they are given the client.
func newFactory() (*factory, *streams) {
	s := &streams{}
	operator := "meshwright-system"
	return &factory{
		Flags: genericclioptions.NewConfigFlags(true), IOStreams: genericiooptions.IOStreams{In: strings.NewReader(""), Out: &s.out, ErrOut: &s.err},
		Clock: still{}, OperatorNamespace: &operator,
	}, s
}

func newScheme(t *testing.T) *runtime.Scheme {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, apiextensionsv1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	return scheme
}

func fakeClient(t *testing.T, objects ...client.Object) client.WithWatch {
	t.Helper()
	return fake.NewClientBuilder().WithScheme(newScheme(t)).WithObjects(objects...).WithReturnManagedFields().
		WithStatusSubresource(&v1alpha1.MeshInstallation{}, &v1alpha1.MeshRollout{}, &v1alpha1.MeshRotation{}).Build()
}

func condition(kind string, status metav1.ConditionStatus, reason, message string) metav1.Condition {
	return metav1.Condition{Type: kind, Status: status, Reason: reason, Message: message, LastTransitionTime: *at(0), ObservedGeneration: 1}
}

// aMesh is a mesh in the middle of a rollout from 1.28.2 to 1.29.1.
func aMesh() *v1alpha1.MeshInstallation {
	return &v1alpha1.MeshInstallation{
		ObjectMeta: metav1.ObjectMeta{Name: "default", Generation: 1},
		Spec: v1alpha1.MeshInstallationSpec{
			Version: "1.29.1", Namespace: "istio-system", Tags: []v1alpha1.Tag{{Name: "stable"}},
			Upgrade:      v1alpha1.Upgrade{Type: v1alpha1.UpgradeCanary},
			Certificates: v1alpha1.Certificates{CA: v1alpha1.CertificateAuthority{Type: v1alpha1.CASourceManaged}},
		},
		Status: v1alpha1.MeshInstallationStatus{
			ObservedGeneration: 1, ResolvedVersion: "1.28.2", StableRevision: "1-28-2", CanaryRevision: "1-29-1", Step: "3/5 go",
			UpgradeTargets:  []string{"1.30.0", "1.29.1"},
			ActiveOperation: &v1alpha1.ActiveOperation{Kind: rolloutKind, Name: "default-8", UID: "uid-8"},
			Conditions: []metav1.Condition{
				condition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady, "the mesh serves"),
				condition(v1alpha1.ConditionUpToDate, metav1.ConditionFalse, v1alpha1.ReasonAwaitingApproval, "step go waits for an approval"),
				condition(v1alpha1.ConditionControlPlaneReady, metav1.ConditionTrue, v1alpha1.ReasonReady, "revision 1-28-2 serves"),
			},
			DataPlane: v1alpha1.DataPlaneStatus{
				Summary: "3/5", Namespaces: 2, Outdated: 2, Proxies: []v1alpha1.RevisionProxies{{Revision: "1-28-2", Count: 3}, {Revision: "1-29-1", Count: 2}},
				Blocked: []v1alpha1.BlockedNamespace{{Namespace: "legacy", Reason: "InjectionDisabled", Message: "it is labelled istio-injection=disabled"}},
			},
			Certificates: v1alpha1.CertificatesStatus{
				Signing: v1alpha1.SigningPluggedIn, Next: &metav1.Time{Time: noon.AddDate(0, 0, 90)},
				Roots: []v1alpha1.CertificateInfo{
					{Subject: "CN=root 1,O=default", Fingerprint: strings.Repeat("3145dbd2", 8), NotAfter: metav1.NewTime(noon.AddDate(9, 0, 0))},
				},
				Intermediates: []v1alpha1.CertificateInfo{
					{Subject: "CN=istiod,O=default", Fingerprint: strings.Repeat("8c6ed5ba", 8), NotAfter: metav1.NewTime(noon.AddDate(0, 0, 200))},
				},
			},
		},
	}
}

// settledMesh is the same mesh before the rollout.
func settledMesh() *v1alpha1.MeshInstallation {
	m := aMesh()
	m.Spec.Version, m.Status.ResolvedVersion = "1.28.2", "1.28.2"
	m.Status.CanaryRevision, m.Status.ActiveOperation, m.Status.Step = "", nil, ""
	m.Status.Conditions[1] = condition(v1alpha1.ConditionUpToDate, metav1.ConditionTrue, v1alpha1.ReasonUpToDate, "every proxy is of the wanted version")
	m.Status.DataPlane = v1alpha1.DataPlaneStatus{Summary: "5/5", Namespaces: 2, Proxies: []v1alpha1.RevisionProxies{{Revision: "1-28-2", Count: 5}}}
	return m
}

func aRevision(name, version string) *v1alpha1.MeshRevision {
	return &v1alpha1.MeshRevision{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.MeshRevisionSpec{
			Mesh: "default", Version: version, Namespace: "istio-system", BundleDigest: "b", InputsDigest: "i", Injection: "inject-" + name, Objects: []byte("packed"),
		},
		Status: v1alpha1.MeshRevisionStatus{Conditions: []metav1.Condition{condition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady, "serves")}},
	}
}

func aGateway() *v1alpha1.MeshGateway {
	return &v1alpha1.MeshGateway{
		ObjectMeta: metav1.ObjectMeta{Namespace: "istio-ingress", Name: "ingress"},
		Spec:       v1alpha1.MeshGatewaySpec{Mesh: "default"},
		Status: v1alpha1.MeshGatewayStatus{
			Conditions: []metav1.Condition{condition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady, "serves")},
			Summary:    "3/3", Addresses: []string{"192.0.2.7"},
			Versions: []v1alpha1.GatewayVersion{
				{Revision: "1-28-2", Version: "1.28.2", Replicas: 2, ReadyReplicas: 2, Weight: 67, Measured: "66.1%"},
				{Revision: "1-29-1", Version: "1.29.1", Replicas: 1, ReadyReplicas: 1, Weight: 33, Measured: "33.9%"},
			},
			Shift: &v1alpha1.ShiftStatus{
				Rollout: "default-8", From: "1-28-2", To: "1-29-1", Weight: 33, Measured: "33.9%", State: v1alpha1.ShiftReached, Message: "measured 33.9% of 4112 connections",
			},
		},
	}
}

// aRollout is one that waits for the approval of its step go.
func aRollout() *v1alpha1.MeshRollout {
	steps := []v1alpha1.RolloutStep{
		{Name: "ingress-33", Type: v1alpha1.StepGatewayWeight, GatewayWeight: &v1alpha1.GatewayWeightStep{Percent: 33}},
		{Name: "judge", Type: v1alpha1.StepAnalysis, Analysis: &v1alpha1.AnalysisStep{}},
		{Name: "go", Type: v1alpha1.StepPause},
		{Name: "early", Type: v1alpha1.StepDataPlane, DataPlane: &v1alpha1.DataPlaneStep{Wave: "early", Percent: 100}},
		{Name: "promote", Type: v1alpha1.StepPromote, DataPlane: &v1alpha1.DataPlaneStep{Wave: "followers", Percent: 100}},
	}
	return &v1alpha1.MeshRollout{
		ObjectMeta: metav1.ObjectMeta{Name: "default-8", UID: "uid-8", Generation: 1, CreationTimestamp: *at(0)},
		Spec: v1alpha1.MeshRolloutSpec{
			Goal: v1alpha1.GoalComplete,
			Plan: v1alpha1.RolloutPlan{
				Mesh: "default", Steps: steps, Enrollment: v1alpha1.EnrollmentNamespaceLabel, OnFailure: v1alpha1.OnFailureRollBack,
				From:    v1alpha1.RolloutRevision{Revision: "1-28-2", Version: "1.28.2", InputsDigest: "i"},
				To:      v1alpha1.RolloutRevision{Revision: "1-29-1", Version: "1.29.1", InputsDigest: "j"},
				Restart: v1alpha1.Restart{Type: v1alpha1.RestartRollout}, ProgressDeadlineSeconds: 1800,
				Waves: []v1alpha1.Wave{{Name: "early", Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"wave": "early"}}}},
			},
		},
		Status: v1alpha1.MeshRolloutStatus{
			ObservedGeneration: 1, Summary: "3/5 go", Act: v1alpha1.ActAwaitApproval,
			Conditions: []metav1.Condition{condition(v1alpha1.ConditionComplete, metav1.ConditionFalse, v1alpha1.ReasonAwaitingApproval, "step go waits for an approval")},
			Progress: v1alpha1.RolloutProgress{
				Step: 2, Entered: at(8), Gates: []v1alpha1.GateProgress{{Name: "health", State: v1alpha1.GatePassed, Message: "4112 requests, no difference at 95%"}},
			},
			Steps: []v1alpha1.StepStatus{
				{Name: "ingress-33", State: v1alpha1.StepDone, Started: at(1), Ended: at(3), Message: "measured 33.9% of 4112 connections"},
				{Name: "judge", State: v1alpha1.StepDone, Started: at(3), Ended: at(8), Message: "health: 4112 requests, no difference at 95%"},
				{Name: "go", State: v1alpha1.StepRunning, Started: at(8), Message: "step go waits for an approval"},
				{Name: "early", State: v1alpha1.StepWaiting},
				{Name: "promote", State: v1alpha1.StepWaiting},
			},
			Waves:          []v1alpha1.WaveStatus{{Name: "early", Total: 3, Unmovable: 1}, {Name: "rest", Total: 2}},
			Unmovable:      []v1alpha1.UnmovableWorkload{{Workload: "Pod/shop/alone", Reason: "BarePod", Message: "no controller would make it anew: recreate it yourself"}},
			UnmovableCount: 1,
		},
	}
}

// endedRollout is one that was rolled back an hour ago.
func endedRollout() *v1alpha1.MeshRollout {
	o := aRollout()
	o.Name, o.UID, o.CreationTimestamp = "default-7", "uid-7", metav1.NewTime(begun.Add(-time.Hour))
	o.Spec.Approvals = []v1alpha1.Approval{{Step: "go", By: "oncall@example.com"}}
	o.Status.Progress.Outcome, o.Status.Progress.Failure, o.Status.Act = v1alpha1.OutcomeRolledBack, "Deployment/shop/cart: CrashLoopBackOff in container app", v1alpha1.ActDone
	o.Status.Progress.FailureReason, o.Status.Progress.Step, o.Status.Progress.Back = v1alpha1.ReasonWorkloadFailed, -1, true
	o.Status.Counted = at(-45)
	o.Status.Waves[0].Moved, o.Status.Waves[1].Moved = 3, 2
	o.Status.Steps[2].ApprovedBy, o.Status.Steps[2].ApprovedAt = "oncall@example.com", at(-50)
	o.Status.Conditions[0] = condition(v1alpha1.ConditionComplete, metav1.ConditionFalse, v1alpha1.ReasonRolledBack, "everything is at 1-28-2 again")
	return o
}

// aRotation is one in its phase Trust, for which one proxy is missing.
func aRotation() *v1alpha1.MeshRotation {
	return &v1alpha1.MeshRotation{
		ObjectMeta: metav1.ObjectMeta{Name: "default-2", UID: "rot-2", Generation: 1, CreationTimestamp: *at(5)},
		Spec: v1alpha1.MeshRotationSpec{
			Mesh: "default", Change: v1alpha1.ChangeRoot, RotationVerbs: v1alpha1.RotationVerbs{Goal: v1alpha1.GoalComplete},
		},
		Status: v1alpha1.MeshRotationStatus{
			ObservedGeneration: 1, Summary: "1/4 Trust", Proven: "41/42",
			Conditions: []metav1.Condition{condition(v1alpha1.ConditionComplete, metav1.ConditionFalse, v1alpha1.ReasonProvingProxies, "41 of 42 proxies accept the root that is gone to")},
			Plan: &v1alpha1.RotationPlan{
				Kind: v1alpha1.RotationRoot, Source: v1alpha1.CASourceManaged, LeafSeconds: 86400, SettleSeconds: 120, ProgressDeadlineSeconds: 3600,
				From:   v1alpha1.RotationAuthority{Root: strings.Repeat("3145dbd2", 8), Issuer: strings.Repeat("8c6ed5ba", 8)},
				To:     v1alpha1.RotationAuthority{Root: strings.Repeat("77aa00bb", 8), Issuer: strings.Repeat("11223344", 8)},
				Phases: []v1alpha1.RotationPhase{v1alpha1.PhaseTrust, v1alpha1.PhaseSign, v1alpha1.PhaseDrain, v1alpha1.PhaseDrop}, Approve: []v1alpha1.RotationPhase{v1alpha1.PhaseDrop},
			},
			Progress: v1alpha1.RotationProgress{Phase: v1alpha1.PhaseTrust, Entered: at(6)},
			Holdouts: []v1alpha1.RotationHoldout{{Proxy: "shop/cart-1", Why: "does not accept the new root yet: restart the pod, or waive it"}},
		},
	}
}

// everyObject is a mesh with all that belongs to it.
func everyObject() []client.Object {
	return []client.Object{
		aMesh(), aRevision("1-28-2", "1.28.2"), aRevision("1-29-1", "1.29.1"), aGateway(), aRollout(), endedRollout(), aRotation(),
		&v1alpha1.MeshRotation{
			ObjectMeta: metav1.ObjectMeta{Name: "default-1", UID: "rot-1", CreationTimestamp: *at(-200)}, Spec: v1alpha1.MeshRotationSpec{Mesh: "default", Change: v1alpha1.ChangeSource},
			Status: v1alpha1.MeshRotationStatus{Progress: v1alpha1.RotationProgress{Outcome: v1alpha1.OutcomeCompleted}, Counted: at(-197)},
		},
		aTag("stable", "1-28-2"), aTag("default", "1-28-2"),
		aNamespace("shop", "1-28-2"), aNamespace("pay", "1-29-1"),
		aWorkload("shop", "cart"), aPod("shop", "cart-1", "cart", "1-28-2"), aPod("shop", "cart-2", "cart", ""), aPod("shop", "alone", "", "1-28-2"),
		aPod("pay", "pay-1", "pay", "1-29-1"),
	}
}

func aTag(name, revision string) client.Object {
	labels := map[string]string{"istio.io/tag": name, v1alpha1.IstioRevision: revision, v1alpha1.LabelMesh: "default"}
	o := &unstructured.Unstructured{}
	o.SetGroupVersionKind(dataplane.InjectorKind)
	o.SetName("istio-revision-tag-" + name)
	o.SetLabels(labels)
	return o
}

func aNamespace(name, revision string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{v1alpha1.IstioRevision: revision}, ManagedFields: []metav1.ManagedFieldsEntry{{
		Manager: v1alpha1.ManagerDataPlane, Operation: metav1.ManagedFieldsOperationApply, APIVersion: "v1", FieldsType: "FieldsV1", Time: at(0),
		FieldsV1: metav1.NewFieldsV1(`{"f:metadata":{"f:labels":{"f:istio.io/rev":{}}}}`),
	}}}}
}

func aWorkload(namespace, name string) *appsv1.Deployment {
	return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: appsv1.DeploymentSpec{Replicas: new(int32(2))}}
}

// aPod is a pod of a Deployment, or of nothing where the name of that is empty, with the sidecar of a revision.
func aPod(namespace, name, deployment, revision string) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID(name), Labels: map[string]string{}, Annotations: map[string]string{}},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
	}
	if deployment != "" {
		p.Labels["pod-template-hash"] = "abc"
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: deployment + "-abc", Controller: new(true)}}
	}
	if revision != "" {
		p.Annotations["sidecar.istio.io/status"] = `{"revision":"` + revision + `"}`
		p.Annotations[v1alpha1.AnnotationInjection] = "inject-" + revision
	}
	return p
}
