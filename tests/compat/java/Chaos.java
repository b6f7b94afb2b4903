import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.stream.IntStream;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.Producer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * The Java client beside others on a bad day: an idempotent producer and a reader. What they do is
 * printed, a line each, for the program that judges it; the end of standard input ends both.
 *
 * <pre>
 * s VALUE PARTITION           is about to be sent
 * a VALUE OFFSET              acknowledged
 * f VALUE REASON              not acknowledged
 * r PARTITION OFFSET VALUE    read
 * ! REASON                    what no client may see
 * </pre>
 */
final class Chaos {
    private static final long TICK_MS = 200;
    private final AtomicBoolean stop = new AtomicBoolean();
    private final String bootstrap;
    private final String topic;
    private final int partitions;
    private final String timeoutMs;

    private Chaos(String bootstrap, String topic, int partitions, String timeoutMs) {
        this.bootstrap = bootstrap;
        this.topic = topic;
        this.partitions = partitions;
        this.timeoutMs = timeoutMs;
    }

    /** Arguments: bootstrap, topic, partitions, first value, step between values, time-out of a request. */
    public static void main(String[] args) throws Exception {
        Chaos chaos = new Chaos(args[0], args[1], Integer.parseInt(args[2]), args[5]);
        long first = Long.parseLong(args[3]);
        long step = Long.parseLong(args[4]);
        Thread reader = new Thread(chaos::read);
        Thread writer = new Thread(() -> chaos.write(first, step));
        reader.start();
        writer.start();
        while (System.in.read() >= 0) {
            // Nothing is told but the end.
        }
        chaos.stop.set(true);
        writer.join();
        reader.join();
    }

    private static synchronized void say(String line) {
        System.out.println(line);
    }

    private void write(long first, long step) {
        Map<String, Object> config = Map.of(
                "bootstrap.servers", bootstrap,
                "acks", "all",
                "enable.idempotence", "true",
                "linger.ms", "0",
                "delivery.timeout.ms", "180000",
                "request.timeout.ms", timeoutMs,
                "reconnect.backoff.ms", "20",
                "reconnect.backoff.max.ms", "200",
                "retry.backoff.ms", "20",
                "retry.backoff.max.ms", "100");
        try (Producer<byte[], byte[]> producer =
                new KafkaProducer<>(config, new ByteArraySerializer(), new ByteArraySerializer())) {
            long value = first;
            while (!stop.get()) {
                for (int partition = 0; partition < partitions; partition++) {
                    send(producer, partition, value);
                    value += step;
                }
                Thread.sleep(TICK_MS);
            }
        } catch (InterruptedException | RuntimeException error) {
            say("! the producer: " + error);
        }
    }

    private void send(Producer<byte[], byte[]> producer, int partition, long value) {
        byte[] payload = Long.toString(value).getBytes(StandardCharsets.US_ASCII);
        say("s " + value + " " + partition);
        producer.send(new ProducerRecord<>(topic, partition, null, payload), (metadata, error) -> {
            if (error != null) {
                say("f " + value + " " + error);
            } else {
                say("a " + value + " " + metadata.offset());
            }
        });
    }

    private void read() {
        Map<String, Object> config = Map.of(
                "bootstrap.servers", bootstrap,
                "auto.offset.reset", "none",
                "reconnect.backoff.ms", "20",
                "reconnect.backoff.max.ms", "200",
                "retry.backoff.ms", "20",
                "retry.backoff.max.ms", "100");
        try (Consumer<byte[], byte[]> consumer = new KafkaConsumer<>(
                config, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            List<TopicPartition> all = IntStream.range(0, partitions)
                    .mapToObj(partition -> new TopicPartition(topic, partition))
                    .toList();
            consumer.assign(all);
            all.forEach(one -> consumer.seek(one, 0));
            while (!stop.get()) {
                for (ConsumerRecord<byte[], byte[]> one : consumer.poll(Duration.ofMillis(100))) {
                    String value = new String(one.value(), StandardCharsets.US_ASCII).trim();
                    say("r " + one.partition() + " " + one.offset() + " " + value);
                }
            }
        } catch (RuntimeException error) {
            say("! the reader: " + error);
        }
    }
}
