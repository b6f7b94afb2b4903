# Sourced by make.sh and make-cluster.sh: what both put into a broker, by $binary at $bootstrap. The
# tests that read it (tests/tests/it/golden*.rs) know these records.

codecs="none gzip snappy lz4 zstd"

must_be_new() { # TARGET
    [[ ! -e "$1" ]] || { echo "$1 exists: golden data is never made again" >&2; exit 1; }
}

topics() { # FURTHER ARGUMENTS OF EACH
    local codec
    for codec in $codecs; do
        "$binary" topic create -b "$bootstrap" "golden-$codec" -p 1 "$@"
    done
}

produce() { # FIRST LAST
    local codec
    for codec in $codecs; do
        seq "$1" "$2" | sed "s/^/$codec record /" |
            "$binary" produce -b "$bootstrap" -z "$codec" --batch-bytes 2000 "golden-$codec"
    done
}

commit() { # TOPIC OFFSET
    "$binary" group reset -b "$bootstrap" golden-group -t "$1" --to "$2"
}
