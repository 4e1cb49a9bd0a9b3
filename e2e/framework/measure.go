// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package framework

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/meshwright/meshwright/bundles/istio"
)

// LeaderElectionID is the name of the operator's lease.
const LeaderElectionID = "meshwright"

// OperatorMemory is what the replica of the operator that leads has in use, in bytes: its working set as the kubelet measures it
// and kubectl top shows it.
func (e *Env) OperatorMemory(ctx context.Context) (int64, error) {
	var lease coordinationv1.Lease
	if err := e.Client.Get(ctx, client.ObjectKey{Namespace: OperatorNamespace, Name: LeaderElectionID}, &lease); err != nil {
		return 0, err
	}
	var pods corev1.PodList
	if err := e.Client.List(ctx, &pods, client.InNamespace(OperatorNamespace)); err != nil {
		return 0, err
	}
	for _, pod := range pods.Items {
		if lease.Spec.HolderIdentity != nil && strings.HasPrefix(*lease.Spec.HolderIdentity, pod.Name+"_") {
			return e.workingSet(ctx, pod)
		}
	}
	return 0, fmt.Errorf("no pod of %s holds the lease %s", OperatorNamespace, LeaderElectionID)
}

func (e *Env) workingSet(ctx context.Context, pod corev1.Pod) (int64, error) {
	raw, err := e.Kube.CoreV1().RESTClient().Get().Resource("nodes").Name(pod.Spec.NodeName).
		SubResource("proxy").Suffix("stats/summary").DoRaw(ctx)
	if err != nil {
		return 0, fmt.Errorf("the kubelet's summary: %w", err)
	}
	var summary struct {
		Pods []struct {
			PodRef struct {
				Name      string `json:"name"`
				Namespace string `json:"namespace"`
			} `json:"podRef"`
			Containers []struct {
				Memory struct {
					WorkingSetBytes *int64 `json:"workingSetBytes"`
				} `json:"memory"`
			} `json:"containers"`
		} `json:"pods"`
	}
	if err := json.Unmarshal(raw, &summary); err != nil {
		return 0, err
	}
	for _, p := range summary.Pods {
		if p.PodRef.Name == pod.Name && p.PodRef.Namespace == pod.Namespace && len(p.Containers) == 1 && p.Containers[0].Memory.WorkingSetBytes != nil {
			return *p.Containers[0].Memory.WorkingSetBytes, nil
		}
	}
	return 0, fmt.Errorf("the kubelet reports no memory of pod %s", pod.Name)
}

// ValuesFile writes Helm values to a temporary file and returns its path.
func ValuesFile(dir string, values map[string]any) (string, error) {
	raw, err := yaml.Marshal(values)
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "values.yaml")
	return path, os.WriteFile(path, raw, 0o600)
}

// Charts writes the charts of an Istio version below a folder, for the helm CLI, and returns the folder of each.
func Charts(ctx context.Context, dir, version string, names ...string) (map[string]string, error) {
	library, err := istio.Open(ctx, istio.Builtin())
	if err != nil {
		return nil, err
	}
	bundle, err := library.Get(ctx, version)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, name := range names {
		files, err := bundle.Chart(name)
		if err != nil {
			return nil, err
		}
		out[name] = filepath.Join(dir, name)
		for _, f := range files {
			path := filepath.Join(out[name], filepath.FromSlash(f.Name))
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				return nil, err
			}
			if err := os.WriteFile(path, f.Data, 0o644); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}
