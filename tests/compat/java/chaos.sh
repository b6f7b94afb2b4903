#!/usr/bin/env bash
# The Java client under chaos: chaos.sh BOOTSTRAP TOPIC PARTITIONS FIRST STEP TIMEOUT_MS
# shellcheck source=../lib.sh
source "$(dirname "$0")/../lib.sh"

# Loopback, or the network that `cargo xtask chaos` makes for itself.
if [[ ! "${1:-}" =~ ^((127\.0\.0\.1|10\.213\.77\.[0-9]{1,3}):[0-9]{1,5},?)+$ ]]; then
    echo "refused: the bootstrap addresses must be of this machine, not '${1:-}'" >&2
    exit 2
fi
jars java "$compat_dir/java/pom.xml"
exec java -Xmx256m -cp "$compat_cache/java-classes:$jars" Chaos "$@"
