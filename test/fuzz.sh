#!/usr/bin/env bash
# Runs every fuzz target of the module for the time given (default 10s each).
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-10s} n=0
while IFS=: read -r file target; do
  n=$((n + 1))
  echo "fuzz $target in $(dirname "$file") for $time"
  go test "./$(dirname "$file")" -run '^$' -fuzz "^$target\$" -fuzztime "$time"
done < <(grep -rhoE --include='*_test.go' -H '^func (Fuzz[A-Za-z0-9_]+)' --exclude-dir=e2e --exclude-dir=bench . | sed -E 's/^\.\///; s/func //' | sort -u)
echo "$n fuzz targets ran for $time each"
