#!/usr/bin/env bash
# Makes a text log of real lines: the sources of the crates this project builds with, one after
# the other, in order of name. `make_log.sh MIB` ; it is kept in the cache.
# shellcheck source=../lib.sh
source "$(dirname "$0")/../lib.sh"

mib=${1:?size in MiB}
log="$compat_cache/biglog-$mib.txt"
if [[ -f "$log" ]]; then
    exit 0
fi
sources="${CARGO_HOME:-$HOME/.cargo}/registry/src"
python3 "$compat_dir/biglog/make_log.py" "$sources" "$mib" "$log.$$"
mv "$log.$$" "$log"
