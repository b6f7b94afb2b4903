#!/usr/bin/env bash
# kcat: topics by auto-creation, five codecs, a group of two with a rebalance, seek by time.
# It can neither set timestamps nor delete, so those steps are left to the other clients.
# shellcheck source=../lib.sh
source "$(dirname "$0")/../lib.sh"

guard_bootstrap "${1:-}"
broker=(-b "$1" -X topic.metadata.refresh.interval.ms=1000)
first=$(fresh_name kcat-a)
second=$(fresh_name kcat-b)
group="$first-group"
work=$(mktemp -d)
members=()
cleanup() {
    for pid in "${members[@]}"; do
        kill "$pid" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap cleanup EXIT

# lines CODEC FIRST : KEY|VALUE, each tenth a tombstone
lines() {
    python3 -c '
import sys
codec, first = sys.argv[1], int(sys.argv[2])
for i in range(first, first + 100):
    value = "" if i % 10 == 3 else codec + "-" + str(i) + "-" + "x" * (i % 50)
    print("key-" + str(i) + "|" + value)
' "$1" "$2"
}

start_ms=$(($(date +%s%3N) - 1000))
for topic in "$first" "$second"; do
    at=0
    for codec in none gzip snappy lz4 zstd; do
        lines "$codec" "$at" | kcat "${broker[@]}" -P -t "$topic" -p 0 -K '|' -Z -z "$codec" \
            -H trace=first -H "codec=$codec" -H trace=second -H empty= -X enable.idempotence=true \
            || fail "produce $codec"
        at=$((at + 100))
    done
done
ok "topics made by writing to them; produced in five codecs"

for topic in "$first" "$second"; do
    kcat "${broker[@]}" -C -t "$topic" -p 0 -o beginning -e -q -J -X check.crcs=true >"$work/all" \
        || fail "consume"
    python3 "$compat_dir/kcat/check.py" "$topic" "$start_ms" <"$work/all" || fail "contents of $topic"
done
ok "consumed: keys, values, tombstones, headers and timestamps exact"

equal "metadata: the topic is there" "$first" \
    "$(kcat "${broker[@]}" -L -J -t "$first" | python3 -c \
        'import json, sys; print(json.load(sys.stdin)["topics"][0]["topic"])')"

stamp=$(sed -n 250p "$work/all" | python3 -c 'import json, sys; print(json.load(sys.stdin)["ts"])')
wanted=$(python3 -c '
import json, sys
stamp = int(sys.argv[1])
print(min(r["offset"] for r in map(json.loads, sys.stdin) if r["ts"] >= stamp))' "$stamp" <"$work/all")
equal "offset by time" "$second [0] offset $wanted" \
    "$(kcat "${broker[@]}" -Q -t "$second:0:$stamp")"
equal "seek by time: the record there" "$wanted" \
    "$(kcat "${broker[@]}" -C -t "$second" -p 0 -o "s@$stamp" -c 1 -e -q -f '%o')"

# member NAME : a consumer of the group in the background
member() {
    kcat "${broker[@]}" -G "$group" -J -u -X auto.offset.reset=earliest \
        -X partition.assignment.strategy=roundrobin -X session.timeout.ms=10000 \
        -X heartbeat.interval.ms=500 -X enable.partition.eof=false \
        "$first" "$second" >"$work/$1.out" 2>"$work/$1.err" &
    members+=($!)
}
# await STEP COMMAND... : until the command succeeds
await() {
    local step=$1 deadline=$((SECONDS + 60))
    shift
    until "$@"; do
        ((SECONDS < deadline)) || {
            cat "$work"/*.err >&2
            fail "$step: not within its time"
        }
        sleep 0.1
    done
    ok "$step"
}
# assigned NAME PATTERN : the member's newest assignment
assigned() {
    grep 'assigned:' "$work/$1.err" 2>/dev/null | tail -n 1 | grep -q "$2"
}
both() { assigned one "$first \[0\].*$second \[0\]" || assigned one "$second \[0\].*$first \[0\]"; }
# Whoever has partition 0 of one topic, the other member has that of the other topic.
shared() {
    local mine theirs
    mine=$(grep assigned: "$work/one.err" | tail -n 1 | sed 's/.*assigned: //' | tr ',' '\n' | wc -l)
    theirs=$(grep assigned: "$work/two.err" | tail -n 1 | sed 's/.*assigned: //' | tr ',' '\n' | wc -l)
    [[ "$mine" == "$theirs" ]] && assigned two '\[[0-9]*\]'
}
everything() {
    [[ $(cat "$work"/{one,two}.out | python3 -c '
import json, sys
print(len({(r["topic"], r["offset"]) for r in map(json.loads, sys.stdin)}))') == 1000 ]]
}
member one
await "group: one member has both topics" both
member two
await "group: rebalanced between two members" shared
await "group: both topics consumed" everything
for pid in "${members[@]}"; do
    kill "$pid"
    wait "$pid" || true
done
members=()
for topic in "$first" "$second"; do
    cat "$work"/{one,two}.out | grep -F "\"$topic\"" | sort -u >"$work/group"
    python3 "$compat_dir/kcat/check.py" "$topic" "$start_ms" <"$work/group" || fail "group: $topic"
done
ok "group: contents exact"

echo 'last|one' | kcat "${broker[@]}" -P -t "$first" -p 0 -K '|'
got=$(timeout 60 kcat "${broker[@]}" -G "$group" -q -c 1 -f '%t %o %k %s' \
    -X auto.offset.reset=earliest -X partition.assignment.strategy=roundrobin "$first" "$second")
equal "group: goes on at the committed offsets" "$first 500 last one" "$got"
