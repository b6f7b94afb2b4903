#!/usr/bin/env bash
# timed.sh SECONDS COMMAND... : ends the command's whole process group when the time is over.
set -euo pipefail
limit=$1
shift
exec timeout --kill-after=10s "$limit" "$@"
