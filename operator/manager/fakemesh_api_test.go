// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build api

package manager

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"hash/fnv"
	"math/big"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/anypb"
	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryk8s "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/testkit"
)

// fakeMesh plays what a cluster has and an API server alone has not: the Deployment controller, the kubelet, and istiod, which
// injects pods and configures proxies. The webhooks by which pods are injected, and what selects them, are the real ones.
type fakeMesh struct {
	client client.WithWatch
	// address of all pods of istiod: each fake has its own one of loopback, for their ports are always the same.
	address string
	// host and port are where the injector listens, with a certificate of this authority.
	host      string
	port      int32
	authority []byte
	// ca plays the CA too, where there is one.
	ca *fakeCA

	poked chan struct{}

	mu sync.Mutex
	// broken are revisions whose istiod does not get ready.
	broken map[string]bool
	// wrong is what was seen that may never be.
	wrong []string
}

// istioNamespace is where istiod runs.
const istioNamespace = "istio-system"

// addresses counts the addresses of loopback that are used.
var addresses atomic.Int32

// fake starts a fake mesh until the test ends, with a CA where one is given.
func fake(t *testing.T, w *world, cas ...*fakeCA) *fakeMesh {
	t.Helper()
	cl, err := client.NewWithWatch(w.config, client.Options{Scheme: w.client.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeMesh{
		client: cl, address: fmt.Sprintf("127.0.1.%d", addresses.Add(1)), host: testkit.HostIP(t), poked: make(chan struct{}, 1), broken: map[string]bool{},
	}
	for _, ca := range cas {
		f.ca, ca.mesh = ca, f
	}
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "node"},
		Status: corev1.NodeStatus{Allocatable: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("64"), corev1.ResourceMemory: resource.MustParse("256Gi"), corev1.ResourcePods: resource.MustParse("500"),
		}},
	}
	if err := cl.Create(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	if err := cl.Get(t.Context(), client.ObjectKeyFromObject(node), node); err != nil {
		t.Fatal(err)
	}
	node.Spec.Taints = nil // it is as ready as it gets
	if err := cl.Update(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	f.serveInjection(t)
	f.serveDiscovery(t)
	f.serveMetrics(t)
	f.serveGateway(t)
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		group.Wait()
	})
	for _, list := range append([]client.ObjectList{
		&appsv1.DeploymentList{}, &corev1.PodList{}, &admissionregistrationv1.MutatingWebhookConfigurationList{},
		&admissionregistrationv1.ValidatingWebhookConfigurationList{}, &corev1.ServiceList{},
		&v1alpha1.MeshInstallationList{}, &v1alpha1.MeshRevisionList{}, &v1alpha1.MeshRolloutList{},
	}, f.ca.watches()...) {
		group.Go(func() { f.watch(ctx, list) })
	}
	group.Go(func() { f.play(ctx) })
	return f
}

// watch pokes the fake at each change, and looks at all that is told.
func (f *fakeMesh) watch(ctx context.Context, list client.ObjectList) {
	for ctx.Err() == nil {
		w, err := f.client.Watch(ctx, list.DeepCopyObject().(client.ObjectList))
		if err != nil {
			continue
		}
		for event := range w.ResultChan() {
			if event.Type == watch.Added || event.Type == watch.Modified {
				f.look(ctx, event.Object)
				f.ca.look(event.Object)
			}
			f.poke()
		}
	}
}

func (f *fakeMesh) poke() {
	select {
	case f.poked <- struct{}{}:
	default:
	}
}

// play makes the cluster true after each change.
func (f *fakeMesh) play(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.poked:
		}
		var pods corev1.PodList
		if err := f.client.List(ctx, &pods); err != nil {
			continue // it is told again
		}
		there := map[client.ObjectKey]*corev1.Pod{}
		for i := range pods.Items {
			there[client.ObjectKeyFromObject(&pods.Items[i])] = &pods.Items[i]
		}
		for _, part := range []func(context.Context, map[client.ObjectKey]*corev1.Pod) error{f.istiods, f.ca.play, f.webhooks, f.slices, f.workloads} {
			if err := part(ctx, there); err != nil && ctx.Err() == nil {
				time.AfterFunc(100*time.Millisecond, f.poke) // as controllers try again
			}
		}
	}
}

func (f *fakeMesh) isBroken(revision string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.broken[revision]
}

func (f *fakeMesh) breaks(revision string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.broken[revision] = true
}

// istiods plays the Deployments of istiod: each has one pod, that is ready unless it is broken.
func (f *fakeMesh) istiods(ctx context.Context, there map[client.ObjectKey]*corev1.Pod) error {
	var all appsv1.DeploymentList
	if err := f.client.List(ctx, &all, client.InNamespace(istioNamespace)); err != nil {
		return err
	}
	wanted := map[string]bool{}
	for i := range all.Items {
		d := &all.Items[i]
		revision := d.Labels[v1alpha1.LabelRevision]
		if d.DeletionTimestamp != nil || f.isBroken(revision) {
			continue
		}
		for _, name := range f.ca.replicas(d.Name) {
			wanted[name] = true
			pod := &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{
					Namespace: istioNamespace, Name: name, Annotations: f.ca.marks(d),
					Labels: map[string]string{"app": "istiod", v1alpha1.LabelRevision: revision, v1alpha1.LabelMesh: "default", "sidecar.istio.io/inject": "false"},
				},
				Spec:   corev1.PodSpec{Containers: []corev1.Container{{Name: "discovery", Image: "pilot"}}},
				Status: f.at(f.ca.addressOf(istioNamespace, name)),
			}
			if err := f.ca.restart(ctx, pod, there); err != nil {
				return err
			}
			if err := f.pod(ctx, pod, there); err != nil {
				return err
			}
		}
		if err := f.available(ctx, d, 1); err != nil {
			return err
		}
	}
	for key, pod := range there {
		if key.Namespace == istioNamespace && !wanted[key.Name] {
			if err := f.kill(ctx, pod); err != nil {
				return err
			}
		}
	}
	return nil
}

// pod creates a pod that runs at once, if it is not there.
func (f *fakeMesh) pod(ctx context.Context, pod *corev1.Pod, there map[client.ObjectKey]*corev1.Pod) error {
	status := pod.Status
	status.Phase = corev1.PodRunning
	status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	if known := there[client.ObjectKeyFromObject(pod)]; known != nil {
		pod = known
	} else if err := f.client.Create(ctx, pod); err != nil {
		return err
	}
	if pod.Status.Phase == corev1.PodRunning {
		return nil
	}
	pod.Status = status
	return f.client.Status().Update(ctx, pod)
}

// at is the status of a pod that has an address, which is that of the fake where none is given.
func (f *fakeMesh) at(address string) corev1.PodStatus {
	if address == "" {
		address = f.address
	}
	return corev1.PodStatus{Phase: corev1.PodRunning, PodIP: address, PodIPs: []corev1.PodIP{{IP: address}}}
}

func (f *fakeMesh) kill(ctx context.Context, pod *corev1.Pod) error {
	return client.IgnoreNotFound(f.client.Delete(ctx, pod, client.GracePeriodSeconds(0)))
}

// available says of a Deployment that all its pods serve.
func (f *fakeMesh) available(ctx context.Context, d *appsv1.Deployment, n int32) error {
	if d.Status.ObservedGeneration == d.Generation && d.Status.AvailableReplicas == n && d.Status.Replicas == n {
		return nil
	}
	d.Status = appsv1.DeploymentStatus{
		ObservedGeneration: d.Generation, Replicas: n, UpdatedReplicas: n, ReadyReplicas: n, AvailableReplicas: n,
		Conditions: []appsv1.DeploymentCondition{
			{Type: appsv1.DeploymentAvailable, Status: "True"},
			{Type: appsv1.DeploymentProgressing, Status: "True", Reason: "NewReplicaSetAvailable"},
		},
	}
	return f.client.Status().Update(ctx, d)
}

// webhooks plays what istiod does with the webhooks of its revision: it writes its authority into them, and makes the validating
// one fail closed once the API server has called it.
func (f *fakeMesh) webhooks(ctx context.Context, _ map[client.ObjectKey]*corev1.Pod) error {
	var mutating admissionregistrationv1.MutatingWebhookConfigurationList
	if err := f.client.List(ctx, &mutating, client.HasLabels{v1alpha1.IstioRevision}); err != nil {
		return err
	}
	for i := range mutating.Items {
		c, changed := &mutating.Items[i], false
		for j := range c.Webhooks {
			changed = f.signed(&c.Webhooks[j].ClientConfig) || changed
		}
		if changed {
			if err := f.client.Update(ctx, c, client.FieldOwner("pilot-discovery")); err != nil {
				return err
			}
		}
	}
	var validating admissionregistrationv1.ValidatingWebhookConfigurationList
	if err := f.client.List(ctx, &validating); err != nil {
		return err
	}
	for i := range validating.Items {
		c, changed := &validating.Items[i], false
		revision := c.Labels[v1alpha1.LabelRevision]
		if !strings.HasPrefix(c.Name, "istio-validator-") || f.isBroken(revision) {
			continue
		}
		for j := range c.Webhooks {
			changed = f.signed(&c.Webhooks[j].ClientConfig) || changed
			if p := c.Webhooks[j].FailurePolicy; p == nil || *p != admissionregistrationv1.Fail {
				c.Webhooks[j].FailurePolicy, changed = new(admissionregistrationv1.Fail), true
			}
		}
		if changed {
			if err := f.client.Update(ctx, c, client.FieldOwner("pilot-discovery")); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *fakeMesh) signed(c *admissionregistrationv1.WebhookClientConfig) (changed bool) {
	authority := f.authority
	if f.ca != nil {
		authority = f.ca.trusted()
	}
	if string(c.CABundle) == string(authority) {
		return false
	}
	c.CABundle = authority
	return true
}

// slices play the controller of EndpointSlices for the Services of istiod: the API server finds their webhooks by them.
func (f *fakeMesh) slices(ctx context.Context, _ map[client.ObjectKey]*corev1.Pod) error {
	var all corev1.ServiceList
	if err := f.client.List(ctx, &all, client.InNamespace(istioNamespace)); err != nil {
		return err
	}
	for _, s := range all.Items {
		slice := &discoveryk8s.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Namespace: s.Namespace, Name: s.Name, Labels: map[string]string{discoveryk8s.LabelServiceName: s.Name}},
			AddressType: discoveryk8s.AddressTypeIPv4,
			Endpoints:   []discoveryk8s.Endpoint{{Addresses: []string{f.host}, Conditions: discoveryk8s.EndpointConditions{Ready: new(true)}}},
		}
		for _, p := range s.Spec.Ports {
			if p.Port == 443 {
				slice.Ports = []discoveryk8s.EndpointPort{{Name: new(p.Name), Port: new(f.port), Protocol: new(corev1.ProtocolTCP)}}
			}
		}
		if err := f.client.Create(ctx, slice); err != nil && !apierrors.IsAlreadyExists(err) {
			return err
		}
	}
	return nil
}

// workloads plays the Deployment controller for all namespaces but istiod's.
func (f *fakeMesh) workloads(ctx context.Context, there map[client.ObjectKey]*corev1.Pod) error {
	var all appsv1.DeploymentList
	if err := f.client.List(ctx, &all); err != nil {
		return err
	}
	wanted := map[client.ObjectKey]bool{}
	for i := range all.Items {
		d := &all.Items[i]
		if d.Namespace == istioNamespace || d.DeletionTimestamp != nil {
			continue
		}
		n := int32(1)
		if d.Spec.Replicas != nil {
			n = *d.Spec.Replicas
		}
		hash, err := templateHash(d)
		if err != nil {
			return err
		}
		for k := range n {
			pod := podOf(d, hash, int(k))
			if f.ca != nil || pod.Labels[v1alpha1.LabelGateway] != "" {
				pod.Status = f.at(f.ca.addressOf(pod.Namespace, pod.Name))
			}
			wanted[client.ObjectKeyFromObject(pod)] = true
			if err := f.pod(ctx, pod, there); err != nil {
				return err
			}
		}
		if err := f.available(ctx, d, n); err != nil {
			return err
		}
	}
	for key, pod := range there {
		if key.Namespace != istioNamespace && !wanted[key] {
			if err := f.kill(ctx, pod); err != nil {
				return err
			}
		}
	}
	return nil
}

func templateHash(d *appsv1.Deployment) (string, error) {
	raw, err := json.Marshal(d.Spec.Template)
	sum := fnv.New32a()
	_, _ = sum.Write(raw)
	return strconv.FormatUint(uint64(sum.Sum32()), 36), err
}

// podOf is a pod of a Deployment's newest template.
func podOf(d *appsv1.Deployment, hash string, n int) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: *d.Spec.Template.ObjectMeta.DeepCopy(), Spec: *d.Spec.Template.Spec.DeepCopy()}
	pod.Namespace, pod.Name = d.Namespace, fmt.Sprintf("%s-%s-%d", d.Name, hash, n)
	if pod.Labels == nil {
		pod.Labels = map[string]string{}
	}
	pod.Labels[appsv1.DefaultDeploymentUniqueLabelKey] = hash
	pod.OwnerReferences = []metav1.OwnerReference{{
		APIVersion: "apps/v1", Kind: "ReplicaSet", Name: d.Name + "-" + hash, UID: d.UID, Controller: new(true),
	}}
	return pod
}

// look notes what may never be seen: a condition that tells of a conflict, and a revision that goes while pods use it.
func (f *fakeMesh) look(ctx context.Context, o any) {
	var conditions []metav1.Condition
	switch o := o.(type) {
	case *v1alpha1.MeshInstallation:
		conditions = o.Status.Conditions
	case *v1alpha1.MeshRollout:
		conditions = o.Status.Conditions
	case *v1alpha1.MeshRotation:
		conditions = o.Status.Conditions
	case *v1alpha1.MeshRevision:
		conditions = o.Status.Conditions
		if o.DeletionTimestamp != nil {
			f.goes(ctx, o)
		}
	default:
		return
	}
	for _, c := range conditions {
		if tellsOfConflict(c.Message) {
			f.notesf("%T tells of a conflict: %s: %s", o, c.Type, c.Message)
		}
	}
}

// goes checks that a revision that is being deleted has no users, while its mesh stays.
func (f *fakeMesh) goes(ctx context.Context, r *v1alpha1.MeshRevision) {
	var mesh v1alpha1.MeshInstallation
	var pods corev1.PodList
	err := f.client.Get(ctx, client.ObjectKey{Name: r.Spec.Mesh}, &mesh)
	if err != nil || mesh.DeletionTimestamp != nil || f.client.List(ctx, &pods) != nil {
		return
	}
	if mesh.Status.StableRevision == r.Name {
		f.notesf("revision %s is deleted, and is the stable one", r.Name)
	}
	for i := range pods.Items {
		if revisionOfPod(&pods.Items[i]) == r.Name {
			f.notesf("revision %s is deleted while pod %s uses it", r.Name, pods.Items[i].Name)
		}
	}
}

func tellsOfConflict(message string) bool {
	return strings.Contains(message, "the object has been modified") || strings.Contains(strings.ToLower(message), "conflict")
}

func (f *fakeMesh) notesf(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if text := fmt.Sprintf(format, args...); !slices.Contains(f.wrong, text) {
		f.wrong = append(f.wrong, text)
	}
}

// takeWrong is what was seen since the last time that may never be.
func (f *fakeMesh) takeWrong() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := f.wrong
	f.wrong = nil
	return out
}

// statusAnnotation is by which the injector says what it did.
const statusAnnotation = "sidecar.istio.io/status"

func revisionOfPod(p *corev1.Pod) string {
	var status struct {
		Revision string `json:"revision"`
	}
	if json.Unmarshal([]byte(p.Annotations[statusAnnotation]), &status) != nil {
		return ""
	}
	return status.Revision
}

// serveInjection serves the injectors of all revisions: the API server calls each by the name of its Service.
func (f *fakeMesh) serveInjection(t *testing.T) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true,
		BasicConstraintsValid: true, DNSNames: []string{"*." + istioNamespace + ".svc"},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	f.authority = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", net.JoinHostPort(f.host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	f.port = int32(listener.Addr().(*net.TCPAddr).Port)
	f.serve(t, tls.NewListener(listener, &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{raw}, PrivateKey: key}}, MinVersion: tls.VersionTLS12, GetCertificate: f.ca.serving(),
	}), http.HandlerFunc(f.inject))
}

// serve serves HTTP until the test ends.
func (f *fakeMesh) serve(t *testing.T, listener net.Listener, handler http.Handler) {
	t.Helper()
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
}

// inject puts onto a pod what an injector says of its work.
func (f *fakeMesh) inject(out http.ResponseWriter, in *http.Request) {
	service, _, _ := strings.Cut(in.TLS.ServerName, ".")
	revision := &v1alpha1.MeshRevision{}
	if err := f.client.Get(in.Context(), client.ObjectKey{Name: strings.TrimPrefix(service, "istiod-")}, revision); err != nil {
		http.Error(out, err.Error(), http.StatusInternalServerError)
		return
	}
	var review admissionv1.AdmissionReview
	var pod corev1.Pod
	if err := json.NewDecoder(in.Body).Decode(&review); err != nil {
		http.Error(out, err.Error(), http.StatusBadRequest)
		return
	}
	if err := json.Unmarshal(review.Request.Object.Raw, &pod); err != nil {
		http.Error(out, err.Error(), http.StatusBadRequest)
		return
	}
	annotations := map[string]string{statusAnnotation: `{"revision":"` + revision.Name + `"}`, v1alpha1.AnnotationInjection: revision.Spec.Injection}
	for key, value := range pod.Annotations {
		if _, ours := annotations[key]; !ours {
			annotations[key] = value
		}
	}
	patch, err := json.Marshal([]map[string]any{{"op": "add", "path": "/metadata/annotations", "value": annotations}})
	if err != nil {
		http.Error(out, err.Error(), http.StatusInternalServerError)
		return
	}
	review.Response = &admissionv1.AdmissionResponse{
		UID: review.Request.UID, Allowed: true, Patch: patch, PatchType: new(admissionv1.PatchTypeJSONPatch),
	}
	review.Request = nil
	out.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(out).Encode(review) //nolint:errchkjson // the API server would see it
}

// serveMetrics serves those of an istiod to which no proxy is connected.
func (f *fakeMesh) serveMetrics(t *testing.T) {
	t.Helper()
	f.serve(t, f.listen(t, 15014), http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprint(out, "# TYPE pilot_xds gauge\npilot_xds{version=\"1.28.2\"} 0\n")
	}))
}

// serveGateway serves the statistics of the proxies of gateways: at each reading some requests more have come, each over a connection of
// its own, and none has failed.
func (f *fakeMesh) serveGateway(t *testing.T) {
	t.Helper()
	var readings atomic.Int64
	f.serve(t, f.listen(t, 15090), http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) {
		n := 200 * readings.Add(1)
		_, _ = fmt.Fprintf(out, "# TYPE envoy_listener_downstream_cx_total counter\nenvoy_listener_downstream_cx_total{listener_address=\"0.0.0.0_80\"} %d\n", n)
		_, _ = fmt.Fprintf(out, "# TYPE envoy_http_downstream_rq_total counter\nenvoy_http_downstream_rq_total{http_conn_manager_prefix=\"outbound_0.0.0.0_80\"} %d\n", n)
	}))
}

func (f *fakeMesh) listen(t *testing.T, port int) net.Listener {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", net.JoinHostPort(f.address, strconv.Itoa(port)))
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

// serveDiscovery serves a discovery server that sends every proxy one cluster.
func (f *fakeMesh) serveDiscovery(t *testing.T) {
	t.Helper()
	server := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(server, sidecarDiscovery{})
	listener, done := f.listen(t, 15010), make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() {
		server.Stop()
		<-done
	})
}

type sidecarDiscovery struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
}

func (sidecarDiscovery) StreamAggregatedResources(s discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	request, err := s.Recv()
	if err != nil {
		return err
	}
	return s.Send(&discoveryv3.DiscoveryResponse{
		TypeUrl: request.GetTypeUrl(), VersionInfo: "v", Nonce: "n",
		Resources: []*anypb.Any{{TypeUrl: request.GetTypeUrl(), Value: []byte("BlackHoleCluster")}},
	})
}

// conditionOf is a condition of a rollout, empty when there is none.
func conditionOf(o *v1alpha1.MeshRollout, typ string) metav1.Condition {
	if c := apimeta.FindStatusCondition(o.Status.Conditions, typ); c != nil {
		return *c
	}
	return metav1.Condition{}
}
