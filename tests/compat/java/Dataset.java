import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;

/** The records that go in and come out; dataset.py describes them. */
final class Dataset {
    static final List<String> CODECS = List.of("none", "gzip", "snappy", "lz4", "zstd");
    static final int PER_CODEC = 200;
    static final int TOTAL = PER_CODEC * 5;
    static final int PARTITIONS = 4;
    static final long PER_PARTITION = TOTAL / PARTITIONS;
    private static final long BASE_MS = 1_700_000_000_000L;

    private Dataset() {}

    static long timestamp(int i) {
        return BASE_MS + i * 1000L;
    }

    static byte[] key(int i) {
        return switch (i % 10) {
            case 5 -> null;
            case 6 -> new byte[0];
            default -> bytes("key-" + i);
        };
    }

    static byte[] value(int i) {
        String codec = CODECS.get(i / PER_CODEC);
        return i % 10 == 3 ? null : bytes(codec + "-" + i + "-" + "x".repeat(i % 300));
    }

    static List<Header> headers(int i) {
        return List.of(
                new RecordHeader("trace", bytes("first")),
                new RecordHeader("n", bytes(Integer.toString(i))),
                new RecordHeader("trace", bytes("second")),
                new RecordHeader("empty", new byte[0]),
                new RecordHeader("null", (byte[]) null));
    }

    static ProducerRecord<byte[], byte[]> record(String topic, int i) {
        return new ProducerRecord<>(topic, i % PARTITIONS, timestamp(i), key(i), value(i), headers(i));
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    /** The records that consumers got, each compared as it comes. */
    static final class Seen {
        private final Map<Integer, Integer> times = new HashMap<>();

        void add(ConsumerRecord<byte[], byte[]> got) {
            int i = (int) got.offset() * PARTITIONS + got.partition();
            List<Header> headers = new ArrayList<>();
            got.headers().forEach(headers::add);
            boolean same = i < TOTAL
                    && Arrays.equals(key(i), got.key())
                    && Arrays.equals(value(i), got.value())
                    && timestamp(i) == got.timestamp()
                    && headers(i).equals(headers);
            if (!same) {
                throw new AssertionError("consume: record " + i + " came as " + got);
            }
            times.merge(i, 1, Integer::sum);
        }

        boolean complete() {
            return times.size() == TOTAL;
        }

        boolean has(int i) {
            return times.containsKey(i);
        }

        int size() {
            return times.size();
        }
    }
}
