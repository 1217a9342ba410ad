# Q-TLS. Start with `make demo` or `make test`; `make help` lists the rest.
.DEFAULT_GOAL := help
SHELL := /bin/bash
CARGO ?= cargo

help: ## What there is to make
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: ## Post-quantum TLS by an unmodified nginx, on this machine, now
	@demo/run.sh

demo-debian13: ## The same in a Debian 13 root, with ML-DSA certificates, on any machine
	@demo/run.sh debian13

demo-stop: ## End the demos' nginx
	@demo/run.sh stop

# Without debug information the files are a quarter as big; target/release keeps it.
build: ## dist/qtls.so and dist/qtls
	$(CARGO) build --release -p qtls-provider
	$(CARGO) build --release -p qtls-cli
	@mkdir -p dist
	objcopy --strip-debug target/release/libqtls.so dist/qtls.so
	objcopy --strip-debug target/release/qtls dist/qtls

test: ## Set up and pass the tests (every change must)
	tests/run.sh ci

test-full: ## The whole product: every version, group and client
	tests/run.sh full

bench: ## Measure both sides in one run; writes docs/benchmarks.md
	tests/bench.sh

lint: ## Format, clippy, licences and sources of dependencies
	tests/lint.sh

.PHONY: help demo demo-debian13 demo-stop build test test-full bench lint
