// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// maxUnpacked bounds what Unpack takes from a compressed list: a control plane is about 200 KB.
const maxUnpacked = 16 << 20

// Pack writes objects as a compressed JSON array; equal objects make equal bytes.
func Pack(objects []*unstructured.Unstructured) ([]byte, error) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if err := json.NewEncoder(z).Encode(objects); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// Unpack reads what Pack wrote.
func Unpack(packed []byte) ([]*unstructured.Unstructured, error) {
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, fmt.Errorf("packed objects: %w", err)
	}
	raw, err := io.ReadAll(io.LimitReader(z, maxUnpacked+1))
	if err != nil {
		return nil, fmt.Errorf("packed objects: %w", err)
	}
	if len(raw) > maxUnpacked {
		return nil, fmt.Errorf("packed objects: larger than %d MiB", maxUnpacked>>20)
	}
	var items []json.RawMessage
	if err := json.Unmarshal(raw, &items); err != nil {
		return nil, fmt.Errorf("packed objects: %w", err)
	}
	out := make([]*unstructured.Unstructured, len(items))
	for i, item := range items {
		out[i] = &unstructured.Unstructured{}
		if err := out[i].UnmarshalJSON(item); err != nil {
			return nil, fmt.Errorf("packed objects: %w", err)
		}
	}
	return out, nil
}

// InputsDigest is a digest over everything of a request that a user or the choice of a version decides. The charts
// themselves are left out: a newer build of the operator, which may hold other bytes of the same version, moves nothing.
func (r Request) InputsDigest() (string, error) {
	inputs := map[string]any{
		"version": r.Bundle.Version(), "mesh": r.Mesh, "revision": r.Revision, "namespace": r.Namespace,
		"images": r.Images, "values": r.Values, "meshConfig": r.MeshConfig,
	}
	if r.LeafSeconds != 0 {
		inputs["leafSeconds"] = r.LeafSeconds
	}
	return digest(inputs)
}

// Made says whether a revision, nil for none, has the version of a request and was made from the same inputs, under its own name.
func (r Request) Made(revision *v1alpha1.MeshRevision) (bool, error) {
	if revision == nil || revision.Spec.Version != r.Bundle.Version() {
		return false, nil
	}
	r.Revision = revision.Name
	inputs, err := r.InputsDigest()
	return revision.Spec.InputsDigest == inputs, err
}

// InputsDigest is the same for a gateway.
func (r GatewayRequest) InputsDigest() (string, error) {
	return digest(map[string]any{
		"version": r.Bundle.Version(), "bundle": r.Bundle.Digest(), "kubernetes": r.KubeVersion,
		"mesh": r.Mesh, "revision": r.Revision, "pullSecrets": r.Images.PullSecrets,
		"name": r.Name, "namespace": r.GatewayNamespace, "values": r.GatewayValues, "shift": r.Shift,
	})
}

// digest hashes a value through JSON, whose maps are sorted.
func digest(v any) (string, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:]), nil
}
