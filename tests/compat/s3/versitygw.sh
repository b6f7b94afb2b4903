#!/usr/bin/env bash
# versitygw: an S3 server over a folder. `versitygw.sh start DIR PORT` | `versitygw.sh stop DIR`
# shellcheck source=../lib.sh
source "$(dirname "$0")/../lib.sh"
export PYTHONDONTWRITEBYTECODE=1

build() {
    go_env
    cd "$compat_dir/s3/versitygw" && go build -mod=readonly -o "$1/versitygw" \
        github.com/versity/versitygw/cmd/versitygw
}

case "${1:-}" in
install)
    installed "$compat_cache/versitygw" "$(cat "$compat_dir/s3/versitygw/go.mod")" build
    ;;
start)
    dir=$2 port=$3
    "$0" install
    mkdir -p "$dir/data"
    nohup "$compat_cache/versitygw/versitygw" --port "127.0.0.1:$port" --access test \
        --secret testtesttest posix "$dir/data" >"$dir/server.log" 2>&1 </dev/null &
    echo $! >"$dir/pid"
    wait_port "$port" 30 "$(cat "$dir/pid")"
    python3 "$compat_dir/s3/create_bucket.py" "127.0.0.1:$port" headwater test testtesttest
    python3 "$compat_dir/s3/race.py" "127.0.0.1:$port" headwater test testtesttest
    ;;
stop)
    stop_pid "$(cat "$2/pid")"
    ;;
*)
    echo "usage: $0 install | start DIR PORT | stop DIR" >&2
    exit 2
    ;;
esac
