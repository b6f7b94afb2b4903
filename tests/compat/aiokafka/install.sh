#!/usr/bin/env bash
# aiokafka, with the codecs it leaves to others.
# shellcheck source=../lib.sh
source "$(dirname "$0")/../lib.sh"

venv aiokafka aiokafka==0.14.0 cramjam==2.11.0
