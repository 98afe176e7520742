/** One forwardBatch of many sessions, a token each: what a step gains by width, and how near it comes to the machine. */

import type { Model } from '../library.js';
import { type Meter, multiplyAddNow } from '../limits.js';
import { median } from '../statistics.js';
import { type CallCase, seconds } from './case.js';

const ROUNDS = 7;
const BUFFER = 2 ** 28; // bytes of the read that it is compared with: past every cache
// Sixteen sessions already ask more multiply-adds of most processors than reading the weights takes time for them: then
// no step of more is cheaper a token, and what can be asked is that none is dearer.
const NO_DEARER: [width: number, atLeast: number][] = [
  [17, 1],
  [32, 1],
  [64, 1],
];
const OF_LIMIT: [width: number, atLeast: number][] = [
  [16, 0.5],
  [32, 0.5],
  [64, 0.5],
];

/** Of a model in bf16. */
export function batchCases(meter: Meter, model: () => Promise<Model>): CallCase[] {
  return [
    ...NO_DEARER.map(
      ([width, atLeast]): CallCase => ({
        ...{ group: 'batch', name: `${width} sessions`, what: 'tokens/s / those of 16 sessions', bound: { atLeast } },
        measure: async () => {
          const m = await model();
          const times: [number[], number[]] = [[], []];
          await withSteps(m, width, async (step) => {
            times[0].push(await seconds(() => step(16)));
            times[1].push(await seconds(() => step(width)));
          });
          return width / median(times[1]) / (16 / median(times[0]));
        },
      }),
    ),
    ...OF_LIMIT.map(
      ([width, atLeast]): CallCase => ({
        ...{
          group: 'batch',
          name: `${width} sessions, of the limit`,
          what: 'products, or bytes, at full rate / a step',
        },
        bound: { atLeast },
        measure: async () => {
          const m = await model();
          const read = median(meter.memoryRates(BUFFER, 5).read.all);
          const shares: number[] = [];
          await withSteps(m, width, async (step, state) => {
            const taken = await seconds(() => step(width));
            const rate = meter.computeRates('dotBf16', 'all', 0.004, 1)[0] ?? multiplyAddNow(meter);
            const products = (2 * m.parameters.total * width) / rate; // the embedding is the head as well
            const bytes = 2 * m.parameters.total + 2 * width * state; // states are read and written
            shares.push(Math.max(products, bytes / read) / taken);
          });
          return median(shares);
        },
      }),
    ),
  ];
}

/** Calls `sample` several times with what makes a step of so many sessions, and the bytes of a session's state. */
async function withSteps(
  model: Model,
  width: number,
  sample: (step: (count: number) => Promise<unknown>, state: number) => Promise<void>,
): Promise<void> {
  const sessions = Array.from({ length: width }, () => model.createSession());
  const step = (count: number) =>
    model.forwardBatch(sessions.slice(0, count).map((session, i) => ({ session, tokens: [i + 1] })));
  await step(width);
  for (let i = 0; i < ROUNDS; i++) await sample(step, sessions[0]!.bytes);
  await Promise.all(sessions.map((session) => session.dispose()));
}
