#!/usr/bin/env bash
# The big log goes through confluent-kafka.
# shellcheck source=../lib.sh
source "$(dirname "$0")/../lib.sh"

"$compat_dir/confluent-kafka/install.sh"
"$compat_dir/biglog/make_log.sh" "${HEADWATER_COMPAT_BIGLOG_MIB:-100}"
