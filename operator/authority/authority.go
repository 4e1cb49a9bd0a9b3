// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package authority knows what the CA of a mesh is. It reads the few Secrets that say so, each through a watch of its own, so that no other Secret of
// the cluster is held in memory. What is private stays in what [Watcher.Of] returns, and has no place in any status, event or log.
package authority

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/pki"
)

// Names of the Secrets that istiod reads: the CA that is plugged in, and the root that it made for itself.
const (
	CACerts    = "cacerts"
	SelfSigned = "istio-ca-secret"
)

// State is what the CA of a mesh is.
type State struct {
	// Known says that the Secrets were read.
	Known bool
	// Signing is what istiod signs with.
	Signing v1alpha1.Signing
	// Present is that, with its key; nil when there is none yet, or when Problems say why it can't be read.
	Present  *pki.Bundle
	Problems []pki.Problem
	// Material is what cacerts holds. Written says that Meshwright wrote that; By names who wrote it otherwise.
	Material pki.Material
	Written  bool
	By       string
	// CACerts and SelfSigned are the Secrets; nil for one that is not there.
	CACerts, SelfSigned *corev1.Secret
	// Source is the user's Secret, for type Secret; nil for one that is not there.
	Source *corev1.Secret
}

// Of is the CA of a mesh as it was last read. The first call for a mesh begins to read: nothing is known then.
func (w *Watcher) Of(m *v1alpha1.MeshInstallation) State {
	out := State{Signing: v1alpha1.SigningUnknown, Known: true}
	read := func(name string) *corev1.Secret {
		secret, known := w.get(m.Spec.Namespace, name)
		out.Known = out.Known && known
		return secret
	}
	out.CACerts, out.SelfSigned = read(CACerts), read(SelfSigned)
	if name := SourceName(m.Spec.Certificates.CA); name != "" {
		out.Source = read(name)
	}
	if !out.Known {
		return State{Signing: v1alpha1.SigningUnknown}
	}
	var self *pki.Bundle
	switch {
	case out.CACerts != nil:
		out.Signing = v1alpha1.SigningPluggedIn
		out.Material, out.Present, out.Problems = pki.Read(out.CACerts.Data)
		out.Written = out.CACerts.Annotations[v1alpha1.AnnotationWritten] == Digest(out.CACerts.Data)
		out.By = writer(out.CACerts)
	case out.SelfSigned != nil:
		out.Signing, out.Material = v1alpha1.SigningSelfSigned, pki.Material{None: true}
		if self, out.Problems = pki.ReadSelfSigned(out.SelfSigned.Data); len(out.Problems) == 0 {
			out.Present = self
		}
	default:
		out.Material = pki.Material{None: true}
	}
	return out
}

// Offered is what the user's Secret of type Secret holds, and what is wrong with it as the CA of a mesh; nil and nothing where there is no such Secret.
func (s State) Offered(m *v1alpha1.MeshInstallation, now time.Time) (*pki.Bundle, []pki.Problem) {
	if s.Source == nil {
		return nil, nil
	}
	b, problems := pki.ParseBundle(s.Source.Data)
	if len(problems) == 0 {
		problems = b.Check(Rules(m, s.Present, b, now))
	}
	return b, problems
}

// SourceName is the Secret that the user gives; empty for none.
func SourceName(ca v1alpha1.CertificateAuthority) string {
	switch {
	case ca.Secret != nil:
		return ca.Secret.Name
	case ca.Managed != nil && ca.Managed.Answer != nil:
		return ca.Managed.Answer.Name
	}
	return ""
}

// Digest tells contents of a Secret apart. It is no secret itself: a key can't be found from it.
func Digest(data map[string][]byte) string {
	h := sha256.New()
	for _, key := range slices.Sorted(maps.Keys(data)) {
		sum := sha256.Sum256(data[key])
		_, _ = h.Write(append([]byte(key+"\x00"), sum[:]...)) // never fails
	}
	return hex.EncodeToString(h.Sum(nil))
}

// writer names who wrote the data of a Secret last.
func writer(s *corev1.Secret) string {
	entries := slices.Clone(s.ManagedFields)
	slices.SortStableFunc(entries, func(a, b metav1.ManagedFieldsEntry) int {
		return cmp.Compare(timeOf(b).UnixNano(), timeOf(a).UnixNano())
	})
	for _, e := range entries {
		var fields map[string]json.RawMessage
		if e.FieldsV1 == nil || json.Unmarshal(e.FieldsV1.GetRawBytes(), &fields) != nil {
			continue
		}
		if _, data := fields["f:data"]; data {
			return e.Manager + " (" + strings.ToLower(string(e.Operation)) + ")"
		}
	}
	return "somebody"
}

func timeOf(e metav1.ManagedFieldsEntry) time.Time {
	if e.Time == nil {
		return time.Time{}
	}
	return e.Time.Time
}

// Situation is what is to be known to say whether the CA of a mesh has to change; rotations are those of the mesh. It is false where the Secrets do not
// let it be said: they have not been read, there is no CA yet, or what they hold can't be used.
func (s State) Situation(m *v1alpha1.MeshInstallation, rotations []v1alpha1.MeshRotation, now time.Time) (pki.Situation, bool) {
	out := pki.Situation{
		Mesh: m.Name, Spec: m.Spec.Certificates, Present: s.Present, SelfSigned: s.Signing == v1alpha1.SigningSelfSigned, Now: now,
		Last: newest(rotations, func(*v1alpha1.MeshRotation) bool { return true }),
		Ended: newest(rotations, func(o *v1alpha1.MeshRotation) bool {
			return o.Status.Plan != nil && o.Status.Progress.Outcome != "" && o.Status.Progress.Phase != "" // it has changed something
		}),
		Made: newest(rotations, func(o *v1alpha1.MeshRotation) bool {
			return o.Status.Plan != nil && o.Status.Progress.Outcome == v1alpha1.OutcomeCompleted
		}),
	}
	if m.Spec.Certificates.CA.Type == v1alpha1.CASourceSecret {
		if s.Source == nil {
			return out, false
		}
		b, problems := pki.ParseBundle(s.Source.Data)
		if len(problems) > 0 {
			return out, false
		}
		out.Source = b
	}
	return out, s.Known && s.Present != nil
}

// newest is the rotation of a kind that was created last; nil for none.
func newest(rotations []v1alpha1.MeshRotation, is func(*v1alpha1.MeshRotation) bool) *v1alpha1.MeshRotation {
	var out *v1alpha1.MeshRotation
	for i := range rotations {
		if o := &rotations[i]; is(o) && (out == nil || Before(out, o)) {
			out = o
		}
	}
	return out
}

// Before orders rotations: the older one first.
func Before(a, b *v1alpha1.MeshRotation) bool {
	if !a.CreationTimestamp.Equal(&b.CreationTimestamp) {
		return a.CreationTimestamp.Before(&b.CreationTimestamp)
	}
	return a.Name < b.Name
}

// clockSkew is how far the clocks of a mesh may be apart: as far as istiod itself allows.
//
// Source: istio security/pkg/pki/util/generate_cert.go (ClockSkewGracePeriod), 1.26 to 1.31.
const clockSkew = 2 * time.Minute

// Settle is how long kubelets take to bring a ConfigMap to files, at most: so long at least both roots are trusted before the new one signs.
//
// Source: kubernetes pkg/kubelet (a sync period of a minute), and as long again for its cache.
const Settle = 2 * time.Minute

// Rules are what a CA has to do that a mesh is to have, beside what is present; nil for nothing.
func Rules(m *v1alpha1.MeshInstallation, present, next *pki.Bundle, now time.Time) pki.Rules {
	out := pki.Rules{
		Random: rand.Reader, Now: now, Use: now, Skew: clockSkew, TrustDomain: TrustDomain(m), Host: "istiod." + m.Spec.Namespace + ".svc",
		LongestLeaf: time.Duration(LeafSeconds(m)) * time.Second,
	}
	if present != nil {
		out.Trusted = present.Roots
		if root := next.RootOf(); root != nil && !slices.ContainsFunc(present.Roots, root.Equal) {
			out.Use = now.Add(Settle)
		}
	}
	return out
}

// LeafSeconds is the longest life of a leaf of a mesh, in seconds.
func LeafSeconds(m *v1alpha1.MeshInstallation) int32 {
	if m.Spec.Certificates.LeafSeconds == 0 {
		return pki.IstioLeafSeconds
	}
	return m.Spec.Certificates.LeafSeconds
}

// TrustDomain of a mesh.
//
// Source: istio pkg/config/constants (DefaultClusterLocalDomain), for the default.
func TrustDomain(m *v1alpha1.MeshInstallation) string {
	if config, err := v1alpha1.DecodeMap(m.Spec.ControlPlane.MeshConfig); err == nil {
		if domain, is := config["trustDomain"].(string); is && domain != "" {
			return domain
		}
	}
	return "cluster.local"
}
