// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// target is the istiod of all tests; it listens on loopback.
var target = Istiod{Address: "127.0.0.1", Revision: "1-29-1", Version: "1.29.1", Namespace: "istio-system"}

// listen listens on loopback until the test ends.
func listen(t *testing.T) (listener net.Listener, port int) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", net.JoinHostPort(target.Address, "0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener, listener.Addr().(*net.TCPAddr).Port
}

// closedPort is one on which nobody listens.
func closedPort(t *testing.T) int {
	t.Helper()
	listener, port := listen(t)
	_ = listener.Close()
	return port
}

// deadline is a context whose deadline passes when the test says so: no test has to guess how long anything takes.
type deadline struct {
	context.Context //nolint:containedctx // it is one

	passed chan struct{}
	once   sync.Once
}

func newDeadline(t *testing.T) *deadline {
	t.Helper()
	return &deadline{Context: t.Context(), passed: make(chan struct{})}
}

func (d *deadline) pass()                 { d.once.Do(func() { close(d.passed) }) }
func (d *deadline) Done() <-chan struct{} { return d.passed }

func (d *deadline) Err() error {
	select {
	case <-d.passed:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// checkError compares an error with a text, in which PORT stands for the port; empty for none.
func checkError(t *testing.T, err error, port int, want string, unreachable bool) {
	t.Helper()
	got := ""
	if err != nil {
		got = strings.ReplaceAll(err.Error(), strconv.Itoa(port), "PORT")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("error (-want +got):\n%s", diff)
	}
	typed, ok := errors.AsType[*UnreachableError](err)
	if ok != unreachable {
		t.Errorf("%v: unreachable is %v, want %v", err, ok, unreachable)
	}
	if ok && (typed.Istiod != target || typed.Port != port) {
		t.Errorf("%v names %v and port %d", err, typed.Istiod, typed.Port)
	}
}
