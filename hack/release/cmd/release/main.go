// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Command release makes a release of Meshwright, checks one, brings its images to a registry, and lists the images that a cluster needs.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/meshwright/meshwright/e2e/cluster/artifact"
	"github.com/meshwright/meshwright/hack/release"
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
	cmd := &cobra.Command{Use: "release", Short: "releases of Meshwright", SilenceUsage: true}
	cmd.AddCommand(build(), verify(), push(), images())
	return cmd
}

func build() *cobra.Command {
	o := release.Options{Epoch: os.Getenv("SOURCE_DATE_EPOCH")}
	var pushes bool
	cmd := &cobra.Command{
		Use:   "build",
		Short: "make a release out of the checkout",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			progress := artifact.NewProgress(os.Stderr)
			dir, err := release.Build(cmd.Context(), o, progress)
			if err != nil {
				return err
			}
			progress.Say("the release is in " + dir)
			if !pushes {
				return nil
			}
			return pushImages(cmd.Context(), dir, o.Registry)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.Version, "version", "", "version, such as 0.1.0")
	flags.StringVar(&o.Previous, "previous", "", "version that this one replaces; none for the first")
	flags.StringVar(&o.Catalogue, "catalogue", "", "catalog.yaml of that version, which this one is added to")
	flags.StringVar(&o.Registry, "registry", "registry.example.com/meshwright", "what comes before /meshwright in the name of the operator's image")
	flags.StringVar(&o.Downloads, "downloads", "https://github.com/meshwright/meshwright/releases/download",
		"address below which a folder named by the version will hold the plugin's archives")
	flags.StringVar(&o.Root, "root", ".", "root of the checkout")
	flags.StringVar(&o.Out, "out", "dist", "folder that gets a folder named by the version")
	flags.StringVar(&o.SignKey, "sign-key", "", "PEM file with a private key (ECDSA or Ed25519) that signs the sums")
	flags.BoolVar(&o.Resolve, "resolve", false, "ask registries for the digests of Istio's images, for the list and for OLM's bundle")
	flags.BoolVar(&pushes, "push", false, "bring the images to the registry when the release is complete")
	_ = cmd.MarkFlagRequired("version") // it is declared above
	return cmd
}

func verify() *cobra.Command {
	var key string
	cmd := &cobra.Command{
		Use:   "verify FOLDER",
		Short: "check that a folder holds exactly the files of a release",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := release.Verify(args[0], key); err != nil {
				return err
			}
			said := "every file is what was released"
			if key == "" {
				said += ", by sums that may be anybody's: give --key to have their signature checked"
			} else {
				said += ", by sums that were signed with the key"
			}
			fmt.Println(said)
			return nil
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "PEM file with the public key that the sums have to be signed with")
	return cmd
}

func push() *cobra.Command {
	var registry string
	cmd := &cobra.Command{
		Use:   "push FOLDER",
		Short: "bring the images of a release to a registry",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return pushImages(cmd.Context(), args[0], registry)
		},
	}
	cmd.Flags().StringVar(&registry, "registry", "", "what comes before the names of images")
	_ = cmd.MarkFlagRequired("registry") // it is declared above
	return cmd
}

func pushImages(ctx context.Context, dir, registry string) error {
	references, err := release.Push(ctx, dir, registry, release.Credentials()...)
	if err != nil {
		return err
	}
	for _, reference := range references {
		fmt.Println(reference)
	}
	return nil
}

func images() *cobra.Command {
	var hub, format string
	var resolve bool
	cmd := &cobra.Command{
		Use:   "images FOLDER",
		Short: "list the images that a cluster needs, as a release names them or as a mirror does",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			all, err := release.ReadImages(filepath.Clean(args[0]))
			if err != nil {
				return err
			}
			if hub != "" {
				all = release.Rehome(all, hub)
			}
			if resolve {
				if all, err = release.Resolve(cmd.Context(), all, release.Credentials()...); err != nil {
					return err
				}
			}
			text, err := release.FormatImages(all, format)
			if err != nil {
				return err
			}
			_, err = os.Stdout.Write(text)
			return err
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&hub, "hub", "", "registry and path that hold copies of Istio's images, as spec.images.hub takes it")
	flags.StringVar(&format, "format", "text", "text, json, or spec: spec.images for each version of Istio")
	flags.BoolVar(&resolve, "resolve", false, "ask registries for the digests that are not known")
	return cmd
}
