/** The time of a kernel's gradient beside its forward, and whether it is one. */
import type { Tensor, TensorLike } from '../library.js';
import { Random } from '../random.js';
import { breathe } from '../sampling.js';
import { type Sample, summarise } from '../statistics.js';
import type { Differentiable, Prepared } from './kernel.js';
import { planOf, runPlan } from './plans.js';

export interface GradientMeasurement {
  /** Seconds of the gradient alone, on memory that is there. */
  time: Sample;
  /** Of the medians of backward and forward, sampled in turns. */
  ratio: number;
  /** What the ratio may be. */
  limit: number;
  /** |⟨dx, v⟩ - (L(x + εv) - L(x - εv)) / 2ε| / ‖dx‖ along a random v, with L = ⟨y, dy⟩. */
  check: { error: number; bound: number };
}

/** Two products for every one of the forward, and half a one for what it did not keep. */
export const GRADIENT_LIMIT = 2.5;
// Of values around 1: what f32 rounds is then far below, and so is what the third derivative adds.
const STEP = 1e-2;
const BOUND = 1e-2;

/** What a training step keeps of the forward, the gradient gets: which results, and what asks for them. */
const KEEPS: Partial<Record<Differentiable['op'], { by: string; of: readonly string[] }>> = {
  attention: { by: 'withLse', of: ['y', 'lse'] },
  rgLru: { by: 'withGates', of: ['y', 'gates'] },
  mamba3: { by: 'withStates', of: ['states', 'outputs'] },
  ...Object.fromEntries(
    (['selectiveScan', 'ssd', 'wkv6', 'wkv7', 'gatedDeltaRule', 'gla'] as const).map((op) => [
      op,
      { by: 'withStates', of: ['states'] },
    ]),
  ),
};

type Floats = Float32Array;

const floats = (t: TensorLike): Floats => t.data as Floats;

function dot(a: Floats, b: Floats): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!;
  return sum;
}

export async function measureGradient(
  differentiable: Differentiable,
  { args }: Pick<Prepared, 'args'>,
  reps: number,
  seconds: (run: () => unknown) => number,
): Promise<GradientMeasurement> {
  const { op, by } = differentiable;
  const ahead: Forward = differentiable.forward ?? op;
  const keeps = KEEPS[op];
  const forward = planOf<Record<string, Tensor> & { y: Tensor }>(ahead, {
    ...args,
    ...(keeps && { [keeps.by]: true }),
  });
  runPlan(forward);
  const random = new Random(17);
  const dy = { data: random.array(forward.result.y.data.length, 1), shape: forward.result.y.shape };
  const kept = Object.fromEntries((keeps?.of ?? []).map((name) => [name, forward.result[name]!]));
  const backward = planOf<Record<string, Tensor>>(`${op}Backward`, { ...args, ...kept, dy });
  runPlan(backward);
  const error = errorAlong(ahead, by, args, dy.data, floats(backward.result[`d${by}`]!), random);
  const [before, back]: [number[], number[]] = [[], []];
  for (let i = 0; i < reps; i++) {
    before.push(seconds(() => runPlan(forward)));
    back.push(seconds(() => runPlan(backward)));
    await breathe();
  }
  const time = summarise(back);
  return {
    time,
    ratio: time.median / summarise(before).median,
    limit: GRADIENT_LIMIT,
    check: { error, bound: BOUND },
  };
}

type Forward = Differentiable['op'] | NonNullable<Differentiable['forward']>;

/** The gradient of one argument against a difference of two forwards. */
function errorAlong(
  op: Forward,
  by: string,
  args: Prepared['args'],
  dy: Floats,
  gradient: Floats,
  random: Random,
): number {
  const { data, shape } = args[by] as TensorLike;
  const direction = random.array(data.length, 1);
  const loss = (step: number) => {
    const moved = { data: floats({ data, shape }).map((x, i) => x + step * direction[i]!), shape };
    const call = planOf<{ y: Tensor }>(op, { ...args, [by]: moved });
    runPlan(call);
    return dot(floats(call.result.y), dy);
  };
  const slope = (loss(STEP) - loss(-STEP)) / (2 * STEP);
  return Math.abs(dot(gradient, direction) - slope) / Math.sqrt(dot(gradient, gradient));
}
