// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/authority"
	"github.com/meshwright/meshwright/operator/pki"
)

// make makes what a rotation leads to and keeps it, with what it comes from. Where somebody else has to sign, the key and the request are kept.
func (r *Reconciler) make(ctx context.Context, s *scope) (*corev1.Secret, error) {
	data := map[string][]byte{}
	if s.state.Present != nil {
		from, err := encoded(prefixFrom, s.state.Present.Own())
		if err != nil {
			return nil, err
		}
		maps.Copy(data, from)
	}
	to, err := r.target(ctx, s, data)
	if err != nil {
		return nil, err
	}
	if to != nil {
		more, err := s.accept(to) // before anything is kept
		if err != nil {
			return nil, err
		}
		maps.Copy(data, more)
	}
	return r.keep(ctx, s.rotation, data)
}

// accept checks what the rotation leads to, and is what is kept of it. Where there is nothing yet, it is also what the rotation comes from.
func (s *scope) accept(to *pki.Bundle) (map[string][]byte, error) {
	if s.state.Present != nil {
		if err := s.check(s.state.Present.Own(), to); err != nil {
			return nil, err
		}
		return encoded(prefixTo, to)
	}
	if err := s.check(to, to); err != nil {
		return nil, err
	}
	out, err := encoded(prefixTo, to)
	maps.Copy(out, pki.Prefixed(prefixFrom, pki.Unprefixed(prefixTo, out)))
	return out, err
}

// target makes what the rotation leads to; nil where somebody else has to sign it first. What is to be kept besides is put into data.
func (r *Reconciler) target(ctx context.Context, s *scope, data map[string][]byte) (*pki.Bundle, error) {
	ca := s.mesh.Spec.Certificates.CA
	switch ca.Type {
	case v1alpha1.CASourceIstiod:
		return s.own()
	case v1alpha1.CASourceSecret:
		return s.given()
	case v1alpha1.CASourceCertManager:
		return nil, request(data, ca.CertManager.Algorithm, s.intermediate(ca.CertManager.IntermediateSeconds, ""))
	case v1alpha1.CASourceManaged:
		m := pki.ManagedOf(ca)
		if m.Root == v1alpha1.RootOffline {
			return nil, request(data, m.Algorithm, s.intermediate(m.IntermediateSeconds, m.Organization))
		}
		return r.managed(ctx, s, m, data)
	}
	return nil, refuse(v1alpha1.ReasonInvalidCA, fmt.Sprintf("spec.certificates.ca.type %q is not known: an older Meshwright reads a newer spec", ca.Type))
}

// own is the root that istiod made for itself, or a new one where that is gone.
func (s *scope) own() (*pki.Bundle, error) {
	if s.state.SelfSigned != nil {
		b, problems := pki.ReadSelfSigned(s.state.SelfSigned.Data)
		if len(problems) > 0 {
			return nil, wrong("the Secret "+s.state.SelfSigned.Name, problems)
		}
		return b, nil
	}
	m := pki.ManagedOf(v1alpha1.CertificateAuthority{})
	key, err := pki.NewKey(rand.Reader, v1alpha1.RSA2048) // as istiod does
	if err != nil {
		return nil, err
	}
	root, err := pki.NewRoot(rand.Reader, key, s.root(m))
	if err != nil {
		return nil, err
	}
	return &pki.Bundle{Signing: root, Signer: key, Roots: []*x509.Certificate{root}}, nil
}

// given is what the user's Secret holds.
func (s *scope) given() (*pki.Bundle, error) {
	name := s.mesh.Spec.Namespace + "/" + s.mesh.Spec.Certificates.CA.Secret.Name
	if s.state.Source == nil {
		return nil, refuse(v1alpha1.ReasonInvalidCA, "spec.certificates.ca.secret.name: there is no Secret "+name+": create it")
	}
	b, problems := s.state.Offered(s.mesh, s.now)
	if len(problems) > 0 {
		return nil, wrong("the Secret "+name, problems)
	}
	if len(b.Roots) > 1 {
		return nil, refuse(v1alpha1.ReasonInvalidCA, fmt.Sprintf("the Secret %s: root-cert.pem holds %d roots: give the one that the chain leads to", name, len(b.Roots)))
	}
	b.Anchors = nil // it comes before the root that is there: every byte of it is written anew
	return b.Own(), nil
}

// managed makes an intermediate, and a root where another is wanted.
func (r *Reconciler) managed(ctx context.Context, s *scope, m v1alpha1.ManagedCA, data map[string][]byte) (*pki.Bundle, error) {
	find := r.newRoot
	if s.rotation.Spec.Change == v1alpha1.ChangeIntermediate {
		find = r.presentRoot
	}
	root, rootKey, err := find(ctx, s, m)
	if err != nil {
		return nil, err
	}
	if data[keyRoot], err = pki.EncodeKey(rootKey); err != nil {
		return nil, err
	}
	key, err := pki.NewKey(rand.Reader, m.Algorithm)
	if err != nil {
		return nil, err
	}
	intermediate, err := pki.NewIntermediate(rand.Reader, root, rootKey, key.Public(), s.constrained(m, s.intermediate(m.IntermediateSeconds, m.Organization)))
	if err != nil {
		return nil, err
	}
	return &pki.Bundle{Signing: intermediate, Signer: key, Roots: []*x509.Certificate{root}}, nil
}

// newRoot makes a root.
func (r *Reconciler) newRoot(_ context.Context, s *scope, m v1alpha1.ManagedCA) (*x509.Certificate, crypto.Signer, error) {
	key, err := pki.NewKey(rand.Reader, m.Algorithm)
	if err != nil {
		return nil, nil, err
	}
	root, err := pki.NewRoot(rand.Reader, key, s.root(m))
	return root, key, err
}

// presentRoot is the root that is trusted now, with its key, where Meshwright made it.
func (r *Reconciler) presentRoot(ctx context.Context, s *scope, _ v1alpha1.ManagedCA) (*x509.Certificate, crypto.Signer, error) {
	if s.state.Present == nil {
		return nil, nil, refuse(v1alpha1.ReasonInvalidCA, "there is no root yet under which another intermediate could be made: create a MeshRotation with change Source")
	}
	raw, err := r.rootKeyOf(ctx, s)
	if errors.Is(err, errNoRootKey) {
		return nil, nil, refuse(v1alpha1.ReasonInvalidCA, err.Error())
	}
	if err != nil {
		return nil, nil, err
	}
	key, err := pki.ParseKey(raw)
	return s.state.Present.RootOf(), key, err
}

// root and intermediate are what a CA certificate is to be.
func (s *scope) root(m v1alpha1.ManagedCA) pki.AuthorityRequest {
	return pki.AuthorityRequest{
		CommonName: "root of mesh " + s.mesh.Name, Organization: s.organization(m.Organization), Now: s.now, Life: seconds(m.RootSeconds), PathLength: int(m.PathLength),
	}
}

func (s *scope) intermediate(life int32, organization string) pki.AuthorityRequest {
	return pki.AuthorityRequest{CommonName: "istiod of mesh " + s.mesh.Name, Organization: s.organization(organization), Now: s.now, Life: seconds(life)}
}

func (s *scope) constrained(m v1alpha1.ManagedCA, r pki.AuthorityRequest) pki.AuthorityRequest {
	if m.NameConstraints == v1alpha1.NameConstraintsTrustDomain {
		r.TrustDomains = []string{authority.TrustDomain(s.mesh)}
	}
	return r
}

func (s *scope) organization(given string) string {
	if given == "" {
		return s.mesh.Name
	}
	return given
}

func seconds(n int32) time.Duration { return time.Duration(n) * time.Second }

// request puts a new key and what asks for its signature into data.
func request(data map[string][]byte, algorithm v1alpha1.KeyAlgorithm, wanted pki.AuthorityRequest) error {
	key, err := pki.NewKey(rand.Reader, algorithm)
	if err != nil {
		return err
	}
	if data[keyPending], err = pki.EncodeKey(key); err != nil {
		return err
	}
	data[keyOfRequest], err = pki.NewRequest(rand.Reader, key, wanted)
	return err
}

// answered takes in what somebody else has signed, or says what is waited for.
func (r *Reconciler) answered(ctx context.Context, s *scope, kept *corev1.Secret) (*corev1.Secret, error) {
	key, err := pki.ParseKey(kept.Data[keyPending])
	if err != nil {
		return nil, err
	}
	ca := s.mesh.Spec.Certificates.CA
	var chain, roots []*x509.Certificate
	switch {
	case ca.Type == v1alpha1.CASourceCertManager:
		chain, roots, err = r.signedByIssuer(ctx, s, kept.Data[keyOfRequest])
	case ca.Type == v1alpha1.CASourceManaged && ca.Managed != nil && ca.Managed.Answer != nil:
		chain, roots, err = s.signedOffline(key)
	default:
		err = refuse(v1alpha1.ReasonInvalidCA, "spec.certificates.ca has changed since the signature was asked for: set spec.goal to Abort, and create another MeshRotation")
	}
	if err != nil {
		s.show(kept.Data[keyOfRequest])
		return nil, err
	}
	to := (&pki.Bundle{Signing: chain[0], Between: chain[1:], Signer: key, Roots: roots}).Own()
	to.Between = slices.DeleteFunc(to.Between, func(c *x509.Certificate) bool { return slices.ContainsFunc(to.Roots, c.Equal) })
	if problems := to.Check(authority.Rules(s.mesh, s.state.Present, to, s.now)); len(problems) > 0 {
		s.show(kept.Data[keyOfRequest])
		return nil, wrong("what was signed", problems)
	}
	data, err := s.accept(to)
	if err != nil {
		return nil, err
	}
	if err := r.add(ctx, kept, data); err != nil {
		return nil, err
	}
	return r.kept(ctx, s.rotation.Name)
}

// show puts the request into the status for whoever signs it.
func (s *scope) show(request []byte) {
	s.rotation.Status.Request = string(request)
}
