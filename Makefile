# Twinline. `make help` lists the targets.
VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS   := -s -w -X github.com/twinline/twinline/internal/app.Version=$(VERSION)
BINARIES  := $(wildcard cmd/* mappers/*/cmd/* edgeapps/*/cmd/* cloudapps/*/cmd/*)
CACHE     := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/twinline
LINTER    := v2.15.0
GOLANGCI  := $(CACHE)/golangci-lint-$(LINTER)/golangci-lint
STACK     := go -C test/e2e run ./cmd/stack
FUZZTIME  ?= 10s
SHELL     := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

.PHONY: help build demo test race lint fuzz generate verify e2e stack-up stack-down bench clean

help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | expand -t 14

build: ## Static, stripped binaries in bin/
	@mkdir -p bin
	@echo "building $(words $(BINARIES)) binaries into bin/ (the first time takes a few minutes)"
	@CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/ $(addprefix ./,$(BINARIES))

demo: build ## The whole of Twinline in one process, on simulated devices: http://localhost:8080
	@bin/twinline demo

test: ## Unit and integration tests on real Mosquitto, PostgreSQL and TimescaleDB; installs them
	@test/integration.sh

race: ## All tests but the integration tests under the race detector
	@go test -race -json ./... | go run ./test/report -title race

lint: $(GOLANGCI) ## The rules of CONTRIBUTING.md
	@$(GOLANGCI) run ./...
	@cd test/e2e && go vet ./...
	@cd test/bench && go vet ./...

$(GOLANGCI):
	@echo "building golangci-lint $(LINTER) (once, a few minutes)"
	@GOBIN=$(dir $(GOLANGCI)) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINTER)

fuzz: ## Every fuzz target for FUZZTIME (10s)
	@test/fuzz.sh $(FUZZTIME)

generate: ## Write the generated pages of docs/spec
	@go run ./cmd/twinline docs --output docs/spec

verify: generate ## Fail when a generated file is stale
	@git diff --exit-code -- docs/spec

e2e: ## The suite on the real stack: Kubernetes, KubeEdge, Kafka, TimescaleDB
	@test/e2e.sh

stack-up: ## Start the real stack and leave it running; prints what to export
	@$(STACK) up
	@$(STACK) env

stack-down: ## Stop the real stack and clean up
	@$(STACK) down

bench: ## Benchmarks against peers, as ratios
	@cd test/bench && go run .

clean: ## Remove what was built here
	@rm -rf bin
