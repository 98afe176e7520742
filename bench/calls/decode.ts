/** A step of decoding reads every weight and the whole cache once: what share of the rate of reads that reaches. */

import type { Meter } from '../limits.js';
import { median } from '../statistics.js';
import { type CallCase, seconds } from './case.js';
import { type ModelSize, modelOf, someTokens } from './sessions.js';

const STEPS = 24;
const BYTES = { bf16: 2, f32: 4 };
const BUFFER = 2 ** 28; // bytes of the read that it is compared with: past every cache

/** A Llama of this size after prompts of these lengths, keys and values in the model's type. */
export function decodeCases(meter: Meter, size: ModelSize, contexts: readonly number[]): CallCase[] {
  return contexts.flatMap((context) =>
    (['bf16', 'f32'] as const).map(
      (dtype): CallCase => ({
        group: 'decode',
        name: `after ${context} tokens, ${dtype}`,
        what: 'bytes of weights and cache a second / rate of reads',
        bound: { atLeast: 0.8 },
        measure: async () => {
          const model = await modelOf('llama', size, dtype, context + STEPS + 1);
          try {
            const session = model.createSession();
            await session.forward(someTokens(context, size.vocabulary), { logits: 'none' });
            await session.forward([1]);
            const times: number[] = [];
            for (let i = 0; i < STEPS; i++) times.push(await seconds(() => session.forward([i + 1])));
            const { read } = meter.memoryRates(BUFFER, 5);
            const weights = model.parameters.total * BYTES[dtype]; // the embedding is the head as well
            return (weights + session.bytes) / median(times) / median(read.all);
          } finally {
            await model.dispose();
          }
        },
      }),
    ),
  );
}
