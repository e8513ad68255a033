# Each recipe is what a person could type. `make help` lists them.

MODULE   := github.com/vasp-enclave/vasp-enclave
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
STAMP    := -X $(MODULE)/cmd/enclavecmd.Version=$(VERSION) -X $(MODULE)/cmd/centralcmd.Version=$(VERSION)
TOOL     := go tool -modfile=.ci/tools/go.mod
# Modules of their own: comparisons with other implementations, examples to copy, and the decrypt API, which reaches
# its HSM through cgo.
NESTED   := $(patsubst ./%/go.mod,%,$(shell find . -mindepth 2 -name go.mod -not -path '*/testdata/*' -not -path './.ci/*'))
FUZZTIME ?= 30s
# Long storms of single calls, one after the other: make test has them, and their concurrency others have.
STORMS   := ^(TestAHostileCentral|TestMutated.*|TestPayloadsTravelByteForByte|TestListsOfALongHistory|TestNoBit.*|TestEveryBit.*|$\
TestTinkAndStandardLibraryAgree|TestCrashImages|TestTheNthSystemCallFails|TestFlippedBits|TestADamaged.*|TestTheAnchorFindsEveryOlderCopy|$\
TestAKeyDrainHurtsNobodyElse|TestKeyDrainIsBounded|TestReportsHaveABudget|TestAllPeersGetSoManyKeys|TestPoisonedValuesAreNeverUsed|TestIssueAndRenewUnderLoad|TestNothingLeaks|$\
TestEveryEditIsDetected|TestAMillionEntriesVerify)$$
RACE     ?= $(addprefix ./,crypto/keyring storage/bolt storage/memory proxy proxy/central proxy/edge proxy/outward proxy/relay proxy/vasp cmd/life cmd/reload)

export CGO_ENABLED = 0

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' Makefile

build: ## static binaries into bin/
	@echo 'building; a minute or two the first time'
	go build -trimpath -ldflags '-s -w $(STAMP)' -o bin/ ./cmd/enclave ./cmd/central ./cmd/robotvasp

image: ## container images into bin/image/, without a daemon, with size, layers, digest and a list of components (ARCH=arm64)
	go run -C deploy/image . -out $(CURDIR)/bin/image -version $(VERSION) $(if $(ARCH),-arch $(ARCH))

demo: build ## two VASPs and a central server on this machine, step by step (KEEP=1: leave it running, ACME=1: automatic certificates)
	$(if $(ACME),go build -modfile=.ci/tools/go.mod -o bin/ github.com/letsencrypt/pebble/v2/cmd/pebble)
	bin/enclave demo $(if $(KEEP),--keep) $(if $(ACME),--acme bin/pebble)

test: deps ## all tests, in less than 12 minutes on two cores
	go test -timeout 15m ./...
	@for m in $(NESTED); do echo "go test -C $$m ./..."; CGO_ENABLED=1 go test -C $$m ./... || exit 1; done

race: deps ## the race detector on what runs concurrently (RACE=packages)
	CGO_ENABLED=1 go test -race -timeout 8m -skip '$(STORMS)' $(RACE)

check: ## gofmt, vet, staticcheck, attacks without a test, known vulnerabilities
	@test -z "$$(gofmt -l .)" || { echo 'gofmt -w these files:'; gofmt -l .; exit 1; }
	go vet ./...
	$(TOOL) staticcheck ./...
	go test -C cmd/repository -count=1 -run '^TestEveryAttackHasATest$$'
	.ci/vulnerabilities

fuzz: ## every fuzz target for FUZZTIME (30s)
	.ci/fuzz $(FUZZTIME)

torture: deps ## the long forms of the storms, an hour at most
	TORTURE=1 go test -count=1 -timeout 60m ./...

bench: build ## the whole path and its floor, measured in one run
	go run ./cmd/bench

deps: ## install what the tests need beyond Go, or say what to install
	@.ci/deps

clean: ## remove what build made
	rm -rf bin

.PHONY: help build image demo test race check fuzz torture bench deps clean
