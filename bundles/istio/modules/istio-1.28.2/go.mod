module github.com/meshwright/meshwright/bundles/istio/modules/istio-1.28.2

go 1.26.0

require istio.io/istio v0.0.0-20251217200826-ab413ac6c1f4
