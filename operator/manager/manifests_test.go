// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

func read(t *testing.T, path ...string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(append([]string{"..", ".."}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func decode[T any](t *testing.T, raw []byte) T {
	t.Helper()
	var out T
	if err := yaml.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestWebhookIsFoundWhereTheManifestsSay compares the names that the operator uses with those of config.
func TestWebhookIsFoundWhereTheManifestsSay(t *testing.T) {
	configuration := decode[admissionregistrationv1.ValidatingWebhookConfiguration](t, read(t, "config", "webhook", "validating_webhook.yaml"))
	service := decode[corev1.Service](t, read(t, "config", "webhook", "service.yaml"))
	got := map[string]string{"configuration": configuration.Name, "service": service.Name}
	if diff := cmp.Diff(map[string]string{"configuration": webhookName, "service": webhookService}, got); diff != "" {
		t.Errorf("names (-operator/manager +config/webhook):\n%s", diff)
	}
	kinds := map[string]string{"meshinstallation": "meshinstallations", "meshgateway": "meshgateways"}
	for _, w := range configuration.Webhooks {
		kind := strings.TrimSuffix(w.Name, "."+v1alpha1.GroupVersion.Group)
		if w.ClientConfig.Service == nil || w.ClientConfig.Service.Name != webhookService {
			t.Errorf("%s calls %v, want Service %s", w.Name, w.ClientConfig.Service, webhookService)
			continue
		}
		gvk := schema.GroupVersionKind{Group: v1alpha1.GroupVersion.Group, Version: v1alpha1.GroupVersion.Version, Kind: kind}
		path := "/validate-" + strings.ReplaceAll(gvk.Group, ".", "-") + "-" + gvk.Version + "-" + gvk.Kind
		if got := *w.ClientConfig.Service.Path; got != path {
			t.Errorf("%s calls %s, want %s", w.Name, got, path)
		}
		if resources := w.Rules[0].Resources; !slices.Equal(resources, []string{kinds[kind]}) {
			t.Errorf("%s is asked about %v, want %s", w.Name, resources, kinds[kind])
		}
		if *w.FailurePolicy != admissionregistrationv1.Ignore {
			t.Errorf("%s does not fail open", w.Name)
		}
	}
}

// TestOwnSecretMayBeRead compares the name of the certificate's Secret with the Role of the operator's namespace.
func TestOwnSecretMayBeRead(t *testing.T) {
	_, second, _ := strings.Cut(string(read(t, "config", "rbac", "role.yaml")), "\n---\n")
	role := decode[rbacv1.Role](t, []byte(second))
	for _, verb := range []string{"get", "update"} {
		if !slices.ContainsFunc(role.Rules, func(r rbacv1.PolicyRule) bool {
			return slices.Contains(r.Resources, "secrets") && slices.Contains(r.ResourceNames, webhookSecret) && slices.Contains(r.Verbs, verb)
		}) {
			t.Errorf("the Role %s/%s does not allow to %s the Secret %s", role.Namespace, role.Name, verb, webhookSecret)
		}
	}
}

// TestEachFlagIsDocumented compares the flags with the table of docs/install.md.
func TestEachFlagIsDocumented(t *testing.T) {
	var options Options
	flags := flag.NewFlagSet("", flag.ContinueOnError)
	options.Bind(flags)
	var got, want []string
	flags.VisitAll(func(f *flag.Flag) { got = append(got, f.Name) })
	for _, m := range regexp.MustCompile("(?m)^\\| `--([a-z-]+)`").FindAllSubmatch(read(t, "docs", "install.md"), -1) {
		want = append(want, string(m[1]))
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("flags (-docs/install.md +code):\n%s", diff)
	}
}

func TestOptions(t *testing.T) {
	for _, tc := range []struct {
		reason  string
		options Options
		says    string
	}{
		{"a namespace is enough", Options{Namespace: "meshwright-system"}, ""},
		{"without one there is no place for the lease", Options{}, "--namespace is empty"},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			err := tc.options.Validate()
			if tc.says == "" && err != nil || tc.says != "" && (err == nil || !strings.Contains(err.Error(), tc.says)) {
				t.Errorf("%v, want %q", err, tc.says)
			}
		})
	}
	sources := (&Options{BundleFolders: list{"a", "b"}, BundleRegistries: list{"oci://c"}}).sources()
	if len(sources) != 4 {
		t.Errorf("%d sources, want the built-in one and three more", len(sources))
	}
}
