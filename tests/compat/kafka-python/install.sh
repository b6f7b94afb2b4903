#!/usr/bin/env bash
# kafka-python, with the codecs it leaves to others.
# shellcheck source=../lib.sh
source "$(dirname "$0")/../lib.sh"

venv kafka-python kafka-python==3.0.12 python-snappy==0.7.3 lz4==4.4.5 zstandard==0.25.0
