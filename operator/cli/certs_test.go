// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"strings"
	"testing"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// Of a rotation that is under way, no second one is made: who names another one is told so.
func TestRotationThatIsUnderWay(t *testing.T) {
	second := aRotation()
	second.Name, second.UID, second.CreationTimestamp = "default-3", "rot-3", *at(6)
	for _, tc := range []struct {
		reason, name string
		change       v1alpha1.RotationChange
		code         ExitCode
		says         string
	}{
		{"no name means the one that is under way", "", v1alpha1.ChangeRoot, ExitOK, "MeshRotation default-2 (Root) is under way already"},
		{"its own name, too", "default-2", v1alpha1.ChangeRoot, ExitOK, "MeshRotation default-2 (Root) is under way already"},
		{"the name of the younger one of two", "default-3", v1alpha1.ChangeRoot, ExitOK, "MeshRotation default-3 (Root) is under way already"},
		{"another name", "new-root", v1alpha1.ChangeRoot, ExitUsage, "leave out --name"},
		{"another kind is another rotation", "new-root", v1alpha1.ChangeIntermediate, ExitOK, "MeshRotation new-root (Intermediate) created"},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			f, s := newFactory()
			v := &verb{factory: f, output: &output{}, patience: &patience{}}
			err := v.rotate(t.Context(), fakeClient(t, aMesh(), aRotation(), second), tc.change, tc.name)
			said := s.out.String()
			if err != nil {
				said += err.Error()
			}
			if code := ExitCodeOf(err); code != tc.code || !strings.Contains(said, tc.says) {
				t.Errorf("exit code %d, want %d with %q: %s", code, tc.code, tc.says, said)
			}
		})
	}
}
