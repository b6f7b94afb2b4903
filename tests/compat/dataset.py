"""What every Python client here writes and expects back, and how it reports.

1,000 records over 4 partitions: record i goes to partition i % 4 and so gets offset i // 4.
200 records in each of five codecs; each tenth a tombstone; a header key that stands twice; some
keys empty or absent; timestamps one second apart, far in the past.
"""

import os
import re
import sys
import time
from dataclasses import dataclass

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
PER_CODEC = 200
TOTAL = PER_CODEC * len(CODECS)
PARTITIONS = 4
PER_PARTITION = TOTAL // PARTITIONS
BASE_MS = 1_700_000_000_000
# The records are older than any retention: it has to be off.
TOPIC_CONFIG = {"retention.ms": "-1"}


@dataclass(frozen=True)
class Record:
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    timestamp_ms: int


def record(i: int) -> Record:
    codec = CODECS[i // PER_CODEC]
    key = None if i % 10 == 5 else b"" if i % 10 == 6 else f"key-{i}".encode()
    value = None if i % 10 == 3 else f"{codec}-{i}-".encode() + b"x" * (i % 300)
    headers = (("trace", b"first"), ("n", str(i).encode()), ("trace", b"second"), ("empty", b""))
    return Record(i % PARTITIONS, i // PARTITIONS, key, value, headers, BASE_MS + i * 1000)


EXPECTED = {(r.partition, r.offset): r for r in map(record, range(TOTAL))}


def of_codec(codec: str) -> list[Record]:
    first = CODECS.index(codec) * PER_CODEC
    return [record(i) for i in range(first, first + PER_CODEC)]


def bootstrap() -> str:
    """The one argument; anything but this machine is refused."""
    address = sys.argv[1] if len(sys.argv) == 2 else ""
    if not re.fullmatch(r"127\.0\.0\.1:\d{1,5}", address):
        print(f"refused: the bootstrap address must be 127.0.0.1:PORT, not '{address}'", file=sys.stderr)
        sys.exit(2)
    return address


def fresh_name(client: str) -> str:
    return f"compat-{client}-{os.getpid()}-{int(time.time())}"


def ok(step: str) -> None:
    print(f"  ok    {step}", flush=True)


def equal(step: str, expected: object, got: object) -> None:
    if expected != got:
        print(f"  FAIL  {step}: expected {expected!r}, got {got!r}", file=sys.stderr, flush=True)
        sys.exit(1)
    ok(step)


class Seen:
    """The records that consumers got, each compared as it comes."""

    def __init__(self) -> None:
        self.places: set[tuple[int, int]] = set()
        self.times: dict[tuple[int, int], int] = {}

    def add(self, got: Record) -> None:
        place = (got.partition, got.offset)
        expected = EXPECTED.get(place)
        if got != expected:
            print(f"  FAIL  consume: expected {expected!r}, got {got!r}", file=sys.stderr, flush=True)
            sys.exit(1)
        self.places.add(place)
        self.times[place] = self.times.get(place, 0) + 1

    def complete(self) -> bool:
        return len(self.places) == TOTAL

    def once(self) -> bool:
        return self.complete() and all(count == 1 for count in self.times.values())


class Deadline:
    """Fails the step that does not come true in time."""

    def __init__(self, step: str, seconds: float = 60) -> None:
        self.step, self.end = step, time.monotonic() + seconds

    def check(self) -> None:
        if time.monotonic() > self.end:
            print(f"  FAIL  {self.step}: not within its time", file=sys.stderr, flush=True)
            sys.exit(1)
