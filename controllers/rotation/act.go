// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/authority"
	"github.com/meshwright/meshwright/operator/dataplane"
	"github.com/meshwright/meshwright/operator/pki"
	"github.com/meshwright/meshwright/operator/render"
)

// errLate says that what was decided was decided on something that has changed meanwhile. It is decided again.
var errLate = errors.New("what was read was late")

// live asks the API server itself whether the act is still the one that was decided.
func (r *Reconciler) live(ctx context.Context, s *scope) error {
	var now v1alpha1.MeshRotation
	if err := r.Live.Get(ctx, client.ObjectKeyFromObject(s.rotation), &now); err != nil {
		return err
	}
	var mesh v1alpha1.MeshInstallation
	if err := r.Live.Get(ctx, client.ObjectKeyFromObject(s.mesh), &mesh); err != nil {
		return err
	}
	granted, _ := grantedTo(s.rotation, &mesh)
	if !granted || dataplane.Removing(&mesh) || mesh.Spec.Paused || now.Spec.Paused || now.UID != s.rotation.UID || now.Spec.Goal != s.rotation.Spec.Goal ||
		!apiequality.Semantic.DeepEqual(now.Status.Progress, s.rotation.Status.Progress) {
		return errLate
	}
	return nil
}

// write makes cacerts what the phase wants; nil: it is taken away. It is refused when the Secret is not the one on which that was decided.
func (r *Reconciler) write(ctx context.Context, s *scope, made *sides, data map[string][]byte) error {
	if err := r.live(ctx, s); err != nil {
		return err
	}
	key := client.ObjectKey{Namespace: s.mesh.Spec.Namespace, Name: authority.CACerts}
	var there corev1.Secret
	err := r.Live.Get(ctx, key, &there)
	missing := apierrors.IsNotFound(err)
	if err != nil && !missing {
		return err
	}
	known := s.state.CACerts
	if missing != (known == nil) || known != nil && (there.UID != known.UID || there.ResourceVersion != known.ResourceVersion) {
		return errLate
	}
	if data == nil {
		return r.handOver(ctx, s, made, &there)
	}
	next := there.DeepCopy()
	next.Namespace, next.Name, next.Data = key.Namespace, key.Name, data
	if next.Annotations == nil {
		next.Annotations = map[string]string{}
	}
	next.Annotations[v1alpha1.AnnotationWritten] = authority.Digest(data)
	if missing {
		err = r.Client.Create(ctx, next, client.FieldOwner(v1alpha1.ManagerRotation))
	} else {
		err = r.Client.Update(ctx, next, client.FieldOwner(v1alpha1.ManagerRotation)) // refused when somebody wrote since it was read
	}
	if err != nil {
		return hidden(err)
	}
	return r.hurry(ctx, s, next)
}

// handOver leaves istiod its own root, and takes the plugged-in one away. Istiod must find its own: it would make another one.
func (r *Reconciler) handOver(ctx context.Context, s *scope, made *sides, cacerts *corev1.Secret) error {
	last, own := made.last(s.rotation.Status.Progress.Back), &corev1.Secret{}
	err := r.Live.Get(ctx, client.ObjectKey{Namespace: s.mesh.Spec.Namespace, Name: authority.SelfSigned}, own)
	switch {
	case apierrors.IsNotFound(err):
		key, keyErr := pki.EncodeKey(last.Signer)
		if keyErr != nil {
			return keyErr
		}
		own = &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: s.mesh.Spec.Namespace, Name: authority.SelfSigned}, Type: selfSignedType,
			Data: map[string][]byte{pki.KeySigningCertificate: pki.EncodeCertificates(last.Signing), pki.KeySigningKey: key},
		}
		if err := r.Client.Create(ctx, own, client.FieldOwner(v1alpha1.ManagerRotation)); err != nil {
			return hidden(err)
		}
	case err != nil:
		return err
	default:
		b, problems := pki.ReadSelfSigned(own.Data)
		if len(problems) > 0 || b.Issuer() != last.Issuer() {
			return fmt.Errorf("the Secret %s does not hold the root that istiod is to sign with: put that back, or delete the Secret", authority.SelfSigned)
		}
	}
	return client.IgnoreNotFound(r.Client.Delete(ctx, cacerts, client.Preconditions{UID: &cacerts.UID, ResourceVersion: &cacerts.ResourceVersion}))
}

// selfSignedType is the type of istiod's own Secret.
//
// Source: istio security/pkg/pki/ca/ca.go, 1.26 to 1.31.
const selfSignedType = "istio.io/ca-root"

// hidden takes what a refused request held out of an error: the API server's own words may quote it.
func hidden(err error) error {
	if apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) {
		return fmt.Errorf("the API server refused a Secret of the CA: %s", apierrors.ReasonForError(err))
	}
	return err
}

// hurry annotates istiod's pods: the kubelet brings a Secret to the files of a pod at once when the pod changes, and else within about a minute.
func (r *Reconciler) hurry(ctx context.Context, s *scope, cacerts *corev1.Secret) error {
	pods, err := istiodPods(ctx, r.Owned.Client, s.mesh)
	if err != nil {
		return err
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{hurryAnnotation: cacerts.ResourceVersion}}})
	if err != nil {
		return err
	}
	for i := range pods {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: pods[i].Namespace, Name: pods[i].Name}}
		if err := r.Client.Patch(ctx, pod, client.RawPatch(types.MergePatchType, patch)); client.IgnoreNotFound(err) != nil {
			return err
		}
	}
	return nil
}

// hurryAnnotation is on istiod's pods: which cacerts they are to read.
const hurryAnnotation = "meshwright.io/cacerts"

// restart makes istiods start anew, by their Deployments, a revision at a time as fast as that allows. The mark is the same for the same phase, so
// that a repeated restart is none.
func (r *Reconciler) restart(ctx context.Context, s *scope, d pki.Decision) error {
	if err := r.live(ctx, s); err != nil {
		return err
	}
	pods, err := istiodPods(ctx, r.Owned.Client, s.mesh)
	if err != nil {
		return err
	}
	blind := map[string]bool{}
	for _, name := range d.Restart {
		blind[name] = true
	}
	mark := markOf(s.rotation, d.Progress)
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"template": map[string]any{
		"metadata": map[string]any{"annotations": map[string]string{v1alpha1.AnnotationRestartedFor: mark}},
	}}})
	if err != nil {
		return err
	}
	done := map[string]bool{}
	for i := range pods {
		revision := pods[i].Labels[v1alpha1.LabelRevision]
		if !blind[pods[i].Name] || done[revision] {
			continue
		}
		done[revision] = true
		key := client.ObjectKey{Namespace: pods[i].Namespace, Name: render.IstiodName(revision)}
		istiod, err := r.Owned.Get(ctx, appsv1.SchemeGroupVersion.WithKind("Deployment"), key)
		if err != nil || istiod == nil || markedWith(istiod, mark) {
			return err
		}
		object := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}
		return client.IgnoreNotFound(r.Client.Patch(ctx, object, client.RawPatch(types.StrategicMergePatchType, patch), client.FieldOwner(v1alpha1.ManagerRotation)))
	}
	return nil
}

// markOf tells the restarts of phases apart.
func markOf(o *v1alpha1.MeshRotation, p v1alpha1.RotationProgress) string {
	return o.Name + "-" + strings.ToLower(string(p.Phase))
}
