#!/usr/bin/env bash
# shellcheck source=../lib.sh
source "$(dirname "$0")/../lib.sh"

guard_bootstrap "${1:-}"
export NODE_PATH="$compat_cache/kafkajs/node_modules" NODE_NO_WARNINGS=1 KAFKAJS_NO_PARTITIONER_WARNING=1
exec node "$compat_dir/kafkajs/compat.js" "$1"
