// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Command prove asks sidecars which roots they accept and what leaf they present, by TLS handshakes only: it shares no code with the operator, whose
// word it is to check. Each root is tried with a leaf of it, and the outcome is printed as a line of JSON for each proxy and root.
//
// The folder has for each root <name>.root.pem, <name>.crt and <name>.key; the arguments are proxies as namespace/pod=address:port.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Line is what one handshake came to.
type Line struct {
	Proxy string `json:"proxy"`
	// Root whose leaf was presented, and whether that was accepted.
	Root     string `json:"root"`
	Accepted bool   `json:"accepted"`
	// Presents is the root of the proxy's own leaf; empty for none of those that are known.
	Presents string `json:"presents"`
	Error    string `json:"error,omitempty"`
}

const patience = 5 * time.Second

func main() {
	log.SetFlags(0)
	folder := flag.String("roots", "/roots", "folder with roots and leaves")
	flag.Parse()
	names, pools, leaves, err := load(*folder)
	if err != nil {
		log.Fatal(err)
	}
	out := json.NewEncoder(os.Stdout)
	for _, argument := range flag.Args() {
		proxy, address, _ := strings.Cut(argument, "=")
		for i, name := range names {
			line := Line{Proxy: proxy, Root: name}
			presents, err := shake(address, leaves[i], pools)
			line.Presents, line.Accepted = presents, err == nil
			if err != nil {
				line.Error = err.Error()
			}
			if err := out.Encode(line); err != nil {
				log.Fatal(err)
			}
		}
	}
}

func load(folder string) (names []string, pools map[string]*x509.CertPool, leaves []tls.Certificate, err error) {
	found, err := filepath.Glob(filepath.Join(folder, "*.root.pem"))
	if err != nil {
		return nil, nil, nil, err
	}
	pools = map[string]*x509.CertPool{}
	for _, path := range found {
		name := strings.TrimSuffix(filepath.Base(path), ".root.pem")
		raw, err := os.ReadFile(path)
		if err != nil {
			return nil, nil, nil, err
		}
		pools[name] = x509.NewCertPool()
		if !pools[name].AppendCertsFromPEM(raw) {
			return nil, nil, nil, fmt.Errorf("%s holds no certificate", path)
		}
		leaf, err := tls.LoadX509KeyPair(filepath.Join(folder, name+".crt"), filepath.Join(folder, name+".key"))
		if err != nil {
			return nil, nil, nil, err
		}
		names, leaves = append(names, name), append(leaves, leaf)
	}
	return names, pools, leaves, nil
}

// shake presents a leaf, and waits for what the proxy says of it: with TLS 1.3 the handshake ends before that.
func shake(address string, leaf tls.Certificate, pools map[string]*x509.CertPool) (presents string, err error) {
	conn, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	client := tls.Client(conn, &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"istio"},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &leaf, nil }, // whatever the proxy names
		InsecureSkipVerify:   true,                                                                            //nolint:gosec // the roots are tried one by one below
		VerifyConnection: func(state tls.ConnectionState) error {
			presents = rootOf(state.PeerCertificates, pools)
			return nil
		},
	})
	if err := client.Handshake(); err != nil {
		return presents, err
	}
	if _, err := client.Read(make([]byte, 1)); err != nil && !errors.Is(err, io.EOF) {
		var alert tls.AlertError
		var op *net.OpError
		if errors.As(err, &alert) || errors.As(err, &op) && op.Op == "remote error" {
			return presents, err
		}
	}
	return presents, nil
}

func rootOf(chain []*x509.Certificate, pools map[string]*x509.CertPool) string {
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	for name, pool := range pools {
		_, err := chain[0].Verify(x509.VerifyOptions{Roots: pool, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
		if err == nil {
			return name
		}
	}
	return ""
}
