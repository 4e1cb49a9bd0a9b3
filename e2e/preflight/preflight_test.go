// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package preflight

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Masterminds/semver/v3"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/discovery"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/bundles/istio"
	"github.com/meshwright/meshwright/e2e/framework"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/cli"
	"github.com/meshwright/meshwright/operator/dataplane"
	"github.com/meshwright/meshwright/operator/facts"
	"github.com/meshwright/meshwright/operator/preflight"
)

// seeded is what the seeds are found as, when the mesh would move from 1.28.2 to 1.29.1.
var seeded = []string{
	"MW101 EnvoyFilter/shop/old-version",
	"MW102 EnvoyFilter/shop/new-version",
	"MW103 EnvoyFilter/shop/internals",
	"MW104 EnvoyFilter/shop/relative",
	"MW105 EnvoyFilter/shop/ignored",
	"MW106 WasmPlugin/shop/bound",
	"MW107 WasmPlugin/shop/plain",
	"MW201 CustomResourceDefinition/serviceroles.rbac.istio.io",
	"MW202 VirtualService/shop/delays",
	"MW203 Deployment/shop/quiet",
	"MW204 Service/shop/quiet",
	"MW205 CustomResourceDefinition/sidecars.networking.istio.io",
	"MW206 CustomResourceDefinition/proxyconfigs.networking.istio.io",
	"MW207 CustomResourceDefinition/sidecars.networking.istio.io", // who gives it another version writes its versions
	"MW207 CustomResourceDefinition/telemetries.telemetry.istio.io",
	"MW208 CustomResourceDefinition/gatewayclasses.gateway.networking.k8s.io",
	"MW209 CustomResourceDefinition/backendtlspolicies.gateway.networking.k8s.io",
	"MW301 MeshInstallation/default",
	"MW302 MeshInstallation/default",
	"MW401 ValidatingWebhookConfiguration/seed-policy",
	"MW402 MutatingWebhookConfiguration/seed-injector-gone",
	"MW403 MutatingWebhookConfiguration/seed-injector-a",
	"MW403 MutatingWebhookConfiguration/seed-injector-b",
	"MW404 MutatingWebhookConfiguration/seed-injector-gone",
	"MW405 Namespace/both",
	"MW406 MutatingWebhookConfiguration/seed-tag-lost",
	"MW407 Namespace/nowhere",
	"MW408 Namespace/stale",
	"MW409 Deployment/bare/old",
	"MW410 Deployment/outside/edge",
	"MW503 Pod/outside/antique",
	"MW601 PodDisruptionBudget/shop/cart",
	"MW602 Pod/shop/debug",
	"MW603 Namespace/strict",
	"MW701 Deployment/istio-system/istiod-1-29-1",
	"MW702 ResourceQuota/istio-system/seed",
	"MW703 LimitRange/istio-system/seed",
	"MW704 HorizontalPodAutoscaler/istio-system/seed",
	"MW801 NetworkPolicy/istio-system/seed",
	"MW802 NetworkPolicy/istio-ingress/seed",
	"MW803 NetworkPolicy/shop/seed",
}

// reported are the messages about an upgrade that the real istioctl has of the seeds.
var reported = []string{
	"IST0002", "IST0103", "IST0123", "IST0135", "IST0136", "IST0139", "IST0146", "IST0152", "IST0153", "IST0154", "IST0158", "IST0172",
}

// Before the seeds nothing is found, and then each and nothing else; what can't be seeded beside the others is, one after another. The real
// istioctl, which looks at the same cluster, finds nothing about an upgrade that is not found here at the same object.
func TestEachFindingAndNothingElse(t *testing.T) {
	if err := env.RemoveIstioCRDs(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // the seeds have changed some of them, which a mesh would keep
		if err := env.RemoveIstioCRDs(context.Background()); err != nil {
			t.Error(err)
		}
	})
	env.TemporaryNamespace(t, shop, map[string]string{framework.EnrollLabel: "default"})
	env.TemporaryNamespaces(t, nil, outside, both, stale, strict, nowhere, bare)
	mesh := framework.Mesh("default", framework.Istio128)
	mesh.Spec.Gateways = []v1alpha1.Gateway{framework.Gateway("istio-ingress", "ingress")}
	env.Install(t, mesh)
	if err := env.WaitFor(t.Context(), "the shop to be enrolled", env.NamespaceHasLabel(shop, dataplane.RevisionLabel, revision)); err != nil {
		t.Fatal(err)
	}
	if err := env.Deploy(t.Context(), cart); err != nil {
		t.Fatal(err)
	}
	if err := env.WaitDeployment(t.Context(), client.ObjectKey{Namespace: shop, Name: cart.Name}); err != nil {
		t.Fatal(err)
	}

	found := map[preflight.Code]bool{}
	note := func(all []cli.FindingView) []string {
		for _, f := range all {
			found[f.Code] = true
		}
		return lines(all)
	}
	before, code := ask(t, clock.RealClock{}, "--to", framework.Istio129)
	if diff := cmp.Diff([]string(nil), lines(before.Findings)); diff != "" || code != cli.ExitOK {
		t.Fatalf("before the seeds, exit code %d (-want +got):\n%s", code, diff)
	}

	seed(t)
	after, code := ask(t, clock.RealClock{}, "--to", framework.Istio129)
	if diff := cmp.Diff(seeded, note(after.Findings)); diff != "" || code != cli.ExitBlocked || !after.Holds {
		t.Errorf("with the seeds, exit code %d, holds %v (-want +got):\n%s", code, after.Holds, diff)
	}
	besideIstioctl(t, after.Findings)

	// only fails unless one thing is found that is not among the seeds, or of a code that comes with it.
	only := func(reason, want string, all []cli.FindingView, beside ...preflight.Code) {
		t.Helper()
		got := slices.DeleteFunc(note(all), func(line string) bool {
			code, _, _ := strings.Cut(line, " ")
			return line != want && (slices.Contains(seeded, line) || slices.Contains(beside, preflight.Code(code)))
		})
		if diff := cmp.Diff([]string{want}, got); diff != "" {
			t.Errorf("%s, beside the seeds (-want +got):\n%s", reason, diff)
		}
	}
	asked := func(now clock.Clock, args ...string) []cli.FindingView {
		t.Helper()
		view, _ := ask(t, now, args...)
		return view.Findings
	}
	// Of an older version, CRDs and proxies are newer, and istiod is called otherwise.
	only("a move down", "MW502 MeshInstallation/default", asked(clock.RealClock{}, "--to", "1.26.1"),
		preflight.NewerCRD, preflight.ProxySkew, preflight.KubernetesVersion, preflight.NoRoom)
	only("a Kubernetes that the target does not support", "MW501 MeshInstallation/default", elsewhere(t))
	grantViewer(t)
	only("few rights", "MW901 Resource/nodes", asked(clock.RealClock{}, "--to", framework.Istio129, "--as", viewer), preflight.NotChecked)
	only("an operator without rights", "MW902 Resource/istio-system/deployments",
		asked(clock.RealClock{}, "--to", framework.Istio129, "--operator-namespace", "nobody"), preflight.MissingPermission)
	only("a root that has almost ended", "MW903 MeshInstallation/default",
		asked(clocktesting.NewFakeClock(rootEnds(t).Add(-time.Hour)), "--to", framework.Istio129))
	patchMesh(t, `{"spec": {"controlPlane": {"values": {"compatibilityVersion": "1.10"}}}}`)
	only("values that the chart does not take", "MW303 MeshInstallation/default", asked(clock.RealClock{}, "--to", framework.Istio129))

	for _, info := range preflight.Codes() {
		if !found[info.Code] {
			t.Errorf("%s %s was never found", info.Code, info.Name)
		}
	}
}

// lines are findings by code and object, once each, in order.
func lines(all []cli.FindingView) (out []string) {
	for _, f := range all {
		out = append(out, string(f.Code)+" "+f.Object)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// ask runs kubectl mesh preflight.
func ask(t *testing.T, now clock.Clock, args ...string) (view cli.MeshPreflight, code cli.ExitCode) {
	t.Helper()
	var out, errs bytes.Buffer
	root := cli.New(genericiooptions.IOStreams{In: strings.NewReader(""), Out: &out, ErrOut: &errs}, now)
	root.SetArgs(append([]string{"preflight", "-o", "json", "--kubeconfig", env.Cluster.Kubeconfig()}, args...))
	err := root.ExecuteContext(t.Context())
	if code = cli.ExitCodeOf(err); code != cli.ExitOK && code != cli.ExitBlocked {
		t.Fatalf("kubectl mesh preflight %v: exit code %d: %v\n%s", args, code, err, errs.String())
	}
	if err := json.Unmarshal(out.Bytes(), &view); err != nil {
		t.Fatalf("%v in\n%s", err, out.String())
	}
	return view, code
}

// elsewhere is what is found where the catalogue says that the target is for later versions of Kubernetes only: that it is not so here
// depends on the cluster of the test.
func elsewhere(t *testing.T) (out []cli.FindingView) {
	t.Helper()
	library, err := istio.Open(t.Context(), istio.Builtin())
	if err != nil {
		t.Fatal(err)
	}
	catalogue, err := istio.BuiltinCatalogue()
	if err != nil {
		t.Fatal(err)
	}
	asks, err := discovery.NewDiscoveryClientForConfig(env.Config)
	if err != nil {
		t.Fatal(err)
	}
	info, err := asks.ServerVersion()
	if err != nil {
		t.Fatal(err)
	}
	kubernetes, err := semver.NewVersion(info.GitVersion)
	if err != nil {
		t.Fatal(err)
	}
	from, to := semver.MustParse(framework.Istio128), semver.MustParse(framework.Istio129)
	line, known := catalogue.Line(to)
	if !known {
		t.Fatalf("the catalogue does not know %s", to)
	}
	line.KubernetesMin, line.KubernetesMax = kubernetes.Minor()+1, kubernetes.Minor()+1
	catalogue[line.Name] = line
	namespace, err := facts.OperatorNamespace(t.Context(), env.Client)
	if err != nil {
		t.Fatal(err)
	}
	m := &v1alpha1.MeshInstallation{}
	if err := env.Client.Get(t.Context(), client.ObjectKey{Name: "default"}, m); err != nil {
		t.Fatal(err)
	}
	m.Spec.Version = framework.Istio129
	gatherer := &facts.Gatherer{Library: library, Catalogue: catalogue, Kubernetes: kubernetes, Clock: clock.RealClock{}, Namespace: namespace}
	all, err := gatherer.Check(t.Context(), env.Client, facts.Inquiry{Mesh: m, From: from, To: to})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		out = append(out, cli.FindingView{Code: f.Code, Object: f.Object.String()})
	}
	return out
}

func rootEnds(t *testing.T) time.Time {
	t.Helper()
	m := &v1alpha1.MeshInstallation{}
	if err := env.Client.Get(t.Context(), client.ObjectKey{Name: "default"}, m); err != nil {
		t.Fatal(err)
	}
	if len(m.Status.Certificates.Roots) == 0 {
		t.Fatal("the status knows no root")
	}
	return m.Status.Certificates.Roots[0].NotAfter.Time
}

// besideIstioctl asks the real istioctl about the same cluster.
func besideIstioctl(t *testing.T, ours []cli.FindingView) {
	t.Helper()
	at := map[string][]preflight.Code{}
	for _, f := range ours {
		at[f.Object] = append(at[f.Object], f.Code)
	}
	table := map[string]message{}
	for _, m := range messages {
		table[m.code] = m
	}
	seen := map[string]bool{}
	for _, args := range [][]string{
		{"analyze", "--all-namespaces", "--revision", revision, "--output-threshold", "Info", "-o", "json"},
		{"x", "precheck", "--output-threshold", "Info", "-o", "json"},
	} {
		for _, m := range istioctl(t, args...) {
			entry, known := table[m.Code]
			if !known {
				t.Errorf("istioctl %s reports %s, which is in no table", args[0], m.Code)
				continue
			}
			if len(entry.ours) == 0 {
				continue
			}
			object, applied := objectOf(t, m.Origin)
			if applied {
				continue // what Meshwright itself applies is made for every version
			}
			seen[m.Code] = true
			if !slices.ContainsFunc(entry.ours, func(c preflight.Code) bool { return slices.Contains(at[object], c) }) {
				t.Errorf("istioctl %s says %s (%s) of %s: %s\nwant one of %v there, found %v", args[0], m.Code, entry.name, object, m.Message, entry.ours, at[object])
			}
		}
	}
	// Which of the two is said of a relative patch depends on what is created first.
	if !seen["IST0151"] && !seen["IST0155"] {
		t.Error("istioctl says nothing of the relative patch")
	}
	delete(seen, "IST0151")
	delete(seen, "IST0155")
	if diff := cmp.Diff(reported, slices.Sorted(maps.Keys(seen))); diff != "" {
		t.Errorf("what istioctl reports of the seeds (-want +got):\n%s", diff)
	}
}

// istioctlMessage is a message as istioctl prints it.
type istioctlMessage struct {
	Code    string `json:"code"`
	Origin  string `json:"origin"`
	Message string `json:"message"`
}

func istioctl(t *testing.T, args ...string) (out []istioctlMessage) {
	t.Helper()
	// It exits with an error because it finds some.
	printed, err := env.Istioctl(t.Context(), args...)
	begin := strings.Index(printed, "[")
	if begin < 0 {
		t.Fatalf("istioctl %v: %v\n%s", args, err, printed)
	}
	if err := json.NewDecoder(strings.NewReader(printed[begin:])).Decode(&out); err != nil {
		t.Fatalf("istioctl %v: %v\n%s", args, err, printed)
	}
	return out
}

// objectOf is the object that istioctl names, as findings name it: a pod is what would make it anew. Applied says that Meshwright applies it.
func objectOf(t *testing.T, origin string) (object string, applied bool) {
	t.Helper()
	kind, name, _ := strings.Cut(origin, " ")
	key := client.ObjectKey{Name: name}
	if namespace, rest, namespaced := strings.Cut(name, "/"); namespaced {
		key = client.ObjectKey{Namespace: namespace, Name: rest}
	}
	named := preflight.Object{Kind: kind, Namespace: key.Namespace, Name: key.Name}
	if kind == "Pod" {
		p := &corev1.Pod{}
		if err := env.Client.Get(t.Context(), key, p); err != nil {
			t.Fatal(err)
		}
		owner, of, _ := strings.Cut(dataplane.OwnerOf(p), "/")
		named.Kind, named.Name = owner, of
		return named.String(), p.Labels[v1alpha1.LabelMesh] != ""
	}
	for _, group := range []string{"v1", "apps/v1", "networking.istio.io/v1alpha3"} {
		o := &unstructured.Unstructured{}
		o.SetAPIVersion(group)
		o.SetKind(kind)
		if err := env.Client.Get(t.Context(), key, o); err == nil {
			return named.String(), o.GetLabels()[v1alpha1.LabelMesh] != ""
		}
	}
	return named.String(), false
}
