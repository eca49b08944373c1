# make help says what there is. Cargo does the work; this only names the steps.

SHELL := /bin/bash
CARGO ?= cargo
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
TRIPLE := $(shell rustc -vV | sed -n 's/^host: //p')
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
# Tests are built as the user who asks and run as root: cargo starts them by way of this.
ifneq ($(SUDO),)
export CARGO_TARGET_$(shell echo $(TRIPLE) | tr a-z- A-Z_)_RUNNER := sudo --preserve-env
endif
# How long `make fuzz` runs each of its targets.
FUZZ_SECONDS ?= 60
# With nextest each test has a process of its own, and a hanging one is told by name.
NEXTEST := $(shell command -v cargo-nextest)

.PHONY: help build release tour test test-deps test-kernels bench-kernels bench fmt lint licences bpf fuzz clean
.DEFAULT_GOAL := help

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/    make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

build: ## the workspace, for development
	$(CARGO) build --workspace --locked

# httparse asks the processor what it can before it parses its first header; on a virtual machine, where each such
# question goes to the host, that takes longer than to parse them all.
release: ## dist/snorkel: optimised, static, for any distribution
	CARGO_CFG_HTTPARSE_DISABLE_SIMD=1 RUSTFLAGS="-C target-feature=+crt-static -C relocation-model=static" \
	    $(CARGO) build --release --locked --package snorkel --target $(TRIPLE)
	mkdir -p dist
	cp $(TARGET_DIR)/$(TRIPLE)/release/snorkel dist/snorkel
	scripts/check-static dist/snorkel

tour: release ## a minute's tour with throw-away containers; needs root and no engine
	$(SUDO) dist/snorkel lab tour

test-deps: ## installs the engines and tools that the tests run (Debian and its kin)
	$(SUDO) scripts/install-test-deps

test: test-deps ## every test: units, labs, real engines
	$(CARGO) test --workspace --locked --quiet --doc
ifneq ($(NEXTEST),)
	$(CARGO) nextest run --workspace --locked --no-fail-fast
else
	$(CARGO) test --workspace --locked --no-fail-fast --lib --bins --tests --examples
endif

test-kernels: test-deps ## the tests of what is done in the kernel, on Debian's 6.1 and 6.12 in virtual machines
	CARGO=$(CARGO) scripts/test-kernels

bench-kernels: test-deps ## how exact faults are on 6.1 and 6.12, by netem and by snorkel itself
	CARGO=$(CARGO) scripts/bench-kernels

bench: release test-deps ## the speed compared with the usual tools, side by side
	SNORKEL_BENCH_BINARY=$(CURDIR)/dist/snorkel $(CARGO) bench --locked --package snorkel --bench speed --bench capture --bench faults --bench tap

fmt: ## formats all sources
	$(CARGO) fmt --all
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml

# The check of fuzz/ links nothing: a libFuzzer that is said to be there need not be built, which would take a compiler
# of C++.
lint: licences ## formatting, clippy, documentation, fuzz targets, eBPF objects, scripts, licences
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml --check
	$(CARGO) clippy --workspace --locked --all-targets -- -D warnings
	RUSTDOCFLAGS=-Dwarnings $(CARGO) doc --workspace --locked --no-deps
	scripts/check-bpf
	CUSTOM_LIBFUZZER_PATH=/not/linked/libfuzzer.a $(CARGO) check --manifest-path fuzz/Cargo.toml --locked
	for script in scripts/install-test-deps scripts/check-static scripts/check-bpf scripts/fuzz .ci/run; do bash -n $$script || exit 1; done
	sh -n scripts/kernels/init

licences: ## the licences of all dependencies
	PYTHONDONTWRITEBYTECODE=1 python3 -m unittest discover --quiet --start-directory scripts/tests
	scripts/check-licences

# Any clang would compile them; which one makes the committed bytes is written in the script.
bpf: ## compiles the eBPF sources into the committed objects; needs clang and llvm
	scripts/check-bpf --write

fuzz: ## each fuzz target for FUZZ_SECONDS (60)
	scripts/fuzz $(FUZZ_SECONDS)

clean: ## removes what was built
	$(CARGO) clean
	rm -rf dist fuzz/target
