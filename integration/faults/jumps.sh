#!/usr/bin/env bash
# jumps.sh ARGUMENT...: `go test` of this folder, with the faults that make the wall clock jump. Its package time has a
# wall clock that jump_test.go can set, and monotonic time in bubbles too.
set -euo pipefail
cd "$(dirname "$0")"
real=$(go env GOROOT)/src/time
made=$(cd ../.. && mkdir -p .cache/jumps && cd .cache/jumps && pwd)
sed 's/^\tsec, nsec, mono := runtimeNow()$/&\n\tif mono == 0 {\n\t\tmono = runtimeNano()\n\t}\n\tsec += secondsAhead.Load()/' "$real/time.go" >"$made/time.go"
[ "$(diff "$real/time.go" "$made/time.go" | grep -c '^>')" = 4 ] || { echo "time.Now of $(go version) is not what $0 knows: change its sed" >&2; exit 1; }
cat >"$made/ahead.go" <<'GO'
package time

import (
	"sync/atomic"
	_ "unsafe" // for a linkname
)

//go:linkname secondsAhead
var secondsAhead atomic.Int64
GO
printf '{"Replace": {"%s": "%s", "%s": "%s"}}\n' "$real/time.go" "$made/time.go" "$real/ahead.go" "$made/ahead.go" >"$made/overlay.json"
exec go test -tags jumps -overlay "$made/overlay.json" "$@" .
