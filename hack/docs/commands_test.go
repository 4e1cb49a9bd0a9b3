// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/utils/clock"

	"github.com/meshwright/meshwright/operator/cli"
)

var (
	// typed is a line of a listing that a person would type.
	typed = regexp.MustCompile(`(?m)^ *(?:\$ )?kubectl mesh( [^\n#|;>&]*)?`)
	// mentioned is a command within a sentence.
	mentioned = regexp.MustCompile("`kubectl mesh( [^`#|;>&]*)?`")
)

// TestCommandsAreThePluginsOwn says that each kubectl mesh in the documentation names a command that there is, with flags that it has.
func TestCommandsAreThePluginsOwn(t *testing.T) {
	pages, err := pagesOf(root)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for from := range pages {
		if path.Ext(from) != ".md" {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(root, from))
		if err != nil {
			t.Fatal(err)
		}
		for _, form := range []*regexp.Regexp{typed, mentioned} {
			for _, m := range form.FindAllStringSubmatch(string(raw), -1) {
				found++
				if err := understood(strings.Fields(m[1])); err != nil {
					t.Errorf("%s: %s: %v", from, strings.TrimSpace(m[0]), err)
				}
			}
		}
	}
	if found == 0 {
		t.Error("no command was found")
	}
}

func understood(args []string) error {
	command, rest, err := cli.New(genericiooptions.NewTestIOStreamsDiscard(), clock.RealClock{}).Find(args)
	if err != nil {
		return err
	}
	return command.ParseFlags(rest)
}

func TestUnderstood(t *testing.T) {
	for _, c := range []struct {
		name, reason, args string
		want               bool
	}{
		{"command", "with a flag that it has", "retry --wait", true},
		{"below", "a command of a command", "certs rotate --kind Root", true},
		{"alone", "the plugin itself prints help", "", true},
		{"unknown", "there is no such command", "leap", false},
		{"flag", "it has no such flag", "retry --harder", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := understood(strings.Fields(c.args)); (err == nil) != c.want {
				t.Errorf("%s: %v", c.reason, err)
			}
		})
	}
}
