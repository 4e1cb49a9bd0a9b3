// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// TestBytesContainEachOther walks through rotation after rotation, forward and back, and compares the bytes of the roots as istiods up to 1.29 do: what
// they have contains what they get, or is contained in it. What a user has written as the first root stays as it is, to the byte.
func TestBytesContainEachOther(t *testing.T) {
	for reason, first := range map[string]func([]byte) []byte{
		"as we write it":            func(raw []byte) []byte { return raw },
		"without an end of line":    bytes.TrimSpace,
		"with empty lines after it": func(raw []byte) []byte { return append(raw, "\n\n"...) },
		"with words before it":      func(raw []byte) []byte { return append([]byte("the root of all\n"), raw...) },
	} {
		t.Run(reason, func(t *testing.T) {
			present := bundleOf(t, "root 0")
			present.Anchors = first(EncodeCertificates(present.Roots...))
			have := present.Anchors
			for n := range 3 {
				for _, back := range []bool{true, false} {
					next := bundleOf(t, fmt.Sprintf("root %d", n+1))
					plan := &v1alpha1.RotationPlan{Kind: v1alpha1.RotationRoot, From: sideOf(present), To: sideOf(next), Phases: PhasesOf(v1alpha1.RotationRoot, false, false)}
					for _, p := range walkThrough(back) {
						m := Wanted(plan, p)
						data, err := m.Files(false, present, next)
						if err != nil {
							t.Fatal(err)
						}
						get := data[KeyRoots]
						if !bytes.Contains(have, get) && !bytes.Contains(get, have) {
							t.Fatalf("rotation %d, back %t, phase %s: istiod has\n%q\nand gets\n%q", n, back, p.Phase, have, get)
						}
						read, _, problems := Read(data)
						if len(problems) > 0 || !read.Beyond(present, next).Equal(m) {
							t.Fatalf("phase %s: %+v is read as %+v (%v)", p.Phase, m, read.Beyond(present, next), problems)
						}
						have = get
					}
					if !back {
						next.Anchors, present = have, next // as the next rotation reads it
						continue
					}
					present.Anchors = have
				}
			}
			if strings.Contains(reason, "words") && bytes.Contains(have, []byte("all")) {
				t.Error("the words outlived their root")
			}
		})
	}
}

// walkThrough is the progress of a rotation in which each phase had to nudge the agents; back: it turns while leaves change.
func walkThrough(back bool) (out []v1alpha1.RotationProgress) {
	nudged := &metav1.Time{Time: time.Unix(1, 0)}
	add := func(p v1alpha1.RotationProgress) { out = append(out, p) }
	add(v1alpha1.RotationProgress{Phase: v1alpha1.PhaseTrust})
	add(v1alpha1.RotationProgress{Phase: v1alpha1.PhaseTrust, Signs: 1, Nudged: nudged})
	add(v1alpha1.RotationProgress{Phase: v1alpha1.PhaseSign, Signs: 2})
	add(v1alpha1.RotationProgress{Phase: v1alpha1.PhaseDrain, Signs: 3, Nudged: nudged})
	if back {
		add(v1alpha1.RotationProgress{Phase: v1alpha1.PhaseSign, Signs: 4, Back: true})
		add(v1alpha1.RotationProgress{Phase: v1alpha1.PhaseDrain, Signs: 5, Back: true, Nudged: nudged})
	}
	add(v1alpha1.RotationProgress{Phase: v1alpha1.PhaseDrop, Signs: 5, Back: back})
	add(v1alpha1.RotationProgress{Phase: v1alpha1.PhaseDrop, Signs: 5, Back: back, Nudged: nudged})
	return out
}

func bundleOf(t *testing.T, name string) *Bundle {
	t.Helper()
	rootKey, key := newKey(t, v1alpha1.ECDSAP256), newKey(t, v1alpha1.ECDSAP256)
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	root, err := NewRoot(rand.Reader, rootKey, AuthorityRequest{CommonName: name, Now: now, Life: 1000 * time.Hour, PathLength: 1})
	if err != nil {
		t.Fatal(err)
	}
	signing, err := NewIntermediate(rand.Reader, root, rootKey, key.Public(), AuthorityRequest{CommonName: "under " + name, Now: now, Life: 100 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return &Bundle{Signing: signing, Signer: key, Roots: []*x509.Certificate{root}}
}

// A root is found also where it was issued anew long after what it signed.
func TestRootOfWhatIsOlder(t *testing.T) {
	b := bundleOf(t, "old")
	key := newKey(t, v1alpha1.ECDSAP256)
	again, err := NewRoot(rand.Reader, key, AuthorityRequest{CommonName: "root", Now: b.Signing.NotAfter.Add(-time.Hour), Life: time.Hour, PathLength: 1})
	if err != nil {
		t.Fatal(err)
	}
	b.Signing, err = NewIntermediate(rand.Reader, again, key, b.Signer.Public(), AuthorityRequest{CommonName: "under root", Now: b.Signing.NotBefore, Life: 100 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	b.Roots = append(b.Roots, again)
	if got := b.RootOf(); got == nil || !got.Equal(again) {
		t.Errorf("the root is %v, want the one that signed", got)
	}
}

func sideOf(b *Bundle) v1alpha1.RotationAuthority {
	return v1alpha1.RotationAuthority{Root: string(FingerprintOf(b.RootOf())), Issuer: string(b.Issuer())}
}
