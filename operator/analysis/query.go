// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// Params are what the placeholders of a query stand for.
type Params struct {
	// Revision is the new version's, Stable the old one's.
	Revision, Stable string
	// Gateway and Namespace are those of a gateway.
	Gateway, Namespace string
	// Window is the range that is looked at.
	Window time.Duration
}

// values by the name of their placeholder.
func (p Params) values() map[string]string {
	return map[string]string{"revision": p.Revision, "stable": p.Stable, "gateway": p.Gateway, "namespace": p.Namespace}
}

// placeholder is a name after a dollar sign. A dollar sign before anything else is the end of a regular expression.
var placeholder = regexp.MustCompile(`\$([a-z]+)`)

// windowed is $window where a duration may stand: as a range, its step, or an offset.
var windowed = regexp.MustCompile(`([\[:]|offset\s)(\s*)\$window\b`)

// Query puts parameters into a query. Values come into its syntax tree, as (parts of) the values of label matchers, and are quoted
// there when it is printed; those of regular expressions match nothing but themselves. So no value can change what a query asks. The
// error says what can't be read, or where a placeholder may not stand.
func Query(text string, p Params) (string, error) {
	for name, value := range p.values() {
		if strings.ContainsRune(value, utf8.RuneError) {
			return "", fmt.Errorf("the value of $%s is no UTF-8", name)
		}
	}
	window := fmt.Sprintf("%dms", max(1, p.Window.Milliseconds()))
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(windowed.ReplaceAllString(text, "${1}${2}"+window))
	if err != nil {
		return "", fmt.Errorf("is no query in PromQL: %w", err)
	}
	var failed error
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		if failed == nil {
			failed = fill(node, p.values())
		}
		return failed
	})
	if failed != nil {
		return "", failed
	}
	return expr.String(), nil
}

// fill puts values into one node of the tree.
func fill(node parser.Node, values map[string]string) error {
	switch n := node.(type) {
	case *parser.StringLiteral:
		if placeholder.MatchString(n.Val) {
			return fmt.Errorf("%s stands in a text, and may stand in the value of a label matcher only, such as namespace=\"$namespace\"", placeholder.FindString(n.Val))
		}
	case *parser.VectorSelector:
		for i, m := range n.LabelMatchers {
			value, err := filled(m, values)
			if err != nil {
				return err
			}
			if value == m.Value {
				continue
			}
			if n.LabelMatchers[i], err = labels.NewMatcher(m.Type, m.Name, value); err != nil {
				return fmt.Errorf("the value of label %s: %w", m.Name, err)
			}
		}
	default:
	}
	return nil
}

// filled is the value of a matcher with its placeholders replaced.
func filled(m *labels.Matcher, values map[string]string) (string, error) {
	regular := m.Type == labels.MatchRegexp || m.Type == labels.MatchNotRegexp
	var unknown string
	out := placeholder.ReplaceAllStringFunc(m.Value, func(found string) string {
		value, known := values[found[1:]]
		switch {
		case !known:
			unknown = found
		case regular:
			return regexp.QuoteMeta(value)
		}
		return value
	})
	if unknown != "" {
		return "", fmt.Errorf("the value of label %s has %s, which stands for nothing: write one of $revision, $stable, $gateway, $namespace, "+
			"or $window as a range", m.Name, unknown)
	}
	return out, nil
}

// CheckQuery says whether a query can be read, with whatever parameters, and gives values.
func CheckQuery(text string) error {
	sample := Params{Revision: "1-29-1", Stable: "1-28-2", Gateway: "ingress", Namespace: "istio-ingress", Window: time.Minute}
	query, err := Query(text, sample)
	if err != nil {
		return err
	}
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(query)
	if err != nil {
		return err
	}
	if !slices.Contains([]parser.ValueType{parser.ValueTypeVector, parser.ValueTypeScalar}, expr.Type()) {
		return fmt.Errorf("gives a %s, and has to give one value or some at a time: put it into a function such as sum(rate(…[$window]))",
			strings.ToLower(string(expr.Type())))
	}
	return nil
}
