// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Command kubectl-mesh is the plugin kubectl mesh.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	// Kubeconfigs may say how a cloud is signed in to.
	_ "k8s.io/client-go/plugin/pkg/client/auth"

	"github.com/meshwright/meshwright/operator/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := cli.Run(ctx, os.Args[1:], genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr})
	stop()
	os.Exit(int(code))
}
