// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package framework

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// StampAnew gives the operator the charts of one Istio version once more under the name of another one, and the cluster its images
// under that name: a patch release that differs in nothing but its stamp. Restore takes the charts away.
func (e *Env) StampAnew(ctx context.Context, version, as string) (restore func() error, err error) {
	archive, err := restamp(filepath.Join(e.Root, "bundles", "istio", "builtin", "istio-"+version+".tgz"), version, as)
	if err != nil {
		return nil, err
	}
	for _, image := range []string{"pilot", "proxyv2"} {
		if err := e.Cluster.Tag(ctx, Hub+"/"+image+":"+version, Hub+"/"+image+":"+as); err != nil {
			return nil, err
		}
	}
	charts := &corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{Namespace: OperatorNamespace, Name: "charts"},
		BinaryData: map[string][]byte{"istio-" + as + ".tgz": archive},
	}
	if err := e.apply(ctx, charts); err != nil {
		return nil, err
	}
	var operator appsv1.Deployment
	key := client.ObjectKey{Namespace: OperatorNamespace, Name: OperatorDeployment}
	if err := e.Client.Get(ctx, key, &operator); err != nil {
		return nil, err
	}
	before := operator.DeepCopy()
	pod := &operator.Spec.Template.Spec
	pod.Volumes = append(pod.Volumes, corev1.Volume{Name: "charts", VolumeSource: corev1.VolumeSource{
		ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: charts.Name}},
	}})
	pod.Containers[0].VolumeMounts = append(pod.Containers[0].VolumeMounts, corev1.VolumeMount{Name: "charts", MountPath: "/charts"})
	pod.Containers[0].Args = append(slices.Clone(pod.Containers[0].Args), "--bundle-folder=/charts")
	if err := e.Client.Patch(ctx, &operator, client.MergeFrom(before)); err != nil {
		return nil, err
	}
	//nolint:contextcheck // it is called when the test's own context has ended
	restore = func() error {
		ctx := context.Background()
		var now appsv1.Deployment
		if err := e.Client.Get(ctx, key, &now); err != nil {
			return err
		}
		changed := now.DeepCopy()
		now.Spec.Template.Spec.Volumes = before.Spec.Template.Spec.Volumes
		now.Spec.Template.Spec.Containers = before.Spec.Template.Spec.Containers
		if err := e.Client.Patch(ctx, &now, client.MergeFrom(changed)); err != nil {
			return err
		}
		if err := e.WaitDeployment(ctx, key); err != nil {
			return err
		}
		return client.IgnoreNotFound(e.Client.Delete(ctx, charts))
	}
	return restore, e.WaitDeployment(ctx, key)
}

// restamp reads an archive of charts and writes it with another version wherever one was stamped.
func restamp(file, version, as string) ([]byte, error) {
	in, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	unzipped, err := gzip.NewReader(in)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	zipped := gzip.NewWriter(&out)
	from, to := tar.NewReader(unzipped), tar.NewWriter(zipped)
	for {
		header, err := from.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		data, err := io.ReadAll(from)
		if err != nil {
			return nil, err
		}
		data = bytes.ReplaceAll(data, []byte(version), []byte(as))
		header.Size = int64(len(data))
		if err := to.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := to.Write(data); err != nil {
			return nil, err
		}
	}
	if err := to.Close(); err != nil {
		return nil, err
	}
	if err := zipped.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
