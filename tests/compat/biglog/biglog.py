"""A text log goes in line by line and comes out the same, also across `kill -9`.

biglog.py BOOTSTRAP LOG BROKER_SCRIPT BROKER_FOLDER

One partition, so that order is total: line i must be acknowledged at offset i, whatever happens
in between. After the kill, what had been acknowledged before it is read back first.
"""

import hashlib
import re
import subprocess
import sys
import threading
import time

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

import dataset
from dataset import Deadline, equal, ok


class Writer:
    """Produces the log, and checks that line i is acknowledged at offset i."""

    def __init__(self, address: str, topic: str) -> None:
        self.topic = topic
        self.acknowledged = 0
        self.fatal: list[str] = []
        self.producer = Producer({
            "bootstrap.servers": address, "enable.idempotence": True, "compression.type": "lz4",
            "linger.ms": 5, "batch.size": 262_144, "message.timeout.ms": 300_000,
            "queue.buffering.max.messages": 200_000, "reconnect.backoff.max.ms": 1000,
            "log_level": 2, "error_cb": self.error,
        })

    def error(self, error: object) -> None:
        if error.fatal():
            self.fatal.append(str(error))

    def delivered(self, error: object, message: object) -> None:
        if error is not None:
            self.fatal.append(f"line {self.acknowledged}: {error}")
        elif message.offset() != self.acknowledged:
            self.fatal.append(f"line {self.acknowledged} at offset {message.offset()}")
        self.acknowledged += 1

    def write(self, line: bytes) -> None:
        while True:
            try:
                self.producer.produce(self.topic, value=line, partition=0, on_delivery=self.delivered)
                return
            except BufferError:
                self.producer.poll(0.1)
                self.check()

    def finish(self) -> None:
        wait = Deadline("every line acknowledged", 240)
        while self.producer.flush(1) > 0:
            wait.check()
            self.check()
        self.check()

    def check(self) -> None:
        if self.fatal:
            print(f"  FAIL  produce: {self.fatal[0]}", file=sys.stderr, flush=True)
            sys.exit(1)


def digest(lines: list[bytes]) -> str:
    total = hashlib.sha256()
    for line in lines:
        total.update(line)
        total.update(b"\n")
    return total.hexdigest()


def read(address: str, topic: str, count: int) -> str:
    """The digest of the first COUNT records; each offset must come once and in order."""
    consumer = Consumer({
        "bootstrap.servers": address, "group.id": "unused", "enable.auto.commit": False,
        "auto.offset.reset": "error", "check.crcs": True, "log_level": 2,
    })
    consumer.assign([TopicPartition(topic, 0, 0)])
    total, next_offset, wait = hashlib.sha256(), 0, Deadline("every line read", 240)
    while next_offset < count:
        wait.check()
        for message in consumer.consume(min(10_000, count - next_offset), timeout=1):
            if message.error() is not None:
                # Transport errors pass by; what the broker itself says about the log does not.
                if message.error().retriable() or message.error().code() < 0:
                    continue
                raise RuntimeError(f"consume: {message.error()}")
            if message.offset() != next_offset:
                print(f"  FAIL  read: offset {message.offset()} after {next_offset - 1}", file=sys.stderr)
                sys.exit(1)
            next_offset += 1
            total.update(message.value())
            total.update(b"\n")
    consumer.close()
    return total.hexdigest()


def make_topic(address: str, topic: str) -> None:
    new = NewTopic(topic, 1, 1, config=dataset.TOPIC_CONFIG)
    admin = AdminClient({"bootstrap.servers": address})
    admin.create_topics([new])[topic].result(30)


def straight(address: str, lines: list[bytes]) -> None:
    topic = dataset.fresh_name("biglog")
    make_topic(address, topic)
    start = time.monotonic()
    writer = Writer(address, topic)
    for line in lines:
        writer.write(line)
    writer.finish()
    took = time.monotonic() - start
    ok(f"{len(lines)} lines acknowledged, line i at offset i ({took:.1f} s)")
    start = time.monotonic()
    equal("the log comes out with the same SHA-256", digest(lines), read(address, topic, len(lines)))
    print(f"        read in {time.monotonic() - start:.1f} s")


def killed(address: str, lines: list[bytes], script: str, folder: str) -> None:
    topic = dataset.fresh_name("biglog-killed")
    make_topic(address, topic)
    writer = Writer(address, topic)
    at_kill = 0
    restart: threading.Thread | None = None
    failed: list[str] = []

    def again() -> None:
        if subprocess.run([script, "again", folder], check=False).returncode != 0:
            failed.append("the broker did not start again")

    for number, line in enumerate(lines):
        writer.write(line)
        writer.producer.poll(0)
        if restart is None and number > len(lines) // 3 and writer.acknowledged > len(lines) // 4:
            subprocess.run([script, "kill9", folder], check=True)
            at_kill = writer.acknowledged
            restart = threading.Thread(target=again)
            restart.start()
    if restart is None:
        writer.finish()
        print("  FAIL  the log was through before the kill", file=sys.stderr)
        sys.exit(1)
    restart.join()
    equal("the broker was killed in the middle, and started again", [], failed)
    equal(f"{at_kill} lines acknowledged before the kill are there, in order, once",
          digest(lines[:at_kill]), read(address, topic, at_kill))
    writer.finish()
    equal("every line acknowledged, line i at offset i", len(lines), writer.acknowledged)
    equal("the log comes out with the same SHA-256, also after the kill",
          digest(lines), read(address, topic, len(lines)))
    consumer = Consumer({"bootstrap.servers": address, "group.id": "unused"})
    ends = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=30)
    equal("and nothing stands behind it", (0, len(lines)), ends)


def main() -> None:
    address, log, script, folder = sys.argv[1:5]
    if not re.fullmatch(r"127\.0\.0\.1:\d{1,5}", address):
        print("refused: the bootstrap address must be 127.0.0.1:PORT", file=sys.stderr)
        sys.exit(2)
    with open(log, "rb") as source:
        lines = source.read().removesuffix(b"\n").split(b"\n")
    with open(log, "rb") as source:
        whole = hashlib.file_digest(source, "sha256").hexdigest()
    equal(f"the log: {sum(map(len, lines)) + len(lines)} bytes, {len(lines)} lines", whole, digest(lines))
    straight(address, lines)
    killed(address, lines, script, folder)


if __name__ == "__main__":
    main()
