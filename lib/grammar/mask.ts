import { unlessAborted } from '../cancellation.js';
import { StatespaceError } from '../errors.js';
import type { Network } from '../session/network.js';
import { Turns } from '../turns.js';
import { type Allowed, grammarEngine } from './engine.js';
import { grammarOf, type ResponseFormat } from './format.js';
import { grammarElsewhere } from './write-elsewhere.js';

const vocabularies = new WeakMap<object, Promise<number>>();
const networks = new Map<number, WeakRef<Network>>();

// Parts of a schema whose grammar is written within a few milliseconds.
const MOST_PARTS = 500;

/** No more is looked at than is needed to know. */
function isLarge(format: ResponseFormat): boolean {
  let left = MOST_PARTS;
  const look = (value: unknown): boolean => {
    if (--left < 0) return true;
    return typeof value === 'object' && value !== null && Object.values(value).some(look);
  };
  return typeof format === 'object' && format !== null && 'schema' in format && look(format.schema);
}

/** What cannot be sent to a thread is refused, or written, here. */
async function writtenElsewhere(format: ResponseFormat): Promise<string> {
  try {
    return await grammarElsewhere(format);
  } catch (error) {
    if ((error as Error).name === 'DataCloneError' || error instanceof RangeError) return grammarOf(format);
    throw error;
  }
}

/** One text that keeps to a format: which tokens may come, asked for as soon as one has come. */
export class TokenMask {
  private current: Promise<Allowed>;
  private settled = true;

  private constructor(
    private readonly text: number,
    private readonly stops: ReadonlySet<number>,
    allowed: Allowed,
  ) {
    this.current = Promise.resolve(allowed);
  }

  /** stops: ids that end the text: they may come where the format is complete. */
  static async open(
    network: Network,
    format: ResponseFormat,
    stops: ReadonlySet<number>,
    signal: AbortSignal | undefined,
  ): Promise<TokenMask> {
    const grammar = isLarge(format) ? await unlessAborted(signal, writtenElsewhere(format)) : grammarOf(format);
    const vocabulary = await unlessAborted(signal, vocabularyOf(network));
    const { text, allowed } = grammarEngine().open(vocabulary, grammar, Int32Array.from(stops));
    try {
      return new TokenMask(text, stops, await unlessAborted(signal, allowed));
    } catch (error) {
      grammarEngine().close(text);
      throw error;
    }
  }

  /** Whether allowed() is known already. */
  get ready(): boolean {
    return this.settled;
  }

  /** A bit for each id, of word id >> 5 the bit id & 31; whole: nothing but the end may come. */
  allowed(): Promise<Allowed> {
    return this.current;
  }

  /** The token that came. */
  accept(token: number): void {
    if (this.stops.has(token)) return;
    this.settled = false;
    this.current = grammarEngine()
      .accept(this.text, token)
      .finally(() => {
        this.settled = true;
      });
    this.current.catch(() => undefined); // who asks for it gets it
  }

  close(): void {
    grammarEngine().close(this.text);
  }
}

/**
 * Leaves of a row of logits what may come.
 * @public
 */
export function applyMask(row: Float32Array, allowed: Int32Array): void {
  for (let id = 0; id < row.length; id++) if (!((allowed[id >> 5]! >> (id & 31)) & 1)) row[id] = -Infinity;
}

function vocabularyOf(network: Network): Promise<number> {
  let known = vocabularies.get(network);
  if (!known) {
    known = readVocabulary(network);
    vocabularies.set(network, known);
    known.catch(() => vocabularies.delete(network));
  }
  return known;
}

/** Those of models that have gone by now. */
function forgetVocabularies(): void {
  for (const [vocabulary, network] of networks) {
    if (network.deref()?.disposed === false) continue;
    networks.delete(vocabulary);
    grammarEngine().forgetVocabulary(vocabulary);
  }
}

/** The bytes of all tokens; the event loop turns in between. */
async function readVocabulary(network: Network): Promise<number> {
  const { tokenizer, vocabSize } = network;
  forgetVocabularies();
  if (!tokenizer?.tokenBytes)
    throw new StatespaceError('ERR_ARGUMENT', 'generate: responseFormat: the model has no tokenizer');
  const offsets = new Uint32Array(vocabSize + 1);
  const tokens: Uint8Array[] = [];
  const turns = new Turns();
  for (let id = 0; id < vocabSize; id++) {
    const bytes = tokenizer.tokenBytes(id) ?? new Uint8Array(0);
    tokens.push(bytes);
    offsets[id + 1] = offsets[id]! + bytes.length;
    const pause = turns.due();
    if (pause) await pause;
  }
  const bytes = new Uint8Array(offsets[vocabSize]!);
  for (const [id, token] of tokens.entries()) {
    bytes.set(token, offsets[id]!);
    const pause = turns.due();
    if (pause) await pause;
  }
  const vocabulary = grammarEngine().addVocabulary(bytes, offsets);
  networks.set(vocabulary, new WeakRef(network));
  return vocabulary;
}
