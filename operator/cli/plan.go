// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/meshwright/meshwright/operator/admit"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/dataplane"
	"github.com/meshwright/meshwright/operator/facts"
	"github.com/meshwright/meshwright/operator/plan"
	"github.com/meshwright/meshwright/operator/rollout"
	"github.com/meshwright/meshwright/operator/validate"
)

// planOptions are the flags of plan.
type planOptions struct {
	*factory

	file, from, to, kubernetes string
	offline, diff              bool
	charts                     charts
	output                     *output
}

func newPlan(f *factory) *cobra.Command {
	o := &planOptions{factory: f}
	c := &cobra.Command{
		Use:   "plan [MESH]",
		Short: "Say what Meshwright would do, and do nothing",
		Long: `Say what Meshwright would do: the target, the steps of the rollout, what differs between the rendered objects, and what stands in the way.

With a file, what it would do if that were applied; with --to, if spec.version were that; with neither, what it does with the mesh as it is. Without a
cluster (--offline, or no kubeconfig) the file is compared with an older one (--from), or with nothing.

The exit code is 0 when there is nothing to do, 2 when there is, and 3 when something holds it back.`,
		Example: example(
			"kubectl mesh plan --to 1.29.1                        # what an upgrade would be",
			"kubectl mesh plan -f mesh.yaml                       # what applying the file would do",
			"kubectl mesh plan -f mesh.yaml --diff                # with the lines that change",
			"kubectl mesh plan -f new.yaml --from old.yaml --offline   # in CI, without a cluster",
		),
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: first(f.live(meshNames)),
		RunE: func(c *cobra.Command, args []string) error {
			return o.run(c.Context(), strings.Join(args, ""))
		},
	}
	flags := c.Flags()
	flags.StringVarP(&o.file, "filename", "f", "", "file with the MeshInstallation that is wanted; - for standard input")
	flags.StringVar(&o.from, "from", "", "file with the MeshInstallation as it is, instead of the cluster's (with --offline)")
	flags.StringVar(&o.to, "to", "", "version that is wanted instead of spec.version")
	flags.BoolVar(&o.offline, "offline", false, "ask no cluster")
	flags.StringVar(&o.kubernetes, "kubernetes-version", "", "version of Kubernetes to plan for with --offline (default: the newest that the target supports)")
	flags.BoolVar(&o.diff, "diff", false, "show the lines that change")
	o.charts.bind(flags)
	o.output = addOutputOf(c, outputJSON, outputYAML, outputName)
	mustComplete(c, "to", f.live(f.targetNames))
	mustComplete(c, "kubernetes-version", nothing)
	return c
}

func (o *planOptions) run(ctx context.Context, name string) error {
	if err := o.output.check(); err != nil {
		return err
	}
	if !o.offline && o.file != "" {
		none, err := o.unconfigured()
		if err != nil {
			return err
		}
		if none {
			o.offline = true
			_, _ = fmt.Fprintln(o.ErrOut, "there is no kubeconfig: planning without a cluster")
		}
	}
	if o.offline && o.file == "" {
		return usagef("--offline needs a file: -f mesh.yaml")
	}
	if o.from != "" && !o.offline {
		return usagef("--from stands for the cluster: give --offline with it")
	}
	if o.kubernetes != "" && !o.offline {
		return usagef("--kubernetes-version is the cluster's own: give --offline with it")
	}
	library, catalogue, err := o.charts.open(ctx)
	if err != nil {
		return err
	}
	gatherer := &facts.Gatherer{Library: library, Catalogue: catalogue, Clock: o.Clock}
	world := plan.World{Library: library, Facts: validate.Facts{
		Now: o.Clock.Now(), Available: library.Versions(), Lines: catalogue, KnownValues: gatherer.KnownValues(ctx),
	}}
	var wanted *v1alpha1.MeshInstallation
	if o.file != "" {
		if wanted, err = o.read(ctx, o.file, name); err != nil {
			return o.refuse(err)
		}
	}
	var c client.Client
	var unseen []string
	if o.offline {
		world, err = o.alone(ctx, wanted, world)
	} else if c, err = o.Client(); err == nil {
		wanted, world, unseen, err = o.cluster(ctx, c, gatherer, name, wanted, world)
	}
	if err != nil {
		return o.refuse(err)
	}
	made, err := plan.Of(ctx, wanted, world)
	if err != nil {
		return err
	}
	made.Warnings = append(made.Warnings, unseen...)
	var findings []FindingView
	if !o.offline && made.Move == rollout.MoveRollOut {
		if findings, err = o.findings(ctx, c, gatherer, wanted, world); err != nil {
			return explain(err)
		}
	}
	view := viewOfPlan(wanted, made, findings, o.diff)
	if err := o.print(view); err != nil {
		return err
	}
	return view.exit()
}

// refusedError says why the API server would not take a MeshInstallation of a file.
type refusedError struct {
	file, mesh string
	problems   []string
}

func (e *refusedError) Error() string {
	return fmt.Sprintf("%s: MeshInstallation %s is refused:\n  %s", e.file, e.mesh, strings.Join(e.problems, "\n  "))
}

// refuse tells of a file that would not be taken: programs get the plan that it is, people a sentence. All other errors are passed on.
func (o *planOptions) refuse(err error) error {
	refused, is := errors.AsType[*refusedError](err)
	if !is {
		return err
	}
	if o.output.format != outputJSON && o.output.format != outputYAML {
		return blockedf("%s", refused)
	}
	view := &MeshPlan{TypeMeta: viewOf("MeshPlan"), Mesh: refused.mesh, Result: PlanBlocked, Problems: refused.problems}
	if refused.file != o.file {
		view.Problems = []string{refused.Error()} // it is the older one that is refused, and not the spec
	}
	if err := o.print(view); err != nil {
		return err
	}
	return view.exit()
}

// unconfigured says whether nothing tells where a cluster is. A KUBECONFIG that names no file is a mistake, and no word for that.
func (o *planOptions) unconfigured() (bool, error) {
	raw, err := o.Flags.ToRawKubeConfigLoader().RawConfig()
	if err != nil || len(raw.Contexts) > 0 || len(raw.Clusters) > 0 || *o.Flags.APIServer != "" || os.Getenv("KUBERNETES_SERVICE_HOST") != "" {
		return false, nil //nolint:nilerr // who asks the cluster is told
	}
	named := os.Getenv("KUBECONFIG")
	if named == "" || slices.ContainsFunc(filepath.SplitList(named), exists) {
		return true, nil
	}
	return false, usagef("KUBECONFIG names no file that exists (%s): mend it, or say --offline", named)
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// alone fills in the world where there is no cluster.
func (o *planOptions) alone(ctx context.Context, wanted *v1alpha1.MeshInstallation, world plan.World) (plan.World, error) {
	o.retarget(wanted)
	if o.kubernetes != "" {
		v, err := semver.NewVersion(o.kubernetes)
		if err != nil {
			return world, usagef("--kubernetes-version %q: want one such as 1.34", o.kubernetes)
		}
		world.Facts.Kubernetes = v
	} else if target, err := validate.Target(wanted, world.Facts); err == nil {
		world.Facts.Kubernetes = plan.KubernetesFor(world.Facts.Lines, target)
	}
	if world.Facts.Kubernetes == nil {
		world.Facts.Kubernetes = semver.New(1, 0, 0, "", "")
	}
	world.KubeVersion = "v" + world.Facts.Kubernetes.String()
	if o.from == "" {
		return world, nil
	}
	before, err := o.read(ctx, o.from, wanted.Name)
	if err != nil {
		return world, err
	}
	return plan.Installed(ctx, before, world)
}

func (o *planOptions) retarget(m *v1alpha1.MeshInstallation) {
	if o.to != "" {
		m.Spec.Version = o.to
	}
}

// cluster fills in the world from the API server. Unseen is what could not be looked at.
func (o *planOptions) cluster(
	ctx context.Context, c client.Client, gatherer *facts.Gatherer, name string, wanted *v1alpha1.MeshInstallation, world plan.World,
) (_ *v1alpha1.MeshInstallation, _ plan.World, unseen []string, err error) {
	fail := func(err error) (*v1alpha1.MeshInstallation, plan.World, []string, error) {
		return nil, world, nil, explain(err)
	}
	if wanted == nil {
		if world.Mesh, err = o.Mesh(ctx, c, name); err != nil {
			return fail(err)
		}
		wanted = world.Mesh.DeepCopy()
	} else {
		mesh := &v1alpha1.MeshInstallation{}
		switch err := c.Get(ctx, client.ObjectKeyFromObject(wanted), mesh); {
		case err == nil:
			world.Mesh = mesh
		case !apierrors.IsNotFound(err):
			return fail(err)
		}
	}
	o.retarget(wanted)
	if world.KubeVersion, world.Facts.Kubernetes, err = o.kubernetesVersion(); err != nil {
		return fail(err)
	}
	gatherer.Kubernetes = world.Facts.Kubernetes
	if gatherer.Namespace, err = o.operatorNamespace(ctx, c); err != nil {
		return fail(err)
	}
	known := world.Facts.KnownValues
	if world.Facts, err = gatherer.Gather(ctx, c, wanted.Name); err != nil {
		return fail(err)
	}
	world.Facts.KnownValues = known
	named := validate.OutsideOf(wanted)
	if world.Mesh != nil {
		named = named.Without(validate.OutsideOf(world.Mesh))
	}
	switch err := gatherer.Outside(ctx, c, named, &world.Facts); {
	case apierrors.IsForbidden(err): // what was not looked for is not judged
		unseen = append(unseen, "Secrets and Gateways that the spec names were not all looked for: "+err.Error())
	case err != nil:
		return fail(err)
	}
	if world.Mesh == nil {
		return wanted, world, unseen, nil
	}
	revisions, err := facts.RevisionsOf(ctx, c, wanted.Name)
	if err != nil {
		return fail(err)
	}
	world.Stable = facts.Stable(revisions, world.Mesh.Status.StableRevision)
	if world.Active, err = dataplane.ActiveRollout(ctx, c, world.Mesh); err != nil {
		return fail(err)
	}
	if last := world.Mesh.Status.FailedTarget; last != nil {
		failed := &v1alpha1.MeshRollout{}
		switch err := c.Get(ctx, client.ObjectKey{Name: last.Rollout}, failed); {
		case err == nil:
			world.Failed = failed
		case !apierrors.IsNotFound(err):
			return fail(err)
		}
	}
	return wanted, world, unseen, nil
}

// findings are what a rollout would meet.
func (o *planOptions) findings(
	ctx context.Context, c client.Client, g *facts.Gatherer, wanted *v1alpha1.MeshInstallation, world plan.World,
) ([]FindingView, error) {
	known := world.Facts
	target, err := validate.Target(wanted, known)
	if err != nil {
		return nil, err
	}
	asked := wanted.DeepCopy()
	asked.Spec.Version, asked.Status = target.String(), world.Mesh.Status
	q := facts.Inquiry{Reviewer: c, Mesh: asked, From: known.Installed, To: target}
	all, err := g.Check(ctx, c, q)
	if err != nil {
		return nil, err
	}
	return viewOfPreflight(q, all).Findings, nil
}

// kubernetesVersion of the cluster, as charts take it and as versions are compared.
func (f *factory) kubernetesVersion() (string, *semver.Version, error) {
	config, err := f.Config()
	if err != nil {
		return "", nil, err
	}
	asks, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return "", nil, err
	}
	info, err := asks.ServerVersion()
	if err != nil {
		return "", nil, err
	}
	v, err := semver.NewVersion(info.GitVersion)
	return info.GitVersion, v, err
}

// read takes the MeshInstallation out of a file; name chooses one of several.
func (o *planOptions) read(ctx context.Context, file, name string) (*v1alpha1.MeshInstallation, error) {
	in, err := o.open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = in.Close() }()
	var found []*unstructured.Unstructured
	for docs := utilyaml.NewYAMLReader(bufio.NewReader(in)); ; {
		doc, err := docs.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(doc, &object.Object); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if object.GroupVersionKind() == v1alpha1.GroupVersion.WithKind("MeshInstallation") && (name == "" || object.GetName() == name) {
			found = append(found, object)
		}
	}
	switch {
	case len(found) == 0 && name != "":
		return nil, usagef("%s has no MeshInstallation %s of %s", file, name, v1alpha1.GroupVersion)
	case len(found) == 0:
		return nil, usagef("%s has no MeshInstallation of %s", file, v1alpha1.GroupVersion)
	case len(found) > 1:
		return nil, usagef("%s has %d MeshInstallations: say which, as in kubectl mesh plan %s -f %s", file, len(found), found[0].GetName(), file)
	}
	mesh, problems, err := admit.Installation(ctx, found[0])
	if err != nil {
		return nil, err
	}
	if len(problems) > 0 {
		return nil, &refusedError{file: file, mesh: found[0].GetName(), problems: sentences(problems)}
	}
	return mesh, nil
}

func (o *planOptions) open(file string) (io.ReadCloser, error) {
	if file == "-" {
		return io.NopCloser(o.In), nil
	}
	return os.Open(file)
}
