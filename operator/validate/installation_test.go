// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package validate

import (
	"strings"
	"testing"
	"time"

	"github.com/Masterminds/semver/v3"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/version"
)

// raw is a free-form field as a user would write it, in JSON.
func raw(text string) *apiextensionsv1.JSON { return &apiextensionsv1.JSON{Raw: []byte(text)} }

func mesh(change func(*v1alpha1.MeshInstallation)) *v1alpha1.MeshInstallation {
	m := &v1alpha1.MeshInstallation{
		ObjectMeta: metav1.ObjectMeta{Name: "default"},
		Spec:       v1alpha1.MeshInstallationSpec{Version: "1.29", Namespace: "istio-system"},
	}
	if change != nil {
		change(m)
	}
	return m
}

func world(change func(*Facts)) Facts {
	f := Facts{
		Now:        time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC),
		Kubernetes: semver.MustParse("1.34.4"),
		Lines: map[string]version.Line{
			"1.26": {Name: "1.26", KubernetesMin: 29, KubernetesMax: 33, EndOfLife: time.Date(2025, 12, 22, 0, 0, 0, 0, time.UTC)},
			"1.29": {Name: "1.29", KubernetesMin: 31, KubernetesMax: 35, KnownBad: map[string]string{"1.29.0": "it loses leaves"}},
		},
		KnownValues: func(*semver.Version, string) map[string]any {
			return map[string]any{
				"autoscaleMin": 1, "autoscaleMax": 5, "podAnnotations": map[string]any{"a": "b"},
				"global": map[string]any{"proxy": map[string]any{"image": "proxyv2", "logLevel": "warning"}},
			}
		},
	}
	for _, v := range []string{"1.26.1", "1.29.0", "1.29.1", "1.31.0"} {
		f.Available = append(f.Available, semver.MustParse(v))
	}
	if change != nil {
		change(&f)
	}
	return f
}

func other(change func(*v1alpha1.MeshInstallation)) func(*Facts) {
	m := mesh(func(m *v1alpha1.MeshInstallation) {
		m.CreationTimestamp = metav1.Unix(1, 0)
		m.Name, m.Spec.Namespace, m.Spec.DefaultRevision, m.Spec.Version = "other", "other-system", v1alpha1.DefaultRevisionLeave, "1.31"
	})
	change(m)
	return func(f *Facts) { f.Installations = append(f.Installations, *m) }
}

func applied(webhook string) func(*v1alpha1.MeshInstallation) {
	return func(m *v1alpha1.MeshInstallation) {
		m.Status.Inventory = []v1alpha1.InventoryItem{{Kind: "MutatingWebhookConfiguration", Name: webhook}}
	}
}

func used(tag string, namespaces ...string) func(*Facts) {
	return func(f *Facts) { f.TagUsers = map[string][]string{tag: namespaces} }
}

// Each row is a mistake; the error names the field and the remedy.
func TestMistakesAreNamed(t *testing.T) {
	for _, tc := range []struct {
		reason string
		mesh   func(*v1alpha1.MeshInstallation)
		facts  func(*Facts)
		want   []string
	}{
		{"malformed", func(m *v1alpha1.MeshInstallation) { m.Spec.Version = "latest" }, nil, []string{"spec.version", "1.29.1"}},
		{"nobody has it", func(m *v1alpha1.MeshInstallation) { m.Spec.Version = "1.29.9" }, nil, []string{"spec.version", "1.29.1, 1.29.0"}},
		{
			"Kubernetes is too new for it", func(m *v1alpha1.MeshInstallation) { m.Spec.Version = "1.26" }, nil,
			[]string{"spec.version", "1.29 to 1.33", "1.34", "spec.upgrade.unsupportedKubernetes"},
		},
		{"known to be bad", func(m *v1alpha1.MeshInstallation) { m.Spec.Version = "1.29.0" }, nil, []string{"spec.version", "loses leaves"}},
		{
			"a lower version than the installed one", nil, func(f *Facts) { f.Installed = semver.MustParse("1.31.0") },
			[]string{"spec.version", "1.31.0", "does not move down", "versionSkew"},
		},
		{
			"a version that is three minors ahead", nil, func(f *Facts) { f.Installed = semver.MustParse("1.26.1") },
			[]string{"spec.version", "1.26.1", "go to 1.28 first"},
		},
		{
			"a step of a wave that there is not", func(m *v1alpha1.MeshInstallation) {
				m.Spec.Upgrade.Canary.Steps = []v1alpha1.Step{{Name: "a", Type: v1alpha1.StepDataPlane, DataPlane: &v1alpha1.DataPlaneStep{Wave: "late"}}}
			}, nil, []string{"spec.upgrade.canary.steps[0].dataPlane.wave", "late", "rest"},
		},
		{
			"a window that can't be read", func(m *v1alpha1.MeshInstallation) {
				m.Spec.Upgrade.Windows = []v1alpha1.Window{{Schedule: "0 2 * * 6", TimeZone: "Mars/North"}}
			}, nil, []string{"spec.upgrade.windows[0]", "Mars/North", "Europe/Berlin"},
		},
		{
			"a window of rotations that can't be read", func(m *v1alpha1.MeshInstallation) {
				m.Spec.Certificates.Rotation.Windows = []v1alpha1.Window{{Schedule: "0 2 * * 8", DurationSeconds: 60}}
			}, nil, []string{"spec.certificates.rotation.windows[0]", "five fields"},
		},
		{
			"an intermediate that does not outlive its leaves", func(m *v1alpha1.MeshInstallation) {
				m.Spec.Certificates.LeafSeconds = 7200
				m.Spec.Certificates.CA = v1alpha1.CertificateAuthority{Type: v1alpha1.CASourceManaged, Managed: &v1alpha1.ManagedCA{IntermediateSeconds: 3600}}
			}, nil, []string{"spec.certificates.ca.managed.intermediateSeconds", "leafSeconds is 7200"},
		},
		{
			"leaves that live longer than a rotation expects", func(m *v1alpha1.MeshInstallation) {
				m.Spec.Certificates.LeafSeconds = 86400
				m.Spec.ControlPlane.MeshConfig = &apiextensionsv1.JSON{Raw: []byte(`{"defaultConfig":{"proxyMetadata":{"SECRET_TTL":"48h"}}}`)}
			}, nil, []string{"spec.controlPlane.meshConfig.defaultConfig.proxyMetadata.SECRET_TTL", "write that into spec.certificates.leafSeconds"},
		},
		{
			"the namespace of another mesh", nil, other(func(m *v1alpha1.MeshInstallation) { m.Spec.Namespace = "istio-system" }),
			[]string{"spec.namespace", "MeshInstallation other", "choose another"},
		},
		{
			"two defaults", nil, other(func(m *v1alpha1.MeshInstallation) { m.Spec.DefaultRevision = v1alpha1.DefaultRevisionClaim }),
			[]string{"spec.defaultRevision", "MeshInstallation other", "Leave"},
		},
		{
			"the tag of another mesh", func(m *v1alpha1.MeshInstallation) { m.Spec.Tags = []v1alpha1.Tag{{Name: "prod"}} },
			other(func(m *v1alpha1.MeshInstallation) { m.Spec.Tags = []v1alpha1.Tag{{Name: "prod"}} }),
			[]string{"spec.tags[0].name", "MeshInstallation other"},
		},
		{
			"a tag that namespaces name is taken away", applied("istio-revision-tag-prod"), used("prod", "a"),
			[]string{"spec.tags", "prod", "namespace a names it"},
		},
		{
			"the default revision is given up while namespaces rely on it",
			func(m *v1alpha1.MeshInstallation) {
				applied("istio-revision-tag-default")(m)
				m.Spec.DefaultRevision = v1alpha1.DefaultRevisionLeave
			},
			used("default", "a", "b"),
			[]string{"spec.defaultRevision", "namespace a and 1 more"},
		},
		{
			"a tag that is called like the revision itself",
			func(m *v1alpha1.MeshInstallation) { m.Spec.Tags = []v1alpha1.Tag{{Name: "1-29-1"}} },
			nil,
			[]string{"spec.tags[0].name", "choose another name"},
		},
		{
			"a tag that is called like another mesh's revision",
			func(m *v1alpha1.MeshInstallation) { m.Spec.Tags = []v1alpha1.Tag{{Name: "1-28-2"}} },
			other(func(m *v1alpha1.MeshInstallation) { m.Status.StableRevision = "1-28-2" }),
			[]string{"spec.tags[0].name", "MeshInstallation other"},
		},
		{
			"the revision that another mesh has", nil, other(func(m *v1alpha1.MeshInstallation) { m.Status.StableRevision = "1-29-1" }),
			[]string{"spec.version", "1-29-1", "MeshInstallation other"},
		},
		{
			"the revision that another mesh is about to have", nil, other(func(m *v1alpha1.MeshInstallation) { m.Spec.Version = "1.29" }),
			[]string{"spec.version", "1-29-1", "MeshInstallation other"},
		},
		{
			"the gateway of another mesh", func(m *v1alpha1.MeshInstallation) { m.Spec.Gateways = []v1alpha1.Gateway{{Name: "a", Namespace: "b"}} },
			other(func(m *v1alpha1.MeshInstallation) { m.Spec.Gateways = []v1alpha1.Gateway{{Name: "a", Namespace: "b"}} }),
			[]string{"spec.gateways[0]", "MeshInstallation other"},
		},
		{
			"the gateway of a team", func(m *v1alpha1.MeshInstallation) { m.Spec.Gateways = []v1alpha1.Gateway{{Name: "a", Namespace: "b"}} },
			func(f *Facts) {
				f.Gateways = []v1alpha1.MeshGateway{{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "b"}}}
			},
			[]string{"spec.gateways[0]", "somebody else"},
		},
		{
			"a gateway in the system", func(m *v1alpha1.MeshInstallation) {
				m.Spec.Gateways = []v1alpha1.Gateway{{Name: "a", Namespace: "kube-system"}}
			}, nil,
			[]string{"spec.gateways[0].namespace", "of the gateway's own"},
		},
		{
			"a selector that selects nothing sensible",
			func(m *v1alpha1.MeshInstallation) {
				m.Spec.DataPlane.NamespaceSelector = &metav1.LabelSelector{
					MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Sometimes"}},
				}
			}, nil,
			[]string{"spec.dataPlane.namespaceSelector", "Sometimes"},
		},
		{
			"values that are no map", func(m *v1alpha1.MeshInstallation) { m.Spec.ControlPlane.Values = raw(`[1]`) }, nil,
			[]string{"spec.controlPlane.values", "map"},
		},
		{
			"the revision as a value", func(m *v1alpha1.MeshInstallation) { m.Spec.ControlPlane.Values = raw(`{"revision":"mine"}`) }, nil,
			[]string{"spec.controlPlane.values.revision", "spec.version"},
		},
		{
			"the namespace as a value", func(m *v1alpha1.MeshInstallation) {
				m.Spec.ControlPlane.Values = raw(`{"global":{"istioNamespace":"mine"}}`)
			}, nil, []string{"spec.controlPlane.values.global.istioNamespace", "spec.namespace"},
		},
		{
			"the revision below pilot, which the chart lays over the others", func(m *v1alpha1.MeshInstallation) {
				m.Spec.ControlPlane.Values = raw(`{"pilot":{"revision":"mine"}}`)
			}, nil, []string{"spec.controlPlane.values.pilot.revision", "spec.version"},
		},
		{
			"the registry below pilot", func(m *v1alpha1.MeshInstallation) { m.Spec.ControlPlane.Values = raw(`{"pilot":{"hub":"mine"}}`) }, nil,
			[]string{"spec.controlPlane.values.pilot.hub", "spec.images.hub"},
		},
		{
			"the image below pilot", func(m *v1alpha1.MeshInstallation) { m.Spec.ControlPlane.Values = raw(`{"pilot":{"image":"mine"}}`) }, nil,
			[]string{"spec.controlPlane.values.pilot.image", "spec.images"},
		},
		{
			"a namespace further down below pilot", func(m *v1alpha1.MeshInstallation) {
				m.Spec.ControlPlane.Values = raw(`{"pilot":{"global":{"istioNamespace":"mine"}}}`)
			}, nil, []string{"spec.controlPlane.values.pilot.global.istioNamespace", "spec.namespace"},
		},
		{
			"the charts' own defaults as a way around", func(m *v1alpha1.MeshInstallation) {
				m.Spec.ControlPlane.Values = raw(`{"_internal_defaults_do_not_set":{"revision":"mine"}}`)
			}, nil, []string{"_internal_defaults_do_not_set"},
		},
		{
			"mesh configuration as a value", func(m *v1alpha1.MeshInstallation) { m.Spec.ControlPlane.Values = raw(`{"meshConfig":{}}`) }, nil,
			[]string{"spec.controlPlane.values.meshConfig", "spec.controlPlane.meshConfig"},
		},
		{
			"an unknown field of the mesh configuration",
			func(m *v1alpha1.MeshInstallation) {
				m.Spec.ControlPlane.MeshConfig = raw(`{"accessLogFiel":"/dev/stdout"}`)
			}, nil,
			[]string{"spec.controlPlane.meshConfig.accessLogFiel", `"accessLogFile"`},
		},
		{
			"an unknown field deep in the mesh configuration",
			func(m *v1alpha1.MeshInstallation) {
				m.Spec.ControlPlane.MeshConfig = raw(`{"defaultConfig":{"tracing":{"zipkinn":{}}}}`)
			}, nil,
			[]string{"meshConfig.defaultConfig.tracing.zipkinn", `"zipkin"`},
		},
		{
			"a duration that is none",
			func(m *v1alpha1.MeshInstallation) { m.Spec.ControlPlane.MeshConfig = raw(`{"connectTimeout":"soon"}`) }, nil,
			[]string{"spec.controlPlane.meshConfig", "connectTimeout"},
		},
		{
			"a gateway without a Service", func(m *v1alpha1.MeshInstallation) {
				m.Spec.Gateways = []v1alpha1.Gateway{{Name: "a", Namespace: "b", Values: raw(`{"service":{"type":"None"}}`)}}
			}, nil, []string{"spec.gateways[0].values.service.type", "ClusterIP"},
		},
		{
			"a gateway of another name", func(m *v1alpha1.MeshInstallation) {
				m.Spec.Gateways = []v1alpha1.Gateway{{Name: "a", Namespace: "b", Values: raw(`{"name":"c"}`)}}
			}, nil, []string{"spec.gateways[0].values.name"},
		},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			errs, _ := Installation(mesh(tc.mesh), world(tc.facts))
			if len(errs) == 0 {
				t.Fatal("nothing was found wrong")
			}
			text := errs.ToAggregate().Error()
			for _, want := range tc.want {
				if !strings.Contains(text, want) {
					t.Errorf("the error does not say %q: %s", want, text)
				}
			}
		})
	}
}

// What is right is accepted, with a warning where a user may have meant something else.
func TestWhatIsAccepted(t *testing.T) {
	for _, tc := range []struct {
		reason string
		mesh   func(*v1alpha1.MeshInstallation)
		facts  func(*Facts)
		warn   string
	}{
		{"the least", nil, nil, ""},
		{"another mesh beside", nil, other(func(*v1alpha1.MeshInstallation) {}), ""},
		{
			"an unsupported Kubernetes that is accepted by name",
			func(m *v1alpha1.MeshInstallation) {
				m.Spec.Version, m.Spec.Upgrade.UnsupportedKubernetes = "1.26", v1alpha1.UnsupportedKubernetesAccept
			}, nil, "1.29 to 1.33",
		},
		{
			"an installed mesh beneath which Kubernetes moved", func(m *v1alpha1.MeshInstallation) { m.Spec.Version = "1.26" },
			func(f *Facts) { f.Installed = semver.MustParse("1.26.1") }, "",
		},
		{"a line that nothing is known of", func(m *v1alpha1.MeshInstallation) { m.Spec.Version = "1.31" }, nil, "nothing is known"},
		{
			"a value with a slip", func(m *v1alpha1.MeshInstallation) { m.Spec.ControlPlane.Values = raw(`{"autoscaleMni":2}`) }, nil,
			`spec.controlPlane.values.autoscaleMni: the chart does not know this value; did you mean "autoscaleMin"?`,
		},
		{
			"a slip further down", func(m *v1alpha1.MeshInstallation) {
				m.Spec.ControlPlane.Values = raw(`{"global":{"proxy":{"loglevel":"debug"}}}`)
			}, nil, `did you mean "logLevel"?`,
		},
		{
			"values below pilot", func(m *v1alpha1.MeshInstallation) { m.Spec.ControlPlane.Values = raw(`{"pilot":{"autoscaleMin":2}}`) }, nil, "",
		},
		{
			"a slip below pilot", func(m *v1alpha1.MeshInstallation) { m.Spec.ControlPlane.Values = raw(`{"pilot":{"autoscaleMni":2}}`) }, nil,
			`spec.controlPlane.values.pilot.autoscaleMni: the chart does not know this value; did you mean "autoscaleMin"?`,
		},
		{
			"pilot below pilot, which nobody reads", func(m *v1alpha1.MeshInstallation) {
				m.Spec.ControlPlane.Values = raw(`{"pilot":{"pilot":{"autoscaleMin":2}}}`)
			}, nil, `spec.controlPlane.values.pilot.pilot: the chart does not know this value`,
		},
		{
			"annotations are free", func(m *v1alpha1.MeshInstallation) {
				m.Spec.ControlPlane.Values = raw(`{"podAnnotations":{"example.com/x":"y"}}`)
			}, nil, "",
		},
		{
			"a mesh configuration", func(m *v1alpha1.MeshInstallation) {
				m.Spec.ControlPlane.MeshConfig = raw(`{"accessLogFile":"/dev/stdout","connectTimeout":"5s","defaultConfig":{"proxyMetadata":{"A":"b"}}}`)
			}, nil, "",
		},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			errs, warnings := Installation(mesh(tc.mesh), world(tc.facts))
			if len(errs) > 0 {
				t.Fatal(errs.ToAggregate())
			}
			text := strings.Join(warnings, "\n")
			if tc.warn == "" && text != "" || !strings.Contains(text, tc.warn) {
				t.Errorf("warnings = %q, want %q", text, tc.warn)
			}
		})
	}
}

// A new catalogue moves nothing: what is installed stays while it is meant, also when it can't be had any more.
func TestTargetIsSticky(t *testing.T) {
	f := world(func(f *Facts) { f.Installed = semver.MustParse("1.29.0") })
	got, err := Target(mesh(nil), f)
	if err != nil || got.String() != "1.29.0" {
		t.Errorf("target = %v, %v, want the installed 1.29.0", got, err)
	}
}

// A mistake in a new installation is its own: the one that was there first goes on.
func TestTheElderKeepsItsClaims(t *testing.T) {
	elder := mesh(func(m *v1alpha1.MeshInstallation) { m.CreationTimestamp = metav1.Unix(1, 0) })
	younger := mesh(func(m *v1alpha1.MeshInstallation) { m.Name, m.CreationTimestamp = "another", metav1.Unix(2, 0) })
	twin := mesh(func(m *v1alpha1.MeshInstallation) { m.Name, m.CreationTimestamp = "twin", metav1.Unix(1, 0) })
	for _, tc := range []struct {
		reason      string
		mesh, other *v1alpha1.MeshInstallation
		refused     bool
	}{
		{"the elder beside the younger", elder, younger, false},
		{"the younger beside the elder", younger, elder, true},
		{"of two of one second, the first by name", elder, twin, false},
		{"of two of one second, the second by name", twin, elder, true},
		{"one that is being created", mesh(nil), younger, true},
	} {
		m := tc.mesh.DeepCopy()
		if m.CreationTimestamp.IsZero() {
			m.Name = "new"
		}
		errs, _ := Installation(m, world(func(f *Facts) { f.Installations = []v1alpha1.MeshInstallation{*tc.other} }))
		if (len(errs) > 0) != tc.refused {
			t.Errorf("%s: %v", tc.reason, errs.ToAggregate())
		}
	}
}
