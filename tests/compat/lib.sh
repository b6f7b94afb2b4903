# What every script of this folder shares. Source it; it starts nothing.
# shellcheck shell=bash
set -euo pipefail

compat_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
compat_cache=${HEADWATER_COMPAT_CACHE:-${TMPDIR:-/tmp}/headwater-compat}
mkdir -p "$compat_cache"

# Every script here talks to brokers of this machine only.
guard_bootstrap() {
    if [[ ! "${1:-}" =~ ^127\.0\.0\.1:[0-9]{1,5}$ ]]; then
        echo "refused: the bootstrap address must be 127.0.0.1:PORT, not '${1:-}'" >&2
        exit 2
    fi
}

# One line per step that holds.
ok() { printf '  ok    %s\n' "$*"; }

# The first step that does not hold ends the client's run.
fail() {
    printf '  FAIL  %s\n' "$*" >&2
    exit 1
}

# equal WHAT EXPECTED GOT
equal() {
    if [[ "$2" != "$3" ]]; then
        fail "$1: expected '$2', got '$3'"
    else
        ok "$1"
    fi
}

# A name nobody else uses, so that scripts can share a broker.
fresh_name() { printf 'compat-%s-%s-%s' "$1" "$$" "$(date +%s)"; }

# Runs an installer once per set of pins: installed DIR PINS COMMAND...
# DIR appears only when COMMAND (called with a scratch folder as last argument) succeeded.
installed() {
    local dir=$1 pins=$2
    shift 2
    if [[ -f "$dir/.pins" && "$(cat "$dir/.pins")" == "$pins" ]]; then
        return 0
    fi
    (
        flock 9
        if [[ -f "$dir/.pins" && "$(cat "$dir/.pins")" == "$pins" ]]; then
            exit 0
        fi
        rm -rf "$dir"
        mkdir -p "$dir"
        "$@" "$dir" >"$dir.install.log" 2>&1 || {
            echo "installing $dir failed; the end of $dir.install.log:" >&2
            tail -n 20 "$dir.install.log" >&2
            rm -rf "$dir"
            exit 1
        }
        printf '%s' "$pins" >"$dir/.pins"
    ) 9>"$dir.lock"
}

# venv NAME PACKAGE==VERSION... ; leaves the interpreter's path in $python
venv() {
    local dir="$compat_cache/$1"
    shift
    installed "$dir" "$*" make_venv "$@"
    # shellcheck disable=SC2034  # for the caller
    python="$dir/bin/python"
}

make_venv() {
    local dir=${!#}
    local packages=("${@:1:$#-1}")
    # --copies: Python names its paths by the real interpreter, also under version managers.
    python3 -m venv "$dir" && "$dir/bin/pip" install --quiet --disable-pip-version-check \
        --no-input --only-binary=:all: "${packages[@]}"
}

# jars NAME POM ; leaves the class path in $jars
jars() {
    local dir="$compat_cache/$1"
    installed "$dir" "$(cat "$2")" copy_jars "$2"
    # shellcheck disable=SC2034  # for the caller
    jars="$dir/*"
}

copy_jars() {
    mvn --quiet --batch-mode \
        org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
        --file "$1" -DincludeScope=runtime "-DoutputDirectory=$2"
}

# The module proxy only, never a repository directly.
go_env() {
    GOPROXY=$(go env GOPROXY)
    export GOPROXY="${GOPROXY%,direct}" GOFLAGS=-buildvcs=false GOTOOLCHAIN=local
}

# wait_port PORT SECONDS PID : until 127.0.0.1:PORT accepts, or PID is gone.
wait_port() {
    local deadline=$((SECONDS + $2))
    until (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; do
        if ! kill -0 "$3" 2>/dev/null; then
            echo "process $3 ended before 127.0.0.1:$1 was open" >&2
            return 1
        fi
        if ((SECONDS >= deadline)); then
            echo "127.0.0.1:$1 not open after $2 s" >&2
            return 1
        fi
        sleep 0.1
    done
}

# A port that is free now.
free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# stop_pid PID [SECONDS] : TERM, then KILL.
stop_pid() {
    local pid=$1 deadline=$((SECONDS + ${2:-20}))
    kill "$pid" 2>/dev/null || return 0
    while kill -0 "$pid" 2>/dev/null; do
        if ((SECONDS >= deadline)); then
            kill -9 "$pid" 2>/dev/null || true
            return 0
        fi
        sleep 0.1
    done
}
