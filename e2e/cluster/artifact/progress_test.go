// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := NewProgress(&out)
		p.Say("no engine answers: starting one")
		end := p.Begin("building kube-1.34.4 (1 of 2)", 6*time.Minute)
		time.Sleep(45 * time.Second)
		end(nil)
		end = p.Begin("waiting for the node", 0)
		time.Sleep(21 * time.Second)
		end(errors.New("too late"))
		want := []string{
			"no engine answers: starting one",
			"building kube-1.34.4 (1 of 2), about 6 min",
			"building kube-1.34.4 (1 of 2): still running after 20s, expected about 6 min",
			"building kube-1.34.4 (1 of 2): still running after 40s, expected about 6 min",
			"building kube-1.34.4 (1 of 2): done in 45s",
			"waiting for the node",
			"waiting for the node: still running after 20s",
			"waiting for the node: failed after 21s",
		}
		if diff := cmp.Diff(want, strings.Split(strings.TrimSpace(out.String()), "\n")); diff != "" {
			t.Errorf("a log shows events and signs of life (-want +got):\n%s", diff)
		}
	})
}

func TestBars(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		shown := func() string {
			synctest.Wait() // until the bar has been drawn
			return out.String()
		}
		p := &bars{w: &out}
		end := p.Begin("building istiod", 10*time.Second)
		time.Sleep(5*time.Second + time.Millisecond)
		if !strings.Contains(shown(), "50%") {
			t.Errorf("half of the time is half of the bar: got %q", shown())
		}
		p.Say("a decision")
		inner := p.Begin("unpacking", 0)
		time.Sleep(time.Second)
		inner(nil)
		time.Sleep(time.Minute)
		if strings.Contains(shown(), "100%") {
			t.Errorf("a bar never claims to be done before the work is: got %q", shown())
		}
		end(nil)
		for _, line := range []string{"a decision\n", "unpacking: done in 1s\n", "building istiod: done in 1m6s\n"} {
			if !strings.Contains(shown(), line) {
				t.Errorf("%q stays on the screen: got %q", line, shown())
			}
		}
	})
}
