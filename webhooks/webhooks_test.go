// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package webhooks

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/Masterminds/semver/v3"
	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/meshwright/meshwright/bundles/istio"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/facts"
)

// A cache may be behind: what it still holds of a mesh that was just removed refuses nobody. What the API server holds does.
func TestNothingIsRefusedForAStaleCache(t *testing.T) {
	installed := &v1alpha1.MeshRevision{Spec: v1alpha1.MeshRevisionSpec{Mesh: "default", Version: "1.31.0"}}
	installed.Name = "1-31-0"
	elsewhere := &v1alpha1.MeshInstallation{Spec: v1alpha1.MeshInstallationSpec{Version: "1.28", Namespace: "istio-system"}}
	elsewhere.Name = "elder"
	for name, tc := range map[string]struct {
		cached, live []client.Object
		refused      string
	}{
		"removed, and still in the cache":    {cached: []client.Object{installed, elsewhere}},
		"in the cache and in the API server": {cached: []client.Object{installed}, live: []client.Object{installed}, refused: "1.31.0"},
		"in neither":                         {},
	} {
		t.Run(name, func(t *testing.T) {
			w := &installation{Dependencies{Reader: reader(t, tc.cached), Live: reader(t, tc.live), Facts: gatherer(t)}}
			mesh := &v1alpha1.MeshInstallation{Spec: v1alpha1.MeshInstallationSpec{
				Version: "1.29.1", Namespace: "istio-system", DefaultRevision: v1alpha1.DefaultRevisionLeave,
			}}
			mesh.Name = "default"
			_, err := w.ValidateCreate(t.Context(), mesh)
			if tc.refused == "" && err != nil || tc.refused != "" && (err == nil || !strings.Contains(err.Error(), tc.refused)) {
				t.Errorf("error %v, want one with %q", err, tc.refused)
			}
		})
	}
}

// The same for a team's gateway.
func TestNoGatewayIsRefusedForAStaleCache(t *testing.T) {
	mesh := &v1alpha1.MeshInstallation{Spec: v1alpha1.MeshInstallationSpec{Version: "1.29", Namespace: "team"}}
	mesh.Name = "default"
	for name, tc := range map[string]struct {
		live    []client.Object
		refused bool
	}{
		"of a mesh that was removed from its namespace": {},
		"beside istiod": {live: []client.Object{mesh}, refused: true},
	} {
		t.Run(name, func(t *testing.T) {
			w := &gateway{Dependencies{Reader: reader(t, []client.Object{mesh}), Live: reader(t, tc.live), Facts: gatherer(t)}}
			g := &v1alpha1.MeshGateway{Spec: v1alpha1.MeshGatewaySpec{Mesh: "default"}}
			g.Name, g.Namespace = "mine", "team"
			if _, err := w.ValidateCreate(t.Context(), g); (err != nil) != tc.refused {
				t.Errorf("error %v, refused is %v", err, tc.refused)
			}
		})
	}
}

// reader is an API server or a cache that holds some objects: a real cache can't be told to be behind.
func reader(t *testing.T, objects []client.Object) client.Reader {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	b := fake.NewClientBuilder().WithScheme(scheme)
	for _, o := range objects {
		b = b.WithObjects(o.DeepCopyObject().(client.Object))
	}
	return b.Build()
}

func gatherer(t *testing.T) *facts.Gatherer {
	t.Helper()
	library, err := istio.Open(t.Context(), istio.Builtin())
	if err != nil {
		t.Fatal(err)
	}
	catalogue, err := istio.BuiltinCatalogue()
	if err != nil {
		t.Fatal(err)
	}
	return &facts.Gatherer{
		Library: library, Catalogue: catalogue, Kubernetes: semver.MustParse("1.34.4"), Clock: clocktesting.NewFakePassiveClock(time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)),
	}
}

// What the operator itself writes is not judged, whether or not the webhook configuration spares the call; what others write is.
func TestTheOperatorIsNotJudged(t *testing.T) {
	const self = "system:serviceaccount:operators:meshwright"
	refuses := others[*v1alpha1.MeshGateway]{&refusing{}, self}
	for _, tc := range []struct {
		reason, user string
		refused      bool
	}{
		{"the operator", self, false},
		{"the service account of the same name elsewhere", "system:serviceaccount:default:meshwright", true},
		{"a person", "alice", true},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			request := admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{UserInfo: authenticationv1.UserInfo{Username: tc.user}}}
			ctx := admission.NewContextWithRequest(t.Context(), request)
			g := &v1alpha1.MeshGateway{}
			_, create := refuses.ValidateCreate(ctx, g)
			_, update := refuses.ValidateUpdate(ctx, g, g)
			_, del := refuses.ValidateDelete(ctx, g)
			for verb, err := range map[string]error{"create": create, "update": update, "delete": del} {
				if (err != nil) != tc.refused {
					t.Errorf("%s: %v, refused is %v", verb, err, tc.refused)
				}
			}
		})
	}
}

// refusing refuses everything.
type refusing struct{}

var errRefused = errors.New("refused")

func (refusing) ValidateCreate(context.Context, *v1alpha1.MeshGateway) (admission.Warnings, error) {
	return nil, errRefused
}

func (refusing) ValidateUpdate(context.Context, *v1alpha1.MeshGateway, *v1alpha1.MeshGateway) (admission.Warnings, error) {
	return nil, errRefused
}

func (refusing) ValidateDelete(context.Context, *v1alpha1.MeshGateway) (admission.Warnings, error) {
	return nil, errRefused
}
