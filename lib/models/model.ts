import { checkCall } from '../cancellation.js';
import { mismatch, StatespaceError, show } from '../errors.js';
import { filePieces } from '../file-pieces.js';
import { checkContext, countParameters, promptFlops, sessionBytes } from '../graph/cost.js';
import type { Graph, Value } from '../graph/graph.js';
import { lazyFiles } from '../lazy.js';
import { call, type NativeHandle } from '../native.js';
import { checkKnown, checkNone, checkPath } from '../options.js';
import { type BatchEntry, forwardBatch } from '../session/batch.js';
import type { Fed, Network, StepEntry, StepResult, Watch } from '../session/network.js';
import { LONG_TEXT } from '../session/prompt.js';
import { ArrivingSession, restore, restoreAsync, restorePieces } from '../session/restore.js';
import { Session } from '../session/session.js';
import { type DType, Tensor, type TensorLike } from '../tensor.js';
import { fingerprintAfter, fingerprintOf, type WeightFiles } from './fingerprint.js';
import { callable, HeldParameters, type Parameters } from './held.js';
import { readIds, readRows } from './input.js';
import { NativeCalls, type OutputPer } from './native-calls.js';
import type { ResolvedModel } from './registry.js';
import type { TextTokenizer } from './tokenizer.js';

// The engine knows models; a model only makes one.
const lazyElsewhere = (): typeof import('./encode-elsewhere.js') => require('./encode-elsewhere.js');
const lazySave = (): typeof import('../training/save.js') => require('../training/save.js');
const lazyEngine = (): typeof import('../engine/engine.js') => require('../engine/engine.js');

interface Opening {
  config: Record<string, unknown>;
  generationConfig?: Record<string, unknown>;
  tokenizer?: TextTokenizer | undefined;
  identity: string;
  /** Where it was loaded from: its tokenizer's files lie there. */
  folder?: string;
  /** Or the GGUF file that has its tokenizer. */
  gguf?: string;
  /** The model holds the folder's values themselves: none was rounded, no adapters merged. */
  asStored?: boolean;
  /** Where the weights came from, of which `identity` sees a part. */
  files?: WeightFiles;
}

/** What a model was built from: enough to build its graph again, held in another type. */
export interface Blueprint {
  graph: Graph;
  output: Value;
  resolved: ResolvedModel;
  rebuild(dtype: DType): { graph: Graph; output: Value };
  /** Values of tensors that the weights hold only something computed of. */
  originals: Map<string, Float32Array>;
  /** Adapters stand beside its matrices. */
  adapted?: boolean;
  /** Activations are not rounded to int8. */
  exact?: boolean;
}

/** A network with its weights. Sessions of it, and several models, run side by side. */
export class Model implements AsyncDisposable, Network {
  /** The model_type that its config has. */
  readonly modelType: string;
  /**
   * Numbers of parameters; active: those that one token uses (of experts, the chosen ones). Called, it gives copies of them
   * all, f32, by their names in the checkpoint.
   */
  readonly parameters: Parameters;
  /** @internal */
  readonly outputFeatures: number;
  /** @internal Values of one input row: 1 for token ids. */
  readonly inputWidth: number;
  /** Ids below this can be sampled; above it, embeddings are padding. */
  readonly vocabSize: number;
  /** Of the folder's tokenizer.json, tokenizer.model or rwkv_vocab_*.txt, or of the GGUF file; absent where there is none. */
  declare readonly tokenizer?: TextTokenizer;
  #config: Readonly<Record<string, unknown>> = {};
  #fingerprint: Uint8Array = new Uint8Array(32);
  #files: WeightFiles | undefined;
  #eos: number[] = [];
  #folder: string | undefined;
  #companions: string | undefined;
  #gguf: string | undefined;
  #asStored = false;
  readonly #calls: NativeCalls;
  readonly #held: HeldParameters;
  readonly #graph: Graph;
  readonly #features: number;
  readonly #outputPer: OutputPer;

  /** @internal Made by loadModel() and createModel(). */
  constructor(
    handle: NativeHandle,
    /** @internal */
    readonly blueprint: Blueprint,
  ) {
    const { resolved, graph, originals } = blueprint;
    const info = call((n) => n.modelInfo(handle));
    const input = graph.values.find((v) => v.kind === 'input');
    this.#calls = new NativeCalls(handle, graph, info);
    this.#graph = graph;
    this.#features = input ? (input.dims[1] as number) : 0;
    this.#outputPer = info.outputPer;
    this.modelType = resolved.modelType;
    this.#held = new HeldParameters(graph, () => this.#calls.native, originals);
    this.parameters = callable(countParameters(graph), () => this.#held.all());
    this.inputWidth = Math.max(1, this.#features);
    this.outputFeatures = info.outputFeatures;
    this.vocabSize = resolved.definition.vocabSize?.(resolved.config) ?? info.outputFeatures;
  }

  /** @internal */
  open(o: Opening): this {
    this.#config = Object.freeze({ ...o.config });
    if (o.tokenizer) Object.defineProperty(this, 'tokenizer', { value: o.tokenizer, enumerable: true });
    this.#folder = o.folder;
    this.#gguf = o.gguf;
    this.#asStored = o.asStored ?? false;
    this.#files = o.files;
    this.#fingerprint = fingerprintOf(this.modelType, o.identity, this.#graph, o.config);
    const eos = o.generationConfig?.eos_token_id ?? o.config.eos_token_id ?? [];
    this.#eos = (Array.isArray(eos) ? eos : [eos]).filter((t): t is number => Number.isInteger(t));
    return this;
  }

  /** What config.json holds, or what createModel() was given. */
  get config(): Readonly<Record<string, unknown>> {
    return this.#config;
  }
  /** @internal The folder or GGUF file that another thread can read its tokenizer from. */
  get tokenizerIn(): string | undefined {
    return this.#folder ?? this.#gguf;
  }
  /** @internal */
  encodeLong(text: string, first: boolean): Promise<Int32Array> | undefined {
    const folder = this.tokenizerIn;
    if (text.length <= LONG_TEXT || !folder || !this.tokenizer) return undefined;
    return lazyElsewhere().encodeElsewhere({ folder, text, first });
  }
  /** @internal Where the files of its tokenizer lie that are saved with it. */
  get companions(): string | undefined {
    return this.#companions ?? this.#folder;
  }
  /** @internal Its tokenizer's files are those of a folder, which has none of its values. */
  takeFilesOf(folder: string): void {
    this.#companions = folder;
  }
  /** @internal The folder that has the values of all tensors as the model has them now, if there is one. */
  get storedIn(): string | undefined {
    return this.#asStored ? this.#folder : undefined;
  }
  /** @internal Another object from the moment on that its weights have other values. */
  get fingerprint(): Uint8Array {
    return this.#fingerprint;
  }
  /** @internal What it was loaded from, if from files. */
  get files(): WeightFiles | undefined {
    return this.#files;
  }
  /** @internal Of a row that is read in place of an id; 0: ids. */
  get features(): number {
    return this.#features;
  }
  /** @internal */
  get hasLogits(): boolean {
    return this.#outputPer === 'output' && this.#features === 0;
  }
  /** @internal FLOPs of the first so many tokens in one call. */
  promptFlops(tokens: number): number {
    return promptFlops(this.#graph, tokens);
  }
  /** @internal */
  get heldType(): string {
    return this.#graph.dtype;
  }
  /** @internal */
  newSession(): NativeHandle {
    return call((n) => n.createSession(this.#calls.native));
  }
  /** @internal */
  get eosTokens(): readonly number[] {
    return this.#eos;
  }
  /** @internal */
  get disposed(): boolean {
    return this.#calls.disposed;
  }
  /** @internal Names and shapes of what parameters() gives. */
  get parameterList(): HeldParameters['list'] {
    return this.#held.list;
  }

  /** @internal See HeldParameters.seed(). */
  seedTrainer(trainer: NativeHandle, numbers: ReadonlyMap<string, number>): Promise<Map<string, Float32Array>> {
    return this.#held.seed(trainer, numbers);
  }

  /**
   * A copy of one tensor, f32, by its name in the checkpoint; ERR_ARGUMENT where there is none of this name. 64-bit integers
   * (Qwen4's n-grams) are four words of 16 bits each, lowest first: (…, 4).
   */
  async getParameter(name: string): Promise<Tensor> {
    this.#calls.native; // ERR_DISPOSED
    return this.#held.read(name);
  }

  /**
   * Gives tensors new values, by their names in the checkpoint: some, or all as trainer.parameters() gives them, each rounded
   * to the type that its matrix is held in. Forwards that run end first, later ones wait. Sessions keep the state that the old values made; snapshots taken before are another
   * model's.
   *
   * @throws StatespaceError ERR_ARGUMENT for a name that the model does not have, ERR_SHAPE, ERR_DISPOSED; nothing has changed then.
   */
  async setParameters(parameters: ReadonlyMap<string, TensorLike>): Promise<void> {
    return this.#calls.change(async (others) => {
      const { entries, commit } = await this.#held.replace(parameters);
      const old = this.#fingerprint;
      const other = await fingerprintAfter(old, entries);
      await others();
      this.#asStored = false;
      this.#fingerprint = other; // before any forward with the new values
      try {
        await call((n) => n.loadWeights(this.#calls.native, [], entries, 0, new Int32Array(1)));
      } catch (error) {
        this.#fingerprint = old;
        throw error;
      }
      commit();
    });
  }

  /** Writes a folder in Hugging Face's layout, as saveModel() does. */
  save(folder: string, options?: Readonly<Record<never, never>>): Promise<void> {
    return lazySave().saveModel(this, folder, options);
  }

  /** Bytes that a session holds after `context` tokens: recurrent state, KV cache (whole pages), both. */
  sessionBytes(context: number): { state: number; kvCache: number; total: number } {
    return sessionBytes(this.#graph, checkContext('sessionBytes', context));
  }

  /** A new sequence, of which nothing is known yet. It takes no options: what a session holds grows with what it reads. */
  createSession(options?: Readonly<Record<never, never>>): Session {
    checkNone('createSession', options);
    return new Session(this, this.newSession());
  }

  /** Serves many requests together: see docs/serving.md. */
  createEngine(options?: import('../engine/options.js').EngineOptions): import('../engine/engine.js').Engine {
    return lazyEngine().createEngine(this, options);
  }

  /** A session from what save() returned; ERR_STATE for damaged bytes or another model's. */
  restoreSession(snapshot: Uint8Array, options?: Readonly<Record<never, never>>): Session {
    checkNone('restoreSession', options);
    return restore(this, this.embeddingRows, snapshot);
  }

  /** As restoreSession(), off the event loop; the bytes must stay as they are until it has ended. */
  async restoreSessionAsync(snapshot: Uint8Array, options?: Readonly<Record<never, never>>): Promise<Session> {
    checkNone('restoreSessionAsync', options);
    return restoreAsync(this, this.embeddingRows, snapshot);
  }

  /** @internal Makes the memory of a KV cache of so many tokens ready, of at most so many bytes. */
  async preparePages(tokens: number, bytes: number): Promise<void> {
    const page = this.sessionBytes(1).kvCache;
    if (page === 0) return;
    const pages = Math.floor(Math.min(this.sessionBytes(tokens).kvCache, bytes) / page);
    await call((n) => n.preparePages(this.#calls.native, pages));
  }

  /** @internal What takes a snapshot of so many bytes in pieces. */
  arrivingSession(bytes: number): ArrivingSession {
    return new ArrivingSession(this, this.embeddingRows, bytes);
  }

  /** A session from a file that saveToFile() wrote; ERR_STATE for any other, or the file system's error. */
  async restoreSessionFromFile(path: string, options?: Readonly<Record<never, never>>): Promise<Session> {
    checkNone('restoreSessionFromFile', options);
    checkPath('restoreSessionFromFile: path', path);
    // Opening a pipe would wait for its writer.
    if (!(await lazyFiles().stat(path)).isFile()) throw mismatch('ERR_STATE', path, 'a regular file', 'something else');
    const { bytes, pieces } = await filePieces(path);
    return restorePieces(this.arrivingSession(bytes), pieces);
  }

  /** Networks without an embedding: x (B, L, features) to (B, L, outputs), or (B, outputs) where the network pools. */
  async run(x: TensorLike, options: { signal?: AbortSignal | undefined } = {}): Promise<Tensor> {
    const { native } = this.#calls;
    checkCall('run', options);
    checkKnown('run', options, ['signal']);
    if (this.#features === 0)
      throw new StatespaceError('ERR_ARGUMENT', 'run: this model reads token ids; use createSession().forward()');
    const shape = x?.shape;
    if (!Array.isArray(shape)) throw mismatch('ERR_ARGUMENT', 'run: x', 'a tensor', show(x));
    if (shape.length !== 3 || shape[2] !== this.#features) {
      throw mismatch('ERR_SHAPE', 'run: x', `shape (B, L, ${this.#features})`, `(${shape.join(', ')})`);
    }
    const [batch, length] = shape as [number, number, number];
    const data = new Tensor(x.data, shape, x.dtype).toFloat32Array();
    const out = this.#outputPer === 'sequence' ? [batch, this.outputFeatures] : [batch, length, this.outputFeatures];
    if (batch === 0) return new Tensor(new Float32Array(0), out);
    const sessions = Array.from({ length: batch }, () => call((n) => n.createSession(native)));
    try {
      const rows = await this.forward(
        sessions,
        data,
        new Array(batch).fill(length),
        new Array(batch).fill('whole'),
        options,
      );
      return new Tensor(rows, out);
    } finally {
      for (const s of sessions) call((n) => n.dispose(s));
    }
  }

  /**
   * Feeds several sessions of this model in one packed pass, prompts and single tokens mixed: the weights are read once
   * for all. Returns a tensor of logits for each entry, as Session.forward() would. All or nothing: when one entry is
   * wrong, or the call is aborted or fails, every session is as it was.
   *
   * @throws StatespaceError ERR_ARGUMENT for a session of another model, one given twice, or bad tokens; ERR_DISPOSED.
   */
  forwardBatch(
    entries: readonly BatchEntry[],
    options: { signal?: AbortSignal | undefined; onProgress?: ((tokensDone: number) => void) | undefined } = {},
  ): Promise<Tensor[]> {
    return forwardBatch(this, entries, options);
  }

  /** @internal Rows of output that a sequence of this length gives. */
  outputRows(logits: 'none' | 'last' | 'all' | 'whole', length: number): number {
    return this.#calls.outputRows(logits, length);
  }

  /** @internal Ids that can be fed lie below it; 0 where none can. */
  get embeddingRows(): number {
    return (this.#graph.nodes.find((n) => n.op.name === 'embedding')?.inputs.weight?.dims[0] as number) ?? 0;
  }

  /** @internal Checks what a call was given as `where` and makes it an array that native code reads. */
  readInput(tokens: ArrayLike<number> | TensorLike, where = 'forward: tokens'): Int32Array | Float32Array {
    return this.#features > 0 ? readRows(tokens, this.#features) : readIds(tokens, this.embeddingRows, where);
  }

  /** @internal One native call; dispose() cancels it and waits. */
  forward(...fed: [...Fed, out?: Float32Array]): Promise<Float32Array> {
    return this.#calls.forward(...fed);
  }

  /** @internal The same, each session's rows in memory of their own. */
  forwardApart(...fed: Fed): Promise<Float32Array[]> {
    return this.#calls.forwardApart(...fed);
  }

  /** @internal One native call for many sequences and the tokens that follow; see Network.step(). */
  step(entries: readonly StepEntry[], options: Pick<Watch, 'signal'>): Promise<StepResult[]> {
    return this.#calls.step(entries, options);
  }

  /** Cancels what runs (ERR_DISPOSED there) and frees the weights. */
  dispose(): Promise<void> {
    return this.#calls.dispose();
  }
  /** As dispose(), for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }
}
