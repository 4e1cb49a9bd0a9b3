// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// An upgrade is written over what others change meanwhile, such as the operator its finalizers, but not over another version that somebody wants.
func TestUpgradeBesideOtherWriters(t *testing.T) {
	for _, tc := range []struct {
		reason   string
		other    func(*v1alpha1.MeshInstallation)
		code     ExitCode
		says     string
		version  string
		attempts int
	}{
		{"nobody", nil, ExitOK, "", "1.29.1", 1},
		{"a label", func(m *v1alpha1.MeshInstallation) { m.Labels = map[string]string{"team": "mesh"} }, ExitOK, "", "1.29.1", 2},
		{"another version", func(m *v1alpha1.MeshInstallation) { m.Spec.Version = "1.30.0" }, ExitBlocked, "set spec.version to 1.30.0 just now", "1.30.0", 1},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			f, _ := newFactory()
			below := fakeClient(t, settledMesh())
			attempts := 0
			c := interceptor.NewClient(below, interceptor.Funcs{
				Patch: func(ctx context.Context, c client.WithWatch, o client.Object, patch client.Patch, options ...client.PatchOption) error {
					if attempts++; attempts == 1 && tc.other != nil {
						m := settledMesh()
						if err := c.Get(ctx, client.ObjectKeyFromObject(m), m); err != nil {
							return err
						}
						tc.other(m)
						if err := c.Update(ctx, m); err != nil {
							return err
						}
					}
					return c.Patch(ctx, o, patch, options...)
				},
			})
			o := &upgradeOptions{factory: f, dryRun: dryRunNone, output: &output{}, patience: &patience{}}
			err := o.run(t.Context(), c, "1.29.1")
			if ExitCodeOf(err) != tc.code || err != nil && !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%v, want code %d and %q", err, tc.code, tc.says)
			}
			m := settledMesh()
			if err := below.Get(t.Context(), client.ObjectKeyFromObject(m), m); err != nil {
				t.Fatal(err)
			}
			if m.Spec.Version != tc.version || attempts != tc.attempts {
				t.Errorf("spec.version is %s after %d attempts, want %s after %d", m.Spec.Version, attempts, tc.version, tc.attempts)
			}
		})
	}
}
