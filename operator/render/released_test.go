// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/version"
)

var release = flag.String("release", "", "write testdata/released/<release>: what this code keeps and renders")

// Files of a released version.
const (
	goldenFile = "golden.yaml"
	// packedFile is the whole list of objects of the control plane that is kept, as a MeshRevision holds it.
	packedFile = "objects.json.gz"
)

// golden is what an operator of a released version kept and rendered.
type golden struct {
	// Kubernetes is the version of the cluster.
	Kubernetes string `json:"kubernetes"`
	// Packed is a digest of the objects in packedFile.
	Packed        string                 `json:"packed"`
	ControlPlanes map[string]keptControl `json:"controlPlanes"`
	Gateways      map[string]keptGateway `json:"gateways"`
}

// keptControl is one control plane: what it was made from, and what came of it.
type keptControl struct {
	Spec     v1alpha1.MeshInstallationSpec `json:"spec"`
	Version  string                        `json:"version"`
	Revision string                        `json:"revision"`
	// InputsDigest as the MeshRevision has it. Another one from the same spec would upgrade, or restart, each mesh when the operator is
	// upgraded: there is no change to this code that may change it.
	InputsDigest string `json:"inputsDigest"`
	// Injection and Objects are digests of what the revision injects, and of its objects. They are kept in the MeshRevision, so that nothing
	// moves where this code renders others: whoever means to takes them out here, and says so in the changelog.
	Injection string `json:"injection,omitempty"`
	Objects   string `json:"objects,omitempty"`
	// Singletons is a digest of what exists once: base, CRDs, default revision and a tag. A newer operator renders them anew.
	Singletons string `json:"singletons,omitempty"`
}

// keptGateway is one version of a gateway. An operator that starts renders it anew, so that other objects are new pods.
type keptGateway struct {
	Spec     v1alpha1.MeshInstallationSpec `json:"spec"`
	Gateway  v1alpha1.Gateway              `json:"gateway"`
	Version  string                        `json:"version"`
	Revision string                        `json:"revision"`
	Objects  string                        `json:"objects"`
}

// An operator of this code moves nothing that one of a released version made: it comes to the same digests of inputs, reads the objects
// that are kept, and renders what is not kept as it was.
func TestReleased(t *testing.T) {
	folder := filepath.Join("testdata", "released")
	if *release != "" {
		writeRelease(t, filepath.Join(folder, *release))
	}
	goldens, err := filepath.Glob(filepath.Join(folder, "*", goldenFile))
	if err != nil || len(goldens) == 0 {
		t.Fatalf("no golden of a released version below %s: %v", folder, err)
	}
	for _, file := range goldens {
		t.Run(filepath.Base(filepath.Dir(file)), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var want golden
			if err := yaml.UnmarshalStrict(raw, &want); err != nil {
				t.Fatalf("an installation of that version can't be read: %v", err)
			}
			if len(want.ControlPlanes) == 0 || len(want.Gateways) == 0 {
				t.Fatal("the golden holds nothing")
			}
			for name, control := range want.ControlPlanes {
				if diff := cmp.Diff(control, control.again(t, want.Kubernetes)); diff != "" {
					t.Errorf("control plane %s (-released +now):\n%s", name, diff)
				}
			}
			for name, gateway := range want.Gateways {
				if diff := cmp.Diff(gateway, gateway.again(t, want.Kubernetes)); diff != "" {
					t.Errorf("gateway %s would be given new objects when the operator is upgraded (-released +now):\n%s", name, diff)
				}
			}
			readKept(t, filepath.Join(filepath.Dir(file), packedFile), want)
		})
	}
}

// readKept reads a list of objects that a released version packed.
func readKept(t *testing.T, file string, want golden) {
	t.Helper()
	packed, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	objects, err := Unpack(packed)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.Packed, digestOf(t, objects)); diff != "" {
		t.Errorf("other objects than were packed (-packed +read):\n%s", diff)
	}
	from := want.ControlPlanes[keptCase]
	if got, want := find(t, objects, "Deployment").GetName(), IstiodName(from.Revision); got != want {
		t.Errorf("the Deployment among the kept objects is %s, want %s", got, want)
	}
	again, err := Pack(objects)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(objects, must(t)(Unpack(again))); diff != "" {
		t.Errorf("the kept objects change when they are packed anew (-kept +packed):\n%s", diff)
	}
}

// again is what this code makes of the same. What the golden leaves out is left out.
func (c keptControl) again(t *testing.T, kubernetes string) keptControl {
	t.Helper()
	got, _ := c.render(t, kubernetes)
	for _, left := range []struct {
		was string
		is  *string
	}{{c.Injection, &got.Injection}, {c.Objects, &got.Objects}, {c.Singletons, &got.Singletons}} {
		if left.was == "" {
			*left.is = ""
		}
	}
	return got
}

// render fills in what comes of the inputs, and returns the objects too.
func (c keptControl) render(t *testing.T, kubernetes string) (keptControl, []*unstructured.Unstructured) {
	t.Helper()
	r := requestOf(t, c.Spec, c.Version, kubernetes, c.Revision)
	inputs, err := r.InputsDigest()
	if err != nil {
		t.Fatal(err)
	}
	objects, injection, err := ControlPlane(r)
	if err != nil {
		t.Fatal(err)
	}
	singletons := must(t)(CRDs(r))
	singletons = append(singletons, must(t)(Base(r))...)
	singletons = append(singletons, must(t)(DefaultRevision(r))...)
	singletons = append(singletons, must(t)(Tag(r, "stable"))...)
	c.InputsDigest, c.Injection = inputs, injection
	c.Objects, c.Singletons = digestOf(t, objects), digestOf(t, singletons)
	return c, objects
}

func (g keptGateway) again(t *testing.T, kubernetes string) keptGateway {
	t.Helper()
	values, err := v1alpha1.DecodeMap(g.Gateway.Values)
	if err != nil {
		t.Fatal(err)
	}
	r := GatewayRequest{
		Request: requestOf(t, g.Spec, g.Version, kubernetes, g.Revision),
		Name:    g.Gateway.Name, GatewayNamespace: g.Gateway.Namespace, GatewayValues: values, Shift: g.Gateway.Shift,
	}
	objects, err := Gateway(r)
	if err != nil {
		t.Fatal(err)
	}
	all := append(copies(objects.Shared), must(t)(Scale(objects.Workload, 2, 0))...)
	if age := ConnectionAge(r, objects.Shared); age != nil {
		all = append(all, age)
	}
	if r.Shift.HTTPRoute != nil {
		all = append(all, must(t)(Route(r, objects.Shared, "1-26-1", g.Revision, 25))...)
	}
	g.Objects = digestOf(t, all)
	return g
}

func requestOf(t *testing.T, spec v1alpha1.MeshInstallationSpec, istio, kubernetes, revision string) Request {
	t.Helper()
	mesh := &v1alpha1.MeshInstallation{ObjectMeta: metav1.ObjectMeta{Name: "default"}, Spec: spec}
	r, err := RequestOf(mesh, bundle(t, istio), kubernetes, revision)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func digestOf(t *testing.T, objects []*unstructured.Unstructured) string {
	t.Helper()
	out, err := digest(objects)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// keptCase is the control plane whose objects are kept whole.
const keptCase = "least 1.29.1"

// writeRelease writes the golden of a version that is being released. It is never written anew: meshes of that version are out there.
func writeRelease(t *testing.T, folder string) {
	t.Helper()
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	out := golden{Kubernetes: "v1.34.4", ControlPlanes: map[string]keptControl{}, Gateways: map[string]keptGateway{}}
	for _, istio := range []string{"1.28.2", "1.29.1"} {
		canary := strings.ReplaceAll(istio, ".", "-")
		for name, c := range controlsToKeep() {
			name += " " + istio
			c.Version = istio
			if c.Revision == "" {
				c.Revision = canary
			}
			c, objects := c.render(t, out.Kubernetes)
			out.ControlPlanes[name] = c
			if name != keptCase {
				continue
			}
			out.Packed = c.Objects
			packed, err := Pack(objects)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(folder, packedFile), packed, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		for name, g := range gatewaysToKeep() {
			g.Version, g.Revision = istio, canary
			out.Gateways[name+" "+istio] = g.again(t, out.Kubernetes)
		}
	}
	raw, err := yaml.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, goldenFile), raw, 0o644); err != nil {
		t.Fatal(err)
	}
}

// controlsToKeep are control planes of each kind of input, as the API server stores them.
func controlsToKeep() map[string]keptControl {
	least := v1alpha1.MeshInstallationSpec{Namespace: "istio-system"}
	leaves := least
	leaves.Certificates.LeafSeconds = 43200
	istios := least
	istios.Certificates.LeafSeconds = 86400
	full := least
	full.Images = v1alpha1.Images{
		Hub: "registry.example.com/istio", PullSecrets: []string{"regcred"},
		Digests: map[string]v1alpha1.ImageDigest{
			"pilot":   v1alpha1.ImageDigest("sha256:" + strings.Repeat("0123", 16)),
			"proxyv2": v1alpha1.ImageDigest("sha256:" + strings.Repeat("4567", 16)),
		},
	}
	full.ControlPlane.Values = freeForm(`{"autoscaleMin":2,"global":{"logAsJson":true},"env":{"PILOT_ENABLE_ALPN_FILTER":"false"},"traceSampling":0.5}`)
	full.ControlPlane.MeshConfig = freeForm(`{"accessLogFile":"/dev/stdout","defaultConfig":{"holdApplicationUntilProxyStarts":true}}`)
	return map[string]keptControl{
		"least":                           {Spec: least},
		"in place":                        {Spec: least, Revision: version.DefaultRevisionName},
		"values, mesh config and images":  {Spec: full},
		"all of it in place":              {Spec: full, Revision: version.DefaultRevisionName},
		"leaves of twelve hours":          {Spec: leaves},
		"leaves that live as Istio's own": {Spec: istios},
	}
}

// gatewaysToKeep are gateways of each kind of shift, as the API server stores them.
func gatewaysToKeep() map[string]keptGateway {
	least := v1alpha1.MeshInstallationSpec{Namespace: "istio-system"}
	secrets := least
	secrets.Images = v1alpha1.Images{Hub: "registry.example.com/istio", PullSecrets: []string{"regcred"}}
	gateway := func(values string, shift v1alpha1.GatewayShift) v1alpha1.Gateway {
		shift.TolerancePercent, shift.MinSamples, shift.DrainSeconds = 5, 100, 30
		return v1alpha1.Gateway{Name: "ingress", Namespace: "istio-ingress", Values: freeForm(values), Shift: shift}
	}
	return map[string]keptGateway{
		"least": {Spec: least, Gateway: gateway(`{}`, v1alpha1.GatewayShift{Type: v1alpha1.ShiftReplicas})},
		"values, pull secrets and an age of connections": {
			Spec: secrets,
			Gateway: gateway(`{"autoscaling":{"enabled":false},"replicaCount":3,"service":{"type":"NodePort"},"podAnnotations":{"team":"edge"}}`,
				v1alpha1.GatewayShift{Type: v1alpha1.ShiftSelector, MaxConnectionAgeSeconds: 600}),
		},
		"behind a route": {
			Spec: least,
			Gateway: gateway(`{"service":{"type":"ClusterIP"}}`, v1alpha1.GatewayShift{
				Type:      v1alpha1.ShiftHTTPRoute,
				HTTPRoute: &v1alpha1.RouteShift{ParentRefs: []v1alpha1.RouteParent{{Name: "edge", Namespace: "edge"}}, Port: 80},
			}),
		},
	}
}

func freeForm(text string) *apiextensionsv1.JSON { return &apiextensionsv1.JSON{Raw: []byte(text)} }
