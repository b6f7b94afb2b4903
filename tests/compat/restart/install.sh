#!/usr/bin/env bash
# Only kcat.
set -euo pipefail
exec "$(dirname "$0")/../kcat/install.sh"
