#!/usr/bin/env bash
# shellcheck source=../lib.sh
source "$(dirname "$0")/../lib.sh"

guard_bootstrap "${1:-}"
jars java "$compat_dir/java/pom.xml"
exec java -Xmx256m -cp "$compat_cache/java-classes:$jars" Compat "$1"
