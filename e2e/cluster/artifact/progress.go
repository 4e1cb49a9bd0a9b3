// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package artifact

import "time"

// Progress is told what happens. Implementations may be called from several goroutines.
type Progress interface {
	// Say reports a fact or a decision in one line, without a line break.
	Say(line string)
	// Begin reports the start of something that takes about expect; zero means that nobody knows. The function it
	// returns reports the end, once.
	Begin(what string, expect time.Duration) (end func(error))
}
