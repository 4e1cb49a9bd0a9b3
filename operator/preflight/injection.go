// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/version"
)

// istioSuffix ends the names of Istio's webhooks; tagLabel is on those of revision tags.
const (
	istioSuffix = "istio.io"
	tagLabel    = "istio.io/tag"
	injectLabel = "sidecar.istio.io/inject"
	// disabled and enabled are values of the label istio-injection.
	enabled, disabled = "enabled", "disabled"
)

// meshes are the injectors of other meshes, by how the names of their webhooks end.
//
// Source: the charts of linkerd2 (linkerd-proxy-injector.linkerd.io), consul-k8s (consul-connect-injector.consul.hashicorp.com) and
// kuma (namespace-kuma-injector.kuma.io).
var meshes = map[string]string{"linkerd.io": "Linkerd", "consul.hashicorp.com": "Consul", "kuma.io": "Kuma"}

// injector is one webhook of Istio.
type injector struct {
	configuration *admissionv1.MutatingWebhookConfiguration
	hook          *admissionv1.MutatingWebhook
}

func (i injector) object() Object {
	return Object{Kind: "MutatingWebhookConfiguration", Name: i.configuration.Name}
}

func (i injector) selects(namespace, pod map[string]string) bool {
	return matches(i.hook.NamespaceSelector, namespace) && matches(i.hook.ObjectSelector, pod)
}

// istioHooks are the webhooks by which Istio injects.
func istioHooks(f *Facts) (out []injector) {
	for i := range f.Mutating {
		c := &f.Mutating[i]
		for j := range c.Webhooks {
			if strings.HasSuffix(c.Webhooks[j].Name, istioSuffix) {
				out = append(out, injector{c, &c.Webhooks[j]})
			}
		}
	}
	return out
}

// injectors judges those of Istio, and tells those of others.
func injectors(f *Facts) (out []Finding) {
	hooks := istioHooks(f)
	said := map[string]bool{}
	for _, h := range hooks {
		name := h.configuration.Name
		if s := h.hook.ClientConfig.Service; s != nil && !said[name] {
			service := types.NamespacedName{Namespace: s.Namespace, Name: s.Name}
			backend, asked := f.Backends[service]
			switch tag := h.configuration.Labels[tagLabel]; {
			case !asked || backend.Exists:
			case tag != "":
				out = append(out, found(TagRevision, h.object(), fmt.Sprintf("tag %s points at revision %s, whose Service %s does not exist: pods that it "+
					"selects can't be made", tag, h.configuration.Labels[v1alpha1.IstioRevision], service), "let the tag point at a revision that exists, or remove it"))
			default:
				out = append(out, found(InjectorService, h.object(), "its Service "+service.String()+" does not exist: pods that it selects can't be made",
					"remove the webhook, or bring its control plane back"))
			}
			said[name] = backend.Exists || asked
		}
	}
	out = append(out, overlaps(hooks)...)
	return append(out, foreign(f, hooks)...)
}

// overlaps judges whether two injectors would take the same pod. Each combination of the labels by which Istio's injectors choose has to
// be taken by one of them at most.
//
// Source: Istio, pkg/config/analysis/analyzers/webhook.
func overlaps(hooks []injector) (out []Finding) {
	revisions := map[string]bool{"": true}
	for _, h := range hooks {
		for _, r := range revisionsOf(h) {
			revisions[r] = true
		}
	}
	var namespaces, pods []map[string]string
	for _, r := range slices.Sorted(maps.Keys(revisions)) {
		for _, injection := range []string{"", enabled, disabled} {
			namespaces = append(namespaces, labelled(v1alpha1.IstioInjection, injection, r))
		}
		for _, inject := range []string{"", "true", "false"} {
			pods = append(pods, labelled(injectLabel, inject, r))
		}
	}
	pairs := map[string]map[string]bool{}
	for _, n := range namespaces {
		for _, p := range pods {
			pair(pairs, hooks, n, p)
		}
	}
	for _, h := range hooks {
		others := pairs[h.configuration.Name+"/"+h.hook.Name]
		if len(others) == 0 {
			continue
		}
		out = append(out, found(InjectorOverlap, h.object(), fmt.Sprintf("webhook %s takes pods that %s takes, too", h.hook.Name,
			clip(strings.Join(slices.Sorted(maps.Keys(others)), ", "), 300)), "remove the one that is not meant, or narrow its selectors"))
	}
	return out
}

// pair notes which of the injectors take the same pod.
func pair(pairs map[string]map[string]bool, hooks []injector, namespace, pod map[string]string) {
	var taken []string
	for _, h := range hooks {
		if h.selects(namespace, pod) {
			taken = append(taken, h.configuration.Name+"/"+h.hook.Name)
		}
	}
	for _, one := range taken {
		for _, other := range taken {
			if one == other {
				continue
			}
			if pairs[one] == nil {
				pairs[one] = map[string]bool{}
			}
			pairs[one][other] = true
		}
	}
}

func labelled(key, value, revision string) map[string]string {
	out := map[string]string{}
	if value != "" {
		out[key] = value
	}
	if revision != "" {
		out[v1alpha1.IstioRevision] = revision
	}
	return out
}

// revisionsOf are the revisions and tags that an injector names.
func revisionsOf(h injector) (out []string) {
	if r := h.configuration.Labels[v1alpha1.IstioRevision]; r != "" {
		out = append(out, r)
	}
	for _, s := range []*metav1.LabelSelector{h.hook.NamespaceSelector, h.hook.ObjectSelector} {
		if s == nil {
			continue
		}
		if r := s.MatchLabels[v1alpha1.IstioRevision]; r != "" {
			out = append(out, r)
		}
		for _, e := range s.MatchExpressions {
			if e.Key == v1alpha1.IstioRevision {
				out = append(out, e.Values...)
			}
		}
	}
	return out
}

// foreign tells injectors of other meshes.
func foreign(f *Facts, hooks []injector) (out []Finding) {
	said := map[string]bool{}
	ours := map[string]bool{}
	for _, h := range hooks {
		if h.configuration.Labels[v1alpha1.LabelMesh] != "" {
			ours[h.configuration.Labels[v1alpha1.IstioRevision]] = true
		}
	}
	for _, h := range hooks {
		revision := h.configuration.Labels[v1alpha1.IstioRevision]
		// A tag that istioctl has set on a revision of ours is of our mesh; one that points nowhere is told as such.
		if f.Mesh == nil || said[h.configuration.Name] || h.configuration.Labels[v1alpha1.LabelMesh] != "" || ours[revision] || h.configuration.Labels[tagLabel] != "" {
			continue
		}
		said[h.configuration.Name] = true
		out = append(out, found(ForeignInjector, h.object(), "it injects proxies of revision "+revision+", which Meshwright does not keep",
			"let Meshwright take that Istio over, or see that no namespace is labelled for both"))
	}
	for i := range f.Mutating {
		c := &f.Mutating[i]
		for j := range c.Webhooks {
			mesh := ""
			for suffix, name := range meshes {
				if strings.HasSuffix(c.Webhooks[j].Name, suffix) {
					mesh = name
				}
			}
			if mesh == "" || said[c.Name] {
				continue
			}
			for _, n := range f.Namespaces {
				if n.Member && matches(c.Webhooks[j].NamespaceSelector, n.Labels) {
					said[c.Name] = true
					out = append(out, found(ForeignInjector, Object{Kind: "MutatingWebhookConfiguration", Name: c.Name},
						mesh+" is asked about the pods of namespace "+n.Name+", which is in the mesh", "leave the namespace to one mesh"))
					break
				}
			}
		}
	}
	return out
}

// injectionLabels judges the labels of namespaces.
//
// Source: Istio, pkg/config/analysis/analyzers/injection: labels of a namespace that wants no injection contradict nothing.
func injectionLabels(f *Facts) (out []Finding) {
	known := map[string]bool{}
	for _, h := range istioHooks(f) {
		for _, r := range append(revisionsOf(h), h.configuration.Labels[tagLabel]) {
			known[r] = true
		}
	}
	for _, n := range f.Namespaces {
		object := Object{Kind: "Namespace", Name: n.Name}
		injection, asks := n.Labels[v1alpha1.IstioInjection]
		revision, names := n.Labels[v1alpha1.IstioRevision]
		mode, ambient := n.Labels["istio.io/dataplane-mode"]
		var both []string
		if asks {
			both = append(both, v1alpha1.IstioInjection+"="+injection)
		}
		if names && (!asks || injection == enabled) {
			both = append(both, v1alpha1.IstioRevision+"="+revision)
		}
		if ambient && mode != "none" && (!asks || injection == enabled) {
			both = append(both, "istio.io/dataplane-mode="+mode)
		}
		if len(both) > 1 && n.Name != f.Move.Namespace {
			why := "its pods get a sidecar, and ambient leaves out those that have one"
			if asks && names {
				why = "istio-injection beats istio.io/rev, so that the rollout can't move it by its revision"
			}
			out = append(out, found(NamespaceLabels, object, "it is labelled "+strings.Join(both, " and ")+": "+why, "keep one of the labels"))
		}
		if names && injection == "" && len(known) > 0 && !known[revision] && !n.Ours {
			out = append(out, found(NamespaceRevision, object, "it names revision or tag "+revision+", for which there is no injector: its new pods get no proxy",
				"label it for a revision or tag that exists"))
		}
	}
	return out
}

// examples are the first few of a list.
func examples(all []string) string {
	const shown = 5
	slices.Sort(all)
	if len(all) > shown {
		return fmt.Sprintf("%s and %d more", strings.Join(all[:shown], ", "), len(all)-shown)
	}
	return strings.Join(all, ", ")
}

// proxies judges the proxies that run, and those that are missing.
func proxies(f *Facts) (out []Finding) {
	tags := map[string]string{}
	for _, h := range istioHooks(f) {
		if tag := h.configuration.Labels[tagLabel]; tag != "" {
			tags[tag] = h.configuration.Labels[v1alpha1.IstioRevision]
		}
	}
	other := map[string][]string{}
	missing, skewed := map[Object]int{}, map[Object]string{}
	for _, p := range f.Pods {
		n := f.namespace(p.Namespace)
		revision := n.Labels[v1alpha1.IstioRevision]
		if n.Labels[v1alpha1.IstioInjection] == enabled {
			revision = version.DefaultRevisionName
		}
		if to := tags[revision]; to != "" {
			revision = to
		}
		wanted := f.Proxies[revision]
		// An image of the pod's own beats that of the injector; a variant of it ends in its name.
		if p.Proxy != "" && wanted != "" && p.Annotations["sidecar.istio.io/proxyImage"] == "" && p.Proxy != wanted && !strings.HasPrefix(p.Proxy, wanted+"-") {
			other[n.Name] = append(other[n.Name], p.Name)
		}
		if p.Proxy == "" && n.Member && !n.Gateway && !p.OptedOut {
			missing[p.owner()]++
		}
		if why := f.Move.skew(p); why != "" && f.serves(p) {
			skewed[p.owner()] = why
		}
	}
	for n, pods := range other {
		out = append(out, found(ProxyImage, Object{Kind: "Namespace", Name: n},
			fmt.Sprintf("%d pods have another proxy than its revision injects: %s", len(pods), examples(pods)),
			"restart them before the upgrade, so that all proxies begin from the same version"))
	}
	for o, pods := range missing {
		out = append(out, found(MissingProxy, o, fmt.Sprintf("%d of its pods have no proxy, in a namespace of the mesh: they get one when the rollout restarts them", pods),
			"restart it before the upgrade, to see it with a proxy first; or label its pods sidecar.istio.io/inject=false"))
	}
	for o, why := range skewed {
		v := found(ProxySkew, o, why, "restart it first, with the proxy of the version that is installed")
		if !f.Move.InPlace {
			v = v.as(SeverityWarning) // beside its old control plane, which stays until it is moved
		}
		out = append(out, v)
	}
	return out
}

// serves says whether the proxy of a pod is of the mesh. Of a revision that is no more, which nobody injects, the namespace tells whose
// it was; where Meshwright keeps no mesh, all are looked at.
func (f *Facts) serves(p Pod) bool {
	if f.Mesh == nil || slices.Contains(f.Revisions, p.Revision) {
		return true
	}
	return f.namespace(p.Namespace).Member && !slices.ContainsFunc(istioHooks(f), func(h injector) bool {
		return p.Revision != "" && h.configuration.Labels[v1alpha1.IstioRevision] == p.Revision
	})
}

// tagged finds the version in an image.
var tagged = regexp.MustCompile(`:v?([0-9]+\.[0-9]+\.[0-9]+)`)

// skew says why the proxy of a pod is too old, or too new, for the target; empty when it is not.
//
// Source: istio.io, "Supported Releases", "Control Plane/Data Plane Skew": a control plane may be one minor ahead of its proxies, and
// never behind; "Canary Upgrades": by revisions, two minors at a time.
func (m Move) skew(p Pod) string {
	parts := tagged.FindStringSubmatch(p.Proxy)
	if parts == nil || !p.Injected {
		return ""
	}
	is, err := semver.NewVersion(parts[1])
	if err != nil || is.Major() != m.To.Major() {
		return ""
	}
	if is.Minor() > m.To.Minor() {
		return fmt.Sprintf("its proxy is of %s, newer than Istio %s: a proxy must not be ahead of its control plane", is, m.To)
	}
	if version.CheckMove(is, m.To, m.InPlace) != nil {
		return fmt.Sprintf("its proxy is of %s, too old for Istio %s", is, m.To)
	}
	return ""
}
