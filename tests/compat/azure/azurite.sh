#!/usr/bin/env bash
# Azurite: Azure Blob Storage in memory. `azurite.sh start DIR PORT` | `azurite.sh stop DIR`
# The account and its key are $AZURE_STORAGE_ACCOUNT_NAME and $AZURE_STORAGE_ACCOUNT_KEY.
# shellcheck source=../lib.sh
source "$(dirname "$0")/../lib.sh"
export PYTHONDONTWRITEBYTECODE=1

install_modules() {
    cp "$compat_dir"/azure/package*.json "$1" && cd "$1" \
        && npm ci --no-audit --no-fund --ignore-scripts
}

case "${1:-}" in
install)
    installed "$compat_cache/azurite" "$(cat "$compat_dir"/azure/package*.json)" install_modules
    ;;
start)
    dir=$2 port=$3
    "$0" install
    mkdir -p "$dir"
    AZURITE_ACCOUNTS="$AZURE_STORAGE_ACCOUNT_NAME:$AZURE_STORAGE_ACCOUNT_KEY" \
        nohup node "$compat_cache/azurite/node_modules/azurite/dist/src/blob/main.js" \
        --blobHost 127.0.0.1 --blobPort "$port" --inMemoryPersistence --disableTelemetry --silent \
        >"$dir/server.log" 2>&1 </dev/null &
    echo $! >"$dir/pid"
    wait_port "$port" 60 "$(cat "$dir/pid")"
    python3 "$compat_dir/azure/create_container.py" "127.0.0.1:$port" headwater
    ;;
stop)
    stop_pid "$(cat "$2/pid")"
    ;;
*)
    echo "usage: $0 install | start DIR PORT | stop DIR" >&2
    exit 2
    ;;
esac
