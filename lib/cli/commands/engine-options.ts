/** What `serve` and `worker` have in common: a model, an engine, a store. */
import { existsSync } from 'node:fs';
import { type Command, Option } from 'commander';
import { type LoadOptions, library } from '../../../bench/library.js';
import type { Engine, Model, RedisStore, SnapshotStore } from '../../index.js';
import { UsageError } from '../errors.js';
import { collect, parseBytes, parseLeast, parsePositive } from '../parse.js';
import { progress } from '../terminal.js';

export interface EngineFlags {
  cacheFolder?: string;
  redis?: string;
  maxRunning?: number;
  maxQueued?: number;
  maxBatchTokens?: number;
  memory?: number;
  cache?: number;
  log: 'json' | 'none';
  adapter?: string[];
  dtype?: LoadOptions['dtype'];
  device: LoadOptions['device'];
  threads?: number;
  contextLength?: number;
}

export function addEngineOptions(command: Command): Command {
  return command
    .option('--cache-folder <folder>', 'keep read prompts there, also for the next start')
    .option('--cache <bytes>', 'memory for prompts that were read, such as 2G; 0: none', parseBytes)
    .option('--memory <bytes>', 'memory for sessions and cache together', parseBytes)
    .option('--max-running <n>', 'requests that are generated together', parsePositive)
    .option('--max-queued <n>', 'requests that may wait', parseLeast(0))
    .option('--max-batch-tokens <n>', 'tokens that one step feeds at most', parsePositive)
    .addOption(
      new Option('--log <form>', 'a line for each request on stderr').choices(['json', 'none']).default('json'),
    )
    .option('--adapter <folder>', 'LoRA adapters in peft’s format; may be repeated', collect)
    .option('--dtype <type>', 'type that matrices are held in (default: as stored)')
    .addOption(new Option('--device <name>', 'where to run').choices(['auto', 'cpu', 'cuda']).default('auto'))
    .option('--threads <n>', 'compute threads (default: physical cores)', parsePositive)
    .option(
      '--context-length <n>',
      'tokens that sequences are to hold, where rotations depend on it (longrope, dynamic)',
      parsePositive,
    );
}

/** The model, loaded, and its engine; `close` ends both when nothing more is asked, and writes what is to be stored. */
export async function openEngine(
  path: string,
  options: EngineFlags,
  signal: AbortSignal,
): Promise<{ model: Model; engine: Engine; close(): Promise<void> }> {
  if (!existsSync(path) && !path.startsWith('hf:')) throw new UsageError(`no folder or file ${path}`);
  if (options.cacheFolder && options.redis) throw new UsageError('one of --cache-folder and --redis');
  const { createEngine, loadModel } = library();
  const bar = progress('loading');
  const model = await loadModel(path, {
    ...given({ adapters: options.adapter, dtype: options.dtype, device: options.device, threads: options.threads }),
    contextLength: options.contextLength,
    signal,
    onProgress: ({ loadedBytes, totalBytes }) => bar.update(totalBytes ? loadedBytes / totalBytes : 1, 'weights'),
  }).finally(() => bar.stop());
  const store = openStore(options);
  const engine = createEngine(model, {
    ...given({ maxRunning: options.maxRunning, maxQueued: options.maxQueued }),
    ...given({ maxBatchTokens: options.maxBatchTokens, memoryBytes: options.memory }),
    prefixCache: options.cache === 0 ? false : given({ bytes: options.cache, store }),
  });
  const close = async () => {
    await engine.drain();
    await engine.dispose();
    await (store as RedisStore | undefined)?.close?.();
    await model.dispose();
  };
  return { model, engine, close };
}

function openStore({ cacheFolder, redis }: EngineFlags): SnapshotStore | undefined {
  if (cacheFolder) return library().folderStore(cacheFolder);
  return redis ? library().redisStore(redis) : undefined;
}

/** Resolves at SIGTERM, or Ctrl-C. */
export function asked(interrupted: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    process.once('SIGTERM', () => resolve());
    if (interrupted.aborted) resolve();
    interrupted.addEventListener('abort', () => resolve(), { once: true });
  });
}

/** Without what is undefined. */
export function given<T extends object>(options: T): { [K in keyof T]?: NonNullable<T[K]> } {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as never;
}
