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
	err = e.editOperator(ctx, func(o *appsv1.Deployment) {
		without(o) // an interrupted run may have left it
		pod := &o.Spec.Template.Spec
		pod.Volumes = append(pod.Volumes, corev1.Volume{Name: "charts", VolumeSource: corev1.VolumeSource{
			ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: charts.Name}},
		}})
		c := &pod.Containers[0]
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "charts", MountPath: "/charts"})
		c.Args = append(c.Args, "--bundle-folder=/charts")
	})
	//nolint:contextcheck // it is called when the test's own context has ended
	return func() error {
		if err := e.editOperator(context.Background(), without); err != nil {
			return err
		}
		return client.IgnoreNotFound(e.Client.Delete(context.Background(), charts))
	}, err
}

// editOperator changes the operator's Deployment and waits until it runs so.
func (e *Env) editOperator(ctx context.Context, change func(*appsv1.Deployment)) error {
	var operator appsv1.Deployment
	key := client.ObjectKey{Namespace: OperatorNamespace, Name: OperatorDeployment}
	if err := e.Client.Get(ctx, key, &operator); err != nil {
		return err
	}
	before := operator.DeepCopy()
	change(&operator)
	if err := e.Client.Patch(ctx, &operator, client.MergeFrom(before)); err != nil {
		return err
	}
	return e.WaitDeployment(ctx, key)
}

// without takes the volume of charts out of a Deployment.
func without(operator *appsv1.Deployment) {
	pod := &operator.Spec.Template.Spec
	pod.Volumes = slices.DeleteFunc(pod.Volumes, func(v corev1.Volume) bool { return v.Name == "charts" })
	c := &pod.Containers[0]
	c.VolumeMounts = slices.DeleteFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == "charts" })
	c.Args = slices.DeleteFunc(c.Args, func(arg string) bool { return arg == "--bundle-folder=/charts" })
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
