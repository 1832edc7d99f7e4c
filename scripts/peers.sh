#!/usr/bin/env bash
# Highwater beside other engines: the same synthetic events, an equal checksum of the results, in
# turn, on the same cores. benches/peers/README.md says what is run, and why it is set up so.
#
# From Kafka to Kafka is scripts/peers_kafka.sh: it runs at the end of this, and alone if the
# pattern begins with `kafka-`.
#
# PEERS_ROUNDS  rounds (5)
# PEERS_EVENTS  events to a job, for all jobs; by default each has its own number
# PEERS_WORKERS workers of every engine: 1, or 2 for the jobs that can (1)
# PEERS_CORES   the cores that every engine is held to, as `taskset -c` takes them: by default as
#               many as there are workers, from 0 on
# PEERS_HEAP    MiB of heap for engines on the JVM (4096)
# PEERS_ONLY    a pattern: only the jobs that match it, as in PEERS_ONLY='flink-*'
# PEERS_DIR     what is fetched and built (~/.cache/highwater/peers)
set -euo pipefail
cd "$(dirname "$0")/.."
[[ ${PEERS_ONLY:-} != kafka-* ]] || exec scripts/peers_kafka.sh
source scripts/peers_lib.sh

# Name, workload, up to how many workers, and events: so many that the peer takes ten to twenty
# seconds, or some seconds where it is a fast one.
JOBS='
flink-heap           tumbling  2  10000000
flink-heap-chained   tumbling  1  10000000
flink-rocksdb        tumbling  2   2000000
flink-sql            tumbling  2  10000000
spark-memory         tumbling  2   5000000
spark-rocksdb        tumbling  2   5000000
renoir-exchange      tumbling  2  20000000
renoir-chained       tumbling  1  20000000
differential-sums    tumbling  1  10000000
hazelcast-jet        tumbling  2   5000000
bytewax-fold         tumbling  1   1200000
flink-heap-hopping   hopping   1    400000
flink-heap-sessions  sessions  1   3000000
flink-spill          B9        1  10000000
flink-q0             q0        1  10000000
flink-q1             q1        1  10000000
flink-q2             q2        1  10000000
flink-q3             q3        1  10000000
flink-q4             q4        1   1000000
flink-q5             q5        1   4000000
flink-q7             q7        1   4000000
flink-q8             q8        1  10000000
flink-q9             q9        1   1000000
flink-q11            q11       1   4000000
flink-q12            q12       1   4000000
flink-q16            q16       1   1000000
flink-q17            q17       1   4000000
flink-q18            q18       1   2000000
flink-q19            q19       1   2000000
flink-q20            q20       1   2000000
'

ROUNDS=$(number PEERS_ROUNDS "${PEERS_ROUNDS:-5}")
HEAP=$(number PEERS_HEAP "${PEERS_HEAP:-4096}")
[ -z "${PEERS_EVENTS:-}" ] || number PEERS_EVENTS "$PEERS_EVENTS" > /dev/null
WORKERS=$(number PEERS_WORKERS "${PEERS_WORKERS:-1}")
check_pattern
CORES=${PEERS_CORES:-$(seq -s , 0 $((WORKERS - 1)))}
DIR=${PEERS_DIR:-$HOME/.cache/highwater/peers}
mkdir -p "$DIR"
STATE=$(mktemp -d "$DIR/state.XXXXXX")
trap 'rm -rf "$STATE"' EXIT

hold_to_cores
build_highwater
for peer in $PEERS; do
    if wanted "$peer"; then
        "build_$peer" || skip "$peer"
    fi
done
print_setup

# What a job prints last. Arguments: name, workload, events.
measure() {
    case $1 in
        highwater) run_highwater "$2" "$3" ;;
        flink-*) run_flink "$1" "$3" ;;
        spark-*) run_spark "${1#spark-}" "$3" ;;
        renoir-*) run_renoir "${1#renoir-}" "$3" ;;
        differential-*) run_held "$DIR/differential/release/differential-peer" "$3" "$3" ;;
        hazelcast-*) run_hazelcast "$3" ;;
        bytewax-*) run_held "$DIR/bytewax/bin/python" benches/peers/bytewax/peer.py "$3" $(($3 / 10)) ;;
    esac
}

RESULTS="$DIR/results.tsv"
: > "$RESULTS"
for round in $(seq "$ROUNDS"); do
    while read -r -u 3 name workload most events; do
        [ -n "$name" ] && job_wanted "$name" "$most" || continue
        events=${PEERS_EVENTS:-$events}
        ours=$(one_line highwater "$workload" "$events") || give_up "Highwater failed at $workload"
        if ! theirs=$(one_line "$name" "$workload" "$events"); then
            fail_job "$name"
            continue
        fi
        if [ "$(results_of "$ours")" != "$(results_of "$theirs")" ]; then
            give_up "results differ at $workload:"$'\n'"  highwater: $ours"$'\n'"  $name: $theirs"
        fi
        printf '%s\t%s\t%s\t%s\t%s\n' "$name" "$workload" "$events" \
            "$(seconds_of "$ours")" "$(seconds_of "$theirs")" >> "$RESULTS"
        echo "round $round of $ROUNDS, $name: $ours | $(seconds_of "$theirs") s" >&2
    done 3<<< "$JOBS"
done
print_report
finish
[ -n "${PEERS_ONLY:-}" ] || env -u PEERS_EVENTS scripts/peers_kafka.sh
