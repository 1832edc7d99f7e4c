# The parts of scripts/servers.sh: it sets DIR, CACHE, IDLE and NAMES.
#
# A server NAME is the file NAME.sh beside this one. It defines
#   NAME_install   makes sure that the programs are there, fetching what is missing
#   NAME_start     starts the server with `launch NAME COMMAND..` on what is stored in $DIR/NAME,
#                  which it prepares first if there is nothing
#   NAME_answers   whether the server answers a real request
#   NAME_env       prints where it can be reached, as HIGHWATER_NAME=..
# and may define
#   NAME_stop      stops the process that is to be stopped for good (by default: kill -9)
#   NAME_processes prints the other processes of the server, given the first (by default: none)

# How long a server may take until it answers, in seconds.
PATIENCE=${HIGHWATER_SERVERS_PATIENCE:-60}

give_up() {
    echo "servers: $1" >&2
    exit 1
}

say() {
    echo "servers: $1" >&2
}

# Sets CHOSEN to the servers that are named; without a name, or with `all`, to every one.
chosen() {
    CHOSEN=()
    local name
    for name in "$@"; do
        [ "$name" != all ] || { CHOSEN=("${NAMES[@]}"); return 0; }
        [[ " ${NAMES[*]} " == *" $name "* ]] || give_up "no server \`$name\`: ${NAMES[*]}"
        CHOSEN+=("$name")
    done
    [ ${#CHOSEN[@]} -gt 0 ] || CHOSEN=("${NAMES[@]}")
}

# One start or stop at a time. The servers themselves must not inherit the lock: see `launch`.
locked() {
    mkdir -p "$DIR"
    # A server may run as another user, who must be able to come through.
    chmod 711 "$DIR"
    exec 9> "$DIR.lock"
    flock 9
    "$@"
}

# The process of a server, if it runs. A number that another process has by now does not count.
pid_of() {
    local pid state
    pid=$(cat "$DIR/$1/pid" 2> /dev/null) || return 1
    kill -0 "$pid" 2> /dev/null || return 1
    if [ -r /proc/self/stat ]; then
        [ "$(began "$pid")" = "$(cat "$DIR/$1/began" 2> /dev/null)" ] || return 1
        # One that was killed and not waited for yet, or has been waited for since it was found.
        state=$(sed 's/.*) \(.\).*/\1/' "/proc/$pid/stat" 2> /dev/null) || return 1
        [ "$state" != Z ] || return 1
    fi
    echo "$pid"
}

# When a process began: with its number, that is what it is known by.
began() {
    sed 's/.*) //' "/proc/$1/stat" 2> /dev/null | cut -d ' ' -f 20
}

# Runs a command in the background, in a session of its own, with its output in a log.
launch() {
    local name=$1
    shift
    detached "$@" >> "$DIR/$name/log" 2>&1 < /dev/null &
    echo $! > "$DIR/$name/pid"
    began $! > "$DIR/$name/began" || true
}

# Becomes a command in a session of its own, without what whoever asked for it has open: a lock
# that it inherited would be held for as long as it lives.
detached() {
    local open
    for open in /dev/fd/*; do
        open=${open##*/}
        [ "$open" -le 2 ] || eval "exec $open>&-"
    done
    exec setsid "$@"
}

start_servers() {
    local name
    touch "$DIR/used"
    for name in "${CHOSEN[@]}"; do
        if pid_of "$name" > /dev/null && "${name}_answers"; then
            continue
        fi
        "${name}_install" || give_up "$name cannot be had here"
        mkdir -p "$DIR/$name"
        # It may be starting, or stopped by a signal: then it is only waited for.
        pid_of "$name" > /dev/null || "${name}_start"
        wait_for "$name"
    done
    touch "$DIR/used"
    local watcher
    watcher=$(cat "$DIR/watcher" 2> /dev/null) || watcher=
    if [ -z "$watcher" ] || ! kill -0 "$watcher" 2> /dev/null; then
        HIGHWATER_SERVERS_DIR=$DIR HIGHWATER_SERVERS_IDLE=$IDLE \
            detached "$HERE/servers.sh" watch > /dev/null 2>&1 < /dev/null &
        echo $! > "$DIR/watcher"
    fi
    print_env
}

wait_for() {
    local name=$1 until=$((SECONDS + PATIENCE))
    while ! "${name}_answers"; do
        if ! pid_of "$name" > /dev/null; then
            tail -n 20 "$DIR/$name/log" >&2 || true
            give_up "$name ended at its start: see $DIR/$name/log"
        fi
        [ $SECONDS -lt $until ] || give_up "$name does not answer: see $DIR/$name/log"
        sleep 0.1
    done
}

stop_servers() {
    local name
    for name in "${CHOSEN[@]}"; do
        end_server "$name"
        rm -rf "${DIR:?}/$name"
    done
    # The watcher finds that nothing runs, and ends.
}

end_server() {
    local name=$1 pid
    pid=$(pid_of "$name") || return 0
    if declare -F "${name}_stop" > /dev/null; then
        "${name}_stop"
    else
        kill -KILL "$pid" 2> /dev/null || true
    fi
    until_gone "$name" || kill -KILL "$pid" 2> /dev/null || true
}

until_gone() {
    local tries
    for tries in $(seq 100); do
        pid_of "$1" > /dev/null || return 0
        sleep 0.05
    done
    return 1
}

# All processes of a server, the first one first: it must not see how the others go.
processes_of() {
    local pid
    pid=$(pid_of "$1") || give_up "$1 does not run"
    echo "$pid"
    ! declare -F "$1_processes" > /dev/null || "$1_processes" "$pid"
}

kill_server() {
    local all pid
    all=$(processes_of "$1")
    for pid in $all; do
        kill -KILL "$pid" 2> /dev/null || true
    done
    until_gone "$1" || give_up "$1 cannot be killed"
    for pid in $all; do
        until_ended "$pid"
    done
}

until_ended() {
    local tries
    for tries in $(seq 100); do
        [ -e "/proc/$1" ] && ! grep -qs '^State:.Z' "/proc/$1/status" || return 0
        sleep 0.02
    done
}

pause_server() {
    signal_all "$1" STOP
}

resume_server() {
    signal_all "$1" CONT
}

signal_all() {
    local all pid
    all=$(processes_of "$1")
    for pid in $all; do
        kill "-$2" "$pid" 2> /dev/null || true
    done
}

status_of_servers() {
    local name pid
    [ ! -d "$DIR" ] || touch "$DIR/used"
    for name in "${NAMES[@]}"; do
        if ! pid=$(pid_of "$name"); then
            echo "$name: stopped"
        elif "${name}_answers"; then
            echo "$name: runs, process $pid, $("${name}_env" | tr '\n' ' ')"
        else
            echo "$name: does not answer, process $pid"
        fi
    done
}

print_env() {
    local name
    [ ! -d "$DIR" ] || touch "$DIR/used"
    for name in "${NAMES[@]}"; do
        pid_of "$name" > /dev/null || continue
        "${name}_env"
    done
}

# Stops the servers when nobody has used them for a while, and ends when none runs.
watch_servers() {
    while sleep 5; do
        if ! any_runs || is_idle; then
            locked stop_if_idle
        fi
    done
}

# Under the lock, so that nobody starts a server meanwhile and relies on this watcher.
stop_if_idle() {
    CHOSEN=("${NAMES[@]}")
    ! is_idle || stop_servers
    any_runs || { rm -f "$DIR/watcher"; exit 0; }
    exec 9>&-
}

any_runs() {
    local name
    for name in "${NAMES[@]}"; do
        ! pid_of "$name" > /dev/null || return 0
    done
    return 1
}

is_idle() {
    local used
    used=$(date -r "$DIR/used" +%s 2> /dev/null) || return 0
    [ $(($(date +%s) - used)) -gt "$IDLE" ]
}

# A port on loopback that nobody listens on, below those that the system hands out by itself.
free_port() {
    local port
    while true; do
        port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
        (exec 3<> "/dev/tcp/127.0.0.1/$port") 2> /dev/null || { echo "$port"; return 0; }
    done
}

# Installs Debian packages where that is possible.
install_packages() {
    if ! command -v apt-get > /dev/null || [ "$(id -u)" -ne 0 ]; then
        say "please install $* (or what your system calls them)"
        return 1
    fi
    say "installing $*"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@" > /dev/null
}
