# What the tests need of the machine beside Node: PostgreSQL (>= 14), Redis and Chromium. What is not installed comes from Debian;
# servers that do not answer are started here, on free ports, and stopped at exit. Sourced by .ci/run.
#
#   SKEIN_TEST_POSTGRES, SKEIN_TEST_REDIS   where they are; set to where they were started
#   CHROMIUM                                the browser

DEFAULT_POSTGRES=postgres://root@127.0.0.1:5432/postgres
DEFAULT_REDIS=redis://127.0.0.1:6379
OLDEST_POSTGRES=140000

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }

# PostgreSQL refuses to run as root; its package makes the user `postgres`.
as_postgres() { if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi; }

apt_updated=
apt_install() {
  if [ -z "$apt_updated" ]; then as_root apt-get update -qq; apt_updated=yes; fi
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@" >/dev/null
}

# Where initdb and postgres are, the newest first; nothing when this machine has none.
postgres_bin() {
  local place
  for place in $(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -t/ -k5,5nr) /usr/local/bin /usr/bin; do
    if [ -x "$place/initdb" ] && [ -x "$place/postgres" ]; then echo "$place"; return; fi
  done
}

# The version of the PostgreSQL at a URI, as 150004; nothing when none answers.
postgres_version() { psql -X -At -d "$1" -c "show server_version_num" 2>/dev/null; }

redis_answers() { [ "$(redis-cli -u "$1" ping 2>/dev/null)" = PONG ]; }

free_port() {
  node -e 'const s = require("node:net").createServer().listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close(); })'
}

services_dir=
stop_services() {
  [ -n "$services_dir" ] || return 0
  if [ -d "$services_dir/postgres" ]; then as_postgres "$(postgres_bin)/pg_ctl" -D "$services_dir/postgres" -m immediate -s stop || true; fi
  if [ -s "$services_dir/redis.pid" ]; then kill "$(cat "$services_dir/redis.pid")" || true; fi
  rm -rf "$services_dir"
}
trap stop_services EXIT

make_services_dir() {
  if [ -n "$services_dir" ]; then return; fi
  services_dir=$(mktemp -d)
  chmod 755 "$services_dir"
}

start_postgres() {
  local bin port data
  bin=$(postgres_bin)
  port=$(free_port)
  make_services_dir
  data=$services_dir/postgres
  mkdir "$data"
  if [ "$(id -u)" = 0 ]; then chown postgres: "$data"; fi
  (
    cd "$data"
    as_postgres "$bin/initdb" -D "$data" -U postgres -A trust --no-sync -E UTF8 >/dev/null
    as_postgres "$bin/pg_ctl" -D "$data" -l "$data/log" -s -w start \
      -o "-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c max_connections=200"
  )
  export SKEIN_TEST_POSTGRES=postgres://postgres@127.0.0.1:$port/postgres
}

start_redis() {
  local port
  port=$(free_port)
  make_services_dir
  redis-server --port "$port" --bind 127.0.0.1 --save '' --dir "$services_dir" --daemonize yes --pidfile "$services_dir/redis.pid" >/dev/null
  export SKEIN_TEST_REDIS=redis://127.0.0.1:$port
  until redis_answers "$SKEIN_TEST_REDIS"; do
    # Whoever could not start leaves no process behind.
    sleep 0.1
    if [ "$((++redis_tries))" -gt 100 ]; then echo "Redis does not answer at $SKEIN_TEST_REDIS" >&2; return 1; fi
  done
}
redis_tries=0

# The programs are needed in any case: tests start servers of their own, to break them.
ensure_postgres() {
  if [ -z "$(postgres_bin)" ] || ! command -v psql >/dev/null; then apt_install postgresql postgresql-client; fi
  local uri=${SKEIN_TEST_POSTGRES:-$DEFAULT_POSTGRES} version
  version=$(postgres_version "$uri") || true
  if [ -z "$version" ]; then
    echo "nothing answers at $uri: starting a PostgreSQL"
    start_postgres
    uri=$SKEIN_TEST_POSTGRES
    version=$(postgres_version "$uri")
  fi
  echo "PostgreSQL $version at $uri"
  if [ "$version" -lt "$OLDEST_POSTGRES" ]; then echo "at least PostgreSQL 14 is needed" >&2; return 1; fi
}

ensure_redis() {
  if ! command -v redis-server >/dev/null || ! command -v redis-cli >/dev/null; then apt_install redis-server redis-tools; fi
  local uri=${SKEIN_TEST_REDIS:-$DEFAULT_REDIS}
  if ! redis_answers "$uri"; then
    echo "nothing answers at $uri: starting a Redis"
    start_redis
    uri=$SKEIN_TEST_REDIS
  fi
  echo "Redis $(redis-cli -u "$uri" info server | sed -n 's/^redis_version:\([0-9.]*\).*/\1/p') at $uri"
}

ensure_chromium() {
  local chromium=${CHROMIUM:-/usr/bin/chromium}
  if [ ! -x "$chromium" ]; then apt_install chromium; fi
  "$chromium" --version
}
