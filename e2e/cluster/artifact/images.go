// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

// istioHub is where the test images of every Istio version seem to come from.
const istioHub = "docker.io/istio"

// nobody runs what needs no rights; the number is the one that distroless images call nonroot.
const nobody = "65532:65532"

// image looks up the recipe of an image.
func (w *workshop) image(a Artifact) recipe {
	v := a.version
	switch a.kind { //nolint:exhaustive // the others are binaries
	case kindKubeImage:
		r := w.controlPlane(Kube(v), v, func(bin string) (image, error) {
			i := image{Entrypoint: []string{"/usr/local/bin/kube"}, Files: map[string]imageFile{"/usr/local/bin/kube": program(bin)}}
			for _, part := range kubeParts {
				i.Files["/usr/local/bin/"+part] = link("kube")
			}
			return i, i.addIptables() // kube-proxy's
		}, kubeParts...)
		r.reads = append(r.reads, needXtables)
		return r
	case kindEtcdImage:
		return w.controlPlane(Etcd(), v, oneProgram("/usr/local/bin/etcd"), "etcd")
	case kindCoreDNSImage:
		return w.controlPlane(CoreDNS(), v, oneProgram("/coredns"), "coredns")
	case kindPauseImage:
		return w.controlPlane(Pause(), v, oneProgram("/pause"), "pause")
	case kindPilotImage:
		return w.single(Artifact{kindPilot, v}, image{Tags: []string{istioHub + "/pilot:" + v}, User: "1337:1337"})
	case kindProxyImage:
		return w.proxy(v)
	case kindEchoImage:
		return w.single(Artifact{kind: kindEcho}, image{Tags: []string{EchoImageName}, User: nobody})
	case kindLoadImage:
		return w.single(Artifact{kind: kindLoad}, image{Tags: []string{LoadImageName}, User: nobody})
	case kindNodeImage:
		return w.node(v)
	case kindPrometheusImage:
		return w.single(Artifact{kind: kindPrometheus}, image{Tags: []string{PrometheusImageName}, User: nobody})
	case kindCertManagerImage:
		return w.single(Artifact{kind: kindCertManager}, image{Tags: []string{CertManagerImageName}, User: nobody})
	case kindOperatorImage:
		name := OperatorImageName
		if v != "" {
			name = OperatorImageNameOf(v)
		}
		return w.single(Artifact{kindOperator, v}, image{Tags: []string{name}, User: nobody})
	}
	panic("artifact: no recipe for " + a.String()) // check has refused every other kind
}

// kubeParts are the parts of Kubernetes that kubeadm runs as containers.
var kubeParts = []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy"}

// single is an image that holds one static program and nothing else.
func (w *workshop) single(bin Artifact, i image) recipe {
	at := "/usr/local/bin/" + string(bin.kind)
	return recipe{
		file:   "image.tar",
		inputs: []Artifact{bin},
		maker: func(_ context.Context, inputs map[Artifact]string) (maker, error) {
			i := i
			i.identity = w.identity
			i.Entrypoint = []string{at}
			i.Files = map[string]imageFile{at: program(inputs[bin])}
			return i, nil
		},
	}
}

func oneProgram(at string) func(string) (image, error) {
	return func(bin string) (image, error) {
		return image{Entrypoint: []string{at}, Files: map[string]imageFile{at: program(bin)}}, nil
	}
}

// controlPlane is an image around a binary, under the names by which kubeadm of a Kubernetes version asks for the
// components it stands for.
func (w *workshop) controlPlane(bin Artifact, kubernetes string, around func(bin string) (image, error), components ...string) recipe {
	kubeadm := Kubeadm(kubernetes)
	return recipe{
		file:   "image.tar",
		inputs: []Artifact{bin, kubeadm},
		maker: func(ctx context.Context, inputs map[Artifact]string) (maker, error) {
			i, err := around(inputs[bin])
			if err != nil {
				return nil, err
			}
			i.identity = w.identity
			i.Tags, err = askKubeadm(ctx, inputs[kubeadm], kubernetes, components)
			return i, err
		},
	}
}

// askKubeadm has kubeadm name the images of components, so that no name of an image is written down here.
func askKubeadm(ctx context.Context, kubeadm, kubernetes string, components []string) ([]string, error) {
	cmd := exec.CommandContext(ctx, kubeadm, "config", "images", "list", "--kubernetes-version", "v"+kubernetes)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("kubeadm config images list: %w\n%s", err, lastLines(errs.String(), 5))
	}
	names := map[string]string{}
	for ref := range strings.FieldsSeq(string(out)) {
		repository, _, _ := strings.Cut(path.Base(ref), ":")
		names[repository] = ref
	}
	var tags []string
	for _, c := range components {
		if names[c] == "" {
			return nil, fmt.Errorf("kubeadm %s asks for no image of %s: it listed %q", kubernetes, c, out)
		}
		tags = append(tags, names[c])
	}
	return tags, nil
}

// proxy is Istio's proxyv2: the agent, which writes Envoy's bootstrap from a template, Envoy, and iptables.
func (w *workshop) proxy(istio string) recipe {
	agent, bootstrap, envoy := Artifact{kindAgent, istio}, Artifact{kindBootstrap, istio}, Artifact{kindEnvoy, envoyOf[istio]}
	return recipe{
		file:   "image.tar",
		inputs: []Artifact{agent, bootstrap, envoy},
		reads:  []need{needXtables},
		maker: func(_ context.Context, inputs map[Artifact]string) (maker, error) {
			i := image{
				identity:   w.identity,
				Tags:       []string{istioHub + "/proxyv2:" + istio},
				Entrypoint: []string{"/usr/local/bin/pilot-agent"},
				Files: map[string]imageFile{
					"/usr/local/bin/pilot-agent":                     program(inputs[agent]),
					"/usr/local/bin/envoy":                           program(inputs[envoy]),
					"/var/lib/istio/envoy/envoy_bootstrap_tmpl.json": {From: inputs[bootstrap], Mode: 0o644},
					// The agent runs as a user that is known only when the pod is.
					"/etc/istio/proxy":    folder(0o777),
					"/var/lib/istio/data": folder(0o777),
				},
			}
			if err := i.addLibraries(inputs[envoy]); err != nil {
				return nil, err
			}
			return i, i.addIptables()
		},
	}
}

// addLibraries adds what dynamic ELF files of the host or the store load.
func (i image) addLibraries(files ...string) error {
	libraries, err := closure(libraryDirs, files...)
	for _, l := range libraries {
		i.Files[l] = program(l)
	}
	return err
}

// addIptables adds the host's iptables over nftables under all its names, with the extensions it opens at run time and
// the libraries of both. Without those of the extensions rules fail one by one, with only a log line: kube-proxy's
// balancing, for one, needs libxt_statistic, which needs libm.
func (i image) addIptables() error {
	var plugins []string
	for _, family := range []string{"xt", "ipt", "ip6t"} {
		found, err := filepath.Glob(filepath.Join(xtablesPlugins, "lib"+family+"_*.so"))
		if err != nil {
			return err
		}
		plugins = append(plugins, found...)
	}
	for _, p := range plugins {
		i.Files[p] = imageFile{From: p, Mode: 0o644}
	}
	i.Files[xtablesBinary] = program(xtablesBinary)
	for _, family := range []string{"iptables", "ip6tables"} {
		for _, name := range []string{family, family + "-nft"} {
			for _, suffix := range []string{"", "-save", "-restore"} {
				i.Files[path.Join(path.Dir(xtablesBinary), name+suffix)] = link(path.Base(xtablesBinary))
			}
		}
	}
	return i.addLibraries(append(plugins, xtablesBinary)...)
}
