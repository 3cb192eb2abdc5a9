#!/usr/bin/env bash
# Runs tests on another Postgres than the embedded one:
#   tests/on_postgres.sh /usr/lib/postgresql/15/bin tests/integration/api
# The server is its own: in a temporary folder, on a free port of this machine, gone at the end.
set -euo pipefail
binaries=$1
shift
folder=$(mktemp -d)
as=()
if [ "$(id -u)" -eq 0 ]; then
  # Postgres refuses to run as root; the Debian package brings this user.
  as=(setpriv --reuid postgres --regid postgres --clear-groups)
  chown postgres "$folder"
fi
port=$("${PYTHON:-python3}" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cd "$folder"
password=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')
echo "$password" >"$folder/password"
"${as[@]}" "$binaries/initdb" -D "$folder/data" -U bellwire -A scram-sha-256 --pwfile "$folder/password" \
  -E UTF8 --locale=C -N >/dev/null
"${as[@]}" "$binaries/postgres" -D "$folder/data" -c port="$port" -c listen_addresses=127.0.0.1 \
  -c unix_socket_directories= -c max_connections=300 -c logging_collector=off \
  -c fsync=off -c full_page_writes=off >"$folder/log" 2>&1 & # Nobody pulls the plug: no commit waits for a disk.
server=$!
stop() {
  kill -INT "$server" 2>/dev/null || true
  wait "$server" 2>/dev/null || true
  rm -rf "$folder"
}
trap stop EXIT
for _ in $(seq 100); do
  "$binaries/pg_isready" -q -h 127.0.0.1 -p "$port" && break
  kill -0 "$server" 2>/dev/null || { cat "$folder/log"; exit 1; }
  read -rt 0.1 <> <(:) || true
done
cd - >/dev/null
BELLWIRE_TEST_DATABASE_URL="postgresql://bellwire:$password@127.0.0.1:$port/postgres" "${PYTEST:-.venv/bin/pytest}" "$@"
