module github.com/meshwright/meshwright/bundles/istio/modules/istio-1.26.0

go 1.26.0

require istio.io/istio v0.0.0-20250506181944-c2e9871f340c
