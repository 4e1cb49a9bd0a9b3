// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"strings"
	"testing"
)

// A flag that would change nothing is a mistake of the person's, who is told so before anything is asked or done.
func TestFlagsThatSayNothing(t *testing.T) {
	for _, tc := range []struct {
		reason string
		args   []string
		says   string
	}{
		{"the mesh of what has a name", []string{"history", "default-8", "--mesh", "other"}, "leave out --mesh"},
		{"a timeout less than nothing", []string{"approve", "--wait", "--timeout", "-1h"}, "--timeout -1h0m0s: it is more than 0"},
		{"the timeout of no wait: approve", []string{"approve", "--timeout", "1h"}, "give --wait with it"},
		{"pause", []string{"pause", "--timeout", "1h"}, "give --wait with it"},
		{"resume", []string{"resume", "--mesh-wide", "--timeout", "1h"}, "give --wait with it"},
		{"abort", []string{"abort", "--timeout", "1h"}, "give --wait with it"},
		{"rollback", []string{"rollback", "--timeout", "1h"}, "give --wait with it"},
		{"retry", []string{"retry", "--timeout", "1h"}, "give --wait with it"},
		{"waive", []string{"waive", "Injection", "--for", "1h", "--timeout", "1h"}, "give --wait with it"},
		{"upgrade", []string{"upgrade", "1.29.1", "--timeout", "1h"}, "give --wait with it"},
		{"certs rotate", []string{"certs", "rotate", "--timeout", "1h"}, "give --wait with it"},
		{"certs waive", []string{"certs", "waive", "shop/cart-1", "--for", "1h", "--timeout", "1h"}, "give --wait with it"},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			if _, errs, code := run(t, "", tc.args...); code != ExitUsage || !strings.Contains(errs, tc.says) {
				t.Errorf("exit code %d, want %d with %q: %s", code, ExitUsage, tc.says, errs)
			}
		})
	}
}
