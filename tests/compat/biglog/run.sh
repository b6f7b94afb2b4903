#!/usr/bin/env bash
# A big text log goes in line by line through an idempotent producer and comes out the same;
# and again with the broker killed by `kill -9` in the middle.
# $HEADWATER_COMPAT_BROKER is the script that started the broker, $HEADWATER_COMPAT_FOLDER its folder.
# shellcheck source=../lib.sh
source "$(dirname "$0")/../lib.sh"

guard_bootstrap "${1:-}"
: "${HEADWATER_COMPAT_BROKER:?the script that started the broker}"
: "${HEADWATER_COMPAT_FOLDER:?the folder of the broker}"
mib=${HEADWATER_COMPAT_BIGLOG_MIB:-100}
"$compat_dir/biglog/make_log.sh" "$mib"
export PYTHONPATH=$compat_dir PYTHONDONTWRITEBYTECODE=1
exec "$compat_cache/confluent-kafka/bin/python" "$compat_dir/biglog/biglog.py" "$1" \
    "$compat_cache/biglog-$mib.txt" "$HEADWATER_COMPAT_BROKER" "$HEADWATER_COMPAT_FOLDER"
