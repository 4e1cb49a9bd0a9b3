// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package facts

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/dataplane"
	"github.com/meshwright/meshwright/operator/preflight"
	"github.com/meshwright/meshwright/operator/rollout"
	"github.com/meshwright/meshwright/operator/version"
)

const (
	proxyContainer = "istio-proxy"
	initContainer  = "istio-init"
	// templatesAnnotation says what is injected: a gateway, for one.
	templatesAnnotation = "inject.istio.io/templates"
	// autoImage is what the injector replaces.
	autoImage = "auto"
	// injectorMap begins the names of the ConfigMaps of injectors.
	injectorMap = "istio-sidecar-injector"
)

// injected are the values of an injector, as its ConfigMap has them.
//
// Source: Istio, manifests/charts/istio-control/istio-discovery/templates/istiod-injector-configmap.yaml, and GetIstioProxyImage in
// pkg/config/analysis/analyzers/injection.
type injected struct {
	Global struct {
		Hub   string `json:"hub"`
		Tag   any    `json:"tag"`
		Proxy struct {
			Image string `json:"image"`
		} `json:"proxy"`
	} `json:"global"`
	Pilot struct {
		CNI struct {
			Enabled bool `json:"enabled"`
		} `json:"cni"`
	} `json:"pilot"`
}

// redirects says whether a control plane that is rendered leaves it to a node agent to redirect traffic.
func redirects(objects []*unstructured.Unstructured) (bool, error) {
	for _, o := range objects {
		if o.GetKind() != "ConfigMap" || !strings.HasPrefix(o.GetName(), injectorMap) {
			continue
		}
		text, _, err := unstructured.NestedString(o.Object, "data", "values")
		if err != nil {
			return false, err
		}
		var values injected
		if err := json.Unmarshal([]byte(text), &values); err != nil {
			return false, fmt.Errorf("values of %s: %w", o.GetName(), err)
		}
		return values.Pilot.CNI.Enabled, nil
	}
	return false, nil
}

// injection is what revisions inject, as their ConfigMaps say.
func (r *reading) injection(ctx context.Context) error {
	r.out.Proxies = map[string]string{}
	return pages(ctx, r, "configmaps", r.out.Move.Namespace, func() *corev1.ConfigMapList { return &corev1.ConfigMapList{} }, func(list *corev1.ConfigMapList) {
		for i := range list.Items {
			m := &list.Items[i]
			var values injected
			if !strings.HasPrefix(m.Name, injectorMap) || json.Unmarshal([]byte(m.Data["values"]), &values) != nil {
				continue
			}
			// Where Meshwright keeps no mesh, what is there is what would be kept.
			r.out.CNI = r.out.CNI || r.inquiry.Mesh == nil && values.Pilot.CNI.Enabled
			image := values.Global.Proxy.Image
			if tag, isText := values.Global.Tag.(string); isText && !strings.Contains(image, "/") {
				image = values.Global.Hub + "/" + image + ":" + tag
			}
			revision := strings.TrimPrefix(strings.TrimPrefix(m.Name, injectorMap), "-")
			if revision == "" {
				revision = version.DefaultRevisionName
			}
			r.out.Proxies[revision] = image
		}
	})
}

// pods are read once, for what they are and for what they take of the nodes.
func (r *reading) pods(ctx context.Context) error {
	free, err := r.nodes(ctx)
	if err != nil {
		return err
	}
	return pages(ctx, r, "pods", "", func() *corev1.PodList { return &corev1.PodList{} }, func(list *corev1.PodList) {
		for i := range list.Items {
			p := &list.Items[i]
			if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
				continue
			}
			charge(free[p.Spec.NodeName], p)
			if kept, judged := r.podOf(p); judged {
				r.out.Pods = append(r.out.Pods, kept)
			}
		}
	})
}

// podOf keeps of a pod what is judged, if anything is.
func (r *reading) podOf(p *corev1.Pod) (preflight.Pod, bool) {
	out := preflight.Pod{
		Namespace: p.Namespace, Name: p.Name, Owner: dataplane.OwnerOf(p), Labels: p.Labels, Annotations: ofIstio(p.Annotations),
		OptedOut: dataplane.OptedOut(p), Ours: p.Labels[v1alpha1.LabelMesh] != "",
		Edge: p.Labels[v1alpha1.LabelGateway] != "" || strings.Contains(p.Annotations[templatesAnnotation], "gateway"),
	}
	for _, c := range slices.Concat(p.Spec.Containers, p.Spec.InitContainers) {
		switch c.Name {
		case proxyContainer:
			out.Proxy = c.Image
		case initContainer:
			out.Init = true
		}
	}
	out.Revision, out.Injected = dataplane.InjectedBy(p)
	return out, p.DeletionTimestamp == nil && (out.Proxy != "" || len(out.Annotations) > 0 || r.relevant[p.Namespace])
}

// ofIstio are the annotations that are Istio's.
func ofIstio(all map[string]string) map[string]string {
	out := map[string]string{}
	for key, value := range all {
		if group, _, _ := strings.Cut(key, "/"); strings.HasSuffix(group, "istio.io") {
			out[key] = value
		}
	}
	return out
}

// annotated are Deployments and Services with annotations of Istio, and Deployments that leave their image to an injector. Those of
// gateways are counted.
func (r *reading) annotated(ctx context.Context) error {
	keep := func(kind string, o *metav1.ObjectMeta, template *corev1.PodTemplateSpec) {
		a := preflight.Annotated{Kind: kind, Namespace: o.Namespace, Name: o.Name, Labels: o.Labels, Annotations: ofIstio(o.Annotations)}
		if template != nil {
			a.AutoImage = slices.ContainsFunc(template.Spec.Containers, func(c corev1.Container) bool { return c.Name == proxyContainer && c.Image == autoImage })
			a.Template = template.Labels
		}
		if o.Labels[v1alpha1.LabelMesh] == "" && (len(a.Annotations) > 0 || a.AutoImage) {
			r.out.Annotated = append(r.out.Annotated, a)
		}
	}
	err := pages(ctx, r, "deployments.apps", "", func() *appsv1.DeploymentList { return &appsv1.DeploymentList{} }, func(list *appsv1.DeploymentList) {
		for i := range list.Items {
			d := &list.Items[i]
			keep("Deployment", &d.ObjectMeta, &d.Spec.Template)
			if name := d.Labels[v1alpha1.LabelGateway]; name != "" {
				r.sizes[types.NamespacedName{Namespace: d.Namespace, Name: name}] += ptr.Deref(d.Spec.Replicas, 1)
			}
		}
	})
	if err != nil {
		return err
	}
	return pages(ctx, r, "services", "", func() *metav1.PartialObjectMetadataList {
		return metadata(corev1.SchemeGroupVersion.WithKind("Service"))
	},
		func(list *metav1.PartialObjectMetadataList) {
			for i := range list.Items {
				keep("Service", &list.Items[i].ObjectMeta, nil)
			}
		})
}

// unmovable are the workloads that a rollout would not be able to move.
func (r *reading) unmovable(ctx context.Context) error {
	if r.mesh == nil {
		return nil
	}
	index := r.inquiry.Index
	if index == nil {
		var err error
		if index, err = dataplane.Read(ctx, r.live); apierrors.IsForbidden(err) {
			return r.unless(err, "deployments, statefulsets and daemonsets.apps", "list", "")
		} else if err != nil {
			return err
		}
	}
	towards := dataplane.Towards{Revision: r.out.Move.Revision, Type: r.out.Move.Restart, Now: r.out.Now}
	for i := range r.meta {
		member, is := dataplane.MemberOf(*r.mesh, &r.meta[i])
		if is {
			r.out.Unmovable = append(r.out.Unmovable, rollout.Count(towards.Type, index.Workloads(member, towards)).Held...)
		}
	}
	return nil
}

// budgets of the mesh's namespaces. They are listed once for all: a request for each of many namespaces would be more.
func (r *reading) budgets(ctx context.Context) error {
	members := map[string]bool{}
	for _, n := range r.out.Namespaces {
		members[n.Name] = n.Member
	}
	return pages(ctx, r, "poddisruptionbudgets.policy", "", func() *policyv1.PodDisruptionBudgetList { return &policyv1.PodDisruptionBudgetList{} },
		func(list *policyv1.PodDisruptionBudgetList) {
			for i := range list.Items {
				if b := &list.Items[i]; members[b.Namespace] {
					r.out.Budgets = append(r.out.Budgets, preflight.Budget{
						Namespace: b.Namespace, Name: b.Name, Selector: b.Spec.Selector, DisruptionsAllowed: b.Status.DisruptionsAllowed, ExpectedPods: b.Status.ExpectedPods,
					})
				}
			}
		})
}

// Installed finds which Istio runs where Meshwright keeps none: the images of istiod, the highest version of all, with the namespace that it runs
// in. The version is nil where there is none.
func Installed(ctx context.Context, live client.Reader) (newest *semver.Version, namespace string, err error) {
	var list corev1.PodList
	if err := live.List(ctx, &list, client.MatchingLabels{"app": "istiod"}); err != nil {
		return nil, "", err
	}
	for i := range list.Items {
		for _, c := range list.Items[i].Spec.Containers {
			image, _, _ := strings.Cut(c.Image, "@")
			_, tag, _ := strings.Cut(image[strings.LastIndex(image, "/")+1:], ":")
			v, err := semver.StrictNewVersion(strings.TrimPrefix(tag, "v"))
			if c.Name != "discovery" || err != nil {
				continue
			}
			if plain, err := v.SetPrerelease(""); err == nil && (newest == nil || plain.GreaterThan(newest)) {
				newest, namespace = &plain, list.Items[i].Namespace // a variant is no candidate: 1.29.1-distroless
			}
		}
	}
	return newest, namespace, nil
}

// OperatorNamespace finds where the operator runs, by its Deployment or, where that may not be read, its pods; empty where it is not to be
// found.
func OperatorNamespace(ctx context.Context, live client.Reader) (string, error) {
	for _, kind := range []schema.GroupVersionKind{appsv1.SchemeGroupVersion.WithKind("Deployment"), corev1.SchemeGroupVersion.WithKind("Pod")} {
		list := metadata(kind)
		switch err := live.List(ctx, list, client.MatchingLabels{operatorLabel: operatorName}); {
		case apierrors.IsForbidden(err):
			continue
		case err != nil:
			return "", err
		}
		for i := range list.Items {
			if list.Items[i].Labels[v1alpha1.LabelMesh] == "" {
				return list.Items[i].Namespace, nil
			}
		}
	}
	return "", nil
}
