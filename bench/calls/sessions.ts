/** generate(), forwardBatch() and fork() beside single forwards of the same model. */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { type DType, type GenerateOptions, library, type Model, type Session } from '../library.js';
import type { Meter } from '../limits.js';
import { FAMILIES, sized } from '../models/families.js';
import { Random } from '../random.js';
import { median } from '../statistics.js';
import { batchCases } from './batch.js';
import { type CallCase, seconds } from './case.js';

export interface ModelSize {
  parameters: number;
  dModel: number;
  vocabulary: number;
}

/** A model of this family and size with random weights: speed does not depend on them. */
export async function modelOf(family: string, size: ModelSize, dtype: DType, longest = 4096): Promise<Model> {
  const found = FAMILIES.find((f) => f.name === family)!;
  const dimensions = { ...size, headDim: 64, kvHeads: size.dModel / 64, longest };
  const { config } = sized(library(), found, dimensions, size.parameters);
  return library().createModel(config, { seed: 1, dtype });
}

/** Tokens of a fixed sequence. */
export function someTokens(count: number, vocabulary: number): Int32Array {
  const random = new Random(3);
  return Int32Array.from({ length: count }, () => Math.floor(random.next(0, vocabulary)));
}

const SAMPLINGS: Record<string, GenerateOptions> = {
  greedy: {},
  'temperature 0.8': { temperature: 0.8 },
  'topK 40': { temperature: 0.8, topK: 40 },
  'topP 0.9': { temperature: 0.8, topP: 0.9 },
  'minP 0.05': { temperature: 0.8, minP: 0.05 },
  'typicalP 0.9': { temperature: 0.8, typicalP: 0.9 },
  penalties: { temperature: 0.8, repetitionPenalty: 1.1, frequencyPenalty: 0.1, presencePenalty: 0.1 },
  'logprobs 5': { logprobs: 5 },
  'all of them': { temperature: 0.8, topK: 40, topP: 0.9, minP: 0.05, repetitionPenalty: 1.1, logprobs: 5 },
};

const BLOCK = 20; // tokens
const ROUNDS = 7; // and as many again, up to MOST, while the median of pairs is not known to a hundredth
const MOST = 21;

async function generated(session: Session, count: number, options: GenerateOptions): Promise<void> {
  for await (const _ of session.generate({ seed: 1, ...options, prompt: [1], maxTokens: count, minTokens: count })) {
  }
}

async function forwards(session: Session, count: number): Promise<void> {
  for (let i = 0; i < count; i++) await session.forward([i + 1]);
}

/** How far the median of so few ratios may be from that of many: its standard error, by the spread of the middle half. */
function uncertainty(ratios: readonly number[]): number {
  const sorted = ratios.toSorted((a, b) => a - b);
  const at = (part: number) => sorted[Math.round(part * (sorted.length - 1))]!;
  return (1.25 * (at(0.75) - at(0.25))) / 1.35 / Math.sqrt(sorted.length);
}

/**
 * generate() over forward(): the median ratio of neighbouring blocks of tokens, each pair in the other order than the
 * one before, as the machine's speed changes within a second by more than the bound.
 */
function generateCases(model: () => Promise<Model>, dtype: string): CallCase[] {
  return Object.entries(SAMPLINGS).map(([name, options]) => ({
    group: 'generate',
    name: `${name}, ${dtype}`,
    what: 'generate / forward, a token',
    bound: { atMost: 1.03 },
    measure: async () => {
      const [one, other] = [(await model()).createSession(), (await model()).createSession()];
      await forwards(one, 4);
      await generated(other, 4, options);
      const forward = () => seconds(() => forwards(one, BLOCK));
      const generate = () => seconds(() => generated(other, BLOCK, options));
      const ratios: number[] = [];
      while (ratios.length < ROUNDS || (ratios.length < MOST && uncertainty(ratios) > 0.01)) {
        if (ratios.length % 2) {
          const took = await generate();
          ratios.push(took / (await forward()));
        } else {
          const base = await forward();
          ratios.push((await generate()) / base);
        }
      }
      await Promise.all([one.dispose(), other.dispose()]);
      return median(ratios);
    },
  }));
}

const P99_MS = 3;

function endingCases(model: () => Promise<Model>, vocabulary: number): CallCase[] {
  return [
    {
      ...{ group: 'generate', name: 'one token', what: 'generate of maxTokens 1 / forward', bound: { atMost: 1.1 } },
      measure: async () => {
        const session = (await model()).createSession();
        const times: [number[], number[]] = [[], []];
        for (let i = 0; i < 2 * BLOCK; i++) {
          times[0].push(await seconds(() => forwards(session, 1)));
          times[1].push(await seconds(() => generated(session, 1, {})));
        }
        await session.dispose();
        return median(times[1]) / median(times[0]);
      },
    },
    {
      ...{ group: 'generate', name: 'after 4,000 tokens', what: 'a token there / after 100', bound: { atMost: 1.05 } },
      measure: async () => {
        const sessions = await Promise.all(
          [100, 4000].map(async (length) => {
            const session = (await model()).createSession();
            await session.forward(someTokens(length, vocabulary));
            return session;
          }),
        );
        const times: number[][] = [[], []];
        const options = { temperature: 0.8, topK: 40, repetitionPenalty: 1.1 };
        for (let i = 0; i < ROUNDS; i++)
          for (const [k, session] of sessions.entries())
            times[k]!.push(await seconds(() => generated(session, BLOCK, options)));
        await Promise.all(sessions.map((session) => session.dispose()));
        return median(times[1]!) / median(times[0]!);
      },
    },
    {
      ...{ group: 'generate', name: 'event loop', what: 'its delay, p99, in ms', bound: { atMost: P99_MS } },
      measure: async () => {
        const session = (await model()).createSession();
        const histogram = monitorEventLoopDelay({ resolution: 1 });
        histogram.enable();
        await generated(session, 5 * BLOCK, SAMPLINGS['all of them']!);
        histogram.disable();
        await session.dispose();
        return Math.max(0, histogram.percentile(99) / 1e6 - 1);
      },
    },
    {
      ...{ group: 'generate', name: 'fork', what: 'in ms', bound: { atMost: 0.1 } },
      measure: async () => {
        const session = (await model()).createSession();
        await session.forward(someTokens(64, vocabulary));
        const times: number[] = [];
        for (let i = 0; i < 50; i++) {
          const start = performance.now();
          const copy = session.fork();
          times.push(performance.now() - start);
          await copy.dispose();
        }
        await session.dispose();
        return median(times);
      },
    },
  ];
}

/** 64 sessions that sample at once, of a small model: what else the process serves has its turn. */
function crowdCase(): CallCase {
  return {
    ...{ group: 'generate', name: '64 sessions that sample', what: 'delay of the event loop, p99, in ms' },
    bound: { atMost: 10 },
    measure: async () => {
      const model = await modelOf('mamba', { parameters: 1e6, dModel: 128, vocabulary: 1024 }, 'f32');
      const sessions = Array.from({ length: 64 }, () => model.createSession());
      const histogram = monitorEventLoopDelay({ resolution: 1 });
      histogram.enable();
      await Promise.all(sessions.map((session) => generated(session, BLOCK, { temperature: 1, topK: 40 })));
      histogram.disable();
      await model.dispose();
      return Math.max(0, histogram.percentile(99) / 1e6 - 1);
    },
  };
}

/** Cases of one Mamba of this size; the model is made at the first of each type. */
export function sessionCases(meter: Meter, size: ModelSize, dtypes: readonly DType[]): CallCase[] {
  const made = new Map<DType, Promise<Model>>();
  const of = (dtype: DType) => () => {
    if (!made.has(dtype)) made.set(dtype, modelOf('mamba', size, dtype));
    return made.get(dtype)!;
  };
  const first = of(dtypes[0]!);
  return [
    ...dtypes.flatMap((dtype) => generateCases(of(dtype), dtype)),
    ...endingCases(first, size.vocabulary),
    crowdCase(),
    ...batchCases(meter, first),
  ];
}
