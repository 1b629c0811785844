#!/usr/bin/env bash
# The end-to-end suite on the real stack. A stack that runs already is used and left running.
set -euo pipefail
cd "$(dirname "$0")/.."
make --no-print-directory build
cd test/e2e
started=0
if ! go run ./cmd/stack status > /dev/null 2>&1; then
  started=1
  trap 'go run ./cmd/stack down' EXIT
  go run ./cmd/stack up
fi
[ $started = 1 ] || echo "using the stack that runs already"
go test -count=1 -timeout 30m -json -v ./... | go -C ../.. run ./test/report -title e2e
