# The commands of daily work. `make demo` and `make test` need nothing set by hand.
# Every build is of the whole workspace: another selection of crates changes features and compiles dependencies again.
SHELL := /bin/bash
TARGET := $(or $(CARGO_TARGET_DIR),target)
SAFARI := $(TARGET)/debug/safari
HOME_DIR ?= safari-home
# Section and options of the benchmarks, such as BENCH="job --images 600"; docs/benchmarks.md says more.
BENCH ?= all

.PHONY: demo setup control-plane test test-long bench check fmt

setup:
	@scripts/setup

# The first build takes half an hour: it says what it is at.
demo: setup
	cargo build --workspace
	@$(SAFARI) --home $(HOME_DIR) run dags/detect.yaml --param source=data-samples

# A program without libtorch: schedulers, the API and the registry need none.
control-plane:
	cargo build -p cli --no-default-features
	@mv $(SAFARI) $(SAFARI)-control-plane

test:
	@scripts/setup --test
	cargo test --workspace --no-fail-fast

# Nightly: all requests of the differ, thousands of filters, and the client's checks against MLflow's own server too; 200 tasks in
# pods that are deleted, a rollout in pods; a gigabyte lost and restored.
test-long:
	@scripts/setup --test
	LONG_TESTS=1 cargo test --workspace --no-fail-fast --test mlflow --test kubernetes --test disaster
	LONG_TESTS=1 cargo test --workspace --test it -- cluster

# Without the Python peer, whose set-up may fail, the rest is measured all the same.
bench:
	-@scripts/setup --bench
	@$(MAKE) --quiet control-plane
	@cargo build --workspace --quiet
	@$(TARGET)/debug/bench $(BENCH)

check:
	@scripts/setup
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy -p cli --no-default-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
	scripts/deny

fmt:
	cargo fmt --all
