"""librdkafka, by confluent-kafka: the whole life of a topic and a group."""

import confluent_kafka
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

import dataset
from dataset import Deadline, Record, Seen, equal, ok


def produce(address: str, topic: str) -> None:
    for codec in dataset.CODECS:
        producer = Producer({
            "bootstrap.servers": address,
            "compression.type": codec,
            "enable.idempotence": True,
            "linger.ms": 20,
        })
        acknowledged: list[tuple[int, int]] = []

        def delivered(error: KafkaError | None, message: confluent_kafka.Message) -> None:
            if error is not None:
                raise RuntimeError(f"delivery: {error}")
            acknowledged.append((message.partition(), message.offset()))

        records = dataset.of_codec(codec)
        for record in records:
            producer.produce(
                topic, value=record.value, key=record.key, partition=record.partition,
                timestamp=record.timestamp_ms, headers=list(record.headers), on_delivery=delivered,
            )
        equal(f"produce {codec}: nothing left in the queue", 0, producer.flush(60))
        places = sorted((record.partition, record.offset) for record in records)
        equal(f"produce {codec}: acknowledged offsets", places, sorted(acknowledged))


def consumer(address: str, group: str) -> Consumer:
    return Consumer({
        "bootstrap.servers": address, "group.id": group, "auto.offset.reset": "earliest",
        "enable.auto.commit": False, "session.timeout.ms": 10000, "heartbeat.interval.ms": 500,
        "check.crcs": True,
    })


def read(from_consumer: Consumer, seen: Seen, limit: int = 50) -> None:
    for message in from_consumer.consume(limit, timeout=0.2):
        if message.error() is not None:
            raise RuntimeError(f"consume: {message.error()}")
        _, timestamp = message.timestamp()
        headers = tuple((name, value) for name, value in message.headers() or [])
        seen.add(Record(
            message.partition(), message.offset(), message.key(), message.value(), headers, timestamp,
        ))


def partitions(of_consumer: Consumer) -> set[int]:
    return {assigned.partition for assigned in of_consumer.assignment()}


def group_of_two(address: str, topic: str, group: str) -> None:
    everything, seen = set(range(dataset.PARTITIONS)), Seen()
    first, second = consumer(address, group), consumer(address, group)
    first.subscribe([topic])
    wait = Deadline("one member has every partition")
    while partitions(first) != everything:
        wait.check()
        read(first, seen)
    ok("group: one member has every partition")

    second.subscribe([topic])
    wait = Deadline("two members share the partitions")
    while not (partitions(second) and partitions(first) | partitions(second) == everything
               and not partitions(first) & partitions(second)):
        wait.check()
        read(first, seen)
        read(second, seen)
    equal("group: rebalanced two and two", [2, 2], [len(partitions(first)), len(partitions(second))])

    wait = Deadline("every record consumed")
    while not seen.complete():
        wait.check()
        read(first, seen)
        read(second, seen)
    ok(f"group: {dataset.TOTAL} records, contents exact")
    for member in (first, second):
        member.commit(asynchronous=False)
    second.close()
    wait = Deadline("the member that stays has every partition")
    while partitions(first) != everything:
        wait.check()
        read(first, seen)
    ok("group: the member that stays has every partition")
    ends = [TopicPartition(topic, p, dataset.PER_PARTITION) for p in sorted(everything)]
    first.commit(offsets=ends, asynchronous=False)
    committed = first.committed(ends, timeout=30)
    equal("commit: read back", [dataset.PER_PARTITION] * 4, [place.offset for place in committed])
    first.close()


def seek_by_time(address: str, topic: str) -> None:
    reader = consumer(address, dataset.fresh_name("seek"))
    wanted = dataset.record(500)
    asked = [TopicPartition(topic, wanted.partition, wanted.timestamp_ms)]
    found = reader.offsets_for_times(asked, timeout=30)
    equal("seek by time: exact timestamp", wanted.offset, found[0].offset)
    asked = [TopicPartition(topic, wanted.partition, wanted.timestamp_ms + 1)]
    equal("seek by time: between two records", wanted.offset + 1,
          reader.offsets_for_times(asked, timeout=30)[0].offset)
    beyond = [TopicPartition(topic, wanted.partition, dataset.record(dataset.TOTAL - 1).timestamp_ms + 1)]
    equal("seek by time: beyond the end", confluent_kafka.OFFSET_END,
          reader.offsets_for_times(beyond, timeout=30)[0].offset)
    reader.assign(found)
    seen, wait = Seen(), Deadline("read from there")
    while not seen.places:
        wait.check()
        read(reader, seen, 1)
    equal("seek by time: the record there", {(wanted.partition, wanted.offset)}, seen.places)
    equal("watermarks", (0, dataset.PER_PARTITION),
          reader.get_watermark_offsets(TopicPartition(topic, 0), timeout=30))
    reader.close()


def describe_and_delete(admin: AdminClient, topic: str, group: str) -> None:
    metadata = admin.list_topics(topic, timeout=30).topics[topic]
    equal("describe: partitions", list(range(4)), sorted(metadata.partitions))
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    config = admin.describe_configs([resource])[resource].result(30)
    equal("describe: retention.ms", "-1", config["retention.ms"].value)
    described = admin.describe_consumer_groups([group])[group].result(30)
    equal("describe: group is empty", confluent_kafka.ConsumerGroupState.EMPTY, described.state)
    asked = ConsumerGroupTopicPartitions(group)
    offsets = admin.list_consumer_group_offsets([asked])[group].result(30).topic_partitions
    equal("describe: group offsets", [dataset.PER_PARTITION] * 4, [place.offset for place in offsets])
    listed = {listing.group_id for listing in admin.list_consumer_groups().result(30).valid}
    equal("list: the group is there", True, group in listed)

    admin.delete_consumer_groups([group])[group].result(30)
    ok("delete: group")
    admin.delete_topics([topic])[topic].result(30)
    wait = Deadline("delete: topic is gone")
    while topic in admin.list_topics(timeout=30).topics:
        wait.check()
    ok("delete: topic is gone")


def main() -> None:
    address = dataset.bootstrap()
    topic = dataset.fresh_name("confluent")
    admin = AdminClient({"bootstrap.servers": address})
    new = NewTopic(topic, dataset.PARTITIONS, 1, config=dataset.TOPIC_CONFIG)
    admin.create_topics([new])[topic].result(30)
    ok("create")
    try:
        admin.create_topics([new])[topic].result(30)
        equal("create twice: refused", "an error", "none")
    except confluent_kafka.KafkaException as error:
        equal("create twice: refused", KafkaError.TOPIC_ALREADY_EXISTS, error.args[0].code())
    produce(address, topic)
    group_of_two(address, topic, f"{topic}-group")
    seek_by_time(address, topic)
    describe_and_delete(admin, topic, f"{topic}-group")


if __name__ == "__main__":
    main()
