#!/usr/bin/env bash
# The Java client, and our program over it.
# shellcheck source=../lib.sh
source "$(dirname "$0")/../lib.sh"

compile() {
    javac -Werror -Xlint:all -cp "$jars" -d "$1" "$compat_dir"/java/*.java
}

jars java "$compat_dir/java/pom.xml"
installed "$compat_cache/java-classes" "$(cat "$compat_dir"/java/{pom.xml,*.java})" compile
