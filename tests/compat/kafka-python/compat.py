"""kafka-python: the whole life of a topic and a group."""

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, NewTopic
from kafka.errors import TopicAlreadyExistsError
from kafka.structs import OffsetAndMetadata

import dataset
from dataset import Deadline, Record, Seen, equal, ok


def produce(address: str, topic: str) -> None:
    for codec in dataset.CODECS:
        producer = KafkaProducer(
            bootstrap_servers=address, compression_type=None if codec == "none" else codec,
            acks="all", linger_ms=20,
        )
        records = dataset.of_codec(codec)
        futures = [
            producer.send(
                topic, value=record.value, key=record.key, partition=record.partition,
                timestamp_ms=record.timestamp_ms, headers=list(record.headers),
            )
            for record in records
        ]
        producer.flush(60)
        got = [(answer.partition, answer.offset) for answer in (future.get(60) for future in futures)]
        equal(f"produce {codec}: acknowledged offsets",
              [(record.partition, record.offset) for record in records], got)
        producer.close()


def consumer(address: str, group: str | None, topic: str | None) -> KafkaConsumer:
    return KafkaConsumer(
        *([topic] if topic else []), bootstrap_servers=address, group_id=group,
        auto_offset_reset="earliest", enable_auto_commit=False, session_timeout_ms=10000,
        heartbeat_interval_ms=500, check_crcs=True,
    )


def read(from_consumer: KafkaConsumer, seen: Seen, limit: int = 50) -> None:
    for messages in from_consumer.poll(timeout_ms=200, max_records=limit).values():
        for message in messages:
            headers = tuple((name, bytes(value)) for name, value in message.headers)
            seen.add(Record(message.partition, message.offset, message.key, message.value,
                            headers, message.timestamp))


def partitions(of_consumer: KafkaConsumer) -> set[int]:
    return {assigned.partition for assigned in of_consumer.assignment()}


def group_of_two(address: str, topic: str, group: str) -> None:
    everything, seen = set(range(dataset.PARTITIONS)), Seen()
    first = consumer(address, group, topic)
    wait = Deadline("one member has every partition")
    while partitions(first) != everything:
        wait.check()
        read(first, seen)
    ok("group: one member has every partition")

    second = consumer(address, group, topic)
    wait = Deadline("two members share the partitions")
    while not (len(partitions(first)) == 2 and len(partitions(second)) == 2):
        wait.check()
        read(first, seen)
        read(second, seen)
    equal("group: rebalanced, every partition has one owner", everything,
          partitions(first) | partitions(second))

    wait = Deadline("every record consumed")
    while not seen.complete():
        wait.check()
        read(first, seen)
        read(second, seen)
    ok(f"group: {dataset.TOTAL} records, contents exact")
    first.commit()
    second.commit()
    second.close()
    wait = Deadline("the member that stays has every partition")
    while partitions(first) != everything:
        wait.check()
        read(first, seen)
    ok("group: the member that stays has every partition")
    ends = [TopicPartition(topic, partition) for partition in sorted(everything)]
    first.commit({end: OffsetAndMetadata(dataset.PER_PARTITION, "done", -1) for end in ends})
    equal("commit: read back", [dataset.PER_PARTITION] * 4, [first.committed(end) for end in ends])
    first.close()


def seek_by_time(address: str, topic: str) -> None:
    reader = consumer(address, None, None)
    wanted = dataset.record(500)
    place = TopicPartition(topic, wanted.partition)
    found = reader.offsets_for_times({place: wanted.timestamp_ms})[place]
    equal("seek by time: exact timestamp", (wanted.offset, wanted.timestamp_ms),
          (found.offset, found.timestamp))
    found = reader.offsets_for_times({place: wanted.timestamp_ms + 1})[place]
    equal("seek by time: between two records", wanted.offset + 1, found.offset)
    beyond = dataset.record(dataset.TOTAL - 1).timestamp_ms + 1
    equal("seek by time: beyond the end", None, reader.offsets_for_times({place: beyond})[place])
    reader.assign([place])
    reader.seek(place, wanted.offset)
    seen, wait = Seen(), Deadline("read from there")
    while not seen.places:
        wait.check()
        read(reader, seen, 1)
    equal("seek by time: the record there", {(wanted.partition, wanted.offset)}, seen.places)
    equal("beginning and end", (0, dataset.PER_PARTITION),
          (reader.beginning_offsets([place])[place], reader.end_offsets([place])[place]))
    reader.close()


def describe_and_delete(admin: KafkaAdminClient, topic: str, group: str) -> None:
    described = admin.describe_topics([topic])[0]
    equal("describe: partitions", list(range(4)),
          sorted(partition["partition_index"] for partition in described["partitions"]))
    answer = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    equal("describe: retention.ms", "-1", answer["topic"][topic]["retention.ms"]["value"])
    offsets = admin.list_group_offsets([group])[group]
    equal("describe: group offsets", [dataset.PER_PARTITION] * 4,
          [offsets[place].offset for place in sorted(offsets)])
    equal("list: the group is there", True, group in str(admin.list_groups()))
    admin.delete_groups([group])
    equal("delete: group is gone", False, group in str(admin.list_groups()))
    admin.delete_topics([topic])
    wait = Deadline("delete: topic is gone")
    while topic in admin.list_topics():
        wait.check()
    ok("delete: topic is gone")


def main() -> None:
    address = dataset.bootstrap()
    topic = dataset.fresh_name("kafka-python")
    admin = KafkaAdminClient(bootstrap_servers=address)
    new = NewTopic(topic, dataset.PARTITIONS, 1, topic_configs=dataset.TOPIC_CONFIG)
    admin.create_topics([new])
    ok("create")
    try:
        admin.create_topics([new])
        equal("create twice: refused", "an error", "none")
    except TopicAlreadyExistsError:
        ok("create twice: refused")
    produce(address, topic)
    group_of_two(address, topic, f"{topic}-group")
    seek_by_time(address, topic)
    describe_and_delete(admin, topic, f"{topic}-group")
    admin.close()


if __name__ == "__main__":
    main()
