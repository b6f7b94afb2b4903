#!/usr/bin/env bash
# Google Cloud Storage in memory, over fake-gcs-server. `fakegcs.sh start DIR PORT` | `stop DIR`
# shellcheck source=../lib.sh
source "$(dirname "$0")/../lib.sh"

build() {
    go_env
    cd "$compat_dir/gcs" && go vet ./... && go build -mod=readonly -o "$1/gcs" .
}

case "${1:-}" in
install)
    installed "$compat_cache/gcs" "$(cat "$compat_dir"/gcs/{go.mod,*.go})" build
    ;;
start)
    dir=$2 port=$3
    "$0" install
    mkdir -p "$dir"
    nohup "$compat_cache/gcs/gcs" "127.0.0.1:$port" >"$dir/server.log" 2>&1 </dev/null &
    echo $! >"$dir/pid"
    wait_port "$port" 30 "$(cat "$dir/pid")"
    ;;
stop)
    stop_pid "$(cat "$2/pid")"
    ;;
*)
    echo "usage: $0 install | start DIR PORT | stop DIR" >&2
    exit 2
    ;;
esac
