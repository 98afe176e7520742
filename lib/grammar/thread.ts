/**
 * The grammar engine in a thread of its own, as compiling a grammar for a large vocabulary takes up to seconds: answers
 * orders with masks.
 */
import { createRequire } from 'node:module';
import { parentPort } from 'node:worker_threads';
import type { Answer, Order } from './messages.js';
import { beginsWithin, isPart, mayFollow, openedBy } from './utf8.js';

type Xgrammar = typeof import('@mlc-ai/web-xgrammar', { with: { 'resolution-mode': 'import' }});
type Compiler = Awaited<ReturnType<Xgrammar['GrammarCompiler']['createGrammarCompiler']>>;
type Compiled = Awaited<ReturnType<Compiler['compileGrammar']>>;
type Matcher = Awaited<ReturnType<Xgrammar['GrammarMatcher']['createGrammarMatcher']>>;

interface Vocabulary {
  compiler: Compiler;
  info: Awaited<ReturnType<Xgrammar['TokenizerInfo']['createTokenizerInfo']>>;
  size: number;
  /** By id: the first byte of a character that a token ends with, where not every other may follow it. */
  opens: ReadonlyMap<number, number>;
  /** Ids of the tokens that begin within a character, by their first byte. */
  within: ReadonlyMap<number, readonly number[]>;
  /** By grammar, those used last at the end. */
  compiled: Map<string, Compiled>;
}

interface Text {
  matcher: Matcher;
  vocabulary: Vocabulary;
  stops: Int32Array;
  last: number | undefined;
}

const MOST_COMPILED = 64;
const port = parentPort!;
const vocabularies = new Map<number, Promise<Vocabulary>>();
const texts = new Map<number, Text>();
/** Those that are closed, of which orders wait that came before. */
const closed = new Set<number>();
const complaints: string[] = [];

const xgrammar: Promise<Xgrammar> = (async () => {
  // What it says of errors goes to the console, and to nobody else.
  for (const level of ['log', 'warn', 'error'] as const)
    console[level] = (...args: unknown[]) => void complaints.push(args.join(' '));
  // A script that looks for CommonJS in a package that says it is none: it needs these, and leaves itself there.
  const scope = globalThis as Record<string, unknown>;
  Object.assign(scope, { require: createRequire(__filename), __filename, __dirname });
  await import('@mlc-ai/web-xgrammar');
  return scope.xgrammar as Xgrammar;
})();

/** The 256 bytes as characters, as byte-level vocabularies write them (Radford et al. 2019). */
const CHARACTERS: readonly string[] = (() => {
  const printed = (b: number) => (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
  let others = 256;
  return Array.from({ length: 256 }, (_, b) => String.fromCharCode(printed(b) ? b : others++));
})();

async function makeVocabulary(bytes: Uint8Array, offsets: Uint32Array): Promise<Vocabulary> {
  const { TokenizerInfo, GrammarCompiler } = await xgrammar;
  const size = offsets.length - 1;
  const opens = new Map<number, number>();
  const within = new Map<number, number[]>();
  const tokens = Array.from({ length: size }, (_, id) => {
    const own = bytes.subarray(offsets[id], offsets[id + 1]);
    if (!isPart(own)) return ''; // as a special token, which never comes
    const opened = openedBy(own);
    if (opened !== undefined) opens.set(id, opened);
    if (beginsWithin(own)) {
      const ids = within.get(own[0]!) ?? [];
      ids.push(id);
      within.set(own[0]!, ids);
    }
    let token = '';
    for (const byte of own) token += CHARACTERS[byte];
    return token;
  });
  // One more, which stands for the end: whether a text may end is one bit, whatever ends it.
  const info = await TokenizerInfo.createTokenizerInfo([...tokens, ''], 'byte_level', false, size + 1, [size]);
  const compiler = await GrammarCompiler.createGrammarCompiler(info, false);
  return { compiler, info, size, opens, within, compiled: new Map() };
}

async function compile(vocabulary: Vocabulary, grammar: string): Promise<Compiled> {
  const known = vocabulary.compiled.get(grammar);
  vocabulary.compiled.delete(grammar);
  const compiled = known ?? (await vocabulary.compiler.compileGrammar(grammar));
  vocabulary.compiled.set(grammar, compiled);
  if (vocabulary.compiled.size > MOST_COMPILED) {
    const [oldest, its] = vocabulary.compiled.entries().next().value!;
    its.dispose(); // texts that keep to it hold a share of it
    vocabulary.compiled.delete(oldest);
  }
  return compiled;
}

async function open(order: Order & { kind: 'open' }): Promise<Text> {
  const { GrammarMatcher } = await xgrammar;
  const vocabulary = await vocabularies.get(order.vocabulary);
  if (!vocabulary) throw new Error('the model has been disposed of');
  const matcher = await GrammarMatcher.createGrammarMatcher(await compile(vocabulary, order.grammar));
  for (const token of order.accepted) matcher.acceptToken(token);
  return { matcher, vocabulary, stops: order.stops, last: order.accepted.at(-1) };
}

async function answer(text: number, { matcher, vocabulary, stops, last }: Text): Promise<Answer> {
  const { size, opens, within } = vocabulary;
  const mask = Int32Array.from(await matcher.getNextTokenBitmask());
  const first = last === undefined ? undefined : opens.get(last);
  if (first !== undefined)
    for (const [byte, ids] of within)
      if (!mayFollow(first, byte)) for (const id of ids) mask[id >> 5]! &= ~(1 << (id & 31));
  const mayEnd = ((mask[size >> 5]! >> (size & 31)) & 1) === 1;
  mask[size >> 5]! &= ~(1 << (size & 31));
  const ends = new Int32Array(mask.length);
  for (const id of stops) if (id < size) ends[id >> 5]! |= 1 << (id & 31);
  if (!mask.some((word, i) => (word & ~ends[i]!) !== 0)) {
    if (mayEnd) return { kind: 'whole', text };
    return { kind: 'failed', text, why: 'no token of the vocabulary can go on', broken: false };
  }
  if (mayEnd) for (const [i, word] of ends.entries()) mask[i]! |= word;
  return { kind: 'mask', text, mask };
}

async function obey(order: Order): Promise<void> {
  if (order.kind === 'vocabulary') {
    vocabularies.set(order.vocabulary, makeVocabulary(order.bytes, order.offsets));
    return;
  }
  if (order.kind === 'forget') {
    const its = await vocabularies.get(order.vocabulary);
    vocabularies.delete(order.vocabulary);
    for (const held of [...(its?.compiled.values() ?? []), its?.compiler, its?.info]) held?.dispose();
    return;
  }
  const { text } = order;
  if (order.kind === 'close') {
    texts.get(text)?.matcher.dispose();
    texts.delete(text);
    closed.delete(text);
    return;
  }
  // What has come in meanwhile may say that nobody wants this any more.
  if (order.kind === 'open') await new Promise(setImmediate);
  if (closed.has(text)) return port.postMessage({ kind: 'closed', text } satisfies Answer);
  complaints.length = 0;
  try {
    if (order.kind === 'open') texts.set(text, await open(order));
    const its = texts.get(text);
    if (!its) throw new Error('it could not be begun');
    if (order.kind === 'accept' && !its.matcher.acceptToken(order.token))
      throw new Error(`token ${order.token} is not one that may come`);
    if (order.kind === 'accept') its.last = order.token;
    const reply = await answer(text, its);
    port.postMessage(reply, reply.kind === 'mask' ? [reply.mask.buffer as ArrayBuffer] : []);
  } catch (error) {
    // C++ exceptions come as numbers or as objects of emscripten; what was wrong stands in what it said.
    const said = complaints.filter((line) => !line.startsWith('Aborted')).at(-1);
    const why = (said ?? String((error as Error)?.message ?? error)).replace(/^.*?\.cc:\d+: /, '');
    const name = (error as Error)?.name;
    port.postMessage({ kind: 'failed', text, why, broken: name !== 'Error' } satisfies Answer);
  }
}

// In the order in which they came.
let work = Promise.resolve();
port.on('message', (order: Order) => {
  if (order.kind === 'close') closed.add(order.text);
  work = work.then(() => obey(order));
});
