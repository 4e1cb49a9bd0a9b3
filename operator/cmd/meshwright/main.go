// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Command meshwright is the operator.
package main

import (
	"flag"
	"os"
	_ "time/tzdata" // windows name time zones, and images may have no database of them

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/meshwright/meshwright/operator/manager"
)

func main() {
	var options manager.Options
	options.Bind(flag.CommandLine)
	logging := zap.Options{}
	logging.BindFlags(flag.CommandLine)
	flag.Parse()
	ctrl.SetLogger(zap.New(zap.UseFlagOptions(&logging)))
	if err := run(options); err != nil {
		ctrl.Log.Error(err, "the operator ends")
		os.Exit(1)
	}
}

func run(options manager.Options) error {
	if err := options.Validate(); err != nil {
		return err
	}
	ctx := ctrl.SetupSignalHandler()
	config, err := ctrl.GetConfig()
	if err != nil {
		return err
	}
	mgr, err := manager.New(ctx, config, options)
	if err != nil {
		return err
	}
	return mgr.Start(ctx)
}
