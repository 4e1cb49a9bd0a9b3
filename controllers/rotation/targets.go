// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"context"
	"fmt"
	"math"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/dataplane"
	"github.com/meshwright/meshwright/operator/facts"
	"github.com/meshwright/meshwright/operator/pki"
	"github.com/meshwright/meshwright/operator/probe"
)

// sidecarPort is one that nothing listens on: the rules of a pod lead every port to its sidecar, which speaks mTLS there too.
//
// Source: istio pilot/pkg/networking/core/listener_inbound.go (buildInboundPassthroughChains), 1.26 to 1.31.
const sidecarPort = 15999

// proxies are the pods with a proxy of the revisions of a mesh.
func (w *Witness) proxies(ctx context.Context, m *v1alpha1.MeshInstallation) ([]dataplane.Proxy, error) {
	all, err := facts.RevisionsOf(ctx, w.Client, m.Name)
	if err != nil {
		return nil, err
	}
	revisions := map[string]bool{}
	for _, r := range all {
		revisions[r.Name] = true
	}
	return w.Index.Proxies(revisions), nil
}

// longestLeaf is how long the leaves live, in seconds, that some proxy of a mesh asks for; 0 where there is none. One that says nothing asks for Istio's own.
func (w *Witness) longestLeaf(ctx context.Context, m *v1alpha1.MeshInstallation) (int32, error) {
	if !w.Index.Synced() {
		return 0, errLate
	}
	proxies, err := w.proxies(ctx, m)
	out := time.Duration(0)
	for _, p := range proxies {
		out = max(out, leafOf(p))
	}
	return int32(min(out.Seconds(), math.MaxInt32)), err
}

func leafOf(p dataplane.Proxy) time.Duration {
	if p.Leaf == 0 {
		return pki.IstioLeafSeconds * time.Second
	}
	return p.Leaf
}

// targets are all proxies of the revisions of a mesh.
func (w *Witness) targets(ctx context.Context, m *v1alpha1.MeshInstallation) ([]probe.Target, error) {
	proxies, err := w.proxies(ctx, m)
	if err != nil {
		return nil, err
	}
	out := make([]probe.Target, len(proxies))
	for i, p := range proxies {
		out[i] = probe.Target{
			Peer: probe.Peer{Name: p.Namespace + "/" + p.Name, Namespace: p.Namespace, Address: p.Address, Port: sidecarPort},
			Key:  fmt.Sprintf("%s/%d", p.Address, p.Born),
		}
		out[i].Leaf, out[i].Edge = leafOf(p), p.Edge
	}
	return w.machines(ctx, out)
}

// workloadEntries are Istio's proxies that are no pods: virtual machines, mostly.
var workloadEntries = schema.GroupVersionKind{Group: "networking.istio.io", Version: "v1", Kind: "WorkloadEntryList"}

// connectedAnnotation is on the WorkloadEntry of a proxy that has connected to an istiod. What has none is a host without a proxy.
//
// Source: istio pilot/pkg/autoregistration/controller.go, 1.26 to 1.31.
const connectedAnnotation = "istio.io/workloadController"

// machines adds the proxies that are no pods. Nothing tells of which revision they are: each counts.
func (w *Witness) machines(ctx context.Context, out []probe.Target) ([]probe.Target, error) {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(workloadEntries)
	if err := w.Live.List(ctx, list); err != nil {
		if apimeta.IsNoMatchError(err) {
			return out, nil
		}
		return nil, err
	}
	for i := range list.Items {
		o := &list.Items[i]
		address, _, _ := unstructured.NestedString(o.Object, "spec", "address")
		if _, err := netip.ParseAddr(address); err != nil || o.GetAnnotations()[connectedAnnotation] == "" {
			continue
		}
		out = append(out, probe.Target{
			Peer: probe.Peer{Name: o.GetNamespace() + "/" + o.GetName(), Namespace: o.GetNamespace(), Address: address, Port: sidecarPort},
			Key:  address + "/" + string(o.GetUID()), Elsewhere: true,
		})
	}
	return out, nil
}

// elsewhere compares who is connected to the istiods with the proxies that were asked: virtual machines without a WorkloadEntry, and proxies of other
// clusters, are in neither.
func (w *Witness) elsewhere(ctx context.Context, q question, pods []corev1.Pod, asked int) []probe.Finding {
	target := probe.Target{Peer: probe.Peer{Name: pki.ElsewhereProxies}}
	connected := 0
	for i := range pods {
		if pods[i].DeletionTimestamp != nil || pods[i].Status.Phase != corev1.PodRunning {
			continue // it holds the phase itself
		}
		n, err := w.Prober.Connected(ctx, probe.Istiod{Address: pods[i].Status.PodIP, Revision: pods[i].Labels[v1alpha1.LabelRevision], Namespace: q.mesh.Spec.Namespace})
		if err != nil {
			return []probe.Finding{{Target: target, Err: err}}
		}
		connected += n
	}
	if connected <= asked {
		return nil
	}
	return []probe.Finding{{Target: target, Err: fmt.Errorf("%d proxies are connected to istiod that are no pods of this cluster, or did not answer: "+
		"see to it that they accept the new root (istioctl proxy-status names them), and waive %s", connected-asked, pki.ElsewhereProxies)}}
}

// asked counts the proxies that answered, and those that hold the phase for they did not. One that is waived counts as neither: whoever else is connected
// could not be told from it.
func asked(q question, findings []probe.Finding, now time.Time) int {
	waived, n := pki.Waived(q.rotation.Spec.RotationVerbs, now), 0
	for _, f := range findings {
		if f.Err == nil || !waived[f.Target.Name] {
			n++
		}
	}
	return n
}
