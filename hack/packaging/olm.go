// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package packaging

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// olm are the folders bundle and catalogue.
func (p *pack) olm() (map[string][]byte, error) {
	version, err := p.csv()
	if err != nil {
		return nil, err
	}
	out := map[string][]byte{}
	raw, err := yaml.Marshal(version)
	if err != nil {
		return nil, err
	}
	const manifests = "bundle/manifests/"
	out[manifests+Name+".clusterserviceversion.yaml"] = append([]byte(header), raw...)
	objects, err := p.inBundle()
	if err != nil {
		return nil, err
	}
	for _, o := range objects {
		raw, err := yaml.Marshal(o.Object)
		if err != nil {
			return nil, err
		}
		out[manifests+fmt.Sprintf("%s_%s.yaml", o.GetName(), strings.ToLower(o.GetKind()))] = append([]byte(header), raw...)
	}
	annotations := map[string]string{
		"operators.operatorframework.io.bundle.mediatype.v1":       "registry+v1",
		"operators.operatorframework.io.bundle.manifests.v1":       "manifests/",
		"operators.operatorframework.io.bundle.metadata.v1":        "metadata/",
		"operators.operatorframework.io.bundle.package.v1":         Name,
		"operators.operatorframework.io.bundle.channels.v1":        strings.Join(p.channels(), ","),
		"operators.operatorframework.io.bundle.channel.default.v1": p.catalogue.defaultChannel,
	}
	if raw, err = yaml.Marshal(map[string]any{"annotations": annotations}); err != nil {
		return nil, err
	}
	out["bundle/metadata/annotations.yaml"] = append([]byte(header), raw...)
	if out["catalogue/"+Name+"/catalog.yaml"], err = p.catalogued(version); err != nil {
		return nil, err
	}
	return out, nil
}

// inBundle are the objects that a bundle holds beside the CSV. OLM puts them into the namespace that the operator is installed in.
// What else config/default holds is in the CSV, or comes with it: see AsOLM.
func (p *pack) inBundle() ([]*unstructured.Unstructured, error) {
	var out []*unstructured.Unstructured
	for _, o := range p.source.objects {
		switch kind := o.GetKind(); kind {
		case "CustomResourceDefinition", "Role", "RoleBinding", "PodDisruptionBudget", "NetworkPolicy":
		case "ClusterRole":
			accounts, err := p.accounts(o.GetName())
			if err != nil {
				return nil, err
			}
			if len(accounts) > 0 {
				continue // among the CSV's permissions
			}
		case "Service":
			if o.GetName() == "meshwright-webhook" {
				continue // OLM makes one from the webhook definitions
			}
		case "Namespace", "ServiceAccount", "ClusterRoleBinding", "Deployment", "ValidatingWebhookConfiguration":
			continue // in the CSV
		case "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding":
			continue // a bundle can't hold them: the operator applies them, see olmArgs
		default:
			return nil, fmt.Errorf("%s %s: say how OLM gets it", kind, o.GetName())
		}
		o = o.DeepCopy()
		o.SetNamespace("")
		if o.GetKind() == "RoleBinding" {
			if err := localSubjects(o); err != nil {
				return nil, err
			}
		}
		out = append(out, o)
	}
	return out, nil
}

// localSubjects makes the service accounts of a RoleBinding those of its own namespace, whichever that is.
func localSubjects(binding *unstructured.Unstructured) error {
	subjects, _, err := unstructured.NestedSlice(binding.Object, "subjects")
	if err != nil {
		return err
	}
	for _, s := range subjects {
		subject, ok := s.(map[string]any)
		if !ok {
			return fmt.Errorf("RoleBinding %s has a subject of type %T", binding.GetName(), s)
		}
		delete(subject, "namespace")
	}
	return unstructured.SetNestedSlice(binding.Object, subjects, "subjects")
}
