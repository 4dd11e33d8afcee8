#!/usr/bin/env bash
# Holds a server against its own OpenAPI document with schemathesis: all of its checks, in all of its phases.
#
# usage: scripts/schemathesis.sh TARGET_DIRECTORY
#
# The program must be built: `make schemathesis` does that first. Schemathesis is installed into a virtual environment
# under the target directory, in one version, so that a run finds today what it finds tomorrow. The server runs on an
# SQLite file of its own and is gone afterwards, however this ends.
#
# MULTICREDIT_SCHEMATHESIS_EXAMPLES (20): requests of each operation that are made up beside the systematic ones
# MULTICREDIT_SCHEMATHESIS_SEED (1): another seed makes up other requests

set -euo pipefail

version=4.32.5
target=$1
config=$(cd "$(dirname "$0")" && pwd)/schemathesis.toml
examples=${MULTICREDIT_SCHEMATHESIS_EXAMPLES:-20}
seed=${MULTICREDIT_SCHEMATHESIS_SEED:-1}
python=$target/schemathesis/$version/bin

if [ ! -x "$python/schemathesis" ]; then
    python3 -m venv "$target/schemathesis/$version"
    "$python/pip" install --quiet "schemathesis==$version"
fi

scratch=$(mktemp -d)
server=
finish() {
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    rm -rf "$scratch"
}
trap finish EXIT
trap 'exit 1' INT TERM

key=$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')
program=$(realpath "$target/debug/multicredit")

start() {
    : >"$scratch/log"
    (cd "$scratch" && exec env DATABASE_URL="sqlite://$scratch/ledger.db?mode=rwc" MULTICREDIT_LISTEN=127.0.0.1:0 \
        MULTICREDIT_LOG=error MULTICREDIT_ADMIN_KEY="$key" "$program" serve --demo) >"$scratch/log" 2>&1 &
    server=$!
    for _ in $(seq 100); do
        url=$(sed -n 's/^listening on //p' "$scratch/log")
        if [ -n "$url" ]; then
            return
        fi
        sleep 0.2
    done
    cat "$scratch/log" >&2
    exit 1
}

run() {
    # It leaves notes where it stands.
    (cd "$scratch" && "$python/schemathesis" --config-file "$config" run "$url/openapi.json" \
        --header "Authorization: Bearer $key" --workers 1 --seed "$seed" --max-examples "$examples" \
        --request-timeout 20 --no-shrink "$@")
}

start
status=0
# Schemathesis revokes what keys it finds, its own among them, and learns nothing from then on: that comes last.
run --exclude-operation-id revokeApiKey || status=$?
run --include-operation-id revokeApiKey || status=$?
exit "$status"
