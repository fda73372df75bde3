# Coracle's front door. `make help` lists what can be done here.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# One target folder outside the checkout, so that every clone and branch
# shares the twenty minutes RocksDB and wasmtime take to build.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/coracle/target
export CARGO_TERM_PROGRESS_WHEN ?= auto

.PHONY: help setup build dist demo test test-upgrade histories machine csi-peer lint deny doc bench fuzz clean

help: ## List the commands
	@echo "Coracle: Kubernetes' API in one small binary"; echo
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: ## Install the Debian packages and tools that are missing
	@tools/setup

# All targets: test dependencies switch on features of shared crates, and with
# them the same build serves `make test`, instead of a second one beside it.
build: setup ## Build the daily binary into bin/coracle
	@echo "==> building (the first time takes about 25 minutes on two cores, then seconds)"
	cargo build --locked --workspace --all-targets
	@mkdir -p bin && cp --remove-destination "$(CARGO_TARGET_DIR)/debug/coracle" bin/coracle
	@echo "==> bin/coracle is ready: try 'bin/coracle --help'"

dist: setup ## Build the lean binary (LTO, stripped) into bin/dist/coracle
	@echo "==> building the lean binary (about 25 minutes on two cores from nothing)"
	cargo build --locked --profile dist --bin coracle
	@mkdir -p bin/dist && cp --remove-destination "$(CARGO_TARGET_DIR)/dist/coracle" bin/dist/coracle
	@ls -lh bin/dist/coracle

demo: build ## Start a one-node cluster, deploy the examples, prove that they answer
	@tools/demo

test: setup ## Run every test
	@tools/run-tests

test-upgrade: setup ## Upgrade servers from an earlier revision (FROM=REVISION) to this one and back, under load
	@tools/test-upgrade $(FROM)

# Of one machine, of groups, and of groups with a witness: each sort on a core of its own.
SEEDS ?= 0..1000000
histories: setup ## Live through histories of the store's simulator (SEEDS=0..1000000 of each sort; hours)
	SEEDS=$(SEEDS) cargo nextest run --profile long --locked --workspace --success-output immediate -E 'package(coracle-store) & test(/::(many|witness)_histories$$/)'

# Emulated where there is no KVM: hours for all, so it is no part of `make test`.
SCENARIOS ?=
machine: build ## Run scenarios on Debian's kernel with cgroup v2 alone (SCENARIOS="cgroup_v2:: limits::")
	@tools/machine $(SCENARIOS)

# Programs of others, which nothing here brings along: no part of `make test`.
PROGRAMS ?=
csi-peer: build ## Run the public CSI driver and its helpers (PROGRAMS=FOLDER has them) against a node
	@tools/csi-peer $(PROGRAMS)

lint: setup ## Check format, clippy, rustdoc, and licences (cargo-deny if installed)
	cargo fmt --all -- --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps
	@if command -v cargo-deny >/dev/null; then $(MAKE) deny; else echo "cargo-deny is not installed: dependencies not checked (cargo install --locked cargo-deny)"; fi

# The advisories come from the network, or with ADVISORIES=FOLDER from a clone of rustsec/advisory-db.
deny: ## Check dependencies: advisories, licences, sources, bans (needs cargo-deny)
	@command -v cargo-deny >/dev/null || { echo "cargo-deny is not installed: cargo install --locked cargo-deny"; exit 1; }
	@tools/deny

doc: setup ## Build the documentation of the crates
	cargo doc --locked --workspace --no-deps

bench: dist ## Measure against the peers and print the tables
	@benches/run

# The property tests feed generated and damaged input to everything that reads
# what strangers send: decoders, patches, quantities, log and commands.
CASES ?= 20000
fuzz: setup ## Feed generated input to all readers (CASES=20000 each)
	PROPTEST_CASES=$(CASES) cargo nextest run --locked --workspace -E 'package(coracle-api) + package(coracle-store) + (package(coracle-apiserver) & test(damaged))'

clean: ## Remove what a build left in this checkout and its cache
	rm -rf bin
	cargo clean
