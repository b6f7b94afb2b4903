// The records that go in and come out; dataset.py describes them. kafkajs groups headers by key.

const CODECS = ['none', 'gzip', 'snappy', 'lz4', 'zstd'];
const PER_CODEC = 200;
const TOTAL = PER_CODEC * CODECS.length;
const PARTITIONS = 4;
const PER_PARTITION = TOTAL / PARTITIONS;
const BASE_MS = 1700000000000;

function record(i) {
  const codec = CODECS[Math.floor(i / PER_CODEC)];
  let key = Buffer.from(`key-${i}`);
  if (i % 10 === 5) key = null;
  if (i % 10 === 6) key = Buffer.alloc(0);
  return {
    partition: i % PARTITIONS,
    key,
    value: i % 10 === 3 ? null : Buffer.from(`${codec}-${i}-${'x'.repeat(i % 300)}`),
    headers: {
      trace: [Buffer.from('first'), Buffer.from('second')],
      n: Buffer.from(String(i)),
      empty: Buffer.alloc(0),
    },
    timestamp: String(BASE_MS + i * 1000),
  };
}

function ok(step) {
  console.log(`  ok    ${step}`);
}

function fail(step, detail) {
  console.error(`  FAIL  ${step}: ${detail}`);
  process.exit(1);
}

function equal(step, expected, got) {
  const [want, have] = [JSON.stringify(expected), JSON.stringify(got)];
  if (want !== have) fail(step, `expected ${want}, got ${have}`);
  ok(step);
}

// The records that consumers got, each compared as it comes.
class Seen {
  constructor() {
    this.numbers = new Set();
  }

  add(partition, message) {
    const i = Number(message.offset) * PARTITIONS + partition;
    const { key, value, headers, timestamp } = record(i);
    const want = JSON.stringify([key, value, headers, timestamp]);
    const got = JSON.stringify([message.key, message.value, message.headers, message.timestamp]);
    if (i >= TOTAL || want !== got) fail('consume', `record ${i}: expected ${want}, got ${got}`);
    this.numbers.add(i);
  }

  complete() {
    return this.numbers.size === TOTAL;
  }
}

async function until(step, holds, seconds = 60) {
  const end = Date.now() + seconds * 1000;
  while (!(await holds())) {
    if (Date.now() > end) fail(step, 'not within its time');
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  ok(step);
}

module.exports = {
  BASE_MS, CODECS, PARTITIONS, PER_CODEC, PER_PARTITION, Seen, TOTAL, equal, fail, ok, record, until,
};
