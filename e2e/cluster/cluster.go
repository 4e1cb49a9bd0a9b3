// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	kind "sigs.k8s.io/kind/pkg/cluster"

	"github.com/meshwright/meshwright/e2e/cluster/artifact"
)

// Cluster is one that is up.
type Cluster struct {
	record   *record
	dir      string
	engine   *engine
	provider *kind.Provider
	progress artifact.Progress
}

// Name of the cluster.
func (c *Cluster) Name() string { return c.record.Name }

// Kubernetes version of the cluster, such as 1.34.4.
func (c *Cluster) Kubernetes() string { return c.record.Kubernetes }

// Kubeconfig is a file that makes kubectl an administrator of the cluster, at a loopback address.
func (c *Cluster) Kubeconfig() string { return filepath.Join(c.dir, "kubeconfig") }

// AuditLog is the file into which the API server writes every request, a JSON object a line.
func (c *Cluster) AuditLog() string { return filepath.Join(c.dir, "audit", "audit.log") }

// RESTConfig makes a client an administrator of the cluster.
func (c *Cluster) RESTConfig() (*rest.Config, error) {
	return clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
}

// Up brings a cluster up: a healthy one of that name and version is used again, a half-dead one is cleared first.
func Up(ctx context.Context, opts Options) (*Cluster, error) {
	o, err := opts.complete()
	if err != nil {
		return nil, err
	}
	store, err := artifact.Open("")
	if err != nil {
		return nil, err
	}
	var c *Cluster
	err = locked(func() error {
		c, err = up(ctx, o, store)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cluster %s: %w", o.Name, err)
	}
	return c, nil
}

func up(ctx context.Context, o Options, store *artifact.Store) (*Cluster, error) {
	dir, err := clusterDir(o.Name)
	if err != nil {
		return nil, err
	}
	e, err := chooseEngine(ctx, o)
	if err != nil {
		return nil, err
	}
	if e.mode == EnginePrivate {
		there, err := readRecord(o.Name)
		if err != nil {
			return nil, err
		}
		if err := preflight(ctx, o, dir, there != nil && there.Ready); err != nil {
			return nil, err
		}
	}
	if err := e.start(ctx, store, o.Progress); err != nil {
		return nil, err
	}
	source, err := e.chooseSource(ctx, o)
	if err != nil {
		return nil, err
	}
	c, err := open(ctx, o.Name, e, o.Progress)
	switch {
	case err != nil:
		return nil, err
	case c != nil && c.record.Kubernetes != o.Kubernetes:
		return nil, fmt.Errorf("is up with Kubernetes %s: take it down first, or choose another name for %s", c.record.Kubernetes, o.Kubernetes)
	case c != nil:
		o.Progress.Say("cluster " + o.Name + " is up and used again")
	default:
		if c, err = create(ctx, o, e, source, dir, store); err != nil {
			return nil, err
		}
	}
	return c, c.ensureImages(ctx, o, store)
}

// open is the cluster of a name when it is ready and answers; nil when there is none, or one that has to be cleared.
func open(ctx context.Context, name string, e *engine, progress artifact.Progress) (*Cluster, error) {
	r, err := readRecord(name)
	if err != nil || r == nil || !r.Ready {
		return nil, err
	}
	dir, err := clusterDir(name)
	if err != nil {
		return nil, err
	}
	c := &Cluster{record: r, dir: dir, engine: e, provider: newProvider(progress), progress: progress}
	if err := e.use(); err != nil {
		return nil, err
	}
	if err := c.answers(ctx); err != nil {
		progress.Say(fmt.Sprintf("cluster %s does not answer and is made anew: %v", name, err))
		return nil, nil
	}
	return c, nil
}

// answers says whether a cluster that was ready once is so now. Its pods may be starting again and are waited for; where
// nothing listens, no node runs, and there is nothing to wait for.
func (c *Cluster) answers(ctx context.Context) error {
	if err := c.look(ctx); err == nil || errors.Is(err, unix.ECONNREFUSED) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return c.settled(ctx)
}

func create(ctx context.Context, o Options, e *engine, source ImageSource, dir string, store *artifact.Store) (*Cluster, error) {
	if err := e.use(); err != nil {
		return nil, err
	}
	earlier, err := readRecord(o.Name)
	if err != nil {
		return nil, err
	}
	if err := remove(ctx, o.Name, e, o.Progress); err != nil {
		return nil, fmt.Errorf("clearing an earlier cluster of that name: %w", err)
	}
	all, err := records()
	if err != nil {
		return nil, err
	}
	if len(all) >= maxClusters {
		return nil, fmt.Errorf("%d clusters are up already: take one down", len(all))
	}
	r := &record{Name: o.Name, Kubernetes: o.Kubernetes, Engine: e.mode, Source: source, Slot: freeSlot(all)}
	if err := store.Preflight(ctx, imagesOf(o, source)...); err != nil { // before the node image is built, which takes minutes
		return nil, err
	}
	if r.Network, err = e.lacksNetwork(ctx); err != nil {
		return nil, err
	}
	r.Network = r.Network || earlier != nil && earlier.Network
	if r.NodeImage, err = e.nodeImage(ctx, o, source, store); err != nil {
		return nil, err
	}
	if err := r.write(); err != nil { // from here on the next up clears what is left of this one
		return nil, err
	}
	c := &Cluster{record: r, dir: dir, engine: e, provider: newProvider(o.Progress), progress: o.Progress}
	if err := c.createNodes(ctx); err != nil {
		ctx := context.WithoutCancel(ctx)
		logs := filepath.Join(os.TempDir(), "meshwright-"+o.Name+"-logs")
		if logsErr := c.Logs(ctx, logs); logsErr == nil {
			err = fmt.Errorf("%w; the logs of its node: %s", err, logs)
		}
		return nil, errors.Join(err, remove(ctx, o.Name, e, o.Progress))
	}
	r.Ready = true
	return c, r.write()
}

// Open finds a cluster that is up.
func Open(ctx context.Context, name string) (*Cluster, error) {
	r, err := readRecord(name)
	if err != nil {
		return nil, err
	}
	if r == nil {
		return nil, fmt.Errorf("there is no cluster %s: bring it up first", name)
	}
	progress := artifact.NewProgress(os.Stderr)
	e, err := engineOf(r)
	if err != nil {
		return nil, err
	}
	c, err := open(ctx, name, e, progress)
	if err == nil && c == nil {
		err = fmt.Errorf("cluster %s is half-dead: bring it up again, or take it down", name)
	}
	return c, err
}

func engineOf(r *record) (*engine, error) {
	dir, err := engineDir()
	if err != nil {
		return nil, err
	}
	if r.Engine == EngineHost {
		return &engine{mode: EngineHost, host: os.Getenv("DOCKER_HOST"), dir: dir}, nil
	}
	return &engine{mode: EnginePrivate, host: "unix://" + filepath.Join(dir, "docker.sock"), dir: dir}, nil
}

// Down takes a cluster down, whatever state it is in. With the last one the private engine goes too, and nothing is left.
func Down(ctx context.Context, name string) error {
	return locked(func() error {
		r, err := readRecord(name)
		if err != nil {
			return err
		}
		if r == nil {
			r = &record{Name: name, Engine: EnginePrivate}
		}
		e, err := engineOf(r)
		if err != nil {
			return err
		}
		if err := e.use(); err != nil {
			return err
		}
		if err := remove(ctx, name, e, artifact.NewProgress(os.Stderr)); err != nil {
			return fmt.Errorf("cluster %s: %w", name, err)
		}
		all, err := records()
		if err != nil {
			return err
		}
		for _, other := range all {
			if other.Engine != r.Engine {
				continue
			}
			if r.Network { // who is taken down last removes it
				other.Network = true
				return other.write()
			}
			if e.mode == EngineHost || e.answers(ctx) {
				return nil
			}
		}
		if e.mode == EngineHost && r.Network {
			return e.run(ctx, "network", "rm", kindNetwork)
		}
		return e.stop(ctx)
	})
}

// remove deletes the nodes of a cluster and what is remembered of it.
func remove(ctx context.Context, name string, e *engine, progress artifact.Progress) error {
	dir, err := clusterDir(name)
	if err != nil {
		return err
	}
	if e.answers(ctx) {
		if err := awaitOrphans(ctx, name); err != nil {
			return err
		}
		if err := newProvider(progress).Delete(name, filepath.Join(dir, "kubeconfig")); err != nil {
			return err
		}
	}
	return os.RemoveAll(dir)
}

// Status is what is known of a cluster.
type Status struct {
	Name, Kubernetes string
	Engine           EngineMode
	// State is ready, "half-dead", or why it does not answer.
	State string
	// Kubeconfig is empty while the cluster is not ready.
	Kubeconfig string
}

// List says what clusters there are.
func List(ctx context.Context) ([]Status, error) {
	all, err := records()
	if err != nil {
		return nil, err
	}
	var out []Status
	for _, r := range all {
		s := Status{Name: r.Name, Kubernetes: r.Kubernetes, Engine: r.Engine, State: "half-dead: up makes it anew, down removes it"}
		dir, err := clusterDir(r.Name)
		if err != nil {
			return nil, err
		}
		if r.Ready {
			c := &Cluster{record: r, dir: dir}
			s.State, s.Kubeconfig = "ready", c.Kubeconfig()
			if err := c.look(ctx); err != nil {
				s.State = "does not answer: " + err.Error()
			}
		}
		out = append(out, s)
	}
	return out, nil
}
