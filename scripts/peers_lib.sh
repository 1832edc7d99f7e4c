# The parts of scripts/peers.sh: it sets the variables that are used here.

PEERS='flink spark renoir differential hazelcast bytewax'
SKIPPED=()
FAILED=()
FLINK_SETTINGS='object reuse, no checkpoints, 128 MiB of network memory,
             rocksdb: 1 GiB of managed memory (B9: 32 MiB), timers on the heap'
SPARK_SETTINGS='micro-batches of 1000000 events, AvailableNow,
             rocksdb: changelog checkpoints'
SPARK_BATCH=1000000
BYTEWAX=0.21.1

give_up() {
    echo "peers: $1" >&2
    exit 1
}

number() {
    [[ $2 =~ ^[1-9][0-9]*$ ]] || give_up "$1 must be a whole number above 0, not '$2'"
    echo "$2"
}

loud() {
    printf '\n**** %s ****\n\n' "$1" >&2
}

skip() {
    SKIPPED+=("$1")
    loud "SKIPPED: $1: $(tail -n 1 "$DIR/$1.log" 2> /dev/null || true) (see $DIR/$1.log)"
}

# A job that breaks is not tried again, and the run ends with an error.
fail_job() {
    FAILED+=("$1")
    loud "FAILED: $1 (see $DIR/$1.log)"
    tail -n 5 "$DIR/$1.log" >&2 || true
}

contains() {
    local word=$1 each
    shift
    for each in "$@"; do
        [ "$each" != "$word" ] || return 0
    done
    return 1
}

# Is any job of this peer asked for?
wanted() {
    local name workload most rest
    while read -r name workload most rest; do
        # The pattern is meant to be one.
        # shellcheck disable=SC2053
        if [[ $name == "$1"-* && $name == ${PEERS_ONLY:-*} && $most -ge $WORKERS ]]; then
            return 0
        fi
    done <<< "$JOBS"
    return 1
}

# Name, and its greatest number of workers.
job_wanted() {
    # shellcheck disable=SC2053
    [[ $1 == ${PEERS_ONLY:-*} && $2 -ge $WORKERS ]] || return 1
    ! contains "${1%%-*}" ${SKIPPED[@]+"${SKIPPED[@]}"} || return 1
    ! contains "$1" ${FAILED[@]+"${FAILED[@]}"}
}

check_pattern() {
    local peer
    for peer in $PEERS; do
        ! wanted "$peer" || return 0
    done
    give_up "no job for $WORKERS workers matches '${PEERS_ONLY:-*}'; there are:"$'\n'"$JOBS"
}

# Sets HOLD, the command in front of every engine, and the collector that suits so many cores.
hold_to_cores() {
    HOLD=()
    if command -v taskset > /dev/null; then
        taskset -c "$CORES" true 2> /dev/null || give_up "there are no such cores: $CORES"
        HOLD=(taskset -c "$CORES")
    else
        loud "there is no taskset here: no engine is held to any core"
        CORES=all
    fi
    JVM_CORES=$(${HOLD[@]+"${HOLD[@]}"} nproc)
    COLLECTOR=-XX:+UseParallelGC
    [ "$JVM_CORES" -gt 1 ] || COLLECTOR=-XX:+UseSerialGC
    JVM=("-Xms${HEAP}m" "-Xmx${HEAP}m" "-Xmn$((HEAP / 2))m" "$COLLECTOR" -XX:MetaspaceSize=256m
        -XX:+ExitOnOutOfMemoryError)
}

build_highwater() {
    echo "peers: building Highwater" >&2
    local built
    built=$(cargo bench --workspace --bench workloads --bench semantics --no-run \
        --message-format=json 2> "$DIR/highwater.log") \
        || { tail -n 20 "$DIR/highwater.log" >&2; give_up "Highwater does not build"; }
    WORKLOADS=$(grep -o '"executable":"[^"]*/workloads-[^"]*"' <<< "$built" | cut -d '"' -f 4)
    SEMANTICS=$(grep -o '"executable":"[^"]*/semantics-[^"]*"' <<< "$built" | cut -d '"' -f 4)
    [ -x "$WORKLOADS" ] && [ -x "$SEMANTICS" ] || give_up "no bench was built"
}

# Fetches the jars that a project lists and compiles its sources, beside the sources that
# projects share. `build_java NAME [SHARED]`: the class path comes to lie in $DIR/NAME.classpath.
build_java() {
    local name=$1 shared=${2:-common} here=benches/peers classpath="$DIR/$1.classpath" tool
    : > "$DIR/$name.log"
    for tool in java javac mvn; do
        if ! command -v "$tool" > /dev/null; then
            echo "$tool is missing: install Java 17 or later, and Maven" > "$DIR/$name.log"
            return 1
        fi
    done
    echo "peers: fetching and building $name" >&2
    mvn -q -B -f "$here/$name/pom.xml" \
        org.apache.maven.plugins:maven-dependency-plugin:3.11.0:build-classpath \
        -Dmdep.outputFile="$classpath" > "$DIR/$name.log" 2>&1 || return 1
    rm -rf "${DIR:?}/$name"
    mkdir -p "$DIR/$name"
    javac --release 17 -nowarn -Xlint:none -d "$DIR/$name" -cp "$(cat "$classpath")" \
        "$here/$shared"/peers/*.java "$here/$name"/src/peers/*.java > "$DIR/$name.log" 2>&1
}

build_flink() {
    build_java flink && cp -r benches/peers/flink/META-INF "$DIR/flink/"
}

build_spark() {
    build_java spark && cp benches/peers/spark/log4j2.properties "$DIR/spark/"
}

build_rust() {
    echo "peers: fetching and building $1" >&2
    CARGO_TARGET_DIR="$DIR/$1" cargo build --release --locked \
        --manifest-path "benches/peers/$1/Cargo.toml" > "$DIR/$1.log" 2>&1
}

build_renoir() {
    build_rust renoir
}

build_differential() {
    build_rust differential
}

build_hazelcast() {
    build_java hazelcast
}

build_bytewax() {
    echo "peers: fetching bytewax" >&2
    { [ -x "$DIR/bytewax/bin/pip" ] || python3 -m venv "$DIR/bytewax"; } \
        > "$DIR/bytewax.log" 2>&1 \
        && "$DIR/bytewax/bin/pip" install -q "bytewax==$BYTEWAX" > "$DIR/bytewax.log" 2>&1
}

run_highwater() {
    case $1 in
        tumbling) ${HOLD[@]+"${HOLD[@]}"} "$WORKLOADS" "$2" peer "$WORKERS" ;;
        q* | B9) ${HOLD[@]+"${HOLD[@]}"} "$WORKLOADS" "$2" peer "$1" ;;
        *) ${HOLD[@]+"${HOLD[@]}"} "$SEMANTICS" "$2" "$1" peer ;;
    esac
}

# Arguments: where the classes are, the main class's arguments.
run_java() {
    local name=$1
    shift
    ${HOLD[@]+"${HOLD[@]}"} timeout 600 java "${JVM[@]}" ${OPENS[@]+"${OPENS[@]}"} \
        -cp "$DIR/$name:$(cat "$DIR/$name.classpath")" peers.Main "$@"
}

run_flink() {
    local workload=tumbling state=heap keys=keyby file=()
    local OPENS=(--add-opens=java.base/java.util=ALL-UNNAMED)
    case $1 in
        flink-q*) workload=${1#flink-} file=("$("$WORKLOADS" "$2" file B5)") ;;
        flink-spill) workload=running state=rocksdb file=("$("$WORKLOADS" "$2" file B9)") ;;
        *-hopping) workload=hopping ;;
        *-sessions) workload=sessions ;;
        *-sql) workload=sql ;;
        *-rocksdb) state=rocksdb ;;
        *-chained) keys=chained ;;
    esac
    run_java flink "$workload" "$2" "$WORKERS" "$state" "$keys" $(($2 / 2 + 1)) "$STATE/flink" \
        ${file[@]+"${file[@]}"}
}

# What Spark asks of a JVM, and more than Flink does.
opens() {
    local package
    echo -Djdk.reflect.useDirectMethodHandle=false
    for package in java.lang java.lang.invoke java.lang.reflect java.io java.net java.nio \
        java.util java.util.concurrent java.util.concurrent.atomic sun.nio.ch sun.nio.cs \
        sun.security.action sun.util.calendar jdk.internal.ref; do
        echo "--add-opens=java.base/$package=ALL-UNNAMED"
    done
}

run_spark() {
    local OPENS
    mapfile -t OPENS < <(opens)
    run_java spark "$2" "$WORKERS" "$1" "$SPARK_BATCH" $(($2 / 2 + 1)) "$STATE/spark"
}

run_hazelcast() {
    local OPENS=(--add-modules java.se)
    OPENS+=(--add-exports java.base/jdk.internal.ref=ALL-UNNAMED)
    OPENS+=(--add-opens java.base/java.lang=ALL-UNNAMED)
    OPENS+=(--add-opens java.base/sun.nio.ch=ALL-UNNAMED)
    OPENS+=(--add-opens java.management/sun.management=ALL-UNNAMED)
    OPENS+=(--add-opens jdk.management/com.sun.management.internal=ALL-UNNAMED)
    run_java hazelcast "$1" "$WORKERS" $(($1 / 2 + 1))
}

run_held() {
    ${HOLD[@]+"${HOLD[@]}"} timeout 600 "$@"
}

# `group_by` is the exchange, `key_by` goes without.
run_renoir() {
    local keys=group
    [ "$1" = exchange ] || keys=key
    run_held "$DIR/renoir/release/renoir-peer" "$2" "$WORKERS" "$keys" "$2"
}

# The line of a job that has the result; the rest goes to its log.
one_line() {
    local status=0
    measure "$@" > "$STATE/out" 2> "$DIR/$1.log" || status=$?
    rm -rf "$STATE/flink" "$STATE/spark"
    cat "$STATE/out" >> "$DIR/$1.log"
    [ "$status" -eq 0 ] || echo "ended with $status" >> "$DIR/$1.log"
    [ "$status" -eq 0 ] && grep '^events=' "$STATE/out"
}

# Everything but the time.
results_of() {
    sed 's/seconds=[^ ]* //' <<< "$1"
}

seconds_of() {
    sed 's/.*seconds=\([^ ]*\) .*/\1/' <<< "$1"
}

version_of() {
    sed -n "s/.*<$2>\(.*\)<\/$2>.*/\1/p" "benches/peers/$1/pom.xml" | head -n 1
}

print_setup() {
    echo "machine:     $(sed -n 's/^model name.*: //p' /proc/cpuinfo 2> /dev/null | head -n 1)," \
        "$(nproc --all) cores, $(free -m 2> /dev/null | awk '/^Mem/ { print $2 }') MiB, $(uname -sr)"
    echo "date:        $(date -u '+%Y-%m-%d %H:%M UTC')"
    echo "held to:     cores $CORES, every engine with all its threads"
    echo "workers:     $WORKERS in every engine"
    echo "highwater:   $(git rev-parse --short HEAD 2> /dev/null || echo unknown), $(rustc --version)," \
        "volatile, no limit of memory (B9: a synced commit every 100 ms, 32 MiB)"
    if wanted flink && ! contains flink ${SKIPPED[@]+"${SKIPPED[@]}"}; then
        echo "flink:       $(version_of flink flink), $FLINK_SETTINGS"
    fi
    if wanted spark && ! contains spark ${SKIPPED[@]+"${SKIPPED[@]}"}; then
        echo "spark:       $(version_of spark spark), $SPARK_SETTINGS"
    fi
    if wanted renoir && ! contains renoir ${SKIPPED[@]+"${SKIPPED[@]}"}; then
        echo "renoir:      $(sed -n 's/^renoir = .*version = "=\([^"]*\)".*/\1/p' \
            benches/peers/renoir/Cargo.toml), batches of 4096, LTO, no limit of memory"
    fi
    if wanted differential && ! contains differential ${SKIPPED[@]+"${SKIPPED[@]}"}; then
        echo "differential: $(sed -n 's/^differential-dataflow = "=\(.*\)"/\1/p' \
            benches/peers/differential/Cargo.toml), LTO, no limit of memory"
    fi
    if wanted hazelcast && ! contains hazelcast ${SKIPPED[@]+"${SKIPPED[@]}"}; then
        echo "hazelcast:   $(version_of hazelcast hazelcast), one member"
    fi
    if wanted bytewax && ! contains bytewax ${SKIPPED[@]+"${SKIPPED[@]}"}; then
        echo "bytewax:     $BYTEWAX, $("$DIR/bytewax/bin/python" --version)"
    fi
    if command -v java > /dev/null; then
        echo "java:        $(java -version 2>&1 | head -n 1), ${JVM[*]}"
    fi
    echo "rounds:      $ROUNDS; each run in a process of its own, after a warm-up in it"
    echo
}

# Medians of rates and of the ratios of pairs, with least and most.
print_report() {
    awk -F '\t' '
        function rank(list, n,    i, j, t) {
            for (i = 2; i <= n; i++)
                for (j = i; j > 1 && list[j - 1] > list[j]; j--) {
                    t = list[j]; list[j] = list[j - 1]; list[j - 1] = t
                }
        }
        function show(key, kind, unit,    i, n, list, middle) {
            n = count[key]
            for (i = 1; i <= n; i++) list[i] = value[key, kind, i]
            rank(list, n)
            middle = (list[int((n + 1) / 2)] + list[int(n / 2) + 1]) / 2
            return sprintf("%8.3f%s (%.3f to %.3f)", middle, unit, list[1], list[n])
        }
        {
            key = $1
            if (!(key in count)) { order[++jobs] = key; workload[key] = $2; events[key] = $3 }
            i = ++count[key]
            value[key, "ours", i] = $3 / $4 / 1e6
            value[key, "theirs", i] = $3 / $5 / 1e6
            value[key, "ratio", i] = $5 / $4
        }
        END {
            print "million events a second, medians (least to most); all checksums are equal"
            for (j = 1; j <= jobs; j++) {
                key = order[j]
                printf "%s: %s, %d events\n", key, workload[key], events[key]
                print "    peer       " show(key, "theirs", "")
                print "    highwater  " show(key, "ours", "")
                print "    ratio      " show(key, "ratio", "x")
            }
        }' "$RESULTS"
}

finish() {
    [ ${#SKIPPED[@]} -eq 0 ] || loud "SKIPPED, not measured: ${SKIPPED[*]}"
    [ -s "$RESULTS" ] || give_up "nothing was measured"
    [ ${#FAILED[@]} -eq 0 ] || give_up "failed: ${FAILED[*]}"
}
