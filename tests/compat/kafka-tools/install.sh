#!/usr/bin/env bash
# Kafka's own tools.
# shellcheck source=../lib.sh
source "$(dirname "$0")/../lib.sh"

jars kafka-tools "$compat_dir/kafka-tools/pom.xml"
