// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build api

package manager

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	mathrand "math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/authority"
	"github.com/meshwright/meshwright/operator/pki"
	"github.com/meshwright/meshwright/operator/testkit"
)

// optionsOf are those of every operator of these tests.
func optionsOf(t *testing.T) Options {
	t.Helper()
	token := filepath.Join(t.TempDir(), "istio-token")
	if err := os.WriteFile(token, []byte(operatorToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return Options{MetricsAddress: "0", ProbeAddress: "0", Namespace: "default", IstioTokenFile: token, Settle: settled}
}

// logged is what all operators of these tests have logged.
var logged = &logs{}

type logs struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if testing.Verbose() {
		_, _ = os.Stderr.Write(p)
	}
	return l.all.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

// seedOf is what the chances of a test come from: SEED of the environment, or the time.
func seedOf(t *testing.T) uint64 {
	t.Helper()
	if seed, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64); err == nil {
		return seed
	}
	return uint64(time.Now().UnixNano())
}

// rotating is a world in which CAs change.
type rotating struct {
	*story

	ca *fakeCA
}

// newRotating starts an API server with a fake mesh that has a CA, and a namespace with an application of two pods.
func newRotating(t *testing.T) *rotating {
	t.Helper()
	t.Parallel()
	config := testkit.StartRoutingAPIServer(t)
	scheme, err := Scheme()
	if err != nil {
		t.Fatal(err)
	}
	cl, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	s := &rotating{story: &story{world: &world{client: cl, config: config}}, ca: newFakeCA(t, seedOf(t))}
	s.fake = fake(t, s.world, s.ca)
	if err := cl.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: map[string]string{"mesh": "yes"}}}); err != nil {
		t.Fatal(err)
	}
	return s
}

// The values of spec.certificates.ca, as patches have them.
const (
	istiodsOwn  = `{"type":"Istiod","managed":null,"secret":null}`
	managed     = `{"type":"Managed","managed":null,"secret":null}`
	usersSecret = `{"type":"Secret","managed":null,"secret":{"name":"mesh-ca"}}`
)

// begins makes a mesh with a CA, and waits until it is Ready and the pods of its application have sidecars.
func (s *rotating) begins(t *testing.T, ca v1alpha1.CertificateAuthority, gateway bool, approve ...v1alpha1.RotationPhase) {
	t.Helper()
	m := mesh(newVersion)
	m.Spec.Certificates.CA, m.Spec.Certificates.Rotation.Approve = ca, approve
	m.Spec.DataPlane.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"mesh": "yes"}}
	if gateway {
		m.Spec.Gateways = []v1alpha1.Gateway{{
			Name: "ingress", Namespace: "istio-ingress", Values: &apiextensionsv1.JSON{Raw: []byte(`{"autoscaling":{"enabled":false},"replicaCount":1}`)},
		}}
	}
	if err := s.client.Create(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	s.await(t, "the mesh to be Ready", func() (bool, string) {
		c := s.conditionOf(t, v1alpha1.ConditionReady)
		return c.Status == metav1.ConditionTrue, c.Message
	})
	s.workload(t, "shop", "cart")
	s.workload(t, "shop", "web")
	want := 2
	if gateway {
		want++
	}
	s.await(t, "the pods to have proxies", func() (bool, string) {
		s.removeBare(t)
		n := len(s.ca.proxied())
		return n == want, fmt.Sprintf("%d have", n)
	})
}

// await is eventually with the patience that a loaded machine needs.
func (s *rotating) await(t *testing.T, what string, done func() (bool, string)) {
	t.Helper()
	deadline := time.Now().Add(3 * time.Minute)
	for {
		ok, why := done()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("never: %s; last: %s\n%s\n%s\n%s\nwrong: %v", what, why, s.conditions(), s.rotations(t), s.ca.describe(), s.fake.takeWrong())
		}
		time.Sleep(100 * time.Millisecond) // the pace of looking, not a wait for an effect
	}
}

// rotations describes all rotations, for the report of a failure.
func (s *rotating) rotations(t *testing.T) string {
	t.Helper()
	var all v1alpha1.MeshRotationList
	if err := s.client.List(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for i := range all.Items {
		o := &all.Items[i]
		_, _ = fmt.Fprintf(&out, "rotation %s: %s, phases %v, progress %+v, proven %s, holdouts %v, conditions %+v\n",
			o.Name, o.Status.Summary, s.ca.phasesOf(o.Name), o.Status.Progress, o.Status.Proven, o.Status.Holdouts, o.Status.Conditions)
	}
	return out.String()
}

func (s *rotating) present(t *testing.T) *v1alpha1.MeshInstallation {
	t.Helper()
	m := mesh("")
	if err := s.client.Get(t.Context(), client.ObjectKeyFromObject(m), m); err != nil {
		t.Fatal(err)
	}
	return m
}

// conditionOf is a condition of the mesh, of its newest spec.
func (s *rotating) conditionOf(t *testing.T, typ string) metav1.Condition {
	t.Helper()
	m := s.present(t)
	if c := apimeta.FindStatusCondition(m.Status.Conditions, typ); c != nil && c.ObservedGeneration == m.Generation {
		return *c
	}
	return metav1.Condition{}
}

// awaitCA waits for what CertificatesReady says.
func (s *rotating) awaitCA(t *testing.T, status metav1.ConditionStatus, reason string, says ...string) {
	t.Helper()
	s.await(t, fmt.Sprintf("CertificatesReady=%s %s %q", status, reason, says), func() (bool, string) {
		c := s.conditionOf(t, v1alpha1.ConditionCertificatesReady)
		missing := slices.ContainsFunc(says, func(text string) bool { return !strings.Contains(c.Message, text) })
		return c.Status == status && c.Reason == reason && !missing, c.Reason + ": " + c.Message
	})
}

// wants changes spec.certificates.ca.
func (s *rotating) wants(t *testing.T, ca string) {
	t.Helper()
	s.patch(t, mesh(""), `{"spec":{"certificates":{"ca":`+ca+`}}}`)
}

// rotation is a rotation by its name, nil for one that there is not.
func (s *rotating) rotation(t *testing.T, name string) *v1alpha1.MeshRotation {
	t.Helper()
	o := &v1alpha1.MeshRotation{}
	err := s.client.Get(t.Context(), client.ObjectKey{Name: name}, o)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func completeOf(o *v1alpha1.MeshRotation) metav1.Condition {
	if o != nil {
		if c := apimeta.FindStatusCondition(o.Status.Conditions, v1alpha1.ConditionComplete); c != nil {
			return *c
		}
	}
	return metav1.Condition{}
}

// ends waits for the end of a rotation, and checks it: every proxy presents a leaf of the root that it has arrived at, and accepts no other one.
func (s *rotating) ends(t *testing.T, name string, outcome v1alpha1.RolloutOutcome) *v1alpha1.MeshRotation {
	t.Helper()
	var o *v1alpha1.MeshRotation
	s.await(t, fmt.Sprintf("rotation %s to end as %s", name, outcome), func() (bool, string) {
		o = s.rotation(t, name)
		return o != nil && o.Status.Progress.Outcome == outcome, fmt.Sprint(completeOf(o))
	})
	side := o.Status.Plan.To
	if outcome != v1alpha1.OutcomeCompleted {
		side = o.Status.Plan.From
	}
	s.at(t, side.Root)
	return o
}

// at checks that every proxy presents a leaf of a root, and accepts no other one.
func (s *rotating) at(t *testing.T, root string) {
	t.Helper()
	for name, got := range s.ca.proxied() {
		if want := (seen{Leaf: root, Accepts: []string{root}}); !cmp.Equal(want, got) {
			t.Errorf("proxy %s (-want +got):\n%s", name, cmp.Diff(want, got))
		}
	}
}

// reaches waits until a rotation is in a phase, and has a reason where one is given.
func (s *rotating) reaches(t *testing.T, name string, phase v1alpha1.RotationPhase, reason string) *v1alpha1.MeshRotation {
	t.Helper()
	var o *v1alpha1.MeshRotation
	s.await(t, fmt.Sprintf("rotation %s to be in phase %s %s", name, phase, reason), func() (bool, string) {
		o = s.rotation(t, name)
		return o != nil && o.Status.Progress.Phase == phase && (reason == "" || completeOf(o).Reason == reason), fmt.Sprint(completeOf(o))
	})
	return o
}

// secret is a Secret of istiod's namespace, nil for one that there is not.
func (s *rotating) secret(t *testing.T, name string) *corev1.Secret {
	t.Helper()
	out := &corev1.Secret{}
	err := s.client.Get(t.Context(), client.ObjectKey{Namespace: istioNamespace, Name: name}, out)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// gives puts data into a Secret of istiod's namespace, as somebody.
func (s *rotating) gives(t *testing.T, who, name string, data map[string][]byte) {
	t.Helper()
	there := s.secret(t, name)
	if there == nil {
		there = &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: istioNamespace, Name: name}, Data: data}
		if err := s.client.Create(t.Context(), there, client.FieldOwner(who)); err != nil {
			t.Fatal(err)
		}
		return
	}
	there.Data = data
	if err := s.client.Update(t.Context(), there, client.FieldOwner(who)); err != nil {
		t.Fatal(err)
	}
}

// nothingWrong checks that nothing was seen that may never be.
func (s *rotating) nothingWrong(t *testing.T) {
	t.Helper()
	for _, wrong := range s.fake.takeWrong() {
		t.Error(wrong)
	}
	s.checkEvents(t)
}

// root is one of a user, and signs itself.
func root(t *testing.T, name string) *pki.Bundle {
	t.Helper()
	key, err := pki.NewKey(rand.Reader, v1alpha1.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	c, err := pki.NewRoot(rand.Reader, key, pki.AuthorityRequest{CommonName: name, Now: time.Now(), Life: 1000 * time.Hour, PathLength: 1})
	if err != nil {
		t.Fatal(err)
	}
	return &pki.Bundle{Signing: c, Signer: key, Roots: []*x509.Certificate{c}}
}

// under is an intermediate under a root, that began some time ago and lives for another.
func under(t *testing.T, above *pki.Bundle, ago, life time.Duration) *pki.Bundle {
	t.Helper()
	key, err := pki.NewKey(rand.Reader, v1alpha1.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	c, err := pki.NewIntermediate(rand.Reader, above.Signing, above.Signer, key.Public(), pki.AuthorityRequest{
		CommonName: "intermediate", Now: time.Now().Add(-ago), Life: life,
	})
	if err != nil {
		t.Fatal(err)
	}
	return &pki.Bundle{Signing: c, Signer: key, Roots: above.Roots}
}

// chain is a CA of a user: a root, and an intermediate under it.
func chain(t *testing.T) *pki.Bundle {
	t.Helper()
	return under(t, root(t, "user's"), 0, 900*time.Hour)
}

// filesOf is a bundle as the user's Secret holds it.
func filesOf(t *testing.T, b *pki.Bundle) map[string][]byte {
	t.Helper()
	out, err := pki.Material{Issuer: b.Issuer(), Roots: b.RootPrints()}.Files(false, b)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// The phases of the changes of a root, in their order.
func phases(all ...v1alpha1.RotationPhase) (out []string) {
	for _, p := range all {
		out = append(out, string(p))
	}
	return out
}

// A mesh with an application and a gateway goes from istiod's own CA to Meshwright's, from that to the user's, and back: each time in the order of its
// plan, and at no time does a proxy present what another one does not accept.
func TestRotationThroughAllSources(t *testing.T) {
	s := newRotating(t)
	stop := s.operate(t, nil)
	defer stop()
	s.begins(t, v1alpha1.CertificateAuthority{}, true)
	s.awaitCA(t, metav1.ConditionTrue, v1alpha1.ReasonReady)
	if got := s.present(t).Status.Certificates; got.Signing != v1alpha1.SigningSelfSigned || len(got.Roots) != 1 || len(got.Intermediates) != 0 {
		t.Errorf("certificates of a mesh that signs itself: %+v", got)
	}
	s.gives(t, "a person", "mesh-ca", filesOf(t, chain(t)))
	own := s.secret(t, authority.SelfSigned)
	for _, tc := range []struct {
		ca, name string
		kind     v1alpha1.RotationKind
		phases   []string
		signing  v1alpha1.Signing
		between  int
		restarts bool
	}{
		{
			managed, "default-1", v1alpha1.RotationPlugIn, phases(v1alpha1.PhasePlugIn, v1alpha1.PhaseTrust, v1alpha1.PhaseSign, v1alpha1.PhaseDrain, v1alpha1.PhaseDrop),
			v1alpha1.SigningPluggedIn, 1, true,
		},
		{
			usersSecret, "default-2", v1alpha1.RotationRoot, phases(v1alpha1.PhaseTrust, v1alpha1.PhaseSign, v1alpha1.PhaseDrain, v1alpha1.PhaseDrop),
			v1alpha1.SigningPluggedIn, 1, false,
		},
		{
			istiodsOwn, "default-3", v1alpha1.RotationSelfSign,
			phases(v1alpha1.PhaseTrust, v1alpha1.PhaseSign, v1alpha1.PhaseDrain, v1alpha1.PhaseDrop, v1alpha1.PhaseHandOver), v1alpha1.SigningSelfSigned, 0, true,
		},
	} {
		began := time.Now()
		s.ca.wasUpToDate("")
		s.ca.started()
		s.wants(t, tc.ca)
		o := s.ends(t, tc.name, v1alpha1.OutcomeCompleted)
		t.Logf("%s took %s", tc.name, time.Since(began).Round(time.Second))
		if got := s.ca.phasesOf(tc.name); !slices.Equal(got, tc.phases) || o.Status.Plan.Kind != tc.kind {
			t.Errorf("%s was a %s with the phases %v, want a %s with %v", tc.name, o.Status.Plan.Kind, got, tc.kind, tc.phases)
		}
		s.await(t, "the mesh to be up to date", func() (bool, string) {
			c := s.conditionOf(t, v1alpha1.ConditionUpToDate)
			return c.Status == metav1.ConditionTrue, c.Reason + ": " + c.Message
		})
		want := map[string]int{}
		if tc.restarts {
			want = map[string]int{"istiod-" + newRevision: 1, "istiod-" + newRevision + "-b": 1}
		}
		if diff := cmp.Diff(want, s.ca.started()); diff != "" {
			t.Errorf("%s: istiods started anew (-want +got):\n%s", tc.name, diff)
		}
		if !s.ca.wasUpToDate(v1alpha1.ReasonRotating) {
			t.Errorf("%s: UpToDate never said %s", tc.name, v1alpha1.ReasonRotating)
		}
		s.awaitCA(t, metav1.ConditionTrue, v1alpha1.ReasonReady)
		got := s.present(t).Status.Certificates
		if got.Signing != tc.signing || got.Rotation != "" || len(got.Roots) != 1 || got.Roots[0].Fingerprint != o.Status.Plan.To.Root || len(got.Intermediates) != tc.between ||
			tc.between == 1 && got.Intermediates[0].Fingerprint != o.Status.Plan.To.Issuer {
			t.Errorf("%s: certificates are %+v, and the plan was %+v", tc.name, got, o.Status.Plan)
		}
	}
	if s.secret(t, authority.CACerts) != nil || !cmp.Equal(own.Data, s.secret(t, authority.SelfSigned).Data) {
		t.Error("istiod does not sign with the root that it had made for itself, or cacerts is there still")
	}
	s.nothingWrong(t)
	s.noKeys(t)
}

// A mesh that is to have Meshwright's CA from the beginning has cacerts before its first istiod, which makes no root for itself. Once it is there,
// looking again makes no request.
func TestRotationOfFreshMesh(t *testing.T) {
	s := newRotating(t)
	s.config, s.requests = testkit.Count(s.config)
	stop := s.operate(t, nil)
	defer stop()
	s.begins(t, v1alpha1.CertificateAuthority{Type: v1alpha1.CASourceManaged}, false)
	s.ends(t, "default-1", v1alpha1.OutcomeCompleted)
	if got := s.ca.phasesOf("default-1"); !slices.Equal(got, phases(v1alpha1.PhasePlugIn)) {
		t.Errorf("its phases were %v", got)
	}
	if s.secret(t, authority.SelfSigned) != nil {
		t.Error("an istiod came before its CA, and has made one for itself")
	}
	s.awaitCA(t, metav1.ConditionTrue, v1alpha1.ReasonReady)
	s.await(t, "the mesh to be up to date", func() (bool, string) {
		c := s.conditionOf(t, v1alpha1.ConditionUpToDate)
		return c.Status == metav1.ConditionTrue, c.Reason + ": " + c.Message
	})
	s.quiet(t, func() {
		for _, o := range []client.Object{
			mesh(""), &v1alpha1.MeshRotation{ObjectMeta: metav1.ObjectMeta{Name: "default-1"}}, &v1alpha1.MeshRevision{ObjectMeta: metav1.ObjectMeta{Name: newRevision}},
			&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: istioNamespace, Name: authority.CACerts}},
		} {
			s.patch(t, o, `{"metadata":{"annotations":{"example.com/looked":"again"}}}`)
		}
	})
	s.nothingWrong(t)
}

// What somebody else writes into cacerts in the middle of a rotation halts it: it says who that was, and overwrites nothing, whatever it is told, until
// what was there is put back.
func TestRotationMeetsForeignChange(t *testing.T) {
	s := newRotating(t)
	stop := s.operate(t, nil)
	defer stop()
	s.begins(t, v1alpha1.CertificateAuthority{}, false, v1alpha1.PhaseSign)
	s.wants(t, managed)
	s.halts(t, "default-1")
	s.ends(t, "default-1", v1alpha1.OutcomeCompleted)

	// The same in the first phase of a rotation: what it found is adopted, and what comes later is not.
	s.gives(t, "a person", "mesh-ca", filesOf(t, chain(t)))
	s.wants(t, usersSecret)
	s.halts(t, "default-2")
	s.ends(t, "default-2", v1alpha1.OutcomeCompleted)

	// Where it can't be put back, the rotation is given up, and what the neighbour wrote stays.
	s.wants(t, managed)
	_, theirs := s.meddles(t, "default-3")
	s.patch(t, &v1alpha1.MeshRotation{ObjectMeta: metav1.ObjectMeta{Name: "default-3"}}, `{"spec":{"goal":"Abort"}}`)
	s.isGivenUp(t, "default-3")
	if !cmp.Equal(theirs, s.secret(t, authority.CACerts).Data) {
		t.Error("what the neighbour wrote was overwritten")
	}
	s.nothingWrong(t)
}

// meddles changes cacerts while a rotation waits for an approval in phase Trust, and checks that the rotation halts and says why. It trusts a third root, which
// breaks nothing.
func (s *rotating) meddles(t *testing.T, name string) (before, theirs map[string][]byte) {
	t.Helper()
	s.reaches(t, name, v1alpha1.PhaseTrust, v1alpha1.ReasonAwaitingApproval)
	before = s.secret(t, authority.CACerts).Data
	theirs = maps.Clone(before)
	theirs["root-cert.pem"] = append(slices.Clone(before["root-cert.pem"]), pki.EncodeCertificates(root(t, "a third one").Signing)...)
	s.gives(t, "a neighbour", authority.CACerts, theirs)
	s.reaches(t, name, v1alpha1.PhaseTrust, v1alpha1.ReasonForeignChange)
	if c := completeOf(s.rotation(t, name)); !strings.Contains(c.Message, "a neighbour (update)") {
		t.Errorf("the rotation says %q, and not who it was", c.Message)
	}
	s.awaitCA(t, metav1.ConditionFalse, v1alpha1.ReasonForeignChange, name, "a neighbour")
	return before, theirs
}

// halts meddles with a rotation, and checks that it overwrites nothing, whatever it is told, and goes on when cacerts is put back.
func (s *rotating) halts(t *testing.T, name string) {
	t.Helper()
	before, theirs := s.meddles(t, name)
	s.patch(t, &v1alpha1.MeshRotation{ObjectMeta: metav1.ObjectMeta{Name: name}}, `{"spec":{"approvals":[{"step":"Sign","by":"somebody"}]}}`)
	s.await(t, "the rotation to have seen the approval", func() (bool, string) {
		now := s.rotation(t, name)
		return now.Status.ObservedGeneration == now.Generation, ""
	})
	if now := s.rotation(t, name); now.Status.Progress.Phase != v1alpha1.PhaseTrust || completeOf(now).Reason != v1alpha1.ReasonForeignChange {
		t.Errorf("the rotation went on: %s %+v", now.Status.Progress.Phase, completeOf(now))
	}
	if !cmp.Equal(theirs, s.secret(t, authority.CACerts).Data) {
		t.Error("what the neighbour wrote was overwritten")
	}
	s.gives(t, "a neighbour", authority.CACerts, before)
}

// A source that istiod or a proxy would not take is said with its field and the remedy. No rotation begins for it, and cacerts stays as it is; once it
// is mended, one begins by itself.
func TestRotationOfBadSource(t *testing.T) {
	s := newRotating(t)
	stop := s.operate(t, nil)
	defer stop()
	s.begins(t, v1alpha1.CertificateAuthority{Type: v1alpha1.CASourceManaged}, false)
	s.ends(t, "default-1", v1alpha1.OutcomeCompleted)
	before := s.secret(t, authority.CACerts)
	top, other := root(t, "user's"), root(t, "another")
	good := under(t, top, 0, 900*time.Hour)
	expired := under(t, top, 48*time.Hour, 24*time.Hour)
	stranger := under(t, top, 0, 900*time.Hour)
	stranger.Roots = other.Roots
	wrongKey := *good
	wrongKey.Signer = other.Signer
	s.wants(t, usersSecret)
	s.awaitCA(t, metav1.ConditionFalse, v1alpha1.ReasonInvalidCA, "istio-system/mesh-ca", "create it")
	for _, tc := range []struct {
		reason string
		data   map[string][]byte
		says   []string
	}{
		{"a chain that does not verify", filesOf(t, stranger), []string{"cert-chain.pem does not lead from ca-cert.pem to a certificate of root-cert.pem", "give the certificates between"}},
		{"no CA", filesOf(t, leafAsCA(t, top)), []string{"ca-cert.pem is not the certificate of a CA (CA:FALSE)", "basicConstraints CA:TRUE"}},
		{"one that has expired", filesOf(t, expired), []string{"ca-cert.pem expired at", "issue it anew"}},
		{"the key of another", filesOf(t, &wrongKey), []string{"ca-key.pem is not the key of ca-cert.pem", "give the two that belong together"}},
		{"no PEM", map[string][]byte{"ca-cert.pem": []byte("no"), "ca-key.pem": []byte("no"), "root-cert.pem": []byte("no")}, []string{"root-cert.pem holds something that is no PEM", "PEM blocks"}},
	} {
		s.gives(t, "a person", "mesh-ca", tc.data)
		s.awaitCA(t, metav1.ConditionFalse, v1alpha1.ReasonInvalidCA, tc.says...)
		if s.rotation(t, "default-2") != nil {
			t.Fatalf("%s: a rotation has begun\n%s", tc.reason, s.rotations(t))
		}
		if now := s.secret(t, authority.CACerts); now.ResourceVersion != before.ResourceVersion {
			t.Errorf("%s: cacerts was written", tc.reason)
		}
	}
	s.gives(t, "a person", "mesh-ca", filesOf(t, good))
	s.ends(t, "default-2", v1alpha1.OutcomeCompleted)
	s.nothingWrong(t)
}

// A mesh whose first CA is the user's waits for it with its first istiod, and begins no rotation before it is there and can be used.
func TestRotationOfFreshMeshWaitsForItsSource(t *testing.T) {
	s := newRotating(t)
	stop := s.operate(t, nil)
	defer stop()
	m := mesh(newVersion)
	m.Spec.Certificates.CA = v1alpha1.CertificateAuthority{Type: v1alpha1.CASourceSecret, Secret: &v1alpha1.SecretCA{Name: "mesh-ca"}}
	if err := s.client.Create(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	top := root(t, "user's")
	s.awaitCA(t, metav1.ConditionFalse, v1alpha1.ReasonInvalidCA, "istio-system/mesh-ca", "create it")
	s.gives(t, "a person", "mesh-ca", filesOf(t, leafAsCA(t, top)))
	s.awaitCA(t, metav1.ConditionFalse, v1alpha1.ReasonInvalidCA, "CA:FALSE")
	if c := s.conditionOf(t, v1alpha1.ConditionReady); c.Reason != v1alpha1.ReasonInvalidCA || !strings.Contains(c.Message, "the CA comes before istiod") {
		t.Errorf("Ready says %s: %s", c.Reason, c.Message)
	}
	if s.rotation(t, "default-1") != nil || len(s.ca.started()) > 0 {
		t.Errorf("a rotation has begun, or istiod has started\n%s", s.rotations(t))
	}
	s.gives(t, "a person", "mesh-ca", filesOf(t, under(t, top, 0, 900*time.Hour)))
	s.ends(t, "default-1", v1alpha1.OutcomeCompleted)
	s.await(t, "the mesh to be Ready", func() (bool, string) {
		c := s.conditionOf(t, v1alpha1.ConditionReady)
		return c.Status == metav1.ConditionTrue, c.Message
	})
	if s.secret(t, authority.SelfSigned) != nil {
		t.Error("an istiod came before its CA, and has made one for itself")
	}
	s.nothingWrong(t)
}

// leafAsCA is a bundle that signs with what is no CA.
func leafAsCA(t *testing.T, above *pki.Bundle) *pki.Bundle {
	t.Helper()
	leaf, err := above.Leaf(rand.Reader, pki.LeafRequest{URI: identity("default"), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(900 * time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	return &pki.Bundle{Signing: leaf.Leaf, Signer: leaf.PrivateKey.(*ecdsa.PrivateKey), Roots: above.Roots}
}

// An agent that does nothing holds the phase in which its proxy would have to trust the new root: it is named, and nothing advances before somebody
// waives it, in their own name and until a time.
func TestRotationHeldByAnAgent(t *testing.T) {
	s := newRotating(t)
	stop := s.operate(t, nil)
	defer stop()
	s.begins(t, v1alpha1.CertificateAuthority{Type: v1alpha1.CASourceManaged}, false)
	s.ends(t, "default-1", v1alpha1.OutcomeCompleted)
	oncall := s.apply(t, filepath.Join("..", "..", "config", "policy", "rotation.yaml"), "oncall")
	s.ca.stops("shop/cart")
	s.gives(t, "a person", "mesh-ca", filesOf(t, chain(t)))
	s.wants(t, usersSecret)

	const name = "default-2"
	held := ""
	s.await(t, "the agent to hold phase Trust, although all were made to fetch anew", func() (bool, string) {
		o := s.rotation(t, name)
		if o == nil || o.Status.Progress.Nudged == nil || len(o.Status.Holdouts) != 1 {
			return false, fmt.Sprint(completeOf(o))
		}
		held = o.Status.Holdouts[0].Proxy
		return o.Status.Progress.Phase == v1alpha1.PhaseTrust && completeOf(o).Reason == v1alpha1.ReasonProvingProxies, fmt.Sprint(completeOf(o))
	})
	if !strings.HasPrefix(held, "shop/cart-") {
		t.Errorf("%s holds it, and not shop/cart", held)
	}
	s.await(t, "the mesh to name the agent", func() (bool, string) {
		got := s.present(t).Status.Certificates
		return got.Rotation == name && got.Phase == v1alpha1.PhaseTrust && len(got.Holdouts) == 1 && got.Holdouts[0].Proxy == held, fmt.Sprintf("%+v", got)
	})
	s.nothingWrong(t)

	waive := func(by string, until time.Time) error {
		o := s.rotation(t, name)
		o.Spec.Waivers = append(o.Spec.Waivers, v1alpha1.RotationWaiver{Proxy: held, By: by, Expires: metav1.NewTime(until)})
		return oncall.Update(t.Context(), o)
	}
	s.await(t, "a waiver in another's name to be refused", func() (bool, string) { // the policy takes a while
		o := s.rotation(t, name)
		o.Spec.Waivers = []v1alpha1.RotationWaiver{{Proxy: held, By: "somebody", Expires: metav1.NewTime(time.Now().Add(time.Hour))}}
		err := oncall.Update(t.Context(), o, client.DryRunAll)
		return apierrors.IsForbidden(err) && strings.Contains(err.Error(), "by has to be your own name: oncall"), fmt.Sprint(err)
	})
	s.eagerly(t, func() error { return waive("oncall", time.Now().Add(-time.Minute)) })
	s.await(t, "the rotation to have seen a waiver that has expired", func() (bool, string) {
		o := s.rotation(t, name)
		return o.Status.ObservedGeneration == o.Generation, ""
	})
	if o := s.rotation(t, name); o.Status.Progress.Phase != v1alpha1.PhaseTrust {
		t.Errorf("a waiver that has expired let it go on: %+v", o.Status.Progress)
	}
	s.nothingWrong(t)
	s.eagerly(t, func() error { return waive("oncall", time.Now().Add(time.Hour)) })
	s.await(t, "the agent to hold phase Drain: its leaf is accepted for as long as it lives", func() (bool, string) {
		o := s.rotation(t, name)
		return o.Status.Progress.Phase == v1alpha1.PhaseDrain && len(o.Status.Holdouts) == 1 && strings.Contains(completeOf(o).Message, "presents a leaf of the old root still"),
			fmt.Sprint(completeOf(o))
	})
	s.ca.stops("")
	s.await(t, "the rotation to end", func() (bool, string) {
		o := s.rotation(t, name)
		return o.Status.Progress.Outcome == v1alpha1.OutcomeCompleted, fmt.Sprint(completeOf(o))
	})
	for _, wrong := range s.fake.takeWrong() {
		if !strings.Contains(wrong, held) { // that one was given up
			t.Error(wrong)
		}
	}
}

// eagerly writes what somebody else may write at the same time.
func (s *rotating) eagerly(t *testing.T, write func() error) {
	t.Helper()
	s.await(t, "a write", func() (bool, string) {
		err := write()
		return err == nil, fmt.Sprint(err)
	})
}

// apply applies a file, and is a client of somebody with every right.
func (s *rotating) apply(t *testing.T, file, user string) client.Client {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(raw), 1024); ; {
		o := &unstructured.Unstructured{}
		if decoder.Decode(o) != nil {
			break
		}
		if err := s.client.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	config := rest.CopyConfig(s.config)
	config.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: []string{"system:masters", "system:authenticated"}}
	out, err := client.New(config, client.Options{Scheme: s.client.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// A rotation that is aborted before it begins changes nothing. One that has begun goes back to the CA that it comes from, as long as that is trusted.
func TestRotationTurnsBack(t *testing.T) {
	s := newRotating(t)
	stop := s.operate(t, nil)
	defer stop()
	s.begins(t, v1alpha1.CertificateAuthority{Type: v1alpha1.CASourceManaged}, false, v1alpha1.PhaseTrust)
	s.ends(t, "default-1", v1alpha1.OutcomeCompleted)
	before := s.secret(t, authority.CACerts)
	s.gives(t, "a person", "mesh-ca", filesOf(t, chain(t)))
	s.wants(t, usersSecret)
	s.reaches(t, "default-2", "", v1alpha1.ReasonAwaitingApproval)
	s.patch(t, &v1alpha1.MeshRotation{ObjectMeta: metav1.ObjectMeta{Name: "default-2"}}, `{"spec":{"goal":"Abort"}}`)
	s.ends(t, "default-2", v1alpha1.OutcomeAborted)
	if now := s.secret(t, authority.CACerts); now.ResourceVersion != before.ResourceVersion {
		t.Error("cacerts was written")
	}
	s.awaitCA(t, metav1.ConditionFalse, v1alpha1.ReasonTargetFailed, "default-2", "Aborted")

	for _, tc := range []struct {
		name, goal string
		// at is where it turns, before the phase that is held.
		at, held v1alpha1.RotationPhase
		phases   []string
	}{
		{"in-trust", "Abort", v1alpha1.PhaseTrust, v1alpha1.PhaseSign, []string{"Trust", "back Drop"}},
		{"in-sign", "RollBack", v1alpha1.PhaseSign, v1alpha1.PhaseDrain, []string{"Trust", "Sign", "back Sign", "back Drain", "back Drop"}},
		{"in-drain", "RollBack", v1alpha1.PhaseDrain, v1alpha1.PhaseDrop, []string{"Trust", "Sign", "Drain", "back Sign", "back Drain", "back Drop"}},
	} {
		s.patch(t, mesh(""), fmt.Sprintf(`{"spec":{"certificates":{"rotation":{"approve":[%q]}}}}`, tc.held))
		o := &v1alpha1.MeshRotation{
			ObjectMeta: metav1.ObjectMeta{Name: tc.name},
			Spec:       v1alpha1.MeshRotationSpec{Mesh: "default", Change: v1alpha1.ChangeSource, RotationVerbs: v1alpha1.RotationVerbs{Goal: v1alpha1.GoalComplete}},
		}
		if err := s.client.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		s.reaches(t, tc.name, tc.at, v1alpha1.ReasonAwaitingApproval)
		s.patch(t, o, fmt.Sprintf(`{"spec":{"goal":%q}}`, tc.goal))
		s.ends(t, tc.name, v1alpha1.OutcomeRolledBack)
		if got := s.ca.phasesOf(tc.name); !slices.Equal(got, tc.phases) {
			t.Errorf("%s: its phases were %v, want %v", tc.name, got, tc.phases)
		}
		if now := s.secret(t, authority.CACerts).Data; !bytes.Equal(now["ca-cert.pem"], before.Data["ca-cert.pem"]) ||
			!bytes.Equal(bytes.TrimSpace(now["root-cert.pem"]), bytes.TrimSpace(before.Data["root-cert.pem"])) {
			t.Errorf("%s: cacerts does not hold what it held", tc.name)
		}
		s.awaitCA(t, metav1.ConditionFalse, v1alpha1.ReasonTargetFailed, tc.name, "RolledBack")
	}
	s.nothingWrong(t)
}

// pauses begins a rollout that pauses with everything moved, and says whether it still does.
func (s *rotating) pauses(t *testing.T) (moved func() (bool, string)) {
	t.Helper()
	s.patch(t, mesh(""), `{"spec":{"version":"1.31.0","upgrade":{"canary":{"steps":[
		{"name":"rest","type":"DataPlane","dataPlane":{"wave":"rest"}},{"name":"go","type":"Pause"}]}}}}`)
	moved = func() (bool, string) {
		var o v1alpha1.MeshRollout
		err := s.client.Get(t.Context(), client.ObjectKey{Name: "default-1"}, &o)
		var shop corev1.Namespace
		if err == nil {
			err = s.client.Get(t.Context(), client.ObjectKey{Name: "shop"}, &shop)
		}
		return err == nil && o.Status.Progress.Step == 1 && shop.Labels[v1alpha1.IstioRevision] == "1-31-0", fmt.Sprintf("%v, step %d, shop at %s", err, o.Status.Progress.Step, shop.Labels[v1alpha1.IstioRevision])
	}
	s.await(t, "the rollout to begin", func() (bool, string) {
		err := s.client.Get(t.Context(), client.ObjectKey{Name: "default-1"}, &v1alpha1.MeshRollout{})
		return err == nil, fmt.Sprint(err)
	})
	// The fake of this test does not speak xDS.
	s.patch(t, &v1alpha1.MeshRollout{ObjectMeta: metav1.ObjectMeta{Name: "default-1"}}, `{"spec":{"waivers":[{"proof":"Configuration","by":"me","expires":"2036-01-01T00:00:00Z"}]}}`)
	s.await(t, "the rollout to pause with everything moved", moved)
	return moved
}

// active waits until an operation may act on the mesh, and another one, if there is a name, stands still for it.
func (s *rotating) active(t *testing.T, kind, name, preempted string) {
	t.Helper()
	s.await(t, fmt.Sprintf("%s %s to be active", kind, name), func() (bool, string) {
		active := s.present(t).Status.ActiveOperation
		return active != nil && active.Kind == kind && active.Name == name && active.Preempted == preempted, fmt.Sprint(active)
	})
}

// isGivenUp waits until a rotation ends where somebody else left cacerts.
func (s *rotating) isGivenUp(t *testing.T, name string) {
	t.Helper()
	s.await(t, "the rotation to be given up", func() (bool, string) {
		o := s.rotation(t, name)
		return o.Status.Progress.Outcome == v1alpha1.OutcomeAborted, fmt.Sprint(completeOf(o))
	})
}

// A CA that expires soon is replaced although a rollout pauses: people are told so, and it waits for neither the rollout nor a window.
func TestRotationIsUrgent(t *testing.T) {
	s := newRotating(t)
	stop := s.operate(t, nil)
	defer stop()
	s.begins(t, v1alpha1.CertificateAuthority{Type: v1alpha1.CASourceManaged}, false)
	s.ends(t, "default-1", v1alpha1.OutcomeCompleted)
	s.gives(t, "a person", "mesh-ca", filesOf(t, under(t, root(t, "user's"), 950*time.Hour, 1000*time.Hour)))
	s.wants(t, usersSecret)
	s.ends(t, "default-2", v1alpha1.OutcomeCompleted)
	s.awaitCA(t, metav1.ConditionFalse, v1alpha1.ReasonExpiring, "nothing renews it")
	moved := s.pauses(t)
	s.patch(t, mesh(""), `{"spec":{"certificates":{"rotation":{"approve":["Trust"],"windows":[{"schedule":"0 0 29 2 *","durationSeconds":600,"timeZone":"UTC"}]}}}}`)
	s.gives(t, "a person", "mesh-ca", filesOf(t, chain(t)))
	s.active(t, "MeshRotation", "default-3", "default-1")
	s.awaitCA(t, metav1.ConditionFalse, v1alpha1.ReasonExpiring, "does not sign before this has gone on", "default-3", "waits for an approval")
	s.patch(t, &v1alpha1.MeshRotation{ObjectMeta: metav1.ObjectMeta{Name: "default-3"}}, `{"spec":{"approvals":[{"step":"Trust","by":"somebody"}]}}`)
	s.reaches(t, "default-3", v1alpha1.PhaseSign, v1alpha1.ReasonOutsideWindow) // what signs by then lives on
	s.patch(t, &v1alpha1.MeshRotation{ObjectMeta: metav1.ObjectMeta{Name: "default-3"}}, `{"spec":{"goal":"RollBack"}}`)
	s.ends(t, "default-3", v1alpha1.OutcomeRolledBack)
	if still, where := moved(); !still {
		t.Error("the rollout is not where it stood: " + where)
	}
	s.nothingWrong(t)
}

// Nothing that people do leaves a rotation without an end, or half of one behind.
func TestRotationAlwaysHasAnEnd(t *testing.T) {
	s := newRotating(t)
	stop := s.operate(t, nil)
	defer func() { stop() }()
	s.begins(t, v1alpha1.CertificateAuthority{Type: v1alpha1.CASourceManaged}, false, v1alpha1.PhaseSign)
	s.ends(t, "default-1", v1alpha1.OutcomeCompleted)
	saying := func(name, what string) func() (bool, string) {
		return func() (bool, string) {
			o := s.rotation(t, name)
			return o != nil && strings.Contains(completeOf(o).Message, what), fmt.Sprint(completeOf(o))
		}
	}

	// What no CA is made of would not be kept.
	plain := s.secret(t, authority.CACerts).Data
	listed := maps.Clone(plain)
	listed["ca-crl.pem"] = []byte("a list of revoked certificates")
	s.gives(t, "a person", authority.CACerts, listed)
	s.gives(t, "a person", "mesh-ca", filesOf(t, chain(t)))
	s.wants(t, usersSecret)
	s.await(t, "the rotation to be refused", saying("default-2", "holds ca-crl.pem"))
	s.gives(t, "a person", authority.CACerts, plain)

	// What can't be written is said, and tried again.
	s.reaches(t, "default-2", v1alpha1.PhaseTrust, v1alpha1.ReasonAwaitingApproval)
	frozen := s.secret(t, authority.CACerts)
	frozen.Immutable = new(true)
	if err := s.client.Update(t.Context(), frozen); err != nil {
		t.Fatal(err)
	}
	// One that is deleted goes on to its end, and is kept for as long as the mesh has its CA.
	if err := s.client.Delete(t.Context(), s.rotation(t, "default-2")); err != nil {
		t.Fatal(err)
	}
	s.patch(t, &v1alpha1.MeshRotation{ObjectMeta: metav1.ObjectMeta{Name: "default-2"}}, `{"spec":{"approvals":[{"step":"Sign","by":"somebody"}]}}`)
	s.await(t, "the refused write to be told", saying("default-2", "the API server refused a Secret of the CA"))
	if err := s.client.Delete(t.Context(), frozen); err != nil {
		t.Fatal(err)
	}
	s.gives(t, "a person", authority.CACerts, frozen.Data)
	s.await(t, "the rotation to end", func() (bool, string) {
		o := s.rotation(t, "default-2")
		return o != nil && o.Status.Progress.Outcome == v1alpha1.OutcomeCompleted, fmt.Sprint(completeOf(o))
	})

	// One whose CAs are lost is given up.
	s.wants(t, managed)
	s.reaches(t, "default-3", v1alpha1.PhaseTrust, v1alpha1.ReasonAwaitingApproval)
	stop()
	kept := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "meshwright-ca-default-3"}}
	if err := s.client.Delete(t.Context(), kept); err != nil {
		t.Fatal(err)
	}
	before := s.secret(t, authority.CACerts)
	stop = s.operate(t, nil)
	s.await(t, "the loss to be told", saying("default-3", "put it back from a backup, or set spec.goal to Abort"))
	s.patch(t, &v1alpha1.MeshRotation{ObjectMeta: metav1.ObjectMeta{Name: "default-3"}}, `{"spec":{"goal":"Abort"}}`)
	s.isGivenUp(t, "default-3")
	if now := s.secret(t, authority.CACerts); now.ResourceVersion != before.ResourceVersion {
		t.Error("cacerts was written")
	}
	s.nothingWrong(t)
}

// A revocation goes before a rollout that pauses, which stands still where it is, with all that it has moved, and goes on afterwards.
func TestRotationRevokes(t *testing.T) {
	s := newRotating(t)
	stop := s.operate(t, nil)
	defer stop()
	s.begins(t, v1alpha1.CertificateAuthority{Type: v1alpha1.CASourceManaged}, false, v1alpha1.PhaseDrop)
	first := s.ends(t, "default-1", v1alpha1.OutcomeCompleted)
	moved := s.pauses(t)
	err := s.client.Create(t.Context(), &v1alpha1.MeshRotation{
		ObjectMeta: metav1.ObjectMeta{Name: "compromised"},
		Spec:       v1alpha1.MeshRotationSpec{Mesh: "default", Change: v1alpha1.ChangeRevoke, RotationVerbs: v1alpha1.RotationVerbs{Goal: v1alpha1.GoalComplete}},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.active(t, "MeshRotation", "compromised", "default-1")
	o := s.ends(t, "compromised", v1alpha1.OutcomeCompleted) // no approval of Drop is waited for
	if o.Status.Plan.Kind != v1alpha1.RotationRevoke || o.Status.Plan.From != first.Status.Plan.To {
		t.Errorf("its plan: %+v", o.Status.Plan)
	}
	s.active(t, "MeshRollout", "default-1", "")
	if still, where := moved(); !still {
		t.Error("the rollout is not where it stood: " + where)
	}
	s.nothingWrong(t)
}

// A rotation from istiod's own CA that turns back leaves istiod with its own, which it finds again.
func TestRotationTurnsBackToIstiodsOwn(t *testing.T) {
	s := newRotating(t)
	stop := s.operate(t, nil)
	defer stop()
	s.begins(t, v1alpha1.CertificateAuthority{}, false, v1alpha1.PhaseDrain)
	own := s.secret(t, authority.SelfSigned)
	s.wants(t, managed)
	o := s.reaches(t, "default-1", v1alpha1.PhaseSign, v1alpha1.ReasonAwaitingApproval)
	s.patch(t, o, `{"spec":{"goal":"RollBack"}}`)
	s.ends(t, "default-1", v1alpha1.OutcomeRolledBack)
	if s.secret(t, authority.CACerts) != nil || !cmp.Equal(own.Data, s.secret(t, authority.SelfSigned).Data) {
		t.Error("istiod does not sign with the root that it had made for itself, or cacerts is there still")
	}
	want := []string{"PlugIn", "Trust", "Sign", "back Sign", "back Drain", "back Drop", "back HandOver"}
	if got := s.ca.phasesOf("default-1"); !slices.Equal(got, want) {
		t.Errorf("its phases were %v, want %v", got, want)
	}
	s.nothingWrong(t)
}

// all goes through all sources, as TestRotationThroughAllSources does, and ends each time as that does.
func (s *rotating) all(t *testing.T) {
	t.Helper()
	s.gives(t, "a person", "mesh-ca", filesOf(t, chain(t)))
	for i, tc := range []struct {
		ca     string
		phases []string
	}{
		{managed, phases(v1alpha1.PhasePlugIn, v1alpha1.PhaseTrust, v1alpha1.PhaseSign, v1alpha1.PhaseDrain, v1alpha1.PhaseDrop)},
		{usersSecret, phases(v1alpha1.PhaseTrust, v1alpha1.PhaseSign, v1alpha1.PhaseDrain, v1alpha1.PhaseDrop)},
		{istiodsOwn, phases(v1alpha1.PhaseTrust, v1alpha1.PhaseSign, v1alpha1.PhaseDrain, v1alpha1.PhaseDrop, v1alpha1.PhaseHandOver)},
	} {
		began, name := time.Now(), fmt.Sprintf("default-%d", i+1)
		s.wants(t, tc.ca)
		s.ends(t, name, v1alpha1.OutcomeCompleted)
		t.Logf("%s took %s", name, time.Since(began).Round(time.Second))
		if got := s.ca.phasesOf(name); !slices.Equal(got, tc.phases) {
			t.Errorf("%s: its phases were %v, want %v", name, got, tc.phases)
		}
	}
	s.awaitCA(t, metav1.ConditionTrue, v1alpha1.ReasonReady)
	var rotations v1alpha1.MeshRotationList
	if err := s.client.List(t.Context(), &rotations); err != nil {
		t.Fatal(err)
	}
	if len(rotations.Items) != 3 || s.secret(t, authority.CACerts) != nil {
		t.Errorf("there are other rotations than three, or cacerts is there still\n%s", s.rotations(t))
	}
	s.nothingWrong(t)
}

// Operators that die at writes that chance chooses, before or after the API server has them, end where one ends that lives, and no handshake breaks.
func TestRotationByOperatorsThatDie(t *testing.T) {
	s := newRotating(t)
	s.ca.roams = true
	stop := s.operate(t, nil)
	s.begins(t, v1alpha1.CertificateAuthority{}, false)
	stop()
	seed := seedOf(t)
	t.Logf("seed of the deaths: %d", seed)
	chance, deaths := mathrand.New(mathrand.NewPCG(seed, 1)), 0
	stop = s.operate(t, func(die func()) func(*http.Request, http.RoundTripper) (*http.Response, error) {
		f := &testkit.Faults{}
		if deaths < 24 {
			write, when := 1+chance.IntN(12), "before"
			f.CrashBefore = write
			if chance.IntN(2) == 1 {
				f.CrashBefore, f.CrashAfter, when = 0, write, "after"
			}
			f.Die = func(r *http.Request) {
				deaths++
				t.Logf("death %d: %s write %d, %s %s", deaths, when, write, r.Method, r.URL.Path)
				die()
			}
		}
		return f.Do
	})
	defer stop()
	s.all(t)
	stop()
	if deaths < 15 {
		t.Errorf("the operator died %d times only: this test says little", deaths)
	}
	s.noKeys(t)
}

// An operator whose every write is refused once ends where one ends that meets no conflict, and says nothing of them.
func TestRotationWithConflicts(t *testing.T) {
	s := newRotating(t)
	stop := s.operate(t, nil)
	s.begins(t, v1alpha1.CertificateAuthority{}, false)
	stop()
	f := &testkit.Faults{ConflictEach: true}
	stop = s.operate(t, func(func()) func(*http.Request, http.RoundTripper) (*http.Response, error) { return f.Do })
	defer stop()
	s.all(t)
	t.Logf("%d writes, %d conflicts", f.Writes(), f.Conflicts())
	s.noKeys(t)
}

// An operator that reads from the API server what was some reads ago ends where one ends that reads what is.
func TestRotationWithLateReads(t *testing.T) {
	s := newRotating(t)
	stop := s.operate(t, nil)
	s.begins(t, v1alpha1.CertificateAuthority{}, false)
	stop()
	f := &testkit.Faults{StaleBy: 2, Stale: []string{"meshrotations", "meshinstallations", "secrets"}}
	stop = s.operate(t, func(func()) func(*http.Request, http.RoundTripper) (*http.Response, error) { return f.Do })
	defer stop()
	s.all(t)
}

// noKeys checks that no private key that was in any Secret is anywhere else: in no other object of the API server, and in nothing that was logged.
func (s *rotating) noKeys(t *testing.T) {
	t.Helper()
	needles := map[string]string{"PRIVATE KEY": "the header of a key"}
	keys := 0
	for _, value := range s.ca.values() {
		for rest := []byte(value); ; {
			var block *pem.Block
			if block, rest = pem.Decode(rest); block == nil {
				break
			}
			if key, err := pki.ParseKey(pem.EncodeToMemory(block)); err == nil && strings.HasSuffix(block.Type, "PRIVATE KEY") {
				keys++
				for _, secret := range secretsOf(t, key) {
					add(needles, secret)
				}
			}
		}
	}
	if keys < 3 {
		t.Errorf("%d keys were seen in Secrets only: this test says little", keys)
	}
	for _, text := range []string{"PRIVATE KEY"} {
		add(needles, []byte(text))
	}
	find := func(where, text string) {
		text = strings.NewReplacer("\n", "", `\n`, "").Replace(text) // PEM breaks lines
		for needle, what := range needles {
			if strings.Contains(text, needle) {
				t.Errorf("%s holds %s", where, what)
			}
		}
	}
	find("what was logged", logged.String())
	families, err := metrics.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		find("the metric "+f.GetName(), f.String())
	}
	n := s.each(t, func(o *unstructured.Unstructured) {
		raw, err := json.Marshal(o.Object)
		if err != nil {
			t.Fatal(err)
		}
		find(o.GetKind()+" "+o.GetNamespace()+"/"+o.GetName(), string(raw))
	})
	t.Logf("%d objects hold none of %d keys", n, keys)
}

// secretsOf are the numbers of a key that nobody may know.
func secretsOf(t *testing.T, key any) (out [][]byte) {
	t.Helper()
	switch key := key.(type) {
	case *ecdsa.PrivateKey:
		raw, err := key.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		return [][]byte{raw}
	case *rsa.PrivateKey:
		for _, n := range append([]*big.Int{key.D}, key.Primes...) {
			out = append(out, n.Bytes())
		}
	default:
		t.Fatalf("a key of type %T", key)
	}
	return out
}

// add adds what bytes look like where they are written out: plainly, in hex and in base64, wherever they begin.
func add(needles map[string]string, secret []byte) {
	needles[string(secret)] = "a key, plainly"
	needles[hex.EncodeToString(secret)], needles[strings.ToUpper(hex.EncodeToString(secret))] = "a key, in hex", "a key, in hex"
	for shift := range 3 {
		// The first and the last characters depend on what stands around.
		text := base64.StdEncoding.EncodeToString(append(make([]byte, shift), secret...))
		needles[strings.TrimRight(text, "=")[4:len(text)-4]] = "a key, in base64"
	}
}

// values are all values that any Secret has ever had.
func (c *fakeCA) values() (out []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for value := range c.secrets {
		out = append(out, value)
	}
	return out
}

// each does something with every object of the API server that is no Secret, and says how many there are.
func (s *rotating) each(t *testing.T, do func(*unstructured.Unstructured)) (n int) {
	t.Helper()
	kinds, err := discovery.NewDiscoveryClientForConfig(s.config)
	if err != nil {
		t.Fatal(err)
	}
	lists, err := kinds.ServerPreferredResources()
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range lists {
		for _, kind := range list.APIResources {
			if kind.Kind == "Secret" || strings.Contains(kind.Name, "/") || !slices.Contains(kind.Verbs, "list") {
				continue
			}
			all := &unstructured.UnstructuredList{}
			all.SetAPIVersion(list.GroupVersion)
			all.SetKind(kind.Kind + "List")
			if err := s.client.List(context.WithoutCancel(t.Context()), all); err != nil {
				t.Fatalf("%s %s: %v", list.GroupVersion, kind.Name, err)
			}
			for i := range all.Items {
				n++
				do(&all.Items[i])
			}
		}
	}
	return n
}
