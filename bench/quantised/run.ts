/** What quantised types cost in accuracy and give in speed: one model, written and loaded in each type. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { modelFor, perplexity } from '../../lib/quantize/text.js';
import { type Library, library, type Model } from '../library.js';
import type { Machine } from '../machine.js';
import { Random } from '../random.js';
import { median } from '../statistics.js';

export interface QuantisedSettings {
  /** A model folder or a GGUF file. */
  model: string;
  types: readonly string[];
  /** Tokens of a prefill, and tokens that follow one by one. */
  tokens: number;
  decode: number;
  reps: number;
  /** A text of which `maxTokens` tokens are read; null: random ones, and no perplexity. */
  text: string | null;
  maxTokens: number;
}

export interface TypeMeasurement {
  type: string;
  /** Of the file's tensors, floats that were kept included. */
  bitsPerWeight: number;
  fileBytes: number;
  /** Of the weights as the model holds them: types that nothing is computed in become others. */
  heldBytes: number;
  /** Of the logits against f32: ‖y − y₃₂‖ / ‖y₃₂‖, and the share of tokens with the same likeliest successor. */
  logitsError: number;
  sameArgmax: number;
  perplexity: number | null;
  prefillTokensPerSecond: number;
  decodeTokensPerSecond: number;
}

export interface QuantisedReport {
  schema: 'statespace.bench.quantised';
  schemaVersion: 1;
  command: string;
  machine: Machine;
  settings: Omit<QuantisedSettings, 'text' | 'maxTokens'> & { textTokens: number | null };
  /** The checkpoint in f32. */
  reference: { perplexity: number | null };
  types: TypeMeasurement[];
}

export interface QuantisedRun {
  command: string;
  machine: Machine;
  signal: AbortSignal;
  onProgress: (fraction: number, note: string) => void;
}

function randomTokens(count: number, vocabulary: number): Int32Array {
  const random = new Random(1);
  return Int32Array.from({ length: count }, () => Math.floor(random.next(0, vocabulary)));
}

/** Logits of every token that both are compared on. */
const COMPARED = 512;

export async function runQuantised(settings: QuantisedSettings, run: QuantisedRun): Promise<QuantisedReport> {
  const lib = library();
  const { model, types } = settings;
  const folder = mkdtempSync(join(tmpdir(), 'statespace-quantised-'));
  const { signal, onProgress } = run;
  try {
    onProgress(0, 'f32');
    const { maxTokens } = settings;
    const begun =
      settings.text === null
        ? { model: await lib.loadModel(model, { exact: true, signal }), ids: null }
        : await modelFor(model, settings.text, { maxTokens, signal }, (given) => ({ ...given, exact: true }));
    const { model: exact, ids: text } = begun;
    const ids = (text ?? randomTokens(COMPARED, exact.vocabSize)).slice(0, COMPARED);
    const wanted = await logitsOf(exact, ids, signal);
    const reference = { perplexity: text && (await perplexity(exact, text, { signal })) };
    await exact.dispose();
    const measured: TypeMeasurement[] = [];
    for (const [i, type] of types.entries()) {
      onProgress((i + 0.5) / (types.length + 0.5), type);
      measured.push(await measure(lib, type, { ids, wanted, text, folder, settings, signal }));
    }
    const { text: _, maxTokens: __, ...rest } = settings;
    return {
      schema: 'statespace.bench.quantised',
      schemaVersion: 1,
      command: run.command,
      machine: run.machine,
      settings: { ...rest, textTokens: text?.length ?? null },
      reference,
      types: measured,
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

interface Comparison {
  ids: Int32Array;
  wanted: Float32Array;
  text: Int32Array | null;
  folder: string;
  settings: QuantisedSettings;
  signal: AbortSignal;
}

async function measure(lib: Library, type: string, c: Comparison): Promise<TypeMeasurement> {
  const { settings, signal } = c;
  const file = join(c.folder, `${type}.gguf`);
  const { bitsPerWeight, bytes } = await lib.quantize(settings.model, file, { type, signal });
  const { model } = await modelFor(file, c.text ?? c.ids, { signal });
  try {
    const found = await logitsOf(model, c.ids, signal);
    return {
      type,
      bitsPerWeight,
      fileBytes: bytes,
      heldBytes: (await lib.describeModel(file)).bytes.held,
      ...compared(found, c.wanted, c.ids.length),
      perplexity: c.text && (await perplexity(model, c.text, { signal })),
      ...(await speeds(model, settings, signal)),
    };
  } finally {
    await model.dispose();
    rmSync(file, { force: true });
  }
}

async function logitsOf(model: Model, ids: Int32Array, signal: AbortSignal): Promise<Float32Array> {
  const session = model.createSession();
  const logits = (await session.forward(ids, { logits: 'all', signal })).toFloat32Array();
  await session.dispose();
  return logits;
}

function compared(found: Float32Array, wanted: Float32Array, rows: number) {
  let [difference, square, same] = [0, 0, 0];
  const width = wanted.length / rows;
  for (let row = 0; row < rows; row++) {
    let [a, b] = [row * width, row * width];
    for (let i = row * width; i < (row + 1) * width; i++) {
      difference += (found[i]! - wanted[i]!) ** 2;
      square += wanted[i]! ** 2;
      if (found[i]! > found[a]!) a = i;
      if (wanted[i]! > wanted[b]!) b = i;
    }
    if (a === b) same++;
  }
  return { logitsError: Math.sqrt(difference / square), sameArgmax: same / rows };
}

/** Medians of runs; the first one warms up and is not counted. */
async function speeds(model: Model, { tokens, decode, reps }: QuantisedSettings, signal: AbortSignal) {
  const prompt = randomTokens(tokens, model.vocabSize);
  const [prefill, steps]: [number[], number[]] = [[], []];
  for (let rep = 0; rep <= reps; rep++) {
    const session = model.createSession();
    const started = performance.now();
    await session.forward(prompt, { logits: 'last', signal });
    const read = performance.now();
    for (let i = 0; i < decode; i++) await session.forward([prompt[i % tokens]!], { signal });
    const ended = performance.now();
    await session.dispose();
    if (rep === 0) continue;
    prefill.push((1000 * tokens) / (read - started));
    steps.push((1000 * decode) / (ended - read));
  }
  return { prefillTokensPerSecond: median(prefill), decodeTokensPerSecond: median(steps) };
}
