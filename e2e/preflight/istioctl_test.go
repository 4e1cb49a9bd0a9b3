// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/meshwright/meshwright/operator/preflight"
)

// message is one that istioctl analyze or istioctl x precheck may report.
type message struct {
	code, name string
	// ours are the codes of which one says the same about the same object; none for a message that has nothing to do with an upgrade.
	ours []preflight.Code
	// why it has, or has not.
	why string
}

// messages are all of Istio 1.31 (pkg/config/analysis/msg/messages.yaml), which has all of those of 1.26 to 1.30.
var messages = []message{
	{"IST0001", "InternalError", nil, "a mistake of istioctl itself"},
	{"IST0002", "Deprecated", []preflight.Code{preflight.RemovedAPI, preflight.DeprecatedField}, "what is deprecated goes with a version"},
	{"IST0101", "ReferencedResourceNotFound", nil, "it is wrong in any version, and an upgrade makes it neither better nor worse"},
	{"IST0102", "NamespaceNotInjected", nil, "a namespace outside of the mesh does not move"},
	{"IST0103", "PodMissingProxy", []preflight.Code{preflight.MissingProxy}, "the rollout gives these pods their first proxy"},
	{"IST0106", "SchemaValidationError", nil, "the webhook of each version refuses it, and Meshwright changes no such object; what is deprecated has codes of its own"},
	{"IST0107", "MisplacedAnnotation", nil, "Istio ignores it where it is, in any version"},
	{"IST0108", "UnknownAnnotation", nil, "Istio ignores it, in any version"},
	{"IST0109", "ConflictingMeshGatewayVirtualServiceHosts", nil, "it is wrong in any version, and an upgrade makes it neither better nor worse"},
	{"IST0110", "ConflictingSidecarWorkloadSelectors", nil, "it is wrong in any version, and an upgrade makes it neither better nor worse"},
	{"IST0111", "MultipleSidecarsWithoutWorkloadSelectors", nil, "it is wrong in any version, and an upgrade makes it neither better nor worse"},
	{"IST0112", "VirtualServiceDestinationPortSelectorRequired", nil, "it is wrong in any version, and an upgrade makes it neither better nor worse"},
	{"IST0116", "DeploymentAssociatedToMultipleServices", nil, "it is wrong in any version, and an upgrade makes it neither better nor worse"},
	{"IST0118", "PortNameIsNotUnderNamingConvention", nil, "it is wrong in any version, and an upgrade makes it neither better nor worse"},
	{"IST0123", "NamespaceMultipleInjectionLabels", []preflight.Code{preflight.NamespaceLabels}, "which revision a namespace follows decides when it moves"},
	{"IST0125", "InvalidAnnotation", nil, "it is wrong in any version, and an upgrade makes it neither better nor worse"},
	{"IST0126", "UnknownMeshNetworksServiceRegistry", nil, "it is wrong in any version, and an upgrade makes it neither better nor worse"},
	{"IST0127", "NoMatchingWorkloadsFound", nil, "it is wrong in any version, and an upgrade makes it neither better nor worse"},
	{"IST0128", "NoServerCertificateVerificationDestinationLevel", nil, "it is wrong in any version, and an upgrade makes it neither better nor worse"},
	{"IST0129", "NoServerCertificateVerificationPortLevel", nil, "it is wrong in any version, and an upgrade makes it neither better nor worse"},
	{"IST0130", "VirtualServiceUnreachableRule", nil, "it is wrong in any version, and an upgrade makes it neither better nor worse"},
	{"IST0131", "VirtualServiceIneffectiveMatch", nil, "it is wrong in any version, and an upgrade makes it neither better nor worse"},
	{"IST0132", "VirtualServiceHostNotFoundInGateway", nil, "it is wrong in any version, and an upgrade makes it neither better nor worse"},
	{"IST0133", "SchemaWarning", nil, "warnings of the webhook, in any version; what they say of deprecated fields has a code of its own (MW202)"},
	{"IST0134", "ServiceEntryAddressesRequired", nil, "it is wrong in any version, and an upgrade makes it neither better nor worse"},
	{"IST0135", "DeprecatedAnnotation", []preflight.Code{preflight.DeprecatedAnnotation}, "what is deprecated goes with a version"},
	{"IST0136", "AlphaAnnotation", []preflight.Code{preflight.AlphaAnnotation}, "what is alpha changes with a version"},
	{"IST0137", "DeploymentConflictingPorts", nil, "it is wrong in any version, and an upgrade makes it neither better nor worse"},
	{"IST0138", "GatewayDuplicateCertificate", nil, "it is wrong in any version, and an upgrade makes it neither better nor worse"},
	{"IST0139", "InvalidWebhook", []preflight.Code{preflight.InjectorService, preflight.InjectorOverlap, preflight.TagRevision}, "pods are made anew"},
	{"IST0140", "IngressRouteRulesNotAffected", nil, "it is wrong in any version, and an upgrade makes it neither better nor worse"},
	{"IST0141", "InsufficientPermissions", []preflight.Code{preflight.MissingPermission}, "an upgrade creates objects"},
	{"IST0142", "UnsupportedKubernetesVersion", []preflight.Code{preflight.KubernetesVersion}, "each version has a range of its own"},
	{"IST0143", "LocalhostListener", nil, "it is wrong in any version, and an upgrade makes it neither better nor worse"},
	{"IST0144", "InvalidApplicationUID", nil, "the pod is broken today"},
	{"IST0145", "ConflictingGateways", nil, "it is wrong in any version, and an upgrade makes it neither better nor worse"},
	{"IST0146", "ImageAutoWithoutInjectionWarning", []preflight.Code{preflight.ImageAuto}, "pods are made anew"},
	{"IST0147", "ImageAutoWithoutInjectionError", nil, "the pod can not start today, whoever restarts it; what makes it is judged (MW410)"},
	{"IST0148", "NamespaceInjectionEnabledByDefault", nil, "which namespaces are injected stays as it is"},
	{"IST0149", "JwtClaimBasedRoutingWithoutRequestAuthN", nil, "it is wrong in any version, and an upgrade makes it neither better nor worse"},
	{"IST0150", "ExternalNameServiceTypeInvalidPortName", nil, "it is wrong in any version, and an upgrade makes it neither better nor worse"},
	{"IST0151", "EnvoyFilterUsesRelativeOperation", []preflight.Code{preflight.EnvoyFilterRelative}, "the second filter, for the new version, changes the order"},
	{"IST0152", "EnvoyFilterUsesReplaceOperationIncorrectly", []preflight.Code{preflight.EnvoyFilterIgnored}, "what one version ignores the next may not"},
	{"IST0153", "EnvoyFilterUsesAddOperationIncorrectly", []preflight.Code{preflight.EnvoyFilterIgnored}, "what one version ignores the next may not"},
	{"IST0154", "EnvoyFilterUsesRemoveOperationIncorrectly", []preflight.Code{preflight.EnvoyFilterIgnored}, "what one version ignores the next may not"},
	{"IST0155", "EnvoyFilterUsesRelativeOperationWithProxyVersion", []preflight.Code{preflight.EnvoyFilterRelative}, "the second filter, for the new version, changes the order"},
	{"IST0156", "UnsupportedGatewayAPIVersion", []preflight.Code{preflight.GatewayAPIVersion}, "the new version may read another one"},
	{"IST0157", "InvalidTelemetryProvider", nil, "it is wrong in any version, and an upgrade makes it neither better nor worse"},
	{"IST0158", "PodsIstioProxyImageMismatchInNamespace", []preflight.Code{preflight.ProxyImage}, "proxies that are left behind skip a version"},
	{"IST0159", "ConflictingTelemetryWorkloadSelectors", nil, "it is wrong in any version, and an upgrade makes it neither better nor worse"},
	{"IST0160", "MultipleTelemetriesWithoutWorkloadSelectors", nil, "it is wrong in any version, and an upgrade makes it neither better nor worse"},
	{"IST0161", "InvalidGatewayCredential", nil, "it is wrong in any version, and an upgrade makes it neither better nor worse"},
	{"IST0162", "GatewayPortNotDefinedOnService", nil, "it is wrong in any version, and an upgrade makes it neither better nor worse"},
	{"IST0163", "InvalidExternalControlPlaneConfig", nil, "a control plane outside of the cluster is not one that Meshwright keeps"},
	{"IST0164", "ExternalControlPlaneAddressIsNotAHostname", nil, "a control plane outside of the cluster is not one that Meshwright keeps"},
	{"IST0165", "ReferencedInternalGateway", nil, "it is wrong in any version, and an upgrade makes it neither better nor worse"},
	{"IST0166", "IneffectiveSelector", nil, "selectors of policies on gateways of the Gateway API act the same in each version from 1.26 on"},
	{"IST0167", "IneffectivePolicy", nil, "it is wrong in any version, and an upgrade makes it neither better nor worse"},
	{"IST0168", "UnknownUpgradeCompatibility", nil, "no analyzer of istioctl 1.26 to 1.31 reports it; values and compatibilityVersion are judged by rendering the chart (MW303)"},
	{"IST0169", "UpdateIncompatibility", nil, "istioctl reports it of moves from 1.21 and before only, which no version here is"},
	{"IST0170", "MultiClusterInconsistentService", nil, "Meshwright looks at one cluster"},
	{"IST0171", "NegativeConditionStatus", nil, "it says what is wrong today, and has a condition of its own"},
	{"IST0172", "FutureUnsupportedGatewayAPIVersion", []preflight.Code{preflight.GatewayAPIVersion}, "the new version may read another one"},
	{"IST0173", "DestinationRuleSubsetNotSelectPods", nil, "it is wrong in any version, and an upgrade makes it neither better nor worse"},
	{"IST0174", "UnknownDestinationRuleHost", nil, "it is wrong in any version, and an upgrade makes it neither better nor worse"},
	{"IST0175", "JwksUriFetchUnrestricted", nil, "advice about security, the same in each version that has the setting"},
	{"IST0176", "GatewayAPICRDVersionBelowMinimum", []preflight.Code{preflight.GatewayAPIBundle}, "the new version takes newer ones only"},
	{"IST0177", "ConflictingServiceEntryProtocol", nil, "it is wrong in any version, and an upgrade makes it neither better nor worse"},
}

// The page about preflight has the same table, and the catalogue names the same codes of istioctl.
func TestTableOfMessages(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "preflight.md"))
	if err != nil {
		t.Fatal(err)
	}
	same := map[preflight.Code][]string{}
	for _, m := range messages {
		var ours []string
		for _, code := range m.ours {
			same[code] = append(same[code], m.code)
			ours = append(ours, string(code))
		}
		if len(ours) == 0 {
			ours = []string{"–"}
		}
		if row := "| " + strings.Join([]string{m.code, m.name, strings.Join(ours, ", "), m.why}, " | ") + " |\n"; !strings.Contains(string(page), row) {
			t.Errorf("docs/preflight.md lacks\n%s", row)
		}
	}
	for _, info := range preflight.Codes() {
		slices.Sort(same[info.Code])
		if diff := cmp.Diff(same[info.Code], info.Istioctl); diff != "" {
			t.Errorf("%s: what the table (-) and the catalogue (+) say istioctl calls it:\n%s", info.Code, diff)
		}
	}
}
