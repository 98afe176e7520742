/**
 * The package's public face, as much of it as commands and benchmarks use. It is loaded on first use: help and
 * arithmetic must not wait for (or need) the native addon.
 */

export interface TensorLike {
  readonly data: Float32Array | Int32Array | Uint16Array | Uint8Array;
  readonly shape: readonly number[];
}

export interface Tensor extends TensorLike {
  toFloat32Array(): Float32Array;
}

export interface SystemInfo {
  version: string;
  cpu: { model: string; cores: number; isa: string; available: string[] };
  cuda: {
    available: boolean;
    reason?: string;
    devices: { name: string; computeCapability: string; memoryBytes: number }[];
  };
  threads: number;
}

export interface Ops {
  linearSync(a: { x: TensorLike; weight: TensorLike; bias?: TensorLike }): { y: Tensor };
  rmsNormSync(a: { x: TensorLike; weight?: TensorLike; eps?: number }): { y: Tensor };
  attentionSync(a: { q: TensorLike; k: TensorLike; v: TensorLike; causal?: boolean }): { y: Tensor };
  causalConv1dSync(a: { x: TensorLike; weight: TensorLike; bias?: TensorLike; activation?: 'none' | 'silu' }): {
    y: Tensor;
    finalState: Tensor;
  };
  selectiveScanSync(a: {
    u: TensorLike;
    delta: TensorLike;
    A: TensorLike;
    B: TensorLike;
    C: TensorLike;
    D?: TensorLike;
    z?: TensorLike;
    deltaBias?: TensorLike;
    deltaSoftplus?: boolean;
  }): { y: Tensor; lastState: Tensor };
}

export type DType = 'f32' | 'f16' | 'bf16' | 'i32' | 'q8_0' | 'q4_0';

export interface SessionBytes {
  state: number;
  kvCache: number;
  total: number;
}

export interface ModelDescription {
  modelType: string;
  parameters: { total: number; active: number };
  layers: { kind: string; count: number }[];
  flopsPerToken(context: number): number;
  sessionBytes(context: number, dtype?: DType): SessionBytes;
}

export interface GenerateOptions {
  prompt?: string | ArrayLike<number>;
  maxTokens?: number;
  temperature?: number;
  topK?: number;
  topP?: number;
  minP?: number;
  repetitionPenalty?: number;
  seed?: number;
  stop?: (string | number)[];
  signal?: AbortSignal;
}

export interface Session {
  readonly position: number;
  readonly bytes: number;
  forward(
    tokens: ArrayLike<number>,
    options?: { logits?: 'last' | 'all' | 'none'; signal?: AbortSignal; onProgress?: (tokensDone: number) => void },
  ): Promise<Tensor>;
  generate(options?: GenerateOptions): AsyncIterable<{ token: number; text?: string; logprob: number }>;
  dispose(): Promise<void>;
}

export interface Model {
  readonly modelType: string;
  readonly config: Readonly<Record<string, unknown>>;
  readonly parameters: { total: number; active: number };
  sessionBytes(context: number): SessionBytes;
  createSession(): Session;
  readonly tokenizer?: { encode(text: string): Int32Array; decode(ids: ArrayLike<number>): string };
  dispose(): Promise<void>;
}

export interface LoadOptions {
  device?: 'auto' | 'cpu' | 'cuda';
  dtype?: DType;
  threads?: number;
  signal?: AbortSignal;
  onProgress?: (done: { loadedBytes: number; totalBytes: number }) => void;
}

export interface Library {
  ops: Ops;
  systemInfo(): SystemInfo;
  setThreads(count: number): void;
  loadModel(folder: string, options?: LoadOptions): Promise<Model>;
  createModel(config: Record<string, unknown>, options?: LoadOptions & { seed?: number }): Promise<Model>;
  describeModel(config: Record<string, unknown>): ModelDescription;
  supportedModels(): string[];
}

export function library(): Library {
  return require('../lib/index') as Library;
}
