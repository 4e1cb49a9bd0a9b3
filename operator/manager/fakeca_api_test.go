// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build api

package manager

import (
	"bytes"
	"cmp"
	"context"
	cryptorand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	cav1alpha1 "istio.io/api/security/v1alpha1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/authority"
	"github.com/meshwright/meshwright/operator/pki"
)

// fakeCA plays what a cluster has of a CA: istiods that sign, the kubelet that brings them the Secret cacerts, and the agents and proxies of
// pods, that fetch leaves from istiods, present them, and accept those of the roots that came with them.
//
// An istiod without cacerts signs with a root that it makes for itself, and never sees a cacerts that comes later. One with cacerts reads it anew when
// the kubelet has brought it, but refuses other roots unless the bytes of the old ones and of the new ones contain each other, as istiod does up to 1.29.
type fakeCA struct {
	mesh *fakeMesh
	// prefix of the addresses of its pods.
	prefix string
	// roams says that agents fetch their leaf from any istiod, not from the one that pushes to them: those are two connections.
	roams bool

	mu     sync.Mutex
	random *rand.Rand
	// addresses of pods, by namespace/name.
	addresses map[string]string
	// running istiods, by the name of their pods, and proxies, by namespace/name.
	running map[string]*fakeIstiod
	proxies map[string]*fakeProxy
	// stopped agents are those of pods whose namespace/name begin so: they keep what they have.
	stopped map[string]bool
	// phases of rotations, in the order in which they were seen, and the reasons of UpToDate.
	phases   map[string][]string
	upToDate map[string]bool
	// starts counts those of each istiod.
	starts map[string]int
	// secrets are all values that any Secret has ever had.
	secrets map[string]bool
}

// fakeIstiod is a replica. What it signs with is changed under the lock of the CA.
type fakeIstiod struct {
	cav1alpha1.UnimplementedIstioCertificateServiceServer

	ca   *fakeCA
	name string
	uid  types.UID
	// plugged says that it has started with cacerts, read is the version that it has, and due when the kubelet brings it another one.
	plugged bool
	read    string
	due     time.Time
	// bundle is what it signs with; roots and chain are its files, and serving is its own leaf.
	bundle       *pki.Bundle
	roots, chain []byte
	serving      tls.Certificate
	stop         func()
}

// fakeProxy is the proxy and the agent of a pod.
type fakeProxy struct {
	name, namespace, address string
	uid                      types.UID
	edge                     bool
	// mounted is the ConfigMap by which the agent knows istiod, as the kubelet has brought it; due is when it brings another one.
	mounted []byte
	due     time.Time
	// pushed are the roots that its istiod has pushed last, and accepts all that it accepts.
	pushed  []byte
	accepts []*x509.Certificate
	leaf    tls.Certificate
	stop    func()
}

const (
	// operatorToken is what istiods know the operator by.
	operatorToken = "the operator's own token"
	// slowKubelet is when a Secret comes to the files of a pod of which the kubelet is told nothing: a minute, in a cluster.
	slowKubelet = 5 * time.Second
	// hurriedKubelet is when at the latest it comes to a pod that was annotated.
	hurriedKubelet = 500 * time.Millisecond
	// configMapKubelet is when at the latest a ConfigMap comes; less than settled, which is what the operator takes it for.
	configMapKubelet = time.Second
	settled          = 3 * time.Second

	caPort, monitoringPort   = 15012, 15014
	sidecarPort, agentPort   = 15999, 15020
	leafLife                 = 24 * time.Hour
	rootsConfigMap, rootsKey = "istio-ca-root-cert", "root-cert.pem"
)

// cas counts the CAs, each of which has addresses of its own.
var cas atomic.Int32

func newFakeCA(t *testing.T, seed uint64) *fakeCA {
	t.Helper()
	t.Logf("seed of the CA: %d", seed)
	c := &fakeCA{
		prefix: fmt.Sprintf("127.%d", 100+cas.Add(1)%100), random: rand.New(rand.NewPCG(seed, 0)), addresses: map[string]string{},
		running: map[string]*fakeIstiod{}, proxies: map[string]*fakeProxy{}, stopped: map[string]bool{}, phases: map[string][]string{},
		upToDate: map[string]bool{}, secrets: map[string]bool{}, starts: map[string]int{},
	}
	t.Cleanup(func() { c.bury(nil) })
	return c
}

// What the fake mesh asks of a CA. Without one it does what it did.

func (c *fakeCA) watches() []client.ObjectList {
	if c == nil {
		return nil
	}
	return []client.ObjectList{&corev1.SecretList{}, &corev1.ConfigMapList{}, &corev1.NamespaceList{}, &v1alpha1.MeshRotationList{}}
}

// replicas are the names of the pods of an istiod: two, whatever its Deployment says.
func (c *fakeCA) replicas(deployment string) []string {
	if c == nil {
		return []string{deployment}
	}
	return []string{deployment, deployment + "-b"}
}

// marks are the annotations that pods get from the template of their Deployment.
func (c *fakeCA) marks(d *appsv1.Deployment) map[string]string {
	if mark := d.Spec.Template.Annotations[v1alpha1.AnnotationRestartedFor]; c != nil && mark != "" {
		return map[string]string{v1alpha1.AnnotationRestartedFor: mark}
	}
	return nil
}

// restart deletes a pod whose template has changed: it is made anew.
func (c *fakeCA) restart(ctx context.Context, pod *corev1.Pod, there map[client.ObjectKey]*corev1.Pod) error {
	key := client.ObjectKeyFromObject(pod)
	old := there[key]
	if c == nil || old == nil || old.Annotations[v1alpha1.AnnotationRestartedFor] == pod.Annotations[v1alpha1.AnnotationRestartedFor] {
		return nil
	}
	delete(there, key)
	return c.mesh.kill(ctx, old)
}

// addressOf is the address of a pod: each has one of its own.
func (c *fakeCA) addressOf(namespace, name string) string {
	if c == nil {
		return ""
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	key := namespace + "/" + name
	if c.addresses[key] == "" {
		n := len(c.addresses) + 1
		c.addresses[key] = fmt.Sprintf("%s.%d.%d", c.prefix, n/250, 1+n%250)
	}
	return c.addresses[key]
}

// leader is the replica that writes ConfigMaps and webhooks, nil for none.
func (c *fakeCA) leader() *fakeIstiod {
	for _, name := range slices.Sorted(maps.Keys(c.running)) {
		return c.running[name]
	}
	return nil
}

// trusted are the roots by which the API server knows the webhooks of istiod.
func (c *fakeCA) trusted() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := c.leader(); i != nil {
		return i.roots
	}
	return nil
}

// serving is the certificate of the injector.
func (c *fakeCA) serving() func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c == nil {
		return nil
	}
	return func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		i := c.leader()
		if i == nil {
			return nil, errors.New("no istiod runs")
		}
		return &i.serving, nil
	}
}

// look keeps what tests ask for of all that is told.
func (c *fakeCA) look(o any) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch o := o.(type) {
	case *corev1.Secret:
		for _, value := range o.Data {
			c.secrets[string(value)] = true
		}
	case *v1alpha1.MeshInstallation:
		if condition := apimeta.FindStatusCondition(o.Status.Conditions, v1alpha1.ConditionUpToDate); condition != nil {
			c.upToDate[condition.Reason] = true
		}
	case *v1alpha1.MeshRotation:
		phase := string(o.Status.Progress.Phase)
		if o.Status.Progress.Back {
			phase = "back " + phase
		}
		if all := c.phases[o.Name]; phase != "" && (len(all) == 0 || all[len(all)-1] != phase) {
			c.phases[o.Name] = append(all, phase)
		}
	}
}

// phasesOf are the phases of a rotation in the order in which they were seen.
func (c *fakeCA) phasesOf(rotation string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.phases[rotation])
}

// wasUpToDate says whether UpToDate had a reason since the last time.
func (c *fakeCA) wasUpToDate(reason string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	was := c.upToDate[reason]
	c.upToDate = map[string]bool{}
	return was
}

// started is how often each istiod has started since the last time.
func (c *fakeCA) started() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.starts
	c.starts = map[string]int{}
	return out
}

// stops makes the agents of pods keep what they have; empty lets all go on.
func (c *fakeCA) stops(prefix string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = map[string]bool{}
	if prefix != "" {
		c.stopped[prefix] = true
	}
	c.mesh.poke()
}

func (c *fakeCA) isStopped(name string) bool {
	for prefix := range c.stopped {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// seen is what a proxy presents and accepts.
type seen struct {
	// Leaf is the root of what it presents, and Accepts are the roots of what it accepts.
	Leaf    string
	Accepts []string
}

// proxied is what all proxies present and accept.
func (c *fakeCA) proxied() map[string]seen {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]seen{}
	for name, p := range c.proxies {
		s := seen{}
		for _, root := range p.accepts {
			f := string(pki.FingerprintOf(root))
			s.Accepts = append(s.Accepts, f)
			if verifies(p.leaf, root) {
				s.Leaf = f
			}
		}
		slices.Sort(s.Accepts)
		out[name] = s
	}
	return out
}

// describe is what each istiod signs with, and each proxy, for the report of a failure.
func (c *fakeCA) describe() string {
	var out strings.Builder
	for name, s := range c.proxied() {
		_, _ = fmt.Fprintf(&out, "proxy %s presents %.8s, accepts %.8s\n", name, s.Leaf, s.Accepts)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, i := range c.running {
		_, _ = fmt.Fprintf(&out, "%s: plugged %t, issuer %.8s, roots %.8s\n", name, i.plugged, i.bundle.Issuer(), i.bundle.RootPrints())
	}
	return out.String()
}

// play makes istiods, kubelets and agents do what they have to.
func (c *fakeCA) play(ctx context.Context, there map[client.ObjectKey]*corev1.Pod) error {
	if c == nil {
		return nil
	}
	c.bury(there)
	mounts, err := c.roots(ctx)
	if err != nil {
		return err
	}
	c.mount(mounts)
	if err := c.istiods(ctx, there); err != nil {
		return err
	}
	if err := c.publish(ctx, mounts); err != nil {
		return err
	}
	return c.agents(ctx, there, mounts)
}

// bury ends what belongs to pods that are gone.
func (c *fakeCA) bury(there map[client.ObjectKey]*corev1.Pod) {
	c.mu.Lock()
	gone := func(namespace, name string, uid types.UID) bool {
		pod := there[client.ObjectKey{Namespace: namespace, Name: name}]
		return pod == nil || pod.UID != uid
	}
	var stops []func()
	for name, i := range c.running {
		if gone(istioNamespace, name, i.uid) {
			stops = append(stops, i.stop)
			delete(c.running, name)
		}
	}
	for key, p := range c.proxies {
		if gone(p.namespace, strings.TrimPrefix(key, p.namespace+"/"), p.uid) {
			stops = append(stops, p.stop)
			delete(c.proxies, key)
		}
	}
	c.mu.Unlock()
	for _, stop := range stops { // who serves may wait for the lock
		stop()
	}
}

func (c *fakeCA) secret(ctx context.Context, name string) (*corev1.Secret, error) {
	out := &corev1.Secret{}
	err := c.mesh.client.Get(ctx, client.ObjectKey{Namespace: istioNamespace, Name: name}, out)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return out, err
}

// istiods starts those that are new, and lets the kubelet bring cacerts to the others.
func (c *fakeCA) istiods(ctx context.Context, there map[client.ObjectKey]*corev1.Pod) error {
	cacerts, err := c.secret(ctx, authority.CACerts)
	if err != nil {
		return err
	}
	for key, pod := range there {
		if key.Namespace != istioNamespace || pod.Status.PodIP == "" {
			continue
		}
		c.mu.Lock()
		i := c.running[key.Name]
		c.mu.Unlock()
		if i == nil {
			if err := c.start(ctx, pod, cacerts); err != nil {
				return err
			}
			continue
		}
		c.bring(i, pod, cacerts)
	}
	return nil
}

// start starts an istiod.
func (c *fakeCA) start(ctx context.Context, pod *corev1.Pod, cacerts *corev1.Secret) error {
	i := &fakeIstiod{ca: c, name: pod.Name, uid: pod.UID, plugged: cacerts != nil}
	if i.plugged {
		if err := i.reads(cacerts); err != nil {
			c.mesh.notesf("istiod %s does not start with cacerts: %v", i.name, err)
			return err
		}
	} else if err := c.signsItself(ctx, i); err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(pod.Status.PodIP, strconv.Itoa(caPort)))
	if err != nil {
		return err
	}
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		serving := i.serving
		return &serving, nil
	}})))
	cav1alpha1.RegisterIstioCertificateServiceServer(server, i)
	monitoring, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(pod.Status.PodIP, strconv.Itoa(monitoringPort)))
	if err != nil {
		_ = listener.Close()
		return err
	}
	metrics := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(out, "# TYPE pilot_xds gauge\npilot_xds{version=\"1.29.1\"} %d\n", c.connections(i))
	})}
	go func() { _ = server.Serve(listener) }()
	go func() { _ = metrics.Serve(monitoring) }()
	i.stop = func() {
		server.Stop()
		_ = metrics.Close()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running[i.name] = i
	c.starts[i.name]++
	c.check()
	return nil
}

// signsItself gives an istiod the root that it, or one before it, has made for itself.
func (c *fakeCA) signsItself(ctx context.Context, i *fakeIstiod) error {
	own, err := c.secret(ctx, authority.SelfSigned)
	if err != nil {
		return err
	}
	if own == nil {
		key, err := pki.NewKey(cryptorand.Reader, v1alpha1.RSA2048)
		if err != nil {
			return err
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{Organization: []string{"cluster.local"}}, NotBefore: time.Now().Add(-time.Hour),
			NotAfter: time.Now().AddDate(10, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		}
		raw, err := x509.CreateCertificate(cryptorand.Reader, template, template, key.Public(), key)
		if err != nil {
			return err
		}
		text, err := pki.EncodeKey(key)
		if err != nil {
			return err
		}
		own = &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: istioNamespace, Name: authority.SelfSigned}, Type: "istio.io/ca-root",
			Data: map[string][]byte{"ca-cert.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}), "ca-key.pem": text},
		}
		if err := c.mesh.client.Create(ctx, own, client.FieldOwner("pilot-discovery")); err != nil {
			return err
		}
	}
	b, problems := pki.ReadSelfSigned(own.Data)
	if len(problems) > 0 {
		return errors.New(problems[0].String())
	}
	return i.signs(b, own.Data["ca-cert.pem"], nil)
}

// reads makes an istiod sign with what is plugged in.
func (i *fakeIstiod) reads(cacerts *corev1.Secret) error {
	b, problems := pki.ParseBundle(cacerts.Data)
	if len(problems) > 0 {
		return errors.New(problems[0].String())
	}
	i.read, i.due = cacerts.ResourceVersion, time.Time{}
	return i.signs(b, cacerts.Data["root-cert.pem"], cacerts.Data["cert-chain.pem"])
}

func (i *fakeIstiod) signs(b *pki.Bundle, roots, chain []byte) error {
	serving, err := b.Leaf(cryptorand.Reader, pki.LeafRequest{
		URI: identity(istioNamespace), DNSNames: []string{"*." + istioNamespace + ".svc"}, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(leafLife),
	})
	if err != nil {
		return err
	}
	i.bundle, i.roots, i.chain, i.serving = b, roots, chain, serving
	return nil
}

func identity(namespace string) *url.URL {
	return &url.URL{Scheme: "spiffe", Host: "cluster.local", Path: "/ns/" + namespace + "/sa/default"}
}

// bring brings cacerts to an istiod when the kubelet has come round to it.
func (c *fakeCA) bring(i *fakeIstiod, pod *corev1.Pod, cacerts *corev1.Secret) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cacerts == nil || !i.plugged || cacerts.ResourceVersion == i.read {
		return
	}
	now := time.Now()
	due := now.Add(slowKubelet)
	if pod.Annotations["meshwright.io/cacerts"] == cacerts.ResourceVersion {
		due = now.Add(c.upTo(hurriedKubelet))
	}
	if i.due.IsZero() || due.Before(i.due) {
		i.due = due
		time.AfterFunc(due.Sub(now), c.mesh.poke)
	}
	if now.Before(i.due) {
		return
	}
	old, next := i.roots, cacerts.Data["root-cert.pem"]
	if !bytes.Contains(old, next) && !bytes.Contains(next, old) {
		i.read, i.due = cacerts.ResourceVersion, time.Time{}
		c.mesh.notesf("istiod %s refuses roots that neither contain the old ones nor are contained in them", i.name)
		return
	}
	if err := i.reads(cacerts); err != nil {
		i.read, i.due = cacerts.ResourceVersion, time.Time{}
		c.mesh.notesf("istiod %s refuses cacerts: %v", i.name, err)
		return
	}
	c.check()
}

func (c *fakeCA) upTo(longest time.Duration) time.Duration {
	return time.Duration(c.random.Int64N(int64(longest)))
}

// roots are the ConfigMaps by which agents know istiod, by namespace.
func (c *fakeCA) roots(ctx context.Context) (map[string][]byte, error) {
	var all corev1.ConfigMapList
	if err := c.mesh.client.List(ctx, &all, client.MatchingFields{"metadata.name": rootsConfigMap}); err != nil {
		return nil, err
	}
	out := map[string][]byte{}
	for _, m := range all.Items {
		out[m.Namespace] = []byte(m.Data[rootsKey])
	}
	return out, nil
}

// mount brings ConfigMaps to the files of pods when the kubelet has come round to it.
func (c *fakeCA) mount(mounts map[string][]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for _, p := range c.proxies {
		next := mounts[p.namespace]
		switch {
		case len(next) == 0 || bytes.Equal(next, p.mounted):
			p.due = time.Time{}
		case p.due.IsZero():
			wait := c.upTo(configMapKubelet)
			p.due = now.Add(wait)
			time.AfterFunc(wait, c.mesh.poke)
		case !now.Before(p.due):
			p.mounted, p.due = next, time.Time{}
			c.check()
		}
	}
}

// publish writes the ConfigMaps of the leader's roots.
func (c *fakeCA) publish(ctx context.Context, there map[string][]byte) error {
	roots := c.trusted()
	var all corev1.NamespaceList
	if err := c.mesh.client.List(ctx, &all); err != nil || len(roots) == 0 {
		return err
	}
	for _, n := range all.Items {
		if strings.HasPrefix(n.Name, "kube-") || n.DeletionTimestamp != nil || bytes.Equal(there[n.Name], roots) {
			continue
		}
		m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: n.Name, Name: rootsConfigMap}, Data: map[string]string{rootsKey: string(roots)}}
		write := func() error { return c.mesh.client.Update(ctx, m, client.FieldOwner("pilot-discovery")) }
		if there[n.Name] == nil {
			write = func() error { return c.mesh.client.Create(ctx, m, client.FieldOwner("pilot-discovery")) }
		}
		if err := write(); err != nil {
			return err
		}
	}
	return nil
}

// agents makes those of new pods start, and all fetch a leaf anew whose istiod has pushed other roots.
func (c *fakeCA) agents(ctx context.Context, there map[client.ObjectKey]*corev1.Pod, mounts map[string][]byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	keys := slices.SortedFunc(maps.Keys(there), func(a, b client.ObjectKey) int { return cmp.Compare(a.String(), b.String()) })
	c.random.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	for _, key := range keys {
		pod := there[key]
		if key.Namespace == istioNamespace || pod.Status.PodIP == "" || revisionOfPod(pod) == "" || mounts[key.Namespace] == nil || len(c.running) == 0 {
			continue
		}
		p := c.proxies[key.String()]
		if p == nil {
			p = &fakeProxy{
				name: key.String(), namespace: key.Namespace, address: pod.Status.PodIP, uid: pod.UID, edge: pod.Labels[v1alpha1.LabelGateway] != "", mounted: mounts[key.Namespace],
			}
		}
		connected := c.connected(p)
		if p.stop != nil && (c.isStopped(p.name) || bytes.Equal(p.pushed, connected.roots)) {
			continue
		}
		from := connected
		if c.roams {
			names := slices.Sorted(maps.Keys(c.running))
			from = c.running[names[c.random.IntN(len(names))]]
		}
		if err := p.fetch(connected.roots, from); err != nil {
			c.mesh.notesf("the agent of %s: %v", p.name, err)
			return err
		}
		if p.stop == nil {
			if err := c.serve(ctx, p); err != nil {
				return err
			}
			c.proxies[p.name] = p
		}
		c.check()
	}
	return nil
}

// connected is the istiod that a proxy is connected to, which pushes to it.
func (c *fakeCA) connected(p *fakeProxy) *fakeIstiod {
	names, sum := slices.Sorted(maps.Keys(c.running)), 0
	for _, b := range []byte(p.name) {
		sum += int(b)
	}
	return c.running[names[sum%len(names)]]
}

// connections are how many proxies are connected to an istiod.
func (c *fakeCA) connections(i *fakeIstiod) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.proxies {
		if len(c.running) > 0 && c.connected(p) == i {
			n++
		}
	}
	return n
}

// fetch fetches a leaf anew. With it come the roots of the istiod that signs it; those that were pushed are accepted as well.
func (p *fakeProxy) fetch(pushed []byte, from *fakeIstiod) error {
	if !accepted(p.mounted, from.serving) {
		return fmt.Errorf("it does not know istiod %s by the ConfigMap that it has", from.name)
	}
	leaf, err := from.bundle.Leaf(cryptorand.Reader, pki.LeafRequest{
		URI: identity(p.namespace), NotBefore: time.Now().Add(-2 * time.Minute), NotAfter: time.Now().Add(leafLife),
	})
	if err != nil {
		return err
	}
	p.leaf, p.pushed, p.accepts = leaf, pushed, nil
	for _, raw := range [][]byte{from.roots, pushed} {
		all, err := pki.ParseCertificates(raw)
		if err != nil {
			return err
		}
		for _, root := range all {
			if !slices.ContainsFunc(p.accepts, root.Equal) {
				p.accepts = append(p.accepts, root)
			}
		}
	}
	return nil
}

// check notes each proxy whose leaf another one does not accept, and each agent that would not know an istiod.
func (c *fakeCA) check() {
	for _, p := range c.proxies {
		for _, other := range c.proxies {
			if !slices.ContainsFunc(other.accepts, func(root *x509.Certificate) bool { return verifies(p.leaf, root) }) {
				c.mesh.notesf("%s does not accept the leaf of %s", other.name, p.name)
			}
		}
		for _, i := range c.running {
			if !accepted(p.mounted, i.serving) {
				c.mesh.notesf("the agent of %s does not know istiod %s by the ConfigMap that it has", p.name, i.name)
			}
		}
	}
}

func accepted(roots []byte, leaf tls.Certificate) bool {
	all, err := pki.ParseCertificates(roots)
	return err == nil && slices.ContainsFunc(all, func(root *x509.Certificate) bool { return verifies(leaf, root) })
}

// verifies says whether a leaf leads to a root, by what it brings along.
func verifies(leaf tls.Certificate, root *x509.Certificate) bool {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(root)
	for _, raw := range leaf.Certificate[1:] {
		if c, err := x509.ParseCertificate(raw); err == nil {
			between.AddCert(c)
		}
	}
	_, err := leaf.Leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between})
	return err == nil
}

// serve lets a proxy listen: for mTLS at a port that is led to it, and that of a gateway for those who read the agent's statistics.
func (c *fakeCA) serve(ctx context.Context, p *fakeProxy) error {
	port := sidecarPort
	if p.edge {
		port = agentPort
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(p.address, strconv.Itoa(port)))
	if err != nil {
		return err
	}
	p.stop = func() { _ = listener.Close() }
	if p.edge {
		server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) {
			c.mu.Lock()
			defer c.mu.Unlock()
			_, _ = fmt.Fprintf(out, "istio_agent_cert_expiry_seconds{resource_name=\"default\"} %f\n", time.Until(p.leaf.Leaf.NotAfter).Seconds())
		})}
		go func() { _ = server.Serve(listener) }()
		return nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		roots := x509.NewCertPool()
		for _, root := range p.accepts {
			roots.AddCert(root)
		}
		return &tls.Config{
			MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{p.leaf}, NextProtos: []string{"istio", "istio-http/1.1"},
			ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots,
		}, nil
	}}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go c.shake(p, tls.Server(conn, config))
		}
	}()
	return nil
}

// shake is one connection to a proxy. A handshake that fails for what was presented is one that the proxy would count.
func (c *fakeCA) shake(p *fakeProxy, conn *tls.Conn) {
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.Copy(io.Discard, conn); err != nil {
		if invalid, is := errors.AsType[*tls.CertificateVerificationError](err); is {
			c.mesh.notesf("%s was shown a leaf that it does not accept: %v", p.name, invalid)
		}
	}
}

// CreateCertificate answers as istiod does: the leaf, each certificate of cert-chain.pem, and last all of root-cert.pem.
func (i *fakeIstiod) CreateCertificate(ctx context.Context, request *cav1alpha1.IstioCertificateRequest) (*cav1alpha1.IstioCertificateResponse, error) {
	in, _ := metadata.FromIncomingContext(ctx)
	if !slices.Equal(in.Get("authorization"), []string{"Bearer " + operatorToken}) {
		return nil, status.Error(codes.Unauthenticated, "request authenticate failure")
	}
	block, _ := pem.Decode([]byte(request.GetCsr()))
	if block == nil {
		return nil, status.Error(codes.InvalidArgument, "no CSR")
	}
	asked, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	i.ca.mu.Lock()
	defer i.ca.mu.Unlock()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(i.ca.random.Int64()), NotBefore: time.Now().Add(-2 * time.Minute),
		NotAfter: time.Now().Add(time.Duration(request.GetValidityDuration()) * time.Second), URIs: []*url.URL{identity("default")},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	raw, err := x509.CreateCertificate(cryptorand.Reader, template, i.bundle.Signing, asked.PublicKey, i.bundle.Signer)
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	out := []string{string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}))}
	for rest := i.chain; ; {
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		out = append(out, string(pem.EncodeToMemory(block)))
	}
	return &cav1alpha1.IstioCertificateResponse{CertChain: append(out, string(i.roots))}, nil
}
