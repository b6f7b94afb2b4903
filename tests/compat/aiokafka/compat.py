"""aiokafka: the whole life of a topic and a group. Its admin client cannot delete groups."""

import asyncio

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

import dataset
from dataset import Deadline, Record, Seen, equal, ok

TOPIC_ALREADY_EXISTS = 36


async def produce(address: str, topic: str) -> None:
    for codec in dataset.CODECS:
        producer = AIOKafkaProducer(
            bootstrap_servers=address, compression_type=None if codec == "none" else codec,
            enable_idempotence=True, linger_ms=20,
        )
        await producer.start()
        records = dataset.of_codec(codec)
        futures = [
            await producer.send(
                topic, value=record.value, key=record.key, partition=record.partition,
                timestamp_ms=record.timestamp_ms, headers=list(record.headers),
            )
            for record in records
        ]
        answers = await asyncio.wait_for(asyncio.gather(*futures), 60)
        equal(f"produce {codec}: acknowledged offsets",
              [(record.partition, record.offset) for record in records],
              [(answer.partition, answer.offset) for answer in answers])
        await producer.stop()


def consumer(address: str, group: str | None, *topics: str) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        *topics, bootstrap_servers=address, group_id=group, auto_offset_reset="earliest",
        enable_auto_commit=False, session_timeout_ms=10000, heartbeat_interval_ms=500,
        check_crcs=True,
    )


async def read(from_consumer: AIOKafkaConsumer, seen: Seen, limit: int = 50) -> None:
    for messages in (await from_consumer.getmany(timeout_ms=200, max_records=limit)).values():
        for message in messages:
            headers = tuple((name, bytes(value)) for name, value in message.headers)
            seen.add(Record(message.partition, message.offset, message.key, message.value,
                            headers, message.timestamp))


def partitions(of_consumer: AIOKafkaConsumer) -> set[int]:
    return {assigned.partition for assigned in of_consumer.assignment()}


async def group_of_two(address: str, topic: str, group: str) -> None:
    everything, seen = set(range(dataset.PARTITIONS)), Seen()
    first = consumer(address, group, topic)
    await first.start()
    wait = Deadline("one member has every partition")
    while partitions(first) != everything:
        wait.check()
        await read(first, seen)
    ok("group: one member has every partition")

    second = consumer(address, group, topic)
    await second.start()
    wait = Deadline("two members share the partitions")
    while not (len(partitions(first)) == 2 and len(partitions(second)) == 2):
        wait.check()
        await read(first, seen)
        await read(second, seen)
    equal("group: rebalanced, every partition has one owner", everything,
          partitions(first) | partitions(second))

    wait = Deadline("every record consumed")
    while not seen.complete():
        wait.check()
        await read(first, seen)
        await read(second, seen)
    ok(f"group: {dataset.TOTAL} records, contents exact")
    await first.commit()
    await second.commit()
    await second.stop()
    wait = Deadline("the member that stays has every partition")
    while partitions(first) != everything:
        wait.check()
        await read(first, seen)
    ok("group: the member that stays has every partition")
    ends = [TopicPartition(topic, partition) for partition in sorted(everything)]
    await first.commit({end: (dataset.PER_PARTITION, "done") for end in ends})
    equal("commit: read back", [dataset.PER_PARTITION] * 4,
          [await first.committed(end) for end in ends])
    await first.stop()


async def seek_by_time(address: str, topic: str) -> None:
    reader = consumer(address, None)
    await reader.start()
    wanted = dataset.record(500)
    place = TopicPartition(topic, wanted.partition)
    found = (await reader.offsets_for_times({place: wanted.timestamp_ms}))[place]
    equal("seek by time: exact timestamp", (wanted.offset, wanted.timestamp_ms),
          (found.offset, found.timestamp))
    found = (await reader.offsets_for_times({place: wanted.timestamp_ms + 1}))[place]
    equal("seek by time: between two records", wanted.offset + 1, found.offset)
    beyond = dataset.record(dataset.TOTAL - 1).timestamp_ms + 1
    equal("seek by time: beyond the end", None, (await reader.offsets_for_times({place: beyond}))[place])
    reader.assign([place])
    reader.seek(place, wanted.offset)
    seen, wait = Seen(), Deadline("read from there")
    while not seen.places:
        wait.check()
        await read(reader, seen, 1)
    equal("seek by time: the record there", {(wanted.partition, wanted.offset)}, seen.places)
    equal("beginning and end", (0, dataset.PER_PARTITION),
          ((await reader.beginning_offsets([place]))[place], (await reader.end_offsets([place]))[place]))
    await reader.stop()


async def describe_and_delete(admin: AIOKafkaAdminClient, topic: str, group: str) -> None:
    described = (await admin.describe_topics([topic]))[0]
    equal("describe: partitions", list(range(4)),
          sorted(partition["partition"] for partition in described["partitions"]))
    resource = ConfigResource(ConfigResourceType.TOPIC, topic, {"retention.ms": None})
    answer = (await admin.describe_configs([resource]))[0].resources[0]
    equal("describe: retention.ms", ("retention.ms", "-1"), tuple(answer[4][0][:2]))
    offsets = await admin.list_consumer_group_offsets(group)
    equal("describe: group offsets", [dataset.PER_PARTITION] * 4,
          [offsets[place].offset for place in sorted(offsets)])
    listed = {name for name, _ in await admin.list_consumer_groups()}
    equal("list: the group is there", True, group in listed)
    answer = (await admin.describe_consumer_groups([group]))[0].groups[0]
    equal("describe: group is empty", (0, group, "Empty"), tuple(answer[:3]))
    await admin.delete_topics([topic])
    wait = Deadline("delete: topic is gone")
    while topic in await admin.list_topics():
        wait.check()
    ok("delete: topic is gone")


async def run(address: str) -> None:
    topic = dataset.fresh_name("aiokafka")
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    new = NewTopic(topic, dataset.PARTITIONS, 1, topic_configs=dataset.TOPIC_CONFIG)
    codes = [error[1] for error in (await admin.create_topics([new])).topic_errors]
    equal("create", [0], codes)
    codes = [error[1] for error in (await admin.create_topics([new])).topic_errors]
    equal("create twice: refused", [TOPIC_ALREADY_EXISTS], codes)
    await produce(address, topic)
    await group_of_two(address, topic, f"{topic}-group")
    await seek_by_time(address, topic)
    await describe_and_delete(admin, topic, f"{topic}-group")
    await admin.close()


if __name__ == "__main__":
    asyncio.run(run(dataset.bootstrap()))
