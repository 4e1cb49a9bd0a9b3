// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/authority"
	"github.com/meshwright/meshwright/operator/dataplane"
	"github.com/meshwright/meshwright/operator/pki"
	"github.com/meshwright/meshwright/operator/probe"
	"github.com/meshwright/meshwright/operator/render"
)

// Witness asks the outside world what no cache knows: what each istiod signs with, which roots are where they are read from, and what each proxy accepts
// and presents. It asks beside the reconciles, which take the last answers and are told when there are new ones. An answer grows old: one that is
// not fresh is none.
type Witness struct {
	Client client.Client
	Live   client.Reader
	// Owned reads what carries the label of a mesh from a cache.
	Owned  client.Reader
	Prober *probe.Prober
	Index  *dataplane.Index
	Clock  clock.WithTicker
	// TokenFile holds the operator's own token of the audience istio-ca.
	TokenFile string
	// Namespace of the operator, and ServiceAccount that it runs as: it presents itself to proxies as what it is.
	Namespace, ServiceAccount string

	once  sync.Once
	heard chan event.GenericEvent
	woken chan struct{}

	mu    sync.Mutex
	cases map[types.UID]*inquiry
}

// question is what a rotation wants to know.
type question struct {
	rotation *v1alpha1.MeshRotation
	mesh     *v1alpha1.MeshInstallation
	// cacerts as it is now; nil when it is not there.
	cacerts *corev1.Secret
	made    *sides
}

// about tells questions apart: what was answered in one phase says nothing in the next.
func (q question) about() string {
	p := q.rotation.Status.Progress
	since := int64(0)
	if p.Everywhere != nil {
		since = p.Everywhere.Unix()
	}
	return fmt.Sprintf("%s/%t/%d/%d", p.Phase, p.Back, p.Signs, since)
}

// answers are what was seen.
type answers struct {
	known   bool
	istiods []pki.Istiod
	places  pki.Places
	// proxies were asked, and counted says that they are all.
	proxies []probe.Finding
	counted bool
}

// inquiry is the question of one rotation and its last answers.
type inquiry struct {
	question question
	about    string
	answers  answers
	at       time.Time
	// since is when it was first asked.
	since  time.Time
	survey *probe.Survey
	// credentials of the operator for both sides, made once: they live for a rotation, in memory.
	credentials []probe.Credential
	until       time.Time
}

// How often is asked, and how old an answer may be.
const (
	askEvery = 2 * time.Second
	fresh    = time.Minute
	// After a while of asking, what is waited for is a person or an expiry.
	patient, askSlowly = 3 * time.Minute, 10 * time.Second
	// perQuestion bounds one round of probes, perSurvey that of proxies: those that were not asked in it are not known, and are asked first in the next.
	perQuestion, perSurvey = 40 * time.Second, 15 * time.Second
	// credentialLife is how long the operator's own leaves live.
	credentialLife = time.Hour
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

// ask takes the question of a rotation, and returns the last answers to the same one.
func (w *Witness) ask(q question) answers {
	w.init()
	w.mu.Lock()
	defer w.mu.Unlock()
	known := w.cases[q.rotation.UID]
	if known == nil {
		known = &inquiry{survey: &probe.Survey{Prober: w.Prober, Clock: w.Clock}}
		w.cases[q.rotation.UID] = known
	}
	if known.about != q.about() {
		known.about, known.at, known.since = q.about(), time.Time{}, w.Clock.Now()
		select {
		case w.woken <- struct{}{}:
		default:
		}
	}
	known.question = q
	if known.at.IsZero() || w.Clock.Since(known.at) > fresh {
		return answers{}
	}
	return known.answers
}

// Forget forgets the question of a rotation.
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
		if now := w.Clock.Now(); now.Sub(c.since) < patient || now.Sub(c.at) >= askSlowly {
			open[uid] = *c
		}
	}
	w.mu.Unlock()
	for uid, c := range open {
		now := w.answer(ctx, &c)
		w.mu.Lock()
		known := w.cases[uid]
		same := known != nil && known.about == c.about
		if same {
			known.answers, known.at, known.credentials, known.until = now, w.Clock.Now(), c.credentials, c.until
		}
		w.mu.Unlock()
		if !same {
			continue
		}
		select {
		case w.heard <- event.GenericEvent{Object: &v1alpha1.MeshRotation{}}:
		default: // one is waiting already, and says the same
		}
	}
}

func (w *Witness) answer(ctx context.Context, c *inquiry) (out answers) {
	ctx, cancel := context.WithTimeout(ctx, perQuestion)
	defer cancel()
	q := c.question
	plan, p := q.rotation.Status.Plan, q.rotation.Status.Progress
	pods, err := istiodPods(ctx, w.Owned, q.mesh)
	if err != nil {
		return answers{}
	}
	out.istiods, out.known = w.istiods(ctx, q, pods), true
	out.places = w.places(ctx, q, pki.Wanted(plan, p))
	if !counts(p.Phase) || !w.Index.Synced() || p.Everywhere == nil {
		return out // a proxy has nothing to show before every istiod has
	}
	if err := w.renew(c); err != nil {
		return out // the sides were checked: their keys sign
	}
	targets, err := w.targets(ctx, q.mesh)
	if err != nil {
		return out
	}
	// Proxies that are being deleted have an address until they are gone, and may not answer any more.
	bounded, end := context.WithTimeout(ctx, perSurvey)
	defer end()
	out.proxies, out.counted = c.survey.Round(bounded, c.about, targets, c.credentials, settled(plan, p)), true
	if p.Phase == v1alpha1.PhaseTrust {
		out.proxies = append(out.proxies, w.elsewhere(ctx, q, pods, asked(q, out.proxies, w.Clock.Now()))...)
	}
	return out
}

// istiods asks each replica for what it signs with.
func (w *Witness) istiods(ctx context.Context, q question, pods []corev1.Pod) []pki.Istiod {
	token, unread := os.ReadFile(w.TokenFile)
	roots := slices.Concat(q.made.from.Roots, q.made.to.Roots)
	mark := markOf(q.rotation, q.rotation.Status.Progress)
	out := make([]pki.Istiod, len(pods))
	var group sync.WaitGroup
	for i := range pods {
		pod := &pods[i]
		revision := pod.Labels[v1alpha1.LabelRevision]
		out[i] = pki.Istiod{Name: pod.Name, SelfSigned: selfSigned(pod, q.cacerts, mark)}
		if pod.DeletionTimestamp != nil || pod.Status.Phase != corev1.PodRunning || pod.Status.PodIP == "" {
			out[i].Why = "its pod does not run, or is being deleted: see kubectl get pods -n " + pod.Namespace
			continue
		}
		if unread != nil {
			out[i].Why = "the operator has no token to ask it with: " + unread.Error() + "; mount one of the audience istio-ca (config/manager), or set --istio-token-file"
			continue
		}
		group.Go(func() {
			said, err := w.Prober.Issuing(ctx, probe.Istiod{Address: pod.Status.PodIP, Revision: revision, Namespace: pod.Namespace}, probe.Applicant{
				Token: strings.TrimSpace(string(token)), Roots: roots, Host: render.IstiodName(revision) + "." + pod.Namespace + ".svc",
			})
			if err != nil {
				out[i].Why = err.Error()
				return
			}
			if apart := w.Clock.Since(said.Clock).Abs(); apart > pki.ClocksApart {
				out[i].Why = fmt.Sprintf("its clock and the operator's are %s apart, and when a leaf was issued proves something: look at the clocks of the nodes", apart.Round(time.Second))
				return
			}
			out[i].Known, out[i].Issuer = true, said.Issuer
			for _, c := range said.Roots {
				out[i].Roots = append(out[i].Roots, pki.FingerprintOf(c))
			}
		})
	}
	group.Wait()
	return out
}

// selfSigned says whether a pod started without what cacerts has by now, or with what is gone: it watches what was there when it started only.
func selfSigned(pod *corev1.Pod, cacerts *corev1.Secret, mark string) bool {
	marked := pod.Annotations[v1alpha1.AnnotationRestartedFor] == mark
	if cacerts == nil {
		return marked // it started anew when there was none any more
	}
	return !marked && !pod.CreationTimestamp.After(cacerts.CreationTimestamp.Time)
}

// renew makes the operator's own leaves, one of each root. They name it as what it is, and never leave its memory.
func (w *Witness) renew(c *inquiry) error {
	now := w.Clock.Now()
	if now.Before(c.until) {
		return nil
	}
	_, to := pki.Sides(c.question.rotation.Status.Plan, c.question.rotation.Status.Progress.Back)
	both := []*pki.Bundle{c.question.made.to, c.question.made.from}
	if string(both[0].Issuer()) != to.Issuer {
		slices.Reverse(both)
	}
	c.credentials = nil
	for _, b := range both {
		leaf, err := b.Leaf(rand.Reader, pki.LeafRequest{
			URI:       &url.URL{Scheme: "spiffe", Host: authority.TrustDomain(c.question.mesh), Path: "/ns/" + w.Namespace + "/sa/" + w.ServiceAccount},
			NotBefore: now.Add(-time.Minute), NotAfter: now.Add(credentialLife),
		})
		if err != nil {
			return err
		}
		c.credentials = append(c.credentials, probe.Credential{Root: b.RootOf(), Leaf: &leaf})
	}
	c.until = now.Add(credentialLife / 2) //nolint:mnd // half of its life
	return nil
}
