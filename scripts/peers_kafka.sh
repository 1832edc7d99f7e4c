#!/usr/bin/env bash
# Highwater beside Flink and Kafka Streams, from Kafka to windows to Kafka, exactly once, on one
# broker: events a second, and how late results are at a steady rate, where Spark is too. scripts/peers.sh runs it at
# its end; benches/peers/README.md says what is run, and why it is set up so.
#
# It takes two cores: one for the engine that is measured, one for the broker and for what writes
# and reads topics.
#
# PEERS_ROUNDS   rounds (3)
# PEERS_EVENTS   events to a job (3000000)
# PEERS_FORMATS  formats of events ("json binary"); none: no throughput is measured
# PEERS_SECONDS  seconds of a steady rate that are measured, after as many to warm up (30);
#                0: no latency is measured
# PEERS_RATE     events a second, where latency is measured (10000)
# PEERS_HEAP     MiB of heap for engines on the JVM (4096)
# PEERS_ONLY     a pattern: only the jobs that match it, as in PEERS_ONLY='kafka-flink-*'
# PEERS_DIR      what is fetched and built (~/.cache/highwater/peers)
# PEERS_TOOL     the bench `kafka`, if it has been built
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/peers_lib.sh
source scripts/peers_kafka_lib.sh

# Name, engine, its state, and a commit every so many ms; 0: as soon as the one before has ended.
JOBS='
kafka-flink-rocksdb    flink-kafka    rocksdb  1000
kafka-flink-heap       flink-kafka    heap     1000
kafka-streams-rocksdb  kafka-streams  rocksdb   100
'
# The same where latency is measured; here Highwater is a job of its own.
LATENCIES='
kafka-highwater        highwater      rocksdb     5
kafka-flink-1s         flink-kafka    heap     1000
kafka-flink-100ms      flink-kafka    heap      100
kafka-flink-10ms       flink-kafka    heap       10
kafka-streams-100ms    kafka-streams  memory    100
kafka-streams-10ms     kafka-streams  memory     10
kafka-spark            spark-kafka    memory      0
'
# Where it is throughput that is measured: keys, and Highwater's commits, ms.
KEYS=100000
OURS=100

ROUNDS=$(number PEERS_ROUNDS "${PEERS_ROUNDS:-3}")
EVENTS=$(number PEERS_EVENTS "${PEERS_EVENTS:-3000000}")
HEAP=$(number PEERS_HEAP "${PEERS_HEAP:-4096}")
RATE=$(number PEERS_RATE "${PEERS_RATE:-10000}")
SECONDS_AT_RATE=${PEERS_SECONDS:-30}
FORMATS=${PEERS_FORMATS-json binary}
DIR=${PEERS_DIR:-$HOME/.cache/highwater/peers}
CORES=0
OTHERS=(taskset -c 1)
WORKERS=1
mkdir -p "$DIR"

jobs_match || exit 0
[ "$(nproc)" -gt 1 ] || give_up "it takes two cores: one for the engine, one for the broker"
hold_to_cores
STATE=$(mktemp -d "$DIR/kafka.XXXXXX")
export HIGHWATER_SERVERS_DIR=$STATE/servers HIGHWATER_SERVERS_IDLE=3600
export KAFKA_HEAP=1024
trap end_all EXIT

build_tool
for engine in flink-kafka kafka-streams spark-kafka; do
    ! engine_wanted "$engine" || build_java "$engine" kafka || skip "$engine"
done
[ ! -d "$DIR/spark-kafka" ] || cp benches/peers/spark/log4j2.properties "$DIR/spark-kafka/"
start_broker
print_kafka_setup

for format in $FORMATS; do
    fill "$format"
    for round in $(seq "$ROUNDS"); do
        while read -r -u 3 name engine state commit; do
            kafka_job_wanted "$name" "$engine" || continue
            run_pair "$format" "$round" "$name" "$engine" "$state" "$commit"
        done 3<<< "$JOBS"
    done
done
[ ! -s "$RESULTS" ] || print_report
if [ "$SECONDS_AT_RATE" -gt 0 ]; then
    let_go_of_cores
    print_latency_head
    while read -r -u 3 name engine state commit; do
        kafka_job_wanted "$name" "$engine" || continue
        run_latency "$name" "$engine" "$state" "$commit" || fail_job "$name"
    done 3<<< "$LATENCIES"
fi
[ ${#SKIPPED[@]} -eq 0 ] || loud "SKIPPED, not measured: ${SKIPPED[*]}"
[ ${#FAILED[@]} -eq 0 ] || give_up "failed: ${FAILED[*]}"
