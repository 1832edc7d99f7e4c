#!/usr/bin/env bash
# Plants one bug after the other and runs the test that is to catch it: a test that cannot fail
# shows nothing. The list stands in state/src/planted.rs.
set -euo pipefail
cd "$(dirname "$0")/.."

# Built as the tests are: without optimising this crate (see the Makefile).
tested=(--quiet --release --workspace --config profile.release.package.highwater.opt-level=0
    --features "highwater/planted,highwater-state/planted")
echo "planted: building"
cargo test "${tested[@]}" --tests --lib --no-run 2> /dev/null

# What is to be run for the name of a catcher.
catch() {
    case "$1" in
        *::*) timeout 300 cargo test "${tested[@]}" --lib "$1" ;;
        *) timeout 300 cargo test "${tested[@]}" --test "$1" ;;
    esac > /dev/null 2>&1
}

list=$(sed -n 's/^    ("\([a-z0-9-]*\)", "\([a-z_:]*\)"),$/\1 \2/p' state/src/planted.rs)
# An entry that is formatted otherwise, or one that is planted nowhere, must not drop out silently.
planted=$(grep -rhoE 'planted\("[a-z0-9-]+"\)' src state/src | sed 's/.*"\(.*\)".*/\1/' | sort -u)
if ! diff <(cut -d' ' -f1 <<< "$list" | sort) - <<< "$planted"; then
    echo "planted: the list in state/src/planted.rs is not what is planted" >&2
    exit 1
fi
for catcher in $(cut -d' ' -f2 <<< "$list" | sort -u); do
    if ! catch "$catcher"; then
        echo "planted: $catcher fails without a planted bug" >&2
        exit 1
    fi
done
caught=0
missed=0
while read -r bug catcher; do
    code=0
    PLANTED=$bug catch "$catcher" || code=$?
    case "$code" in
        0)
            echo "planted: $bug was NOT caught by $catcher"
            missed=$((missed + 1))
            continue
            ;;
        124) echo "planted: $bug: caught by $catcher, which did not end" ;;
        *) echo "planted: $bug: caught by $catcher" ;;
    esac
    caught=$((caught + 1))
done <<< "$list"
echo "planted: $caught caught, $missed missed"
[ "$missed" -eq 0 ]
