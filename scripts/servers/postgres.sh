# PostgreSQL, for scripts/servers.sh: as a package installs it, with fsync on.
#
# POSTGRES_BIN  where its programs are (the newest in /usr/lib/postgresql)
#
# The user is `highwater`, who may do everything and has no password; the database is `postgres`.
# PostgreSQL refuses to run as root: then the user `postgres` runs it.

postgres_bin() {
    local candidate
    for candidate in "${POSTGRES_BIN:-}" $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -rV) \
        "$(dirname "$(readlink -f "$(command -v postgres || true)")")"; do
        if [ -x "$candidate/postgres" ] && [ -x "$candidate/initdb" ]; then
            echo "$candidate"
            return 0
        fi
    done
    return 1
}

postgres_install() {
    postgres_bin > /dev/null && return 0
    # The package starts a server of its own otherwise.
    mkdir -p /etc/postgresql-common 2> /dev/null &&
        [ -e /etc/postgresql-common/createcluster.conf ] ||
        echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf || true
    install_packages postgresql && postgres_bin > /dev/null
}

# Sets AS to what a command is run by, so that PostgreSQL accepts its user.
postgres_user() {
    AS=()
    if [ "$(id -u)" -eq 0 ]; then
        getent passwd postgres > /dev/null || give_up "there is no user postgres to run PostgreSQL"
        AS=(setpriv --reuid=postgres --regid=postgres --clear-groups --)
    fi
}

postgres_start() {
    local here=$DIR/postgres bin
    bin=$(postgres_bin)
    postgres_user
    if [ ! -e "$here/port" ]; then
        rm -rf "${here:?}/data"
        mkdir "$here/data"
        [ ${#AS[@]} -eq 0 ] || chown postgres: "$here/data"
        (cd / && "${AS[@]}" "$bin/initdb" -D "$here/data" -U highwater -A trust -E UTF8 \
            --locale=C --no-sync --no-instructions) > "$here/log" 2>&1 ||
            { cat "$here/log" >&2; give_up "PostgreSQL's storage: see above"; }
        free_port > "$here/port"
    fi
    # None runs any more, or this was not called. One that was killed and that nobody has waited
    # for yet still counts for PostgreSQL.
    rm -f "$here/data/postmaster.pid"
    (cd / && launch postgres "${AS[@]}" "$bin/postgres" -D "$here/data" \
        -p "$(cat "$here/port")" -c listen_addresses=127.0.0.1 -c unix_socket_directories= \
        -c fsync=on -c synchronous_commit=on -c max_connections=60 -c shared_buffers=64MB \
        -c log_min_messages=warning -c "log_line_prefix=%m [%p] ")
}

postgres_conninfo() {
    echo "host=127.0.0.1 port=$(cat "$DIR/postgres/port") user=highwater dbname=postgres"
}

postgres_env() {
    echo "HIGHWATER_POSTGRES=$(postgres_conninfo)"
}

postgres_answers() {
    [ "$(timeout 5 "$(postgres_bin)/psql" -qtAX -d "$(postgres_conninfo) connect_timeout=3" \
        -c 'select 1' 2> /dev/null)" = 1 ]
}

# Sessions are processes of their own, which outlive the first one by a moment: until they are
# gone, the database cannot be started again.
postgres_processes() {
    pgrep -P "$1" || true
}

postgres_stop() {
    kill -INT "$(pid_of postgres)"
}
