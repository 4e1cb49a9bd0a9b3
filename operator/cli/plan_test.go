// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/cli-runtime/pkg/genericiooptions"
)

// installation writes a file with a MeshInstallation of a spec.
func installation(t *testing.T, spec string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "mesh.yaml")
	text := "apiVersion: meshwright.io/v1alpha1\nkind: MeshInstallation\nmetadata: {name: default}\nspec: " + spec + "\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// run runs a command line that needs no cluster.
func run(t *testing.T, stdin string, args ...string) (stdout, stderr string, code ExitCode) {
	t.Helper()
	t.Setenv("KUBECONFIG", os.DevNull)
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	var out, errs bytes.Buffer
	code = Run(t.Context(), args, genericiooptions.IOStreams{In: strings.NewReader(stdin), Out: &out, ErrOut: &errs})
	return out.String(), errs.String(), code
}

func TestPlanOffline(t *testing.T) {
	old, next := installation(t, `{version: "1.28.2"}`), installation(t, `{version: "1.29.1"}`)
	for _, tc := range []struct {
		reason   string
		args     []string
		code     ExitCode
		out, err string // parts of what is printed
	}{
		{"nothing is there", []string{"-f", next}, ExitChanges, "installs Istio 1.29.1 (revision 1-29-1)", "planning without a cluster"},
		{"an older file", []string{"-f", next, "--from", old, "--offline"}, ExitChanges, "moves from Istio 1.28.2 (revision 1-28-2) to Istio 1.29.1", ""},
		{"the same file", []string{"-f", old, "--from", old, "--offline"}, ExitOK, "Nothing to do.", ""},
		{"a version that the file does not name", []string{"-f", old, "--to", "1.29.1", "--from", old, "--offline"}, ExitChanges, "to Istio 1.29.1", ""},
		{"what is the same is counted", []string{"-f", next, "--from", old, "--offline"}, ExitChanges, "the same as those of revision 1-28-2", ""},
		{"names of what changes", []string{"-f", next, "--from", old, "--offline", "-o", "name"}, ExitChanges, "deployment/istiod-1-29-1", ""},
		{"what changes", []string{"-f", next, "--from", old, "--offline", "--diff"}, ExitChanges, "-  version: 1.28.2", ""},
		{"a version that is not there", []string{"-f", old, "--to", "1.28.99", "--offline"}, ExitBlocked, "refused: spec.version", ""},
		{"Kubernetes too old", []string{"-f", next, "--kubernetes-version", "1.20", "--offline"}, ExitBlocked, "supports Kubernetes", ""},
		{"a field that does not exist", []string{"-f", installation(t, `{version: "1.29", tagz: []}`), "--offline"}, ExitBlocked, "", "spec.tagz: Forbidden"},
		{"a namespace that may not change", []string{"-f", installation(t, `{version: "1.28.2", namespace: elsewhere}`), "--from", old, "--offline"}, ExitBlocked, "namespace is immutable", ""},
		{"two tags of a name", []string{"-f", installation(t, `{version: "1.29.1", tags: [{name: a}, {name: a}]}`), "--offline"}, ExitBlocked, "", "spec.tags[1]: Duplicate value"},
		{"a value that no chart knows", []string{"-f", installation(t, `{version: "1.29.1", controlPlane: {values: {autoscaleMim: 2}}}`), "--offline"}, ExitChanges, "autoscaleMim", ""},
		{"no file", []string{"--offline"}, ExitUsage, "", "-f mesh.yaml"},
		{"no such file", []string{"-f", "/nowhere.yaml", "--offline"}, ExitError, "", "/nowhere.yaml: no such file"},
		{"another name", []string{"other", "-f", next, "--offline"}, ExitUsage, "", "has no MeshInstallation other"},
		{"a flag that there is not", []string{"--offlin"}, ExitUsage, "", "unknown flag"},
		{"a format that there is not", []string{"-f", next, "-o", "xml"}, ExitUsage, "", "choose one of json, yaml, name"},
		{"--from beside a cluster", []string{"-f", next, "--from", old, "--server", "https://localhost:1"}, ExitUsage, "", "give --offline with it"},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			out, errs, code := run(t, "", append([]string{"plan"}, tc.args...)...)
			if code != tc.code || !strings.Contains(out, tc.out) || !strings.Contains(errs, tc.err) {
				t.Errorf("exit code %d, want %d with %q and %q:\n%s\n%s", code, tc.code, tc.out, tc.err, out, errs)
			}
		})
	}
}

func TestPlanOfStandardInput(t *testing.T) {
	raw, err := os.ReadFile(installation(t, `{version: "1.29.1"}`))
	if err != nil {
		t.Fatal(err)
	}
	two := string(raw) + "---\n" + strings.Replace(string(raw), "default", "other", 1)
	if _, errs, code := run(t, two, "plan", "-f", "-", "--offline"); code != ExitUsage || !strings.Contains(errs, "2 MeshInstallations") {
		t.Errorf("two meshes: %d %s", code, errs)
	}
	out, errs, code := run(t, two, "plan", "other", "-f", "-", "--offline", "-o", "json")
	if code != ExitChanges {
		t.Fatalf("%d %s", code, errs)
	}
	var got MeshPlan
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	if got.Mesh != "other" || got.Result != PlanChanges || got.Move != "Install" || got.To == nil || got.To.Version != "1.29.1" || len(got.Objects) == 0 {
		t.Errorf("%+v", got)
	}
}

// A file that the API server would refuse is a plan that is blocked, also for programs.
func TestPlanOfARefusedFile(t *testing.T) {
	good := installation(t, `{version: "1.29.1"}`)
	for _, tc := range []struct{ reason, spec, problem string }{
		{"a field that does not exist", `{version: "1.29.1", tagz: []}`, "spec.tagz: Forbidden"},
		{"a rule of the schema", `{version: "1.29.1", upgrade: {type: InPlace}, defaultRevision: Leave}`, "set defaultRevision to Claim"},
	} {
		bad := installation(t, tc.spec)
		for _, args := range [][]string{{"-f", bad}, {"-f", good, "--from", bad}} {
			t.Run(tc.reason+" "+args[len(args)-2], func(t *testing.T) {
				out, errs, code := run(t, "", append([]string{"plan", "--offline", "-o", "json"}, args...)...)
				var got MeshPlan
				if err := json.Unmarshal([]byte(out), &got); err != nil {
					t.Fatalf("exit code %d, %v: %s%s", code, err, out, errs)
				}
				if code != ExitBlocked || errs != "" || got.Kind != "MeshPlan" || got.APIVersion != SchemaVersion || got.Mesh != "default" || got.Result != PlanBlocked {
					t.Errorf("exit code %d, %+v %s", code, got, errs)
				}
				if !strings.Contains(strings.Join(got.Problems, "\n"), tc.problem) {
					t.Errorf("the problems are %q, want %q", got.Problems, tc.problem)
				}
				out, errs, code = run(t, "", append([]string{"plan", "--offline"}, args...)...)
				if code != ExitBlocked || out != "" || !strings.Contains(errs, bad+": MeshInstallation default is refused:\n  ") || !strings.Contains(errs, tc.problem) {
					t.Errorf("for people: exit code %d: %s%s", code, out, errs)
				}
			})
		}
	}
}

func BenchmarkPlanOffline(b *testing.B) {
	dir := b.TempDir()
	file := filepath.Join(dir, "mesh.yaml")
	if err := os.WriteFile(file, []byte("apiVersion: meshwright.io/v1alpha1\nkind: MeshInstallation\nmetadata: {name: default}\nspec: {version: 1.29.1}\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		Run(b.Context(), []string{"plan", "--offline", "-f", file}, genericiooptions.IOStreams{In: nil, Out: &bytes.Buffer{}, ErrOut: &bytes.Buffer{}})
	}
}

// A KUBECONFIG with a mistake in it is not taken for the wish to plan without a cluster.
func TestPlanWithMistakenKubeconfig(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "nowhere"))
	var out, errs bytes.Buffer
	code := Run(t.Context(), []string{"plan", "-f", installation(t, `{version: "1.29.1"}`)}, genericiooptions.IOStreams{Out: &out, ErrOut: &errs})
	if code != ExitUsage || !strings.Contains(errs.String(), "KUBECONFIG names no file") || out.Len() > 0 {
		t.Errorf("exit code %d: %s%s", code, &out, &errs)
	}
}
