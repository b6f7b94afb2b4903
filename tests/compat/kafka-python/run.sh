#!/usr/bin/env bash
# shellcheck source=../lib.sh
source "$(dirname "$0")/../lib.sh"

guard_bootstrap "${1:-}"
export PYTHONPATH=$compat_dir PYTHONDONTWRITEBYTECODE=1
exec "$compat_cache/kafka-python/bin/python" "$compat_dir/kafka-python/compat.py" "$1"
