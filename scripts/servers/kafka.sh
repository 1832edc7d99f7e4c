# Apache Kafka: one node that is broker and controller, for scripts/servers.sh.
#
# KAFKA_HEAP  MiB of heap (512)
#
# Topics are not created by themselves. Some names are refused, for tests of authorisation:
# topics `no-read-*` cannot be read and `no-write-*` cannot be written, groups `no-group-*` and
# transactional ids `no-transaction-*` cannot be used.

kafka_version() {
    sed -n 's/.*<kafka>\(.*\)<\/kafka>.*/\1/p' "$HERE/servers/kafka/pom.xml"
}

kafka_jars() {
    echo "$CACHE/kafka-$(kafka_version)"
}

kafka_install() {
    local missing=() jars fetched
    jars=$(kafka_jars)
    command -v java > /dev/null || missing+=(default-jre-headless)
    [ -d "$jars" ] || command -v mvn > /dev/null || missing+=(maven)
    [ ${#missing[@]} -eq 0 ] || install_packages "${missing[@]}" || return 1
    [ ! -d "$jars" ] || return 0
    say "fetching Apache Kafka $(kafka_version)"
    mkdir -p "$CACHE"
    fetched=$(mktemp -d "$CACHE/fetching.XXXXXX")
    if ! mvn -q -B -f "$HERE/servers/kafka/pom.xml" \
        org.apache.maven.plugins:maven-dependency-plugin:3.11.0:copy-dependencies \
        -DoutputDirectory="$fetched" > "$CACHE/kafka.log" 2>&1; then
        rm -rf "$fetched"
        say "Apache Kafka cannot be fetched: see $CACHE/kafka.log"
        return 1
    fi
    mv -T "$fetched" "$jars" 2> /dev/null || rm -rf "$fetched"
}

# Quick starts count for more than the best machine code. In a bench too: its compiler would take a
# core of two from everybody for minutes.
kafka_java() {
    KAFKA_JAVA=(java "-Xmx${KAFKA_HEAP:-512}m"
        "-Dlog4j2.configurationFile=$HERE/servers/kafka/log4j2.properties" -cp "$(kafka_jars)/*"
        -XX:+UseSerialGC -XX:TieredStopAtLevel=1)
}

kafka_start() {
    local here=$DIR/kafka
    kafka_java
    if [ ! -e "$here/formatted" ]; then
        rm -rf "${here:?}/data"
        kafka_settings "$(free_port)" "$(free_port)" > "$here/server.properties"
        "${KAFKA_JAVA[@]}" kafka.tools.StorageTool format -c "$here/server.properties" \
            -t "$(head -c 16 /dev/urandom | base64 | tr '+/' 'ab' | cut -c 1-22)" \
            > "$here/log" 2>&1 || { cat "$here/log" >&2; give_up "Kafka's storage: see above"; }
        touch "$here/formatted"
    fi
    launch kafka "${KAFKA_JAVA[@]}" kafka.Kafka "$here/server.properties"
}

kafka_settings() {
    sed -e "s|@PORT@|$1|g" -e "s|@CONTROLLER@|$2|g" -e "s|@DIR@|$DIR/kafka|g" \
        "$HERE/servers/kafka/server.properties"
}

kafka_port() {
    sed -n 's|^listeners=PLAINTEXT://127.0.0.1:\([0-9]*\),.*|\1|p' \
        "$DIR/kafka/server.properties" 2> /dev/null
}

kafka_env() {
    echo "HIGHWATER_KAFKA=127.0.0.1:$(kafka_port)"
}

# Asks the broker over its own protocol, without another Java process. Arguments: number of the
# request, its version, its body in hex. Prints the answer in hex, without size and id.
kafka_ask() {
    local api=$1 version=$2 body=$3 port request size
    port=$(kafka_port)
    [ -n "$port" ] || return 1
    # The id 1, and a client named "hw".
    request=$(printf '%04x%04x%08x00026877%s' "$api" "$version" 1 "$body")
    request=$(printf '%08x' $((${#request} / 2)))$request
    # Everything by a process that can be given up: a broker that is paused accepts connections.
    REQUEST=$(sed 's/../\\x&/g' <<< "$request") PORT=$port timeout 3 bash -c '
        exec 3<> "/dev/tcp/127.0.0.1/$PORT" || exit 1
        printf "$REQUEST" >&3
        size=$(head -c 4 <&3 | od -An -v -tx1 | tr -d " \n")
        [ ${#size} -eq 8 ] || exit 1
        head -c $((16#$size)) <&3 | od -An -v -tx1 | tr -d " \n" | cut -c 9-
    ' 2> /dev/null
}

# The list of brokers: the one broker is in it once it may serve.
kafka_answers() {
    local answer
    answer=$(kafka_ask 3 1 00000000) || return 1
    [ "${answer:0:8}" = 00000001 ] || return 1
    [ -e "$DIR/kafka/rules" ] || { kafka_rules && touch "$DIR/kafka/rules"; }
}

# What the tests of authorisation need: see above.
kafka_rules() {
    local topic=2 group=3 transaction=5 all=2 read=3 write=4 deny=2 allow=3 answer
    answer=$(kafka_ask 30 1 "$(printf '%08x' 6)$(
        kafka_rule $topic no-read- $read $deny
        kafka_rule $topic no-read- $all $allow
        kafka_rule $topic no-write- $write $deny
        kafka_rule $topic no-write- $all $allow
        kafka_rule $group no-group- $all $deny
        kafka_rule $transaction no-transaction- $all $deny
    )") || return 1
    # No delay, six results, none of which is an error.
    [[ $answer =~ ^0{15}6(0000(0000|ffff)){6}$ ]]
}

# One rule for names that begin in a way, for everyone.
kafka_rule() {
    printf '%02x%s04%s%s%02x%02x' "$1" "$(kafka_text "$2")" "$(kafka_text 'User:ANONYMOUS')" \
        "$(kafka_text '*')" "$3" "$4"
}

kafka_text() {
    printf '%04x%s' ${#1} "$(printf %s "$1" | od -An -v -tx1 | tr -d ' \n')"
}
