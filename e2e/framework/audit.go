// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package framework

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// AuditEvent is what the API server wrote down of one request, as far as it is used here.
type AuditEvent struct {
	Verb       string `json:"verb"`
	RequestURI string `json:"requestURI"`
	UserAgent  string `json:"userAgent"`
	User       struct {
		Username string `json:"username"`
	} `json:"user"`
	ObjectRef struct {
		Resource    string `json:"resource"`
		Subresource string `json:"subresource"`
		Namespace   string `json:"namespace"`
		Name        string `json:"name"`
	} `json:"objectRef"`
	ResponseStatus struct {
		Code int `json:"code"`
	} `json:"responseStatus"`
	Received time.Time `json:"requestReceivedTimestamp"`
}

// OperatorUser is who the operator is to the API server.
const OperatorUser = "system:serviceaccount:" + OperatorNamespace + ":" + OperatorDeployment

// Background says whether a request would have been made without any object of the operator: leases of the leader
// election, and the watches that every client renews.
func (a AuditEvent) Background() bool {
	return a.ObjectRef.Resource == "leases" || a.Verb == "watch" ||
		a.ObjectRef.Resource == "tokenreviews" || a.ObjectRef.Resource == "subjectaccessreviews"
}

// Write says whether the request changed something.
func (a AuditEvent) Write() bool {
	switch a.Verb {
	case "create", "update", "patch", "delete", "deletecollection":
		return true
	}
	return false
}

// AuditSince records requests to the API server from now on. Stop reads them.
type AuditSince struct {
	env    *Env
	offset int64
}

// Audit starts a recording of the API server's audit log.
func (e *Env) Audit(ctx context.Context) (*AuditSince, error) {
	if err := e.auditMarker(ctx); err != nil {
		return nil, err
	}
	info, err := os.Stat(e.Cluster.AuditLog())
	if err != nil {
		return nil, err
	}
	return &AuditSince{env: e, offset: info.Size()}, nil
}

// Stop ends the recording and returns the events that keep, in the order of the log.
func (a *AuditSince) Stop(ctx context.Context, keep func(AuditEvent) bool) ([]AuditEvent, error) {
	if err := a.env.auditMarker(ctx); err != nil {
		return nil, err
	}
	file, err := os.Open(a.env.Cluster.AuditLog())
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if _, err := file.Seek(a.offset, io.SeekStart); err != nil {
		return nil, err
	}
	var out []AuditEvent
	lines := bufio.NewReader(file)
	for {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF {
			return out, nil // a line that is still being written belongs to the next recording
		}
		if err != nil {
			return nil, err
		}
		var event AuditEvent
		if err := json.Unmarshal(line, &event); err != nil {
			return nil, fmt.Errorf("audit log: %w", err)
		}
		if keep(event) {
			out = append(out, event)
		}
	}
}

// auditMarker makes a request that only it makes and waits until the log holds it: what came before is then in the
// log too, since the log is written in batches.
func (e *Env) auditMarker(ctx context.Context) error {
	marker := fmt.Sprintf("audit-marker-%d", time.Now().UnixNano())
	var none corev1.ConfigMap
	err := e.Client.Get(ctx, client.ObjectKey{Namespace: metav1.NamespaceDefault, Name: marker}, &none)
	if client.IgnoreNotFound(err) != nil {
		return err
	}
	return e.WaitFor(ctx, "the audit log to hold a request", func(context.Context) (bool, string, error) {
		tail, err := tail(e.Cluster.AuditLog(), 256<<10)
		return strings.Contains(tail, marker), "not in the last 256 KiB", err
	})
}

func tail(path string, bytes int64) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return "", err
	}
	if _, err := file.Seek(max(0, info.Size()-bytes), io.SeekStart); err != nil {
		return "", err
	}
	raw, err := io.ReadAll(file)
	return string(raw), err
}

// OperatorRequests keeps what the operator asked for, beyond its background.
func OperatorRequests(event AuditEvent) bool {
	return event.User.Username == OperatorUser && !event.Background()
}
