#!/usr/bin/env bash
# Installs what the tests need besides Rust, where it is missing: the server programs of PostgreSQL, of Redis and of
# pgbouncer, curl, openssl, Prometheus' promtool, and Chromium with its driver.
#
# Only the programs are wanted. The tests start throwaway servers of their own (tests/src/postgres.rs), so no system
# service is started and no system cluster is made. Without apt-get, or without the right to use it, it says what to
# install by hand.
#
# cargo-nextest is used where it is installed and not installed here: `make test` does without.

set -euo pipefail

have_postgres() {
    [ -n "${MULTICREDIT_TEST_POSTGRES_BIN:-}" ] || command -v initdb >/dev/null \
        || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null
}

have_redis() {
    command -v redis-server >/dev/null
}

have_pgbouncer() {
    command -v pgbouncer >/dev/null || [ -x /usr/sbin/pgbouncer ]
}

missing=()
have_postgres || missing+=(postgresql)
have_redis || missing+=(redis-server)
have_pgbouncer || missing+=(pgbouncer)
command -v promtool >/dev/null || missing+=(promtool)
command -v chromium >/dev/null || missing+=(chromium)
command -v chromedriver >/dev/null || missing+=(chromium-driver)
# The command that the demo prints for people is run as they would.
command -v curl >/dev/null || missing+=(curl)
# A Redis behind TLS needs a certificate.
command -v openssl >/dev/null || missing+=(openssl)
[ "${#missing[@]}" -gt 0 ] || exit 0

if [ "$(id -u)" -eq 0 ]; then
    as_root=(env)
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    as_root=(sudo -n env)
else
    as_root=()
fi

if [ "${#as_root[@]}" -eq 0 ] || ! command -v apt-get >/dev/null; then
    {
        echo "The tests need programs that are not installed: ${missing[*]}."
        echo "Install the PostgreSQL server (initdb and postgres, 15 or newer), redis-server, pgbouncer, curl,"
        echo "openssl, promtool, chromium and chromedriver, for example:"
        echo "    Debian:  sudo apt-get install postgresql redis-server pgbouncer curl openssl prometheus chromium chromium-driver"
        echo "    Fedora:  sudo dnf install postgresql-server redis pgbouncer curl openssl golang-github-prometheus chromium chromedriver"
        echo "    macOS:   brew install postgresql redis pgbouncer prometheus chromium chromedriver"
        echo "A PostgreSQL in an unusual place is found by MULTICREDIT_TEST_POSTGRES_BIN=<the folder of initdb>."
    } >&2
    exit 1
fi

# Debian starts a service as soon as its package is installed, unless this policy says no (101).
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap '"${as_root[@]}" rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod 755 "$policy"
fi

install=("${as_root[@]}" DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends)
echo "Installing ${missing[*]} ..."
"${as_root[@]}" apt-get update --quiet --quiet
if ! have_postgres; then
    # First the package that makes clusters, told not to, then the server.
    "${install[@]}" postgresql-common
    echo 'create_main_cluster = false' | "${as_root[@]}" tee -a /etc/postgresql-common/createcluster.conf >/dev/null
fi
# Of the package prometheus only the program that checks rules is wanted, not the server and what it depends on.
packages=()
for package in "${missing[@]}"; do
    [ "$package" = promtool ] || packages+=("$package")
done
[ "${#packages[@]}" -eq 0 ] || "${install[@]}" "${packages[@]}"
if ! command -v promtool >/dev/null; then
    unpacked=$(mktemp -d)
    (cd "$unpacked" && apt-get download --quiet prometheus && dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x ./usr/bin/promtool)
    "${as_root[@]}" install -m 755 "$unpacked/usr/bin/promtool" /usr/local/bin/promtool
    rm -rf "$unpacked"
fi
