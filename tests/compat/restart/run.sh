#!/usr/bin/env bash
# What was acknowledged is there after `kill -9`: twice produced, killed, started again and read.
# $HEADWATER_COMPAT_BROKER is the script that started the broker, $HEADWATER_COMPAT_FOLDER its folder.
# shellcheck source=../lib.sh
source "$(dirname "$0")/../lib.sh"

guard_bootstrap "${1:-}"
: "${HEADWATER_COMPAT_BROKER:?the script that started the broker}"
: "${HEADWATER_COMPAT_FOLDER:?the folder of the broker}"
broker=(-b "$1" -X topic.metadata.refresh.interval.ms=1000)
topic=$(fresh_name restart)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
records=20000

# Some brokers open their port before they lead.
leads() {
    kcat "${broker[@]}" -Q -t "$topic:0:-1" -m 5 >"$work/end" 2>"$work/error"
}

: >"$work/expected"
for round in 0 1; do
    python3 -c '
import sys
first, count = int(sys.argv[1]), int(sys.argv[2])
for i in range(first, first + count):
    print(f"key-{i}|value-{i}-" + "x" * (i % 300))
' "$((round * records))" "$records" >"$work/round"
    kcat "${broker[@]}" -P -t "$topic" -p 0 -K '|' -X acks=all -X enable.idempotence=true \
        -l "$work/round" || fail "round $round: produce"
    "$HEADWATER_COMPAT_BROKER" kill9 "$HEADWATER_COMPAT_FOLDER"
    "$HEADWATER_COMPAT_BROKER" again "$HEADWATER_COMPAT_FOLDER" || fail "round $round: start again"
    deadline=$((SECONDS + 60))
    until leads; do
        ((SECONDS < deadline)) || fail "round $round: no leader after 60 s: $(cat "$work/error")"
        sleep 0.1
    done
    nl -v "$((round * records))" -w 1 -s ' ' "$work/round" >>"$work/expected"
    timeout 100 kcat "${broker[@]}" -C -t "$topic" -p 0 -o beginning -e -q -X check.crcs=true \
        -f '%o %k|%s\n' >"$work/got" || fail "round $round: consume"
    cmp "$work/expected" "$work/got" || fail "round $round: other records came out"
    ok "round $round: $(((round + 1) * records)) records exact after kill -9"
done
