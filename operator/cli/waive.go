// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

func newWaive(f *factory) *cobra.Command {
	v, length := &verb{factory: f}, time.Duration(0)
	cmd := &cobra.Command{
		Use:   "waive PROOF",
		Short: "Let a rollout go on without a proof, for a while",
		Long: `Let a rollout go on without a proof that can't be had here: Injection (new pods get the sidecar of the canary), Configuration (the canary gives proxies their
configuration) or Connection (proxies are connected to an istiod that was replaced in place). Mend what stands in its way rather, if you can: the message says what.

A waiver carries your own user name, and ends by itself. It needs the RBAC verb waive. For proxies of a rotation, see kubectl mesh certs waive.`,
		Example: example("kubectl mesh waive Injection --for 1h"),
		Args:    one("the proof that is done without"),
		ValidArgsFunction: first(func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return proofNames(), cobra.ShellCompDirectiveNoFileComp
		}),
	}
	v.addMesh(cmd, &v.mesh)
	v.addRollout(cmd, &v.which)
	v.output, v.patience = addObjectOutput(cmd), addPatience(cmd, "until the rollout has ended")
	addFor(cmd, &length)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		proof := v1alpha1.Proof(args[0])
		if !slices.Contains(proofs, proof) {
			return usagef("there is no proof %s: choose one of %s", proof, strings.Join(proofNames(), ", "))
		}
		expires, err := v.expiry(length)
		if err != nil {
			return err
		}
		return v.run(cmd.Context(), func(c client.Client, o operation) (set, error) {
			if o.rollout == nil {
				return set{}, usagef("%s has no proof %s: kubectl mesh certs waive does without a proxy, --rollout names a MeshRollout", o, proof)
			}
			me, err := v.Whoami(cmd.Context(), c)
			return waiverOf(v1alpha1.Waiver{Proof: proof, By: me, Expires: expires}), err
		})
	}
	return cmd
}

func proofNames() (out []string) {
	for _, p := range proofs {
		out = append(out, string(p))
	}
	return out
}

func addFor(cmd *cobra.Command, length *time.Duration) {
	cmd.Flags().DurationVar(length, "for", 0, "How long it holds, such as 1h (required)")
	if err := cmd.MarkFlagRequired("for"); err != nil {
		panic(err) // the flag is one line above
	}
}

func (v *verb) expiry(length time.Duration) (metav1.Time, error) {
	if length < time.Second {
		return metav1.Time{}, usagef("--for %s: a waiver has to hold for a second at least, for example --for 1h", length)
	}
	return metav1.NewTime(v.Clock.Now().Add(length).Truncate(time.Second)), nil
}

func waiverOf(w v1alpha1.Waiver) set {
	until := w.Expires.UTC().Format(time.RFC3339)
	return set{
		right: "waive",
		change: func(o operation) (bool, error) {
			for _, there := range o.rollout.Spec.Waivers {
				if there.Proof == w.Proof && !there.Expires.Before(&w.Expires) {
					return false, nil
				}
			}
			o.rollout.Spec.Waivers = append(o.rollout.Spec.Waivers, w)
			return true, nil
		},
		already: text(fmt.Sprintf("does without the proof %s for as long already", w.Proof)),
		done:    text(fmt.Sprintf("proof %s waived by %s until %s", w.Proof, w.By, until)),
		what:    text("it goes on without it"), reached: completes.reached,
	}
}

func proxyWaiverOf(w v1alpha1.RotationWaiver) set {
	until := w.Expires.UTC().Format(time.RFC3339)
	return set{
		right: "waive",
		change: func(o operation) (bool, error) {
			for _, there := range o.rotation.Spec.Waivers {
				if there.Proxy == w.Proxy && !there.Expires.Before(&w.Expires) {
					return false, nil
				}
			}
			o.rotation.Spec.Waivers = append(o.rotation.Spec.Waivers, w)
			return true, nil
		},
		already: text(fmt.Sprintf("does without proxy %s for as long already", w.Proxy)),
		done:    text(fmt.Sprintf("proxy %s waived by %s until %s", w.Proxy, w.By, until)),
		what:    text("phases do not wait for it, but for Drain, which waits until its leaf has expired; it may fail handshakes until it is restarted"), reached: completes.reached,
	}
}

// one wants one argument, and says what it is.
func one(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 {
			return nil
		}
		return usagef("%s: give %s (%s)", cmd.CommandPath(), what, cmd.UseLine())
	}
}
