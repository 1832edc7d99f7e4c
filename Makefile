# Everything goes through one target directory outside the clone, so that RocksDB is compiled
# once, for one profile, for the demo, the tests and the benches.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/highwater/target
CARGO = cargo
BUILD = --release --workspace
# For tests the compiler does not optimise this crate and the tests themselves: they take a fifth of
# the time to build. Everything below them, RocksDB too, is the same build as elsewhere.
TESTED = $(BUILD) --config profile.release.package.highwater.opt-level=0 $(CONNECTORS)
# Connectors to servers are features of their own. Their tests start the servers, and are skipped
# with a line that says so where a server cannot be had.
CONNECTORS = --features avro,kafka,postgres,protobuf

.PHONY: demo test lint doc setup fuzz fuzz-long crash powercut soak corruption rescale planted law
.PHONY: servers servers-stop test-long bench bench-workloads bench-check bench-instructions bench-state peers
.PHONY: delivery replay

setup:
	@./scripts/setup.sh

demo: setup
	@$(CARGO) build $(BUILD) --bins
	@rm -rf out state-demo
	@$(CARGO_TARGET_DIR)/release/highwater demo

test: setup
	$(CARGO) test $(TESTED) --lib --bins --tests --examples
	$(CARGO) test $(TESTED) --doc

# An Apache Kafka and the other servers that tests use, on loopback, until `make servers-stop` or
# until nobody has used them for ten minutes. Tests start them by themselves.
servers:
	@./scripts/servers.sh start all

servers-stop:
	@./scripts/servers.sh stop all

lint: setup
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(BUILD) $(CONNECTORS) --all-targets -- -D warnings

bench: setup
	$(CARGO) bench --workspace --benches

# Some of them: make bench-workloads WORKLOADS="B2 B5"
bench-workloads: setup
	$(CARGO) bench --workspace --bench workloads -- $(WORKLOADS)

# The queries of B5 beside a recomputation, row by row.
bench-check: setup
	$(CARGO) bench --workspace --bench workloads -- check

# Instructions an event, beside the committed figures.
bench-instructions: setup
	@./scripts/instructions.sh

bench-state: setup
	$(CARGO) bench --workspace --bench state

# Highwater beside Flink, Spark and others, which it fetches: benches/peers/README.md.
peers: setup
	@./scripts/peers.sh

doc: setup
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc $(BUILD) $(CONNECTORS) --no-deps

fuzz: setup
	@./scripts/fuzz.sh

fuzz-long: setup
	@FUZZ_RUNS=1000000 ./scripts/fuzz.sh

# What takes longer than a test should. Each prints what it tried and what it found.

# A crash before, in and after every operation on the disk, and again in the recovery.
crash: setup
	CRASH=full $(CARGO) test $(BUILD) --test crash -- --nocapture

# Power loss under a real process with RocksDB, from a record of what it did to its files.
powercut: setup
	POWERCUT_POINTS=240 $(CARGO) test $(BUILD) --test powercut -- --nocapture

# A real process with RocksDB, killed 150 times.
soak: setup
	KILLS=150 $(CARGO) test $(BUILD) --test kill_and_resume -- --nocapture

# A real process from Kafka to Kafka and PostgreSQL: it and both servers are killed some 90 times,
# and copies of it are started by mistake, over a million events.
delivery: setup
	DELIVERY=full HIGHWATER_SERVERS=required $(CARGO) test $(BUILD) $(CONNECTORS) --test delivery \
		-- --nocapture
	LIVE=full HIGHWATER_SERVERS=required $(CARGO) test $(BUILD) $(CONNECTORS) --test kafka_live \
		-- --nocapture

# So many GB of a topic from its start, by a process with little memory: make replay GB=10
GB = 10
replay: setup
	REPLAY_GB=$(GB) HIGHWATER_SERVERS=required $(CARGO) test $(BUILD) $(CONNECTORS) --test replay \
		-- --nocapture

# State directories and snapshots, damaged in thousands of ways.
corruption: setup
	$(CARGO) test $(BUILD) --test corruption --test snapshots -- --nocapture

# Every number of workers after every other.
rescale: setup
	RESCALE=full $(CARGO) test $(BUILD) --test rescale -- --nocapture

# Bugs put in on purpose: each must be caught.
planted: setup
	@./scripts/planted.sh

# The longer campaigns: the law over every operator, and over the flights in every way.
test-long: law
	FLIGHTS=full $(CARGO) test $(BUILD) --test flights_law -- --nocapture

# `check_law` over every built-in operator, many times.
law: setup
	LAW=full $(CARGO) test $(BUILD) --test check_law -- --nocapture
