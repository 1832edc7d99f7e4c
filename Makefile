# Everything goes through one target directory outside the clone, so that RocksDB is compiled
# once, for one profile, for the demo, the tests and the benches.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/highwater/target
CARGO = cargo
BUILD = --release --workspace

.PHONY: demo test lint bench fuzz fuzz-long doc setup

setup:
	@./scripts/setup.sh

demo: setup
	@$(CARGO) build $(BUILD) --bins
	@rm -rf out state-demo
	@$(CARGO_TARGET_DIR)/release/highwater demo

test: setup
	$(CARGO) test $(BUILD) --lib --bins --tests --examples
	$(CARGO) test $(BUILD) --doc

lint: setup
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(BUILD) --all-targets -- -D warnings

bench: setup
	$(CARGO) bench --workspace --benches

doc: setup
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc $(BUILD) --no-deps

fuzz: setup
	@./scripts/fuzz.sh

fuzz-long: setup
	@FUZZ_RUNS=1000000 ./scripts/fuzz.sh
