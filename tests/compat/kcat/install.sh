#!/usr/bin/env bash
# kcat 1.7.1, from Debian's packages.
# shellcheck source=../lib.sh
source "$(dirname "$0")/../lib.sh"

want=1.7.1
if ! command -v kcat >/dev/null; then
    apt-get update -qq
    apt-get install -y -qq "kcat=$want*"
fi
got=$(kcat -V 2>&1)
[[ "$got" == *"Version $want"* ]] || fail "kcat $want is wanted, got: $got"
