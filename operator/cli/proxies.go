// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/dataplane"
)

// proxiesOptions are the flags of proxies.
type proxiesOptions struct {
	*factory
	output *output

	mesh                          string
	outdated, unmovable, holdouts bool
	allNamespaces                 bool
}

func newProxies(f *factory) *cobra.Command {
	o := &proxiesOptions{factory: f}
	cmd := &cobra.Command{
		Use:   "proxies [MESH]",
		Short: "List sidecars and gateways by version, revision and workload, and what is outdated or can't be moved",
		Long: `List the proxies of a mesh, and the pods that should have one, by workload (by pod with -o wide): revision, version, and whether that is what they should be.

  Current   of the stable revision, as that injects it now
  Stale     of the stable revision, but not as that injects it now
  Outdated  of another revision of the mesh
  Missing   in a namespace of the mesh, and without a sidecar of it

UNMOVABLE is why a rollout can't restart a workload; HOLDOUT why a rotation of the CA waits for a proxy. All namespaces are listed unless -n names one.`,
		Example: example(
			"kubectl mesh proxies",
			"kubectl mesh proxies --outdated -n shop",
			"kubectl mesh proxies --unmovable -o wide",
		),
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: first(f.live(meshNames)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := o.ready(o.output)
			if err != nil {
				return err
			}
			o.mesh = strings.Join(args, "")
			return o.run(cmd.Context(), c)
		},
	}
	o.output = addOutput(cmd)
	flags := cmd.Flags()
	flags.BoolVar(&o.outdated, "outdated", false, "Only pods that are stale or outdated, or miss their sidecar")
	flags.BoolVar(&o.unmovable, "unmovable", false, "Only pods whose workload can't be moved")
	flags.BoolVar(&o.holdouts, "holdouts", false, "Only proxies for which a rotation of the CA waits")
	flags.BoolVarP(&o.allNamespaces, "all-namespaces", "A", false, "All namespaces, also where -n names one")
	return cmd
}

func (o *proxiesOptions) run(ctx context.Context, c client.Client) error {
	s, err := o.take(ctx, c, o.mesh)
	if err != nil {
		return err
	}
	view, err := o.proxies(ctx, c, s)
	if err != nil {
		return explain(err)
	}
	view.Proxies = slices.DeleteFunc(view.Proxies, func(p ProxyView) bool { return !o.wanted(p) })
	var names []string
	for _, p := range view.Proxies {
		names = append(names, "pod/"+p.Pod)
	}
	return o.view(o.output, view, names, view.says)
}

// wanted says whether the flags ask for a proxy.
func (o *proxiesOptions) wanted(p ProxyView) bool {
	namespace := ""
	if o.Flags.Namespace != nil && !o.allNamespaces {
		namespace = *o.Flags.Namespace
	}
	return (namespace == "" || p.Namespace == namespace) && (!o.outdated || p.State != ProxyCurrent) &&
		(!o.unmovable || p.Unmovable != "") && (!o.holdouts || p.Holdout != "")
}

// proxies judges every pod of the mesh as the operator does.
func (o *proxiesOptions) proxies(ctx context.Context, c client.Client, s *snapshot) (*MeshProxies, error) {
	meshes, err := dataplane.Gather(ctx, c, "") // where the operator runs decides what is enrolled, and not what is a member
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(meshes, func(m dataplane.Named) bool { return m.Name == s.mesh.Name })
	if i < 0 {
		return nil, &notFoundError{"mesh " + s.mesh.Name + " was deleted in this second"}
	}
	namespaces := &metav1.PartialObjectMetadataList{}
	namespaces.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	if err := c.List(ctx, namespaces); err != nil {
		return nil, err
	}
	index, err := dataplane.Read(ctx, c)
	if err != nil {
		return nil, err
	}
	query := dataplane.Query{Stable: s.mesh.Status.StableRevision, Namespaces: map[string]bool{}, Revisions: map[string]string{}}
	versions := map[string]string{}
	for i := range s.revisions {
		query.Revisions[s.revisions[i].Name], versions[s.revisions[i].Name] = s.revisions[i].Spec.Injection, s.revisions[i].Spec.Version
	}
	held := map[string]ProxyView{}
	towards := o.towards(s)
	for n := range namespaces.Items {
		namespace := &namespaces.Items[n]
		if dataplane.Judge(meshes[i].Mesh, namespace).Member {
			query.Namespaces[namespace.Name] = true
		}
		member, is := dataplane.MemberOf(meshes[i], namespace)
		if !is {
			continue
		}
		for _, w := range index.Workloads(member, towards) {
			if w.Held != "" {
				held[w.Name] = ProxyView{Unmovable: w.Held, Remedy: w.Remedy}
			}
		}
	}
	view := &MeshProxies{TypeMeta: viewOf("MeshProxies"), Name: s.mesh.Name, Stable: query.Stable, Proxies: []ProxyView{}, Unreadable: s.unreadable}
	holdouts := s.holdouts()
	for _, p := range index.Judged(query) {
		kind, name, _ := strings.Cut(p.Owner, "/")
		why := held[kind+"/"+p.Namespace+"/"+name]
		proxy := ProxyView{
			Namespace: p.Namespace, Pod: p.Name, Workload: p.Owner, Type: "Sidecar", Revision: p.Revision, Version: versions[p.Revision],
			State: stateOf(p), Ready: p.Ready, Unmovable: why.Unmovable, Remedy: why.Remedy, Holdout: holdouts[p.Namespace+"/"+p.Name],
		}
		if p.Gateway {
			proxy.Type, proxy.Unmovable, proxy.Remedy = "Gateway", "", ""
		}
		view.Proxies = append(view.Proxies, proxy)
	}
	return view, nil
}

// towards is what workloads are counted towards: where the rollout moves, else the stable revision.
func (o *proxiesOptions) towards(s *snapshot) dataplane.Towards {
	if r := s.rollout(); r != nil {
		i := slices.IndexFunc(s.revisions, func(m v1alpha1.MeshRevision) bool { return m.Name == r.Spec.Plan.To.Revision })
		if i >= 0 {
			return dataplane.TowardsOf(r, &s.revisions[i], o.Clock.Now())
		}
		return dataplane.TowardsOf(r, nil, o.Clock.Now())
	}
	return dataplane.Towards{Revision: s.mesh.Status.StableRevision, Type: s.mesh.Spec.DataPlane.Restart.Type, Now: o.Clock.Now()}
}

// holdouts are the proxies for which a rotation waits, with the reason.
func (s *snapshot) holdouts() map[string]string {
	out := map[string]string{}
	if r := s.rotation(); r != nil {
		for _, h := range r.Status.Holdouts {
			out[h.Proxy] = h.Why
		}
	}
	return out
}

func stateOf(p dataplane.Judged) ProxyState {
	switch p.Verdict {
	case dataplane.PodCurrent:
		return ProxyCurrent
	case dataplane.PodStale:
		return ProxyStale
	case dataplane.PodOutdated, dataplane.PodForeign:
	}
	if p.Revision == "" {
		return ProxyMissing
	}
	return ProxyOutdated
}

// says writes a row for each workload, or for each pod where it is wide.
func (v *MeshProxies) says(p *page, wide bool) {
	v.summary(p)
	if wide {
		v.pods(p)
	} else {
		v.workloads(p)
	}
	saysUnreadable(p, v.Unreadable)
}

func (v *MeshProxies) summary(p *page) {
	counts := map[ProxyState]int{}
	revisions := map[string]int{}
	for _, x := range v.Proxies {
		counts[x.State]++
		if x.Revision != "" {
			revisions[x.Revision]++
		}
	}
	parts := []string{count(int32(len(v.Proxies)), "pod", "pods")} //nolint:gosec // a cluster has fewer
	for _, state := range []ProxyState{ProxyCurrent, ProxyStale, ProxyOutdated, ProxyMissing} {
		if counts[state] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[state], strings.ToLower(string(state))))
		}
	}
	for _, revision := range slices.Sorted(maps.Keys(revisions)) {
		parts = append(parts, fmt.Sprintf("%d of revision %s", revisions[revision], revision))
	}
	p.line(cell{v.Name, bold}, say("  "+strings.Join(parts, ", ")))
	if len(v.Proxies) > 0 {
		p.line()
	}
}

func (v *MeshProxies) pods(p *page) {
	var rows [][]cell
	for _, x := range v.Proxies {
		ready := "ready"
		if !x.Ready {
			ready = "not ready"
		}
		rows = append(rows, []cell{
			say(x.Namespace), say(x.Pod), say(x.Workload), say(x.Type), say(cmp.Or(x.Revision, "-")), say(cmp.Or(x.Version, "-")),
			{string(x.State), styleOf(string(x.State))},
			say(ready), say(cmp.Or(x.Unmovable, "-")), say(cmp.Or(x.Holdout, "-")), say(x.Remedy),
		})
	}
	if len(rows) > 0 {
		p.table([]string{"NAMESPACE", "POD", "WORKLOAD", "TYPE", "REVISION", "VERSION", "STATE", "READY", "UNMOVABLE", "HOLDOUT", "REMEDY"}, rows)
	}
}

// workloads groups pods that are alike.
func (v *MeshProxies) workloads(p *page) {
	type group struct {
		first ProxyView
		pods  int
	}
	var groups []*group
	at := map[ProxyView]*group{}
	for _, x := range v.Proxies {
		x.Pod, x.Ready = "", false
		if at[x] == nil {
			at[x] = &group{first: x}
			groups = append(groups, at[x])
		}
		at[x].pods++
	}
	slices.SortStableFunc(groups, func(a, b *group) int {
		return cmp.Or(cmp.Compare(a.first.Namespace, b.first.Namespace), cmp.Compare(a.first.Workload, b.first.Workload))
	})
	var rows [][]cell
	for _, g := range groups {
		x := g.first
		rows = append(rows, []cell{
			say(x.Namespace), say(x.Workload), say(x.Type), say(cmp.Or(x.Revision, "-")), say(cmp.Or(x.Version, "-")), say(strconv.Itoa(g.pods)),
			{string(x.State), styleOf(string(x.State))},
			say(cmp.Or(x.Unmovable, "-")), say(cmp.Or(x.Holdout, x.Remedy)),
		})
	}
	if len(rows) > 0 {
		p.table([]string{"NAMESPACE", "WORKLOAD", "TYPE", "REVISION", "VERSION", "PODS", "STATE", "UNMOVABLE", "NOTE"}, rows)
	}
}
