// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
)

// ExitCode is what a command ends with.
type ExitCode int

// The exit codes, the same for every command.
const (
	// ExitOK: done; for plan: nothing to do; for preflight: nothing holds a rollout back.
	ExitOK ExitCode = 0
	// ExitError: it did not work; standard error says why.
	ExitError ExitCode = 1
	// ExitChanges: plan found something to do.
	ExitChanges ExitCode = 2
	// ExitBlocked: what is wanted is held back: by findings, by a spec that can't be made true, or (with --wait) because it failed.
	ExitBlocked ExitCode = 3
	// ExitTimeout: --timeout has passed; the cluster goes on as it was told.
	ExitTimeout ExitCode = 4
	// ExitUsage: the command was not understood, and did nothing.
	ExitUsage ExitCode = 64
	// ExitInterrupted: Ctrl-C; the cluster goes on as it was told. To end status --watch is no failure: that is ExitOK.
	ExitInterrupted ExitCode = 130
)

// exitError ends a command with a code. An empty text prints nothing: the command has said it all.
type exitError struct {
	code ExitCode
	text string
}

func (e *exitError) Error() string { return e.text }

// usagef is an error of the person's, that names the remedy.
func usagef(format string, args ...any) error {
	return &exitError{code: ExitUsage, text: fmt.Sprintf(format, args...)}
}

// blockedf says what holds back what is wanted.
func blockedf(format string, args ...any) error {
	return &exitError{code: ExitBlocked, text: fmt.Sprintf(format, args...)}
}

// notFoundError says that something is not there.
type notFoundError struct{ text string }

func (e *notFoundError) Error() string { return e.text }

// ExitCodeOf is the exit code that an error stands for.
func ExitCodeOf(err error) ExitCode {
	var exit *exitError
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &exit):
		return exit.code
	case errors.Is(err, context.Canceled):
		return ExitInterrupted
	}
	return ExitError
}
