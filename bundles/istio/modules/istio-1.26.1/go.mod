module github.com/meshwright/meshwright/bundles/istio/modules/istio-1.26.1

go 1.26.0

require istio.io/istio v0.0.0-20250527174434-2ce3ad897b98
