// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// statusOptions are the flags of status.
type statusOptions struct {
	*factory
	output *output

	mesh  string
	watch bool
}

func newStatus(f *factory) *cobra.Command {
	o := &statusOptions{factory: f}
	cmd := &cobra.Command{
		Use:   "status [MESH]",
		Short: "Show a mesh: revisions, gateways, rollout, certificates, and what waits for a person",
		Long: `Show a mesh as a tree: its conditions, its revisions and their proxies, its gateways with the share of the traffic that each version is to have and
was measured to have, the rollout and the rotation that are under way, its certificates, and what waits for a person, with the command that answers it.

With --watch it is drawn again when something changes: in place on a terminal, and as one block after the other in a pipe. Nothing is polled, but for what you may
not watch. Ctrl-C is how it ends, and no failure (exit code 0).`,
		Example: example(
			"kubectl mesh status",
			"kubectl mesh status --watch",
			"kubectl mesh status default -o json | jq .rollout.steps",
		),
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: first(f.live(meshNames)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := o.ready(o.output)
			if err != nil {
				return err
			}
			o.mesh = strings.Join(args, "")
			return o.run(cmd.Context(), c)
		},
	}
	o.output = addOutput(cmd)
	cmd.Flags().BoolVarP(&o.watch, "watch", "w", false, "Draw it again when something changes, until Ctrl-C")
	return cmd
}

func (o *statusOptions) run(ctx context.Context, c client.WithWatch) error {
	if o.watch {
		return o.follow(ctx, c)
	}
	return o.once(ctx, c)
}

func (o *statusOptions) once(ctx context.Context, c client.Reader) error {
	s, err := o.take(ctx, c, o.mesh)
	if err != nil {
		return err
	}
	now := o.Clock.Now()
	status := s.status(now)
	return o.view(o.output, status, []string{nameOf("MeshInstallation", status.Name)}, func(p *page, wide bool) { status.says(p, now, wide) })
}
