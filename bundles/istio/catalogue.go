// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package istio

import (
	_ "embed"
	"errors"
	"fmt"
	"time"

	"github.com/Masterminds/semver/v3"
	"sigs.k8s.io/yaml"

	"github.com/meshwright/meshwright/operator/version"
)

//go:embed catalogue.yaml
var catalogueData []byte

// Catalogue is what is known of Istio's release lines, by the name of the line ("1.29").
type Catalogue map[string]version.Line

// BuiltinCatalogue is read from the file beside this one.
func BuiltinCatalogue() (Catalogue, error) { return ParseCatalogue(catalogueData) }

// ParseCatalogue reads a catalogue; what it does not know in it is an error.
func ParseCatalogue(data []byte) (Catalogue, error) {
	var file struct {
		Lines []struct {
			Name        string `json:"name"`
			Released    string `json:"released"`
			EndOfLife   string `json:"endOfLife"`
			Approximate bool   `json:"approximate"`
			Kubernetes  struct {
				Min string `json:"min"`
				Max string `json:"max"`
			} `json:"kubernetes"`
			KnownBad map[string]string `json:"knownBad"`
		} `json:"lines"`
	}
	if err := yaml.UnmarshalStrict(data, &file); err != nil {
		return nil, fmt.Errorf("catalogue: %w", err)
	}
	out := Catalogue{}
	for _, l := range file.Lines {
		fail := func(field string, err error) (Catalogue, error) {
			return nil, fmt.Errorf("catalogue: line %q: %s: %w", l.Name, field, err)
		}
		if _, again := out[l.Name]; again {
			return fail("name", errors.New("twice"))
		}
		v, err := semver.NewVersion(l.Name)
		if err != nil || version.LineOf(v) != l.Name {
			return fail("name", errors.New("want major and minor, such as 1.29"))
		}
		line := version.Line{Name: l.Name, Approximate: l.Approximate, KnownBad: l.KnownBad}
		if line.Released, err = time.Parse(time.DateOnly, l.Released); err != nil {
			return fail("released", err)
		}
		if l.EndOfLife != "" {
			if line.EndOfLife, err = time.Parse(time.DateOnly, l.EndOfLife); err != nil {
				return fail("endOfLife", err)
			}
		}
		minimum, err := semver.NewVersion(l.Kubernetes.Min)
		if err != nil {
			return fail("kubernetes.min", err)
		}
		maximum, err := semver.NewVersion(l.Kubernetes.Max)
		if err != nil || maximum.LessThan(minimum) {
			return fail("kubernetes.max", fmt.Errorf("%q is no minor at or above %q", l.Kubernetes.Max, l.Kubernetes.Min))
		}
		line.KubernetesMin, line.KubernetesMax = minimum.Minor(), maximum.Minor()
		for bad := range l.KnownBad {
			v, err := semver.StrictNewVersion(bad)
			if err != nil || version.LineOf(v) != l.Name {
				return fail("knownBad", fmt.Errorf("%q is no version of the line", bad))
			}
		}
		out[l.Name] = line
	}
	return out, nil
}

// Line is what is known of a version's line.
func (c Catalogue) Line(v *semver.Version) (version.Line, bool) {
	l, ok := c[version.LineOf(v)]
	return l, ok
}
