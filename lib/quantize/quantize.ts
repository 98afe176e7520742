// A checkpoint as a GGUF file of one type: read, encoded and written piece by piece.
import { dirname, resolve } from 'node:path';
import { removeAbandonedOf, replaceFilesBy } from '../atomic-file.js';
import { decodeRows, encodeRows } from '../blocks.js';
import { checkCall, watched } from '../cancellation.js';
import { InputFile } from '../checkpoint/files.js';
import { type Pair, text, u32 } from '../checkpoint/gguf/pairs.js';
import { BEYOND } from '../checkpoint/gguf/special-ids.js';
import { Metadata } from '../checkpoint/gguf/values.js';
import { type OutTensor, writeGguf } from '../checkpoint/gguf/write.js';
import { type Checkpoint, openCheckpoint, readTensorF32 } from '../checkpoint/open.js';
import { checkpointError, isBlocks, leavesOf, type StoredTensor, storedBytes } from '../checkpoint/stored.js';
import { valueRange } from '../checkpoint/views.js';
import { byteLength, isQuantized, type StoredType } from '../dtype.js';
import { mismatch, StatespaceError, show } from '../errors.js';
import { lazyFiles } from '../lazy.js';
import { checkKnown, checkPath } from '../options.js';
import { fromFile } from './file.js';
import { beyondWith, type Contents, fromFolder, type PlannedTensor } from './folder.js';
import { checkSplit, partsOf, type SplitOptions } from './split.js';
import { nameOf, tokenizerPairs } from './tokenizer.js';
import { chooseTypes, fileTypeOf, type MixName, mainTypeOf, mixNamed, mixNames, type Sizes } from './types.js';

export { type MixName, mixNames };

/** How a GGUF file is made of a checkpoint. */
export interface QuantizeOptions extends SplitOptions {
  /** A type or a mix, as llama.cpp names them, in any case: q4_K_M, q6_K, q8_0, f16 … */
  type: string;
  /**
   * A text that the model reads first, in f32 and whole in memory: errors then count by what it feeds each column. Token
   * ids such as 12,5,7 where the model has no tokenizer. Default: all columns count alike.
   */
  importance?: string | undefined;
  /** Tokens of that text that are read. Default: 4096. */
  importanceTokens?: number | undefined;
  /** Stops the work, and nothing is left of the file; rejects with its reason. */
  signal?: AbortSignal | undefined;
  /** Called as tensors are written. */
  onProgress?: ((done: { tensor: string; values: number; totalValues: number }) => void) | undefined;
}

/** What became of one tensor. */
export interface TensorReport {
  readonly name: string;
  readonly shape: readonly number[];
  /** What it was stored as; computed: made of several or by arithmetic. */
  readonly from: string;
  readonly type: StoredType;
  readonly bytes: number;
  /** ‖x − decoded‖ / ‖x‖ against what the checkpoint holds; 0 where all is kept. */
  readonly error: number;
}

/** What was written. */
export interface QuantizeReport {
  readonly architecture: string;
  readonly type: MixName;
  /** The files, in their order: `out`, or its parts. */
  readonly files: readonly string[];
  readonly bytes: number;
  readonly bitsPerWeight: number;
  readonly tensors: readonly TensorReport[];
  /** What llama.cpp does otherwise with this file than the model is, and what else is worth knowing. */
  readonly notes: readonly string[];
}

const OPTIONS = ['type', 'importance', 'importanceTokens', 'splitMaxSize', 'splitMaxTensors', 'signal', 'onProgress'];

/** Values that are read, encoded and written at once. */
const PIECE = 1 << 18;

/**
 * Writes a model folder or a GGUF file as a GGUF file. Whole or not at all; of the model, a few megabytes are in memory.
 *
 * @param path a folder with config.json and weights, or a .gguf file, the first one of a split one.
 * @param out the file to write.
 * @throws StatespaceError ERR_ARGUMENT, ERR_CHECKPOINT for a damaged checkpoint or values that are not finite,
 *   ERR_UNSUPPORTED_MODEL where GGUF has no architecture for the model.
 * @public
 */
export async function quantize(path: string, out: string, options: QuantizeOptions): Promise<QuantizeReport> {
  checkCall('quantize', options);
  checkKnown('quantize', options, OPTIONS);
  checkSplit(options);
  checkPath('quantize: path', path);
  checkPath('quantize: out', out);
  const mix = mixNamed(options.type);
  options.signal?.throwIfAborted();
  const checkpoint = await openCheckpoint(path);
  await checkTargets(checkpoint, [out]);
  const importance = await readImportance(path, mix, options);
  const contents = checkpoint.origins
    ? await fromFile(checkpoint.folder, checkpoint.origins)
    : await fromFolder(checkpoint);
  const notes = [...contents.notes];
  if (!checkpoint.metadata) {
    contents.pairs.set('general.type', text('model'));
    contents.pairs.set('general.name', text(nameOf(checkpoint.folder)));
    const spoken = await tokenizerPairs(checkpoint.folder, rowsOf(contents), checkpoint);
    for (const [key, pair] of spoken.pairs) contents.pairs.set(key, pair);
    if (spoken.ends) {
      contents.pairs.set(BEYOND, beyondWith(contents.pairs.get(BEYOND), { eos_token_id: spoken.ends }));
      notes.push(
        `llama.cpp: it may not end texts at all of the tokens ${spoken.ends.join(', ')}, at which the model's end`,
      );
    }
    notes.push(...spoken.notes);
  }
  if (contents.rounded?.length)
    notes.push(`rounded a second time: the file holds ${contents.rounded.join(', ')} already`);
  const types = typesOf(mix, contents, importance !== undefined);
  const tensors = contents.tensors.map((t): Planned => ({ ...t, dtype: types.get(t.name)! }));
  const pairs = new Map([
    ...contents.pairs,
    ['general.file_type', u32(fileTypeOf(mix))] as const,
    ['general.quantization_version', u32(2)] as const,
  ]);
  const parts = partsOf(out, pairs, tensors, options);
  const files = parts.map(({ path }) => path);
  if (parts.length > 1) await checkTargets(checkpoint, files);
  const reports: TensorReport[] = [];
  const watch = watched(options);
  await removeAbandonedOf(files.map((path) => resolve(path))).catch(() => {}); // as large as models; of others it is no matter
  const work = new Work(tensors, { signal: watch.signal, onProgress: watch.report }, importance, reports);
  try {
    await replaceFilesBy(
      files.map((path) => resolve(path)),
      async (file, i) => {
        await writeGguf(file, parts[i]!.pairs, parts[i]!.tensors, (tensor) => work.pieces(tensor));
        watch.check();
      },
    );
  } finally {
    watch.end();
  }
  let bytes = 0;
  for (const path of files) bytes += (await lazyFiles().stat(path)).size;
  const values = reports.reduce((n, t) => n + count(t.shape), 0);
  return {
    architecture: contents.architecture,
    type: mix,
    files,
    bytes,
    bitsPerWeight: (8 * reports.reduce((n, t) => n + t.bytes, 0)) / values,
    tensors: reports,
    notes,
  };
}

type Importance = ReadonlyMap<string, Float32Array>;

const lazyImportance = (): typeof import('./importance.js') => require('./importance.js');

async function readImportance(path: string, mix: MixName, options: QuantizeOptions): Promise<Importance | undefined> {
  const { importance, importanceTokens: maxTokens, signal } = options;
  if (importance === undefined || !isQuantized(mainTypeOf(mix))) return undefined;
  if (typeof importance !== 'string')
    throw mismatch('ERR_ARGUMENT', 'quantize: importance', 'a text', show(importance));
  return lazyImportance().importanceOf(path, importance, { maxTokens, signal });
}

type Planned = PlannedTensor & OutTensor & { readonly dtype: StoredType };
const count = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

const rowsOf = ({ tensors }: Contents): number => tensors.find((t) => t.name === 'token_embd.weight')?.shape[0] ?? 0;

/**
 * Refused before hours of work: targets that are among the files that are read, that cannot be written, or that hold
 * something else than a model of this format, such as the config beside the weights.
 */
async function checkTargets({ tensors, folder: source }: Checkpoint, outs: readonly string[]): Promise<void> {
  const { realpath, stat } = lazyFiles();
  const real = (path: string) => realpath(path).catch(() => resolve(path));
  const read = new Set([resolve(source), ...[...tensors.values()].flatMap(leavesOf).map(({ file }) => file)]);
  const reals = new Set(await Promise.all([...read].map(real)));
  const refused = (what: string) => new StatespaceError('ERR_ARGUMENT', `quantize: out: ${what}`);
  for (const out of outs) {
    const found = await stat(out).catch(() => undefined);
    if (found?.isDirectory()) throw refused(`${out} is a folder; give the path of a file`);
    if (found && !found.isFile()) throw refused(`${out} is no file that can be replaced; give the path of one`);
    if (read.has(resolve(out)) || reals.has(await real(out)))
      throw refused(`${out} is what is read; give another name`);
    if (found && found.size > 0 && !(await isGguf(out)))
      throw refused(`${out} is there and is no GGUF file; remove it, or give another name`);
  }
  const folder = dirname(resolve(outs[0]!));
  if (!(await stat(folder).catch(() => undefined))?.isDirectory())
    throw refused(`there is no folder ${folder} to write into`);
}

async function isGguf(path: string): Promise<boolean> {
  const file = await lazyFiles().open(path, 'r');
  try {
    const { buffer } = await file.read(Buffer.alloc(4), 0, 4, 0);
    return buffer.toString('latin1') === 'GGUF';
  } finally {
    await file.close();
  }
}

/** Types by name; what a file holds as floats and no mix touches stays as it is. */
function typesOf(mix: MixName, contents: Contents, weighted: boolean): Map<string, StoredType> {
  const said = new Metadata(
    'header',
    new Map([...contents.pairs].map(([key, pair]: [string, Pair]) => [key, pair.value])),
  );
  const key = (name: string) => `${contents.architecture}.${name}`;
  const layers = said.count(key('block_count')) ?? 0;
  const first = (name: string): number => (layers === 0 ? 0 : (said.perLayer(key(name), layers)?.[0] ?? 0));
  const heads = first('attention.head_count');
  const sizes: Sizes = {
    architecture: contents.architecture,
    layers,
    experts: said.count(key('expert_count')) ?? 0,
    heads,
    headsKv: said.has(key('attention.head_count_kv')) ? first('attention.head_count_kv') : heads,
    weighted,
  };
  const types = chooseTypes(mix, contents.tensors, sizes);
  if (mainTypeOf(mix) === 'f32') return types;
  for (const { name, from } of contents.tensors) {
    const stored = from instanceof Float32Array ? 'f32' : from.dtype;
    const kept = types.get(name) === 'f32' && contents.rounded !== undefined && (stored === 'f16' || stored === 'bf16');
    if (kept) types.set(name, stored);
  }
  return types;
}

/** Encodes tensor by tensor and measures what is lost. */
class Work {
  private done = 0;
  private readonly total: number;

  constructor(
    tensors: readonly Planned[],
    private readonly options: Pick<QuantizeOptions, 'signal' | 'onProgress'>,
    private readonly weights: Importance | undefined,
    private readonly reports: TensorReport[],
  ) {
    this.total = tensors.reduce((n, t) => n + count(t.shape), 0);
  }

  async *pieces(tensor: Planned): AsyncGenerator<Uint8Array> {
    const { name, shape, from, dtype } = tensor;
    const source = from instanceof Float32Array || isPieced(from) ? from : await readTensorF32(from);
    const columns = shape[shape.length - 1] ?? 1;
    const values = count(shape);
    const step = Math.max(1, Math.floor(PIECE / columns)) * columns;
    const same = !(from instanceof Float32Array) && from.dtype === dtype && isWhole(from);
    const loss = { difference: 0, square: 0 };
    for (let first = 0; first < values; first += step) {
      this.options.signal?.throwIfAborted();
      const wanted = Math.min(step, values - first);
      yield same && isBlocks(dtype)
        ? await copied(from, first, wanted)
        : await this.encoded({ ...tensor, from: source }, first, wanted, columns, loss);
      this.done += wanted;
      this.options.onProgress?.({ tensor: name, values: this.done, totalValues: this.total });
    }
    this.reports.push({
      name,
      shape,
      from: from instanceof Float32Array ? 'computed' : isWhole(from) ? from.dtype : leafType(from),
      type: dtype,
      bytes: byteLength(dtype, values),
      error: loss.square > 0 ? Math.sqrt(loss.difference / loss.square) : 0,
    });
  }

  private async encoded(
    tensor: Planned,
    first: number,
    wanted: number,
    columns: number,
    loss: { difference: number; square: number },
  ): Promise<Uint8Array> {
    const { name, from, dtype } = tensor;
    const values =
      from instanceof Float32Array
        ? from.subarray(first, first + wanted)
        : await readTensorF32(wanted === count(tensor.shape) ? from : valueRange(from, first, wanted));
    checkFinite(values, name);
    if (dtype === 'f32') return bytesOf(values);
    const rows = wanted / columns;
    const { signal } = this.options;
    const importance = isQuantized(dtype) ? this.importance(tensor, columns) : undefined;
    const blocks = await encodeRows(dtype, values, rows, columns, { signal, importance });
    const back = await decodeRows(dtype, blocks, rows, columns, { signal });
    addLoss(values, back, loss);
    return blocks;
  }

  private importance({ sources }: Planned, columns: number): Float32Array | undefined {
    const found = sources.map((name) => this.weights?.get(name));
    const [first] = found;
    return first?.length === columns && found.every((f) => f === first || f?.length === columns) ? first : undefined;
  }
}

const bytesOf = (values: Float32Array): Uint8Array =>
  new Uint8Array(values.buffer, values.byteOffset, values.byteLength);

/** Values that lie in one place, in their order. */
const isWhole = (t: StoredTensor): boolean => !t.strides && !t.rows && !t.parts && !t.derived;

/** Whose rows can be read without the others. */
function isPieced(t: StoredTensor): boolean {
  if (t.parts) return t.parts.every(isPieced);
  return t.derived ? t.derived.range !== undefined && isPieced(t.derived.from) : !t.strides;
}

function leafType(t: StoredTensor): string {
  if (t.derived) return leafType(t.derived.from);
  return t.parts ? leafType(t.parts[0]!) : t.dtype;
}

function copied(t: StoredTensor, first: number, wanted: number): Promise<Uint8Array> {
  const offset = t.offset + storedBytes(t.dtype, first);
  return InputFile.use(t.file, (file) => file.read(offset, storedBytes(t.dtype, wanted), `tensor "${t.name}"`));
}

function checkFinite(values: Float32Array, name: string): void {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i]! - values[i]!; // 0, or NaN where one is not finite
  if (sum !== 0) throw checkpointError('quantize', `tensor ${name}: holds values that are not finite`);
}

function addLoss(values: Float32Array, back: Float32Array, loss: { difference: number; square: number }): void {
  let [difference, square] = [0, 0];
  for (let i = 0; i < values.length; i++) {
    const [x, e] = [values[i]!, values[i]! - back[i]!];
    difference += e * e;
    square += x * x;
  }
  loss.difference += difference;
  loss.square += square;
}
