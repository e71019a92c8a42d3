# The two commands that matter are `make demo` and `make test`; the others are for whoever changes something.

SHELL := /bin/bash
CARGO := cargo
# What was tested is what is built: the lock file is never changed in passing.
LOCKED := --locked
TEST_FLAGS :=
BENCH := $(or $(CARGO_TARGET_DIR),target)/release/foreshade-bench

.DEFAULT_GOAL := help
.PHONY: help demo test tools lint docs scenarios bench image

help: ## show this list
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: tools ## a minute and a half: an endpoint breaks, with and without foreshade; then a controller judges
	$(CARGO) build $(LOCKED) --release -p foreshade-proxy -p foreshade-controller -p foreshade-bench
	$(BENCH) demo

test: tools ## run every test
	$(CARGO) build $(LOCKED) --workspace --bins
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
		set -x; $(CARGO) nextest run $(LOCKED) --workspace $(TEST_FLAGS); \
	else \
		set -x; $(CARGO) test $(LOCKED) --workspace --lib --bins --tests $(TEST_FLAGS); \
	fi
	$(CARGO) test $(LOCKED) --workspace --doc

lint: tools ## formatting, clippy, documentation: all without a warning
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(LOCKED) --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc $(LOCKED) --no-deps --workspace --document-private-items

docs: tools ## build the documentation of the crates
	$(CARGO) doc $(LOCKED) --no-deps --workspace --document-private-items

scenarios: tools ## play every scenario and write docs/scenarios.md, if none is missing; about half an hour
	$(CARGO) build $(LOCKED) --release -p foreshade-proxy -p foreshade-bench
	$(BENCH) scenarios --all --markdown docs/scenarios.md

bench: tools ## measure what serving costs, against nginx, HAProxy, Envoy and a bare pingora-proxy; about four minutes
	scripts/rivals
	$(CARGO) build $(LOCKED) --release -p foreshade-proxy -p foreshade-bench
	$(BENCH) compare

image: ## build the container image; needs docker
	docker build -t foreshade-proxy .

tools:
	@scripts/tools
