# One command per intention, the same here and in CI.
SHELL := /bin/bash

.PHONY: lab test check build install image image-test compose-test failover-test bench paths deb deb-test \
	fmt clippy doc deps

CARGO ?= cargo
PREFIX ?= /usr/local
TARGET := $(or $(CARGO_TARGET_DIR),target)

## lab: simulated Front Ends, Office Web Apps and Frontgate in front of them
lab: deps
	$(CARGO) build --locked --release --bin frontgate
	$(TARGET)/release/frontgate lab $(ARGS)

## test: the whole test suite
test: deps
	./scripts/dependencies.sh test
	$(CARGO) test --locked

## check: what CI runs
check: deps fmt clippy doc test paths

## paths: the hot paths have not become longer; counted by callgrind, so the machine does not matter
paths: deps
	./scripts/dependencies.sh test
	$(CARGO) bench --locked --bench paths

## image: the container image, with Docker, or with what the distribution has
image:
	./scripts/image.sh frontgate

## image-test: builds the image and runs it, for real
image-test: deps
	./scripts/image.sh frontgate-test
	. scripts/engine.sh && export ENGINE IMAGE=frontgate-test && \
		$(CARGO) test --locked --test image -- --test-threads 2

## bench: Frontgate beside nginx and HAProxy; ARGS="--rounds 5 --only h1,h2 --write docs"
bench: build
	./scripts/dependencies.sh bench
	test -x $(TARGET)/tools/bin/oha || $(CARGO) install --locked --root $(TARGET)/tools oha
	$(CARGO) bench --locked --bench paths -- time >$(TARGET)/paths.json
	FRONTGATE=$(abspath $(TARGET))/release/frontgate PATHS=$(abspath $(TARGET))/paths.json OHA=$(abspath $(TARGET))/tools/bin/oha \
		$(CARGO) test --locked --test bench -- $(ARGS)

## compose-test: deploy/compose.yaml for real, and a restart of all of it under load
compose-test:
	./scripts/dependencies.sh test
	./scripts/image.sh frontgate-test
	IMAGE=frontgate-test ./scripts/compose-test.sh

## failover-test: how long clients wait when keepalived moves the address; as root
failover-test: deps
	./scripts/dependencies.sh failover
	$(CARGO) test --locked --test failover -- --nocapture

## deb: the Debian package
deb: build
	./scripts/deb.sh $(TARGET)/release/frontgate target/deb

## deb-test: installs, upgrades, removes and purges the package in a Debian of its own, and runs it
## under a systemd of its own; needs root
deb-test: deps
	$(CARGO) build --locked --bin frontgate
	./scripts/deb-test.sh $(TARGET)/debug/frontgate
	./scripts/systemd-test.sh $(TARGET)/debug/frontgate

fmt:
	$(CARGO) fmt --all -- --check

clippy: deps
	$(CARGO) clippy --locked --all-targets -- -D warnings

doc: deps
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items

## build: the optimised binary
build: deps
	$(CARGO) build --locked --release --bin frontgate

## install: binary, default configuration (builds first where nothing is built)
install:
	test -x $(TARGET)/release/frontgate || $(MAKE) build
	install -D -m 0755 $(TARGET)/release/frontgate $(DESTDIR)$(PREFIX)/bin/frontgate
	install -d -m 0755 $(DESTDIR)/etc/frontgate
	test -e $(DESTDIR)/etc/frontgate/config.yaml || \
		install -m 0640 conf/frontgate.yaml $(DESTDIR)/etc/frontgate/config.yaml

deps:
	@./scripts/dependencies.sh build
