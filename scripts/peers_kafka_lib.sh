# The parts of scripts/peers_kafka.sh: it sets the variables that are used here.

NUMBER=0
ENGINE=
RESULTS=
BROKERS=

jobs_match() {
    local name rest
    while read -r name rest; do
        # The pattern is meant to be one.
        # shellcheck disable=SC2053
        [[ -z $name || $name != ${PEERS_ONLY:-*} ]] || return 0
    done <<< "$JOBS$LATENCIES"
    return 1
}

engine_wanted() {
    local name engine rest
    while read -r name engine rest; do
        # shellcheck disable=SC2053
        [[ $engine != "$1" || $name != ${PEERS_ONLY:-*} ]] || return 0
    done <<< "$JOBS$LATENCIES"
    return 1
}

kafka_job_wanted() {
    # shellcheck disable=SC2053
    [[ -n $1 && $1 == ${PEERS_ONLY:-*} ]] || return 1
    ! contains "$2" ${SKIPPED[@]+"${SKIPPED[@]}"} || return 1
    ! contains "$1" ${FAILED[@]+"${FAILED[@]}"}
}

build_tool() {
    RESULTS=$STATE/results.tsv
    : > "$RESULTS"
    TOOL=${PEERS_TOOL:-}
    [ -z "$TOOL" ] || return 0
    echo "peers: building Highwater with Kafka" >&2
    local built
    built=$(cargo bench --workspace --features kafka --bench kafka --no-run \
        --message-format=json 2> "$DIR/highwater-kafka.log") \
        || { tail -n 20 "$DIR/highwater-kafka.log" >&2; give_up "Highwater does not build"; }
    TOOL=$(grep -o '"executable":"[^"]*/kafka-[^"]*"' <<< "$built" | cut -d '"' -f 4)
    [ -x "$TOOL" ] || give_up "no bench was built"
}

start_broker() {
    "${OTHERS[@]}" scripts/servers.sh start kafka > "$STATE/env" \
        || give_up "there is no broker to measure with"
    BROKERS=$(sed -n 's/^HIGHWATER_KAFKA=//p' "$STATE/env")
}

# At a small part of what an engine can do, nothing is gained by holding it to a core, and broker,
# writer and reader would have too little of theirs.
let_go_of_cores() {
    HOLD=() OTHERS=()
    ! command -v taskset > /dev/null \
        || taskset -acp "0-$(($(nproc --all) - 1))" "$(cat "$HIGHWATER_SERVERS_DIR/kafka/pid")" > /dev/null
}

end_all() {
    end_engine
    scripts/servers.sh stop kafka > /dev/null 2>&1 || true
    # Their watcher ends when it finds that nothing runs, and writes there until then.
    local tries
    for tries in $(seq 100); do
        [ -e "$HIGHWATER_SERVERS_DIR/watcher" ] || break
        sleep 0.1
    done
    rm -rf "$STATE"
}

end_engine() {
    [ -n "$ENGINE" ] || return 0
    kill -KILL "$ENGINE" 2> /dev/null || true
    wait "$ENGINE" 2> /dev/null || true
    ENGINE=
}

tool() {
    ${OTHERS[@]+"${OTHERS[@]}"} "$TOOL" "$@"
}

print_kafka_setup() {
    echo
    echo "From Kafka to windows to Kafka, exactly once"
    echo "machine:     $(sed -n 's/^model name.*: //p' /proc/cpuinfo 2> /dev/null | head -n 1)," \
        "$(nproc --all) cores, $(free -m 2> /dev/null | awk '/^Mem/ { print $2 }') MiB, $(uname -sr)"
    echo "date:        $(date -u '+%Y-%m-%d %H:%M UTC')"
    echo "cores:       the engine has core $CORES, with all its threads; broker, writer and" \
        "reader have core 1"
    echo "broker:      Apache Kafka $(sed -n 's/.*<kafka>\(.*\)<\/kafka>.*/\1/p' \
        scripts/servers/kafka/pom.xml), $KAFKA_HEAP MiB of heap, topics of 4 partitions"
    echo "highwater:   $(git rev-parse --short HEAD 2> /dev/null || echo unknown), $(rustc --version)," \
        "a commit every $OURS ms, each synced to disk"
    echo "flink:       $(version_of flink-kafka flink), connector" \
        "$(version_of flink-kafka connector), object reuse, checkpoints in files"
    echo "streams:     $(version_of kafka-streams kafka), exactly_once_v2, emit on close"
    echo "spark:       $(version_of spark-kafka spark), micro-batches, at least once, two cores"
    echo "java:        $(java -version 2>&1 | head -n 1), ${JVM[*]}"
    echo
}

# Fills the topics of a format, and sets what must come out of them.
fill() {
    local format=$1
    BASE=$((($(date +%s) - 600) * 1000))
    echo "peers: filling topics with $EVENTS events as $format" >&2
    WARM=$(tool load "$BROKERS" "$format-warm" $((EVENTS / 2)) "$KEYS" "$format" "$BASE")
    FULL=$(tool load "$BROKERS" "$format" "$EVENTS" "$KEYS" "$format" "$BASE")
}

# Starts an engine that waits for lines on descriptor 7 to stop its jobs. Arguments: engine,
# format, state, ms from commit to commit, ms of a window, throughput or latency, topics.
start_engine() {
    local engine=$1 format=$2 state=$3 commit=$4 window=$5 aim=$6
    shift 6
    rm -rf "$STATE/engine" "$STATE/fifo"
    mkdir "$STATE/engine"
    mkfifo "$STATE/fifo"
    local run=("${HOLD[@]}")
    if [ "$engine" = highwater ]; then
        run+=("$TOOL" engine "$BROKERS" "$format" "$STATE/engine" "$commit" "$window" "$@")
    else
        local OPENS=(--add-opens=java.base/java.util=ALL-UNNAMED)
        [ "$engine" != spark-kafka ] || mapfile -t OPENS < <(opens)
        run+=(java "${JVM[@]}" "${OPENS[@]}"
            -cp "$DIR/$engine:$(cat "$DIR/$engine.classpath")" peers.Main
            "$BROKERS" "$format" "$STATE/engine" "$commit" "$window" "$state" "$aim" "$@")
    fi
    "${run[@]}" < "$STATE/fifo" > "$STATE/out" 2> "$STATE/err" &
    ENGINE=$!
    exec 7> "$STATE/fifo"
}

finish_engine() {
    local status=0
    exec 7>&-
    wait "$ENGINE" || status=$?
    ENGINE=
    return "$status"
}

# Sets LINE to what a job prints elsewhere: events, seconds, results. Arguments: name, engine,
# format, state, ms from commit to commit.
one_run() {
    local name=$1 engine=$2 format=$3 warm full begun out
    NUMBER=$((NUMBER + 1))
    out=out-$NUMBER
    scripts/servers.sh touch
    tool topic "$BROKERS" "$out-warm" 4
    tool topic "$BROKERS" "$out" 4
    start_engine "$engine" "$format" "$4" "$5" 1000 throughput \
        "$format-warm" "$out-warm" "$format" "$out"
    if ! { warm=$(await "$format-warm" $((EVENTS / 2)) "$out-warm" "$format" "$WARM") && echo >&7 \
        && full=$(await "$format" "$EVENTS" "$out" "$format" "$FULL") && echo >&7; }; then
        end_engine
        exec 7>&-
        cat "$STATE/out" "$STATE/err" > "$DIR/$name.log"
        return 1
    fi
    finish_engine || { cat "$STATE/out" "$STATE/err" > "$DIR/$name.log"; return 1; }
    [ "${warm#* }" = "$WARM" ] || give_up "$name: $warm from a warm-up, and not $WARM"
    [ "${full#* }" = "$FULL" ] || give_up "$name: $full, and not $FULL"
    begun=$(sed -n 's/^begun=//p' "$STATE/out" | sed -n 2p)
    LINE="events=$EVENTS seconds=$(awk -v b="$begun" -v e="${full%% *}" \
        'BEGIN { sub("ended=", "", e); printf "%.3f", (e - b) / 1e9 }') $FULL"
}

# Reads results. Arguments: topic of the events, how many, topic of the results, format, what is
# expected.
await() {
    local results=${5#results=}
    beside_engine read "$BROKERS" "$1" "$2" "$KEYS" "$3" "$4" "$BASE" "${results%% *}" 120
}

# The tool, for as long as the engine lives.
beside_engine() {
    tool "$@" > "$STATE/answer" 2>> "$STATE/err" &
    local pid=$!
    while kill -0 "$pid" 2> /dev/null; do
        if ! kill -0 "$ENGINE" 2> /dev/null; then
            kill "$pid" 2> /dev/null || true
            echo "the engine has ended" >> "$STATE/err"
        fi
        sleep 0.2
    done
    wait "$pid" || return 1
    cat "$STATE/answer"
}

# Arguments: format, round, name, engine, state, ms from commit to commit.
run_pair() {
    local format=$1 round=$2 name=$3 ours
    one_run highwater highwater "$format" rocksdb "$OURS" \
        || { cat "$DIR/highwater.log" >&2; give_up "Highwater failed"; }
    ours=$LINE
    if ! one_run "$name" "$4" "$format" "$5" "$6"; then
        fail_job "$name"
        return 0
    fi
    printf '%s\t%s\t%s\t%s\t%s\n' "$name $format" "a commit every $6 ms" "$EVENTS" \
        "$(seconds_of "$ours")" "$(seconds_of "$LINE")" >> "$RESULTS"
    echo "round $round of $ROUNDS, $name, $format: $ours | $(seconds_of "$LINE") s" >&2
}

print_latency_head() {
    echo
    echo "latency at $RATE events a second as json, windows of 100 ms, 1,000 keys, for" \
        "$SECONDS_AT_RATE s; ms"
    echo "from the moment that a window can be complete to its result at a reader of" \
        "committed records; all share all cores"
    echo "the machine's own hiccups: $("$TOOL" hiccups 10)"
}

# Arguments: name, engine, state, ms from commit to commit.
run_latency() {
    local name=$1 engine=$2 line
    NUMBER=$((NUMBER + 1))
    scripts/servers.sh touch
    tool topic "$BROKERS" "paced-$NUMBER" 4
    # One partition holds 10,000 results a second, and is one request of a commit and not four.
    tool topic "$BROKERS" "paced-out-$NUMBER" 1
    start_engine "$engine" json "$3" "$4" 100 latency "paced-$NUMBER" "paced-out-$NUMBER"
    # An engine that starts has the time of the warm-up to catch up.
    if ! line=$(beside_engine pace "$BROKERS" "paced-$NUMBER" "paced-out-$NUMBER" 1000 json \
        "$RATE" "$SECONDS_AT_RATE" "$SECONDS_AT_RATE" 100); then
        end_engine
        exec 7>&-
        cat "$STATE/out" "$STATE/err" > "$DIR/$name.log"
        return 1
    fi
    echo >&7
    finish_engine || { cat "$STATE/out" "$STATE/err" > "$DIR/$name.log"; return 1; }
    local every="every $4 ms"
    [ "$4" -gt 0 ] || every="after the one before"
    printf '%-22s a commit %s: %s\n' "$name" "$every" "$line"
}
