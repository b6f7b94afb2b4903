#!/usr/bin/env bash
# moto: an S3 server in memory. `moto.sh start DIR PORT` | `moto.sh stop DIR`
# shellcheck source=../lib.sh
source "$(dirname "$0")/../lib.sh"
export PYTHONDONTWRITEBYTECODE=1

case "${1:-}" in
install)
    venv moto 'moto[server]==5.2.5'
    ;;
start)
    dir=$2 port=$3
    venv moto 'moto[server]==5.2.5'
    mkdir -p "$dir"
    MOTO_ALLOW_NONEXISTENT_REGION=true nohup "$compat_cache/moto/bin/moto_server" \
        -H 127.0.0.1 -p "$port" >"$dir/server.log" 2>&1 </dev/null &
    echo $! >"$dir/pid"
    wait_port "$port" 60 "$(cat "$dir/pid")"
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
