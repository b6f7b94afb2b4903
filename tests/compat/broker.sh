#!/usr/bin/env bash
# The broker under test, as a process of its own.
# `broker.sh start DIR PORT [ARGUMENT...]` | `kill9 DIR` | `again DIR` | `stop DIR`
# $HEADWATER_BINARY is what runs; the release build if it is not set.
# shellcheck source=lib.sh
source "$(dirname "$0")/lib.sh"

binary=${HEADWATER_BINARY:-${CARGO_TARGET_DIR:-$compat_dir/../../target}/release/headwater}

launch() {
    local dir=$1 port admin arguments=()
    port=$(cat "$dir/port")
    admin=$(cat "$dir/admin-port")
    mapfile -t arguments <"$dir/arguments"
    # To the broker each HEADWATER_ variable is a setting; ours are none.
    local name unset=()
    for name in ${!HEADWATER_@}; do
        unset+=(-u "$name")
    done
    nohup env "${unset[@]}" "$binary" serve --data-dir "$dir/data" --listen "127.0.0.1:$port" \
        --admin-listen "127.0.0.1:$admin" "${arguments[@]}" \
        >>"$dir/server.log" 2>&1 </dev/null &
    echo $! >"$dir/pid"
    wait_port "$port" 60 "$(cat "$dir/pid")" || {
        tail -n 20 "$dir/server.log" >&2
        return 1
    }
    wait_ready "$admin" "$(cat "$dir/pid")"
}

# The listener may open before recovery is done; /readyz says when it is.
wait_ready() {
    local deadline=$((SECONDS + 120))
    until python3 "$compat_dir/ready.py" "$1" 2>/dev/null; do
        kill -0 "$2" 2>/dev/null || { echo "the broker ended" >&2; return 1; }
        ((SECONDS < deadline)) || { echo "not ready after 120 s" >&2; return 1; }
        sleep 0.1
    done
}

case "${1:-}" in
start)
    dir=$2 port=$3
    mkdir -p "$dir"
    rm -rf "$dir/data" "$dir/server.log"
    echo "$port" >"$dir/port"
    free_port >"$dir/admin-port"
    : >"$dir/arguments"
    if (($# > 3)); then
        printf '%s\n' "${@:4}" >"$dir/arguments"
    fi
    launch "$dir"
    ;;
again)
    launch "$2"
    ;;
kill9)
    kill -9 "$(cat "$2/pid")"
    ;;
stop)
    stop_pid "$(cat "$2/pid")" 60
    ;;
*)
    echo "usage: $0 start DIR PORT [ARGUMENT...] | kill9 DIR | again DIR | stop DIR" >&2
    exit 2
    ;;
esac
