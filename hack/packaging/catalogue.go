// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package packaging

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// OLM's channels. A version with a pre-release part, such as 0.2.0-rc.1, comes into candidate only, unless it is the first of all.
const (
	channelCandidate = "candidate"
	channelStable    = "stable"
)

// catalogue is a file-based catalogue of the package.
type catalogue struct {
	defaultChannel string
	channels       []channel
	// rest are bundles, and whatever else is said of the package, as it stands.
	rest []json.RawMessage
}

type channel struct {
	Schema     string  `json:"schema"`
	Package    string  `json:"package"`
	Name       string  `json:"name"`
	Entries    []entry `json:"entries"`
	Properties []any   `json:"properties,omitempty"`
}

// entry is a version in a channel.
type entry struct {
	Name      string   `json:"name"`
	Replaces  string   `json:"replaces,omitempty"`
	Skips     []string `json:"skips,omitempty"`
	SkipRange string   `json:"skipRange,omitempty"`
}

// join is a channel that a version comes into, and the name of what it replaces there; empty for nothing.
type join struct{ channel, replaces string }

// CheckCatalogue says whether a version can come into the catalogue of the one that it replaces, for those who do long work before [Write].
func CheckCatalogue(version, previous, file string) error {
	_, _, err := openCatalogue(version, previous, file)
	return err
}

// openCatalogue is the catalogue that a version comes into, and its places there.
func openCatalogue(version, previous, file string) (*catalogue, []join, error) {
	v, err := semver.StrictNewVersion(version)
	if err != nil {
		return nil, nil, fmt.Errorf("version %q: %w", version, err)
	}
	switch {
	case previous != "" && file == "":
		return nil, nil, fmt.Errorf("PREVIOUS is %s, but its catalogue is not given: say CATALOGUE=…/olm/catalogue/%s/catalog.yaml of that version, "+
			"for a catalogue of the new one alone would take the others away from those who have them", previous, Name)
	case previous == "" && file != "":
		return nil, nil, fmt.Errorf("CATALOGUE is %s, but not which version of it is replaced: say PREVIOUS", file)
	}
	c := firstCatalogue()
	if file != "" {
		if c, err = readCatalogue(file); err != nil {
			return nil, nil, err
		}
	}
	joins, err := c.place(v, previous)
	return c, joins, err
}

// firstCatalogue is the one before the first version.
func firstCatalogue() *catalogue {
	return &catalogue{defaultChannel: channelStable, channels: []channel{newChannel(channelCandidate), newChannel(channelStable)}}
}

func newChannel(name string) channel {
	return channel{Schema: "olm.channel", Package: Name, Name: name}
}

// readCatalogue reads a catalog.yaml that was made here.
func readCatalogue(file string) (*catalogue, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("CATALOGUE: %w", err)
	}
	out := &catalogue{}
	for decoder := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(raw), len(raw)+1); ; {
		var blob json.RawMessage
		if err := decoder.Decode(&blob); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("CATALOGUE: %s: %w", file, err)
		}
		if err := out.add(blob); err != nil {
			return nil, fmt.Errorf("CATALOGUE: %s: %w", file, err)
		}
	}
	if out.defaultChannel == "" || len(out.channels) == 0 {
		return nil, fmt.Errorf("CATALOGUE: %s holds no package %s with channels", file, Name)
	}
	return out, nil
}

func (c *catalogue) add(blob json.RawMessage) error {
	var meta struct {
		Schema         string `json:"schema"`
		Package        string `json:"package"`
		Name           string `json:"name"`
		DefaultChannel string `json:"defaultChannel"`
	}
	if err := json.Unmarshal(blob, &meta); err != nil {
		return err
	}
	if meta.Schema == "olm.package" {
		meta.Package = meta.Name
	}
	if meta.Package != Name {
		return fmt.Errorf("%s %q is of another package: give the file of %s alone", meta.Schema, meta.Name, Name)
	}
	switch meta.Schema {
	case "olm.package":
		c.defaultChannel = meta.DefaultChannel
	case "olm.channel":
		var read channel
		if err := yaml.UnmarshalStrict(blob, &read); err != nil {
			return fmt.Errorf("channel %s: %w", meta.Name, err)
		}
		c.channels = append(c.channels, read)
	default:
		c.rest = append(c.rest, blob)
	}
	return nil
}

// place finds the channels that a version comes into, and makes those of them that are missing. It stays out of a channel that has a newer one.
func (c *catalogue) place(v *semver.Version, previous string) ([]join, error) {
	want := []string{channelCandidate, channelStable}
	if v.Prerelease() != "" && previous != "" {
		want = want[:1]
	}
	var out []join
	for _, name := range want {
		i := slices.IndexFunc(c.channels, func(c channel) bool { return c.Name == name })
		if i < 0 {
			i, c.channels = len(c.channels), append(c.channels, newChannel(name))
		}
		head, err := c.channels[i].head()
		if err != nil {
			return nil, err
		}
		if head == "" {
			out = append(out, join{channel: name})
			continue
		}
		there, err := semver.StrictNewVersion(strings.TrimPrefix(head, csvName("")))
		if err != nil {
			return nil, fmt.Errorf("channel %s leads to %s, which is no version: %w", name, head, err)
		}
		if there.Equal(v) {
			return nil, fmt.Errorf("the catalogue has version %s already: give the one before", v)
		}
		if there.LessThan(v) {
			out = append(out, join{name, head})
		}
	}
	if previous != "" && !slices.ContainsFunc(out, func(j join) bool { return j.replaces == csvName(previous) }) {
		return nil, fmt.Errorf("version %s can't replace %s: none of the channels that it comes into %v leads to that now", v, previous, want)
	}
	return out, nil
}

// head is the name of the version that a channel leads to: no other one replaces it. Empty for a channel of none.
func (c channel) head() (string, error) {
	behind := map[string]bool{}
	for _, e := range c.Entries {
		behind[e.Replaces] = true
		for _, skipped := range e.Skips {
			behind[skipped] = true
		}
	}
	var heads []string
	for _, e := range c.Entries {
		if !behind[e.Name] {
			heads = append(heads, e.Name)
		}
	}
	if len(heads) > 1 || len(heads) == 0 && len(c.Entries) > 0 {
		return "", fmt.Errorf("channel %s leads to %v, want one version", c.Name, heads)
	}
	return strings.Join(heads, ""), nil
}

// channels are those that this version comes into.
func (p *pack) channels() []string {
	var out []string
	for _, j := range p.joins {
		out = append(out, j.channel)
	}
	return out
}

// bundleImage is where the bundle has to be pushed for the catalogue to find it: beside the operator's image.
func (p *pack) bundleImage() string { return p.image.repository + "-bundle:v" + p.Version }

// catalogued is the file-based catalogue of the package with this version at the head of the channels that it comes into.
// See https://olm.operatorframework.io/docs/reference/file-based-catalogs/.
func (p *pack) catalogued(version *csv) ([]byte, error) {
	blobs := []any{map[string]any{
		"schema": "olm.package", "name": Name, "defaultChannel": p.catalogue.defaultChannel, "description": summary, "icon": version.Spec.Icon[0],
	}}
	for _, c := range p.catalogue.channels {
		for _, j := range p.joins {
			if j.channel == c.Name {
				c.Entries = append(slices.Clone(c.Entries), entry{Name: version.Metadata.Name, Replaces: j.replaces, SkipRange: skipRange(p.Version)})
			}
		}
		blobs = append(blobs, c)
	}
	for _, older := range p.catalogue.rest {
		blobs = append(blobs, older)
	}
	properties := []property{{"olm.package", map[string]any{"packageName": Name, "version": p.Version}}}
	for _, crd := range version.Spec.CRDs.Owned {
		_, group, _ := strings.Cut(crd.Name, ".")
		properties = append(properties, property{"olm.gvk", map[string]any{"group": group, "kind": crd.Kind, "version": crd.Version}})
	}
	properties = append(properties, property{"olm.csv.metadata", csvInCatalogue{
		about: version.Spec.about, Annotations: version.Metadata.Annotations, Labels: version.Metadata.Labels, APIServices: map[string]any{},
		CRDs: version.Spec.CRDs, InstallModes: version.Spec.InstallModes, MinKubeVersion: version.Spec.MinKubeVersion,
	}})
	blobs = append(blobs, map[string]any{
		"schema": "olm.bundle", "package": Name, "name": version.Metadata.Name, "image": p.bundleImage(), "properties": properties,
		"relatedImages": append([]namedImage{{"", p.bundleImage()}}, version.Spec.RelatedImages...),
	})
	out := bytes.NewBufferString(header)
	for i, blob := range blobs {
		raw, err := yaml.Marshal(blob)
		if err != nil {
			return nil, err
		}
		if i > 0 { // OLM takes a document of nothing but a comment for one without a schema
			out.WriteString("---\n")
		}
		out.Write(raw)
	}
	return out.Bytes(), nil
}

type property struct {
	Type  string `json:"type"`
	Value any    `json:"value"`
}

// csvInCatalogue is what a catalogue repeats of a CSV.
type csvInCatalogue struct {
	about `json:",inline"`

	Annotations    map[string]string `json:"annotations"`
	Labels         map[string]string `json:"labels"`
	APIServices    map[string]any    `json:"apiServiceDefinitions"`
	CRDs           csvCRDs           `json:"crdDescriptions"`
	InstallModes   []csvInstallMode  `json:"installModes"`
	MinKubeVersion string            `json:"minKubeVersion"`
}
