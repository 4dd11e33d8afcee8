# The commands of this repository; `make` alone lists them. Each can be read here and typed by hand as well.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --warn-undefined-variables

# Where it is installed, cargo-nextest runs the tests of all crates at once and ends those that hang.
ifneq ($(shell command -v cargo-nextest),)
run_tests := cargo nextest run --workspace
else
run_tests := cargo test --workspace --tests
endif

# Asked for rather than assumed, since CARGO_TARGET_DIR or Cargo's configuration may put it elsewhere.
target_directory = $(shell cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')

.PHONY: help
help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: run
run: ## Build, then serve a demo on the embedded database; needs nothing but Rust
	cargo run --package multicredit --bin multicredit -- serve --demo

# Everything is built before a server starts. `with-servers` is built along and used from there: `cargo run` would pick
# the features of its dependencies for itself and build half of them twice.
.PHONY: test
test: ## Install what is missing, start throwaway PostgreSQL and Redis, run every test
	scripts/install-test-deps.sh
	cargo test --workspace --doc
	$(run_tests) --no-run
	"$(target_directory)/debug/with-servers" $(run_tests)

# Many random sequences against the naive ledger, for nights and for changes of the rules. Not by nextest, which ends
# what takes this long.
.PHONY: model
model: ## Hold the ledger against the naive one in 10,000 random sequences on each engine
	MULTICREDIT_MODEL_SEQUENCES=10000 cargo test --package tests --test it -- model:: --nocapture

.PHONY: deliveries
deliveries: ## Kill a server 200 times on each engine while it delivers webhooks, and look for what was lost
	MULTICREDIT_DELIVERY_KILLS=200 cargo test --package tests --test it -- webhooks::kills --nocapture

# Not by nextest either. One after the other: each has the machine for itself. SEED=... makes it another run. Built as it is
# released, because some of it is about how much there can be. LTO is left out, which takes minutes and changes little.
SEED ?= 1
fault_run := MULTICREDIT_FAULT_SEED=$(SEED) MULTICREDIT_FAULT_RESULTS="$(CURDIR)/docs/results/fault.md" \
	CARGO_PROFILE_RELEASE_LTO=off cargo test --release --package tests --test it -- --nocapture

.PHONY: fault
fault: ## Kill, cut, delay and lie under load for long; adds to docs/results/fault.md
	MULTICREDIT_FAULT_ROUNDS=10 MULTICREDIT_FAULT_PARTITION_SECONDS=60 $(fault_run) fault::whatever
	MULTICREDIT_FAULT_ROUNDS=200 MULTICREDIT_FAULT_FAULTS=kill_api $(fault_run) fault::whatever
	MULTICREDIT_FAULT_ROUNDS=50 MULTICREDIT_FAULT_FAULTS=kill_postgres $(fault_run) fault::whatever
	MULTICREDIT_FAULT_CUTS=1000 $(fault_run) fault::a_commit
	MULTICREDIT_FAULT_KEYS=100000 $(fault_run) fault::a_key
	MULTICREDIT_FAULT_FILLS=20 MULTICREDIT_FAULT_RATE=200 $(fault_run) fault::a_disk
	MULTICREDIT_FAULT_FILLS=20 $(fault_run) fault::full_disk

.PHONY: overspend
overspend: ## Ask for more than there is, millions of times; adds to docs/results/fault.md
	MULTICREDIT_FAULT_CONSUMPTIONS=4000000 MULTICREDIT_FAULT_BATCH=1000 $(fault_run) there_was_over_two_processes
	MULTICREDIT_FAULT_CONSUMPTIONS=400000 MULTICREDIT_FAULT_BATCH=1000 $(fault_run) there_was_on_sqlite

.PHONY: overload
overload: ## Load a server with twice of what it can take for a minute; adds to docs/results/fault.md
	MULTICREDIT_FAULT_SECONDS=60 MULTICREDIT_FAULT_PEAK_SECONDS=10 MULTICREDIT_FAULT_CONNECTIONS=2000 \
		$(fault_run) fault::overload
	MULTICREDIT_FAULT_SECONDS=60 MULTICREDIT_FAULT_PEAK_SECONDS=10 MULTICREDIT_FAULT_CONNECTIONS=16000 \
		MULTICREDIT_FAULT_DISTANCE_MS=40 $(fault_run) fault::overload

# Over as many connections as half of the load needs: with whatever waits, memory goes up and down by more than a leak would.
.PHONY: soak
soak: ## Load a server with half of what it can take for an hour; adds to docs/results/fault.md
	MULTICREDIT_FAULT_SECONDS=3600 MULTICREDIT_FAULT_PEAK_SECONDS=10 MULTICREDIT_FAULT_CONNECTIONS=96 \
		$(fault_run) fault::soak

# Advisories are left out: their database comes over the network, from where not everybody may fetch. `cargo deny check
# advisories` does it where one may.
deny := "$(target_directory)/tools/bin/cargo-deny"

.PHONY: deny
deny: ## Hold licences, sources and versions of the dependencies against deny.toml
	test -x $(deny) || cargo install --quiet --locked --root "$(target_directory)/tools" cargo-deny@0.20.2
	$(deny) check licenses bans sources

.PHONY: schemathesis
schemathesis: ## Hold a server against its OpenAPI document, with made-up requests; needs Python
	cargo build --package multicredit --bin multicredit
	scripts/schemathesis.sh "$(target_directory)"

# A mutant is the domain, or what the ledger decides without a database, with one small mistake in it, which a unit test
# of its crate must find. `.cargo/mutants.toml` says which files; `MUTANTS="--shard 0/8"` looks at a part of them. Fewer
# made-up cases and schedules than usual, and nothing for a debugger: each mutant is built and tested by itself.
mutants := "$(target_directory)/tools/bin/cargo-mutants"
MUTANTS ?=

.PHONY: mutants
mutants: ## Make mistakes in domain and ledger, one by one, and see whether unit tests find them
	test -x $(mutants) || cargo install --quiet --locked --root "$(target_directory)/tools" cargo-mutants@27.1.0
	PROPTEST_CASES=$${PROPTEST_CASES-100} MULTICREDIT_INTERLEAVINGS=$${MULTICREDIT_INTERLEAVINGS-200} \
		CARGO_PROFILE_DEV_DEBUG=none $(mutants) mutants --package multicredit-domain --package multicredit-store \
		--output "$(target_directory)" $(MUTANTS)

# What is found on the way is kept under the target directory; what is worth keeping is copied from there into
# `fuzz/corpus`, where `make test` uses it too. The versions of dependencies are those of the workspace.
fuzz := "$(target_directory)/tools/bin/cargo-fuzz"
FUZZ_SECONDS ?= 600
FUZZ_TARGETS ?= amounts bodies cloud_events csv cursors keys

.PHONY: fuzz
fuzz: ## Give what libFuzzer makes up to all that reads input, FUZZ_SECONDS each; needs nightly Rust
	test -x $(fuzz) || cargo install --quiet --locked --root "$(target_directory)/tools" cargo-fuzz@0.13.2
	cp Cargo.lock fuzz/Cargo.lock
	for target in $(FUZZ_TARGETS); do \
		mkdir -p "$(target_directory)/fuzz/corpus/$$target"; \
		RUSTUP_TOOLCHAIN=nightly $(fuzz) fuzz run --sanitizer none --target-dir "$(target_directory)/fuzz" $$target \
			"$(target_directory)/fuzz/corpus/$$target" fuzz/corpus/$$target -- -max_total_time=$(FUZZ_SECONDS) -max_len=8192; \
	done

.PHONY: build
build: ## Build the programs as released, into target/release
	cargo build --release

.PHONY: check
check: ## Look for wrong format and for anything that the lints say
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

.PHONY: fmt
fmt: ## Format the code
	cargo fmt --all

.PHONY: clean
clean: ## Remove what was built, not the demo's data
	cargo clean
