// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package release

import (
	_ "embed"
	"os"
	"text/template"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

//go:embed krew.yaml
var krewText string

var krewTemplate = template.Must(template.New("krew.yaml").Option("missingkey=error").Parse(krewText))

// writeKrew writes the manifest by which krew installs the plugin. downloads is the address below which the archives will be.
func writeKrew(file, version, downloads string, archives []archive) error {
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	err = krewTemplate.Execute(out, map[string]any{
		"Version": version, "Home": "https://" + module, "Docs": v1alpha1.DocsURL, "Downloads": downloads, "Archives": archives,
	})
	if closed := out.Close(); err == nil {
		err = closed
	}
	return err
}
