// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package validate

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// Outside is what a spec names that has to be there already.
type Outside struct {
	// Keys of Secrets in the operator's namespace.
	Keys []SecretKey
	// Listeners of outer Gateways.
	Listeners []Listener
}

// SecretKey is a key of a Secret in the operator's namespace.
type SecretKey struct{ Secret, Key string }

// Listener is one of an outer Gateway; an empty name stands for all.
type Listener struct {
	Gateway types.NamespacedName
	Name    string
}

// Secret is what is known of a Secret: never what it holds.
type Secret struct {
	Exists bool
	// Keys that hold something.
	Keys []string
}

// OuterGateway is what is known of a Gateway of the Gateway API.
type OuterGateway struct {
	// NoAPI says that the cluster has no Gateway API at all.
	NoAPI  bool
	Exists bool
	// Listeners by name.
	Listeners []string
}

// Keys of the Secrets that an installation names.
const (
	signatureKey = "hmac"
	tokenKey     = "token"
	usernameKey  = "username"
	passwordKey  = "password"
)

func authKeys(t v1alpha1.AuthType) []string {
	if t == v1alpha1.AuthBasic {
		return []string{usernameKey, passwordKey}
	}
	return []string{tokenKey}
}

// OutsideOf is what an installation names.
func OutsideOf(m *v1alpha1.MeshInstallation) (out Outside) {
	if p := m.Spec.Upgrade.Analysis.Prometheus; p != nil && p.Auth != nil {
		for _, key := range authKeys(p.Auth.Type) {
			out.Keys = append(out.Keys, SecretKey{p.Auth.SecretName, key})
		}
	}
	for _, e := range endpoints(m) {
		if e.SecretName != "" {
			out.Keys = append(out.Keys, SecretKey{e.SecretName, signatureKey})
		}
	}
	for _, g := range m.Spec.Gateways {
		out.Listeners = append(out.Listeners, listeners(g.Shift, g.Namespace)...)
	}
	return out
}

// OutsideOfGateway is what a gateway names.
func OutsideOfGateway(g *v1alpha1.MeshGateway) Outside {
	return Outside{Listeners: listeners(g.Spec.Shift, g.Namespace)}
}

// Without is what is named in o only: what was accepted once is not judged again at each change of something else, such as a pause
// that must not wait until a Secret is back.
func (o Outside) Without(accepted Outside) (out Outside) {
	for _, k := range o.Keys {
		if !slices.Contains(accepted.Keys, k) {
			out.Keys = append(out.Keys, k)
		}
	}
	for _, l := range o.Listeners {
		if !slices.Contains(accepted.Listeners, l) {
			out.Listeners = append(out.Listeners, l)
		}
	}
	return out
}

func listeners(s v1alpha1.GatewayShift, namespace string) (out []Listener) {
	if s.HTTPRoute == nil {
		return nil
	}
	for _, p := range s.HTTPRoute.ParentRefs {
		out = append(out, Listener{outer(p, namespace), p.SectionName})
	}
	return out
}

// outer is the name of an outer Gateway, whose namespace is that of the MeshGateway where it has none.
func outer(p v1alpha1.RouteParent, namespace string) types.NamespacedName {
	if p.Namespace != "" {
		namespace = p.Namespace
	}
	return types.NamespacedName{Namespace: namespace, Name: p.Name}
}

// secret refuses a Secret that is not there, or lacks a key.
func (f Facts) secret(path *field.Path, name string, keys ...string) field.ErrorList {
	there, asked := f.Secrets[name]
	if name == "" || !asked {
		return nil
	}
	if !there.Exists {
		detail := fmt.Sprintf("there is no Secret %s in namespace %s: create it with %s", name, f.OperatorNamespace, named(keys))
		return field.ErrorList{field.Invalid(path, name, detail)}
	}
	missing := slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return slices.Contains(there.Keys, key) })
	if len(missing) == 0 {
		return nil
	}
	detail := fmt.Sprintf("Secret %s in namespace %s lacks %s, or holds nothing there: add it", name, f.OperatorNamespace, named(missing))
	return field.ErrorList{field.Invalid(path, name, detail)}
}

func named(keys []string) string {
	if len(keys) == 1 {
		return "key " + keys[0]
	}
	return "keys " + strings.Join(keys, " and ")
}

// outerGateway refuses an outer Gateway that is not there, or lacks a listener.
func (f Facts) outerGateway(path *field.Path, p v1alpha1.RouteParent, namespace string) field.ErrorList {
	key := outer(p, namespace)
	there, asked := f.OuterGateways[key]
	switch {
	case !asked:
		return nil
	case there.NoAPI:
		detail := "the cluster has no Gateway API: install its CRDs, or use shift.type Replicas"
		return field.ErrorList{field.Invalid(path.Child("name"), p.Name, detail)}
	case !there.Exists:
		detail := fmt.Sprintf("there is no Gateway %s in namespace %s: create it, or name another one", key.Name, key.Namespace)
		return field.ErrorList{field.Invalid(path.Child("name"), p.Name, detail)}
	case p.SectionName != "" && !slices.Contains(there.Listeners, p.SectionName):
		detail := fmt.Sprintf("Gateway %s has no such listener: write one of %s", key, strings.Join(there.Listeners, ", "))
		return field.ErrorList{field.Invalid(path.Child("sectionName"), p.SectionName, detail)}
	}
	return nil
}
