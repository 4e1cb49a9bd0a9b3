# Copyright The Meshwright Authors.
# SPDX-License-Identifier: Apache-2.0

# Every target is thin over go: what it does is in a Go program, which can be run without make.

GO      ?= go
NAME    ?= mesh
# Version that is released.
VERSION ?= $(shell cat hack/packaging/VERSION)
CLUSTER := $(GO) run ./e2e/cluster/cmd/cluster
# Kubernetes versions of test-matrix, besides the one that test-e2e runs on.
MATRIX  ?= 1.33.13 1.36.3

.DEFAULT_GOAL := help
.NOTPARALLEL:

.PHONY: help
help: ## Explain the targets
	@awk 'BEGIN { FS = ":.*## "; print "make <target>\n" } /^[a-z0-9-]+:.*## / { printf "  %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: bundles ## A real cluster, the operator, one mesh, 100 requests over mTLS
	$(GO) run ./e2e/demo

.PHONY: demo-upgrade
demo-upgrade: bundles ## 1.28.2 to 1.29.1 under 500 requests a second: a gateway in three weights, two waves, an approval, no request lost
	$(GO) run ./e2e/demoupgrade

.PHONY: test
test: test-site test-unit test-hsm test-api test-e2e ## Everything that a fresh machine can prove, the real cluster included
	@$(CLUSTER) down --name e2e

.PHONY: test-site
test-site: site

.PHONY: test-unit
test-unit: bundles ## Tests without a server
	$(GO) vet -tags api,e2e ./...
	$(GO) test ./...
	$(GO) -C e2e/apps test ./...
	$(GO) -C e2e/cluster/modules/tools test ./...
	$(GO) -C hack/tools/olm test ./...

.PHONY: test-hsm
test-hsm: ## A root in a PKCS#11 token: SoftHSM and a C compiler, which apt-get installs where they are missing
	$(GO) -C e2e/softhsm run ./prepare -install-packages
	CGO_ENABLED=1 $(GO) -C e2e/softhsm test -count=1 ./...

.PHONY: test-api
test-api: bundles ## Tests on a real kube-apiserver and etcd
	assets="$$($(CLUSTER) envtest)" && KUBEBUILDER_ASSETS="$$assets" $(GO) test -tags api -parallel 4 -timeout 30m $(API_PACKAGES)

# The packages that have tests of the build tag api.
API_PACKAGES = $(addprefix ./,$(sort $(dir $(wildcard operator/*/*_api_test.go operator/*/*/*_api_test.go \
	controllers/*/*_api_test.go webhooks/*_api_test.go webhooks/*/*_api_test.go config/*_api_test.go hack/*/*_api_test.go))))

.PHONY: test-e2e
test-e2e: bundles ## Tests on a real cluster, made anew (it stays for a look when one fails)
	$(CLUSTER) down --name e2e
	$(GO) test -tags e2e -count=1 -p 1 -v -timeout 60m ./e2e/...

.PHONY: test-long
test-long: bundles ## What takes too long for every change: bad versions, ways back, every source of a CA, killed operators, stopped agents (before a release)
	$(CLUSTER) down --name e2e
	$(GO) test -tags e2e,long -count=1 -p 1 -v -timeout 90m ./e2e/gateways ./e2e/resilience ./e2e/rotation ./e2e/upgrade
	$(CLUSTER) down --name e2e

.PHONY: test-matrix
test-matrix: bundles ## Install each Istio on the other Kubernetes versions (MATRIX=...)
	set -e; for version in $(MATRIX); do \
		$(CLUSTER) down --name e2e; \
		MESHWRIGHT_KUBERNETES=$$version $(GO) test -tags e2e -count=1 -p 1 -v -timeout 60m -run TestInstallEachVersion ./e2e/install; \
	done
	$(CLUSTER) down --name e2e

.PHONY: bench
bench: bundles ## Measure on a real cluster, made anew, and write docs/benchmarks.md
	$(CLUSTER) down --name bench
	$(GO) run ./e2e/bench
	$(CLUSTER) down --name bench

.PHONY: docs
docs: bundles ## Write docs/what-you-see.md, docs/session.md and docs/session.cast from a real run
	$(GO) run ./e2e/transcript
	$(CLUSTER) down --name docs

.PHONY: site
site: ## The documentation as one site in dist/site, and whether all its links lead somewhere (needs python3 and python3-venv)
	$(GO) run ./hack/docs

.PHONY: bundles
bundles: ## Istio's charts, from its Go modules (nothing to do when they are current)
	$(GO) run ./bundles/istio/cmd/bundle

.PHONY: build
build: bundles ## bin/meshwright
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/meshwright ./operator/cmd/meshwright

.PHONY: release
release: bundles ## A whole release in dist/ (VERSION=0.1.0 REGISTRY=... PREVIOUS=... CATALOGUE=... RESOLVE=1 OUT=... SIGN_KEY=... PUSH=1)
	$(GO) run ./hack/release/cmd/release build --version "$(VERSION)" $(if $(REGISTRY),--registry $(REGISTRY)) \
		$(if $(PREVIOUS),--previous $(PREVIOUS)) $(if $(CATALOGUE),--catalogue $(CATALOGUE)) $(if $(RESOLVE),--resolve) $(if $(OUT),--out $(OUT)) $(if $(SIGN_KEY),--sign-key $(SIGN_KEY)) $(if $(PUSH),--push)

.PHONY: release-manifests
release-manifests: bundles ## Plain file, Helm chart, OLM bundle and catalogue in dist/ (IMAGE=registry/meshwright@sha256:... IMAGES=... VERSION=0.1.0 PREVIOUS=... CATALOGUE=...)
	$(GO) run ./hack/packaging/cmd/packaging -version "$(VERSION)" -image "$(IMAGE)" -images "$(IMAGES)" -previous "$(PREVIOUS)" -catalogue "$(CATALOGUE)"

.PHONY: generate
generate: bundles ## Deep copies, CRDs, RBAC, the API reference, the chart and OLM's bundle
	$(GO) run ./hack/generate

.PHONY: verify
verify: bundles ## Fail when generated files, formatting or go.mod are stale
	$(GO) run ./hack/generate -check
	$(GO) mod tidy -diff
	$(GO) -C e2e/softhsm mod tidy -diff
	$(GO) -C hack/tools/olm mod tidy -diff
	for tags in "" api e2e e2e,long; do echo "vet $$tags"; $(GO) vet -tags "$$tags" ./... || exit 1; done
	test -z "$$(gofmt -l bundles controllers e2e hack operator webhooks)"

.PHONY: lint
lint: ## golangci-lint (the first time it is built, which takes minutes)
	$(GO) tool -modfile=hack/tools/lint/go.mod golangci-lint run --build-tags api,e2e,long ./...

.PHONY: cluster-up
cluster-up: ## A cluster with Istio's images to play with (NAME=mesh)
	$(CLUSTER) up --name $(NAME) --istio 1.28.2,1.29.1 --install-packages

.PHONY: cluster-down
cluster-down: ## Remove it and all it left on this machine (NAME=mesh)
	$(CLUSTER) down --name $(NAME)

.PHONY: cluster-status
cluster-status: ## The clusters of this machine
	$(CLUSTER) status

.PHONY: clean
clean: ## Remove what was built inside the checkout (not the cache of clusters)
	rm -rf bin dist bundles/istio/builtin/*.tgz
