#!/usr/bin/env bash
# Unit and integration tests. Installs the real components they run against and says so.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(
  mosquitto                # the MQTT broker of edge nodes
  postgresql-15            # plain PostgreSQL
  python3-pymodbus python3-serial-asyncio # a Modbus client and server of other hands, and what its serial side needs
  libmodbus-dev            # another one, in C
  gcc libc6-dev            # compiles the libmodbus peers
  socat                    # pairs of pseudo terminals
  ser2net                  # a device server, raw and RFC 2217
  gpsd gpsd-clients        # gpsfake plays a GPS receiver
)
missing=()
for p in "${packages[@]}"; do
  [ "$(dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null || true)" = installed ] || missing+=("$p")
done
if [ ${#missing[@]} -gt 0 ]; then
  [ "$(id -u)" = 0 ] || { echo "make test: run as root once, or: apt-get install ${missing[*]}" >&2; exit 1; }
  echo "installing from Debian: ${missing[*]}"
  policy=/usr/sbin/policy-rc.d
  [ -e "$policy" ] || { printf '#!/bin/sh\nexit 101\n' > "$policy"; chmod +x "$policy"; trap 'rm -f "$policy"' EXIT; } # start no service
  apt-get update -qq
  mkdir -p /etc/postgresql-common
  [ -e /etc/postgresql-common/createcluster.conf ] || echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null
fi

database() { go -C test/e2e run ./cmd/stack -dir /var/tmp/twinline-testdb -database-only "$@"; }
echo "starting TimescaleDB (the first time, its folder is fetched from Debian: a few minutes)"
trap 'database down || true; [ -z "${policy:-}" ] || rm -f "$policy"' EXIT
database up
TWINLINE_TEST_TIMESCALE=$(eval "$(database env)" && echo "$DATABASE")
export TWINLINE_TEST_TIMESCALE

echo "running unit and integration tests"
go test -tags integration -json ./... | go run ./test/report -title "make test"
