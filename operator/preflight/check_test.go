// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Masterminds/semver/v3"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/version"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// cluster is one in which a move from 1.28.3 to 1.29.1 meets nothing, with changes.
func cluster(changes ...func(*Facts)) *Facts {
	f := &Facts{
		Now: now, Kubernetes: semver.MustParse("1.34.1"),
		Mesh: &v1alpha1.MeshInstallation{ObjectMeta: metav1.ObjectMeta{Name: "default"}},
		Move: Move{
			From: semver.MustParse("1.28.3"), To: semver.MustParse("1.29.1"), Namespace: "istio-system", Revision: "1-29-1",
			Line:     version.Line{Name: "1.29", KubernetesMin: 31, KubernetesMax: 35},
			Restart:  v1alpha1.RestartRollout,
			Operator: Peer{Namespace: "meshwright-system", Labels: map[string]string{"app.kubernetes.io/name": "meshwright"}},
		},
		Namespaces: []Namespace{
			{Name: "istio-system", Labels: map[string]string{nameLabel: "istio-system"}, Ours: true},
			{Name: "shop", Labels: map[string]string{nameLabel: "shop", v1alpha1.IstioRevision: "1-28-3"}, Member: true},
			{Name: "istio-ingress", Labels: map[string]string{nameLabel: "istio-ingress"}, Gateway: true},
			{Name: "other", Labels: map[string]string{nameLabel: "other"}},
		},
		Revisions: []string{"1-28-3", "1-29-1"}, Proxies: map[string]string{"1-28-3": proxy128},
		Pods:   []Pod{cart()},
		Istiod: map[string]string{"app": "istiod", "istio": "istiod", v1alpha1.IstioRevision: "1-29-1"},
		Gateways: []Gateway{{
			Namespace: "istio-ingress", Name: "edge", Labels: map[string]string{"istio": "edge"}, Pods: 2,
			Writes:     []schema.GroupResource{{Resource: "services"}, {Group: "apps", Resource: "deployments"}},
			Containers: []corev1.ResourceRequirements{{Requests: resources("100m", "128Mi"), Limits: resources("2", "1Gi")}},
		}},
		Capacity: Capacity{
			Containers: []corev1.ResourceRequirements{{Requests: resources("500m", "2Gi")}}, Nodes: []Node{{Name: "a", Free: resources("4", "8Gi")}},
		},
	}
	for _, change := range changes {
		change(f)
	}
	return f
}

const proxy128 = "docker.io/istio/proxyv2:1.28.3"

// cart is a pod with a proxy.
func cart() Pod {
	return Pod{Namespace: "shop", Name: "cart-1", Owner: "Deployment/cart", Labels: map[string]string{"app": "cart"}, Proxy: proxy128, Injected: true, Revision: "1-28-3", Init: true}
}

func resources(cpu, memory string) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
}

// from reads an object of the API as users write it.
func from[T any](text string) (out T) {
	if err := yaml.UnmarshalStrict([]byte(text), &out); err != nil {
		panic(err)
	}
	return out
}

func to(v string) func(*Facts) { return func(f *Facts) { f.Move.To = semver.MustParse(v) } }

func restart(r v1alpha1.RestartType) func(*Facts) { return func(f *Facts) { f.Move.Restart = r } }

// changes makes one of several.
func changes(all ...func(*Facts)) func(*Facts) {
	return func(f *Facts) {
		for _, change := range all {
			change(f)
		}
	}
}

func meshConfig(text string) func(*Facts) {
	return func(f *Facts) {
		raw, err := yaml.YAMLToJSON([]byte(text))
		if err != nil {
			panic(err)
		}
		f.Mesh.Spec.ControlPlane.MeshConfig = &apiextensionsv1.JSON{Raw: raw}
	}
}

// line is a finding in one line: severity, code, object, and what the words begin with.
func line(f Finding) string {
	return string(f.Severity) + " " + string(f.Code) + " " + f.Object.String() + ": " + f.Why
}

// testCase is one of a rule.
type testCase struct {
	reason string
	change func(*Facts)
	// want are the findings in their order, as line has them. Words may end early with "...".
	want []string
}

// tables are the cases of all rules.
var tables = [][]testCase{
	filterCases, wasmCases, deprecatedCases, crdCases, configurationCases, webhookCases, injectionCases, workloadCases, controlPlaneCases, networkCases, aroundCases,
}

func TestCheck(t *testing.T) {
	if diff := cmp.Diff([]string(nil), lines(Check(cluster()))); diff != "" {
		t.Fatalf("the cluster in which nothing is to be found (-want +got):\n%s", diff)
	}
	for _, tc := range slices.Concat(tables...) {
		t.Run(tc.reason, func(t *testing.T) {
			f := cluster(tc.change)
			all := Check(f)
			got := lines(all)
			for i := range min(len(got), len(tc.want)) {
				if begin, early := strings.CutSuffix(tc.want[i], "..."); early && strings.HasPrefix(got[i], begin) {
					got[i] = tc.want[i]
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			for _, found := range all {
				if found.Remedy == "" {
					t.Errorf("%s has no remedy", line(found))
				}
			}
		})
	}
}

func lines(all []Finding) (out []string) {
	for _, f := range all {
		out = append(out, line(f))
	}
	return out
}

// Each rule emits what it says and no more, no graver than the catalogue has it, and each code is emitted by a case.
func TestCatalogueIsClosed(t *testing.T) {
	emitted := map[Code]bool{}
	for _, tc := range slices.Concat(tables...) {
		f := cluster(tc.change)
		for _, r := range rules {
			for _, found := range r.judge(f) {
				info, known := InfoOf(found.Code)
				if !known || !slices.Contains(r.emits, found.Code) || info.Severity.rank() > found.Severity.rank() {
					t.Errorf("%s: %s is not what its rule emits (%v), or graver than %s", tc.reason, line(found), r.emits, info.Severity)
				}
				emitted[found.Code] = true
			}
		}
	}
	byRules := map[Code]bool{}
	for _, r := range rules {
		for _, c := range r.emits {
			if byRules[c] {
				t.Errorf("%s is emitted by two rules", c)
			}
			byRules[c] = true
		}
	}
	last := Code("")
	for _, info := range Codes() {
		if !emitted[info.Code] {
			t.Errorf("%s %s: no case emits it", info.Code, info.Name)
		}
		if !byRules[info.Code] {
			t.Errorf("%s %s: no rule emits it", info.Code, info.Name)
		}
		if info.Code <= last || info.Name == "" || !strings.HasSuffix(info.Meaning, ".") {
			t.Errorf("%v: codes ascend, and have a name and a sentence", info)
		}
		last = info.Code
	}
	if len(byRules) != len(Codes()) {
		t.Errorf("%d codes are emitted, %d are in the catalogue", len(byRules), len(Codes()))
	}
}

// The page about preflight lists each code, and each has a page in the runbook, which names what istioctl calls the same.
func TestEachCodeIsDocumented(t *testing.T) {
	docs := filepath.Join("..", "..", "docs")
	all, err := os.ReadFile(filepath.Join(docs, "preflight.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, info := range Codes() {
		row := "| [" + string(info.Code) + "](runbook/" + string(info.Code) + ".md) | " + info.Name + " | " + string(info.Severity) + " | " + info.Meaning + " | " +
			strings.Join(info.Istioctl, ", ") + " |"
		if !strings.Contains(string(all), row) {
			t.Errorf("docs/preflight.md lacks the row\n%s", row)
		}
		page, err := os.ReadFile(filepath.Join(docs, "runbook", string(info.Code)+".md"))
		if err != nil {
			t.Error(err)
			continue
		}
		if !strings.HasPrefix(string(page), "# "+string(info.Code)+"\n\n") {
			t.Errorf("the page of %s does not begin with it", info.Code)
		}
		for _, word := range append([]string{info.Name, "**Why**", "**Remedy**"}, info.Istioctl...) {
			if !strings.Contains(string(page), word) {
				t.Errorf("the page of %s lacks %q", info.Code, word)
			}
		}
		if info.Severity == SeverityError && !strings.Contains(string(page), "acknowledged") {
			t.Errorf("the page of %s does not say how to acknowledge it", info.Code)
		}
	}
	pages, err := filepath.Glob(filepath.Join(docs, "runbook", "MW*.md"))
	if err != nil || len(pages) != len(Codes()) {
		t.Errorf("%d pages of %d codes: %v", len(pages), len(Codes()), err)
	}
}

// A move that leaves the revision as it is restarts pods, and changes nothing else. One to a new revision of the same version is a move like
// any other.
func TestRestartsOnly(t *testing.T) {
	restarts := []string{"Error MW601 PodDisruptionBudget/shop/cart: it allows no eviction now"}
	for _, tc := range []struct {
		reason   string
		restarts bool
		want     []string
	}{
		{"pods are restarted", true, restarts},
		{"a new revision takes room", false, append(slices.Clone(restarts), "Warning MW701 Deployment/istio-system/istiod-1-29-1: istiod 1.28.3 requests cpu 500m, memory 2Gi, and "+
			"none of 0 schedulable nodes without taints has room for it")},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			f := cluster(to("1.28.3"), restart(v1alpha1.RestartEvict), tight, func(f *Facts) { f.Move.Restarts, f.Capacity.Nodes = tc.restarts, nil })
			if diff := cmp.Diff(tc.want, lines(Check(f))); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
