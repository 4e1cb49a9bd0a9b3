// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package framework

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Load is one bounded run of the load client in a pod of its own.
type Load struct {
	// Namespace of the pod; in an enrolled one it gets a sidecar.
	Namespace string
	// Name of the pod.
	Name string
	// URL that is asked.
	URL string
	// Requests in all; QPS is how many a second, over so many Connections.
	Requests, QPS, Connections int
	// HTTP2 instead of HTTP/1.1; Fresh opens a connection for each request, with so many of them at a time.
	HTTP2, Fresh bool
	// Stream is where one request is held open beside the others, whose answer has no end. Empty: nowhere.
	Stream string
}

// arguments of the load client.
func (l Load) arguments() []string {
	out := []string{
		"-url=" + l.URL,
		"-requests=" + strconv.Itoa(l.Requests),
		"-qps=" + strconv.Itoa(l.QPS),
		"-connections=" + strconv.Itoa(l.Connections),
	}
	if l.HTTP2 {
		out = append(out, "-h2")
	}
	if l.Fresh {
		out = append(out, "-fresh")
	}
	if l.Stream != "" {
		out = append(out, "-stream="+l.Stream)
	}
	return out
}

// LoadResult is the summary that the load client prints.
type LoadResult struct {
	// Requests that were sent, and how many of them got no 200.
	Requests int64 `json:"requests"`
	Failed   int64 `json:"failed"`
	// Codes counts answers by HTTP status; -1 stands for a broken connection, and Errors says why those broke.
	Codes  map[string]int64 `json:"codes"`
	Errors map[string]int64 `json:"errors"`
	// Connections that were opened.
	Connections int64 `json:"connections"`
	// FirstFailure and LastFailure are when a request was seen to fail; nil when none was.
	FirstFailure *time.Time `json:"firstFailure"`
	LastFailure  *time.Time `json:"lastFailure"`
	// Stream is the request that was held open; nil when there was none.
	Stream *StreamResult `json:"stream"`
}

// StreamResult says how the request went that was held open.
type StreamResult struct {
	// Opened counts how often it was begun: once, and once more after each breach. Lines came over all.
	Opened int64 `json:"opened"`
	Lines  int64 `json:"lines"`
	// Broken are the ends before the run ended.
	Broken []StreamBreach `json:"broken"`
}

// StreamBreach is when a stream broke, how long it had flowed, and why it broke.
type StreamBreach struct {
	At      time.Time `json:"at"`
	Seconds float64   `json:"seconds"`
	Cause   string    `json:"cause"`
}

// Answer is what an echo application says of itself and of its peer.
type Answer struct {
	Version  string `json:"version"`
	Revision string `json:"revision"`
	Pod      string `json:"pod"`
	// Peer is the identity in the client's certificate, as the sidecar saw it; empty without mTLS.
	Peer string `json:"peer"`
}

// Ask sends one request to port 80 of a gateway's Service, through the API server, and reads the echo's answer.
func (e *Env) Ask(ctx context.Context, gateway client.ObjectKey) (*Answer, error) {
	raw, err := e.Kube.CoreV1().Services(gateway.Namespace).ProxyGet("http", gateway.Name, "80", "/", nil).DoRaw(ctx)
	if err != nil {
		return nil, fmt.Errorf("asking gateway %s: %w", gateway, err)
	}
	var out Answer
	if err := json.Unmarshal(raw, &out); err != nil {
		return nil, fmt.Errorf("gateway %s answered %q: %w", gateway, raw, err)
	}
	return &out, nil
}

// WaitServing waits until an echo application answers through a gateway.
func (e *Env) WaitServing(ctx context.Context, gateway client.ObjectKey) error {
	return e.WaitFor(ctx, "an answer through gateway "+gateway.String(), func(ctx context.Context) (bool, string, error) {
		_, err := e.Ask(ctx, gateway)
		return err == nil, "", err
	})
}

// RunLoad runs a load pod to its end and reads the summary it printed. The pod is removed afterwards.
func (e *Env) RunLoad(ctx context.Context, load Load) (*LoadResult, error) {
	if err := e.StartLoad(ctx, load); err != nil {
		return nil, err
	}
	return e.FinishLoad(ctx, load)
}

// StartLoad starts a load pod; FinishLoad waits for it.
func (e *Env) StartLoad(ctx context.Context, load Load) error {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: load.Namespace, Name: load.Name,
			Labels: map[string]string{"app": load.Name},
			// The client starts when its sidecar can carry its requests.
			Annotations: map[string]string{"proxy.istio.io/config": `{"holdApplicationUntilProxyStarts": true}`},
		},
		Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever,
			Containers: []corev1.Container{{
				Name: "load", Image: LoadImage, ImagePullPolicy: corev1.PullIfNotPresent, Args: load.arguments(),
			}},
		},
	}
	// One that an interrupted run left would be in the way.
	if err := e.Client.Delete(ctx, pod.DeepCopy(), client.GracePeriodSeconds(0)); err == nil {
		if err := e.WaitGone(ctx, pod.DeepCopy()); err != nil {
			return err
		}
	} else if !apierrors.IsNotFound(err) {
		return err
	}
	return e.Client.Create(ctx, pod)
}

// StopLoad has a load client end before all its requests are sent; FinishLoad waits for it. A pod whose time is over is told to end, and
// what it has printed stays, unlike that of one that is deleted.
func (e *Env) StopLoad(ctx context.Context, load Load) error {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: load.Namespace, Name: load.Name}}
	return e.Client.Patch(ctx, pod, client.RawPatch(types.MergePatchType, []byte(`{"spec":{"activeDeadlineSeconds":1}}`)))
}

// FinishLoad waits until the load client of a pod has ended, reads its summary and removes the pod.
func (e *Env) FinishLoad(ctx context.Context, load Load) (*LoadResult, error) {
	key := client.ObjectKey{Namespace: load.Namespace, Name: load.Name}
	err := e.WaitFor(ctx, "load pod "+key.String()+" to end", func(ctx context.Context) (bool, string, error) {
		var pod corev1.Pod
		if err := e.Client.Get(ctx, key, &pod); err != nil {
			return false, "", err
		}
		for _, c := range pod.Status.ContainerStatuses {
			if c.Name == "load" {
				return c.State.Terminated != nil, fmt.Sprintf("%+v", c.State), nil
			}
		}
		return false, string(pod.Status.Phase), nil
	})
	if err != nil {
		return nil, err
	}
	logs, err := e.PodLog(ctx, key, "load")
	if err != nil {
		return nil, err
	}
	result, err := parseLoad(logs)
	if err != nil {
		return nil, fmt.Errorf("load pod %s: %w", key, err)
	}
	return result, e.Client.Delete(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}})
}

// PodLog is what a container has printed so far.
func (e *Env) PodLog(ctx context.Context, key client.ObjectKey, container string) (string, error) {
	raw, err := e.Kube.CoreV1().Pods(key.Namespace).GetLogs(key.Name, &corev1.PodLogOptions{Container: container}).DoRaw(ctx)
	return string(raw), err
}

// parseLoad reads the summary, which is the last line that is a JSON object.
func parseLoad(logs string) (*LoadResult, error) {
	last := ""
	for s := bufio.NewScanner(strings.NewReader(logs)); s.Scan(); {
		if strings.HasPrefix(s.Text(), "{") {
			last = s.Text()
		}
	}
	if last == "" {
		return nil, fmt.Errorf("printed no summary: %q", logs)
	}
	var out LoadResult
	if err := json.Unmarshal([]byte(last), &out); err != nil {
		return nil, fmt.Errorf("summary %q: %w", last, err)
	}
	return &out, nil
}
