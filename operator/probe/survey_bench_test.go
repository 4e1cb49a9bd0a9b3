// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bufio"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"k8s.io/utils/clock"

	"github.com/meshwright/meshwright/operator/pki"
)

// crowdVariable makes a process of this test binary the proxies of a benchmark, so that what they cost is told apart from the probe's.
const crowdVariable = "MESHWRIGHT_BENCHMARK_CROWD"

func TestMain(m *testing.M) {
	if os.Getenv(crowdVariable) == "" {
		m.Run()
		return
	}
	if err := standFor(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// crowdSpec is what the proxies have: a leaf with its chain and key, and the roots that they accept.
type crowdSpec struct {
	Chain [][]byte `json:"chain"`
	Key   []byte   `json:"key"`
	Roots []byte   `json:"roots"`
}

// standFor serves on every address of loopback. It writes the port, then what the process has cost for each line that it reads.
func standFor(in io.Reader, out io.Writer) error {
	lines := bufio.NewReader(in)
	line, err := lines.ReadBytes('\n')
	if err != nil {
		return err
	}
	var spec crowdSpec
	if err := json.Unmarshal(line, &spec); err != nil {
		return err
	}
	key, err := pki.ParseKey(spec.Key)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(spec.Roots)
	config := &tls.Config{
		Certificates: []tls.Certificate{{Certificate: spec.Chain, PrivateKey: key}}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots,
		MinVersion: tls.VersionTLS12, SessionTicketsDisabled: true,
	}
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp4", ":0")
	if err != nil {
		return err
	}
	go func() {
		for {
			raw, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				conn := tls.Server(raw, config)
				if conn.HandshakeContext(context.Background()) == nil {
					_, _ = conn.Read(make([]byte, 1))
				}
				_ = conn.Close()
			}()
		}
	}()
	_, _ = fmt.Fprintln(out, listener.Addr().(*net.TCPAddr).Port)
	for {
		if _, err := lines.ReadBytes('\n'); err != nil {
			return nil //nolint:nilerr // the benchmark has ended
		}
		_, _ = fmt.Fprintln(out, cost().Microseconds())
	}
}

// cost is the time of all cores that this process has used.
func cost() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		panic(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// crowdProcess is the proxies as a process.
type crowdProcess struct {
	b    *testing.B
	in   io.Writer
	out  *bufio.Reader
	port int
}

func startCrowd(b *testing.B, leaf *tls.Certificate, bundles ...*pki.Bundle) *crowdProcess {
	b.Helper()
	spec := crowdSpec{Chain: leaf.Certificate}
	var err error
	spec.Key, err = pki.EncodeKey(leaf.PrivateKey.(crypto.Signer))
	must(b, spec, err)
	for _, bundle := range bundles {
		spec.Roots = append(spec.Roots, pki.EncodeCertificates(bundle.Roots...)...)
	}
	cmd := exec.CommandContext(context.WithoutCancel(b.Context()), os.Args[0]) // it ends with its input
	cmd.Env, cmd.Stderr = append(os.Environ(), crowdVariable+"=1"), os.Stderr
	in, err := cmd.StdinPipe()
	must(b, in, err)
	out, err := cmd.StdoutPipe()
	must(b, out, err)
	must(b, cmd, cmd.Start())
	b.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			b.Error(err)
		}
	})
	c := &crowdProcess{b: b, in: in, out: bufio.NewReader(out)}
	line, err := json.Marshal(spec)
	must(b, line, err)
	c.port = c.ask(string(line))
	return c
}

// ask writes a line and reads a number.
func (c *crowdProcess) ask(line string) (n int) {
	c.b.Helper()
	_, err := io.WriteString(c.in, line+"\n")
	must(c.b, line, err)
	_, err = fmt.Fscanln(c.out, &n)
	return must(c.b, n, err)
}

func (c *crowdProcess) cost() time.Duration { return time.Duration(c.ask("cost")) * time.Microsecond }

// What it costs to ask ten thousand proxies, each at an address of its own, while both roots of a rotation are accepted; and to ask the hundredth part of them
// again. In milliseconds of a core for each proxy that was asked: probe-ms is ours, proxy-ms theirs, here with Go's TLS instead of Envoy's. again/first is
// the second round as a part of the first one, for the same ten thousand.
func BenchmarkSurvey(b *testing.B) {
	const proxies, unsettled = 10_000, 100
	from, to := bundleOf(b, "from"), bundleOf(b, "to")
	leaf := leafOf(b, from, "shop", time.Hour)
	servers := startCrowd(b, &leaf, from, to)
	targets := targetsOn(servers.port, proxies)
	for i := range targets {
		targets[i].Address = fmt.Sprintf("127.1.%d.%d", i/250, 1+i%250)
	}
	credentials := []Credential{credentialOf(b, to), credentialOf(b, from)}
	var first, again, theirs time.Duration
	for b.Loop() {
		s := &Survey{Prober: New(), Clock: clock.RealClock{}}
		round := func(settled func(Finding) bool) time.Duration {
			before := cost()
			for _, f := range s.Round(b.Context(), "trust", targets, credentials, settled) {
				if f.Err != nil || len(f.Seen.Accepts) != len(credentials) || f.Seen.Leaf != pki.FingerprintOf(from.Roots[0]) {
					b.Fatalf("%+v", f)
				}
			}
			return cost() - before
		}
		idle := servers.cost()
		first += round(func(Finding) bool { return false })
		theirs += servers.cost() - idle
		waits := map[string]bool{}
		for i := range unsettled {
			waits[targets[i*proxies/unsettled].Key] = true
		}
		again += round(func(f Finding) bool { return !waits[f.Target.Key] })
	}
	asked := float64(b.N * proxies)
	b.ReportMetric(first.Seconds()*1000/asked, "probe-ms/proxy")
	b.ReportMetric(theirs.Seconds()*1000/asked, "proxy-ms/proxy")
	b.ReportMetric((first+theirs).Seconds()*1000/asked, "both-ms/proxy")
	b.ReportMetric(again.Seconds()/first.Seconds(), "again/first")
}
