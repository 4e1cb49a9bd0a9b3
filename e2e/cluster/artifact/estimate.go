// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// expect is how long making an artifact will take: as long as the last time here, else the estimate.
func (s *Store) expect(step step) time.Duration {
	text, err := os.ReadFile(s.tookFile(step))
	if err != nil {
		return step.recipe.estimate
	}
	took, err := time.ParseDuration(strings.TrimSpace(string(text)))
	if err != nil {
		return step.recipe.estimate
	}
	return took
}

// remember keeps how long the making took. Losing it costs nothing but a worse estimate.
func (s *Store) remember(step step, took time.Duration) {
	_ = os.WriteFile(s.tookFile(step), []byte(took.Round(time.Millisecond).String()+"\n"), 0o644)
}

func (s *Store) tookFile(step step) string { return filepath.Join(s.folder(step.artifact), ".took") }

// announcement says in one line what will be built and about how long that takes.
func (s *Store) announcement(missing []step) string {
	var total time.Duration
	var parts []string
	for _, step := range missing {
		expect := s.expect(step)
		total += expect
		part := step.artifact.String()
		if expect >= 10*time.Second {
			part += " " + about(expect)
		}
		parts = append(parts, part)
	}
	return fmt.Sprintf("%d to build, %s in all: %s", len(missing), about(total), strings.Join(parts, ", "))
}

// about rounds a duration to what a person waiting wants to know.
func about(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return "a few seconds"
	case d < 90*time.Second:
		return fmt.Sprintf("about %d s", int(d.Round(5*time.Second).Seconds()))
	default:
		return fmt.Sprintf("about %d min", int(d.Round(time.Minute).Minutes()))
	}
}
