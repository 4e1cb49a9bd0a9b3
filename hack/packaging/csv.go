// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package packaging

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

// What both the chart and OLM say.
const (
	summary       = "An Istio lifecycle operator: installs meshes, and carries them to the next version and the next root certificate"
	homepage      = "https://meshwright.io"
	repository    = "https://github.com/meshwright/meshwright"
	maintainer    = "The Meshwright Authors"
	minKubernetes = "1.30.0" // admission policies
)

// webhookCertDir is where OLM mounts the certificate that it makes for webhooks.
const webhookCertDir = "/tmp/k8s-webhook-server/serving-certs"

// olmArgs are the flags of an operator under OLM: it can't have the policies in a bundle, and brings the certificate of webhooks.
var olmArgs = []any{"--keep-policies", "--webhook-cert-dir=" + webhookCertDir}

// csv is OLM's ClusterServiceVersion, as much of it as is written here.
// See https://olm.operatorframework.io/docs/concepts/crds/clusterserviceversion/.
type csv struct {
	APIVersion string      `json:"apiVersion"`
	Kind       string      `json:"kind"`
	Metadata   csvMetadata `json:"metadata"`
	Spec       csvSpec     `json:"spec"`
}

type csvMetadata struct {
	Name        string            `json:"name"`
	Annotations map[string]string `json:"annotations"`
	Labels      map[string]string `json:"labels"`
}

type csvSpec struct {
	about `json:",inline"`

	Icon           []csvIcon        `json:"icon"`
	MinKubeVersion string           `json:"minKubeVersion"`
	Version        string           `json:"version"`
	Replaces       string           `json:"replaces,omitempty"`
	InstallModes   []csvInstallMode `json:"installModes"`
	Install        csvInstall       `json:"install"`
	CRDs           csvCRDs          `json:"customresourcedefinitions"`
	Webhooks       []csvWebhook     `json:"webhookdefinitions"`
	RelatedImages  []namedImage     `json:"relatedImages"`
}

// about is what follows from nothing else.
type about struct {
	DisplayName string              `json:"displayName"`
	Description string              `json:"description"`
	Maturity    string              `json:"maturity"`
	Provider    map[string]string   `json:"provider"`
	Maintainers []map[string]string `json:"maintainers"`
	Keywords    []string            `json:"keywords"`
	Links       []map[string]string `json:"links"`
}

type csvIcon struct {
	Data      []byte `json:"base64data"`
	MediaType string `json:"mediatype"`
}

type csvInstallMode struct {
	Type      string `json:"type"`
	Supported bool   `json:"supported"`
}

type csvInstall struct {
	Strategy string          `json:"strategy"`
	Spec     csvInstallation `json:"spec"`
}

type csvInstallation struct {
	Deployments        []csvDeployment `json:"deployments"`
	ClusterPermissions []csvPermission `json:"clusterPermissions"`
}

type csvDeployment struct {
	Name  string            `json:"name"`
	Label map[string]string `json:"label"`
	Spec  map[string]any    `json:"spec"`
}

type csvPermission struct {
	ServiceAccountName string              `json:"serviceAccountName"`
	Rules              []rbacv1.PolicyRule `json:"rules"`
}

type csvCRDs struct {
	Owned []csvCRD `json:"owned"`
}

type csvCRD struct {
	Name        string          `json:"name"`
	Kind        string          `json:"kind"`
	Version     string          `json:"version"`
	DisplayName string          `json:"displayName"`
	Description string          `json:"description"`
	Spec        []csvDescriptor `json:"specDescriptors"`
	Status      []csvDescriptor `json:"statusDescriptors"`
}

type csvDescriptor struct {
	Path         string   `json:"path"`
	DisplayName  string   `json:"displayName"`
	Description  string   `json:"description"`
	XDescriptors []string `json:"x-descriptors,omitempty"`
}

// csvWebhook has no match conditions: OLM knows none.
type csvWebhook struct {
	Type                    string   `json:"type"`
	GenerateName            string   `json:"generateName"`
	DeploymentName          string   `json:"deploymentName"`
	ContainerPort           int64    `json:"containerPort"`
	TargetPort              any      `json:"targetPort"`
	WebhookPath             string   `json:"webhookPath"`
	AdmissionReviewVersions []string `json:"admissionReviewVersions"`
	FailurePolicy           string   `json:"failurePolicy"`
	SideEffects             string   `json:"sideEffects"`
	TimeoutSeconds          int64    `json:"timeoutSeconds"`
	Rules                   []any    `json:"rules"`
}

type namedImage struct {
	Name  string `json:"name"`
	Image string `json:"image"`
}

//go:embed about.yaml
var aboutYAML []byte

//go:embed icon.svg
var icon []byte

// csvName is how OLM calls a version.
func csvName(version string) string { return Name + ".v" + version }

// csv makes the ClusterServiceVersion.
func (p *pack) csv() (*csv, error) {
	var words struct {
		about `json:",inline"`
		Owned []struct {
			Kind, DisplayName string
			Spec, Status      []csvDescriptor
		}
	}
	if err := yaml.UnmarshalStrict(aboutYAML, &words); err != nil {
		return nil, fmt.Errorf("about.yaml: %w", err)
	}
	annotations, err := p.annotations()
	if err != nil {
		return nil, err
	}
	out := &csv{
		APIVersion: "operators.coreos.com/v1alpha1", Kind: "ClusterServiceVersion",
		Metadata: csvMetadata{Name: csvName(p.Version), Annotations: annotations, Labels: map[string]string{
			"operatorframework.io/os.linux": "supported", "operatorframework.io/arch.amd64": "supported", "operatorframework.io/arch.arm64": "supported",
		}},
		Spec: csvSpec{
			about: words.about, Icon: []csvIcon{{icon, "image/svg+xml"}}, MinKubeVersion: minKubernetes, Version: p.Version,
			InstallModes: []csvInstallMode{
				{"OwnNamespace", false}, {"SingleNamespace", false}, {"MultiNamespace", false}, {"AllNamespaces", true},
			},
			Install:       csvInstall{Strategy: "deployment"},
			RelatedImages: append([]namedImage{{Name, p.Image}}, p.istio...),
		},
	}
	if p.Previous != "" {
		out.Spec.Replaces = csvName(p.Previous)
	}
	for _, owned := range words.Owned {
		crd, err := p.owned(owned.Kind)
		if err != nil {
			return nil, err
		}
		crd.DisplayName = owned.DisplayName
		if crd.Spec, err = describe(crd.schema, "spec", owned.Spec); err != nil {
			return nil, fmt.Errorf("about.yaml: %s: %w", owned.Kind, err)
		}
		if crd.Status, err = describe(crd.schema, "status", owned.Status); err != nil {
			return nil, fmt.Errorf("about.yaml: %s: %w", owned.Kind, err)
		}
		out.Spec.CRDs.Owned = append(out.Spec.CRDs.Owned, crd.csvCRD)
	}
	if have := len(only(p.source.objects, "CustomResourceDefinition")); have != len(words.Owned) {
		return nil, fmt.Errorf("about.yaml speaks of %d kinds, config/crd has %d", len(words.Owned), have)
	}
	if err := p.install(out); err != nil {
		return nil, err
	}
	return out, p.webhooks(out)
}

func (p *pack) annotations() (map[string]string, error) {
	examples, err := json.Marshal(p.source.samples)
	if err != nil {
		return nil, err
	}
	namespaces := only(p.source.objects, "Namespace")
	if len(namespaces) != 1 {
		return nil, fmt.Errorf("config/default has %d Namespaces, want one", len(namespaces))
	}
	namespace, err := json.Marshal(namespaces[0].Object)
	if err != nil {
		return nil, err
	}
	return map[string]string{
		"alm-examples":   string(examples),
		"capabilities":   "Full Lifecycle",
		"categories":     "Networking",
		"containerImage": p.Image,
		"description":    summary,
		"repository":     repository,
		"support":        maintainer,
		"olm.skipRange":  skipRange(p.Version),
		"operatorframework.io/suggested-namespace":          namespaces[0].GetName(),
		"operatorframework.io/suggested-namespace-template": string(namespace),
		// Its objects are written by the operator only.
		"operators.operatorframework.io/internal-objects": `["meshrevisions.meshwright.io"]`,
	}, nil
}

// skipRange lets any older version go to this one at once: a newer operator reads what each older one has written.
func skipRange(version string) string { return ">=0.0.0-0 <" + version }

// ownedCRD is a CRD with its schema.
type ownedCRD struct {
	csvCRD
	schema *apiextensionsv1.JSONSchemaProps
}

func (p *pack) owned(kind string) (*ownedCRD, error) {
	for _, o := range only(p.source.objects, "CustomResourceDefinition") {
		var crd apiextensionsv1.CustomResourceDefinition
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &crd); err != nil {
			return nil, fmt.Errorf("%s: %w", o.GetName(), err)
		}
		if crd.Spec.Names.Kind != kind {
			continue
		}
		if len(crd.Spec.Versions) != 1 {
			return nil, fmt.Errorf("%s has %d versions, want one", crd.Name, len(crd.Spec.Versions))
		}
		v := crd.Spec.Versions[0]
		return &ownedCRD{
			csvCRD: csvCRD{Name: crd.Name, Kind: kind, Version: v.Name, Description: oneLine(v.Schema.OpenAPIV3Schema.Description)},
			schema: v.Schema.OpenAPIV3Schema,
		}, nil
	}
	return nil, fmt.Errorf("about.yaml: config/crd has no kind %s", kind)
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// describe adds to descriptors of fields below spec or status what the schema says of them.
func describe(schema *apiextensionsv1.JSONSchemaProps, part string, descriptors []csvDescriptor) ([]csvDescriptor, error) {
	out := slices.Clone(descriptors)
	for i := range out {
		field := *schema
		for name := range strings.SplitSeq(part+"."+out[i].Path, ".") {
			next, ok := field.Properties[name]
			if !ok {
				return nil, fmt.Errorf("%s.%s: the schema has no %s", part, out[i].Path, name)
			}
			field = next
		}
		out[i].Description = oneLine(field.Description)
		out[i].XDescriptors = shown(out[i].Path, field)
	}
	return out, nil
}

// shown is how a console shows a field; none for what it has no form for. See the descriptors of OpenShift's console.
func shown(path string, field apiextensionsv1.JSONSchemaProps) []string {
	const ui = "urn:alm:descriptor:com.tectonic.ui:"
	if path == "conditions" {
		return []string{"urn:alm:descriptor:io.kubernetes.conditions"}
	}
	if len(field.Enum) > 0 {
		var out []string
		for _, value := range field.Enum {
			out = append(out, ui+"select:"+strings.Trim(string(value.Raw), `"`))
		}
		return out
	}
	switch field.Type {
	case "boolean":
		return []string{ui + "booleanSwitch"}
	case "integer":
		return []string{ui + "number"}
	case "string":
		return []string{ui + "text"}
	}
	return nil
}

// install fills in the Deployment and the cluster-wide rights of its service account. Rights in the operator's own namespace are a Role of the
// bundle instead: OLM makes what a CSV calls permissions cluster-wide for an operator of all namespaces, and these are about Secrets.
func (p *pack) install(out *csv) error {
	deployments := only(p.source.objects, "Deployment")
	if len(deployments) != 1 {
		return fmt.Errorf("config/default has %d Deployments, want one", len(deployments))
	}
	deployment := deployments[0].DeepCopy()
	if err := p.stamp(deployment); err != nil {
		return err
	}
	containers, _, err := unstructured.NestedSlice(deployment.Object, "spec", "template", "spec", "containers")
	if err != nil {
		return err
	}
	container, ok := containers[0].(map[string]any)
	if !ok || container["args"] != nil {
		return errors.New("the operator's container has arguments already: say how they and those of OLM go together")
	}
	container["args"] = olmArgs
	if err := unstructured.SetNestedSlice(deployment.Object, containers, "spec", "template", "spec", "containers"); err != nil {
		return err
	}
	spec, _, err := unstructured.NestedMap(deployment.Object, "spec")
	if err != nil {
		return err
	}
	out.Spec.Install.Spec.Deployments = []csvDeployment{{Name: deployment.GetName(), Label: deployment.GetLabels(), Spec: spec}}
	for _, role := range only(p.source.objects, "ClusterRole") {
		accounts, err := p.accounts(role.GetName())
		if err != nil {
			return err
		}
		if len(accounts) == 0 {
			continue
		}
		var typed rbacv1.ClusterRole
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(role.Object, &typed); err != nil {
			return fmt.Errorf("ClusterRole %s: %w", role.GetName(), err)
		}
		for _, account := range accounts {
			out.Spec.Install.Spec.ClusterPermissions = append(out.Spec.Install.Spec.ClusterPermissions, csvPermission{account, typed.Rules})
		}
	}
	return nil
}

// accounts are the service accounts to which a ClusterRole is bound.
func (p *pack) accounts(role string) ([]string, error) {
	var out []string
	for _, o := range only(p.source.objects, "ClusterRoleBinding") {
		var binding rbacv1.ClusterRoleBinding
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &binding); err != nil {
			return nil, fmt.Errorf("ClusterRoleBinding %s: %w", o.GetName(), err)
		}
		if binding.RoleRef.Name != role {
			continue
		}
		for _, subject := range binding.Subjects {
			if subject.Kind != rbacv1.ServiceAccountKind {
				return nil, fmt.Errorf("ClusterRoleBinding %s binds a %s, which a CSV can't say", binding.Name, subject.Kind)
			}
			out = append(out, subject.Name)
		}
	}
	return out, nil
}
