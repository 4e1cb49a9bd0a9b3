// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package release

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"
	"time"

	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx"
	"github.com/spdx/tools-golang/spdx/v2/common"
	"github.com/spdx/tools-golang/spdxlib"
	xmodule "golang.org/x/mod/module"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// inventory is what an SBOM is written from.
type inventory struct {
	// product is what the document describes, such as kubectl-mesh; purl is its package URL, if it has one.
	product, version, purl string
	source                 source
	binaries               []binary
	// charts of Istio that the binaries embed, by version: the archive and the module that they are from.
	charts []chart
	// roots is the module of the public authorities, if they are in it.
	roots *debug.Module
}

// chart is an archive of Istio's charts that is embedded.
type chart struct {
	version string
	archive string // path
	// module is the version of the Go module istio.io/istio that it was made from.
	module string
}

const (
	noAssertion = "NOASSERTION"
	authors     = "The Meshwright Authors"
	ourLicense  = "Apache-2.0"
)

// document is an SPDX document that is being put together.
type document struct {
	*spdx.Document

	known map[spdx.ElementID]string // each package as JSON
}

// writeSBOM writes an SPDX 2.3 document: the product, each executable in it with the modules that Go linked into it, Go itself, and what is embedded.
// That is read from the executables, not from go.mod.
func writeSBOM(file string, in inventory) error {
	d := &document{known: map[spdx.ElementID]string{}, Document: &spdx.Document{
		SPDXVersion: spdx.Version, DataLicense: spdx.DataLicense, SPDXIdentifier: "DOCUMENT",
		DocumentName: in.product + "-" + in.version,
		CreationInfo: &spdx.CreationInfo{
			Created:  in.source.date.Format(time.RFC3339),
			Creators: []common.Creator{{CreatorType: "Tool", Creator: "meshwright-hack-release"}, {CreatorType: "Organization", Creator: authors}},
		},
	}}
	product, err := d.add(&spdx.Package{
		PackageName: in.product, PackageVersion: in.version,
		PackageSupplier:         &common.Supplier{SupplierType: "Organization", Supplier: authors},
		PackageDownloadLocation: "git+https://" + module + "@" + in.source.commit,
		PackageLicenseDeclared:  ourLicense, PackageCopyrightText: "Copyright " + authors,
		PrimaryPackagePurpose: "APPLICATION", PackageSourceInfo: "made from commit " + in.source.revision(),
		PackageExternalReferences: purl(in.purl),
	})
	if err != nil {
		return err
	}
	d.relate("DOCUMENT", common.TypeRelationshipDescribe, product)
	for _, b := range in.binaries {
		if err := d.addBinary(product, in, b); err != nil {
			return fmt.Errorf("%s for %s: %w", b.program.name, b.platform, err)
		}
	}
	if in.roots != nil {
		roots, err := d.addModule(in.roots)
		if err != nil {
			return err
		}
		d.relate(product, common.TypeRelationshipContains, roots)
	}
	return d.write(file)
}

// addBinary adds an executable and all that is linked into it.
func (d *document) addBinary(product spdx.ElementID, in inventory, b binary) error {
	info, err := buildinfo.ReadFile(b.path)
	if err != nil {
		return err
	}
	sum, err := sumFile(b.path)
	if err != nil {
		return err
	}
	executable, err := d.add(&spdx.Package{
		PackageName: in.product + "-" + b.platform.suffix(), PackageVersion: in.version, PackageFileName: b.program.file(b.platform),
		PackageSupplier:         &common.Supplier{SupplierType: "Organization", Supplier: authors},
		PackageDownloadLocation: noAssertion, PackageLicenseDeclared: ourLicense, PackageCopyrightText: "Copyright " + authors,
		PackageChecksums: []spdx.Checksum{{Algorithm: spdx.SHA256, Value: sum}}, PrimaryPackagePurpose: "APPLICATION",
		PackageExternalReferences: purl("pkg:golang/" + module + "@v" + in.version + "?goos=" + b.platform.os + "&goarch=" + b.platform.arch),
	})
	if err != nil {
		return err
	}
	d.relate(product, common.TypeRelationshipContains, executable)
	toolchain, err := d.addLibrary("stdlib", strings.TrimPrefix(info.GoVersion, "go"), "", "https://go.dev/dl/"+info.GoVersion+".src.tar.gz",
		"pkg:golang/stdlib@"+strings.TrimPrefix(info.GoVersion, "go"))
	if err != nil {
		return err
	}
	d.relate(executable, common.TypeRelationshipStaticLink, toolchain)
	for _, dep := range info.Deps {
		linked, err := d.addModule(dep)
		if err != nil {
			return err
		}
		d.relate(executable, common.TypeRelationshipStaticLink, linked)
	}
	for _, c := range in.charts {
		embedded, err := d.addChart(c)
		if err != nil {
			return err
		}
		d.relate(executable, common.TypeRelationshipContains, embedded)
	}
	return nil
}

// addModule adds a module as it was linked: what replaces it, if something does.
func (d *document) addModule(m *debug.Module) (spdx.ElementID, error) {
	if m.Replace != nil {
		m = m.Replace
	}
	escaped, err := xmodule.EscapePath(m.Path)
	if err != nil {
		return "", err
	}
	version, err := xmodule.EscapeVersion(m.Version)
	if err != nil {
		return "", err
	}
	return d.addLibrary(m.Path, m.Version, m.Sum, "https://proxy.golang.org/"+escaped+"/@v/"+version+".zip", modulePurl(m.Path, m.Version))
}

// modulePurl is the package URL of a Go module; the plus sign in +incompatible has to be escaped.
func modulePurl(path, version string) string {
	return "pkg:golang/" + path + "@" + strings.ReplaceAll(version, "+", "%2B")
}

func (d *document) addLibrary(name, version, sum, from, url string) (spdx.ElementID, error) {
	p := &spdx.Package{
		PackageName: name, PackageVersion: version, PackageDownloadLocation: from, PackageLicenseDeclared: noAssertion,
		PackageCopyrightText: noAssertion, PrimaryPackagePurpose: "LIBRARY", PackageExternalReferences: purl(url),
	}
	if sum != "" {
		p.PackageSourceInfo = "go.sum: " + sum
	}
	return d.add(p)
}

// addChart adds the charts of one version of Istio.
func (d *document) addChart(c chart) (spdx.ElementID, error) {
	sum, err := sumFile(c.archive)
	if err != nil {
		return "", err
	}
	return d.add(&spdx.Package{
		PackageName: "istio-charts", PackageVersion: c.version, PackageFileName: filepath.Base(c.archive),
		PackageDownloadLocation: "https://proxy.golang.org/istio.io/istio/@v/" + c.module + ".zip",
		PackageChecksums:        []spdx.Checksum{{Algorithm: spdx.SHA256, Value: sum}},
		PackageLicenseDeclared:  "Apache-2.0", PackageCopyrightText: noAssertion, PrimaryPackagePurpose: "ARCHIVE",
		PackageSourceInfo:         "the charts of the module, with the version and the registry of Istio's release put in",
		PackageExternalReferences: purl(modulePurl("istio.io/istio", c.module)),
	})
}

// readRootsModule is the module that publicRoots are from.
func readRootsModule(ctx context.Context, root string) (*debug.Module, error) {
	out, err := ask(ctx, root, "list", "-m", "-json=Path,Version,Sum", "golang.org/x/crypto/x509roots/fallback")
	if err != nil {
		return nil, err
	}
	m := &debug.Module{}
	return m, json.Unmarshal(out, m)
}

// add adds a package, unless it is there already.
func (d *document) add(p *spdx.Package) (spdx.ElementID, error) {
	id := elementID(p.PackageName, p.PackageVersion)
	p.PackageSPDXIdentifier, p.PackageLicenseConcluded = id, noAssertion
	text, err := json.Marshal(p)
	if err != nil {
		return "", err
	}
	switch d.known[id] {
	case "":
		d.known[id] = string(text)
		d.Packages = append(d.Packages, p)
	case string(text):
	default:
		return "", fmt.Errorf("two packages would have the SPDX identifier %s", id)
	}
	return id, nil
}

func (d *document) relate(from spdx.ElementID, how string, to spdx.ElementID) {
	d.Relationships = append(d.Relationships, &spdx.Relationship{
		RefA: common.MakeDocElementID("", string(from)), RefB: common.MakeDocElementID("", string(to)), Relationship: how,
	})
}

// write names the document by a digest of what it says, checks it and writes it.
func (d *document) write(file string) error {
	content, err := json.Marshal(d.Document)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(content)
	d.DocumentNamespace = v1alpha1.DocsURL + "spdx/" + d.DocumentName + "-" + hex.EncodeToString(sum[:16])
	if err := spdxlib.ValidateDocument(d.Document); err != nil {
		return err
	}
	var out bytes.Buffer
	if err := spdxjson.Write(d.Document, &out, spdxjson.Indent("  "), spdxjson.EscapeHTML(false)); err != nil {
		return err
	}
	return os.WriteFile(file, out.Bytes(), 0o644)
}

var notInID = regexp.MustCompile(`[^A-Za-z0-9.]+`)

// elementID is the identifier of a package: letters, digits, dots and dashes only.
func elementID(name, version string) spdx.ElementID {
	return spdx.ElementID("Package-" + notInID.ReplaceAllString(name+"-"+version, "-"))
}

func purl(locator string) []*spdx.PackageExternalReference {
	if locator == "" {
		return nil
	}
	return []*spdx.PackageExternalReference{{Category: spdx.CategoryPackageManager, RefType: spdx.PackageManagerPURL, Locator: locator}}
}
