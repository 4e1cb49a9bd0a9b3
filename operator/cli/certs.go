// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

func newCerts(f *factory) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "certs",
		Short: "See and steer the CA of a mesh",
		Long: `See and steer the CA of a mesh. A change of the CA is a MeshRotation: approve, pause, resume, abort and rollback steer it as they steer a rollout (the last two where
--rotation names it), and history tells its story.`,
		Example: example("kubectl mesh certs status", "kubectl mesh certs rotate --kind Root --wait"),
		Args:    cobra.NoArgs, ValidArgsFunction: nothing,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newCertsStatus(f), newCertsRotate(f), newCertsCSR(f), newCertsWaive(f))
	return cmd
}

func newCertsStatus(f *factory) *cobra.Command {
	var out *output
	cmd := &cobra.Command{
		Use:   "status [MESH]",
		Short: "Show what istiods sign with, when it expires, and the rotation under way",
		Example: example(
			"kubectl mesh certs status",
			"kubectl mesh certs status -o json | jq -r '.certificates.roots[].notAfter'",
		),
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: first(f.live(meshNames)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(); err != nil {
				return err
			}
			c, err := f.Client()
			if err != nil {
				return err
			}
			return f.certs(cmd.Context(), c, out, strings.Join(args, ""))
		},
	}
	out = addOutput(cmd)
	return cmd
}

func (f *factory) certs(ctx context.Context, c client.Reader, out *output, name string) error {
	s, err := f.take(ctx, c, name)
	if err != nil {
		return err
	}
	now := f.Clock.Now()
	view := &MeshCertificates{
		TypeMeta: viewOf("MeshCertificates"), Name: s.mesh.Name, Revisions: s.revisionViews(), Certificates: s.certificates(now), Awaiting: []AwaitedView{},
		Unreadable: s.unreadable,
	}
	if r := s.rotation(); r != nil {
		only := &snapshot{mesh: &v1alpha1.MeshInstallation{ObjectMeta: metav1.ObjectMeta{Name: s.mesh.Name}}, others: s.others, rotations: []v1alpha1.MeshRotation{*r}}
		view.Awaiting = only.awaiting(now)
	}
	return f.view(out, view, []string{nameOf("MeshInstallation", view.Name)}, func(p *page, _ bool) { view.says(p, now) })
}

func (v *MeshCertificates) says(p *page, now time.Time) {
	p.line(cell{v.Name, bold}, say("  CA from "+v.Certificates.Source+"; "+v.Certificates.signing()))
	root := &branch{}
	revisionsBranch(root.add(cell{"revisions", bold}), v.Revisions)
	v.Certificates.branches(root.add(cell{"certificates", bold}), now)
	p.tree(root.below, "")
	saysAwaiting(p, v.Awaiting)
	saysUnreadable(p, v.Unreadable)
}

// changes are those that a MeshRotation may be created for.
var changes = []v1alpha1.RotationChange{v1alpha1.ChangeSource, v1alpha1.ChangeIntermediate, v1alpha1.ChangeRoot, v1alpha1.ChangeRevoke}

func changeNames() (out []string) {
	for _, c := range changes {
		out = append(out, string(c))
	}
	return out
}

func newCertsRotate(f *factory) *cobra.Command {
	v, kind, name := &verb{factory: f}, "", ""
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Change the CA: create a MeshRotation",
		Long: `Change the CA of a mesh: create a MeshRotation. --kind is what changes:

  Source        to what spec.certificates.ca of the mesh means
  Intermediate  another intermediate under the same root: nothing restarts, nothing waits
  Root          another root, in phases that are each proven at every proxy
  Revoke        another root, because the key of the present one is known to others: it waits for no window, approval or rollout

It needs the RBAC verb create on meshrotations, and revoke for Revoke.`,
		Example: example("kubectl mesh certs rotate --kind Intermediate --wait", "kubectl mesh certs rotate --kind Root --name default-new-root"),
		Args:    cobra.NoArgs, ValidArgsFunction: nothing,
	}
	v.addMesh(cmd, &v.mesh)
	v.output, v.patience = addObjectOutput(cmd), addPatience(cmd, "until the rotation has ended")
	cmd.Flags().StringVar(&kind, "kind", string(v1alpha1.ChangeSource), "What changes: "+strings.Join(changeNames(), ", "))
	cmd.Flags().StringVar(&name, "name", "", "Name of the MeshRotation. Default: the mesh, the kind and the time")
	mustComplete(cmd, "kind", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return changeNames(), cobra.ShellCompDirectiveNoFileComp
	})
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if !slices.Contains(changeNames(), kind) {
			return usagef("--kind %s: choose one of %s", kind, strings.Join(changeNames(), ", "))
		}
		c, err := v.ready(v.output)
		if err != nil {
			return err
		}
		return v.rotate(cmd.Context(), c, v1alpha1.RotationChange(kind), name)
	}
	return cmd
}

func (v *verb) rotate(ctx context.Context, c client.WithWatch, change v1alpha1.RotationChange, name string) error {
	mesh, err := v.Mesh(ctx, c, v.mesh)
	if err != nil {
		return err
	}
	source := cmp.Or(mesh.Spec.Certificates.CA.Type, v1alpha1.CASourceIstiod)
	if source == v1alpha1.CASourceIstiod && change != v1alpha1.ChangeSource {
		return blockedf("mesh %s takes what istiod makes for itself (spec.certificates.ca.type Istiod), and there is no other %s of that: choose another type, for example\n\n"+
			"  kubectl patch mesh %s --type=merge -p '{\"spec\":{\"certificates\":{\"ca\":{\"type\":\"Managed\"}}}}'", mesh.Name, strings.ToLower(string(change)), mesh.Name)
	}
	s := &snapshot{mesh: mesh}
	if err := s.children(ctx, c); err != nil {
		return err
	}
	o := operation{}
	for i := range s.rotations {
		r := &s.rotations[i]
		if r.Spec.Change == change && r.Status.Progress.Outcome == "" && (o.rotation == nil || o.rotation.Name != name) {
			o.rotation = r
		}
	}
	if o.rotation != nil && name != "" && o.rotation.Name != name {
		return usagef("--name %s: %s (%s) is under way already, and another one would change nothing more: leave out --name to mean that one, or wait until it has ended",
			name, o, change)
	}
	said := v.said(v.output)
	if o.rotation != nil {
		_, _ = fmt.Fprintf(said, "%s (%s) is under way already\n", o, change)
	} else {
		o.rotation = &v1alpha1.MeshRotation{
			ObjectMeta: metav1.ObjectMeta{Name: cmp.Or(name, v.rotationName(mesh.Name, change)), Labels: map[string]string{v1alpha1.LabelMesh: mesh.Name}},
			Spec:       v1alpha1.MeshRotationSpec{Mesh: mesh.Name, Change: change, RotationVerbs: v1alpha1.RotationVerbs{Goal: v1alpha1.GoalComplete}},
		}
		right := "create"
		if change == v1alpha1.ChangeRevoke {
			right = "revoke"
		}
		if err := c.Create(ctx, o.rotation); err != nil {
			return v.denied(ctx, c, err, right, o.resource(), o.rotation.Name)
		}
		_, _ = fmt.Fprintf(said, "%s (%s) created: kubectl mesh certs status shows it\n", o, change)
	}
	if v.patience.wait {
		err := v.waiting(ctx, v.patience, o.String(), func(ctx context.Context) error { return v.follow(ctx, c, said, o, completes.reached) })
		if err != nil {
			return err
		}
	}
	return v.object(v.output, c, o.rotation)
}

// maxRotationName is how long the name of a MeshRotation may be.
const maxRotationName = 50

// rotationName names a rotation after its mesh, what changes, and the time.
func (v *verb) rotationName(mesh string, change v1alpha1.RotationChange) string {
	end := "-" + strings.ToLower(string(change)) + "-" + v.Clock.Now().UTC().Format("060102-150405")
	return mesh[:min(len(mesh), maxRotationName-len(end))] + end
}

func newCertsCSR(f *factory) *cobra.Command {
	w, file := which{}, ""
	cmd := &cobra.Command{
		Use:   "csr",
		Short: "Write the certificate signing request that a rotation waits for",
		Long: `Write the certificate signing request of a rotation that waits for a signature (spec.certificates.ca.managed.root Offline), as PEM. How the answer is handed in is
said on standard error.`,
		Example: example("kubectl mesh certs csr > istiod.csr", "kubectl mesh certs csr --rotation default-1 --out istiod.csr"),
		Args:    cobra.NoArgs, ValidArgsFunction: nothing,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := f.Client()
			if err != nil {
				return err
			}
			return f.csr(cmd.Context(), c, w, file)
		},
	}
	f.addMesh(cmd, &w.mesh)
	f.addRotation(cmd, &w, "The MeshRotation. Default: the one that waits for a signature")
	cmd.Flags().StringVar(&file, "out", "", "File that it is written to. Default: standard output")
	return cmd
}

func (f *factory) csr(ctx context.Context, c client.Reader, w which, file string) error {
	all, err := f.operations(ctx, c, w)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(all, func(o operation) bool { return o.rotation != nil && o.rotation.Status.Request != "" })
	if i < 0 {
		return blockedf("no MeshRotation waits for a signature")
	}
	o := all[i].rotation
	mesh, err := f.Mesh(ctx, c, o.Spec.Mesh)
	if err != nil {
		return err
	}
	if file != "" {
		if err := os.WriteFile(file, []byte(o.Status.Request), 0o644); err != nil {
			return err
		}
	} else if _, err := fmt.Fprint(f.Out, o.Status.Request); err != nil {
		return err
	}
	answer := "<spec.certificates.ca.managed.answer.name>"
	if managed := mesh.Spec.Certificates.CA.Managed; managed != nil && managed.Answer != nil {
		answer = managed.Answer.Name
	}
	_, err = fmt.Fprintf(f.ErrOut, `Request of MeshRotation %s. When the root has signed it, hand the answer in:

  kubectl create secret generic %s -n %s --from-file=tls.crt=<the intermediate> --from-file=ca.crt=<the root>

How it is signed with openssl, or by a PKCS#11 token: %scertificates/
`, o.Name, answer, mesh.Spec.Namespace, v1alpha1.DocsURL)
	return err
}

func newCertsWaive(f *factory) *cobra.Command {
	v, length := &verb{factory: f}, time.Duration(0)
	cmd := &cobra.Command{
		Use:   "waive NAMESPACE/POD",
		Short: "Let a rotation go on without the proof of a proxy, for a while",
		Long: `Let the phases of a rotation go on without the proof of a proxy. Let the operator reach it or restart it rather, if you can: status.holdouts says what it needs. A
proxy that was waived and does not follow fails handshakes.

A waiver carries your own user name, and ends by itself. It needs the RBAC verb waive.`,
		Example:           example("kubectl mesh certs waive shop/legacy-0 --for 1h"),
		Args:              one("the proxy, as namespace/pod"),
		ValidArgsFunction: first(f.live(f.holdoutNames)),
	}
	v.addMesh(cmd, &v.mesh)
	v.addRotation(cmd, &v.which, "The MeshRotation. Default: the one that is under way")
	v.only = rotationKind
	v.output, v.patience = addObjectOutput(cmd), addPatience(cmd, "until the rotation has ended")
	addFor(cmd, &length)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if namespace, pod, ok := strings.Cut(args[0], "/"); !ok || namespace == "" || pod == "" {
			return usagef("%q is no proxy: give it as namespace/pod, as kubectl mesh certs status does", args[0])
		}
		expires, err := v.expiry(length)
		if err != nil {
			return err
		}
		return v.run(cmd.Context(), func(c client.Client, _ operation) (set, error) {
			me, err := v.Whoami(cmd.Context(), c)
			return proxyWaiverOf(v1alpha1.RotationWaiver{Proxy: args[0], By: me, Expires: expires}), err
		})
	}
	return cmd
}
