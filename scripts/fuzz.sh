#!/usr/bin/env bash
# Fuzzes each target for FUZZ_SECONDS (default 20), or for FUZZ_RUNS executions. cargo-fuzz wants a
# nightly compiler; the stable one serves as well if it is told to allow what nightly allows.
# There is no unsafe code to watch, so the address sanitizer would only cost time.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v cargo-fuzz > /dev/null; then
    echo "fuzz: installing cargo-fuzz"
    cargo install --quiet --locked cargo-fuzz
fi
export RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR="$CARGO_TARGET_DIR/fuzz"
limit="-max_total_time=${FUZZ_SECONDS:-20}"
[ -z "${FUZZ_RUNS:-}" ] || limit="-runs=$FUZZ_RUNS"
for target in ${FUZZ_TARGETS:-values log manifest store crashes}; do
    echo "fuzz: $target"
    mkdir -p "fuzz/corpus/$target"
    # Sequences of operations are chosen by small numbers: to trace comparisons would only slow
    # them down.
    case "$target" in
        store | crashes) traces=(--no-trace-compares) ;;
        *) traces=() ;;
    esac
    cargo fuzz run --sanitizer none "${traces[@]}" "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- \
        "$limit" -print_final_stats=1 -rss_limit_mb=1024 -timeout=10
done
