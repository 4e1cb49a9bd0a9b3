// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package validate holds every rule about user input that the schema can't say. The admission webhook and the controllers
// call the same functions, so that a webhook that is away changes the words' place, not the verdict.
//
// It is pure: what else exists, what can be installed and what time it is, callers say as facts.
package validate
