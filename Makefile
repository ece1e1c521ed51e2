# make build     bin/bdbvault
# make demo      a live environment is backed up, destroyed, restored and checked, in under a minute
# make test      everything that proves a change
# make fuzz      every fuzz target for FUZZTIME each
# make torture   the tests against the live engine, TORTURE times as long
# make bench     the table of speed, beside other tools

GO       ?= go
FUZZTIME ?= 5m
TORTURE  ?= 20
TIMEOUT  ?= 30m

# A checkout that git does not trust (another user's) is built without its revision.
ifneq ($(shell git rev-parse HEAD >/dev/null 2>&1 && echo yes),yes)
export GOFLAGS += -buildvcs=false
endif

# What stands beside the product: it needs a C compiler and Berkeley DB whatever CGO_ENABLED says.
TESTTOOLS = bdbvault/localenv/envtest|bdbvault/cmd/bench

.PHONY: all build demo test check test-nocgo fuzz torture bench deps clean
.DEFAULT_GOAL = build

all: build test

deps:
	@.ci/deps

build: deps
	CGO_ENABLED=1 $(GO) build -o bin/bdbvault ./cmd/bdbvault

demo: build
	@CGO_ENABLED=1 $(GO) build -o bin/dbworkload ./localenv/envtest/dbworkload
	@docs/demo.sh

# The first run builds the servers that the stores are tested against, which takes some minutes.
test: check test-nocgo
	@.ci/deps test
	@$(GO) run ./remote/remotetest/cmd/testservers
	CGO_ENABLED=1 $(GO) test -timeout $(TIMEOUT) ./...

check: deps
	@unformatted=$$(gofmt -l $$(git ls-files '*.go' 2>/dev/null || find . -name '*.go')); \
	if [ -n "$$unformatted" ]; then echo "gofmt would change:"; echo "$$unformatted"; exit 1; fi
	CGO_ENABLED=1 $(GO) vet ./...

# Without cgo the product works through the db_ programs.
test-nocgo:
	CGO_ENABLED=0 $(GO) build -o /dev/null ./cmd/bdbvault
	CGO_ENABLED=0 $(GO) vet $$($(GO) list ./... | grep -Ev '^($(TESTTOOLS))(/|$$)')

fuzz: deps
	@set -e; for package in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' $$package | grep '^Fuzz' || true); do \
			echo "$$package $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$package; \
		done; \
	done

torture: deps
	@.ci/deps test
	BDBVAULT_TORTURE=$(TORTURE) CGO_ENABLED=1 $(GO) test -count=1 -timeout 24h ./...

bench: build
	@.ci/deps bench
	$(GO) run ./cmd/bench

clean:
	rm -rf bin
