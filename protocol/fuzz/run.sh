#!/usr/bin/env bash
# Fuzzes frames and batches for a bounded time each, from a corpus of real frames:
#
#     protocol/fuzz/run.sh [SECONDS]
#
# Needs no nightly toolchain: the coverage counters come from stable flags. With one, cargo-fuzz
# works on this folder too.
set -euo pipefail

seconds=${1:-60}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=${TMPDIR:-/tmp}/headwater-fuzz
target=${CARGO_TARGET_DIR:-$here/../../target}/fuzz
host=$(rustc -vV | sed -n 's/^host: //p')
export CARGO_TARGET_DIR=$target
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing"
# With --target the flags do not reach build scripts, which have no counters to report to.
cargo build --quiet --release --locked --manifest-path "$here/Cargo.toml" --target "$host"

python3 - "$here/../testdata" "$work/seeds" <<'PYTHON'
import pathlib, struct, sys
data = pathlib.Path(sys.argv[1])
frames, batches = (pathlib.Path(sys.argv[2]) / name for name in ("frames", "batches"))
for folder in (frames, batches):
    folder.mkdir(parents=True, exist_ok=True)
for name in ("java-frames.txt", "client-frames.txt"):
    for number, line in enumerate((data / name).read_text().splitlines()):
        if line.startswith("#"):
            continue
        key, version, side, frame = line.split()[-4:]
        frame = bytes.fromhex(frame)
        head = b"\0" if side == "request" else b"\1" + struct.pack(">hh", int(key), int(version))
        (frames / f"{name}-{number}").write_bytes(head + frame)
        # A batch starts 16 bytes before its magic, which follows a leader epoch: 9 in frames of
        # the cross-check, -1 in what clients produce.
        for mark in (b"\0\0\0\x09\x02", b"\xff\xff\xff\xff\x02"):
            at = frame.find(mark)
            if at >= 12:
                (batches / f"{name}-{number}").write_bytes(frame[at - 12:])
PYTHON

for fuzzer in frames batches; do
    mkdir -p "$work/corpus/$fuzzer"
    echo "fuzzing $fuzzer for $seconds s"
    log=$work/$fuzzer.log
    if ! "$target/$host/release/$fuzzer" -max_total_time="$seconds" -rss_limit_mb=1024 \
        -timeout=10 -malloc_limit_mb=256 -print_final_stats=1 -artifact_prefix="$work/$fuzzer-" \
        "$work/corpus/$fuzzer" "$work/seeds/$fuzzer" >"$log" 2>&1; then
        grep -v '^"' "$log" | tail -n 40
        exit 1
    fi
    grep '^stat::' "$log"
done
