#!/usr/bin/env bash
# What the others install: kcat, and Kafka's own tools.
set -euo pipefail
"$(dirname "$0")/../kcat/install.sh"
"$(dirname "$0")/../kafka-tools/install.sh"
