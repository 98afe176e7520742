/** What serves a model, loaded at its first use: who only runs one does not wait for it. */
import type { FolderStoreOptions } from './engine/cache/folder-store.js';
import type { RedisStore, RedisStoreOptions } from './engine/cache/redis-store.js';
import type { SnapshotStore } from './engine/cache/store.js';
import type { Engine } from './engine/engine.js';
import type { EngineOptions } from './engine/options.js';
import type { PullOptions } from './hub/pull.js';
import type { Model } from './models/model.js';
import type { AppOptions } from './server/app-options.js';
import type { Listening, ServeOptions } from './server/serve.js';
import type { Jobs, JobsOptions } from './worker/jobs.js';
import type { RunningWorker, WorkerOptions } from './worker/worker.js';

const lazyHub = (): typeof import('./hub/pull.js') => require('./hub/pull.js');
const lazyEngine = (): typeof import('./engine/engine.js') => require('./engine/engine.js');
const lazyFolderStore = (): typeof import('./engine/cache/folder-store.js') =>
  require('./engine/cache/folder-store.js');
const lazyRedisStore = (): typeof import('./engine/cache/redis-store.js') => require('./engine/cache/redis-store.js');
const lazyApp = (): typeof import('./server/app.js') => require('./server/app.js');
const lazyJobs = (): typeof import('./worker/jobs.js') => require('./worker/jobs.js');
const lazyWorker = (): typeof import('./worker/worker.js') => require('./worker/worker.js');
const lazyServe = (): typeof import('./server/serve.js') => require('./server/serve.js');

/**
 * Serves many requests from one model together; see docs/serving.md. Several engines of a model are possible, one serves
 * best. ERR_ARGUMENT for wrong options, or a model that does not read tokens.
 */
export function createEngine(model: Model, options: EngineOptions = {}): Engine {
  return lazyEngine().createEngine(model, options);
}

/**
 * Snapshots as files of a folder (on a disk of this machine, or one that several mount). A file is written beside its
 * place and renamed, so that a kill at any moment leaves the old one or the new.
 */
export function folderStore(folder: string, options: FolderStoreOptions = {}): SnapshotStore {
  return lazyFolderStore().folderStore(folder, options);
}

/**
 * Snapshots in a Redis or Valkey, for replicas that share nothing else: `redis://host:6379/0`, `rediss://` for TLS. Give
 * the server a `maxmemory` with the policy `volatile-lru`. Connects at the first use, again when the connection is lost.
 */
export function redisStore(url: string, options: RedisStoreOptions = {}): RedisStore {
  return lazyRedisStore().redisStore(url, options);
}

/**
 * An engine as an OpenAI-compatible HTTP API: a Hono app, whose `fetch` runs by itself or mounted in another; see
 * docs/serving.md. The engine stays the caller's to dispose of.
 */
export function createApp(
  engine: Engine,
  options: AppOptions = {},
): ReturnType<typeof import('./server/app.js').createApp> {
  return lazyApp().createApp(engine, options);
}

/** Serves createApp()'s over HTTP on a port of this machine; rejects where the address cannot be had. */
export function listen(engine: Engine, options: ServeOptions = {}): Promise<Listening> {
  return lazyServe().listen(engine, options);
}

/** Batch work in the Redis at `url`: adds jobs for workers, and waits for what they come to. See docs/scaling.md. */
export function openJobs(url: string, options: JobsOptions = {}): Jobs {
  return lazyJobs().openJobs(url, options);
}

/**
 * Does jobs of the Redis at `url` in an engine, as `statespace worker` does. A job is another worker's when this one
 * dies; its result is written once.
 */
export function startWorker(engine: Engine, url: string, options: WorkerOptions = {}): Promise<RunningWorker> {
  return lazyWorker().startWorker(engine, url, options);
}

/**
 * Brings what loadModel needs of 'hf:owner/name[/file.gguf][@revision]' into the cache that Python's tools share
 * (HF_HUB_CACHE, HF_HOME) and returns the folder, or the GGUF file. A cut download goes on; sizes and hashes are checked.
 * ERR_ARGUMENT for another form; ERR_CHECKPOINT with the address and what to do.
 */
export function pull(source: string, options: PullOptions = {}): Promise<string> {
  return lazyHub().pull(source, options);
}
