#!/usr/bin/env bash
# franz-go: a small program of ours over it.
# shellcheck source=../lib.sh
source "$(dirname "$0")/../lib.sh"

build() {
    go_env
    cd "$compat_dir/franz-go" && go vet ./... && go build -mod=readonly -o "$1/compat" .
}

installed "$compat_cache/franz-go" "$(cat "$compat_dir"/franz-go/{go.mod,*.go})" build
