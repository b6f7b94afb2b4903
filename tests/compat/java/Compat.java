import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** The Java client: the whole life of a topic and a group. */
final class Compat {
    private static final Duration STEP = Duration.ofMillis(200);
    private final String bootstrap;
    private final String topic;
    private final String group;

    private Compat(String bootstrap) {
        this.bootstrap = bootstrap;
        this.topic = "compat-java-" + ProcessHandle.current().pid() + "-" + System.currentTimeMillis();
        this.group = topic + "-group";
    }

    public static void main(String[] args) throws Exception {
        if (args.length != 1 || !args[0].matches("127\\.0\\.0\\.1:\\d{1,5}")) {
            System.err.println("refused: the bootstrap address must be 127.0.0.1:PORT");
            System.exit(2);
        }
        try {
            new Compat(args[0]).run();
        } catch (AssertionError failure) {
            System.err.println("  FAIL  " + failure.getMessage());
            System.exit(1);
        }
    }

    private void run() throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            create(admin);
            for (int codec = 0; codec < Dataset.CODECS.size(); codec++) {
                produce(codec);
            }
            groupOfTwo();
            seekByTime();
            describe(admin);
            delete(admin);
        }
    }

    private void create(Admin admin) throws Exception {
        NewTopic created = new NewTopic(topic, Dataset.PARTITIONS, (short) 1)
                .configs(Map.of("retention.ms", "-1"));
        get(admin.createTopics(List.of(created)).all());
        ok("create");
        try {
            get(admin.createTopics(List.of(created)).all());
            throw new AssertionError("create twice: not refused");
        } catch (ExecutionException error) {
            equal("create twice: refused", TopicExistsException.class, error.getCause().getClass());
            equal("create twice: message", "Topic '" + topic + "' already exists.",
                    error.getCause().getMessage());
        }
    }

    private void produce(int codec) throws Exception {
        String name = Dataset.CODECS.get(codec);
        Map<String, Object> settings = Map.of(
                "bootstrap.servers", bootstrap,
                "compression.type", name,
                "enable.idempotence", true,
                "linger.ms", 20,
                "key.serializer", ByteArraySerializer.class,
                "value.serializer", ByteArraySerializer.class);
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(settings)) {
            int first = codec * Dataset.PER_CODEC;
            List<Future<RecordMetadata>> answers = new ArrayList<>();
            for (int i = first; i < first + Dataset.PER_CODEC; i++) {
                answers.add(producer.send(Dataset.record(topic, i)));
            }
            producer.flush();
            for (int i = first; i < first + Dataset.PER_CODEC; i++) {
                RecordMetadata answer = answers.get(i - first).get(60, TimeUnit.SECONDS);
                long number = answer.offset() * Dataset.PARTITIONS + answer.partition();
                if (number != i || answer.timestamp() != Dataset.timestamp(i)) {
                    throw new AssertionError("produce " + name + ": record " + i + " became " + answer);
                }
            }
        }
        ok("produce " + name + ": acknowledged offsets");
    }

    private Consumer<byte[], byte[]> consumer(String groupId) {
        return new KafkaConsumer<>(Map.of(
                "bootstrap.servers", bootstrap,
                "group.id", groupId,
                "auto.offset.reset", "earliest",
                "enable.auto.commit", false,
                "session.timeout.ms", 10000,
                "heartbeat.interval.ms", 500,
                "max.poll.records", 50,
                "key.deserializer", ByteArrayDeserializer.class,
                "value.deserializer", ByteArrayDeserializer.class));
    }

    private void groupOfTwo() {
        Dataset.Seen seen = new Dataset.Seen();
        try (Consumer<byte[], byte[]> first = consumer(group)) {
            first.subscribe(List.of(topic));
            until("group: one member has every partition",
                    () -> first.assignment().size() == Dataset.PARTITIONS, () -> read(first, seen));
            try (Consumer<byte[], byte[]> second = consumer(group)) {
                second.subscribe(List.of(topic));
                until("group: rebalanced two and two",
                        () -> first.assignment().size() == 2 && second.assignment().size() == 2,
                        () -> { read(first, seen); read(second, seen); });
                Set<TopicPartition> all = new java.util.HashSet<>(first.assignment());
                all.addAll(second.assignment());
                equal("group: every partition has one owner", Dataset.PARTITIONS, all.size());
                until("group: every record, contents exact", seen::complete,
                        () -> { read(first, seen); read(second, seen); });
                first.commitSync();
                second.commitSync();
            }
            until("group: the member that stays has every partition",
                    () -> first.assignment().size() == Dataset.PARTITIONS, () -> read(first, seen));
            Map<TopicPartition, OffsetAndMetadata> ends = partitions().stream().collect(Collectors.toMap(
                    place -> place, place -> new OffsetAndMetadata(Dataset.PER_PARTITION, "done")));
            first.commitSync(ends);
            equal("commit: read back", ends, withoutEpoch(first.committed(ends.keySet())));
        }
        try (Consumer<byte[], byte[]> next = consumer(group)) {
            next.subscribe(List.of(topic));
            Dataset.Seen again = new Dataset.Seen();
            until("group: a new member starts at the committed offsets",
                    () -> partitions().stream().allMatch(place -> next.assignment().contains(place)
                            && next.position(place) == Dataset.PER_PARTITION),
                    () -> read(next, again));
            equal("group: and reads nothing again", 0, again.size());
        }
    }

    private void seekByTime() {
        int wanted = 500;
        TopicPartition place = new TopicPartition(topic, wanted % Dataset.PARTITIONS);
        long offset = wanted / Dataset.PARTITIONS;
        try (Consumer<byte[], byte[]> reader = consumer(topic + "-seek")) {
            var found = reader.offsetsForTimes(Map.of(place, Dataset.timestamp(wanted))).get(place);
            equal("seek by time: exact timestamp", offset, found.offset());
            equal("seek by time: its timestamp", Dataset.timestamp(wanted), found.timestamp());
            found = reader.offsetsForTimes(Map.of(place, Dataset.timestamp(wanted) + 1)).get(place);
            equal("seek by time: between two records", offset + 1, found.offset());
            long beyond = Dataset.timestamp(Dataset.TOTAL);
            equal("seek by time: beyond the end", null,
                    reader.offsetsForTimes(Map.of(place, beyond)).get(place));
            reader.assign(List.of(place));
            reader.seek(place, offset);
            Dataset.Seen seen = new Dataset.Seen();
            until("seek by time: the record there", () -> seen.has(wanted), () -> read(reader, seen));
            equal("seek by time: none before it", false, seen.has(wanted - Dataset.PARTITIONS));
        }
    }

    private void describe(Admin admin) throws Exception {
        var described = get(admin.describeTopics(List.of(topic)).allTopicNames()).get(topic);
        equal("describe: partitions", Dataset.PARTITIONS, described.partitions().size());
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        var config = get(admin.describeConfigs(List.of(resource)).all()).get(resource);
        equal("describe: retention.ms", "-1", config.get("retention.ms").value());
        equal("describe: cleanup.policy", "delete", config.get("cleanup.policy").value());
        var described2 = get(admin.describeConsumerGroups(List.of(group)).all()).get(group);
        equal("describe: group", GroupState.EMPTY, described2.groupState());
        var offsets = get(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata());
        equal("describe: group offsets", Dataset.PARTITIONS, offsets.size());
        Set<String> groups = get(admin.listGroups().all()).stream()
                .map(listing -> listing.groupId()).collect(Collectors.toSet());
        equal("list: the group is there", true, groups.contains(group));
        TopicPartition place = new TopicPartition(topic, 1);
        equal("list offsets: earliest", 0L, offset(admin, place, OffsetSpec.earliest()));
        equal("list offsets: latest", Dataset.PER_PARTITION, offset(admin, place, OffsetSpec.latest()));
        equal("list offsets: maximum timestamp", Dataset.PER_PARTITION - 1,
                offset(admin, place, OffsetSpec.maxTimestamp()));
        equal("describe cluster: nodes", 1, get(admin.describeCluster().nodes()).size());
    }

    private static long offset(Admin admin, TopicPartition place, OffsetSpec spec) throws Exception {
        return get(admin.listOffsets(Map.of(place, spec)).all()).get(place).offset();
    }

    private void delete(Admin admin) throws Exception {
        get(admin.deleteConsumerGroups(List.of(group)).all());
        ok("delete: group");
        get(admin.deleteTopics(List.of(topic)).all());
        until("delete: topic is gone", () -> !names(admin).contains(topic), () -> { });
    }

    private static Set<String> names(Admin admin) {
        try {
            return get(admin.listTopics().names());
        } catch (Exception error) {
            throw new AssertionError("list topics: " + error);
        }
    }

    private List<TopicPartition> partitions() {
        List<TopicPartition> places = new ArrayList<>();
        for (int partition = 0; partition < Dataset.PARTITIONS; partition++) {
            places.add(new TopicPartition(topic, partition));
        }
        return places;
    }

    private static Map<TopicPartition, OffsetAndMetadata> withoutEpoch(
            Map<TopicPartition, OffsetAndMetadata> committed) {
        return committed.entrySet().stream().collect(Collectors.toMap(Map.Entry::getKey,
                entry -> new OffsetAndMetadata(entry.getValue().offset(), entry.getValue().metadata())));
    }

    private static void read(Consumer<byte[], byte[]> consumer, Dataset.Seen seen) {
        consumer.poll(STEP).forEach(seen::add);
    }

    private static <T> T get(KafkaFuture<T> future) throws Exception {
        return future.get(60, TimeUnit.SECONDS);
    }

    private static void until(String step, BooleanSupplier holds, Runnable meanwhile) {
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
        while (!holds.getAsBoolean()) {
            if (System.nanoTime() > end) {
                throw new AssertionError(step + ": not within its time");
            }
            meanwhile.run();
        }
        ok(step);
    }

    private static void equal(String step, Object expected, Object got) {
        if (!Objects.equals(expected, got)) {
            throw new AssertionError(step + ": expected " + expected + ", got " + got);
        }
        ok(step);
    }

    private static void ok(String step) {
        System.out.println("  ok    " + step);
    }
}
