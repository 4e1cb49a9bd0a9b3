// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/go-logr/logr"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/yaml"

	"github.com/meshwright/meshwright/e2e/cluster"
	"github.com/meshwright/meshwright/e2e/cluster/artifact"
	"github.com/meshwright/meshwright/e2e/framework"
	"github.com/meshwright/meshwright/operator/manager"
)

// operatorUser is who the operator is to the API server of a plane.
const operatorUser = "meshwright"

// plane is a real API server with etcd behind it and nothing beside it: no controller and no node meddles with the pods and
// Deployments of a benchmark that plays them. Webhooks are not called; what they would do to a pod, the benchmark does.
type plane struct {
	bench

	config *rest.Config
	client client.WithWatch
	stop   func() error
	// dir holds files; of the audit log only the operator's requests.
	dir, kubeconfig, audit string
	program                string
	environment            []string
	token                  string
}

// auditPolicy logs the requests of the operator alone.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
- {level: Metadata, users: [` + operatorUser + `]}
- {level: None}
`

// startPlane starts one, and builds the operator as its image has it.
func startPlane(ctx context.Context, dir string) (_ *plane, err error) {
	log.SetLogger(logr.Discard()) // what the clients have to say, they say in errors
	progress := artifact.NewProgress(os.Stderr)
	root, err := framework.SourceRoot()
	if err != nil {
		return nil, err
	}
	store, err := artifact.Open("")
	if err != nil {
		return nil, err
	}
	assets, err := cluster.EnvtestAssets(ctx, store, "", progress)
	if err != nil {
		return nil, err
	}
	p := &plane{dir: dir, kubeconfig: filepath.Join(dir, "kubeconfig"), audit: filepath.Join(dir, "audit.log"), program: filepath.Join(dir, "meshwright")}
	policy := filepath.Join(dir, "policy.yaml")
	if err := os.WriteFile(policy, []byte(auditPolicy), 0o600); err != nil {
		return nil, err
	}
	if err := p.build(ctx, root, progress); err != nil {
		return nil, err
	}
	end := progress.Begin("starting an API server", 10*time.Second)
	defer func() { end(err) }()
	environment := &envtest.Environment{
		BinaryAssetsDirectory: assets, CRDDirectoryPaths: []string{filepath.Join(root, "config", "crd")}, ErrorIfCRDPathMissing: true,
		ControlPlaneStartTimeout: 2 * time.Minute, ControlPlaneStopTimeout: time.Minute,
	}
	environment.ControlPlane.GetAPIServer().Configure().
		Append("disable-admission-plugins", "MutatingAdmissionWebhook", "ValidatingAdmissionWebhook").
		Set("audit-policy-file", policy).Set("audit-log-path", p.audit)
	if p.config, err = environment.Start(); err != nil {
		return nil, err
	}
	p.stop = environment.Stop
	defer func() {
		if err != nil {
			err = errors.Join(err, environment.Stop())
		}
	}()
	p.config.QPS = -1
	user, err := environment.AddUser(envtest.User{Name: operatorUser, Groups: []string{"system:masters"}}, nil)
	if err != nil {
		return nil, err
	}
	kubeconfig, err := user.KubeConfig()
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(p.kubeconfig, kubeconfig, 0o600); err != nil {
		return nil, err
	}
	scheme, err := manager.Scheme()
	if err != nil {
		return nil, err
	}
	if p.client, err = client.NewWithWatch(p.config, client.Options{Scheme: scheme}); err != nil {
		return nil, err
	}
	kube, err := kubernetes.NewForConfig(p.config)
	if err != nil {
		return nil, err
	}
	p.env = &framework.Env{Store: store, Config: p.config, Client: p.client, Kube: kube, Root: root, Progress: progress}
	return p, p.reader(ctx)
}

// build builds the operator, and reads the environment that its Deployment gives it.
func (p *plane) build(ctx context.Context, root string, progress artifact.Progress) (err error) {
	end := progress.Begin("building the operator", time.Minute)
	defer func() { end(err) }()
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", p.program, "./operator/cmd/meshwright")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building the operator: %w\n%s", err, out)
	}
	raw, err := os.ReadFile(filepath.Join(root, "config", "manager", "deployment.yaml"))
	if err != nil {
		return err
	}
	var manifest struct {
		Spec struct {
			Template struct {
				Spec corev1.PodSpec `json:"spec"`
			} `json:"template"`
		} `json:"spec"`
	}
	if err := yaml.Unmarshal(raw, &manifest); err != nil {
		return err
	}
	p.environment = []string{"KUBECONFIG=" + p.kubeconfig, "PATH=" + os.Getenv("PATH"), "HOME=" + p.dir}
	for _, v := range manifest.Spec.Template.Spec.Containers[0].Env {
		if v.Value != "" {
			p.environment = append(p.environment, v.Name+"="+v.Value)
		}
	}
	return nil
}

// reader makes a service account that may read the operator's metrics.
func (p *plane) reader(ctx context.Context) error {
	meta := metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: "metrics"}
	for _, o := range []client.Object{
		&corev1.ServiceAccount{ObjectMeta: meta},
		&rbacv1.ClusterRole{
			ObjectMeta: metav1.ObjectMeta{Name: meta.Name},
			Rules:      []rbacv1.PolicyRule{{Verbs: []string{"get"}, NonResourceURLs: []string{"/metrics"}}},
		},
		&rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: meta.Name},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: meta.Name},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: meta.Namespace, Name: meta.Name}},
		},
	} {
		if err := p.client.Create(ctx, o); err != nil {
			return err
		}
	}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: new(int64(7200))}}
	token, err := p.env.Kube.CoreV1().ServiceAccounts(meta.Namespace).CreateToken(ctx, meta.Name, request, metav1.CreateOptions{})
	p.token = token.Status.Token
	return err
}

// process is the operator as a process of its own.
type process struct {
	cmd     *exec.Cmd
	metrics string
	token   string
	log     *os.File
	started time.Time
}

// operate starts the operator.
func (p *plane) operate(ctx context.Context) (*process, error) {
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	out, err := os.Create(filepath.Join(p.dir, fmt.Sprintf("operator-%d.log", port)))
	if err != nil {
		return nil, err
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	cmd := exec.CommandContext(ctx, p.program, "--leader-elect=false", "--webhook-port=0", "--namespace="+framework.OperatorNamespace,
		"--metrics-bind-address="+address, "--health-probe-bind-address=0")
	cmd.Env, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = p.environment, out, out, time.Minute
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	o := &process{cmd: cmd, metrics: "https://" + address + "/metrics", token: p.token, log: out, started: time.Now()}
	return o, cmd.Start()
}

func freePort(ctx context.Context) (int, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return listener.Addr().(*net.TCPAddr).Port, listener.Close() //nolint:forcetypeassert // it listens by TCP
}

// end stops the operator.
func (o *process) end() error {
	if err := o.cmd.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return errors.Join(o.cmd.Wait(), o.log.Close())
}

// usage is what the kernel says of a process: memory in bytes, of which peak is the most that was ever resident, and the time that
// it has run on a processor.
type usage struct {
	resident, anonymous, peak int64
	ran                       time.Duration
}

func (o *process) usage() (out usage, err error) {
	folder := filepath.Join("/proc", strconv.Itoa(o.cmd.Process.Pid))
	raw, err := os.ReadFile(filepath.Join(folder, "status"))
	if err != nil {
		return usage{}, err
	}
	for line := range strings.Lines(string(raw)) {
		name, value, _ := strings.Cut(line, ":")
		into := map[string]*int64{"VmRSS": &out.resident, "RssAnon": &out.anonymous, "VmHWM": &out.peak}[name]
		if into == nil {
			continue
		}
		kilobytes, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
		if err != nil {
			return usage{}, fmt.Errorf("%s of a process: %w", name, err)
		}
		*into = kilobytes << 10
	}
	if raw, err = os.ReadFile(filepath.Join(folder, "stat")); err != nil {
		return usage{}, err
	}
	_, after, _ := strings.Cut(string(raw), ") ") // the name may hold anything
	fields := strings.Fields(after)
	const hertz = 100 // of the clock that the kernel counts by, on every architecture
	for _, i := range []int{11, 12} {
		ticks, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return usage{}, fmt.Errorf("processor time of a process: %w", err)
		}
		out.ran += time.Duration(ticks) * time.Second / hertz
	}
	return out, nil
}

// requests are those of the operator that the API server has logged, in their order, beyond its background.
func (p *plane) requests() (out []framework.AuditEvent, err error) {
	file, err := os.Open(p.audit)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	lines := bufio.NewReader(file)
	for {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		var event framework.AuditEvent
		if err := json.Unmarshal(line, &event); err != nil {
			return nil, fmt.Errorf("audit log: %w", err)
		}
		if !event.Background() && event.ObjectRef.Resource != "" {
			out = append(out, event)
		}
	}
}
