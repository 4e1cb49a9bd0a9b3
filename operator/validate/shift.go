// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package validate

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/traffic"
)

// shifted is a gateway whose traffic is to shift: an entry of spec.gateways, or a MeshGateway.
type shifted struct {
	// shift and values are the paths of Shift and Values.
	shift, values *field.Path

	Shift     v1alpha1.GatewayShift
	Values    map[string]any
	Namespace string
}

// shiftRules checks how the traffic of a gateway is to shift, and that the user's values leave room for it.
func shiftRules(g shifted, f Facts) (errs field.ErrorList, warnings []string) {
	errs = append(errs, route(g, f)...)
	moreErrs, warnings := endOfPods(g)
	errs = append(errs, moreErrs...)
	return append(errs, drainOwned(g)...), warnings
}

// route checks the route of type HTTPRoute.
func route(g shifted, f Facts) (errs field.ErrorList) {
	r := g.Shift.HTTPRoute
	if r == nil {
		return nil
	}
	path := g.shift.Child("httpRoute")
	for i, p := range r.ParentRefs {
		parent := path.Child("parentRefs").Index(i)
		errs = append(errs, parentNames(parent, p)...)
		if again := slices.IndexFunc(r.ParentRefs[:i], func(o v1alpha1.RouteParent) bool {
			return outer(o, g.Namespace) == outer(p, g.Namespace) && (o.SectionName == p.SectionName || o.SectionName == "" || p.SectionName == "")
		}); again >= 0 {
			detail := fmt.Sprintf("is the Gateway of parentRefs[%d]: leave one of them out, or give each a sectionName of its own", again)
			errs = append(errs, field.Invalid(parent.Child("name"), p.Name, detail))
		}
		errs = append(errs, f.outerGateway(parent, p, g.Namespace)...)
	}
	for i, h := range r.Hostnames {
		errs = append(errs, hostname(path.Child("hostnames").Index(i), h)...)
	}
	if ports := servicePorts(g.Values); r.Port != 0 && !slices.Contains(ports, int64(r.Port)) {
		detail := fmt.Sprintf("is no port of the gateway's Service: write one of %s, or add it to %s",
			strings.Trim(fmt.Sprint(ports), "[]"), g.values.Child("service", "ports"))
		errs = append(errs, field.Invalid(path.Child("port"), r.Port, detail))
	}
	return errs
}

func parentNames(path *field.Path, p v1alpha1.RouteParent) (errs field.ErrorList) {
	for _, problem := range validation.IsDNS1123Subdomain(p.Name) {
		errs = append(errs, field.Invalid(path.Child("name"), p.Name, "is no name of a Gateway: "+problem))
	}
	if p.Namespace != "" {
		for _, problem := range validation.IsDNS1123Label(p.Namespace) {
			errs = append(errs, field.Invalid(path.Child("namespace"), p.Namespace, "is no name of a namespace: "+problem))
		}
	}
	if p.SectionName != "" {
		for _, problem := range validation.IsDNS1123Subdomain(p.SectionName) {
			errs = append(errs, field.Invalid(path.Child("sectionName"), p.SectionName, "is no name of a listener: "+problem))
		}
	}
	return errs
}

// hostname checks a name as an HTTPRoute has it: an address is none, and a wildcard is the whole first label.
func hostname(path *field.Path, name string) field.ErrorList {
	if _, err := netip.ParseAddr(name); err == nil {
		return field.ErrorList{field.Invalid(path, name, "is an address: write a name, such as shop.example.com")}
	}
	check := validation.IsDNS1123Subdomain
	if strings.Contains(name, "*") {
		check = validation.IsWildcardDNS1123Subdomain
	}
	if problems := check(name); len(problems) > 0 {
		return field.ErrorList{field.Invalid(path, name, "is no host name, such as shop.example.com or *.example.com: "+problems[0])}
	}
	return nil
}

// chartPorts are those that Istio's gateway chart gives the Service of a gateway.
var chartPorts = []int64{15021, 80, 443}

// servicePorts are the ports of a gateway's Service by its values. A list of the user's takes the place of the chart's.
func servicePorts(values map[string]any) (out []int64) {
	service, _ := values["service"].(map[string]any)
	list, set := service["ports"].([]any)
	if !set {
		return chartPorts
	}
	for _, item := range list {
		port, _ := item.(map[string]any)
		if n, whole := integer(port["port"]); whole {
			out = append(out, n)
		}
	}
	return out
}

// endOfPods checks the times of a pod's beginning and end that the user has set, against how long it is to drain.
func endOfPods(g shifted) (errs field.ErrorList, warnings []string) {
	times := map[string]*int64{}
	for _, key := range []string{"terminationGracePeriodSeconds", "minReadySeconds"} {
		value, set := g.Values[key]
		if !set || value == nil {
			continue
		}
		n, whole := integer(value)
		if !whole || n < 0 {
			errs = append(errs, field.Invalid(g.values.Child(key), summary(value), "has to be a whole number of seconds"))
			continue
		}
		times[key] = &n
	}
	before, known := traffic.PreStop(g.Values)
	if !known {
		warnings = append(warnings, fmt.Sprintf("%s: how long it takes can't be told, and is not in the sum of drainSeconds and terminationGracePeriodSeconds: "+
			"use sleep where it only waits", g.values.Child("lifecycle", "preStop")))
	}
	for _, p := range traffic.CheckTimes(g.Shift.DrainSeconds, times["terminationGracePeriodSeconds"], times["minReadySeconds"], before) {
		value, _ := lookup(g.Values, strings.Split(p.Value, "."))
		errs = append(errs, field.Invalid(g.values.Child(p.Value), value, p.Detail))
	}
	return errs, warnings
}

// integer reads a whole number out of decoded JSON.
func integer(v any) (n int64, whole bool) {
	f, number := v.(float64)
	return int64(f), number && f == math.Trunc(f) && math.Abs(f) < 1<<53
}
