import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { Engine, EngineStats } from '../engine/engine.js';

// Seconds: from a cached prompt on a small model to a long one on a slow machine.
const SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300];
const TEXTS = [1, 2, 4, 8, 16, 32, 64, 128, 256];
// What tokens a second are counted over.
const WINDOW_MS = 10_000;

const PATHS = new Set([
  '/',
  '/health',
  '/metrics',
  '/v1/models',
  '/v1/completions',
  '/v1/chat/completions',
  '/v1/embeddings',
]);

/** What Prometheus reads of an engine and of the HTTP before it. */
export class Metrics {
  readonly registry = new Registry();
  private readonly requests: Counter<'path' | 'status'>;
  private readonly stop: () => void;
  private readonly recent: { at: number; tokens: number }[] = [];

  constructor(engine: Engine) {
    const registers = [this.registry];
    const gauge = (name: string, help: string, read: (stats: EngineStats) => number) =>
      new Gauge({
        ...{ name: `statespace_${name}`, help, registers },
        collect() {
          this.set(read(engine.stats()));
        },
      });
    const total = (name: string, help: string, read: (stats: EngineStats) => number) =>
      new Counter({
        ...{ name: `statespace_${name}_total`, help, registers },
        collect() {
          this.reset();
          this.inc(read(engine.stats()));
        },
      });
    gauge('requests_running', 'Requests that hold a session', (s) => s.running);
    gauge('requests_queued', 'Requests that wait for one', (s) => s.queued);
    total('prompt_tokens', 'Tokens of admitted prompts', (s) => s.promptTokens);
    total('cached_tokens', 'Of those, found in the prefix cache', (s) => s.cachedTokens);
    total('generated_tokens', 'Tokens that were generated', (s) => s.generatedTokens);
    gauge('cache_bytes', 'What the prefix cache holds', (s) => s.cacheBytes);
    gauge('cache_checkpoints', 'Checkpoints in the prefix cache', (s) => s.checkpoints);
    total('cache_evictions', 'Checkpoints that were evicted', (s) => s.evictions);
    total('store_hits', 'Checkpoints that came from the store', (s) => s.store?.hits ?? 0);
    total('store_writes', 'Checkpoints that were written to the store', (s) => s.store?.writes ?? 0);
    total('store_dropped', 'Damaged or foreign entries of the store', (s) => s.store?.dropped ?? 0);
    total('store_errors', 'Calls of the store that failed', (s) => s.store?.errors ?? 0);
    gauge('tokens_per_second', 'Tokens generated a second, over the last 10 seconds', () => this.rate());
    const histogram = (name: string, help: string, buckets: number[]) =>
      new Histogram({ name: `statespace_${name}`, help, buckets, registers });
    const first = histogram('time_to_first_token_seconds', 'From the arrival of a request to its first token', SECONDS);
    const whole = histogram('request_seconds', 'From the arrival of a request to its end', SECONDS);
    const step = histogram('step_seconds', 'What a step of the model takes', SECONDS);
    const batch = histogram('batch_texts', 'Texts that a step goes on with', TEXTS);
    const names = ['path', 'status'] as const;
    const help = 'HTTP requests by path and status';
    this.requests = new Counter({ name: 'statespace_http_requests_total', help, labelNames: names, registers });
    this.stop = engine.observe({
      firstToken: (ms) => first.observe(ms / 1000),
      finished: ({ ms }) => whole.observe(ms / 1000),
      step: ({ texts, ms }) => {
        step.observe(ms / 1000);
        batch.observe(texts);
        this.note(texts);
      },
    });
  }

  /** Paths that are none of the server's own count as one: whoever asks must not make up names without end. */
  answered(path: string, status: number): void {
    this.requests.inc({ path: PATHS.has(path) ? path : 'other', status: `${status}` });
  }

  close(): void {
    this.stop();
  }

  private note(tokens: number): void {
    const at = performance.now();
    this.recent.push({ at, tokens });
    while (this.recent[0] && this.recent[0].at < at - WINDOW_MS) this.recent.shift();
  }

  private rate(): number {
    const since = performance.now() - WINDOW_MS;
    const tokens = this.recent.reduce((sum, r) => (r.at >= since ? sum + r.tokens : sum), 0);
    return tokens / (WINDOW_MS / 1000);
  }
}
