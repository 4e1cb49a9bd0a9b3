// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"

	"github.com/meshwright/meshwright/hack/docs/runbook"
)

// conditionsIntro is what no constant says.
const conditionsIntro = `# Conditions

Written by ` + "`make generate`" + ` from operator/api/v1alpha1/conditions.go.

Every kind has ` + "`Ready`" + `: True when the newest spec was accepted and the thing serves. ` + "`observedGeneration`" + ` of a condition says which
generation of the spec it speaks of, so that

    kubectl wait --for=condition=Ready mesh/default

does not pass on stale news. ` + "`Reconciling`" + ` and ` + "`Stalled`" + ` are there only while they are True, as kstatus expects: waiting is enough, or
waiting changes nothing. A MeshInstallation also has ` + "`UpToDate`, `ControlPlaneReady`, `GatewaysReady`, `CertificatesReady` and" + `
` + "`UpgradeAvailable`" + `; outdated proxies make it not UpToDate, but do not make it not Ready. A MeshRollout and a MeshRotation have ` + "`Complete`" + `,
whose reason is what they do or wait for at the moment.

A message says what to do next. It holds no times and no random names, so that it changes only when the matter does. Each reason has its page in
the [runbook](runbook/index.md), and the message of a reason that somebody has to see names it.

| Reason | Meaning |
|---|---|
`

// conditions writes the page of reasons.
func conditions(reasons []runbook.Reason) []byte {
	out := bytes.NewBufferString(conditionsIntro)
	for _, r := range reasons {
		fmt.Fprintf(out, "| [`%s`](runbook/%s.md) | %s |\n", r.Name, r.Name, r.Meaning)
	}
	return out.Bytes()
}
