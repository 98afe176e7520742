import { join } from 'node:path';
import type { DType, StoredType } from './dtype.js';
import { type ErrorCode, StatespaceError } from './errors.js';
import { checkWhole, explainLoadFailure, olderNode } from './load-failure.js';

type BlocksCall<From, To> = [
  type: StoredType,
  from: From,
  rows: number,
  columns: number,
  to: To,
  importance: Float32Array | undefined,
  cancel: Int32Array,
  onProgress: ((values: number) => void) | undefined,
];

/** What every forward is given. */
type ForwardCall = [
  sessions: NativeHandle[],
  data: Int32Array | Float32Array,
  lengths: Int32Array,
  logits: ('none' | 'last' | 'all' | 'whole' | 'hidden')[],
  cancel: Int32Array,
  onProgress: ((tokens: number) => void) | undefined,
];

/** A tensor as the addon takes it: no defaults, no checks but those that memory safety needs. */
export interface NativeTensor {
  data: Float32Array | Int32Array | Uint16Array | Uint8Array;
  shape: readonly number[];
  dtype: DType;
  /** Of a state: what it begins with, null for zeros; absent: with what it holds. */
  initial?: NativeTensor | null;
}

export type NativeHandle = { readonly __native: unique symbol };

/** Where a weight's values come from: parts laid end to end, or random values in [-bound, bound). */
export type WeightEntry =
  | {
      value: number;
      parts: (
        | {
            file: number;
            offset: number;
            count: number;
            dtype: StoredType;
            /** Which of the rows at `offset` each row is; undefined: they lie in order. */
            rows?: Int32Array;
          }
        | { data: Float32Array }
      )[];
    }
  | { value: number; bound: number };

export type InitialSystem = 'hippo' | 'lin' | 'inv' | 'legs' | 'real';

/** How a trainer's parameters become the weights of its graph; native/program/trainer.h says what the fields mean. */
export interface TrainerLayout {
  parameters: { count: number; decayed: boolean; trained: boolean }[];
  weights: {
    value: number;
    map: 'copy' | 'negativeExp' | 'gather' | 'constant' | 'terms';
    parts: { parameter: number; first: number; count: number }[];
    starts?: Int32Array;
    index?: Int32Array;
    factors?: Float32Array;
    constants?: Float32Array;
    gradients: number[];
  }[];
  adapters: { base: number; a: number; b: number; rows: number; columns: number; rank: number; scale: number }[];
  loss: number;
  /** -1: none. */
  divisor: number;
  dloss: number;
  bySequence: boolean;
  targetWidth: number;
}

/** Values [first, first + count) of a parameter lie in a weight of the model, the value of its graph, from `at` on. */
export interface TrainerSource {
  parameter: number;
  first: number;
  count: number;
  value: number;
  at: number;
}

export interface TrainerValues {
  parameter: number;
  /** merged: what weights are made of, with its adapter. */
  which: 'value' | 'gradient' | 'mean' | 'square' | 'merged';
  data: Float32Array;
}

/** Some sequences of a batch. */
export interface TrainingPart {
  ids?: Int32Array;
  /** In place of ids: rows. */
  input?: Float32Array;
  /** Ids, or the bits of f32 numbers: one entry, or as many as targetWidth says, for each row that the network gives. */
  targets: Int32Array;
  cuSeqlens: Int32Array;
  /** Targets that count. */
  counted: number;
}

export interface AdamW {
  learningRate: number;
  beta1: number;
  beta2: number;
  eps: number;
  weightDecay: number;
  maxGradNorm: number;
  t: number;
}

export interface NativeBinding {
  cpuInfo(): { model: string; cores: number; isa: string; available: string[] };
  cudaInfo(): {
    available: boolean;
    reason?: string;
    devices: { name: string; computeCapability: string; memoryBytes: number }[];
  };
  /** What a model of this device option runs on, or without it what ops do. */
  backendName(device?: 'auto' | 'cpu' | 'cuda'): string;
  /** Where the CUDA library lies, unless the environment's STATESPACE_CUDA_LIBRARY says otherwise. */
  setCudaLibrary(path: string): void;
  /** How many compute threads there are, and why not as many as were asked for. */
  threads(): { count: number; shortage?: string };
  setThreads(count: number): void;
  /** Operations a second in registers, one a sample; none where the machine lacks the instruction. Blocks. */
  computeRates(kind: 'multiplyAdd' | 'dotBf16', threads: 'one' | 'all', seconds: number, samples: number): number[];
  /** Bytes a second through buffers of this size, one a sample. Blocks. */
  memoryRates(bytes: number, samples: number): Record<'read' | 'copy', Record<'one' | 'all', number[]>>;

  /**
   * A buffer of whatever content, in memory that was used before, or of zeros; undefined where the runtime had better
   * make it.
   */
  outputMemory(bytes: number, zeros?: boolean): ArrayBuffer | undefined;
  /** Has V8 collect young buffers where they hold much, and hear of memory that was given back. */
  collectDropped(): void;
  /** Gives a buffer's memory back; its views become empty. A running job keeps the memory until it ends. */
  detach(buffer: ArrayBufferLike): void;
  describeOps(): string;
  runOp(name: string, tensors: Record<string, NativeTensor>, attrs: Record<string, unknown>, sync: true): void;
  runOp(
    name: string,
    tensors: Record<string, NativeTensor>,
    attrs: Record<string, unknown>,
    sync: false,
    host?: boolean,
    cancel?: Int32Array,
  ): Promise<void>;
  /** The first of `outs` whose memory overlaps another's or one of the others', as indices into both lists end to end. */
  overlap(outs: ArrayBufferView[], others: ArrayBufferView[]): [number, number] | undefined;
  /** Writes values of one float type as another, one of the two f32, or those of any type as they are. */
  convert(from: ArrayBufferView, dtype: DType, to: ArrayBufferView, toDtype: DType, sync: true): void;
  convert(from: ArrayBufferView, dtype: DType, to: ArrayBufferView, toDtype: DType, sync: false): Promise<void>;

  /** Fills A and B of hippo (N, N), (N) or s4dInit (N/2, 2) twice, there or off the event loop. */
  initialSystem(kind: InitialSystem, N: number, A: NativeTensor, B: NativeTensor, sync: true): void;
  initialSystem(
    kind: InitialSystem,
    N: number,
    A: NativeTensor,
    B: NativeTensor,
    sync: false,
    cancel?: Int32Array,
  ): Promise<void>;

  describeTypes(): {
    name: string;
    block: number;
    bytes: number;
    held: boolean;
    onDevice: boolean;
    encoded: boolean;
    /** Its values are q4_0's exactly, few multiples of one scale: products read them as such. */
    withinQ4_0: boolean;
  }[];
  /** Rows of whole blocks in `from` as f32 in `to`. Neither may change until the promise settles. */
  decodeBlocks(...call: BlocksCall<Uint8Array, Float32Array>): Promise<void>;
  decodeBlocks(...call: [...BlocksCall<Uint8Array, Float32Array>, sync: true]): void;
  /** The way back; importance: a weight of a column's squared error where scales are searched. */
  encodeBlocks(...call: BlocksCall<Float32Array, Uint8Array>): Promise<void>;
  encodeBlocks(...call: [...BlocksCall<Float32Array, Uint8Array>, sync: true]): void;

  /** exact: products round no activations. */
  buildModel(graph: Uint8Array, device: 'auto' | 'cpu' | 'cuda', exact?: boolean): NativeHandle;
  loadWeights(
    model: NativeHandle,
    files: string[],
    entries: WeightEntry[],
    seed: number,
    cancel: Int32Array,
    onProgress?: (bytes: number) => void,
  ): Promise<number>;
  /** Writes the values of a weight as it is held. */
  readWeight(model: NativeHandle, value: number, to: Float32Array): Promise<void>;
  /** Whether another model of this process, of whatever thread, holds the weights of this key; this one then does too. */
  adoptWeights(model: NativeHandle, key: string): boolean;
  publishWeights(model: NativeHandle, key: string): void;
  modelInfo(model: NativeHandle): {
    backend: string;
    stateBytes: number;
    pageBytes: number;
    pageTokens: number;
    tokenBytes: number;
    weightBytes: number;
    chunkTokens: number;
    outputFeatures: number;
    outputPer: 'token' | 'output' | 'sequence';
  };
  /** Touches the memory of as many pages of KV caches before sessions take them. */
  preparePages(model: NativeHandle, pages: number): Promise<void>;
  createSession(model: NativeHandle): NativeHandle;
  forkSession(session: NativeHandle): NativeHandle;
  sessionInfo(session: NativeHandle): { position: number; bytes: number };
  /** Tokens so far, from a position on. */
  sessionTokens(session: NativeHandle, from: number): Int32Array;
  /** The logits after the last token, where they were asked for. */
  sessionRow(session: NativeHandle): Float32Array | undefined;
  /** A token of the sequence that the next forward reads first. */
  setPending(session: NativeHandle, token: number): void;
  /** What a restored session goes on from besides its state; pending: -1 for none. */
  rememberSession(session: NativeHandle, tokens: Int32Array, row: Float32Array | undefined, pending: number): void;
  /** Bytes of state, values of the row and number of tokens that exportSession() writes. */
  exportSizes(
    session: NativeHandle,
    withRow: boolean,
  ): { position: number; pending: number; state: number; row: number; tokens: number };
  /**
   * Writes them behind `head`, and a digest of the snapshot, which begins at `from` in it, at the end. Not sync: of the
   * session as it is now.
   */
  exportSession(
    ...call: [session: NativeHandle, withRow: boolean, to: Uint8Array, head: Uint8Array, from: number, sync: true]
  ): void;
  exportSession(
    ...call: [session: NativeHandle, withRow: boolean, to: Uint8Array, head: Uint8Array, from: number, sync: false]
  ): Promise<void>;
  /** Gives the same in pieces: a snapshot of so many bytes, `head` and digest included, of the session as it is now. */
  openExport(session: NativeHandle, withRow: boolean, head: Uint8Array, from: number, size: number): NativeHandle;
  /** Fills `to` with the next bytes; how many there were, less than it holds only at the end. */
  exportPiece(leaving: NativeHandle, to: Uint8Array): Promise<number>;
  closeExport(leaving: NativeHandle): void;
  /** Takes a snapshot of `size` digested bytes, in pieces, on its way into a session: `state` bytes from `begin` on. */
  openImport(session: NativeHandle, state: number, position: number, begin: number, size: number): NativeHandle;
  importPiece(arriving: NativeHandle, bytes: Uint8Array, sync: true): void;
  importPiece(arriving: NativeHandle, bytes: Uint8Array, sync: false): Promise<void>;
  /** The session is what has come, where that has this digest; false where it has not. Ends the import. */
  closeImport(arriving: NativeHandle, session: NativeHandle, digest: Uint8Array): boolean;
  /** 32 bytes that differ when the bytes do. */
  digest(bytes: Uint8Array, sync: true): Uint8Array;
  digest(bytes: Uint8Array, sync: false): Promise<Uint8Array>;
  createSampler(options: Record<string, unknown>): NativeHandle;
  /** The next token of a row that was changed by hand. */
  sampleRow(sampler: NativeHandle, session: NativeHandle, row: Float32Array): number;
  forward(...call: [...ForwardCall, samplers: undefined, masks: undefined, out?: Float32Array]): Promise<Float32Array>;
  /** The same, each session's rows in an array of their own. */
  forward(...call: [...ForwardCall, samplers: undefined, masks: undefined, apart: true]): Promise<Float32Array[]>;
  forward(
    ...call: [...ForwardCall, samplers: (NativeHandle | undefined)[], masks: (Int32Array | undefined)[], apart: true]
  ): Promise<{
    rows: Float32Array[];
    tokens: Int32Array;
    logprobs: Float32Array;
    alternatives: ({ token: number; logprob: number }[] | undefined)[];
  }>;
  /** Of a model: resolves when its memory is free. */
  dispose(handle: NativeHandle): Promise<void> | undefined;

  /** A network that is trained; both graphs have the same values as far as both go. */
  buildTrainer(training: Uint8Array, evaluation: Uint8Array, layout: TrainerLayout): Promise<NativeHandle>;
  /** Parameters from where a model holds them; writeTrainer() must follow. */
  seedTrainer(trainer: NativeHandle, model: NativeHandle, sources: TrainerSource[]): Promise<void>;
  readTrainer(trainer: NativeHandle, entries: TrainerValues[]): Promise<void>;
  writeTrainer(trainer: NativeHandle, entries: TrainerValues[]): Promise<void>;
  /** step: gradients, and an update unless loss or norm are no numbers. */
  runTrainer(
    trainer: NativeHandle,
    parts: TrainingPart[],
    mode: 'evaluate' | 'gradients' | 'step',
    adamW: AdamW,
    cancel: Int32Array,
  ): Promise<{ loss: number; gradNorm: number; updated: boolean }>;
  /** Resolves when its memory is free. */
  disposeTrainer(trainer: NativeHandle): Promise<void>;
}

let binding: NativeBinding | undefined;

/** The addon, loaded at its first use. ERR_DEVICE, with what to do about it, where it cannot be. */
export function native(): NativeBinding {
  if (!binding) {
    // A bundler may leave no __dirname, and takes node-gyp-build along, or not.
    const root = typeof __dirname === 'string' ? join(__dirname, '..', '..') : '';
    try {
      const find = require('node-gyp-build') as { resolve(root: string): string };
      const file = find.resolve(root);
      checkWhole(file);
      binding = require(file) as NativeBinding;
    } catch (error) {
      throw explainLoadFailure(error, root);
    }
    const { engines } = require(join(root, 'package.json')) as { engines: { node: string } };
    const older = olderNode(process.versions.node, engines.node);
    if (older) process.emitWarning(older, { code: 'STATESPACE_NODE' });
    const library = cudaLibrary();
    if (library) binding.setCudaLibrary(library);
  }
  return binding;
}

/** The library of the package that holds the CUDA kernels, where it is installed. */
function cudaLibrary(): string | undefined {
  try {
    return require.resolve(`statespace-cuda-${process.platform}-${process.arch}`);
  } catch {
    return undefined;
  }
}

/** A failure of the addon as a StatespaceError; anything else as it is. */
export function typed(error: unknown): unknown {
  const code = (error as { code?: unknown })?.code;
  if (error instanceof StatespaceError || typeof code !== 'string' || !code.startsWith('ERR_')) return error;
  return new StatespaceError(code as ErrorCode, (error as Error).message);
}

/** Calls the addon; its failures become StatespaceErrors. */
export function call<T>(fn: (n: NativeBinding) => T): T {
  try {
    const result = fn(native());
    // By its looks: the addon's promises are of Node's own realm, which a test runner's or vm context's is not.
    const pending = result as { then?: unknown; catch?(handler: (error: unknown) => never): T } | undefined;
    if (typeof pending?.then !== 'function') return result;
    return pending.catch!((error) => {
      throw typed(error);
    });
  } catch (error) {
    throw typed(error);
  }
}
