// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"istio.io/api/annotation"
	meshv1alpha1 "istio.io/api/mesh/v1alpha1"
	networkingv1alpha3 "istio.io/api/networking/v1alpha3"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// removedGroups are API groups that no Istio from 1.26 on reads, with what took their place.
//
// Source: Istio's release notes of 1.6 (rbac.istio.io and authentication.istio.io), 1.8 (config.istio.io) and 1.24 (the operator
// inside the cluster), and deprecatedCRDs in pkg/config/analysis/analyzers/deprecation.
var removedGroups = map[string]string{
	"rbac.istio.io":           "use AuthorizationPolicy",
	"authentication.istio.io": "use PeerAuthentication and RequestAuthentication",
	"config.istio.io":         "use Telemetry and EnvoyFilter",
	"install.istio.io":        "MeshInstallation takes its place",
}

// removedAPIs judges the CRDs of kinds that nothing reads.
func removedAPIs(f *Facts) (out []Finding) {
	for _, c := range f.CRDs {
		if instead, gone := removedGroups[c.Group]; gone {
			out = append(out, found(RemovedAPI, crdObject(c), fmt.Sprintf("no Istio reads %s of %s any more", c.Kind, c.Group),
				instead+"; then delete the objects and the CRD"))
		}
	}
	return out
}

// kinds are those of objects that are looked through for deprecated fields, by Istio's own definition of them.
var kinds = map[string]proto.Message{
	"VirtualService":  &networkingv1alpha3.VirtualService{},
	"DestinationRule": &networkingv1alpha3.DestinationRule{},
	"Gateway":         &networkingv1alpha3.Gateway{},
	"Sidecar":         &networkingv1alpha3.Sidecar{},
}

// deprecatedFields are those that were found while the objects were read.
func deprecatedFields(f *Facts) []Finding { return f.Deprecated }

// Configuration judges an object of a mesh's configuration, for [Facts.Deprecated]. The mesh is nil where Meshwright keeps none.
func Configuration(m *v1alpha1.MeshInstallation) func(Extension) []Finding {
	lightstep := lightstepProviders(m)
	return func(e Extension) (out []Finding) {
		object := Object{e.Kind, e.Namespace, e.Name}
		if message, known := kinds[e.Kind]; known {
			for _, path := range deprecatedIn("spec", e.Spec, message.ProtoReflect().Descriptor()) {
				out = append(out, found(DeprecatedField, object, path+" is deprecated", "use what Istio's reference names instead"))
			}
		}
		// Source: Istio, pkg/config/analysis/analyzers/deprecation (FieldAnalyzer) and analyzers/telemetry (LightstepAnalyzer).
		if _, set, _ := unstructured.NestedFieldNoCopy(e.Spec, "outboundTrafficPolicy", "egressProxy"); e.Kind == "Sidecar" && set {
			out = append(out, found(DeprecatedField, object, "spec.outboundTrafficPolicy.egressProxy is ignored", "remove it; route to an egress gateway"))
		}
		if e.Kind != "Telemetry" {
			return out
		}
		for _, name := range providersOf(e.Spec) {
			if slices.Contains(lightstep, name) {
				out = append(out, found(DeprecatedField, object, "its provider "+name+" is of the type lightstep, which is deprecated",
					"use a provider of the type opentelemetry"))
			}
		}
		return out
	}
}

func providersOf(telemetry map[string]any) (out []string) {
	tracing, _, _ := unstructured.NestedFieldNoCopy(telemetry, "tracing")
	rules, _ := tracing.([]any)
	for _, item := range rules {
		rule, _ := item.(map[string]any)
		providers, _ := rule["providers"].([]any)
		for _, p := range providers {
			provider, _ := p.(map[string]any)
			if name, ok := provider["name"].(string); ok {
				out = append(out, name)
			}
		}
	}
	return out
}

func lightstepProviders(m *v1alpha1.MeshInstallation) (out []string) {
	if m == nil {
		return nil
	}
	config, err := v1alpha1.DecodeMap(m.Spec.ControlPlane.MeshConfig)
	if err != nil {
		return nil // refused elsewhere
	}
	providers, _ := config["extensionProviders"].([]any)
	for _, p := range providers {
		provider, _ := p.(map[string]any)
		if name, ok := provider["name"].(string); ok && provider["lightstep"] != nil {
			out = append(out, name)
		}
	}
	return out
}

// deprecatedMeshConfig are the deprecated fields of a mesh's configuration.
func deprecatedMeshConfig(m *v1alpha1.MeshInstallation) []string {
	config, err := v1alpha1.DecodeMap(m.Spec.ControlPlane.MeshConfig)
	if err != nil {
		return nil // refused elsewhere
	}
	return deprecatedIn("spec.controlPlane.meshConfig", config, (&meshv1alpha1.MeshConfig{}).ProtoReflect().Descriptor())
}

// deprecatedIn names the fields, and values of enumerations, that are set and that Istio's own definition marks as deprecated.
func deprecatedIn(path string, values map[string]any, message protoreflect.MessageDescriptor) (out []string) {
	for _, key := range slices.Sorted(maps.Keys(values)) {
		f := message.Fields().ByJSONName(key)
		if f == nil {
			f = message.Fields().ByName(protoreflect.Name(key))
		}
		if f == nil {
			continue
		}
		here := path + "." + key
		if o, ok := f.Options().(*descriptorpb.FieldOptions); ok && o.GetDeprecated() {
			out = append(out, here)
			continue
		}
		out = append(out, deprecatedValue(here, values[key], f)...)
	}
	return out
}

func deprecatedValue(path string, value any, f protoreflect.FieldDescriptor) (out []string) {
	switch value := value.(type) {
	case []any:
		for i, item := range value {
			out = append(out, deprecatedValue(fmt.Sprintf("%s[%d]", path, i), item, f)...)
		}
	case map[string]any:
		if f.Message() != nil && !f.IsMap() && f.Message().FullName().Parent() != "google.protobuf" {
			return deprecatedIn(path, value, f.Message())
		}
	case string:
		if f.Enum() == nil {
			return nil
		}
		v := f.Enum().Values().ByName(protoreflect.Name(value))
		if v == nil {
			return nil
		}
		if o, ok := v.Options().(*descriptorpb.EnumValueOptions); ok && o.GetDeprecated() {
			return []string{path + " " + value}
		}
	}
	return out
}

// written are annotations that Istio itself writes, and ofCNI those that its injector writes where the CNI agent redirects.
//
// Source: Istio, pkg/config/analysis/analyzers/maturity.
var (
	written = []string{
		annotation.SidecarStatus.Name, annotation.GatewayControllerVersion.Name, annotation.IoIstioRev.Name,
	}
	ofCNI = []string{
		annotation.SidecarInterceptionMode.Name, annotation.SidecarTrafficIncludeInboundPorts.Name,
		annotation.SidecarTrafficExcludeInboundPorts.Name, annotation.SidecarTrafficIncludeOutboundIPRanges.Name,
	}
)

// annotations judges those of Istio, by Istio's own list of them. Those of pods are said of what would make the pods anew.
func annotations(f *Facts) []Finding {
	known := map[string]*annotation.Instance{}
	for _, a := range annotation.AllResourceAnnotations() {
		known[a.Name] = a
	}
	said := map[string]bool{}
	var out []Finding
	look := func(object Object, all, labels map[string]string, except []string) {
		for _, key := range slices.Sorted(maps.Keys(all)) {
			a := known[key]
			if a == nil || slices.Contains(written, key) || said[object.String()+" "+key] {
				continue
			}
			switch {
			case a.Deprecated && key == annotation.SidecarInject.Name && labels[key] != "":
				continue // the label beside it is what took its place
			case a.Deprecated:
				remedy := "remove it, or use what Istio's reference names instead"
				if key == annotation.SidecarInject.Name {
					remedy = "use the label " + key
				}
				out = append(out, found(DeprecatedAnnotation, object, "the annotation "+key+" is deprecated", remedy))
			case a.FeatureStatus == annotation.Alpha && !slices.Contains(except, key):
				out = append(out, found(AlphaAnnotation, object, "the annotation "+key+" is alpha: Istio may change or drop it in any version",
					"see that Istio "+f.Move.To.String()+" still does what it is there for"))
			default:
				continue
			}
			said[object.String()+" "+key] = true
		}
	}
	for _, n := range f.Namespaces {
		if !n.Ours {
			look(Object{Kind: "Namespace", Name: n.Name}, n.Annotations, n.Labels, nil)
		}
	}
	for _, a := range f.Annotated {
		look(Object{a.Kind, a.Namespace, a.Name}, a.Annotations, a.Labels, nil)
	}
	for _, p := range f.Pods {
		if p.Ours {
			continue
		}
		var except []string
		if !p.Init {
			except = ofCNI
		}
		look(p.owner(), p.Annotations, p.Labels, except)
	}
	return out
}

// owner is the object that would make a pod anew.
func (p Pod) owner() Object {
	kind, name, _ := strings.Cut(p.Owner, "/")
	return Object{kind, p.Namespace, name}
}
