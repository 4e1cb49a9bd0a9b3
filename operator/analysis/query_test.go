// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"pgregory.net/rapid"
)

var sample = Params{Revision: "1-29-1", Stable: "1-28-2", Gateway: "ingress", Namespace: "istio-ingress", Window: time.Minute}

func TestQuery(t *testing.T) {
	tests := []struct{ reason, text, want, err string }{
		{"a value", `up{namespace="$namespace"}`, `up{namespace="istio-ingress"}`, ""},
		{"parts of a regular expression", `up{pod=~"$gateway-$revision-.*$"}`, `up{pod=~"ingress-1-29-1-.*$"}`, ""},
		{"a window", `sum(rate(a[$window] offset $window))`, `sum(rate(a[1m] offset 1m))`, ""},
		{"a subquery", `max_over_time(up[$window:5s])`, `max_over_time(up[1m:5s])`, ""},
		{"what stands for nothing", `up{pod="$pod"}`, "", "$pod, which stands for nothing"},
		{"in a text", `label_replace(up, "a", "$revision", "", "")`, "", "may stand in the value of a label matcher only"},
		{"as a name", `$gateway`, "", "is no query in PromQL"},
		{"a window elsewhere", `up > $window`, "", "is no query in PromQL"},
		{"no query", `sum(`, "", "is no query in PromQL"},
	}
	for _, tt := range tests {
		got, err := Query(tt.text, sample)
		if tt.err == "" && (err != nil || got != tt.want) || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("%s: got %q, %v", tt.reason, got, err)
		}
	}
}

func TestCheckQuery(t *testing.T) {
	if err := CheckQuery(`up[$window]`); err == nil || !strings.Contains(err.Error(), "matrix") {
		t.Errorf("a range is taken for values: %v", err)
	}
	if err := CheckQuery(`sum(rate(a{pod=~"$gateway-.*"}[$window]))`); err != nil {
		t.Error(err)
	}
}

// shape is a query without the values of its matchers.
func shape(t *rapid.T, query string) (out string, values []*labels.Matcher) {
	t.Helper()
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		if s, is := node.(*parser.VectorSelector); is {
			for _, m := range s.LabelMatchers {
				if m.Name != "__name__" {
					values = append(values, m)
				}
			}
		}
		out += fmt.Sprintf("%T;", node)
		return nil
	})
	return out, values
}

// No value changes what a query asks, however hostile: the tree stays the same, and each matcher matches the value and nothing else.
func TestNoValueChangesAQuery(t *testing.T) {
	const text = `sum(rate(a{equal="$namespace", like=~"$namespace"}[$window])) / count(b{not!="$namespace"})`
	rapid.Check(t, func(t *rapid.T) {
		hostile := rapid.OneOf(rapid.String(), rapid.StringMatching(`["\\{}()\[\]$|.*+\n\t ,=~!a-z]{0,20}`)).Draw(t, "namespace")
		p := sample
		p.Namespace = hostile
		query, err := Query(text, p)
		if strings.ContainsRune(hostile, utf8.RuneError) {
			if err == nil {
				t.Fatalf("%q is no UTF-8, and becomes %s", hostile, query)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		plain, err := Query(text, sample)
		if err != nil {
			t.Fatal(err)
		}
		want, _ := shape(t, plain)
		got, values := shape(t, query)
		if got != want {
			t.Fatalf("%q becomes %s", hostile, query)
		}
		for _, m := range values {
			if m.Name == "like" && m.Value != regexp.QuoteMeta(hostile) || m.Name != "like" && m.Value != hostile {
				t.Fatalf("%s has %q, want %q", m.Name, m.Value, hostile)
			}
		}
	})
}

func TestConditions(t *testing.T) {
	tests := []struct {
		reason, text string
		values       []float64
		met          bool
		err          string
	}{
		{"one value", "result < 0.01", []float64{0.001}, true, ""},
		{"whole numbers too", "result == 0", []float64{0}, true, ""},
		{"all values", "results.all(r, r < 5.0)", []float64{1, 6}, false, ""},
		{"result of many", "result < 1.0", []float64{1, 2}, false, "the query gives 2"},
		{"no condition", "result <", nil, false, "is no condition in CEL"},
		{"no truth", "result + 1.0", nil, false, "has to give true or false"},
		{"an unknown name", "value < 1.0", nil, false, "undeclared reference"},
		{"what never ends is bounded", "[1,2,3,4,5,6,7,8,9,10].all(a, [1,2,3,4,5,6,7,8,9,10].all(b, [1,2,3,4,5,6,7,8,9,10].all(c, [1,2,3,4,5,6,7,8,9,10].all(d, result > 0.0))))", []float64{1}, false, "cost"},
	}
	for _, tt := range tests {
		c, err := Compile(tt.text)
		met := false
		if err == nil {
			met, err = c.Met(tt.values)
		}
		if tt.err == "" && (err != nil || met != tt.met) || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("%s: met %t, %v", tt.reason, met, err)
		}
	}
}
