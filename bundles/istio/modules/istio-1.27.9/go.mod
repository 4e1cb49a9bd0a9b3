module github.com/meshwright/meshwright/bundles/istio/modules/istio-1.27.9

go 1.26.0

require istio.io/istio v0.0.0-20260403063052-b9159ca3e5d5
