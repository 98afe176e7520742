/** Public calls of ops beside their kernels on memory that is kept. */
import { plans, runPlan } from '../kernels/plans.js';
import { library, type Ops, type Tensor } from '../library.js';
import type { CallCase } from './case.js';

type Args = Record<string, unknown>;

interface OpCase {
  args: Args;
  /** Inputs that also come as bf16. */
  halves?: string[];
}

// 8 MB of result each.
const L = 2048;
const D = 1024;

function opCases(): Record<string, OpCase> {
  const { Tensor } = library();
  const filled = (scale: number, ...shape: number[]) =>
    new Tensor(
      Float32Array.from(
        { length: shape.reduce((a, b) => a * b) },
        (_, i) => scale * (((i * 7919) % 1000) / 1000 - 0.5),
      ),
      shape,
    );
  const wide = filled(1, 1, L, D);
  const heads = filled(1, 1, L, 16, 64);
  return {
    selectiveScan: {
      args: {
        ...{ u: wide, delta: wide, A: filled(-1, D, 16), B: filled(1, 1, L, 16), C: filled(1, 1, L, 16) },
        deltaSoftplus: true,
      },
      halves: ['u', 'delta', 'B', 'C'],
    },
    causalConv1d: { args: { x: wide, weight: filled(1, D, 4) }, halves: ['x'] },
    attention: { args: { q: heads, k: filled(1, 1, L, 4, 64), v: filled(1, 1, L, 4, 64) } },
    ssd: {
      args: {
        ...{ x: heads, dt: filled(0.1, 1, L, 16), A: filled(-1, 16) },
        ...{ B: filled(1, 1, L, 1, 64), C: filled(1, 1, L, 1, 64) },
      },
    },
    linear: { args: { x: filled(1, L, 256), weight: filled(1, D, 256) }, halves: ['x', 'weight'] },
    rmsNorm: { args: { x: wide, weight: filled(1, D) }, halves: ['x'] },
  };
}

const SAMPLE_US = 20_000; // of processor time: the clock of a kernel of 1 ms alone is mostly the threads' waiting

/** By processor time, page faults included: the least of several in turn, so that neighbours do not decide. */
function processorTime(run: () => unknown, times: number): number {
  const start = process.cpuUsage();
  for (let i = 0; i < times; i++) run();
  const { user, system } = process.cpuUsage(start);
  return user + system;
}

function ratio(rounds: number, first: () => unknown, second: () => unknown): number {
  const times = Math.ceil(SAMPLE_US / Math.max(1, processorTime(first, 1)));
  const least: [number, number] = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
  for (let i = 0; i < rounds; i++) {
    least[0] = Math.min(least[0], processorTime(first, times));
    least[1] = Math.min(least[1], processorTime(second, times));
  }
  return least[1] / least[0];
}

const LOOP = 30;
const LOOPS = 8; // the first ones wait for fresh pages, and for their JavaScript to be compiled
const loop = (run: () => unknown) => () => {
  for (let i = 0; i < LOOP; i++) run();
};

/** With `out`, without, and on halves: each op three cases or two. */
export function opCallCases(): CallCase[] {
  return Object.entries(opCases()).flatMap(([name, { args, halves }]): CallCase[] => {
    const call = (library().ops as unknown as Record<string, (a: Args) => unknown>)[`${name}Sync` as keyof Ops]!;
    const plan = (a: Args) =>
      (plans() as unknown as Record<string, (a: Args) => Parameters<typeof runPlan>[0]>)[name]!(a);
    const kernel = plan(args);
    const kept = () => runPlan(kernel);
    const cases: CallCase[] = [
      {
        ...{ group: 'ops', name: `${name}, with out`, what: 'public call / kernel', bound: { atMost: 1.08 } },
        measure: async () => {
          const out = call(args);
          return ratio(20, kept, () => call({ ...args, out }));
        },
      },
      {
        ...{
          group: 'ops',
          name: `${name}, in a loop of ${LOOP}`,
          what: 'public calls / kernels',
          bound: { atMost: 1.3 },
        },
        measure: async () =>
          ratio(
            LOOPS,
            loop(kept),
            loop(() => call(args)),
          ),
      },
    ];
    if (halves) {
      const onHalves = plan({ ...args, ...Object.fromEntries(halves.map((n) => [n, (args[n] as Tensor).to('bf16')])) });
      cases.push({
        ...{ group: 'ops', name: `${name}, bf16 inputs`, what: 'on bf16 / on f32', bound: { atMost: 1.15 } },
        measure: async () => ratio(20, kept, () => runPlan(onHalves)),
      });
    }
    return cases;
  });
}
