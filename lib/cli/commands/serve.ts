import { existsSync } from 'node:fs';
import { basename, resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { type LoadOptions, library } from '../../../bench/library.js';
import type { RedisStore, SnapshotStore } from '../../index.js';
import { Interrupted, UsageError } from '../errors.js';
import { parseBytes, parseLeast, parsePositive } from '../parse.js';
import { progress, write } from '../terminal.js';

interface Options {
  port: number;
  host: string;
  apiKey?: string[];
  cacheFolder?: string;
  redis?: string;
  modelName?: string;
  maxRunning?: number;
  maxQueued?: number;
  maxBatchTokens?: number;
  memory?: number;
  cache?: number;
  maxTokens: number;
  timeout?: number;
  bodyLimit?: number;
  cors?: string[];
  page: boolean;
  grace: number;
  log: 'json' | 'none';
  dtype?: LoadOptions['dtype'];
  device: LoadOptions['device'];
  threads?: number;
}

const collect = (value: string, all: string[] = []) => [...all, value];
const MAX_PORT = 65_535;

export function addServe(program: Command, signal: AbortSignal): void {
  program
    .command('serve <model>')
    .description("Serve a model over HTTP by OpenAI's API, with a page at / to try it.")
    .option('--port <n>', 'port; 0: any that is free', parseLeast(0), 8080)
    .option('--host <address>', 'address to listen on; 0.0.0.0: all of this machine', '127.0.0.1')
    .option('--api-key <key>', 'refuse who does not send it; may be repeated (or STATESPACE_API_KEY)', collect)
    .option('--model-name <name>', 'what clients call the model (default: the name of its folder or file)')
    .option('--cache-folder <folder>', 'keep read prompts there, also for the next start')
    .option('--redis <url>', 'keep read prompts in a Redis that replicas share')
    .option('--cache <bytes>', 'memory for prompts that were read, such as 2G; 0: none', parseBytes)
    .option('--memory <bytes>', 'memory for sessions and cache together', parseBytes)
    .option('--max-running <n>', 'requests that are generated together', parsePositive)
    .option('--max-queued <n>', 'requests that may wait; more get 429', parseLeast(0))
    .option('--max-batch-tokens <n>', 'tokens that one step feeds at most', parsePositive)
    .option('--max-tokens <n>', 'tokens of one answer at most', parsePositive, 4096)
    .option('--timeout <seconds>', 'for one request', parsePositive)
    .option('--body-limit <bytes>', "of a request's body", parseBytes)
    .option('--cors <origin>', 'pages of this origin may call; may be repeated, * for all', collect)
    .option('--no-page', 'no page at /')
    .option('--grace <seconds>', 'for running requests after SIGTERM', parseLeast(0), 30)
    .addOption(
      new Option('--log <form>', 'a line for each request on stderr').choices(['json', 'none']).default('json'),
    )
    .option('--dtype <type>', 'type that matrices are held in (default: as stored)')
    .addOption(new Option('--device <name>', 'where to run').choices(['auto', 'cpu', 'cuda']).default('auto'))
    .option('--threads <n>', 'compute threads (default: physical cores)', parsePositive)
    .addHelpText(
      'after',
      `
Prints one line with its URL on stdout when it is ready. SIGTERM: answers what runs, then ends.

Examples:
  $ statespace serve ./mamba-130m
  $ statespace serve ./jamba --host 0.0.0.0 --api-key SECRET --cache-folder /var/cache/statespace
  $ curl http://127.0.0.1:8080/v1/completions -H 'content-type: application/json' \\
      -d '{"prompt": "State space models", "max_tokens": 50}'`,
    )
    .action((model: string, options: Options) => serve(model, options, signal));
}

async function serve(path: string, options: Options, interrupted: AbortSignal): Promise<void> {
  if (!existsSync(path) && !path.startsWith('hf:')) throw new UsageError(`no folder or file ${path}`);
  if (options.port > MAX_PORT) throw new UsageError(`there is no port ${options.port}`);
  if (options.cacheFolder && options.redis) throw new UsageError('one of --cache-folder and --redis');
  const { createEngine, listen, loadModel } = library();
  const bar = progress('loading');
  const model = await loadModel(path, {
    ...given({ dtype: options.dtype, device: options.device, threads: options.threads }),
    signal: interrupted,
    onProgress: ({ loadedBytes, totalBytes }) => bar.update(totalBytes ? loadedBytes / totalBytes : 1, 'weights'),
  }).finally(() => bar.stop());
  const store = openStore(options);
  const engine = createEngine(model, {
    ...given({
      maxRunning: options.maxRunning,
      maxQueued: options.maxQueued,
      maxBatchTokens: options.maxBatchTokens,
      memoryBytes: options.memory,
    }),
    prefixCache: options.cache === 0 ? false : given({ bytes: options.cache, store }),
  });
  const keys = options.apiKey ?? (process.env.STATESPACE_API_KEY ? [process.env.STATESPACE_API_KEY] : undefined);
  const server = await listen(engine, {
    ...{ port: options.port, host: options.host, maxTokens: options.maxTokens, page: options.page },
    ...given({ apiKey: keys, bodyLimit: options.bodyLimit }),
    ...(options.cors ? { cors: options.cors.includes('*') ? '*' : options.cors } : {}),
    ...(options.timeout ? { timeoutMs: options.timeout * 1000 } : {}),
    model: options.modelName ?? basename(resolve(path)),
    ...(options.log === 'json' ? { log: (entry: object) => process.stderr.write(`${JSON.stringify(entry)}\n`) } : {}),
  });
  write(`statespace: serving ${options.modelName ?? basename(resolve(path))} at ${server.url}`);

  await asked(interrupted);
  // Who is answered now is answered to the end; then what goes into the store is written.
  await server.close(options.grace * 1000);
  await engine.drain();
  await engine.dispose();
  await (store as RedisStore | undefined)?.close?.();
  await model.dispose();
  if (interrupted.aborted) throw new Interrupted();
}

/** Resolves at SIGTERM, or Ctrl-C. */
function asked(interrupted: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    process.once('SIGTERM', () => resolve());
    if (interrupted.aborted) resolve();
    interrupted.addEventListener('abort', () => resolve(), { once: true });
  });
}

function openStore({ cacheFolder, redis }: Options): SnapshotStore | undefined {
  if (cacheFolder) return library().folderStore(cacheFolder);
  return redis ? library().redisStore(redis) : undefined;
}

/** Without what is undefined. */
function given<T extends object>(options: T): { [K in keyof T]?: NonNullable<T[K]> } {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as never;
}
