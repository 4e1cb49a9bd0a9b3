// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package rotation

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/e2e/framework"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/pki"
)

// witness asks the Envoy of every proxy what it holds, again and again while rotations are under way, and compares that with what the status says. The
// operator may not claim what is not so; and when it says that a phase is proven, the two tables are the same.
func witness(t *testing.T) (finish func()) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	looks, same, shown := map[v1alpha1.RotationPhase]int{}, map[v1alpha1.RotationPhase]int{}, map[string]bool{}
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			phase, table, err := look(ctx)
			if err != nil && ctx.Err() == nil {
				t.Errorf("phase %s: %v", phase, err)
			}
			if phase != "" {
				looks[phase]++
			}
			if table != "" {
				same[phase]++
			}
			if table != "" && !shown[table] {
				shown[table] = true
				t.Logf("phase %s is proven, and status and Envoys say the same:\n%s", phase, table)
			}
			select {
			case <-ctx.Done():
			case <-time.After(framework.Poll):
			}
		}
	}()
	return func() {
		t.Helper()
		stop()
		<-done
		t.Logf("looks at all proxies by phase: %v; both tables proven and the same: %v", looks, same)
		for _, phase := range []v1alpha1.RotationPhase{v1alpha1.PhaseTrust, v1alpha1.PhaseDrain, v1alpha1.PhaseDrop} {
			if looks[phase] == 0 {
				t.Errorf("phase %s was never looked at", phase)
			}
		}
		if same[v1alpha1.PhaseTrust] == 0 {
			t.Error("the two tables were never compared when a phase was proven")
		}
	}
}

// look compares once. It says in which phase, empty for none, and the table, where that was proven and both say the same.
func look(ctx context.Context) (v1alpha1.RotationPhase, string, error) {
	before, err := underWay(ctx)
	if err != nil || before == nil || before.Status.Proxies == nil {
		return "", "", err
	}
	phase := before.Status.Progress.Phase
	held, table, err := holds(ctx, before.Status.Plan)
	if err != nil {
		return "", "", nil //nolint:nilerr // a pod may have gone meanwhile
	}
	after, err := env.Rotation(ctx, before.Name)
	if err != nil || after.Status.Progress.Phase != phase || !apiequality.Semantic.DeepEqual(before.Status.Proxies, after.Status.Proxies) {
		return phase, "", err // it went on meanwhile: nothing to compare
	}
	said := *after.Status.Proxies
	switch {
	case said.AcceptNew > held.AcceptNew, said.PresentNew > held.PresentNew, said.AcceptOld < held.AcceptOld, said.PresentOld < held.PresentOld && phase != v1alpha1.PhaseTrust:
		return phase, "", fmt.Errorf("the status claims %+v, and the proxies hold %+v:\n%s", said, held, table)
	case said.Holding > 0:
		return phase, "", nil
	}
	held.Holding = 0
	if said != held {
		return phase, "", fmt.Errorf("the phase is proven with %+v, and the proxies hold %+v:\n%s", said, held, table)
	}
	return phase, table, nil
}

// underWay is the rotation that has not ended; nil for none.
func underWay(ctx context.Context) (*v1alpha1.MeshRotation, error) {
	var all v1alpha1.MeshRotationList
	if err := env.Client.List(ctx, &all); err != nil {
		return nil, err
	}
	for i := range all.Items {
		if o := &all.Items[i]; o.Status.Plan != nil && o.Status.Progress.Outcome == "" && o.Status.Progress.Phase != "" {
			return o, nil
		}
	}
	return nil, nil //nolint:nilnil // there is none
}

// holds is what all proxies hold, as a status counts it, and as a table.
func holds(ctx context.Context, plan *v1alpha1.RotationPlan) (out v1alpha1.RotationProxies, table string, err error) {
	var lines []string
	for _, namespace := range []string{pay.Namespace, "clients", ingress.Namespace} {
		var pods corev1.PodList
		if err := env.Client.List(ctx, &pods, client.InNamespace(namespace)); err != nil {
			return out, "", err
		}
		for _, pod := range pods.Items {
			held, err := env.Held(ctx, client.ObjectKeyFromObject(&pod))
			if err != nil {
				return out, "", err
			}
			old, next := held.Accepts[pki.Fingerprint(plan.From.Root)], held.Accepts[pki.Fingerprint(plan.To.Root)]
			presents := "old"
			if string(held.Issuer) == plan.To.Issuer {
				presents = "new"
			}
			out.Total++
			for counter, is := range map[*int32]bool{&out.AcceptNew: next, &out.AcceptOld: old, &out.PresentNew: presents == "new", &out.PresentOld: presents == "old"} {
				if is {
					*counter++
				}
			}
			lines = append(lines, fmt.Sprintf("  %-48s accepts old %-5t new %-5t presents %s", namespace+"/"+pod.Name, old, next, presents))
		}
	}
	slices.Sort(lines)
	return out, strings.Join(lines, "\n"), nil
}
