// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package validate

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/meshwright/meshwright/operator/analysis"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

func analysisPath() *field.Path { return field.NewPath("spec", "upgrade", "analysis") }

// judgement checks how a rollout judges, and whom it tells.
func judgement(m *v1alpha1.MeshInstallation, f Facts) (errs field.ErrorList, warnings []string) {
	errs, warnings = prometheus(m.Spec.Upgrade.Analysis.Prometheus, f)
	for i, metric := range m.Spec.Upgrade.Analysis.Metrics {
		path := analysisPath().Child("metrics").Index(i)
		errs = append(errs, metricRules(path, metric)...)
		errs = append(errs, cadence(path, metric.Cadence, m.Spec.Upgrade.ProgressDeadlineSeconds)...)
	}
	for i, h := range m.Spec.Upgrade.Analysis.Hooks {
		moreErrs, moreWarnings := hook(analysisPath().Child("hooks").Index(i), h, m.Spec.Upgrade.ProgressDeadlineSeconds)
		errs, warnings = append(errs, moreErrs...), append(warnings, moreWarnings...)
	}
	for _, e := range endpoints(m) {
		errs = append(errs, endpointRules(e.path, e.Endpoint)...)
		errs = append(errs, f.secret(e.path.Child("secretName"), e.SecretName, signatureKey)...)
	}
	return errs, warnings
}

// metricRules checks a query by the grammar of PromQL, and conditions by their types.
func metricRules(path *field.Path, m v1alpha1.Metric) (errs field.ErrorList) {
	if m.Preset != "" {
		if _, err := analysis.Resolve(v1alpha1.Metric{Name: m.Name, Preset: m.Preset}); err != nil {
			errs = append(errs, field.Invalid(path.Child("preset"), m.Preset, err.Error()))
		}
	}
	if m.Query != "" {
		if err := analysis.CheckQuery(m.Query); err != nil {
			errs = append(errs, field.Invalid(path.Child("query"), m.Query, err.Error()))
		}
	}
	for _, condition := range []struct{ name, text string }{
		{"successCondition", m.SuccessCondition}, {"failureCondition", m.FailureCondition},
	} {
		if condition.text == "" {
			continue
		}
		if _, err := analysis.Compile(condition.text); err != nil {
			errs = append(errs, field.Invalid(path.Child(condition.name), condition.text, err.Error()))
		}
	}
	return errs
}

// cadence refuses gates that can't keep a step from its deadline, which begins anew with each measurement.
func cadence(path *field.Path, c v1alpha1.Cadence, deadline int32) (errs field.ErrorList) {
	refuse := func(name string, seconds int32) {
		detail := fmt.Sprintf("a step in which nothing is measured for %d seconds (spec.upgrade.progressDeadlineSeconds) has failed: write less, or raise that", deadline)
		errs = append(errs, field.Invalid(path.Child(name), seconds, detail))
	}
	if deadline > 0 && c.InitialDelaySeconds >= deadline {
		refuse("initialDelaySeconds", c.InitialDelaySeconds)
	}
	if deadline > 0 && c.IntervalSeconds >= deadline && c.Count != 1 {
		refuse("intervalSeconds", c.IntervalSeconds)
	}
	return errs
}

func hook(path *field.Path, h v1alpha1.Hook, deadline int32) (errs field.ErrorList, warnings []string) {
	if h.Webhook != nil && h.When == v1alpha1.HookDuring {
		errs = cadence(path.Child("webhook"), h.Webhook.Cadence, deadline)
	}
	if h.Job == nil {
		return errs, nil
	}
	path = path.Child("job")
	for _, problem := range validation.IsDNS1123Subdomain(h.Job.CronJob) {
		errs = append(errs, field.Invalid(path.Child("cronJob"), h.Job.CronJob, "is no name of a CronJob: "+problem))
	}
	for _, problem := range validation.IsDNS1123Label(h.Job.Namespace) {
		errs = append(errs, field.Invalid(path.Child("namespace"), h.Job.Namespace, "is no name of a namespace: "+problem))
	}
	if deadline > 0 && h.Job.TimeoutSeconds > deadline {
		warnings = append(warnings, fmt.Sprintf("%s: a Job that takes longer than spec.upgrade.progressDeadlineSeconds (%d) fails the rollout: "+
			"write less, or raise that", path.Child("timeoutSeconds"), deadline))
	}
	return errs, warnings
}

// credentials are headers that show who somebody is.
var credentials = []string{"authorization", "proxy-authorization", "cookie"}

func prometheus(p *v1alpha1.PrometheusServer, f Facts) (errs field.ErrorList, warnings []string) {
	if p == nil {
		return nil, nil
	}
	path := analysisPath().Child("prometheus")
	errs = append(errs, address(path.Child("address"), p.Address)...)
	errs = append(errs, certificates(path.Child("caBundle"), p.CABundle)...)
	for i, h := range p.Headers {
		if slices.Contains(credentials, strings.ToLower(h.Name)) {
			detail := "headers can be read by everybody who may read the installation: put the credentials into a Secret, and name it in auth"
			errs = append(errs, field.Forbidden(path.Child("headers").Index(i).Child("name"), h.Name+": "+detail))
		}
	}
	if p.Auth == nil {
		return errs, nil
	}
	secret := path.Child("auth", "secretName")
	for _, problem := range validation.IsDNS1123Subdomain(p.Auth.SecretName) {
		errs = append(errs, field.Invalid(secret, p.Auth.SecretName, "is no name of a Secret: "+problem))
	}
	errs = append(errs, f.secret(secret, p.Auth.SecretName, authKeys(p.Auth.Type)...)...)
	if strings.HasPrefix(p.Address, "http:") {
		warnings = append(warnings, fmt.Sprintf("%s: the credentials of auth can be read on the way: use https", path.Child("address")))
	}
	return errs, warnings
}
