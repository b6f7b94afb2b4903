import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.NavigableMap;
import java.util.Random;
import java.util.TreeMap;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.message.RequestHeaderData;
import org.apache.kafka.common.message.ResponseHeaderData;
import org.apache.kafka.common.protocol.ApiKeys;
import org.apache.kafka.common.protocol.ApiMessage;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.ObjectSerializationCache;
import org.apache.kafka.common.protocol.types.ArrayOf;
import org.apache.kafka.common.protocol.types.BoundField;
import org.apache.kafka.common.protocol.types.CompactArrayOf;
import org.apache.kafka.common.protocol.types.Field;
import org.apache.kafka.common.protocol.types.NullableSchema;
import org.apache.kafka.common.protocol.types.Schema;
import org.apache.kafka.common.protocol.types.Struct;
import org.apache.kafka.common.protocol.types.TaggedFields;
import org.apache.kafka.common.protocol.types.Type;
import org.apache.kafka.common.record.internal.CompressionType;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.MemoryRecordsBuilder;
import org.apache.kafka.common.record.internal.RecordBatch;
import org.apache.kafka.common.record.TimestampType;

/**
 * The Java client's view of frames and batches.
 *
 * <pre>
 * read   lines from stdin, each a frame or batch of ours: decode, encode, compare
 * write  for each "message KEY VERSION SIDE" line of stdin, and for batches: what Kafka writes
 * </pre>
 *
 * A frame is filled in by way of Kafka's own schemas, which know nothing of our field tables.
 */
public final class CrossCheck {
    private static final HexFormat HEX = HexFormat.of();
    private static final PrintStream OUT = System.out;

    public static void main(String[] arguments) throws Exception {
        BufferedReader in =
            new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        boolean read = arguments[0].equals("read");
        String line;
        while ((line = in.readLine()) != null) {
            String[] words = line.split(" ");
            if (read) {
                System.out.println(line(words));
            } else if (words[0].equals("message")) {
                for (int seed = 0; seed < 2; seed++) {
                    write(Short.parseShort(words[1]), Short.parseShort(words[2]), words[3], seed);
                }
            }
        }
        if (!read) {
            writeBatches();
        }
        OUT.flush();
    }

    private static String line(String[] words) {
        String name = String.join(" ", Arrays.copyOf(words, words.length - 1));
        byte[] bytes = HEX.parseHex(words[words.length - 1]);
        try {
            byte[] again = words[0].equals("batch")
                ? batch(bytes, words)
                : message(Short.parseShort(words[1]), Short.parseShort(words[2]), words[3], bytes);
            return Arrays.equals(bytes, again)
                ? "ok " + name
                : "FAIL " + name + ": " + HEX.formatHex(again) + " for " + HEX.formatHex(bytes);
        } catch (Exception error) {
            return "FAIL " + name + ": " + error;
        }
    }

    /** Decodes and encodes a frame with Kafka's generated message classes. */
    private static byte[] message(short key, short version, String side, byte[] frame) {
        ApiKeys api = ApiKeys.forId(key);
        boolean request = side.equals("request");
        Message header = request ? new RequestHeaderData() : new ResponseHeaderData();
        ApiMessage body = request ? api.messageType.newRequest() : api.messageType.newResponse();
        short headerVersion = request
            ? api.requestHeaderVersion(version) : api.responseHeaderVersion(version);
        ByteBufferAccessor in = new ByteBufferAccessor(ByteBuffer.wrap(frame));
        header.read(in, headerVersion);
        body.read(in, version);
        if (in.remaining() != 0) {
            throw new IllegalStateException(in.remaining() + " bytes left over");
        }
        ObjectSerializationCache cache = new ObjectSerializationCache();
        int size = header.size(cache, headerVersion) + body.size(cache, version);
        ByteBufferAccessor out = new ByteBufferAccessor(ByteBuffer.allocate(size));
        header.write(out, cache, headerVersion);
        body.write(out, cache, version);
        if (out.buffer().hasRemaining()) {
            throw new IllegalStateException("shorter than its own size");
        }
        return out.buffer().array();
    }

    /** Writes a frame of random values by Kafka's schemas. */
    private static void write(short key, short version, String side, int seed) {
        ApiKeys api = ApiKeys.forId(key);
        boolean request = side.equals("request");
        Random random = new Random(key * 1_000_003L + version * 1009L + seed * 31L + side.length());
        short headerVersion = request
            ? api.requestHeaderVersion(version) : api.responseHeaderVersion(version);
        Schema headerSchema =
            (request ? RequestHeaderData.SCHEMAS : ResponseHeaderData.SCHEMAS)[headerVersion];
        Schema bodySchema = (request
            ? api.messageType.requestSchemas() : api.messageType.responseSchemas())[version];
        Struct header = struct(headerSchema, random, seed > 0);
        if (request) {
            header.set("request_api_key", key).set("request_api_version", version);
        }
        Struct body = struct(bodySchema, random, seed > 0);
        ByteBuffer buffer = ByteBuffer.allocate(header.sizeOf() + body.sizeOf());
        header.writeTo(buffer);
        body.writeTo(buffer);
        OUT.println("message " + key + " " + version + " " + side + " "
            + HEX.formatHex(buffer.array()));
    }

    private static Struct struct(Schema schema, Random random, boolean sparse) {
        Struct struct = new Struct(schema);
        for (BoundField field : schema.fields()) {
            struct.set(field, value(field.def.type, random, sparse));
        }
        return struct;
    }

    private static Object value(Type type, Random random, boolean sparse) {
        if (type instanceof TaggedFields) {
            NavigableMap<Integer, Object> values = new TreeMap<>();
            for (Map.Entry<Integer, Field> entry : ((TaggedFields) type).fields().entrySet()) {
                values.put(entry.getKey(), value(entry.getValue().type, random, false));
            }
            return values;
        }
        if (sparse && type.isNullable() && random.nextBoolean()) {
            return null;
        }
        if (type instanceof NullableSchema || type instanceof Schema) {
            return struct((Schema) type, random, sparse);
        }
        if (type.isArray()) {
            Type element = type.arrayElementType().get();
            List<Object> values = new ArrayList<>();
            int length = sparse ? random.nextInt(3) : 1 + random.nextInt(3);
            for (int i = 0; i < length; i++) {
                values.add(value(element, random, sparse));
            }
            return values.toArray();
        }
        return primitive(type.toString(), random);
    }

    private static Object primitive(String type, Random random) {
        switch (type) {
            case "BOOLEAN": return true;
            case "INT8": return (byte) (1 + random.nextInt(100));
            case "INT16": return (short) (1 + random.nextInt(30_000));
            case "UINT16": return 1 + random.nextInt(60_000);
            case "INT32": return 1 + random.nextInt(Integer.MAX_VALUE - 1);
            case "UINT32": return (long) (1 + random.nextInt(Integer.MAX_VALUE - 1));
            case "INT64": return 1 + (random.nextLong() >>> 2);
            case "FLOAT64": return random.nextDouble();
            case "UUID": return new Uuid(1 + (random.nextLong() >>> 1), random.nextLong());
            case "BYTES": case "NULLABLE_BYTES": case "COMPACT_BYTES":
            case "COMPACT_NULLABLE_BYTES":
                byte[] bytes = new byte[1 + random.nextInt(50)];
                random.nextBytes(bytes);
                return ByteBuffer.wrap(bytes);
            case "RECORDS": case "COMPACT_RECORDS": case "NULLABLE_RECORDS":
            case "COMPACT_NULLABLE_RECORDS":
                return records(Compression.NONE, 3, random);
            default:
                if (type.endsWith("STRING")) {
                    return "é-" + Long.toString(random.nextLong() >>> 1, 36);
                }
                throw new IllegalArgumentException(type);
        }
    }

    /** Reads a batch of ours, record by record, and builds it again from what was read. */
    private static byte[] batch(byte[] bytes, String[] words) {
        RecordBatch batch = MemoryRecords.readableRecords(ByteBuffer.wrap(bytes)).batchIterator()
            .next();
        batch.ensureValid();
        if (!batch.compressionType().name.equals(words[1])) {
            throw new IllegalStateException("compressed with " + batch.compressionType());
        }
        MemoryRecordsBuilder builder = new MemoryRecordsBuilder(ByteBuffer.allocate(1024),
            batch.magic(), Compression.NONE, batch.timestampType(), batch.baseOffset(),
            batch.maxTimestamp(), batch.producerId(), batch.producerEpoch(), batch.baseSequence(),
            batch.isTransactional(), batch.isControlBatch(), batch.partitionLeaderEpoch(),
            Integer.MAX_VALUE);
        int count = 0;
        for (org.apache.kafka.common.record.internal.Record record : batch) {
            record.ensureValid();
            builder.append(record);
            count++;
        }
        if (count != batch.countOrNull()) {
            throw new IllegalStateException(count + " records");
        }
        byte[] plain = new byte[builder.build().sizeInBytes()];
        builder.build().buffer().duplicate().get(plain);
        // Compressed bytes differ between libraries: the records, uncompressed, must not.
        return Arrays.equals(plain, HEX.parseHex(words[2])) ? bytes : plain;
    }

    private static void writeBatches() {
        for (CompressionType type : CompressionType.values()) {
            for (int count : new int[] {1, 5, 300}) {
                Random random = new Random(count);
                MemoryRecords plain = records(Compression.NONE, count, random);
                random = new Random(count);
                MemoryRecords records = records(Compression.of(type).build(), count, random);
                OUT.println("batch " + type.name + " " + HEX.formatHex(array(plain)) + " "
                    + HEX.formatHex(array(records)));
            }
        }
    }

    private static byte[] array(MemoryRecords records) {
        byte[] bytes = new byte[records.sizeInBytes()];
        records.buffer().duplicate().get(bytes);
        return bytes;
    }

    /** Records with and without keys, values and headers, some headers twice. */
    private static MemoryRecords records(Compression compression, int count, Random random) {
        MemoryRecordsBuilder builder = new MemoryRecordsBuilder(ByteBuffer.allocate(1024),
            RecordBatch.CURRENT_MAGIC_VALUE, compression, TimestampType.CREATE_TIME, 40L,
            RecordBatch.NO_TIMESTAMP, 7L, (short) 3, 100, false, false, 9, Integer.MAX_VALUE);
        for (int i = 0; i < count; i++) {
            byte[] key = i % 3 == 1 ? null : ("key-" + random.nextInt(1000)).getBytes();
            byte[] value = i % 5 == 4 ? null : ("value ".repeat(1 + random.nextInt(40))).getBytes();
            Header[] headers = i % 2 == 0
                ? new Header[0]
                : new Header[] {
                    new RecordHeader("twice", "a".getBytes()), new RecordHeader("null", (byte[]) null),
                    new RecordHeader("twice", "b".getBytes())};
            long timestamp = 1_700_000_000_000L + random.nextInt(10_000) - 5_000;
            builder.append(timestamp, key, value, headers);
        }
        return builder.build();
    }
}
