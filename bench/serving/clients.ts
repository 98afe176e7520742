/** Many clients of one engine: what they get beside forwardBatch, and what a long prompt does to those that read on. */
import { type CallCase, seconds } from '../calls/case.js';
import { someTokens } from '../calls/sessions.js';
import { type Engine, library, type Model } from '../library.js';
import { median, quantile } from '../statistics.js';

export interface Load {
  clients: number;
  /** Tokens of the longest prompt, and of the one that arrives while others read on. */
  longest: number;
  /** Tokens that each client gets. */
  generated: number;
  rounds: number;
}

const SHORTEST = 10;

/** Lengths of the clients' prompts: from 10 to the longest, each the same factor above the one before. */
export function promptLengths({ clients, longest }: Pick<Load, 'clients' | 'longest'>): number[] {
  const growth = (longest / SHORTEST) ** (1 / Math.max(1, clients - 1));
  return Array.from({ length: clients }, (_, i) => Math.round(SHORTEST * growth ** i));
}

function promptsOf(model: Model, lengths: readonly number[]): Int32Array[] {
  // Each begins with a token of its own: none goes on from another's prefix.
  return lengths.map((length, i) => {
    const tokens = someTokens(length, model.vocabSize);
    tokens[0] = i % model.vocabSize;
    return tokens;
  });
}

/** Without a cache: what is measured is the batch. */
function engineOf(model: Model): Engine {
  return library().createEngine(model, { prefixCache: false, maxRunning: 256 });
}

/** When each token came, in ms. */
async function arrivals(engine: Engine, prompt: Int32Array, generated: number, signal?: AbortSignal) {
  const times: number[] = [];
  const request = { prompt, maxTokens: generated, minTokens: generated, signal };
  for await (const _ of engine.generate(request)) times.push(performance.now());
  return times;
}

/** All prompts in one forwardBatch, then a token of each at a time: the least that the same work takes by hand. */
async function byHand(model: Model, prompts: readonly Int32Array[], generated: number): Promise<void> {
  const sessions = prompts.map(() => model.createSession());
  await model.forwardBatch(sessions.map((session, i) => ({ session, tokens: prompts[i]! })));
  for (let i = 1; i < generated; i++)
    await model.forwardBatch(sessions.map((session) => ({ session, tokens: [i % model.vocabSize] })));
  await Promise.all(sessions.map((session) => session.dispose()));
}

async function together(model: Model, prompts: readonly Int32Array[], generated: number): Promise<void> {
  await using engine = engineOf(model);
  const all = await Promise.all(prompts.map((prompt) => arrivals(engine, prompt, generated)));
  const lost = all.filter((times) => times.length !== generated).length;
  if (lost > 0) throw new Error(`bench serving: ${lost} of ${prompts.length} clients did not get ${generated} tokens`);
}

/** The same through generate() of a session for each client. */
async function sessionsTogether(model: Model, prompts: readonly Int32Array[], generated: number): Promise<void> {
  await Promise.all(
    prompts.map(async (prompt) => {
      await using session = model.createSession();
      for await (const _ of session.generate({ prompt, maxTokens: generated, minTokens: generated })) {
      }
    }),
  );
}

type Serve = typeof together;

/** Tokens a second over those of forwardBatch, rounds of both in turn. */
async function rate(model: Model, lengths: readonly number[], { generated, rounds }: Load, serve: Serve) {
  const prompts = promptsOf(model, lengths);
  const times: [number[], number[]] = [[], []];
  // Memory that both take for the first time is nobody's cost.
  const few = prompts.map((prompt) => prompt.subarray(0, SHORTEST));
  await byHand(model, few, 2);
  await serve(model, few, 2);
  for (let i = 0; i < rounds; i++) {
    times[0].push(await seconds(() => byHand(model, prompts, generated)));
    times[1].push(await seconds(() => serve(model, prompts, generated)));
  }
  return median(times[0]) / median(times[1]);
}

/** How long the others wait for a token while a long prompt is read, p99, over what they waited before: medians. */
async function gaps(model: Model, { clients, longest, generated }: Load): Promise<number> {
  await using engine = engineOf(model);
  const stop = new AbortController();
  const most = 4096; // more than the long prompt takes steps
  const others: number[][] = [];
  const reading = promptsOf(model, new Array(clients - 1).fill(SHORTEST)).map(async (prompt) => {
    const times: number[] = [];
    others.push(times);
    try {
      const request = { prompt, maxTokens: most, minTokens: most, signal: stop.signal };
      for await (const _ of engine.generate(request)) times.push(performance.now());
    } catch (error) {
      if (!stop.signal.aborted) throw error;
    }
  });
  const ended = Promise.all(reading);
  ended.catch(() => stop.abort());
  while (!stop.signal.aborted && (others.length < clients - 1 || others.some((times) => times.length < generated)))
    await new Promise((resolve) => setTimeout(resolve, 1));
  const since = performance.now();
  const [until = since] = await arrivals(engine, promptsOf(model, [longest])[0]!, 1);
  stop.abort();
  await ended;
  const [before, during]: [number[], number[]] = [[], []];
  for (const times of others)
    for (let i = 3; i < times.length; i++) {
      const gap = times[i]! - times[i - 1]!;
      if (times[i]! <= since) before.push(gap);
      else if (times[i]! <= until) during.push(gap);
    }
  return quantile(during, 0.99) / median(before);
}

/** Cases of a model with random weights. */
export function clientCases(name: string, of: () => Promise<Model>, load: Load): CallCase[] {
  const { clients, longest } = load;
  const short = new Array<number>(clients).fill(SHORTEST);
  const bound = { atLeast: 0.9 };
  return [
    {
      ...{ group: 'rate', name: `${name}, ${clients} clients`, what: 'engine / forwardBatch, tokens/s', bound },
      measure: async () => rate(await of(), short, load, together),
    },
    {
      ...{ group: 'rate', name: `${name}, prompts of ${SHORTEST} … ${longest}`, bound },
      what: 'engine / forwardBatch of all prompts at once',
      measure: async () => rate(await of(), promptLengths(load), load, together),
    },
    {
      ...{ group: 'rate', name: `${name}, ${clients} sessions`, what: 'generate / forwardBatch, tokens/s', bound },
      measure: async () => rate(await of(), short, load, sessionsTogether),
    },
    {
      ...{ group: 'gap', name: `${name}, a prompt of ${longest} arrives`, bound: { atMost: 2 } },
      what: "the others' gap between tokens, p99 / median before",
      measure: async () => gaps(await of(), load),
    },
  ];
}
