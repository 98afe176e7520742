export type { HeldType } from './dtype.js';
export type { FolderStoreOptions } from './engine/cache/folder-store.js';
export type { RedisStore, RedisStoreOptions } from './engine/cache/redis-store.js';
export type { SnapshotStore, StoredPieces } from './engine/cache/store.js';
export type { Engine, EngineStats } from './engine/engine.js';
export type { EngineStream } from './engine/generation.js';
export type { EngineOptions, PrefixCacheOptions } from './engine/options.js';
export type { EngineToken, GenerateRequest, Usage } from './engine/request.js';
export { type ErrorCode, StatespaceError } from './errors.js';
export type { ResponseFormat } from './grammar/format.js';
export { type Dim, Graph, type Node, type Value } from './graph/graph.js';
export type { Init } from './graph/weight-spec.js';
export { type WeightOptions, Weights } from './graph/weights.js';
export type { PullOptions } from './hub/pull.js';
export * as layers from './layers/index.js';
export { backbone } from './models/backbone.js';
export { ConfigReader } from './models/config.js';
export type { ModelDefinition } from './models/definition.js';
export {
  type CheckpointDescription,
  describeModel,
  type ModelDescription,
  type TensorDescription,
} from './models/describe.js';
export type { Parameters } from './models/held.js';
export { createModel, loadModel } from './models/load.js';
export type { LoadOptions } from './models/load-options.js';
export type { Model } from './models/model.js';
export { modelDefinition, registerModel, supportedModels } from './models/registry.js';
export * as ops from './ops/index.js';
export type { QuantizeOptions, QuantizeReport, TensorReport } from './quantize/quantize.js';
export { quantize } from './quantizing.js';
export type { AppOptions, LogEntry } from './server/app-options.js';
export type { Listening, ServeOptions } from './server/serve.js';
export { createApp, createEngine, folderStore, listen, openJobs, pull, redisStore, startWorker } from './serving.js';
export type { BatchEntry } from './session/batch.js';
export type {
  FinishReason as GenerateFinishReason,
  Generated,
  GenerateOptions,
  Generation,
} from './session/generation.js';
export { type ForwardOptions, fork, type SaveOptions, type Session } from './session/session.js';
export { type SystemInfo, setThreads, systemInfo } from './system.js';
export { type DType, Tensor, type TensorLike } from './tensor.js';
export type { RowBatch, TrainingBatch } from './training/given.js';
export { createTrainer, resumeTrainer, saveModel } from './training/index.js';
export type { LoraOptions, Loss, StepReport, TrainerOptions } from './training/options.js';
export type { Trainer } from './training/trainer.js';
export type { JobRequest, JobResult, Jobs, JobsOptions } from './worker/jobs.js';
export type { RunningWorker, WorkerOptions } from './worker/worker.js';
