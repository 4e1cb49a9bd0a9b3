// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// secretForms are texts that have a secret in them by what stands around it, or by its form; the secret is what is between « and ».
var secretForms = []string{
	"--token «seed1hunter»",
	"-token «seed2hunter»",
	`"--token", "«seed3hunter»"`,
	`sh -c "mysql --password «seed4hunter»; sleep 1"`,
	"mysql -u root -p«seed5hunter» shop",
	"curl -u «me:seed6hunter» example.com",
	"DB_PASS=«seed7hunter»",
	"REDIS_AUTH: «seed8hunter»",
	"passwd=«seed9,hunter;x»",
	"credentials: {key: «seed10hunter»}",
	`{"credentials":{"user":"me","key":"«seed11hunter»"}}`,
	`{\"tls\":{\"key\":\"«seed12hunter»\"}}`,
	"tls:\n  key: «seed13hunter»",
	"credentials:\n  shop:\n    it: «seed14hunter»\nother: 1",
	`a: 1\ncredentials:\n  it: «seed15hunter»\nother: 1`,
	"password: |\n  «seed16hunter»",
	"password: \"«seed17 hunter two»\"",
	`{"name":"DB_PASSWORD","value":"«seed18hunter»"}`,
	"https://discord.com/api/webhooks/1/«abc-defseed19»",
	"https://hooks.slack.com/services/«T0/B0/xyzseed20»",
	"post hooks.slack.com/services/«T0/B0/xyzseed21» failed",
	"https://example.webhook.office.com/webhookb2/«seed22»",
	"https://api.telegram.org/bot«12345:seed23hunter»/sendMessage",
	"https://example.com/a?sig=«seed24hunter»",
	`https://example.com/a?b=c\u0026sig=«seed25hunter»`,
	`https:\/\/hooks.slack.com\/services\/«T0\/B0\/xyzseed26»`,
	"postgres://me:«seed27hunter»@db.example.com/shop",
	"postgres://me:«seed28#/hunter»@db.example.com/shop",
	"redis://:«seed29hunter»@db.example.com:6379",
	"me:«seed30hunter»@tcp(db.example.com:3306)/shop",
	"amqp me:«seed31hunter»@mq.example.com",
	"sqlserver://db.example.com;user=sa;password=«seed32hunter»",
	"Server=db;Password=«seed33hunter»;Database=shop",
	"Authorization: Bearer «seed34hunter»",
	"Authorization: Basic «c2VlZDpodW50ZXI=»",
	"authorization: token «seed35hunter»",
	"Cookie: a=«seed36hunter»; b=«seed37hunter»",
	"X-Api-Key: «seed38hunter»",
	"api-key=«seed39hunter»",
	"apikey=«seed40hunter»",
	"client_secret=«seed41hunter»",
	"clientSecret: «seed42hunter»",
	"<password>«seed43hunter»</password>",
	"the password is «seed44hunter»",
	"aws «AKIASEEDSEEDSEEDSEED»",
	"aws «seedJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLE»",
	"jwt «eyJhbGciOiJub25lIn0.eyJzZWVkIjo0NX0.c2VlZA»",
	"git «ghp_seedseedseedseedseed», «gho_seedseedseedseedseed», «github_pat_seedseedseedseedseed»",
	"chat «xoxb-123-seedseed», «xoxe.xoxp-1-seedseed», «xapp-1-A0-seedseed»",
	"pay «sk_live_seedseedseed»",
	"docker «eyJhdXRocyI6eyJhIjp7ImF1dGgiOiJjMlZsWkRwb2RXNTBaWEk9In19fQ==»",
	`{"auths":{"registry.example.com":{"auth":"«c2VlZDpodW50ZXIy»"}}}`,
	"wrapped «cGFzc3dvcmQ6IHNlZWQ0Ng==»",
	"-----BEGIN PRIVATE KEY-----\n«MIGHseed47»\n«c2VlZA==»\n-----END PRIVATE KEY-----",
	`-----BEGIN RSA PRIVATE KEY-----\n«MIGHseed48»\n-----END RSA PRIVATE KEY-----\n`,
	"2026-11-26T10:00:00Z «MIGHseed50»\n2026-11-26T10:00:00Z -----END EC PRIVATE KEY-----",
	"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n«lQVYseed51»\n-----END PGP PRIVATE KEY BLOCK-----",
	"proxyMetadata: {LICENSE_BLOB: «seed52blob»}",
	"defaultConfig:\n  proxyMetadata:\n    LICENSE_BLOB: «seed53blob»\n  concurrency: 2",
	`{"defaultConfig":{"proxyMetadata":{"LICENSE_BLOB":"«seed54blob»"}}}`,
	`{\"proxyMetadata\":{\"LICENSE_BLOB\":\"«seed55blob»\"}}`,
	`proxy_metadata:{key:"LICENSE_BLOB" value:"«seed56blob»"}`,
	"ProxyMetadata:map[LICENSE_BLOB:«seed57blob»]",
	"--set meshConfig.defaultConfig.proxyMetadata.LICENSE_BLOB=«seed58blob»",
	`{"proxyMetadata":{"A":"«seed59blob»"},"proxyMetadata":{}}`,
	`config {"proxyMetadata":{"A":"1}«seed60blob»"}} ok`,
	`config {\"credentials\":{\"a\":\"1\\\"}«seed61blob»\",\"b\":\"«seed62blob»\"}} ok`,
	`config credentials={a: 5", b: {c: 6"}, d: «seed63blob»} ok`,
	"2026-11-26T10:00:00Z -----BEGIN EC PRIVATE KEY-----\n2026-11-26T10:00:00Z «MIGHseed49»\n2026-11-26T10:00:00Z «c2VlZDQ5==»",
}

// secretNames are names whose value is a secret, whatever it is like.
var secretNames = []string{
	"DB_PASS", "REDIS_AUTH", "dbPass", "passwd", "pwd", "PGPASSWORD", "client_secret", "apikey", "api-key", "x-api-key", "ACCESS_KEY", "signing.key", "accountKey", "key",
	"authorization", "refresh_token", "smtpCreds", "DATABASE_DSN",
}

// namedSeed is the value of all of them: nothing in its form tells.
const namedSeed = "plainseed"

var marked = regexp.MustCompile(`«([^»]*)»`)

func unmarked(form string) string { return strings.NewReplacer("«", "", "»", "").Replace(form) }

// seededForm returns the form of which the secret is in a text, or the name whose value is.
func seededForm(content string) string {
	for _, form := range secretForms {
		for _, secret := range marked.FindAllStringSubmatch(form, -1) {
			if strings.Contains(content, secret[1]) {
				return form
			}
		}
	}
	if before, _, found := strings.Cut(content, namedSeed); found {
		return before[max(0, len(before)-30):] + namedSeed
	}
	return ""
}

// seededLines are all forms and names, as a log or a message has them.
func seededLines() string {
	var out []string
	for i, form := range secretForms {
		out = append(out, fmt.Sprintf("line %d of a log\n%s", i, unmarked(form)))
		if !strings.Contains(form, "\n") {
			out = append(out, unmarked(form)+" and more")
		}
	}
	for _, name := range secretNames {
		out = append(out, "set "+name+"="+namedSeed+" ok", `{"`+name+`":"`+namedSeed+`"}`, `{\"`+name+`\":\"`+namedSeed+`\"}`, "  "+name+": "+namedSeed, "run --"+name+" "+namedSeed)
	}
	return strings.Join(out, "\n")
}

// seedForms puts all into arguments, variables, annotations and labels. The variables are called as those of Istio, whose values are kept.
func seedForms(pod *corev1.Pod, c *corev1.Container) {
	for i, name := range secretNames {
		c.Args = append(c.Args, "--"+name+"="+namedSeed, "--"+name, namedSeed, name+"="+namedSeed)
		c.Env = append(c.Env, corev1.EnvVar{Name: name, Value: namedSeed}, corev1.EnvVar{Name: fmt.Sprintf("PILOT_%d_%s", i, name), Value: namedSeed})
		pod.Annotations["names.istio.io/"+name] = namedSeed
	}
	for i, form := range secretForms {
		c.Args = append(c.Args, unmarked(form), "--note="+unmarked(form))
		c.Env = append(c.Env, corev1.EnvVar{Name: fmt.Sprintf("PILOT_FORM_%d", i), Value: unmarked(form)})
		pod.Annotations[fmt.Sprintf("form-%d.istio.io/note", i)] = unmarked(form)
	}
	c.LivenessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{HTTPHeaders: []corev1.HTTPHeader{{Name: "X-Team", Value: namedSeed}}}}}
	c.ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"mysql", "-p" + namedSeed, "-u", "me:" + namedSeed}}}}
	seedLabels(pod)
}

// seedLabels puts what may be a label into labels.
func seedLabels(o metav1.Object) {
	labels := o.GetLabels()
	for _, name := range secretNames {
		labels["example.com/"+name] = namedSeed
	}
	for i, form := range secretForms {
		if secrets := marked.FindAllStringSubmatch(form, -1); strings.Contains(form, "git ") || strings.Contains(form, "aws ") || strings.Contains(form, "jwt ") {
			labels[fmt.Sprintf("example.com/form-%d", i)] = secrets[0][1]
		}
	}
	o.SetLabels(labels)
}

// seedValues puts all into values of a chart: as texts, below names, and as lists.
func seedValues(t *testing.T, raw []byte) []byte {
	values := map[string]any{}
	if err := json.Unmarshal(raw, &values); err != nil {
		t.Fatal(err)
	}
	for i, form := range secretForms {
		values[fmt.Sprintf("form%d", i)] = map[string]any{"note": unmarked(form), "notes": []string{unmarked(form)}}
	}
	for i, name := range secretNames {
		values[fmt.Sprintf("name%d", i)] = map[string]any{name: namedSeed, "pairs": []any{map[string]any{"key": name, "value": namedSeed}, map[string]any{"name": name, "value": namedSeed}}}
	}
	values["credentials2"] = map[string]any{"name": map[string]any{"deep": namedSeed}, "list": []any{namedSeed, map[string]any{"key": namedSeed}}}
	values["lines"] = []string{"-----BEGIN PRIVATE KEY-----", namedSeed, "-----END PRIVATE KEY-----"}
	out, err := json.Marshal(values)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
