// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// seeds are secrets, and where they are put.
var seeds = map[string]string{
	"data of a Secret":                    "seed-of-a-secret-object",
	"variable named so":                   "seed-of-a-variable",
	"variable with a token":               "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzZWVkIn0.c2VlZHNlZWRzZWVk",
	"variable with an address":            "seed-user:seed-pass-in-a-url",
	"flag":                                "seed-of-a-flag",
	"flag and its value apart":            "seed-after-a-flag",
	"value named so":                      "seed-of-a-value",
	"value below a name":                  "seed-below-a-name",
	"list of tokens":                      "seed-in-a-list",
	"mesh configuration in a text":        "seed-in-yaml-in-a-text",
	"path of a chat hook":                 "T00SEED/B00SEED/seedseedseedseed",
	"query of a hook":                     "seed-in-a-query",
	"user of a hook":                      "seed-user-of-a-hook",
	"header":                              "seed-in-a-header",
	"last applied manifest":               "seed-that-was-applied",
	"annotation of somebody":              "seed-of-an-annotation",
	"annotation of Kubernetes":            "seed-named-by-an-annotation",
	"rendered objects":                    base64.StdEncoding.EncodeToString([]byte("seed rendered into a revision")),
	"private key in a log":                "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgc2VlZHNlZWRzZWVkc2Vl",
	"private key that was cut off":        "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQDJc2VlZHNlZWRzZWVk",
	"bearer token in a log":               "seed.bearer.token.value",
	"password in a log":                   "seed-logged-password",
	"JSON in a log":                       "seed-in-logged-json",
	"token of a forge":                    "ghp_seedseedseedseedseedseedseedseed1234",
	"key of a cloud":                      "AKIASEEDSEEDSEEDSEED",
	"event":                               "seed-in-an-event",
	"private key in a webhook's caBundle": "MC4CAQAwBQYDK2VwBCIEIHNlZWRzZWVkc2VlZHNlZWRzZWVkc2VlZHNlZWQw",
	"certificate's key below a name":      "seed-tls-private",
	"error of a log":                      "seed-in-an-error",
	"flag and its value in one word":      "seed-within-a-word",
	"command of a shell":                  "seed-of-a-shell",
	"variable with a short name":          "seed-short",
	"variable that nobody knows":          "seed-unknown-variable",
	"address of a hook in a variable":     "seed-of-a-channel/abc-def",
	"key of credentials":                  "seed-credential-key",
	"flag in a log":                       "seed-logged-flag",
	"hook in a log":                       "seed-logged-hook",
	"label of a namespace":                "seed-of-a-label",
	"variable of proxies":                 "abc123-seed",
	"variable of proxies in YAML":         "abc124-seed",
	"variable of a proxy's configuration": "abc125-seed",
	"variable of a proxy's annotation":    "abc126-seed",
	"annotation in a variable":            "abc127-seed",
	"variable of proxies in a log":        "abc128-seed",
	"another's pod beside the operator":   "seed-of-another-operator",
}

// log is what an operator logs that should know better.
func seededLog() string {
	return strings.Join([]string{
		seeds["private key that was cut off"], "-----END RSA PRIVATE KEY-----",
		"starting revision 1-29-1, digest sha256:" + strings.Repeat("3145dbd2", 8),
		"-----BEGIN EC PRIVATE KEY-----", seeds["private key in a log"], "-----END EC PRIVATE KEY-----",
		`{"msg":"pem","key":"-----BEGIN PRIVATE KEY-----\n` + seeds["private key in a log"] + `\n-----END PRIVATE KEY-----\n"}`,
		"request with Authorization: Bearer " + seeds["bearer token in a log"],
		"curl -H 'authorization: bearer " + seeds["bearer token in a log"] + "'",
		"login password=" + seeds["password in a log"] + " user=me",
		`{"level":"info","client_secret":"` + seeds["JSON in a log"] + `","ok":true}`,
		"jwt " + seeds["variable with a token"], "git " + seeds["token of a forge"] + " aws " + seeds["key of a cloud"],
		"running mysql --password " + seeds["flag in a log"] + " shop", "POST https://discord.com/api/webhooks/1/" + seeds["hook in a log"] + ": 500",
		"GET https://" + seeds["variable with an address"] + "@example.com/a?sig=" + seeds["query of a hook"],
		"mesh configuration: {\n    \"defaultConfig\": {\n        \"proxyMetadata\": {\n            \"LICENSE_BLOB\": \"" + seeds["variable of proxies in a log"] + "\"\n        },\n        \"concurrency\": 5",
		seededLines(),
	}, "\n")
}

func seededPod(namespace, name string, labels map[string]string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: name, Labels: labels, ManagedFields: []metav1.ManagedFieldsEntry{{
				Manager: "seed-manager", Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "v1", FieldsType: "FieldsV1", Time: at(0), FieldsV1: metav1.NewFieldsV1("{}"),
			}},
			Annotations: map[string]string{
				"kubectl.kubernetes.io/last-applied-configuration": `{"a":"` + seeds["last applied manifest"] + `"}`,
				"vault.example.com/role":                           seeds["annotation of somebody"],
				"example.kubernetes.io/api-token":                  seeds["annotation of Kubernetes"],
				"proxy.istio.io/config":                            "concurrency: 3\nproxyMetadata:\n  LICENSE_BLOB: " + seeds["variable of a proxy's annotation"] + "\n",
			},
		},
		Spec: corev1.PodSpec{
			Containers: []corev1.Container{{
				Name: "discovery", Image: "istio/pilot:1.29.1",
				Args: []string{
					"--log-level=info", "--db-password=" + seeds["flag"], "--token", seeds["flag and its value apart"], "serve",
					"--token " + seeds["flag and its value in one word"], "mysql -u me --secret " + seeds["command of a shell"] + "; true",
				},
				Env: []corev1.EnvVar{
					{Name: "DB_PASSWORD", Value: seeds["variable named so"]},
					{Name: "IDENTITY", Value: seeds["variable with a token"]},
					{Name: "DATABASE", Value: "postgres://" + seeds["variable with an address"] + "@db.example.com/shop"},
					{Name: "DB_PASS", Value: seeds["variable with a short name"]},
					{Name: "REDIS_AUTH", Value: seeds["variable with a short name"]},
					{Name: "FLAVOUR", Value: seeds["variable that nobody knows"]},
					{Name: "PILOT_NOTIFY", Value: "https://discord.com/api/webhooks/1/" + seeds["address of a hook in a variable"]},
					{Name: "PROXY_CONFIG", Value: `{"concurrency":2,"proxyMetadata":{"LICENSE_BLOB":"` + seeds["variable of a proxy's configuration"] + `","ISTIO_META_DNS_CAPTURE":"true"}}`},
					{Name: "ISTIO_METAJSON_ANNOTATIONS", Value: `{"vault.example.com/role":"` + seeds["annotation in a variable"] + `",
						"proxy.istio.io/config":"proxyMetadata:\n  LICENSE_BLOB: ` + seeds["annotation in a variable"] + `"}`},
					{Name: "PILOT_TRACE_SAMPLING", Value: "1.0"},
					{Name: "SECRET_TTL", Value: "24h0m0s"},
				},
			}},
			Volumes: []corev1.Volume{{Name: "cacerts", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "cacerts"}}}},
		},
		Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Name: "discovery", RestartCount: 1}}},
	}
}

// seededOther is a pod of somebody else in the operator's namespace.
func seededOther() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "meshwright-system", Name: "other-1", Labels: map[string]string{"app": "other"}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name: "other", Image: "other", Env: []corev1.EnvVar{{Name: "PILOT_OTHER", Value: seeds["another's pod beside the operator"]}},
		}}},
	}
}

func seededObjects(t *testing.T) []client.Object {
	t.Helper()
	mesh := aMesh()
	mesh.Spec.ControlPlane.Values = &apiextensionsv1.JSON{Raw: []byte(`{"pilot":{"dbPassword":"` + seeds["value named so"] + `","env":{"API_TOKEN":"` + seeds["value named so"] + `"}},
		"secrets":{"db":{"hidden":"` + seeds["value below a name"] + `"}},"tokens":["` + seeds["list of tokens"] + `"],"autoscaleMin":2,
		"tls":{"privateKey":"` + seeds["certificate's key below a name"] + `","key":"` + seeds["key of credentials"] + `"},
		"credentials":{"key":"` + seeds["key of credentials"] + `"},"tolerations":[{"key":"dedicated","operator":"Exists"}]}`)}
	mesh.Spec.ControlPlane.MeshConfig = &apiextensionsv1.JSON{Raw: []byte(`{"raw":"a: 1\npassword: ` + seeds["mesh configuration in a text"] + `\n",
		"defaultConfig":{"proxyMetadata":{"LICENSE_BLOB":"` + seeds["variable of proxies"] + `","license":"` + seeds["variable of proxies"] + `","ISTIO_META_DNS_CAPTURE":"true"}},
		"mesh":"defaultConfig:\n  concurrency: 4\n  proxyMetadata:\n    LICENSE_BLOB: ` + seeds["variable of proxies in YAML"] + `\n    ISTIO_META_HTTP10: \"1\"\n",
		"extensionProviders":[{"headers":{"X-Team":"` + seeds["header"] + `"}},{"headers":[{"name":"X-Team","value":"` + seeds["header"] + `"}]}]}`)}
	mesh.Spec.Upgrade.Notifications = []v1alpha1.Notification{
		{Name: "chat", Endpoint: v1alpha1.Endpoint{URL: "https://hooks.example.com/services/" + seeds["path of a chat hook"], SecretName: "chat-hmac"}},
		{Name: "query", Endpoint: v1alpha1.Endpoint{URL: "https://" + seeds["user of a hook"] + "@example.com/?sig=" + seeds["query of a hook"]}},
	}
	revision := aRevision("1-29-1", "1.29.1")
	revision.Spec.Objects = []byte("seed rendered into a revision")
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "cacerts", Labels: map[string]string{v1alpha1.LabelMesh: "default"}},
		StringData: map[string]string{"ca-key.pem": seeds["data of a Secret"]}, Data: map[string][]byte{"key": []byte(seeds["data of a Secret"])},
	}
	bundle := []byte("-----BEGIN PRIVATE KEY-----\n" + seeds["private key in a webhook's caBundle"] + "\n-----END PRIVATE KEY-----\n")
	istiod, operator := map[string]string{v1alpha1.LabelMesh: "default", "app": "istiod"}, map[string]string{"app.kubernetes.io/name": "meshwright"}
	pod := seededPod("istio-system", "istiod-1", istiod)
	for i := range pod.Spec.Containers {
		seedForms(pod, &pod.Spec.Containers[i])
	}
	mesh.Spec.ControlPlane.Values.Raw = seedValues(t, mesh.Spec.ControlPlane.Values.Raw)
	mesh.Status.Conditions[0].Message = seededLines()
	shop := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: map[string]string{"istio.io/rev": "1-28-2", "example.com/api-token": seeds["label of a namespace"]}}}
	seedLabels(shop)
	return []client.Object{
		mesh, revision, aRollout(), aGateway(), secret, pod, seededPod("meshwright-system", "meshwright-1", operator),
		&appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "istiod", Labels: istiod}, Spec: appsv1.DeploymentSpec{
			Template: corev1.PodTemplateSpec{ObjectMeta: pod.ObjectMeta, Spec: pod.Spec},
		}},
		&admissionregistrationv1.ValidatingWebhookConfiguration{
			ObjectMeta: metav1.ObjectMeta{Name: "wrong"},
			Webhooks:   []admissionregistrationv1.ValidatingWebhook{{Name: "a.example.com", ClientConfig: admissionregistrationv1.WebhookClientConfig{CABundle: bundle}}},
		},
		shop,
		seededOther(),
		&corev1.Service{ // it has no label of its own
			ObjectMeta: metav1.ObjectMeta{Namespace: "meshwright-system", Name: "meshwright-webhook"}, Spec: corev1.ServiceSpec{Selector: operator},
		},
		&eventsv1.Event{
			ObjectMeta: metav1.ObjectMeta{Namespace: "meshwright-system", Name: "of-another"}, Note: seeds["another's pod beside the operator"],
			Regarding: corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: "meshwright-system", Name: "other-1"},
		},
		&eventsv1.Event{
			ObjectMeta: metav1.ObjectMeta{Namespace: "meshwright-system", Name: "ours"}, Note: seededLines(), Reason: "Pulled",
			Regarding: corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: "meshwright-system", Name: "meshwright-1"},
		},
		&eventsv1.Event{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "e"}, Note: "token=" + seeds["event"], Reason: "Shifting",
			Regarding: corev1.ObjectReference{Kind: rolloutKind, Name: "default-8"},
		},
	}
}

// pack makes an archive, and returns the files in it.
func pack(t *testing.T, o *bundleOptions, c client.Client) (files map[string]string, err error) {
	t.Helper()
	o.file = filepath.Join(t.TempDir(), "mesh.tgz")
	if err := o.run(t.Context(), c); err != nil {
		return nil, err
	}
	file, err := os.Open(o.file)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	files = map[string]string{}
	for archive := tar.NewReader(unzipped); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		files[strings.TrimPrefix(header.Name, "meshwright/")] = string(raw)
	}
}

func newBundleOptions() (*bundleOptions, *streams) {
	f, s := newFactory()
	return &bundleOptions{factory: f, since: time.Hour, maxBytes: 1 << 20, logs: func(_ context.Context, namespace, _ string, _ *corev1.PodLogOptions) (io.ReadCloser, error) {
		if namespace == "meshwright-system" {
			return nil, errors.New("no log for token=" + seeds["error of a log"])
		}
		return io.NopCloser(strings.NewReader(seededLog())), nil
	}}, s
}

// No secret, wherever it may be, is in the bytes of an archive; what people need to look for trouble is.
func TestBundleHoldsNoSecret(t *testing.T) {
	o, s := newBundleOptions()
	files, err := pack(t, o, fakeClient(t, seededObjects(t)...))
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		if found := seededForm(name + content); found != "" {
			t.Errorf("%s holds what is secret in %q:\n%s", name, found, content)
		}
		for where, secret := range seeds {
			if strings.Contains(content, secret) || strings.Contains(content, base64.StdEncoding.EncodeToString([]byte(secret))) {
				t.Errorf("%s holds the %s:\n%s", name, where, content)
			}
		}
		if strings.Contains(content, "managedFields") || strings.Contains(content, "seed-manager") {
			t.Errorf("%s holds managedFields", name)
		}
	}
	for name, wants := range map[string][]string{
		"meshwright/meshinstallations/default.yaml":                   {"autoscaleMin: 2", "form0:", "line 0 ", "key: dedicated", "https://hooks.example.com/", "secretName: chat-hmac", "resolvedVersion: 1.28.2", "LICENSE_BLOB: '[redacted]'", "ISTIO_META_DNS_CAPTURE: \"true\"", "concurrency: 4", "ISTIO_META_HTTP10: \"1\""},
		"meshwright/meshrevisions/1-29-1.yaml":                        {"version: 1.29.1"},
		"meshwright/meshrollouts/default-8.yaml":                      {"name: go", "AwaitingApproval"},
		"istio/pods/istio-system_istiod-1.yaml":                       {"PILOT_TRACE_SAMPLING", `value: "1.0"`, "value: 24h0m0s", "secretName: cacerts", "--log-level=info", "serve", "name: PILOT_FORM_0", "form-0.istio.io/note", "name: PILOT_0_DB_PASS", "concurrency: 3", `{"concurrency":2,"proxyMetadata":{"ISTIO_META_DNS_CAPTURE":"true","LICENSE_BLOB":"[redacted]"}}`},
		"istio/deployments/istio-system_istiod.yaml":                  {"istio/pilot:1.29.1"},
		"operator/pods/meshwright-system_meshwright-1.yaml":           {"discovery"},
		"operator/services/meshwright-system_meshwright-webhook.yaml": {"app.kubernetes.io/name: meshwright"},
		"events/meshwright-system.yaml":                               {"Pulled", "line 0 "},
		"logs/istio-system/istiod-1/discovery.log":                    {"line 0 ", "starting revision 1-29-1, digest sha256:3145dbd2", "user=me", `"ok":true`, `"concurrency": 5`, "https://[redacted]@example.com/a?[redacted]"},
		"logs/istio-system/istiod-1/discovery.previous.log":           {"starting revision"},
		"events/default.yaml":                                         {"Shifting"},
		"namespaces.json":                                             {`"istio.io/rev": "1-28-2"`, `"example.com/DB_PASS": "[redacted]"`},
		"counts.json":                                                 {`"pods": 3`},
		"version.json":                                                {`"kind": "MeshVersion"`},
		"manifest.json":                                               {"Secrets", "they are never read", "meshwright-system/meshwright-1", "no log for token=[redacted]"},
	} {
		for _, want := range wants {
			if !strings.Contains(files[name], want) {
				t.Errorf("%s lacks %q:\n%s", name, want, files[name])
			}
		}
	}
	if !strings.Contains(s.err.String(), "collecting logs") || !strings.Contains(s.out.String(), "mesh.tgz") {
		t.Errorf("it says %q and %q", s.out.String(), s.err.String())
	}
}

// What may not be read is noted, and no error.
func TestBundleGoesOnWithoutRights(t *testing.T) {
	c := interceptor.NewClient(fakeClient(t, seededObjects(t)...), interceptor.Funcs{List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, options ...client.ListOption) error {
		if list.GetObjectKind().GroupVersionKind().Kind == "PodList" || list.GetObjectKind().GroupVersionKind().Kind == "NodeList" {
			return apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "", errors.New("you may not"))
		}
		return c.List(ctx, list, options...)
	}})
	o, _ := newBundleOptions()
	files, err := pack(t, o, c)
	if err != nil {
		t.Fatal(err)
	}
	var manifest BundleManifest
	if err := json.Unmarshal([]byte(files["manifest.json"]), &manifest); err != nil {
		t.Fatal(err)
	}
	var what []string
	for _, o := range manifest.Omitted {
		what = append(what, o.What)
	}
	if diff := cmp.Diff([]string{"Secrets", "istio: Pods", "operator: Pods"}, what); diff != "" {
		t.Errorf("left out (-want +got):\n%s", diff)
	}
	if files["meshwright/meshinstallations/default.yaml"] == "" {
		t.Error("the mesh is missing")
	}
}

// The operator is where it runs, which need not be where its flag looks by default; where none is found, that is told.
func TestBundleFindsTheOperator(t *testing.T) {
	const elsewhere = "operators"
	labels := map[string]string{nameLabel: operatorName}
	installed := func() []client.Object {
		return []client.Object{
			&appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: elsewhere, Name: operatorName, Labels: labels}},
			&corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Namespace: elsewhere, Name: "meshwright-1", Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "manager"}}},
			},
		}
	}
	for _, tc := range []struct {
		reason  string
		objects []client.Object
		flag    string
		files   []string
		omitted []string
	}{
		{
			reason: "it is found by its label", objects: installed(),
			files:   []string{"operator/deployments/operators_meshwright.yaml", "operator/pods/operators_meshwright-1.yaml", "logs/operators/meshwright-1/manager.log"},
			omitted: []string{"Secrets"},
		},
		{reason: "it is nowhere", omitted: []string{"Secrets", "operator"}},
		{reason: "it is not where the flag says", objects: installed(), flag: "nowhere", omitted: []string{"Secrets", "operator"}},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			o, _ := newBundleOptions()
			if tc.flag != "" {
				o.OperatorNamespace, o.operatorGiven = &tc.flag, func() bool { return true }
			}
			files, err := pack(t, o, fakeClient(t, tc.objects...))
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range tc.files {
				if files[file] == "" {
					t.Errorf("%s is missing", file)
				}
			}
			var manifest BundleManifest
			if err := json.Unmarshal([]byte(files["manifest.json"]), &manifest); err != nil {
				t.Fatal(err)
			}
			var what []string
			for _, o := range manifest.Omitted {
				what = append(what, o.What)
			}
			if diff := cmp.Diff(tc.omitted, what); diff != "" {
				t.Errorf("left out (-want +got):\n%s", diff)
			}
		})
	}
}

// Who can read nothing is told so, and gets no archive.
func TestBundleOfNothing(t *testing.T) {
	for _, tc := range []struct {
		reason string
		err    error
		tries  int
		says   string
	}{
		{"the server is out of reach: the first failure is the last", &url.Error{Op: "Get", URL: "https://localhost:1", Err: errors.New("connection refused")}, 1, "unable to connect to the server: connection refused"},
		{"nothing may be read", apierrors.NewForbidden(schema.GroupResource{Resource: "all"}, "", errors.New("you may not")), 20, "nothing could be read: "},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			tries := 0
			c := interceptor.NewClient(fakeClient(t), interceptor.Funcs{List: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error {
				tries++
				return tc.err
			}})
			o, _ := newBundleOptions()
			o.file = filepath.Join(t.TempDir(), "mesh.tgz")
			err := o.run(t.Context(), c)
			if ExitCodeOf(err) != ExitError || !strings.Contains(err.Error(), tc.says) || tc.tries == 1 && tries > 1 || tries < tc.tries {
				t.Errorf("%v after %d requests", err, tries)
			}
			left, err := os.ReadDir(filepath.Dir(o.file))
			if err != nil || len(left) != 0 {
				t.Errorf("%v is left, %v", left, err)
			}
		})
	}
	file := filepath.Join(t.TempDir(), "mesh.tgz")
	_, errs, code := run(t, "", "bundle", "--server", "https://127.0.0.1:1", "--out", file)
	if code != ExitError || !strings.Contains(errs, "unable to connect to the server") || exists(file) {
		t.Errorf("a server that is not there: exit code %d: %s", code, errs)
	}
}

// An archive that was interrupted leaves no file.
func TestBundleIsWrittenWholeOrNot(t *testing.T) {
	o, _ := newBundleOptions()
	o.file = filepath.Join(t.TempDir(), "mesh.tgz")
	ctx, cancel := context.WithCancel(t.Context())
	o.logs = func(context.Context, string, string, *corev1.PodLogOptions) (io.ReadCloser, error) {
		cancel()
		return nil, context.Canceled
	}
	if err := o.run(ctx, fakeClient(t, seededObjects(t)...)); ExitCodeOf(err) != ExitInterrupted {
		t.Errorf("an interruption: %v", err)
	}
	left, err := os.ReadDir(filepath.Dir(o.file))
	if err != nil || len(left) != 0 {
		t.Errorf("%v is left, %v", left, err)
	}
}

func TestTailKeepsTheEndFromTheBeginningOfALine(t *testing.T) {
	lines := strings.Repeat("a line of a log\n", 10000) + "the last one\n"
	for _, tc := range []struct {
		reason string
		in     string
		most   int64
		want   string
	}{
		{"all of it", "one\ntwo\n", 100, "one\ntwo\n"},
		{"from a line", "one\ntwo\nthree\n", 8, "three\n"},
		{"one line that is too long", strings.Repeat("x", 100), 10, ""},
		{"the end of much", lines, 20, "the last one\n"},
	} {
		got, err := tail(strings.NewReader(tc.in), tc.most)
		if err != nil || !bytes.Equal(got, []byte(tc.want)) {
			t.Errorf("%s: %q, %v; want %q", tc.reason, got, err, tc.want)
		}
	}
}

func TestRedactedText(t *testing.T) {
	for _, tc := range []struct{ reason, in, want string }{
		{"a sentence", "no progress for 30m0s: wave early: 1 of 3 workloads moved; next: shop/cart", ""},
		{"where a secret is", "secretName=cacerts in istio-system", ""},
		{"a digest in hex", "sha256:" + strings.Repeat("3145dbd2", 8), ""},
		{"a path", "/var/run/secrets/kubernetes.io/serviceaccount/namespaces/Meshwright/v1alpha1/Longer", ""},
		{"an address", "https://istiod.istio-system.svc:15012/debug/connections", ""},
		{"an address with a query", "https://example.com/a?b=c", "https://example.com/a?[redacted]"},
		{"a password in YAML", "password: hunter2", "password: [redacted]"},
		{"a password in JSON", `{"db_password": "hunter \" 2", "a": 1}`, `{"db_password": [redacted], "a": 1}`},
		{"a password in JSON in JSON", `{\"password\":\"hunter2\",\"a\":1}`, `{\"password\":[redacted],\"a\":1}`},
		{"a step of a rollout", `{"msg":"step moves","name":"default-8","reason":"AwaitingApproval","duration":"30m0s","image":"registry.example.com/istio/pilot:1.29.1"}`, ""},
		{"an image by digest", "Failed to pull registry.example.com/istio/pilot:1.29.1@sha256:" + strings.Repeat("3145dbd2", 8) + ": not found", ""},
		{"an identity", "spiffe://cluster.local/ns/shop/sa/cart", ""},
		{"what lacks", `MountVolume.SetUp failed for volume "cacerts" : secret "cacerts" not found`, ""},
		{"a page of the docs", "see https://meshwright.io/docs/runbook/WorkloadFailed/ for what to do", ""},
		{"a path of the API server", "Get https://192.0.2.1:443/api/v1/namespaces/istio-system/services/istiod failed", ""},
		{"a variable that has it", "--token $(TOKEN) --password=${PASSWORD}", ""},
		{"brackets that do not end are their line", "token={[ a\nnext", "token=[redacted]\nnext"},
		{"a quote that does not end is its line", "token=\"a b\nnext", "token=[redacted]\nnext"},
		{"basic authorization", "Basic dXNlcjpwYXNzd29yZA==", "Basic [redacted]"},
	} {
		want := tc.want
		if want == "" {
			want = tc.in
		}
		if got := (&redactor{}).text(tc.in); got != want {
			t.Errorf("%s: %q, want %q", tc.reason, got, want)
		}
	}
}
