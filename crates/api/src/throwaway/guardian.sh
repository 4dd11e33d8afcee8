# Owns one throwaway thing, a directory with or without a server in it, for exactly as long as its
# standard input stays open. `guardian.rs` runs it and says why it is a shell script in a process of its own.
#
# Arguments:
#   directory fast|durable
#   postgres fast|durable BIN_DIR PORT...
#   redis fast|durable PROGRAM PORT...
#   redis_tls fast|durable PROGRAM PORT...
#   pgbouncer fast|durable PROGRAM POSTGRES_PORT PORT...
#   chromedriver fast|durable PROGRAM PORT...
# What is durable is on a disk. A server takes the first of the ports on which it starts.
#
# Output: one line `ready PORT DIRECTORY` (port 0 where there is no server), or what went wrong.

set -eu
exec 2>&1
export LC_ALL=C TZ=UTC
umask 077

# The end of the input is the one thing that ends it, so that no signal can skip the cleanup. A trap that does nothing
# rather than `trap ''`: servers would inherit signals that are ignored.
trap : HUP INT TERM PIPE

# What /dev/shm must have free to be used, in KiB. A run takes some hundreds of MiB.
memory_min_kib=2097152

# Where to make the directory. In memory, if there is enough and nobody says otherwise: a test makes, syncs and removes
# many files, which on a slow disk takes ten times as long as everything else that it does.
parent() {
    if [ -n "${TMPDIR:-}" ]; then
        echo "$TMPDIR"
    elif [ "$durability" = fast ] && [ -w /dev/shm ] &&
        [ "$(df -Pk /dev/shm | awk 'NR == 2 { print $4 }')" -ge "$memory_min_kib" ]; then
        echo /dev/shm
    else
        echo /tmp
    fi
}

kind=$1
durability=$2
shift 2
port=0
directory=$(mktemp -d "$(parent)/multicredit-$kind.XXXXXXXX")

start_directory() {
    :
}

stop_directory() {
    :
}

# A quarter of the machine's memory, as PostgreSQL's manual has it, and no more than data of a benchmark can fill. It is
# taken only as it is used.
buffers_mib() {
    awk '/^MemTotal:/ { mib = int($2 / 4096) } END { print (mib < 128 ? 128 : (mib > 4096 ? 4096 : mib)) }' /proc/meminfo
}

start_postgres() {
    bin=$1
    shift
    "$bin/initdb" --pgdata="$directory/data" --username=postgres --auth=trust --encoding=UTF8 --locale=C --no-sync \
        >>"$directory/log"
    cat >>"$directory/data/postgresql.conf" <<END
listen_addresses = '127.0.0.1'
unix_socket_directories = ''    # its path may be too long for a socket; everybody speaks TCP
max_connections = 200
timezone = 'UTC'
log_timezone = 'UTC'
END
    if [ "$durability" = fast ]; then
        cat >>"$directory/data/postgresql.conf" <<END
shared_buffers = 64MB
fsync = off
synchronous_commit = off
full_page_writes = off
max_wal_size = 256MB
END
    else
        # What a deployment sets too (docs/OPERATING.md). Nothing about durability: that stays as PostgreSQL has it.
        cat >>"$directory/data/postgresql.conf" <<END
shared_buffers = $(buffers_mib)MB
max_wal_size = 4GB
checkpoint_timeout = 15min
END
    fi
    for port in "$@"; do
        "$bin/postgres" -D "$directory/data" -p "$port" </dev/null >>"$directory/log" 2>&1 &
        server=$!
        if comes_up '^ready' "$directory/data/postmaster.pid"; then
            return 0
        fi
    done
    return 1
}

# At once, as in a crash, for nobody wants the data. The pid file knows better than `$server` if a test restarted it.
stop_postgres() {
    pid_file=$directory/data/postmaster.pid
    if [ -f "$pid_file" ]; then
        kill -QUIT "$(head -n 1 "$pid_file")"
    fi
    wait
}

start_redis() {
    program=$1
    shift
    for port in "$@"; do
        "$program" --bind 127.0.0.1 --port "$port" --dir "$directory" --save '' --appendonly no --daemonize no \
            </dev/null >>"$directory/log" 2>&1 &
        server=$!
        if comes_up 'Ready to accept connections' "$directory/log"; then
            return 0
        fi
    done
    return 1
}

stop_redis() {
    kill -KILL "$server"
    wait
}

# Speaks TLS alone, with a certificate that nobody trusts who was not told to: `certificate.pem` in the directory.
start_redis_tls() {
    program=$1
    shift
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=127.0.0.1 \
        -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE \
        -keyout "$directory/key.pem" -out "$directory/certificate.pem" >>"$directory/log" 2>&1
    for port in "$@"; do
        "$program" --bind 127.0.0.1 --port 0 --tls-port "$port" --tls-cert-file "$directory/certificate.pem" \
            --tls-key-file "$directory/key.pem" --tls-ca-cert-file "$directory/certificate.pem" --tls-auth-clients no \
            --dir "$directory" --save '' --appendonly no --daemonize no </dev/null >>"$directory/log" 2>&1 &
        server=$!
        if comes_up 'Ready to accept connections' "$directory/log"; then
            return 0
        fi
    done
    return 1
}

stop_redis_tls() {
    stop_redis
}

# In transaction mode, with fewer sessions of the server than clients, so that nobody keeps one.
start_pgbouncer() {
    program=$1
    postgres_port=$2
    shift 2
    for port in "$@"; do
        cat >"$directory/pgbouncer.ini" <<END
[databases]
* = host=127.0.0.1 port=$postgres_port user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $port
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 3
max_client_conn = 500
END
        "$program" "$directory/pgbouncer.ini" </dev/null >>"$directory/log" 2>&1 &
        server=$!
        if comes_up 'process up' "$directory/log"; then
            return 0
        fi
    done
    return 1
}

stop_pgbouncer() {
    kill -KILL "$server"
    wait
}

# In a session of its own, so that the browsers that it starts, and theirs, are found again.
start_chromedriver() {
    program=$1
    shift
    export HOME="$directory" TMPDIR="$directory"
    for port in "$@"; do
        setsid "$program" --port="$port" --log-level=WARNING </dev/null >>"$directory/log" 2>&1 &
        server=$!
        if comes_up 'started successfully' "$directory/log"; then
            return 0
        fi
    done
    return 1
}

stop_chromedriver() {
    kill -KILL $(ps -s "$server" -o pid=)
    wait
}

# Waits, a minute at most, until `$server` has written the pattern to the file. That it answers on its port would prove
# less: a stranger might, who took the port first.
comes_up() {
    tries_left=1200
    while [ "$tries_left" -gt 0 ] && kill -0 "$server" 2>/dev/null; do
        if grep -q "$1" "$2" 2>/dev/null; then
            return 0
        fi
        sleep 0.05
        tries_left=$((tries_left - 1))
    done
    kill -KILL "$server" 2>/dev/null || :
    wait "$server" || :
    return 1
}

cleanup() {
    status=$?
    trap '' HUP INT TERM PIPE
    set +e
    "stop_$kind" 2>/dev/null
    if [ "$status" -ne 0 ] && [ -f "$directory/log" ]; then
        cat "$directory/log"
    fi
    # Again if need be: tests that outlived their supervisor may still be making files in there.
    for _ in 1 2 3 4 5; do
        rm -rf "$directory" && break
        sleep 1
    done
    exit "$status"
}
trap cleanup EXIT

"start_$kind" "$@"
echo "ready $port $directory"
exec >/dev/null 2>&1
cat
