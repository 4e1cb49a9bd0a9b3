// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package framework

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// Rotation reads a MeshRotation.
func (e *Env) Rotation(ctx context.Context, name string) (*v1alpha1.MeshRotation, error) {
	out := &v1alpha1.MeshRotation{}
	return out, e.Client.Get(ctx, client.ObjectKey{Name: name}, out)
}

// rotationTimeout is how long one waits for a rotation: two minutes are for kubelets alone.
const rotationTimeout = 8 * time.Minute

// WaitRotation waits until a MeshRotation is as wanted; says names what is waited for.
func (e *Env) WaitRotation(ctx context.Context, name, says string, done func(*v1alpha1.MeshRotation) bool) (*v1alpha1.MeshRotation, error) {
	var last *v1alpha1.MeshRotation
	err := e.waitWithin(ctx, rotationTimeout, "MeshRotation "+name+" "+says, func(ctx context.Context) (bool, string, error) {
		o, err := e.Rotation(ctx, name)
		if err != nil {
			return false, "", err
		}
		last = o
		return done(o), StateOfRotation(o), nil
	})
	return last, err
}

// StateOfRotation is what a rotation does and why, in a line.
func StateOfRotation(o *v1alpha1.MeshRotation) string {
	c := apimeta.FindStatusCondition(o.Status.Conditions, v1alpha1.ConditionComplete)
	if c == nil {
		return "no decision yet"
	}
	return fmt.Sprintf("%-9s %-7s %-15s %s", o.Status.Summary, o.Status.Proven, c.Reason, c.Message)
}

// SteerRotation sets verbs of a MeshRotation.
func (e *Env) SteerRotation(ctx context.Context, name string, verbs map[string]any) error {
	patch, err := json.Marshal(map[string]any{"spec": verbs})
	if err != nil {
		return err
	}
	o := &v1alpha1.MeshRotation{ObjectMeta: metav1.ObjectMeta{Name: name}}
	return e.Client.Patch(ctx, o, client.RawPatch("application/merge-patch+json", patch))
}

// TraceRotations writes what the rotations of a mesh do, as it changes, until the context ends.
func (e *Env) TraceRotations(ctx context.Context, out io.Writer) {
	start := time.Now()
	seen := map[string]string{}
	ticker := time.NewTicker(Poll)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		var all v1alpha1.MeshRotationList
		if err := e.Client.List(ctx, &all); err != nil {
			continue // the next look may do better
		}
		for i := range all.Items {
			o := &all.Items[i]
			if state := StateOfRotation(o); seen[o.Name] != state {
				seen[o.Name] = state
				fmt.Fprintf(out, "t+%-8s %s %s\n", time.Since(start).Round(time.Second), o.Name, state)
			}
		}
	}
}

// SetCertificates changes spec.certificates of a mesh.
func (e *Env) SetCertificates(ctx context.Context, mesh string, certificates v1alpha1.Certificates) error {
	var m v1alpha1.MeshInstallation
	if err := e.Client.Get(ctx, client.ObjectKey{Name: mesh}, &m); err != nil {
		return err
	}
	next := m.DeepCopy()
	next.Spec.Certificates = certificates
	return e.Client.Patch(ctx, next, client.MergeFrom(&m))
}

// agentProgram is what a sidecar's container runs beside Envoy.
const agentProgram = "/usr/local/bin/pilot-agent"

// StopAgent stops the agent beside a pod's proxy, which then learns of no other root and fetches no other leaf; the proxy itself serves on.
func (e *Env) StopAgent(ctx context.Context, pod string) error {
	return e.Cluster.Signal(ctx, agentProgram, "POD_NAME="+pod, "STOP")
}

// ContinueAgent lets it go on.
func (e *Env) ContinueAgent(ctx context.Context, pod string) error {
	return e.Cluster.Signal(ctx, agentProgram, "POD_NAME="+pod, "CONT")
}
