// kafkajs: the whole life of a topic and a group.

const { CompressionCodecs, CompressionTypes, ConfigResourceTypes, Kafka, logLevel } = require('kafkajs');
const snappy = require('kafkajs-snappy');
const lz4 = require('lz4-napi');
const zstd = require('@bokuweb/zstd-wasm');
const data = require('./dataset');
const { equal, fail, ok, until } = data;

const address = process.argv[2] || '';
if (!/^127\.0\.0\.1:\d{1,5}$/.test(address)) {
  console.error(`refused: the bootstrap address must be 127.0.0.1:PORT, not '${address}'`);
  process.exit(2);
}
const kafka = new Kafka({ clientId: 'compat', brokers: [address], logLevel: logLevel.NOTHING });
const topic = `compat-kafkajs-${process.pid}-${Date.now()}`;
const groupId = `${topic}-group`;
const TYPES = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4,
  zstd: CompressionTypes.ZSTD,
};

async function registerCodecs() {
  await zstd.init();
  CompressionCodecs[CompressionTypes.Snappy] = snappy;
  CompressionCodecs[CompressionTypes.LZ4] = () => ({
    compress: async (encoder) => lz4.compressFrameSync(encoder.buffer),
    decompress: async (buffer) => lz4.decompressFrameSync(buffer),
  });
  CompressionCodecs[CompressionTypes.ZSTD] = () => ({
    compress: async (encoder) => Buffer.from(zstd.compress(encoder.buffer)),
    decompress: async (buffer) => Buffer.from(zstd.decompress(buffer)),
  });
}

async function create(admin) {
  const topics = [{
    topic, numPartitions: data.PARTITIONS, replicationFactor: 1,
    configEntries: [{ name: 'retention.ms', value: '-1' }],
  }];
  equal('create', true, await admin.createTopics({ topics, waitForLeaders: true }));
  equal('create twice: refused', false, await admin.createTopics({ topics }));
}

async function produce() {
  for (const [index, codec] of data.CODECS.entries()) {
    const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 });
    await producer.connect();
    const messages = [];
    for (let n = 0; n < data.PER_CODEC; n += 1) messages.push(data.record(index * data.PER_CODEC + n));
    const answers = await producer.send({ topic, messages, compression: TYPES[codec], acks: -1 });
    const places = answers.map((answer) => [answer.partition, Number(answer.baseOffset), answer.errorCode]);
    const first = (index * data.PER_CODEC) / data.PARTITIONS;
    equal(`produce ${codec}: acknowledged offsets`, [0, 1, 2, 3].map((p) => [p, first, 0]),
      places.sort((a, b) => a[0] - b[0]));
    await producer.disconnect();
  }
}

// A member of the group that notes what it owns and what it reads.
async function member(seen) {
  const consumer = kafka.consumer({
    groupId, sessionTimeout: 10000, heartbeatInterval: 500, rebalanceTimeout: 15000,
  });
  const state = { consumer, owned: new Set() };
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    state.owned = new Set(payload.memberAssignment[topic] || []);
  });
  consumer.on(consumer.events.REBALANCING, () => {
    state.owned = new Set();
  });
  await consumer.connect();
  await consumer.subscribe({ topics: [topic], fromBeginning: true });
  await consumer.run({
    autoCommit: false,
    eachMessage: async ({ partition, message }) => seen.add(partition, message),
  });
  return state;
}

async function groupOfTwo(admin) {
  const seen = new data.Seen();
  const first = await member(seen);
  await until('group: one member has every partition', () => first.owned.size === 4);
  const second = await member(seen);
  await until('group: rebalanced two and two', () => first.owned.size === 2 && second.owned.size === 2);
  equal('group: every partition has one owner', 4, new Set([...first.owned, ...second.owned]).size);
  await until('group: every record, contents exact', () => seen.complete());
  await second.consumer.disconnect();
  await until('group: the member that stays has every partition', () => first.owned.size === 4);
  const ends = [0, 1, 2, 3].map((partition) => ({ topic, partition, offset: String(data.PER_PARTITION) }));
  await first.consumer.commitOffsets(ends);
  const fetched = await admin.fetchOffsets({ groupId, topics: [topic] });
  const offsets = fetched[0].partitions.map((place) => place.offset);
  equal('commit: read back', Array(4).fill(String(data.PER_PARTITION)), offsets);
  const { groups } = await admin.describeGroups([groupId]);
  equal('describe: group', ['Stable', 1], [groups[0].state, groups[0].members.length]);
  await first.consumer.disconnect();
}

async function seekByTime(admin) {
  const wanted = 500;
  const { partition, timestamp } = data.record(wanted);
  const offset = Math.floor(wanted / data.PARTITIONS);
  const found = await admin.fetchTopicOffsetsByTimestamp(topic, Number(timestamp));
  equal('seek by time: exact timestamp', String(offset),
    found.find((place) => place.partition === partition).offset);
  const consumer = kafka.consumer({ groupId: `${topic}-seek`, sessionTimeout: 10000 });
  const seen = new data.Seen();
  await consumer.connect();
  await consumer.subscribe({ topics: [topic], fromBeginning: false });
  let firstSeen = null;
  await consumer.run({
    autoCommit: false,
    eachMessage: async ({ partition: from, message }) => {
      if (from === partition && firstSeen === null) firstSeen = Number(message.offset);
      seen.add(from, message);
    },
  });
  consumer.seek({ topic, partition, offset: String(offset) });
  await until('seek by time: read from there', () => firstSeen !== null);
  equal('seek by time: the record there', offset, firstSeen);
  await consumer.disconnect();
}

async function describeAndDelete(admin) {
  const { topics } = await admin.fetchTopicMetadata({ topics: [topic] });
  equal('describe: partitions', [0, 1, 2, 3], topics[0].partitions.map((p) => p.partitionId).sort());
  const answer = await admin.describeConfigs({
    includeSynonyms: false,
    resources: [{ type: ConfigResourceTypes.TOPIC, name: topic, configNames: ['retention.ms'] }],
  });
  const entry = answer.resources[0].configEntries.find((config) => config.configName === 'retention.ms');
  equal('describe: retention.ms', '-1', entry.configValue);
  const offsets = await admin.fetchTopicOffsets(topic);
  equal('offsets: low and high', Array(4).fill(['0', String(data.PER_PARTITION)]),
    offsets.map((place) => [place.low, place.high]));
  const listed = (await admin.listGroups()).groups.map((group) => group.groupId);
  equal('list: the group is there', true, listed.includes(groupId));
  await admin.deleteGroups([groupId, `${topic}-seek`]);
  ok('delete: groups');
  await admin.deleteTopics({ topics: [topic] });
  await until('delete: topic is gone', async () => !(await admin.listTopics()).includes(topic));
}

async function main() {
  await registerCodecs();
  const admin = kafka.admin();
  await admin.connect();
  await create(admin);
  await produce();
  await groupOfTwo(admin);
  await seekByTime(admin);
  await describeAndDelete(admin);
  await admin.disconnect();
}

main().then(() => process.exit(0), (error) => fail('kafkajs', error.stack));
