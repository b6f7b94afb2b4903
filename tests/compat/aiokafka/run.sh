#!/usr/bin/env bash
# shellcheck source=../lib.sh
source "$(dirname "$0")/../lib.sh"

guard_bootstrap "${1:-}"
export PYTHONPATH=$compat_dir PYTHONDONTWRITEBYTECODE=1
exec "$compat_cache/aiokafka/bin/python" "$compat_dir/aiokafka/compat.py" "$1"
