// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

func TestPlanned(t *testing.T) {
	const filter, plugin = "EnvoyFilter/shop/headers", "WasmPlugin/shop/headers"
	for _, tc := range []struct {
		reason       string
		change       func(*Facts)
		acknowledged []string
		want         []v1alpha1.Finding
		blocks       []string
	}{
		{reason: "nothing stands in the way", change: func(*Facts) {}},
		{
			reason: "several codes at one object are one finding, with the gravest code, and each reason once",
			change: filters(extension(`
configPatches:
- {applyTo: HTTP_FILTER, match: {proxy: {proxyVersion: "^1.28"}}, patch: {operation: INSERT_BEFORE, value: {name: x}}}
- {applyTo: BOOTSTRAP, patch: {operation: MERGE, value: {x: y}}}`)),
			want: []v1alpha1.Finding{{
				Name: filter, Code: "MW101", Severity: "Error",
				Message: `configPatches[0] is for proxyVersion "^1.28" and would stop applying: 1.28.3 matches, 1.29.1 does not; configPatches[1] reaches into Envoy: MERGE ` +
					`BOOTSTRAP; configPatches[0] is placed relative to other filters (INSERT_BEFORE HTTP_FILTER), and has no priority; a patch of the same name is bound ` +
					`to a version of the proxy, in shop/headers: mend its proxyVersion; test it with Istio 1.29.1; test it with Istio 1.29.1; set spec.priority, so that the ` +
					`order does not depend on what was created first; or add EnvoyFilter/shop/headers to spec.upgrade.acknowledged`,
			}},
			blocks: []string{filter},
		},
		{
			reason: "what is acknowledged no longer holds the rollout back, and is still told",
			change: filters(extension(lua)), acknowledged: []string{"EnvoyFilter/other/headers", filter},
			want: []v1alpha1.Finding{{
				Name: filter, Code: "MW103", Severity: "Error", Acknowledged: true,
				Message: luaWords + ": test it with Istio 1.29.1; or add EnvoyFilter/shop/headers to spec.upgrade.acknowledged",
			}},
		},
		{
			reason: "what would not hold it back needs no acknowledgement",
			change: plugins(extension("url: x")), acknowledged: []string{plugin},
			want: []v1alpha1.Finding{{
				Name: plugin, Code: "MW107", Severity: "Warning",
				Message: "its module was built against the ABI of a proxy, and Envoy is another one in 1.29.1: test it with Istio 1.29.1",
			}},
		},
		{
			reason: "what is acknowledged by its code leaves the rest of the object, and the gravest of that stands first",
			change: filters(extension(`{priority: 1, configPatches: [{applyTo: BOOTSTRAP, match: {proxy: {proxyVersion: "^1.2[89]"}}, patch: {operation: MERGE, value: {x: y}}}, ` +
				`{applyTo: HTTP_ROUTE, match: {proxy: {proxyVersion: "^1.28"}}, patch: {operation: MERGE}}]}`)),
			acknowledged: []string{"MW101/" + filter},
			want: []v1alpha1.Finding{{
				Name: filter, Code: "MW103", Severity: "Error",
				Message: `configPatches[0] reaches into Envoy: MERGE BOOTSTRAP; configPatches[1] is for proxyVersion "^1.28" and would stop applying: 1.28.3 matches, 1.29.1 ` +
					`does not: test it with Istio 1.29.1; mend its proxyVersion; test it with Istio 1.29.1; or add EnvoyFilter/shop/headers to spec.upgrade.acknowledged`,
			}},
			blocks: []string{filter},
		},
		{
			reason: "of the mesh everything is acknowledged by its own code, and by nothing else",
			change: changes(to("1.27.1"), func(f *Facts) { f.Charts.Failure, f.Pods = "no such profile", nil }), acknowledged: []string{"MeshInstallation/default", "MW303/MeshInstallation/default"},
			want: []v1alpha1.Finding{
				{
					Name: "MW303/MeshInstallation/default", Code: "MW303", Severity: "Error", Acknowledged: true,
					Message: "no such profile: mend spec.controlPlane.values for Istio 1.27.1; or add MW303/MeshInstallation/default to spec.upgrade.acknowledged",
				},
				{
					Name: "MW502/MeshInstallation/default", Code: "MW502", Severity: "Error",
					Message: "from Istio 1.28.3 to 1.27.1: a mesh does not move down, except by the rollback of a rollout: choose a version that is not lower: or set " +
						"spec.upgrade.versionSkew to Accept; or add MW502/MeshInstallation/default to spec.upgrade.acknowledged",
				},
			},
			blocks: []string{"MW502/MeshInstallation/default"},
		},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			all := Check(cluster(tc.change))
			Acknowledge(all, tc.acknowledged)
			findings, blocking := Planned(all)
			if diff := cmp.Diff(tc.want, findings); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
			var names []string
			for _, b := range blocking {
				names = append(names, b.Name)
			}
			if diff := cmp.Diff(tc.blocks, names); diff != "" {
				t.Errorf("blocking (-want +got):\n%s", diff)
			}
		})
	}
}

// A plan holds 100 findings, of 1024 characters each.
func TestPlannedIsBounded(t *testing.T) {
	f := cluster()
	for i := range 150 {
		f.Budgets = append(f.Budgets, Budget{Namespace: "shop", Name: fmt.Sprintf("b%03d", 149-i), Selector: selectorOf(`{}`), ExpectedPods: 1})
		f.WasmPlugins = append(f.WasmPlugins, Extension{Namespace: "shop", Name: fmt.Sprintf("w%03d", i)})
	}
	var patches []any
	for range 50 {
		patches = append(patches, map[string]any{"applyTo": "CLUSTER", "patch": map[string]any{"operation": "MERGE"}})
	}
	f.EnvoyFilters = []Extension{{Namespace: "z", Name: "last", Spec: map[string]any{"configPatches": patches}}}

	findings, blocking := Planned(Check(f))
	if len(findings) != 100 || len(blocking) != 1 {
		t.Fatalf("%d findings and %d that block, not 100 and 1", len(findings), len(blocking))
	}
	if diff := cmp.Diff(v1alpha1.Finding{Name: "More", Message: "202 more were found: see to these first"}, findings[99]); diff != "" {
		t.Error(diff)
	}
	byName := func(a, b v1alpha1.Finding) int { return strings.Compare(a.Name, b.Name) }
	if !slices.IsSortedFunc(findings[:99], byName) {
		t.Error("findings are not in order")
	}
	if !slices.ContainsFunc(findings, func(f v1alpha1.Finding) bool { return f.Name == "EnvoyFilter/z/last" }) {
		t.Error("the gravest finding is not among those that are kept")
	}
	message := blocking[0].Message
	if len(message) > maxMessage || !strings.HasSuffix(message, "to spec.upgrade.acknowledged") || !strings.Contains(message, "...: test it") {
		t.Errorf("a message of %d bytes, with the remedy at its end: %s", len(message), message)
	}
}

// However long the names and the remedies are, how to acknowledge it stays whole.
func TestPlannedTellsHowToAcknowledge(t *testing.T) {
	long := strings.Repeat("n", 253)
	var all []Finding
	for i := range 20 {
		all = append(all, Finding{
			Code: WebhookUnavailable, Severity: SeverityError, Object: Object{"ValidatingWebhookConfiguration", "", long},
			Why: strings.Repeat("w", 90) + string(rune('a'+i)), Remedy: strings.Repeat("r", 90) + string(rune('a'+i)),
		})
	}
	findings, _ := Planned(all)
	message := findings[0].Message
	if hint := "; or add ValidatingWebhookConfiguration/" + long + " to spec.upgrade.acknowledged"; len(message) > maxMessage || !strings.HasSuffix(message, "..."+hint) {
		t.Errorf("a message of %d bytes that does not end with the hint: %s", len(message), message)
	}
}

// Texts are cut between characters.
func TestClip(t *testing.T) {
	for i := range 12 {
		if got := clip("größeröäü", i); !utf8.ValidString(got) || len(got) > max(i, 3) {
			t.Errorf("clip to %d: %q", i, got)
		}
	}
}

// Whatever is found, it is ordered by how grave it is.
func TestSeverities(t *testing.T) {
	if !SeverityError.AtLeast(SeverityWarning) || !SeverityWarning.AtLeast(SeverityWarning) || SeverityInfo.AtLeast(SeverityWarning) {
		t.Error("errors are graver than warnings, and these than the rest")
	}
	for _, info := range Codes() {
		if info.Severity.rank() < 0 {
			t.Errorf("%s has no severity", info.Code)
		}
	}
}
