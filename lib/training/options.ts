import { mismatch, StatespaceError, show } from '../errors.js';
import { checkKnown } from '../options.js';

/** Low-rank adapters (Hu et al. 2021): the model's own tensors stay, W + alpha / rank · B·A is multiplied with. */
export interface LoraOptions {
  /** Rows of A, columns of B. */
  rank: number;
  /** The addition is multiplied by alpha / rank. */
  alpha: number;
  /**
   * Names of the modules that get one, as peft's target_modules; default: q_proj and v_proj, else in_proj. peft refuses
   * out_proj in Mamba's families, whose kernels read its weight without adapters.
   */
  targets?: string[] | undefined;
}

/**
 * What is made small: the cross-entropy of next tokens (the default), that of rows or of whole sequences with classes of one's
 * own, or the mean squared error of what the network gives.
 */
export type Loss = 'nextToken' | 'crossEntropy' | 'mse';

/** What a step did. */
export interface StepReport {
  /** Before the step: the mean over the batch's targets. */
  loss: number;
  /** Of all gradients together, before they are clipped. */
  gradNorm: number;
  /** Of the batch. */
  tokens: number;
  /** Steps that were taken until now, this one included. */
  step: number;
  learningRate: number;
  tokensPerSecond: number;
  /** Why nothing was changed, where that is so: the loss or a gradient is no finite number. */
  skipped?: string;
}

/** How a model is trained. */
export interface TrainerOptions {
  /** Default nextToken. The other two are for networks of one's own; a batch then has `targets`. */
  loss?: Loss | undefined;
  /** Of AdamW, after the warm-up; default 1e-3. */
  learningRate?: number | undefined;
  /** Of AdamW's two means; default [0.9, 0.95]. */
  betas?: [number, number] | undefined;
  /** Added to AdamW's root; default 1e-8. */
  eps?: number | undefined;
  /** Decoupled, of tensors with two axes or more; default 0.1. */
  weightDecay?: number | undefined;
  /** Gradients are scaled so that all of them together have at most this norm; 0: never. Default 1. */
  maxGradNorm?: number | undefined;
  /** Steps over which the learning rate rises evenly from 0; default 0. */
  warmupSteps?: number | undefined;
  /** Steps after which `cosine` has come down to 0. */
  totalSteps?: number | undefined;
  /** The learning rate after the warm-up; default: cosine where totalSteps is given, else constant. */
  schedule?: 'constant' | 'cosine' | undefined;
  /** Parts that a batch's sequences are computed in, one after the other, for the memory of one; default 1. */
  accumulate?: number | undefined;
  /** bf16: products are those of bf16, the parameters stay f32. Default f32. */
  dtype?: 'f32' | 'bf16' | undefined;
  /**
   * What the way back needs of the forward: kept (`none`, the default), or computed again block by block, for a forward's time
   * and much less memory.
   */
  recompute?: 'none' | 'blocks' | undefined;
  /** Trains adapters in place of the model's tensors. */
  lora?: LoraOptions | undefined;
  /** Of the adapters' first values; default 0. */
  seed?: number | undefined;
  /** Called after every step with its report, skipped ones among them, before step() resolves; what it throws, step() throws. */
  onStep?: ((report: StepReport) => void | Promise<void>) | undefined;
}

export type ReadOptions = Required<Omit<TrainerOptions, 'totalSteps' | 'lora' | 'onStep'>> &
  Pick<TrainerOptions, 'totalSteps' | 'lora' | 'onStep'>;

const KNOWN = [
  'loss',
  'learningRate',
  'betas',
  'eps',
  'weightDecay',
  'maxGradNorm',
  'warmupSteps',
  'totalSteps',
  'schedule',
  'accumulate',
  'dtype',
  'recompute',
  'lora',
  'seed',
  'onStep',
];

/** Checks a trainer's options and fills in their defaults. */
export function readOptions(op: string, options: TrainerOptions): ReadOptions {
  if (typeof options !== 'object' || options === null)
    throw mismatch('ERR_ARGUMENT', `${op}: options`, 'an object', show(options));
  checkKnown(op, options, KNOWN);
  const number = (name: string, value: unknown, standard: number, fits: (n: number) => boolean, wanted: string) => {
    if (value === undefined) return standard;
    if (typeof value !== 'number' || !fits(value))
      throw mismatch('ERR_ARGUMENT', `${op}: ${name}`, wanted, show(value));
    return value;
  };
  const choice = <T extends string>(name: string, value: T | undefined, standard: T, of: readonly T[]): T => {
    if (value !== undefined && !of.includes(value))
      throw mismatch('ERR_ARGUMENT', `${op}: ${name}`, of.join(' or '), show(value));
    return value ?? standard;
  };
  const positive = (n: number) => Number.isFinite(n) && n > 0;
  const notNegative = (n: number) => Number.isFinite(n) && n >= 0;
  const steps = (n: number) => Number.isSafeInteger(n) && n >= 0;
  const counts = (n: number) => Number.isSafeInteger(n) && n >= 1;
  const share = (n: number) => n >= 0 && n < 1;
  const betas = options.betas ?? [0.9, 0.95];
  if (!Array.isArray(betas) || betas.length !== 2 || !betas.every((b) => typeof b === 'number' && share(b)))
    throw mismatch('ERR_ARGUMENT', `${op}: betas`, 'two numbers from 0 to below 1', show(betas));
  const { totalSteps } = options;
  number('totalSteps', totalSteps, 0, counts, 'a positive number of steps');
  const read: ReadOptions = {
    learningRate: number('learningRate', options.learningRate, 1e-3, notNegative, 'a number from 0'),
    betas: [betas[0], betas[1]],
    eps: number('eps', options.eps, 1e-8, positive, 'a positive number'),
    weightDecay: number('weightDecay', options.weightDecay, 0.1, notNegative, 'a number from 0'),
    maxGradNorm: number('maxGradNorm', options.maxGradNorm, 1, notNegative, 'a number from 0 (never)'),
    warmupSteps: number('warmupSteps', options.warmupSteps, 0, steps, 'a number of steps'),
    schedule: choice('schedule', options.schedule, totalSteps ? 'cosine' : 'constant', ['constant', 'cosine']),
    accumulate: number('accumulate', options.accumulate, 1, counts, 'a positive number of parts'),
    loss: choice('loss', options.loss, 'nextToken', ['nextToken', 'crossEntropy', 'mse']),
    dtype: choice('dtype', options.dtype, 'f32', ['f32', 'bf16']),
    recompute: choice('recompute', options.recompute, 'none', ['none', 'blocks']),
    seed: number('seed', options.seed, 0, steps, 'a non-negative integer'),
    totalSteps,
    onStep: options.onStep,
    lora: options.lora === undefined ? undefined : readLora(op, options.lora),
  };
  if (options.onStep !== undefined && typeof options.onStep !== 'function')
    throw mismatch('ERR_ARGUMENT', `${op}: onStep`, 'a function', show(options.onStep));
  if (read.schedule === 'cosine' && totalSteps === undefined)
    throw new StatespaceError('ERR_ARGUMENT', `${op}: totalSteps: a cosine schedule needs it`);
  if (totalSteps !== undefined && read.warmupSteps > totalSteps)
    throw mismatch('ERR_ARGUMENT', `${op}: warmupSteps`, `at most totalSteps ${totalSteps}`, show(read.warmupSteps));
  return read;
}

/** Entries of an axis. */
const MOST_RANK = 2 ** 31 - 1;

function readLora(op: string, lora: LoraOptions): LoraOptions {
  if (typeof lora !== 'object' || lora === null)
    throw mismatch('ERR_ARGUMENT', `${op}: lora`, '{ rank, alpha, targets? }', show(lora));
  checkKnown(`${op}: lora`, lora, ['rank', 'alpha', 'targets']);
  const { rank, alpha, targets } = lora;
  if (!Number.isSafeInteger(rank) || rank < 1 || rank > MOST_RANK)
    throw mismatch('ERR_ARGUMENT', `${op}: lora.rank`, `an integer from 1 to ${MOST_RANK}`, show(rank));
  if (typeof alpha !== 'number' || !Number.isFinite(alpha))
    throw mismatch('ERR_ARGUMENT', `${op}: lora.alpha`, 'a number', show(alpha));
  const named = targets === undefined || (Array.isArray(targets) && targets.every((t) => typeof t === 'string'));
  if (!named || targets?.length === 0)
    throw mismatch('ERR_ARGUMENT', `${op}: lora.targets`, 'names of modules', show(targets));
  return { rank, alpha, targets: targets && [...targets] };
}

/** The learning rate of step t = 1, 2, … */
export function learningRateAt(o: ReadOptions, t: number): number {
  const done = t - 1;
  if (done < o.warmupSteps) return (o.learningRate * t) / o.warmupSteps;
  if (o.schedule === 'constant') return o.learningRate;
  const left = o.totalSteps! - o.warmupSteps;
  const progress = left > 0 ? Math.min(1, (done - o.warmupSteps) / left) : 1;
  return (o.learningRate * (1 + Math.cos(Math.PI * progress))) / 2;
}
