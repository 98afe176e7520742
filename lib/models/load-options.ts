import { checkCall } from '../cancellation.js';
import { type HeldType, heldTypes } from '../dtype.js';
import { mismatch, StatespaceError, show } from '../errors.js';
import { call } from '../native.js';
import { checkKnown, checkThreads } from '../options.js';
import type { TensorLike } from '../tensor.js';

/** How a model is loaded or made. */
export interface LoadOptions {
  /**
   * Where weights lie and forwards run. `cuda`: a GPU, else ERR_DEVICE with the reason. Default `auto`: what the
   * environment's STATESPACE_BACKEND names, else a GPU, else the CPU.
   */
  device?: 'auto' | 'cpu' | 'cuda' | undefined;
  /**
   * Type that the large matrices are held in; default: as in the checkpoint (a new model: f32). A matrix whose rows are
   * no whole blocks of the type gets a close one with blocks of 32, or f32.
   */
  dtype?: HeldType | undefined;
  /**
   * Nothing is rounded while computing: neither activations (to bf16 for matrices of bf16, to int8 for quantised ones)
   * nor keys and values. As exact as weights widened to f32, and slower. Default: false.
   */
  exact?: boolean | undefined;
  /**
   * Tokens that sessions are to hold. Only models whose rotations depend on the sequence's length ask for it (rope types
   * longrope and dynamic): they are exact up to the length that they were trained with, and refuse tokens beyond it, unless
   * this says more; then they rotate as sequences of this length do, from the first token on.
   */
  contextLength?: number | undefined;
  /** Compute threads of the process, as setThreads(). */
  threads?: number | undefined;
  /** loadModel: false loads a checkpoint although no layer asks for some of its tensors, with a warning. Default: true. */
  strict?: boolean | undefined;
  /** loadModel: folders of LoRA adapters in peft's format. */
  adapters?: readonly string[] | undefined;
  /**
   * loadModel: true merges adapters into the weights; false multiplies with them beside matrices that stay as they are held,
   * quantised ones too (two thin products more for each). Default: beside matrices that keep the blocks of their file, which
   * would round most of a small change away; merged into all others.
   */
  mergeAdapters?: boolean | undefined;
  /** loadModel of tensors in memory: what config.json would hold. */
  config?: object | undefined;
  /** createModel: all tensors by their names in a checkpoint, as model.parameters() gives them; default: random ones. */
  weights?: ReadonlyMap<string, TensorLike> | undefined;
  /** Stops loading; the promise rejects with its reason. */
  signal?: AbortSignal | undefined;
  /** Called as weights are read; of an 'hf:' source also before, as its files arrive. */
  onProgress?: ((done: { loadedBytes: number; totalBytes: number }) => void) | undefined;
}

/** ERR_DTYPE where no matrix can be held in it. */
export function checkDtype(op: string, dtype: HeldType | undefined): void {
  if (dtype !== undefined && !heldTypes.includes(dtype))
    throw mismatch('ERR_DTYPE', `${op}: dtype`, `one of ${heldTypes.join(', ')}`, show(dtype));
}

const OPTIONS = [
  'device',
  'dtype',
  'exact',
  'contextLength',
  'threads',
  'strict',
  'adapters',
  'mergeAdapters',
  'config',
  'signal',
  'onProgress',
];

/** Options that have a meaning for some of the calls, and for which. */
const MEANT = {
  config: 'loadModel of tensors in memory',
  adapters: 'loadModel of a path',
} as const;
type Unmeant = readonly (keyof typeof MEANT)[];

/**
 * Throws what is wrong with options of `op`, and sets the threads that they ask for; `unmeant`: those that would be left out
 * in silence.
 */
export function checkOptions(
  op: string,
  options: LoadOptions,
  more: readonly string[] = [],
  unmeant: Unmeant = [],
): void {
  checkCall(op, options);
  checkKnown(op, options, [...OPTIONS, ...more]);
  for (const key of unmeant)
    if (options[key] !== undefined)
      throw new StatespaceError('ERR_ARGUMENT', `${op}: ${key}: is an option of ${MEANT[key]} alone`);
  checkDtype(op, options.dtype);
  if (options.device !== undefined && !['auto', 'cpu', 'cuda'].includes(options.device)) {
    throw new StatespaceError(
      'ERR_ARGUMENT',
      `${op}: device: expected auto, cpu or cuda, received ${show(options.device)}`,
    );
  }
  checkDevice(op, options.device ?? 'auto');
  if (options.exact !== undefined && typeof options.exact !== 'boolean')
    throw mismatch('ERR_ARGUMENT', `${op}: exact`, 'true or false', show(options.exact));
  if (options.strict !== undefined && typeof options.strict !== 'boolean')
    throw mismatch('ERR_ARGUMENT', `${op}: strict`, 'true or false', show(options.strict));
  const { adapters } = options;
  if (adapters !== undefined && !(Array.isArray(adapters) && adapters.every((a) => typeof a === 'string' && a !== '')))
    throw mismatch('ERR_ARGUMENT', `${op}: adapters`, 'paths of folders', show(adapters));
  if (options.mergeAdapters !== undefined && typeof options.mergeAdapters !== 'boolean')
    throw mismatch('ERR_ARGUMENT', `${op}: mergeAdapters`, 'true or false', show(options.mergeAdapters));
  const { contextLength } = options;
  if (contextLength !== undefined && !(Number.isSafeInteger(contextLength) && contextLength > 0))
    throw mismatch('ERR_ARGUMENT', `${op}: contextLength`, 'a positive integer', show(contextLength));
  if (options.threads !== undefined) {
    checkThreads(`${op}: threads`, options.threads);
    call((n) => n.setThreads(options.threads!));
  }
  options.signal?.throwIfAborted();
}

/** ERR_DEVICE, with the reason, where no model can run on it. */
function checkDevice(op: string, device: 'auto' | 'cpu' | 'cuda'): void {
  try {
    call((n) => n.backendName(device));
  } catch (error) {
    if (error instanceof StatespaceError) throw new StatespaceError(error.code, `${op}: ${error.message}`);
    throw error;
  }
}
