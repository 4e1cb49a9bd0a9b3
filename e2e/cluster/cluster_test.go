// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/Masterminds/semver/v3"
	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/meshwright/meshwright/e2e/cluster/artifact"
)

// Each wrong option is a sentence that says what to write instead.
func TestOptions(t *testing.T) {
	for reason, tc := range map[string]struct {
		options Options
		want    string // a part of the sentence; empty when the options are good
	}{
		"nothing is needed":                  {},
		"a version that is built":            {options: Options{Kubernetes: "1.33.13", Istio: []string{"1.29.1"}, Source: ImagesBuild}},
		"pulled, any version will do":        {options: Options{Kubernetes: "1.30.0", Istio: []string{"1.20.0"}, Engine: EngineHost, Source: ImagesPull}},
		"a name that is no name":             {options: Options{Name: "My Cluster"}, want: "lower-case letters, digits and dashes"},
		"a name that leads elsewhere":        {options: Options{Name: "../../etc"}, want: "lower-case letters, digits and dashes"},
		"an engine that there is not":        {options: Options{Engine: "podman"}, want: "choose auto, host or private"},
		"a source that there is not":         {options: Options{Source: "steal"}, want: "choose auto, pull or build"},
		"a private engine has no way out":    {options: Options{Engine: EnginePrivate, Source: ImagesPull}, want: "its way out is closed"},
		"Kubernetes that is not built":       {options: Options{Kubernetes: "1.20.0", Source: ImagesBuild}, want: "choose one of 1.33.13, 1.34.4, 1.36.3"},
		"Istio that is not built":            {options: Options{Istio: []string{"1.11.0"}}, want: "1.29.1"},
		"one of several Istios is not built": {options: Options{Istio: []string{"1.29.1", "1.11.0"}}, want: "version 1.11.0 of Istio"},
	} {
		t.Run(reason, func(t *testing.T) {
			o, err := tc.options.complete()
			switch {
			case tc.want == "" && err != nil:
				t.Error(err)
			case tc.want == "" && (o.Name == "" || o.Kubernetes == "" || o.Engine == "" || o.Source == "" || o.Progress == nil):
				t.Errorf("not complete: %+v", o)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("error %v, want it to say %q", err, tc.want)
			}
		})
	}
}

// What is remembered of a cluster is read back; a record that was cut off is a half-dead cluster, not an error.
func TestRecords(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	if r, err := readRecord("mesh"); r != nil || err != nil {
		t.Errorf("a cluster that never was: %v %v", r, err)
	}
	want := &record{Name: "mesh", Kubernetes: "1.34.4", Engine: EnginePrivate, Source: ImagesBuild, NodeImage: "node", Slot: 3, Ready: true}
	if err := want.write(); err != nil {
		t.Fatal(err)
	}
	got, err := readRecord("mesh")
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("read back: %v\n%s", err, diff)
	}
	dir, err := clusterDir("cut")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "cluster.json"), []byte(`{"name":"cut","rea`), 0o600); err != nil {
		t.Fatal(err)
	}
	all, err := records()
	if err != nil || len(all) != 2 || all[0].Name != "cut" || all[0].Ready {
		t.Errorf("records: %+v %v", all, err)
	}
	listed, err := List(t.Context())
	if err != nil || len(listed) != 2 || !strings.HasPrefix(listed[0].State, "half-dead") || !strings.HasPrefix(listed[1].State, "does not answer") {
		t.Errorf("status: %+v %v", listed, err)
	}
	if _, err := Open(t.Context(), "other"); err == nil || !strings.Contains(err.Error(), "bring it up first") {
		t.Errorf("opening a cluster that is not there: %v", err)
	}
}

// Clusters side by side have pod networks of their own, so that these can be routed to each other; a number is used again.
func TestSlots(t *testing.T) {
	all := []*record{{Slot: 0}, {Slot: 2}}
	next := &record{Slot: freeSlot(all)}
	if next.Slot != 1 || next.podNetwork() != "10.243.0.0/16" || next.nodeNetwork() != "10.243.0.0/24" {
		t.Errorf("slot %d: %s %s", next.Slot, next.podNetwork(), next.nodeNetwork())
	}
	if last := (&record{Slot: maxClusters - 1}).podNetwork(); last == "10.96.0.0/16" {
		t.Errorf("the last slot's pods have the network of Services: %s", last)
	}
}

// kubeadm's two formats of arguments, which kind chooses by version.
func TestAuditPatch(t *testing.T) {
	for kubernetes, list := range map[string]bool{"1.33.13": false, "1.34.4": false, "1.36.3": true} {
		patch := auditPatch(semver.MustParse(kubernetes))
		var parsed struct {
			APIServer struct {
				ExtraArgs any `json:"extraArgs"`
			} `json:"apiServer"`
		}
		if err := yaml.Unmarshal([]byte(patch), &parsed); err != nil {
			t.Fatal(err)
		}
		if _, isList := parsed.APIServer.ExtraArgs.([]any); isList != list {
			t.Errorf("%s: arguments %v, want a list: %v", kubernetes, parsed.APIServer.ExtraArgs, list)
		}
	}
}

// A cluster is reached at a loopback address only; where images are built here, its network plugin is ours.
func TestConfigOfKind(t *testing.T) {
	for _, source := range []ImageSource{ImagesBuild, ImagesPull} {
		dir := t.TempDir()
		c := &Cluster{record: &record{Name: "x", Kubernetes: "1.34.4", Source: source, Slot: 1}, dir: dir}
		config, err := c.config()
		if err != nil {
			t.Fatal(err)
		}
		if config.Networking.APIServerAddress != "127.0.0.1" || config.Networking.PodSubnet != "10.243.0.0/16" {
			t.Errorf("%s: networking %+v", source, config.Networking)
		}
		built := source == ImagesBuild
		if config.Networking.DisableDefaultCNI != built || (len(config.Nodes[0].ExtraMounts) == 2) != built {
			t.Errorf("%s: network plugin: %+v", source, config)
		}
		if !built {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(dir, "network.conflist"))
		if err != nil {
			t.Fatal(err)
		}
		if !json.Valid(raw) || !bytes.Contains(raw, []byte("10.243.0.0/24")) {
			t.Errorf("network plugin's configuration: %s", raw)
		}
	}
}

// What is in the way of a cluster is said with its remedy.
func TestRemedies(t *testing.T) {
	enough := machine{os: "linux", root: true, memory: needMemory, disk: needDisk}
	for want, change := range map[string]func(*machine){
		"":                                    func(*machine) {},
		"use a Linux machine":                 func(m *machine) { m.os = "darwin" },
		"use sudo":                            func(m *machine) { m.root = false },
		"apt-get install runc containerd, or": func(m *machine) { m.missing = []string{"runc", "containerd"} },
		"--install-packages":                  func(m *machine) { m.missing = []string{"runc"} },
		"1023 MiB of memory are available and a cluster needs 2048: stop something": func(m *machine) { m.memory = 1<<30 - 1 },
		"set XDG_STATE_HOME to another disk":                                        func(m *machine) { m.disk = 1 << 30 },
	} {
		m := enough
		change(&m)
		err := m.fits("/somewhere", false)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%+v: %v, want %q", m, err, want)
		}
	}
}

// A cluster that is up has what it needs: what it took of the machine does not stand in its own way.
func TestRoomOfAClusterThatIsUp(t *testing.T) {
	full := machine{os: "linux", root: true}
	if err := full.fits("/somewhere", true); err != nil {
		t.Error(err)
	}
}

func TestMemoryOfAProcess(t *testing.T) {
	resident, anonymous, err := memoryOf("Name:\tx\nVmRSS:\t   2048 kB\nRssAnon:\t     16 kB\nThreads:\t8\n")
	if err != nil || resident != 2<<20 || anonymous != 16<<10 {
		t.Errorf("%d %d %v", resident, anonymous, err)
	}
	if _, _, err := memoryOf("Name:\tx\n"); err == nil {
		t.Error("no error where the kernel says nothing")
	}
}

func TestDiskOfAFolderThatIsNotThereYet(t *testing.T) {
	free, err := diskFree(filepath.Join(t.TempDir(), "not", "yet"))
	if err != nil || free <= 0 {
		t.Errorf("%d %v", free, err)
	}
}

// Logs come as an archive out of a node; a name in it can't lead out of the folder.
func TestUnpackStaysInItsFolder(t *testing.T) {
	archive := func(name string) *bytes.Buffer {
		var out bytes.Buffer
		w := tar.NewWriter(&out)
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: 2, Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte("hi")); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return &out
	}
	dir := t.TempDir()
	if err := unpack(archive("./pods/one/0.log"), filepath.Join(dir, "node")); err != nil {
		t.Fatal(err)
	}
	if raw, err := os.ReadFile(filepath.Join(dir, "node", "pods", "one", "0.log")); err != nil || string(raw) != "hi" {
		t.Errorf("%q %v", raw, err)
	}
	if err := unpack(archive("../outside.log"), filepath.Join(dir, "node")); err == nil {
		t.Error("a file was written outside")
	}
}

func TestVersionsThatCanBeBuilt(t *testing.T) {
	if _, err := (Options{Kubernetes: artifact.DefaultKubernetes, Source: ImagesBuild}).complete(); err != nil {
		t.Errorf("the default can't be built: %v", err)
	}
}

// What a killed run began is found by the cluster that it works for, and is not mistaken for that of another.
func TestOrphans(t *testing.T) {
	command := exec.CommandContext(t.Context(), "/bin/sh")
	command.Args = []string{"docker", "-c", "read line", "run", "--label", "io.x-k8s.kind.cluster=orphaned", "image"}
	input, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	found := func(name string) []int {
		pids, err := orphans(name)
		if err != nil {
			t.Fatal(err)
		}
		return pids
	}
	if pids := found("orphaned"); !slices.Equal(pids, []int{command.Process.Pid}) {
		t.Errorf("found %v, want %d", pids, command.Process.Pid)
	}
	if pids := found("orphan"); len(pids) > 0 {
		t.Errorf("found %v for another cluster", pids)
	}
	if err := errors.Join(input.Close(), awaitOrphans(t.Context(), "orphaned")); err != nil {
		t.Error(err)
	}
	_ = command.Wait() // read found no line
}
