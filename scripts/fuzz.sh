#!/usr/bin/env bash
# Fuzzes each target for FUZZ_SECONDS (default 20). cargo-fuzz wants a nightly compiler; the
# stable one serves as well if it is told to allow what nightly allows.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v cargo-fuzz > /dev/null; then
    echo "fuzz: installing cargo-fuzz"
    cargo install --quiet --locked cargo-fuzz
fi
export RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR="$CARGO_TARGET_DIR/fuzz"
for target in decode store; do
    echo "fuzz: $target"
    cargo fuzz run "$target" -- -max_total_time="${FUZZ_SECONDS:-20}" -print_final_stats=1
done
