// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// recipe says how one artifact is made.
type recipe struct {
	// file is the base name of the result. A multi-call binary goes by it.
	file string
	// inputs are made first.
	inputs []Artifact
	// reads are things of the host that decide the content; without them not even the key is known.
	reads []need
	// tools are things of the host that only the making needs.
	tools []need
	// estimate is how long it takes with empty caches on two cores; see the table in versions.go.
	estimate time.Duration
	// maker settles the rest once the inputs are there, by their paths.
	maker func(ctx context.Context, inputs map[Artifact]string) (maker, error)
}

// maker makes one file.
type maker interface {
	// fingerprint writes all that decides the content of the file.
	fingerprint(context.Context, io.Writer) error
	// make writes the file.
	make(ctx context.Context, out string) error
}

// workshop knows the recipes, which are files of a source tree.
type workshop struct {
	golang *golang
	// identity of a file: see Store.identity.
	identity func(path string) (string, error)
}

func newWorkshop(tree string, identity func(string) (string, error)) *workshop {
	return &workshop{golang: newGolang(tree), identity: identity}
}

// recipe of an artifact; the error says which versions there are.
func (w *workshop) recipe(a Artifact) (recipe, error) {
	if err := a.check(); err != nil {
		return recipe{}, err
	}
	r := w.lookup(a)
	r.reads = append(r.reads, needPlatform)
	r.estimate = estimates[a.kind]
	return r, nil
}

// check refuses a version that there is no module for.
func (a Artifact) check() error {
	var known []string
	var thing string
	switch a.kind {
	case kindKube, kindKubeadm, kindKubeImage, kindEtcdImage, kindCoreDNSImage, kindPauseImage, kindNodeImage:
		thing, known = "Kubernetes", KubeVersions()
	case kindPilot, kindAgent, kindPilotImage, kindProxyImage, kindBootstrap:
		thing, known = "Istio", IstioVersions()
	case kindIstioctl:
		thing, known = "istioctl", IstioctlVersions()
	case kindEnvoy:
		thing, known = "Envoy", slices.Sorted(maps.Keys(envoyWheels))
	case kindEtcd, kindCoreDNS, kindHelm, kindPause, kindRuncw, kindNodeInit, kindEcho, kindLoad, kindPrometheus,
		kindCertManager, kindEchoImage, kindLoadImage, kindPrometheusImage, kindCertManagerImage:
		return nil
	case kindSources, kindOperator, kindOperatorImage:
		thisTree := a.version == "" && a.kind != kindSources
		if !thisTree && !fullCommit.MatchString(a.version) {
			return fmt.Errorf("%q is no commit: it has 40 digits", a.version)
		}
		return nil
	default:
		return fmt.Errorf("artifact %q is unknown: use the functions of this package", a.kind)
	}
	if !slices.Contains(known, a.version) {
		return fmt.Errorf("%s %q cannot be built here: there are modules for %s", thing, a.version, strings.Join(known, ", "))
	}
	return nil
}

func (w *workshop) lookup(a Artifact) recipe {
	v := a.version
	switch a.kind {
	case kindKube:
		return w.golang.binary("kube", nested("kube-"+v, "./kube", kubeVersionFlags(v)...))
	case kindKubeadm:
		return w.golang.binary("kubeadm", nested("kube-"+v, "k8s.io/kubernetes/cmd/kubeadm", kubeVersionFlags(v)...))
	case kindEtcd:
		return w.golang.binary("etcd", nested("addons", "./etcd"))
	case kindCoreDNS:
		return w.golang.binary("coredns", nested("addons", "./coredns"))
	case kindHelm:
		return w.golang.binary("helm", nested("addons", "helm.sh/helm/v3/cmd/helm"))
	case kindPrometheus:
		return w.golang.binary("prometheus", prometheusBuild())
	case kindCertManager:
		return w.golang.binary("cert-manager", nested("cert-manager", "."))
	case kindPause:
		return w.golang.binary("pause", nested("tools", "./pause"))
	case kindRuncw:
		return w.golang.binary("runcw", nested("tools", "./runcw"))
	case kindPilot:
		return w.golang.binary("pilot-discovery", istioBuild(v, "pilot/cmd/pilot-discovery"))
	case kindAgent:
		return w.golang.binary("pilot-agent", istioBuild(v, "pilot/cmd/pilot-agent"))
	case kindIstioctl:
		return w.golang.binary("istioctl", istioBuild(v, "istioctl/cmd/istioctl"))
	case kindEcho:
		return w.golang.binary("echo", goBuild{dir: appsDir, pkg: "./echo"})
	case kindLoad:
		return w.golang.binary("load", goBuild{dir: appsDir, pkg: "./load"})
	case kindNodeInit:
		return w.golang.binary("nodeinit", goBuild{pkg: "./e2e/cluster/nodeinit"})
	case kindSources:
		return w.sources(v)
	case kindOperator:
		if v != "" {
			return w.operatorOf(v)
		}
		r := w.golang.binary("meshwright", goBuild{pkg: operatorPackage})
		r.reads = append(r.reads, needCharts(w.golang.tree))
		return r
	case kindBootstrap:
		return w.golang.moduleFile(nestedDir("istio-"+v), "istio.io/istio", "tools/packaging/common/envoy_bootstrap.json")
	case kindEnvoy:
		return envoyRecipe(v)
	default:
		return w.image(a)
	}
}

// fixed is for recipes that do not depend on their inputs' paths.
func fixed(m maker) func(context.Context, map[Artifact]string) (maker, error) {
	return func(context.Context, map[Artifact]string) (maker, error) { return m, nil }
}
