/** How long the event loop stands still while a model reads a prompt: what else the process serves has to wait so long. */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { library } from './library.js';
import { Random } from './random.js';

export interface EventLoopDelay {
  tokens: number;
  /** Seconds of the forward. */
  seconds: number;
  /** Delays beyond the timer's own period, in milliseconds. */
  p50: number;
  p99: number;
  max: number;
  samples: number;
}

const RESOLUTION_MS = 1;

/** Delays of the event loop during one forward of `tokens` random tokens; the model's session is new. */
export async function eventLoopDelay(config: Record<string, unknown>, tokens: number): Promise<EventLoopDelay> {
  const model = await library().createModel(config, { seed: 1 });
  try {
    const session = model.createSession();
    const random = new Random(1);
    const prompt = Int32Array.from({ length: tokens }, () => Math.floor(random.next(0, Number(config.vocab_size))));
    await session.forward(prompt.subarray(0, 16)); // the first call binds the program and grows its memory
    const histogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
    histogram.enable();
    const started = performance.now();
    await session.forward(prompt, { logits: 'last' });
    const seconds = (performance.now() - started) / 1000;
    histogram.disable();
    await session.dispose();
    const beyond = (nanoseconds: number) => Math.max(0, nanoseconds / 1e6 - RESOLUTION_MS);
    return {
      tokens,
      seconds,
      p50: beyond(histogram.percentile(50)),
      p99: beyond(histogram.percentile(99)),
      max: beyond(histogram.max),
      samples: histogram.count,
    };
  } finally {
    await model.dispose();
  }
}
