#!/usr/bin/env bash
# kafkajs, with the codecs it leaves to others.
# shellcheck source=../lib.sh
source "$(dirname "$0")/../lib.sh"

install_modules() {
    cp "$compat_dir"/kafkajs/package*.json "$1" && cd "$1" && npm ci --no-audit --no-fund
}

installed "$compat_cache/kafkajs" "$(cat "$compat_dir"/kafkajs/package*.json)" install_modules
