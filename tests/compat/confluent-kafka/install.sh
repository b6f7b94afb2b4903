#!/usr/bin/env bash
# confluent-kafka: librdkafka from Python.
# shellcheck source=../lib.sh
source "$(dirname "$0")/../lib.sh"

venv confluent-kafka confluent-kafka==2.12.2
