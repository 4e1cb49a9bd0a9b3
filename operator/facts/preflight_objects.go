// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package facts

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/preflight"
	"github.com/meshwright/meshwright/operator/render"
)

// The kinds of Istio that are looked at. Each has been served in this version since Istio 1.22.
var (
	envoyFilter = schema.GroupVersionKind{Group: "networking.istio.io", Version: "v1alpha3", Kind: "EnvoyFilter"}
	wasmPlugin  = schema.GroupVersionKind{Group: "extensions.istio.io", Version: "v1alpha1", Kind: "WasmPlugin"}

	configuration = map[string]schema.GroupVersionKind{
		"virtualservices.networking.istio.io":  {Group: "networking.istio.io", Version: "v1", Kind: "VirtualService"},
		"destinationrules.networking.istio.io": {Group: "networking.istio.io", Version: "v1", Kind: "DestinationRule"},
		"gateways.networking.istio.io":         {Group: "networking.istio.io", Version: "v1", Kind: "Gateway"},
		"sidecars.networking.istio.io":         {Group: "networking.istio.io", Version: "v1", Kind: "Sidecar"},
		"telemetries.telemetry.istio.io":       {Group: "telemetry.istio.io", Version: "v1", Kind: "Telemetry"},
	}
)

// extensions are what changes what istiod writes for proxies. What the operator itself has applied, for every version of Istio, is left
// out. They are many, so that they are judged or trimmed page by page.
func (r *reading) extensions(ctx context.Context) error {
	read := func(resources string, kind schema.GroupVersionKind, keep func(preflight.Extension)) error {
		return pages(ctx, r, resources, "", func() *unstructured.UnstructuredList { return untyped(kind) }, func(list *unstructured.UnstructuredList) {
			for i := range list.Items {
				item := &list.Items[i]
				if item.GetLabels()[v1alpha1.LabelMesh] != "" {
					continue
				}
				spec, _, _ := unstructured.NestedFieldNoCopy(item.Object, "spec")
				written, _ := spec.(map[string]any)
				keep(preflight.Extension{
					Kind: kind.Kind, Namespace: item.GetNamespace(), Name: item.GetName(), Annotations: item.GetAnnotations(), Spec: written,
				})
			}
		})
	}
	err := read("envoyfilters.networking.istio.io", envoyFilter, func(e preflight.Extension) { r.out.EnvoyFilters = append(r.out.EnvoyFilters, preflight.Trim(e)) })
	if err != nil {
		return err
	}
	err = read("wasmplugins.extensions.istio.io", wasmPlugin, func(e preflight.Extension) { r.out.WasmPlugins = append(r.out.WasmPlugins, preflight.Trim(e)) })
	if err != nil {
		return err
	}
	judge := preflight.Configuration(r.inquiry.Mesh)
	for _, resources := range slices.Sorted(maps.Keys(configuration)) {
		err := read(resources, configuration[resources], func(e preflight.Extension) { r.out.Deprecated = append(r.out.Deprecated, judge(e)...) })
		if err != nil {
			return err
		}
	}
	return nil
}

var crdKind = schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"}

// bundleAnnotation is on the CRDs of the Gateway API.
const bundleAnnotation = "gateway.networking.k8s.io/bundle-version"

// crds are those of Istio and of the Gateway API. A CRD is large, and a cluster has hundreds of them: they are listed by their metadata, and
// the few that are judged are read one by one.
func (r *reading) crds(ctx context.Context) error {
	const resources = "customresourcedefinitions.apiextensions.k8s.io"
	var names []string
	err := pages(ctx, r, resources, "", func() *metav1.PartialObjectMetadataList { return metadata(crdKind) }, func(list *metav1.PartialObjectMetadataList) {
		for i := range list.Items {
			_, group, _ := strings.Cut(list.Items[i].Name, ".") // the API server sees to it that a CRD is called so
			if strings.HasSuffix(group, "istio.io") || group == "gateway.networking.k8s.io" {
				names = append(names, list.Items[i].Name)
			}
		}
	})
	if err != nil {
		return err
	}
	for _, name := range names {
		o := &unstructured.Unstructured{}
		o.SetGroupVersionKind(crdKind)
		switch err := r.live.Get(ctx, client.ObjectKey{Name: name}, o); {
		case apierrors.IsNotFound(err):
			continue
		case apierrors.IsForbidden(err):
			return r.unless(err, resources, "get", "") // and so are the others
		case err != nil:
			return err
		}
		r.out.CRDs = append(r.out.CRDs, crdOf(o))
	}
	return nil
}

// crdOf keeps of a CRD what is judged.
func crdOf(o *unstructured.Unstructured) preflight.CRD {
	group, _, _ := unstructured.NestedString(o.Object, "spec", "group")
	kind, _, _ := unstructured.NestedString(o.Object, "spec", "names", "kind")
	stored, _, _ := unstructured.NestedStringSlice(o.Object, "status", "storedVersions")
	out := preflight.CRD{
		Name: o.GetName(), Group: group, Kind: kind, Stored: stored,
		Version: o.GetLabels()[render.VersionLabel], Bundle: o.GetAnnotations()[bundleAnnotation],
	}
	versions, _, _ := unstructured.NestedFieldNoCopy(o.Object, "spec", "versions")
	list, _ := versions.([]any)
	for _, item := range list {
		v, _ := item.(map[string]any)
		name, _ := v["name"].(string)
		out.Versions = append(out.Versions, name)
		if served, _ := v["served"].(bool); served {
			out.Served = append(out.Served, name)
		}
	}
	for _, entry := range o.GetManagedFields() {
		// Status is written by the API server, and labels and annotations by whoever likes.
		writes := entry.Subresource == "" && entry.FieldsV1 != nil && bytes.Contains(entry.FieldsV1.GetRawBytes(), []byte(`"f:versions"`))
		if writes && entry.Manager != v1alpha1.ManagerInstallation && !slices.Contains(out.Writers, entry.Manager) {
			out.Writers = append(out.Writers, entry.Manager)
		}
	}
	return out
}

// webhooks are all of the cluster, with what answers them.
func (r *reading) webhooks(ctx context.Context) error {
	var services []admissionv1.ServiceReference
	ask := func(c admissionv1.WebhookClientConfig) {
		if c.Service != nil {
			services = append(services, *c.Service)
		}
	}
	err := pages(ctx, r, "mutatingwebhookconfigurations.admissionregistration.k8s.io", "",
		func() *admissionv1.MutatingWebhookConfigurationList {
			return &admissionv1.MutatingWebhookConfigurationList{}
		},
		func(list *admissionv1.MutatingWebhookConfigurationList) {
			for _, c := range list.Items {
				c.ManagedFields = nil
				for i := range c.Webhooks {
					ask(c.Webhooks[i].ClientConfig)
					c.Webhooks[i].ClientConfig.CABundle = nil // who answers matters, not how it is trusted
				}
				r.out.Mutating = append(r.out.Mutating, c)
			}
		})
	if err != nil {
		return err
	}
	err = pages(ctx, r, "validatingwebhookconfigurations.admissionregistration.k8s.io", "",
		func() *admissionv1.ValidatingWebhookConfigurationList {
			return &admissionv1.ValidatingWebhookConfigurationList{}
		},
		func(list *admissionv1.ValidatingWebhookConfigurationList) {
			for _, c := range list.Items {
				c.ManagedFields = nil
				for i := range c.Webhooks {
					ask(c.Webhooks[i].ClientConfig)
					c.Webhooks[i].ClientConfig.CABundle = nil
				}
				r.out.Validating = append(r.out.Validating, c)
			}
		})
	if err != nil {
		return err
	}
	r.out.Backends = map[types.NamespacedName]preflight.Backend{}
	for _, s := range services {
		key := types.NamespacedName{Namespace: s.Namespace, Name: s.Name}
		if _, asked := r.out.Backends[key]; asked {
			continue
		}
		if err := r.backend(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

// backend looks at the Service of a webhook.
func (r *reading) backend(ctx context.Context, key types.NamespacedName) error {
	service := &corev1.Service{}
	switch err := r.live.Get(ctx, key, service); {
	case apierrors.IsNotFound(err):
		r.out.Backends[key] = preflight.Backend{}
		return nil
	case err != nil:
		return r.unless(err, "services", "get", key.Namespace)
	}
	found := preflight.Backend{Exists: true, Ready: service.Spec.Type == corev1.ServiceTypeExternalName}
	before := len(r.out.Unread)
	err := pages(ctx, r, "endpointslices.discovery.k8s.io", key.Namespace, func() *discoveryv1.EndpointSliceList { return &discoveryv1.EndpointSliceList{} },
		func(list *discoveryv1.EndpointSliceList) {
			for i := range list.Items {
				found.Ready = found.Ready || slices.ContainsFunc(list.Items[i].Endpoints, func(e discoveryv1.Endpoint) bool {
					return len(e.Addresses) > 0 && (e.Conditions.Ready == nil || *e.Conditions.Ready)
				})
			}
		}, client.MatchingLabels{discoveryv1.LabelServiceName: key.Name})
	if err != nil || len(r.out.Unread) > before {
		return err // what can't be read is no proof that nobody answers
	}
	r.out.Backends[key] = found
	return nil
}
