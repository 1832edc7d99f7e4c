#!/usr/bin/env bash
# Counts the instructions that an event costs, with valgrind's callgrind: on a machine whose speed
# drifts it tells what a change did. Each workload runs twice, with few events and with more, so
# that start and end cancel out. Compared with benches/instructions.txt; `UPDATE=1` writes it anew.
set -euo pipefail
cd "$(dirname "$0")/.."

few=${FEW:-400000}
more=${MORE:-1400000}
committed=benches/instructions.txt

command -v valgrind > /dev/null || { echo "instructions: valgrind is not installed" >&2; exit 1; }
program=$(cargo bench --workspace --bench workloads --no-run 2>&1 | tee /dev/stderr |
    sed -n 's/.*Executable.*(\(.*workloads-[0-9a-f]*\)).*/\1/p')

# Instructions of one run of a workload.
count() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$program" "$2" one "$1" 2>&1 |
        sed -n 's/.*Collected : \([0-9]*\).*/\1/p'
}

counted=$(mktemp)
trap 'rm -f "$counted"' EXIT
for workload in B1 B2; do
    low=$(count "$workload" "$few")
    high=$(count "$workload" "$more")
    echo "$workload $(((high - low) * 10 / (more - few)))" >> "$counted"
done
while read -r workload tenths; do
    before=$(sed -n "s/^$workload \([0-9.]*\)$/\1/p" "$committed" 2> /dev/null || true)
    awk -v w="$workload" -v now="$tenths" -v before="$before" 'BEGIN {
        now /= 10
        if (before == "") printf "%s: %.1f instructions an event\n", w, now
        else printf "%s: %.1f instructions an event, %.1f committed, %+.1f %%\n", w, now, before,
            (now / before - 1) * 100
    }'
done < "$counted"
if [ -n "${UPDATE:-}" ]; then
    {
        echo "# Instructions an event, one worker, state in memory: scripts/instructions.sh"
        awk '{ printf "%s %.1f\n", $1, $2 / 10 }' "$counted"
    } > "$committed"
fi
