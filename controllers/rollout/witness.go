// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/dataplane"
	"github.com/meshwright/meshwright/operator/probe"
	"github.com/meshwright/meshwright/operator/rollout"
)

// Witness asks the outside world what no cache knows: whether a canary configures proxies and injects pods, and whether proxies
// are connected to an istiod or tags point to it. It asks beside the reconciles, which take the last answer and are told when
// there is a new one. An answer grows old: one that is not fresh is none.
type Witness struct {
	Live   client.Reader
	Client client.Client
	// Owned reads what carries the label of a mesh, istiod's pods among it, from a cache.
	Owned  client.Reader
	Prober *probe.Prober
	// Examples names a few pods that a revision has injected.
	Examples func(revision string) []types.NamespacedName
	// Ready are the pods with a proxy of a revision that serve.
	Ready func(revision string) map[types.NamespacedName]bool
	Clock clock.WithTicker

	once  sync.Once
	heard chan event.GenericEvent
	woken chan struct{}

	mu    sync.Mutex
	cases map[types.UID]*inquiry
}

// question is what a rollout wants to know.
type question struct {
	mesh *v1alpha1.MeshInstallation
	plan *v1alpha1.RolloutPlan
	// prove asks whether the target may be moved to; connected whether the proxies have found it, where it was replaced in place.
	prove, connected bool
	target           *v1alpha1.MeshRevision
	// used asks who is connected to a revision, and which tags point to it; nil for none.
	used *v1alpha1.MeshRevision
}

// answers are what was seen.
type answers struct {
	proofs map[v1alpha1.Proof]rollout.Evidence
	use    rollout.Use
}

// inquiry is the question of one rollout and its last answers.
type inquiry struct {
	question question
	about    string
	answers  answers
	at       time.Time
}

// How often is asked, and how old an answer may be.
const (
	askEvery = 3 * time.Second
	fresh    = 20 * time.Second
	// perQuestion bounds one round of probes.
	perQuestion = 30 * time.Second
)

func (w *Witness) init() {
	w.once.Do(func() {
		w.heard, w.woken = make(chan event.GenericEvent, 1), make(chan struct{}, 1)
		w.cases = map[types.UID]*inquiry{}
	})
}

// Heard tells that there are new answers.
func (w *Witness) Heard() <-chan event.GenericEvent {
	w.init()
	return w.heard
}

// ask takes the question of a rollout, and returns the last answers to the same one.
func (w *Witness) ask(uid types.UID, q question) answers {
	w.init()
	about := q.about()
	w.mu.Lock()
	defer w.mu.Unlock()
	if about == "" {
		delete(w.cases, uid)
		return answers{}
	}
	known := w.cases[uid]
	if known == nil || known.about != about {
		w.cases[uid] = &inquiry{question: q, about: about}
		select {
		case w.woken <- struct{}{}:
		default:
		}
		return answers{use: notYet(q)}
	}
	known.question = q
	if known.at.IsZero() || w.Clock.Since(known.at) > fresh {
		return answers{use: notYet(q)}
	}
	return known.answers
}

// notYetAsked is what is said of the use of a revision until its istiod has answered.
const notYetAsked = "its istiod has not been asked yet"

func notYet(q question) (out rollout.Use) {
	if q.used != nil {
		out.Pending, out.By = true, notYetAsked
	}
	return out
}

// about tells questions apart; empty for none.
func (q question) about() string {
	var parts []string
	if q.prove && q.target != nil {
		parts = append(parts, "prove "+string(q.target.UID)+q.target.Spec.InputsDigest)
	}
	if q.connected && q.target != nil {
		parts = append(parts, "connected "+string(q.target.UID)+q.target.Spec.InputsDigest)
	}
	if q.used != nil {
		parts = append(parts, "use "+string(q.used.UID))
	}
	return strings.Join(parts, " ")
}

// Forget forgets the question of a rollout.
func (w *Witness) Forget(uid types.UID) {
	w.init()
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.cases, uid)
}

// Start asks until the context ends.
func (w *Witness) Start(ctx context.Context) error {
	w.init()
	ticker := w.Clock.NewTicker(askEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.woken:
		case <-ticker.C():
		}
		w.round(ctx)
	}
}

// NeedLeaderElection says that only the replica that acts asks.
func (w *Witness) NeedLeaderElection() bool { return true }

// round asks every question that there is once.
func (w *Witness) round(ctx context.Context) {
	w.mu.Lock()
	open := map[types.UID]inquiry{}
	for uid, c := range w.cases {
		open[uid] = *c
	}
	w.mu.Unlock()
	for uid, c := range open {
		now := w.answer(ctx, c.question)
		w.mu.Lock()
		known := w.cases[uid]
		changed := known != nil && known.about == c.about
		if changed {
			changed = known.at.IsZero() || !same(known.answers, now)
			known.answers, known.at = now, w.Clock.Now()
		}
		w.mu.Unlock()
		if !changed {
			continue
		}
		select {
		case w.heard <- event.GenericEvent{Object: &v1alpha1.MeshRollout{}}:
		default: // one is waiting already, and says the same
		}
	}
}

func same(a, b answers) bool {
	if a.use != b.use || len(a.proofs) != len(b.proofs) {
		return false
	}
	for proof, evidence := range a.proofs {
		if b.proofs[proof] != evidence {
			return false
		}
	}
	return true
}

func (w *Witness) answer(ctx context.Context, q question) (out answers) {
	ctx, cancel := context.WithTimeout(ctx, perQuestion)
	defer cancel()
	out.proofs = map[v1alpha1.Proof]rollout.Evidence{}
	if q.connected && q.target != nil {
		// First, for the probe of the configuration is connected for a moment too.
		out.proofs[v1alpha1.ProofConnection] = w.connected(ctx, q.target)
	}
	if q.prove && q.target != nil {
		out.proofs[v1alpha1.ProofConfiguration] = w.configures(ctx, q.target)
		out.proofs[v1alpha1.ProofInjection] = w.injects(ctx, q)
	}
	if q.used != nil {
		out.use = w.use(ctx, q.used)
	}
	return out
}

// Istiods are the running replicas of a revision's istiod.
func (w *Witness) Istiods(ctx context.Context, r *v1alpha1.MeshRevision) ([]probe.Istiod, error) {
	pods := &unstructured.UnstructuredList{}
	pods.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("PodList"))
	err := w.Owned.List(ctx, pods, client.InNamespace(r.Spec.Namespace), client.MatchingLabels{v1alpha1.LabelRevision: r.Name, "app": "istiod"})
	if err != nil {
		return nil, err
	}
	var out []probe.Istiod
	for i := range pods.Items {
		var p corev1.Pod
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(pods.Items[i].Object, &p); err != nil {
			return nil, err
		}
		if p.Status.PodIP != "" && p.DeletionTimestamp == nil && p.Status.Phase == corev1.PodRunning {
			out = append(out, probe.Istiod{Address: p.Status.PodIP, Revision: r.Name, Version: r.Spec.Version, Namespace: r.Spec.Namespace})
		}
	}
	return out, nil
}

// configures asks one istiod of the canary for the configuration of a proxy.
func (w *Witness) configures(ctx context.Context, r *v1alpha1.MeshRevision) rollout.Evidence {
	all, err := w.Istiods(ctx, r)
	switch {
	case err != nil:
		return rollout.Evidence{Why: err.Error()}
	case len(all) == 0:
		return rollout.Evidence{Why: "no pod of istiod of revision " + r.Name + " runs"}
	}
	var unreachable *probe.UnreachableError
	err = w.Prober.Configuration(ctx, all[0])
	switch {
	case errors.As(err, &unreachable):
		return rollout.Evidence{Why: err.Error()}
	case err != nil:
		return rollout.Evidence{Why: "istiod of revision " + r.Name + " does not configure a proxy: " + err.Error()}
	}
	return rollout.Evidence{Answer: rollout.Yes, Why: "istiod of revision " + r.Name + " configures proxies"}
}

// use asks every istiod of a revision who is connected, and the API server which tags point to it.
func (w *Witness) use(ctx context.Context, r *v1alpha1.MeshRevision) rollout.Use {
	tags, err := dataplane.TagsOf(ctx, w.Live, r.Name)
	if err != nil {
		return rollout.Use{By: "the tags can't be read: " + err.Error()}
	}
	if len(tags) > 0 {
		return rollout.Use{Known: true, By: "tag " + tags[0].Labels["istio.io/tag"]}
	}
	proxies, err := w.proxies(ctx, r)
	switch {
	case err != nil:
		return rollout.Use{By: err.Error()}
	case proxies > 0:
		return rollout.Use{Known: true, By: fmt.Sprintf("%d proxies that are connected to its istiod", proxies)}
	}
	return rollout.Use{Known: true}
}

// connected says whether every proxy of a revision that serves is connected to a running istiod of it.
func (w *Witness) connected(ctx context.Context, r *v1alpha1.MeshRevision) rollout.Evidence {
	before := w.Ready(r.Name)
	proxies, err := w.proxies(ctx, r)
	if err != nil {
		return rollout.Evidence{Why: err.Error()}
	}
	// Pods that came or went meanwhile say nothing.
	wanted := 0
	for name := range w.Ready(r.Name) {
		if before[name] {
			wanted++
		}
	}
	if proxies < wanted {
		return rollout.Evidence{Answer: rollout.No, Why: fmt.Sprintf("%d of %d proxies are connected to istiod of revision %s", proxies, wanted, r.Name)}
	}
	return rollout.Evidence{Answer: rollout.Yes, Why: "all proxies are connected to istiod of revision " + r.Name}
}

// proxies counts what is connected to the running replicas of a revision's istiod.
func (w *Witness) proxies(ctx context.Context, r *v1alpha1.MeshRevision) (int, error) {
	all, err := w.Istiods(ctx, r)
	if err != nil {
		return 0, fmt.Errorf("istiod's pods can't be read: %w", err)
	}
	proxies := 0
	for _, istiod := range all {
		n, err := w.Prober.Connected(ctx, istiod)
		if err != nil {
			return 0, err
		}
		proxies += n
	}
	return proxies, nil
}
