/** Our kernels against other people's: the same inputs, the results compared, in turn in one run. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { KernelCase, Prepared } from '../kernels/kernel.js';
import { formatVariant } from '../kernels/parse.js';
import { runPlan } from '../kernels/plans.js';
import { library, type TensorLike } from '../library.js';
import { collectGarbage } from '../machine.js';
import { breathe } from '../sampling.js';
import { relativeError } from '../scaling/preset.js';
import { type Sample, summarise } from '../statistics.js';
import type { Started } from './peer.js';

export interface KernelComparison {
  kernel: string;
  sizes: Readonly<Record<string, number>>;
  dtype: string;
  /** Seconds of our public call, output allocated; half of the samples before the peers, half after. */
  ours: Sample;
  /** The same into results that are there (`out`), by turns with those. */
  withOut: Sample;
  peers: {
    peer: string;
    /** Which of its ways to compute it. */
    form: string;
    time: Sample;
    /** Its median divided by ours: how many times faster we are. */
    ratio: number;
    ratioWithOut: number;
    /** Relative L2 distance of its result from ours. */
    difference: number;
  }[];
  skipped: { peer: string; reason: string }[];
}

interface Answer {
  form: string;
  seconds: number[];
  error?: string;
  unsupported?: string;
}

// Results farther apart than this are not of one function.
const SAME = { f32: 1e-4, half: 3e-2 };
const SHORTEST_SAMPLE = 0.01;

export async function compareKernels(
  cases: readonly KernelCase[],
  peers: readonly Started[],
  {
    reps,
    signal,
    onProgress,
  }: { reps: number; signal: AbortSignal; onProgress: (fraction: number, note: string) => void },
): Promise<KernelComparison[]> {
  const folder = mkdtempSync(join(tmpdir(), 'statespace-peers-'));
  try {
    const comparisons: KernelComparison[] = [];
    for (const [i, one] of cases.entries()) {
      const note = (who: string) => onProgress(i / cases.length, `${formatVariant(one.kernel, one.variant)}: ${who}`);
      comparisons.push(await compareCase(one, peers, { reps, signal, folder, note }));
      collectGarbage();
    }
    return comparisons;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function compareCase(
  { kernel, variant }: KernelCase,
  peers: readonly Started[],
  { reps, signal, folder, note }: { reps: number; signal: AbortSignal; folder: string; note: (who: string) => void },
): Promise<KernelComparison> {
  const prepared = kernel.prepare(variant);
  const y = runPlan(prepared.plan()).y.data as Float32Array;
  const error = prepared.check(y);
  if (!(error <= prepared.bound)) throw new Error(`check failed: ${formatVariant(kernel, variant)}: error ${error}`);
  const none = summarise([0]);
  const result: KernelComparison = {
    ...{ kernel: kernel.name, ...variant, ours: none, withOut: none },
    ...{ peers: [], skipped: [] },
  };
  note('statespace');
  const calls = publicCalls(prepared);
  const before = await sampleOurs(calls, Math.ceil(reps / 2), signal);
  const inputs = writeInputs(prepared, folder);
  for (const { hello, peer } of peers) {
    if (!hello.kernels?.includes(kernel.name)) continue;
    note(hello.peer);
    const skip = (reason: string) => result.skipped.push({ peer: hello.peer, reason });
    if (!hello.dtypes?.includes(variant.dtype)) {
      skip(`takes no ${variant.dtype}`);
      continue;
    }
    const file = join(folder, 'result.f32');
    const answer = await peer.ask<Answer>({ kernel: kernel.name, ...inputs, result: file, reps });
    signal.throwIfAborted();
    const reason = answer.error ?? answer.unsupported;
    if (reason !== undefined) {
      skip(reason);
      continue;
    }
    const theirs = new Float32Array(new Uint8Array(readFileSync(file)).buffer);
    const difference = relativeError(theirs, y);
    if (!(difference <= (variant.dtype === 'f32' ? SAME.f32 : SAME.half))) {
      skip(`its result is another: relative distance ${difference.toExponential(2)}`);
      continue;
    }
    const time = summarise(answer.seconds);
    result.peers.push({ peer: hello.peer, form: answer.form, time, ratio: 0, ratioWithOut: 0, difference });
  }
  note('statespace');
  const after = await sampleOurs(calls, Math.floor(reps / 2), signal);
  result.ours = summarise([...before.ours, ...after.ours]);
  result.withOut = summarise([...before.withOut, ...after.withOut]);
  for (const p of result.peers) {
    p.ratio = p.time.median / result.ours.median;
    p.ratioWithOut = p.time.median / result.withOut.median;
  }
  return result;
}

type Calls = Record<'ours' | 'withOut', () => unknown>;

/** The public call, its output allocated, and into one that is there. */
export function publicCalls({ args, plan, op }: Prepared): Calls {
  const ops = library().ops as unknown as Record<string, (args: object) => unknown>;
  const call = ops[`${op ?? plan().op}Sync`]!;
  const withOut = { ...args, out: call(args) };
  return { ours: () => call(args), withOut: () => call(withOut) };
}

async function sampleOurs(calls: Calls, reps: number, signal: AbortSignal): Promise<Record<keyof Calls, number[]>> {
  const seconds = (call: () => unknown, times: number) => {
    const started = performance.now();
    for (let i = 0; i < times; i++) call();
    return (performance.now() - started) / 1000 / times;
  };
  const times = Math.max(1, Math.ceil(SHORTEST_SAMPLE / Math.max(seconds(calls.withOut, 1), 1e-7)));
  const samples: Record<keyof Calls, number[]> = { ours: [], withOut: [] };
  for (let i = 0; i < reps; i++) {
    for (const way of ['ours', 'withOut'] as const) samples[way].push(seconds(calls[way], times));
    await breathe();
    signal.throwIfAborted();
  }
  return samples;
}

/** The tensors as raw files, the rest as it is. */
function writeInputs({ args }: Prepared, folder: string) {
  const inputs: Record<string, { file: string; shape: readonly number[]; dtype: string }> = {};
  const attributes: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(args)) {
    if (typeof value !== 'object') {
      attributes[name] = value;
      continue;
    }
    const { data, shape, dtype = 'f32' } = value as TensorLike;
    const file = join(folder, `${name}.raw`);
    writeFileSync(file, new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    inputs[name] = { file, shape, dtype };
  }
  return { inputs, attributes };
}
