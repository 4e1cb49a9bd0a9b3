// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Command cluster brings test clusters up and down.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/meshwright/meshwright/e2e/cluster"
	"github.com/meshwright/meshwright/e2e/cluster/artifact"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := root().ExecuteContext(ctx)
	stop()
	if err != nil {
		os.Exit(1)
	}
}

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:           "cluster",
		Short:         "real Kubernetes clusters on this machine, for tests",
		SilenceUsage:  true,
		SilenceErrors: false,
	}
	cmd.AddCommand(up(), down(), status(), load(), logs(), connect(), envtest())
	return cmd
}

func name(cmd *cobra.Command) *string {
	return cmd.Flags().String("name", "mesh", "name of the cluster")
}

func up() *cobra.Command {
	var o cluster.Options
	var engine, images string
	cmd := &cobra.Command{
		Use:   "up",
		Short: "bring a cluster up, or use the one that is up",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Engine, o.Source = cluster.EngineMode(engine), cluster.ImageSource(images)
			c, err := cluster.Up(cmd.Context(), o)
			if err != nil {
				return err
			}
			fmt.Printf("export KUBECONFIG=%s\n", c.Kubeconfig())
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.Name, "name", "mesh", "name of the cluster")
	flags.StringVar(&o.Kubernetes, "kubernetes", artifact.DefaultKubernetes, "version of Kubernetes: "+strings.Join(artifact.KubeVersions(), ", "))
	flags.StringSliceVar(&o.Istio, "istio", nil, "versions of Istio whose images are loaded: "+strings.Join(artifact.IstioVersions(), ", "))
	flags.StringVar(&engine, "engine", "auto", "container engine: auto, host or private")
	flags.StringVar(&images, "images", "auto", "where images come from: auto, pull or build")
	flags.BoolVar(&o.InstallPackages, "install-packages", false, "have apt-get install the packages that are missing")
	return cmd
}

func down() *cobra.Command {
	cmd := &cobra.Command{Use: "down", Short: "take a cluster down; nothing is left of it", Args: cobra.NoArgs}
	clusterName := name(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cluster.Down(cmd.Context(), *clusterName) }
	return cmd
}

func status() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "say what clusters there are", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := cluster.List(cmd.Context())
			if err != nil {
				return err
			}
			table := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
			fmt.Fprintln(table, "NAME\tKUBERNETES\tENGINE\tSTATE\tKUBECONFIG")
			for _, s := range all {
				fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", s.Name, s.Kubernetes, s.Engine, s.State, s.Kubeconfig)
			}
			return table.Flush()
		},
	}
}

func load() *cobra.Command {
	cmd := &cobra.Command{Use: "load ARCHIVE...", Short: "load images from docker-archive tarballs", Args: cobra.MinimumNArgs(1)}
	clusterName := name(cmd)
	cmd.RunE = func(cmd *cobra.Command, archives []string) error {
		c, err := cluster.Open(cmd.Context(), *clusterName)
		if err != nil {
			return err
		}
		return c.Load(cmd.Context(), archives...)
	}
	return cmd
}

func logs() *cobra.Command {
	cmd := &cobra.Command{Use: "logs FOLDER", Short: "collect the logs of nodes and pods", Args: cobra.ExactArgs(1)}
	clusterName := name(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := cluster.Open(cmd.Context(), *clusterName)
		if err != nil {
			return err
		}
		return c.Logs(cmd.Context(), args[0])
	}
	return cmd
}

func connect() *cobra.Command {
	return &cobra.Command{
		Use: "connect NAME", Short: "route the pod networks of two clusters to each other", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := cluster.Open(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			b, err := cluster.Open(cmd.Context(), args[1])
			if err != nil {
				return err
			}
			return cluster.Connect(cmd.Context(), a, b)
		},
	}
}

func envtest() *cobra.Command {
	var kubernetes string
	cmd := &cobra.Command{
		Use: "envtest", Short: "print the folder that KUBEBUILDER_ASSETS should name", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			store, err := artifact.Open("")
			if err != nil {
				return err
			}
			dir, err := cluster.EnvtestAssets(cmd.Context(), store, kubernetes, artifact.NewProgress(os.Stderr))
			if err != nil {
				return err
			}
			fmt.Println(dir)
			return nil
		},
	}
	cmd.Flags().StringVar(&kubernetes, "kubernetes", artifact.DefaultKubernetes, "version of Kubernetes")
	return cmd
}
