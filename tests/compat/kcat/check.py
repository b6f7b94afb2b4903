"""Compares what kcat read, as JSON lines on standard input, with what run.sh wrote.

check.py TOPIC FROM_MS : 100 records in each of five codecs, in order, all in partition 0.
"""

import json
import sys

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
PER_CODEC = 100


def expected(topic: str, i: int) -> dict:
    codec = CODECS[i // PER_CODEC]
    return {
        "topic": topic,
        "partition": 0,
        "offset": i,
        "tstype": "create",
        "key": f"key-{i}",
        # kcat shows a tombstone as null.
        "payload": None if i % 10 == 3 else f"{codec}-{i}-" + "x" * (i % 50),
        "headers": ["trace", "first", "codec", codec, "trace", "second", "empty", ""],
    }


def main() -> int:
    topic, from_ms = sys.argv[1], int(sys.argv[2])
    got = sorted((json.loads(line) for line in sys.stdin), key=lambda record: record["offset"])
    total = PER_CODEC * len(CODECS)
    if [record["offset"] for record in got] != list(range(total)):
        print(f"offsets: {len(got)} records, not each of {total} once", file=sys.stderr)
        return 1
    for i, record in enumerate(got):
        want = expected(topic, i)
        have = {name: record.get(name) for name in want}
        if want != have:
            print(f"record {i}: expected {want}, got {have}", file=sys.stderr)
            return 1
        if not from_ms <= record["ts"] <= from_ms + 300_000:
            print(f"record {i}: timestamp {record['ts']} is not of this run", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
