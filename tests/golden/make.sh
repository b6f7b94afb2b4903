#!/usr/bin/env bash
# Makes tests/golden/core, a small data directory with everything that a broker of this build
# leaves behind: objects of a first life that stopped cleanly, and a write-ahead log that a second
# life left when it was killed. Later builds must read it (tests/tests/it/golden.rs), so it is made
# once and kept: run this only for a new directory beside it.
#
#   tests/golden/make.sh HEADWATER_BINARY TARGET_DIRECTORY
set -euo pipefail

binary=$1
target=$2
# shellcheck source=tests/golden/records.sh
. "$(dirname "$0")/records.sh"
must_be_new "$target"
bootstrap=127.0.0.1:${GOLDEN_PORT:-29592}
admin=127.0.0.1:${GOLDEN_ADMIN_PORT:-29593}
pid=
trap '[[ -z "$pid" ]] || kill -9 "$pid" 2>/dev/null || true' EXIT

start() {
    "$binary" serve --data-dir "$target" --listen "$bootstrap" --admin-listen "$admin" \
        --set wal.segment.bytes=1048576 >"$target.log" 2>&1 &
    pid=$!
    for _ in $(seq 100); do
        grep -q 'Admin listens' "$target.log" && return
        sleep 0.1
    done
    cat "$target.log" >&2
    exit 1
}

start
topics -c max.message.bytes=4000
produce 1 1000
commit golden-none 700
kill -TERM "$pid" && wait "$pid"
start
produce 1001 1500
commit golden-zstd 1234
# More than the 50 ms after which an idle log says that nothing acknowledged is missing.
sleep 1
kill -9 "$pid" && wait "$pid" || true
pid=
rm -f "$target.log"
du -sh "$target"
