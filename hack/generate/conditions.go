// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
)

// conditionsIntro is what no constant says.
const conditionsIntro = `# Conditions

Written by ` + "`make generate`" + ` from operator/api/v1alpha1/conditions.go.

Every kind has ` + "`Ready`" + `: True when the newest spec was accepted and the thing serves. ` + "`observedGeneration`" + ` of a condition says which
generation of the spec it speaks of, so that

    kubectl wait --for=condition=Ready mesh/default

does not pass on stale news. ` + "`Reconciling`" + ` and ` + "`Stalled`" + ` are there only while they are True, as kstatus expects: waiting is enough, or
waiting changes nothing. A MeshInstallation also has ` + "`UpToDate`, `ControlPlaneReady` and `GatewaysReady`" + `; outdated proxies make it
not UpToDate, but do not make it not Ready.

A message says what to do next. It holds no times and no random names, so that it changes only when the matter does.

| Reason | Meaning |
|---|---|
`

// conditions writes the page of reasons: constants Reason... of a Go file, each with a comment "ReasonX: what it means.".
func conditions(file string) ([]byte, error) {
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	out := bytes.NewBufferString(conditionsIntro)
	for _, decl := range parsed.Decls {
		group, ok := decl.(*ast.GenDecl)
		if !ok || group.Tok != token.CONST {
			continue
		}
		for _, spec := range group.Specs {
			constant, ok := spec.(*ast.ValueSpec)
			if !ok || !strings.HasPrefix(constant.Names[0].Name, "Reason") {
				continue
			}
			literal, ok := constant.Values[0].(*ast.BasicLit)
			if !ok {
				return nil, fmt.Errorf("%s: %s is no literal", file, constant.Names[0].Name)
			}
			reason, err := strconv.Unquote(literal.Value)
			if err != nil {
				return nil, err
			}
			meaning, ok := strings.CutPrefix(strings.Join(strings.Fields(constant.Doc.Text()), " "), constant.Names[0].Name+": ")
			if !ok {
				return nil, fmt.Errorf("%s: the comment of %s has to begin with its name and a colon", file, constant.Names[0].Name)
			}
			fmt.Fprintf(out, "| `%s` | %s |\n", reason, meaning)
		}
	}
	return out.Bytes(), nil
}
