// A coverage-guided fuzzer for the TypeScript readers, with libFuzzer's ways: inputs that reach new code join the corpus
// and are changed further; a finding is written to a file and ends the run. V8's own block counters tell what an input
// reached. (Jazzer.js would do this; the binary in its npm package needs a newer glibc than Debian 12 has.)
//   node scripts/fuzz.cjs TARGET [--seconds 60] [--seed N] [--keep]     TARGET: a file of test/fuzz without its .cjs
//   node scripts/fuzz.cjs TARGET FILE                                    runs one input, such as a finding
// The corpus is test/fuzz/corpus/TARGET; --keep adds what reached new code to it.
'use strict';
const { createHash } = require('node:crypto');
const { mkdirSync, readdirSync, readFileSync, writeFileSync } = require('node:fs');
const { Session } = require('node:inspector');
const { join } = require('node:path');
const { parseArgs } = require('node:util');

const root = join(__dirname, '..');
const slowestMs = 10_000;
const longest = 1 << 16;
/** Texts and numbers that mean something in these formats. */
const words = [
  ...['{', '}', '[', ']', ':', ',', '"', '\\', '\\u0000', 'null', '-1', '1e999', 'Infinity', 'NaN', '9007199254740993'],
  ...['"dtype"', '"shape"', '"data_offsets"', '"F32"', '"__metadata__"', '"__proto__"', '"model_type"', '"__float__"'],
  ...[
    'GGUF',
    'general.architecture',
    'tokenizer.ggml.model',
    '.block_count',
    '.weight',
    'blk.0.',
    'gpt2',
    'llama',
    'rwkv',
  ],
  ...['PK\x01\x02', 'PK\x03\x04', 'PK\x05\x06', 'PK\x06\x06', 'PK\x06\x07', 'archive/data.pkl', 'archive/data/0'],
  ...[
    '\x80\x02',
    '\x80\x05\x95',
    'ctorch._utils\n_rebuild_tensor_v2\n',
    'ccollections\nOrderedDict\n',
    'cos\nsystem\n',
  ],
  ...[
    'ctorch\nFloatStorage\n',
    'X\x01\0\0\0a',
    'K\x01',
    'M\0\x01',
    'J\xff\xff\xff\xff',
    'q\0',
    'h\0',
    '(',
    ')',
    '}',
    'Q',
    'R',
  ],
  ...[
    't',
    's',
    'u',
    'b',
    '.',
    '\x93',
    '\x94',
    '\x85',
    '\x86',
    '\x87',
    'storage',
    'cpu',
    '\xff\xff\xff\xff',
    '\0\0\0\0',
  ],
].map((word) => Buffer.from(word, 'latin1'));

/** mulberry32: the same seed gives the same run. */
function randomOf(seed) {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

/** Some of libFuzzer's changes. */
const changes = [
  (b, r) => splice(b, r(b.length + 1), 1 + r(8), Buffer.alloc(0)),
  (b, r) => splice(b, r(b.length + 1), 0, Buffer.from(Array.from({ length: 1 + r(4) }, () => r(256)))),
  (b, r) => edit(b, r, (copy, at) => (copy[at] = r(256))),
  (b, r) => edit(b, r, (copy, at) => (copy[at] ^= 1 << r(8))),
  (b, r) => edit(b, r, (copy, at) => (copy[at] += r(2) ? 1 : 255)),
  (b, r) => splice(b, r(b.length + 1), r(2) * r(9), words[r(words.length)]),
  (b, r) => {
    const from = r(b.length + 1);
    return splice(b, r(b.length + 1), r(2) * r(64), b.subarray(from, from + r(64)));
  },
  (b, r, other) => Buffer.concat([b.subarray(0, r(b.length + 1)), other.subarray(r(other.length + 1))]),
  (b, r) => {
    const digits = /\d+/g;
    const found = [...b.toString('latin1').matchAll(digits)];
    if (found.length === 0) return b;
    const { index, 0: text } = found[r(found.length)];
    const numbers = [0, 1, -1, Number(text) + 1, Number(text) - 1, 2 * Number(text), 2 ** 31, 2 ** 53, 1.5];
    return splice(b, index, text.length, Buffer.from(String(numbers[r(numbers.length)])));
  },
];
const splice = (b, at, remove, insert) => Buffer.concat([b.subarray(0, at), insert, b.subarray(at + remove)]);
function edit(b, r, change) {
  const copy = Buffer.from(b);
  if (copy.length > 0) change(copy, r(copy.length));
  return copy;
}

/** Blocks of this package's code that ran since the last call, with the order of magnitude of how often. */
function coverageOf(session) {
  const post = (method, params) => {
    let answer;
    session.post(method, params, (error, result) => {
      if (error) throw new Error(`${method}: ${error.message}`);
      answer = result;
    });
    return answer;
  };
  session.connect();
  post('Profiler.enable');
  post('Profiler.startPreciseCoverage', { callCount: true, detailed: true });
  return () => {
    const blocks = [];
    for (const { url, scriptId, functions } of post('Profiler.takePreciseCoverage').result) {
      if (!url.includes('/dist/lib/')) continue;
      for (const { ranges } of functions)
        for (const { startOffset, endOffset, count } of ranges)
          if (count > 0)
            blocks.push(`${scriptId}:${startOffset}:${endOffset}:${Math.min(8, Math.floor(Math.log2(count)))}`);
    }
    return blocks;
  };
}

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      seconds: { type: 'string', default: '60' },
      seed: { type: 'string', default: '1' },
      keep: { type: 'boolean', default: false },
    },
  });
  const [target, single] = positionals;
  const { fuzz } = require(join(root, 'test/fuzz', `${target}.cjs`));
  if (single !== undefined) return fuzz(readFileSync(single));

  const folder = join(root, 'test/fuzz/corpus', target);
  const seeds = readdirSync(folder)
    .sort()
    .map((name) => readFileSync(join(folder, name)));
  const takeCoverage = coverageOf(new Session());
  const known = new Set();
  const corpus = [];
  let runs = 0;
  const run = async (input, keep) => {
    const start = process.cpuUsage();
    try {
      await fuzz(input);
      const { user, system } = process.cpuUsage(start);
      const ms = Math.round((user + system) / 1000);
      if (ms > slowestMs) throw new Error(`it took ${ms} ms of the processor`);
    } catch (error) {
      const file = join(root, `fuzz-${target}-${hash(input)}`);
      writeFileSync(file, input);
      console.error(`FINDING after ${runs} runs: node scripts/fuzz.cjs ${target} ${file}`);
      throw error;
    }
    runs++;
    const fresh = takeCoverage().filter((block) => !known.has(block));
    if (fresh.length === 0) return;
    for (const block of fresh) known.add(block);
    corpus.push(input);
    if (keep) writeFileSync(join(folder, hash(input)), input);
  };
  mkdirSync(folder, { recursive: true });
  for (const seed of seeds) await run(seed, false);
  const fromSeeds = corpus.length;
  const random = randomOf(Number(values.seed));
  const end = performance.now() + 1000 * Number(values.seconds);
  while (performance.now() < end) {
    let input = corpus[random(corpus.length)];
    for (let i = 1 + random(4); i > 0; i--)
      input = changes[random(changes.length)](input, random, corpus[random(corpus.length)]);
    await run(input.subarray(0, longest), values.keep);
  }
  console.log(
    `${target}: ${runs} runs, ${seeds.length} kept inputs, ${corpus.length - fromSeeds} more reached new code, ${known.size} block counts; no finding`,
  );
  if (runs < seeds.length + 100) throw new Error('too few runs to say anything');
}
const hash = (input) => createHash('sha256').update(input).digest('hex').slice(0, 16);

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
