// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// HealthGate is the name of the gate that needs no configuration: the gateways' new version against the old one at the same time,
// by the counters of their proxies.
const HealthGate = "health"

// Analysis is how a rollout judges the new version. Each metric and each hook is a gate.
//
// +kubebuilder:validation:XValidation:rule="has(self.prometheus) || !has(self.metrics) || self.metrics.size() == 0",message="metrics are queries to a Prometheus server: write its address into prometheus"
// +kubebuilder:validation:XValidation:rule="!has(self.metrics) || !has(self.hooks) || self.metrics.all(m, !self.hooks.exists(h, h.name == m.name))",message="metrics and hooks: a gate needs a name of its own"
type Analysis struct {
	// Health judges without configuration.
	// +optional
	// +kubebuilder:default={}
	Health Health `json:"health,omitempty"`
	// Prometheus is the server that answers the queries of metrics; anything that speaks its HTTP API.
	// +optional
	Prometheus *PrometheusServer `json:"prometheus,omitempty"`
	// Metrics are gates that ask Prometheus, at steps of type Analysis.
	// Example: [{name: errors, preset: success-rate}].
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=10
	Metrics []Metric `json:"metrics,omitempty"`
	// Hooks are gates that ask a web server, or run a Job.
	// Example: [{name: smoke, when: Before, type: Job, job: {cronJob: smoke, namespace: tests}}].
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=10
	Hooks []Hook `json:"hooks,omitempty"`
}

// Health compares the gateways' new version with the old one while both serve: whether their proxies are connected, in sync and
// reject nothing, whether pods crash, and the shares of requests that fail or are slow.
type Health struct {
	// MinRequests of the new version have to be seen before shares are compared. Default: 50.
	// +optional
	// +kubebuilder:default=50
	// +kubebuilder:validation:Minimum=10
	// +kubebuilder:validation:Maximum=1000000
	MinRequests int32 `json:"minRequests,omitempty"`
	// FalseAlarmPermille bounds how many of a thousand rollouts of a version that is as good as the old one are turned back. It
	// holds for a whole rollout, however often is looked. Default: 10.
	// +optional
	// +kubebuilder:default=10
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=200
	FalseAlarmPermille int32 `json:"falseAlarmPermille,omitempty"`
}

// PrometheusServer is where queries are sent.
type PrometheusServer struct {
	// Address of the server. Example: https://prometheus.monitoring:9090.
	// +required
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:Pattern=`^https?://[^\s?#]+$`
	Address string `json:"address"`
	// CABundle are the certificates that the server's is checked with, as PEM. Default: those of the operator's image.
	// +optional
	// +kubebuilder:validation:MaxLength=65536
	CABundle []byte `json:"caBundle,omitempty"`
	// Auth says how the operator shows who it is. Default: not at all.
	// +optional
	Auth *ServerAuth `json:"auth,omitempty"`
	// Headers are sent with each query; none may be a secret. Example: [{name: X-Scope-OrgID, value: mesh}].
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=10
	Headers []Header `json:"headers,omitempty"`
	// TimeoutSeconds bounds a query. Default: 10.
	// +optional
	// +kubebuilder:default=10
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=60
	TimeoutSeconds int32 `json:"timeoutSeconds,omitempty"`
}

// ServerAuth says how the operator shows who it is.
type ServerAuth struct {
	// Type: Bearer (key token of the Secret) or Basic (keys username and password).
	// +required
	Type AuthType `json:"type"`
	// SecretName is the name of a Secret in the operator's own namespace.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	SecretName string `json:"secretName"`
}

// AuthType says how the operator shows who it is.
// +kubebuilder:validation:Enum=Bearer;Basic
type AuthType string

// The values of AuthType.
const (
	AuthBearer AuthType = "Bearer"
	AuthBasic  AuthType = "Basic"
)

// Header of an HTTP request.
type Header struct {
	// Name of the header.
	// +required
	// +kubebuilder:validation:MaxLength=100
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9-]+$`
	Name string `json:"name"`
	// Value of the header.
	// +required
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:Pattern=`^[^\r\n]*$`
	Value string `json:"value"`
}

// Metric is a gate that asks Prometheus. Its query may name $revision (the new version's), $stable (the old one's), $gateway and
// $namespace (those of each gateway in turn) as values of label matchers, and $window as the range of a selector.
//
// +kubebuilder:validation:XValidation:rule="has(self.preset) != has(self.query)",message="a metric has either a preset or a query"
// +kubebuilder:validation:XValidation:rule="has(self.preset) || has(self.successCondition) || has(self.failureCondition)",message="a query needs a successCondition or a failureCondition, such as result < 0.01"
type Metric struct {
	// Name of the gate.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=40
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	// +kubebuilder:validation:XValidation:rule="self != 'health'",message="health is the gate that needs no configuration"
	Name string `json:"name"`
	// Preset is a ready-made query with its conditions: success-rate, latency-p99, tcp-connect-failures or istiod-push-errors.
	// +optional
	Preset MetricPreset `json:"preset,omitempty"`
	// Query in PromQL. Example: sum(rate(istio_requests_total{pod=~"ingress-$revision-.*", response_code=~"5.."}[$window])).
	// +optional
	// +kubebuilder:validation:MaxLength=4096
	Query string `json:"query,omitempty"`
	// SuccessCondition in CEL: result is the value of a query with one, results the list of the values of any. Without a
	// FailureCondition, what is no success is a failure; with both, what is neither is inconclusive. Example: result < 0.01.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	SuccessCondition string `json:"successCondition,omitempty"`
	// FailureCondition in CEL; without a SuccessCondition, what is no failure is a success. Example: result > 0.05.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	FailureCondition string `json:"failureCondition,omitempty"`
	// Cadence of the measurements.
	Cadence `json:",inline"`
	// WindowSeconds is what $window stands for. Default: 60.
	// +optional
	// +kubebuilder:default=60
	// +kubebuilder:validation:Minimum=5
	// +kubebuilder:validation:Maximum=86400
	WindowSeconds int32 `json:"windowSeconds,omitempty"`
}

// Cadence says how often a gate measures and how much may fail.
type Cadence struct {
	// InitialDelaySeconds before the first measurement. Default: 0.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=86400
	InitialDelaySeconds int32 `json:"initialDelaySeconds,omitempty"`
	// IntervalSeconds between measurements. Default: 30.
	// +optional
	// +kubebuilder:default=30
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=86400
	IntervalSeconds int32 `json:"intervalSeconds,omitempty"`
	// Count of successful measurements that pass the gate. Default: 3.
	// +optional
	// +kubebuilder:default=3
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	Count int32 `json:"count,omitempty"`
	// FailureLimit is how many measurements may fail; one more fails the gate. Default: 0.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000
	FailureLimit int32 `json:"failureLimit,omitempty"`
	// InconclusiveLimit is how many measurements in a row may say nothing; one more pauses the rollout until that changes or somebody
	// approves the step. Default: 3.
	// +optional
	// +kubebuilder:default=3
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000
	InconclusiveLimit int32 `json:"inconclusiveLimit,omitempty"`
}

// MetricPreset is a ready-made query.
// +kubebuilder:validation:Enum=success-rate;latency-p99;tcp-connect-failures;istiod-push-errors
type MetricPreset string

// The values of MetricPreset.
const (
	PresetSuccessRate        MetricPreset = "success-rate"
	PresetLatencyP99         MetricPreset = "latency-p99"
	PresetTCPConnectFailures MetricPreset = "tcp-connect-failures"
	PresetIstiodPushErrors   MetricPreset = "istiod-push-errors"
)

// Hook is a gate that asks a web server, or runs a Job.
//
// +kubebuilder:validation:XValidation:rule="(self.type == 'Webhook') == has(self.webhook)",message="webhook is required for type Webhook, and for no other"
// +kubebuilder:validation:XValidation:rule="(self.type == 'Job') == has(self.job)",message="job is required for type Job, and for no other"
type Hook struct {
	// Name of the gate.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=40
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	// +kubebuilder:validation:XValidation:rule="self != 'health'",message="health is the gate that needs no configuration"
	Name string `json:"name"`
	// When it is asked: Before (once, before anything moves), During (at each step of type Analysis) or After (once, when
	// everything has moved, before promotion).
	// +required
	When HookTime `json:"when"`
	// Type: Webhook or Job.
	// +required
	Type HookType `json:"type"`
	// Webhook that is asked.
	// +optional
	Webhook *WebhookHook `json:"webhook,omitempty"`
	// Job that is run.
	// +optional
	Job *JobHook `json:"job,omitempty"`
}

// HookTime says when a hook is asked.
// +kubebuilder:validation:Enum=Before;During;After
type HookTime string

// The values of HookTime.
const (
	HookBefore HookTime = "Before"
	HookDuring HookTime = "During"
	HookAfter  HookTime = "After"
)

// HookType says what a hook is.
// +kubebuilder:validation:Enum=Webhook;Job
type HookType string

// The values of HookType.
const (
	HookWebhook HookType = "Webhook"
	HookJob     HookType = "Job"
)

// WebhookHook is a server that is asked with POST. Status 200 to 299 is a success, 409 and 412 a failure, and everything else says
// nothing.
type WebhookHook struct {
	// Endpoint that is asked.
	Endpoint `json:",inline"`
	// Cadence of the questions, for hooks that are asked During.
	Cadence `json:",inline"`
}

// Endpoint is a web server that is sent something with POST. A body is signed with HMAC-SHA256 when there is a key: header
// Meshwright-Signature.
type Endpoint struct {
	// URL of the server; https, or http to a loopback address. Example: https://gates.example.com/mesh.
	// +required
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:Pattern=`^(https://[^\s]+|http://(127\.0\.0\.1|localhost|\[::1\])[:/][^\s]*)$`
	URL string `json:"url"`
	// CABundle are the certificates that the server's is checked with, as PEM. Default: those of the operator's image.
	// +optional
	// +kubebuilder:validation:MaxLength=65536
	CABundle []byte `json:"caBundle,omitempty"`
	// SecretName is the name of a Secret in the operator's own namespace whose key hmac signs the body. Default: not signed.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	SecretName string `json:"secretName,omitempty"`
	// TimeoutSeconds bounds one question. Default: 10.
	// +optional
	// +kubebuilder:default=10
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=300
	TimeoutSeconds int32 `json:"timeoutSeconds,omitempty"`
	// Retries of a question that got no answer. Default: 3.
	// +optional
	// +kubebuilder:default=3
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10
	Retries int32 `json:"retries,omitempty"`
}

// JobHook runs a Job from the template of a CronJob, as kubectl create job --from does. A Job that completes is a success, one that
// fails a failure.
type JobHook struct {
	// CronJob whose template is run; it may be suspended.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=52
	CronJob string `json:"cronJob"`
	// Namespace of the CronJob and of the Job.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace"`
	// TimeoutSeconds after which a Job that has not ended says nothing. Default: 600.
	// +optional
	// +kubebuilder:default=600
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=86400
	TimeoutSeconds int32 `json:"timeoutSeconds,omitempty"`
}

// Notification is a server that is told of each decision, as a CloudEvent in structured mode. Nothing waits for it.
type Notification struct {
	// Name of the notification.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=40
	Name string `json:"name"`
	// Endpoint that is told.
	Endpoint `json:",inline"`
}

// GateProgress is how far a gate is. Counts are those of the present step, except Looks.
type GateProgress struct {
	// Name of the gate.
	Name string `json:"name"`
	// State: Waiting, Measuring, Inconclusive, Passed or Failed.
	State GateState `json:"state"`
	// Succeeded, Failed and Inconclusive count measurements; Inconclusive those since the last that said something.
	// +optional
	Succeeded int32 `json:"succeeded,omitempty"`
	// +optional
	Failed int32 `json:"failed,omitempty"`
	// +optional
	Inconclusive int32 `json:"inconclusive,omitempty"`
	// Looks counts how often the gate health has compared shares in this rollout: each look has a part of the false alarms that
	// are allowed.
	// +optional
	Looks int32 `json:"looks,omitempty"`
	// Last is when it measured last.
	// +optional
	Last *metav1.Time `json:"last,omitempty"`
	// Message says what was seen.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`
}

// GateState is how far a gate is.
// +kubebuilder:validation:Enum=Waiting;Measuring;Inconclusive;Passed;Failed
type GateState string

// The values of GateState.
const (
	GateWaiting      GateState = "Waiting"
	GateMeasuring    GateState = "Measuring"
	GateInconclusive GateState = "Inconclusive"
	GatePassed       GateState = "Passed"
	GateFailed       GateState = "Failed"
)
