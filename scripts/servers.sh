#!/usr/bin/env bash
# Real servers for tests and for trying things out: on loopback, in a temporary directory, gone
# when they are stopped. Each server is a file in scripts/servers: it says what it must define.
#
#   scripts/servers.sh start [NAME..|all]   starts what does not run yet, and waits until it answers
#   scripts/servers.sh stop [NAME..|all]    stops them and removes what they stored
#   scripts/servers.sh status               which run
#   scripts/servers.sh env                  where those that run can be reached, as NAME=value
#   scripts/servers.sh kill NAME            kill -9; what it stored stays, and `start` goes on
#   scripts/servers.sh pause|resume NAME    SIGSTOP and SIGCONT
#   scripts/servers.sh touch                says that the servers are still in use
#
# Servers that nobody has used for ten minutes are stopped: every command here but `stop` counts
# as use.
#
# HIGHWATER_SERVERS_DIR    where they keep what they store (/tmp/highwater-servers-UID)
# HIGHWATER_SERVERS_CACHE  where programs that are fetched are kept (~/.cache/highwater/servers)
# HIGHWATER_SERVERS_IDLE   seconds without use after which they are stopped (600)
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
DIR=${HIGHWATER_SERVERS_DIR:-${TMPDIR:-/tmp}/highwater-servers-$(id -u)}
CACHE=${HIGHWATER_SERVERS_CACHE:-$HOME/.cache/highwater/servers}
IDLE=${HIGHWATER_SERVERS_IDLE:-600}
source "$HERE/servers/lib.sh"

NAMES=()
for file in "$HERE"/servers/*.sh; do
    name=$(basename "$file" .sh)
    [ "$name" != lib ] || continue
    source "$file"
    NAMES+=("$name")
done

command=${1:-}
[ $# -eq 0 ] || shift
case "$command" in
    start | stop)
        chosen "$@"
        locked "${command}_servers"
        ;;
    status) status_of_servers ;;
    env) print_env ;;
    kill | pause | resume)
        [ $# -eq 1 ] || give_up "which server? There are: ${NAMES[*]}"
        chosen "$1"
        "${command}_server" "$1"
        ;;
    touch) mkdir -p "$DIR" && touch "$DIR/used" ;;
    watch) watch_servers ;;
    *) give_up "usage: servers.sh start|stop|status|env|kill|pause|resume|touch [NAME..|all]" ;;
esac
