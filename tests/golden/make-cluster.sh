#!/usr/bin/env bash
# Makes tests/golden/cluster: what three nodes of this build leave in their directories and in the
# store they share. Objects of a first life that stopped cleanly, a write-ahead log of a second life
# that was killed whole, and Raft logs of three voters. Later builds must read it
# (tests/tests/it/golden_cluster.rs), so it is made once and kept: run this only for a new directory
# beside it.
#
#   tests/golden/make-cluster.sh HEADWATER_BINARY TARGET_DIRECTORY
set -euo pipefail

binary=$1
target=$2
# shellcheck source=tests/golden/records.sh
. "$(dirname "$0")/records.sh"
must_be_new "$target"
mkdir -p "$target"
target=$(cd "$target" && pwd)
base=${GOLDEN_PORT:-29600}
declare -A pids=()
trap 'for pid in "${pids[@]}"; do kill -9 "$pid" 2>/dev/null || true; done' EXIT

# Addresses of voters stand in the log, so that the test must listen there too: on loopback, where
# nobody else is.
voters=1@127.77.4.1:9093,2@127.77.4.2:9093,3@127.77.4.3:9093
bootstrap=127.0.0.1:$((base + 10)),127.0.0.1:$((base + 20)),127.0.0.1:$((base + 30))

start() {
    local node port
    for node in 1 2 3; do
        port=$((base + 10 * node))
        "$binary" serve --data-dir "$target/node$node" --set "node.id=$node" \
            --set "listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.77.4.$node:9093" \
            --set "admin.listen=127.0.0.1:$((port + 1))" \
            --set "controller.quorum.voters=$voters" \
            --set "object.store.url=$target/objects" \
            --set wal.backend=object --set wal.object.puts.per.second=500 \
            >>"$target.log" 2>&1 &
        pids[$node]=$!
    done
    "$binary" cluster -b "$bootstrap" --timeout 60 init --voters "$voters" >/dev/null
}

stop() { # SIGNAL
    local node
    for node in 1 2 3; do kill -s "$1" "${pids[$node]}"; done
    for node in 1 2 3; do wait "${pids[$node]}" 2>/dev/null || true; done
    pids=()
}

start
topics
produce 1 1000
commit golden-none 700
"$binary" topic -b "$bootstrap" move golden-lz4 --to 2
stop TERM
start
# Every node leads one, so that every node leaves a log.
"$binary" topic -b "$bootstrap" move golden-none --to 1
"$binary" topic -b "$bootstrap" move golden-gzip --to 2
"$binary" topic -b "$bootstrap" move golden-zstd --to 3
produce 1001 1500
commit golden-zstd 1234
# All at once, with a log that nobody has uploaded.
stop KILL
rm -f "$target.log"
# Segments are zeros to their end, which the test puts back.
for segment in "$target"/node?/raft/log/*.wal; do
    python3 - "$segment" <<'TRIM'
import sys
path = sys.argv[1]
data = open(path, "rb").read()
assert len(data) == 2 << 20, f"{path} has {len(data)} bytes"
open(path, "wb").write(data.rstrip(b"\0"))
TRIM
done
du -sh "$target"
