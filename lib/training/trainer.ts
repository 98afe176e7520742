import { Cancellation, checkCall, unlessAborted } from '../cancellation.js';
import { turned } from '../checkpoint/pieces.js';
import { StatespaceError, show } from '../errors.js';
import { allocated, floats } from '../memory.js';
import { Model } from '../models/model.js';
import { call, type NativeHandle, type TrainerValues, type TrainingPart } from '../native.js';
import { checkKnown, checkNone, checkPath } from '../options.js';
import { Tensor } from '../tensor.js';
import { Turns } from '../turns.js';
import { readBatch } from './batch.js';
import type { Batch } from './given.js';
import { type Trained, type TrainedNetwork, trainedNetwork } from './network.js';
import { learningRateAt, type ReadOptions, readOptions, type StepReport, type TrainerOptions } from './options.js';
import { checkMerged } from './save.js';
import { saveTrainer } from './save-trainer.js';

/** A model being trained: see createTrainer(). Calls wait for each other. */
export interface Trainer extends AsyncDisposable {
  /** The model that it began with, which stays as it is: `model.setParameters(await trainer.parameters())` brings it up to date. */
  readonly model: Model;
  /** Steps that were taken. */
  readonly steps: number;
  /** JSON that save() keeps and resumeTrainer() brings back: a history, a place in the data. */
  readonly notes: Record<string, unknown>;
  /**
   * One step of AdamW on a batch, or on several that count as one. Aborted, or with a loss or gradient that is no finite
   * number, it changes nothing.
   */
  step(batch: Batch | readonly Batch[], options?: { signal?: AbortSignal | undefined }): Promise<StepReport>;
  /** The loss and its gradients by the names of the checkpoint (of adapters, by peft's); nothing is changed. */
  gradients(
    batch: Batch | readonly Batch[],
    options?: { signal?: AbortSignal | undefined },
  ): Promise<{ loss: number; gradients: ReadonlyMap<string, Tensor> }>;
  /** Copies of all tensors by their names in the checkpoint, adapters merged. */
  parameters(): Promise<ReadonlyMap<string, Tensor>>;
  /** The loss alone: no gradients, and the memory of a forward. */
  evaluate(batch: Batch | readonly Batch[], options?: { signal?: AbortSignal | undefined }): Promise<{ loss: number }>;
  /**
   * Writes a folder that loadModel(), transformers and resumeTrainer() read: config.json, model.safetensors in f32, the
   * tokenizer's files, optimizer.safetensors and trainer.json. With adapters: adapter_config.json and
   * adapter_model.safetensors in peft's format in place of the model. It is replaced as a whole.
   */
  save(folder: string, options?: Readonly<Record<never, never>>): Promise<void>;
  /** Frees its memory when what runs has ended. */
  dispose(): Promise<void>;
}

/** Values that are drawn without a look at the clock. */
const DRAWN = 1 << 14;

const size = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

async function asPeft({ table, shape }: Trained, values: Float32Array): Promise<Tensor> {
  const [rows, columns] = shape as [number, number];
  return table ? new Tensor(await turned(values, rows, columns), [columns, rows]) : new Tensor(values, shape);
}

export class TrainerState implements Trainer {
  steps = 0;
  readonly notes: Record<string, unknown> = {};
  /** Of adapters: the folder whose tensors they add to, if one has them as the trainer does. */
  base: string | undefined;
  #handle: NativeHandle | undefined;
  #queue: Promise<unknown>;
  #disposed = false;

  constructor(
    readonly model: Model,
    readonly options: ReadOptions,
    private readonly network: TrainedNetwork,
    begin?: (trainer: TrainerState) => Promise<void>,
  ) {
    this.#queue = this.#start(begin);
    this.#queue.catch(() => {}); // whoever calls first hears of it
  }

  get trained(): TrainedNetwork {
    return this.network;
  }

  async #start(begin?: (trainer: TrainerState) => Promise<void>): Promise<void> {
    const { training, evaluation, layout } = await this.network.encoded();
    this.#handle = await call((n) => n.buildTrainer(training, evaluation, layout));
    const numbers = new Map(this.network.parameters.map((p, i) => [p.name, i]));
    const rest = await this.model.seedTrainer(this.#handle, numbers);
    this.base = this.model.storedIn;
    const turns = new Turns();
    const entries: TrainerValues[] = [];
    for (const [parameter, p] of this.network.parameters.entries()) {
      const data = rest.get(p.name) ?? (await this.#firstOf(p, turns));
      if (data) entries.push({ parameter, which: 'value', data });
    }
    await call((n) => n.writeTrainer(this.#handle!, entries));
    await begin?.(this);
  }

  /** Of an adapter: A as peft draws it, in ±1/√columns; B stays 0. */
  async #firstOf(p: Trained, turns: Turns): Promise<Float32Array | undefined> {
    if (p.half !== 'A') return undefined;
    const values = allocated('createTrainer: lora', () => floats(size(p.shape)));
    const bound = 1 / Math.sqrt(p.shape[1]!);
    let state = this.options.seed >>> 0;
    for (const c of p.name) state = (Math.imul(state ^ c.charCodeAt(0), 0x01000193) + 0x9e3779b9) >>> 0;
    for (let i = 0; i < values.length; i++) {
      state = (state + 0x6d2b79f5) >>> 0;
      let t = Math.imul(state ^ (state >>> 15), state | 1);
      t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
      values[i] = bound * (((t ^ (t >>> 14)) >>> 0) / 2 ** 31 - 1);
      const pause = (i + 1) % DRAWN === 0 ? turns.due() : undefined;
      if (pause) await pause;
    }
    return values;
  }

  /** Runs work when all that was asked for before has ended. */
  exclusive<T>(work: (handle: NativeHandle) => Promise<T>, signal?: AbortSignal): Promise<T> {
    if (this.#disposed) return Promise.reject(new StatespaceError('ERR_DISPOSED', 'trainer: it has been disposed of'));
    const before = this.#queue;
    const result = (async () => {
      await unlessAborted(signal, before);
      if (!this.#handle) throw new StatespaceError('ERR_DISPOSED', 'trainer: it has been disposed of');
      return work(this.#handle);
    })();
    // A call that fails leaves the trainer as it was; one that never came to be stays so.
    this.#queue = result.then(
      () => {},
      () => before,
    );
    this.#queue.catch(() => {});
    return result;
  }

  #parts(op: string, batch: Batch | readonly Batch[]): TrainingPart[] {
    const batches = Array.isArray(batch) ? (batch as readonly Batch[]) : [batch as Batch];
    if (batches.length === 0) throw new StatespaceError('ERR_ARGUMENT', `${op}: batch: expected one at least`);
    return batches.flatMap((b) => readBatch(op, b, this.options.accumulate, this.network.reading));
  }

  async #run(
    op: 'step' | 'gradients' | 'evaluate',
    batch: Batch | readonly Batch[],
    options: { signal?: AbortSignal | undefined },
  ) {
    checkCall(op, options);
    checkKnown(op, options, ['signal']);
    const parts = this.#parts(op, batch);
    const cancellation = new Cancellation(options.signal);
    return this.exclusive(async (handle) => {
      const t = this.steps + 1;
      const { betas, eps, weightDecay, maxGradNorm } = this.options;
      const learningRate = learningRateAt(this.options, t);
      const adamW = { learningRate, beta1: betas[0], beta2: betas[1], eps, weightDecay, maxGradNorm, t };
      const begin = performance.now();
      const result = await cancellation.run(() =>
        call((n) => n.runTrainer(handle, parts, op, adamW, cancellation.flag)),
      );
      if (result.updated) this.steps = t;
      const gradients = op === 'gradients' ? await this.read('gradient', (p) => p.trained) : undefined;
      const tokens = parts.reduce((sum, p) => sum + p.cuSeqlens.at(-1)!, 0);
      const tokensPerSecond = (1000 * tokens) / (performance.now() - begin);
      return { ...result, gradients, learningRate, tokens, tokensPerSecond, step: this.steps };
    }, options.signal);
  }

  async step(batch: Batch | readonly Batch[], options: { signal?: AbortSignal | undefined } = {}): Promise<StepReport> {
    const { loss, gradNorm, tokens, step, learningRate, tokensPerSecond, updated } = await this.#run(
      'step',
      batch,
      options,
    );
    const report = { loss, gradNorm, tokens, step, learningRate, tokensPerSecond };
    const what = Number.isFinite(loss) ? `the norm of the gradients is ${gradNorm}` : `the loss is ${loss}`;
    const told: StepReport = updated ? report : { ...report, skipped: `${what}: nothing was changed` };
    await this.options.onStep?.(told);
    return told;
  }

  async gradients(batch: Batch | readonly Batch[], options: { signal?: AbortSignal | undefined } = {}) {
    const { loss, gradients } = await this.#run('gradients', batch, options);
    return { loss, gradients: gradients! };
  }

  async evaluate(batch: Batch | readonly Batch[], options: { signal?: AbortSignal | undefined } = {}) {
    const { loss } = await this.#run('evaluate', batch, options);
    return { loss };
  }

  parameters(): Promise<ReadonlyMap<string, Tensor>> {
    return this.exclusive(() => this.read('merged', (p) => !p.base));
  }

  /** From within exclusive(). */
  async read(
    which: 'value' | 'gradient' | 'mean' | 'square' | 'merged',
    of: (p: Trained) => boolean,
  ): Promise<Map<string, Tensor>> {
    const chosen = this.network.parameters.flatMap((p, parameter) => (of(p) ? [{ p, parameter }] : []));
    const entries: TrainerValues[] = [];
    const turns = new Turns();
    for (const { p, parameter } of chosen) {
      entries.push({ parameter, which, data: floats(size(p.shape)) }); // fresh memory is mapped here
      const pause = turns.due();
      if (pause) await pause;
    }
    await call((n) => n.readTrainer(this.#handle!, entries));
    const tensors = new Map<string, Tensor>();
    for (const [i, { p }] of chosen.entries()) tensors.set(p.name, await asPeft(p, entries[i]!.data));
    return tensors;
  }

  /** While it begins: values from a file. */
  async write(which: 'value' | 'mean' | 'square', values: ReadonlyMap<string, Float32Array>): Promise<void> {
    const entries = this.network.parameters.flatMap((p, parameter) => {
      const data = values.get(p.name);
      return data ? [{ parameter, which, data }] : [];
    });
    await call((n) => n.writeTrainer(this.#handle!, entries));
  }

  async save(folder: string, options?: Readonly<Record<never, never>>): Promise<void> {
    checkNone('trainer.save', options);
    checkPath('trainer.save: folder', folder);
    return this.exclusive(() => saveTrainer(this, folder));
  }

  async dispose(): Promise<void> {
    this.#disposed = true;
    await this.#queue.catch(() => {});
    const handle = this.#handle;
    this.#handle = undefined;
    if (handle) await call((n) => n.disposeTrainer(handle));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }
}

/** See lib/training/index.ts. @public */
export function createTrainer(model: Model, options: TrainerOptions = {}): Trainer {
  if (!(model instanceof Model))
    throw new StatespaceError('ERR_ARGUMENT', `createTrainer: expected a model, received ${show(model)}`);
  if (model.disposed) throw new StatespaceError('ERR_DISPOSED', 'createTrainer: the model has been disposed of');
  checkMerged('createTrainer', model);
  const read = readOptions('createTrainer', options);
  if (read.loss === 'nextToken' && !model.hasLogits)
    throw new StatespaceError(
      'ERR_UNSUPPORTED_MODEL',
      "createTrainer: the model reads no tokens or does not end in logits (layers.head); give it another loss: 'crossEntropy' or 'mse'",
    );
  return new TrainerState(model, read, trainedNetwork(model, read));
}
