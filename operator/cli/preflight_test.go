// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/Masterminds/semver/v3"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/facts"
	"github.com/meshwright/meshwright/operator/preflight"
	"github.com/meshwright/meshwright/operator/validate"
)

// someFindings are one of each severity, and one that is acknowledged.
func someFindings() []preflight.Finding {
	return []preflight.Finding{
		{
			Code: preflight.EnvoyFilterVersion, Severity: preflight.SeverityError, Object: preflight.Object{Kind: "EnvoyFilter", Namespace: "shop", Name: "headers"},
			Why: "configPatches[0] would stop applying", Remedy: "mend its proxyVersion",
		},
		{
			Code: preflight.PodSecurity, Severity: preflight.SeverityError, Object: preflight.Object{Kind: "Namespace", Name: "shop"},
			Why: "it enforces baseline", Remedy: "install the CNI agent", Acknowledged: true,
		},
		{
			Code: preflight.NoRoom, Severity: preflight.SeverityWarning, Object: preflight.Object{Kind: "Deployment", Namespace: "istio-system", Name: "istiod-1-29-1"},
			Why: "no node has room", Remedy: "make room",
		},
		{
			Code: preflight.AlphaAnnotation, Severity: preflight.SeverityInfo, Object: preflight.Object{Kind: "Service", Namespace: "shop", Name: "cart"},
			Why: "an annotation is alpha", Remedy: "look at it",
		},
	}
}

func TestPreflightViews(t *testing.T) {
	inquiry := facts.Inquiry{Mesh: settledMesh(), From: semver.MustParse("1.28.2"), To: semver.MustParse("1.29.1")}
	for _, tc := range []struct {
		reason, golden string
		format         string
		findings       []preflight.Finding
	}{
		{"by severity, with the pages at the end", "preflight.txt", outputText, someFindings()},
		{"with the page of each", "preflight-wide.txt", outputWide, someFindings()},
		{"as data", "preflight.yaml", outputYAML, someFindings()},
		{"what is warned of does not hold", "preflight-warned.txt", outputText, someFindings()[2:]},
		{"what could not be looked at is no pass", "preflight-unchecked.txt", outputText, []preflight.Finding{{
			Code: preflight.NotChecked, Severity: preflight.SeverityWarning, Object: preflight.Object{Kind: "Resource", Name: "nodes"},
			Why: "not checked: the right to list nodes of the whole cluster is missing", Remedy: "grant it",
		}}},
		{"nothing", "preflight-nothing.txt", outputText, nil},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			f, s := newFactory()
			view := viewOfPreflight(inquiry, tc.findings)
			if err := f.view(&output{format: tc.format}, view, nil, view.say); err != nil {
				t.Fatal(err)
			}
			golden(t, tc.golden, s.out.String())
		})
	}
}

// Who may not list pods says by --from what is installed, and is told that the pods were not looked at.
func TestPreflightWithoutPods(t *testing.T) {
	c := interceptor.NewClient(fakeClient(t), interceptor.Funcs{List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, options ...client.ListOption) error {
		if _, is := list.(*corev1.PodList); is {
			return apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "", errors.New("you may not"))
		}
		return c.List(ctx, list, options...)
	}})
	f, _ := newFactory()
	o := &preflightOptions{factory: f, to: "1.29.1"}
	library, catalogue, err := o.charts.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	g := &facts.Gatherer{Library: library, Catalogue: catalogue, Kubernetes: semver.MustParse("1.34.0"), Clock: f.Clock}
	q := facts.Inquiry{}
	if err := o.withoutMesh(t.Context(), c, g, &q); err == nil || ExitCodeOf(err) != ExitError || !strings.Contains(err.Error(), "say it by --from") {
		t.Errorf("without --from: %v", err)
	}
	o.from = "1.28.2"
	if err := o.withoutMesh(t.Context(), c, g, &q); err != nil {
		t.Fatal(err)
	}
	if q.From.String() != "1.28.2" || q.To.String() != "1.29.1" || q.Namespace != "istio-system" {
		t.Errorf("it asks of %s -> %s in %s", q.From, q.To, q.Namespace)
	}
	all, err := g.Check(t.Context(), c, q)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(all, func(f preflight.Finding) bool { return f.Code == preflight.NotChecked && f.Object.Name == "pods" }) {
		t.Errorf("nothing tells of the pods: %v", all)
	}
}

func TestPreflightTargets(t *testing.T) {
	known := func(installed string) validate.Facts {
		out := validate.Facts{Installed: semver.MustParse(installed)}
		for _, v := range []string{"1.28.2", "1.28.3", "1.29.1"} {
			out.Available = append(out.Available, semver.MustParse(v))
		}
		return out
	}
	for _, tc := range []struct {
		reason, version, to, installed string
		targets                        []string
		want                           string
		exit                           ExitCode
	}{
		{reason: "what the spec wants and is not there", version: "1.29", installed: "1.28.2", targets: []string{"1.28.3"}, want: "1.29.1"},
		{reason: "the newest of those that it could move to", version: "1.28", installed: "1.28.2", targets: []string{"1.29.1", "1.28.3"}, want: "1.29.1"},
		{reason: "the newest that the plugin has charts of", version: "1.28", installed: "1.28.2", targets: []string{"1.30.0", "1.28.3"}, want: "1.28.3"},
		{reason: "nowhere to move to", version: "1.28", installed: "1.28.2", want: "1.28.2"},
		{reason: "a line means its newest anew", version: "1.28.2", to: "1.28", installed: "1.28.2", want: "1.28.3"},
		{reason: "what does not exist", version: "1.28.2", to: "1.29.9", installed: "1.28.2", exit: ExitBlocked},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			m := &v1alpha1.MeshInstallation{}
			m.Spec.Version, m.Status.UpgradeTargets = tc.version, tc.targets
			to, err := (&preflightOptions{to: tc.to}).target(m, known(tc.installed))
			if got := ExitCodeOf(err); got != tc.exit {
				t.Fatalf("exit code %d (%v), want %d", got, err, tc.exit)
			}
			if err != nil {
				return
			}
			if diff := cmp.Diff(tc.want, to.String()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
