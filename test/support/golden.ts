// Reads the golden corpus (see test/golden/README.md) and compares with it.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Model } from 'statespace';
import { expect } from 'vitest';

export const goldenRoot = resolve(__dirname, '../golden');
/** More cases of the same form, where they lie beside the project: too large to keep all of them in it. */
const besides = resolve(__dirname, '../../../shared/golden/seed-C');
const roots = existsSync(besides) ? [goldenRoot, besides] : [goldenRoot];

export interface GoldenTensor {
  /** i64 is narrowed to Int32Array, bool is 0 or 1 in a Uint8Array. */
  readonly data: Float32Array | Int32Array | Uint8Array;
  readonly shape: readonly number[];
}

export interface GoldenFile {
  readonly tensors: Readonly<Record<string, GoldenTensor>>;
  /** Strings that hold JSON are parsed; "inf" among the values is Infinity. */
  readonly metadata: Readonly<Record<string, unknown>>;
}

export interface KernelCase {
  /** OP__CASE */
  readonly name: string;
  readonly op: string;
  /** Without their "in." and "out.". */
  readonly inputs: Readonly<Record<string, GoldenTensor>>;
  readonly outputs: Readonly<Record<string, GoldenTensor>>;
  readonly flags: Readonly<Record<string, unknown>>;
  /** Suggested tolerance of one output; chunked: at least the spread of chunked f32 references. */
  tolerance(output: string, form?: 'sequential' | 'chunked'): Tolerance;
  readonly metadata: Readonly<Record<string, unknown>>;
}

export interface ModelCase {
  readonly name: string;
  readonly folder: string;
  readonly expected: Readonly<Record<string, GoldenTensor>>;
  readonly metadata: Readonly<Record<string, unknown>>;
  /** What |logits − expected| may be in f32. */
  readonly tolerance: Tolerance;
}

export interface Tolerance {
  readonly atol: number;
  readonly rtol: number;
}

type Numbers = ArrayLike<number>;

export function readGolden(file: string): GoldenFile {
  const bytes = readFileSync(file);
  const dataStart = 8 + Number(bytes.readBigUInt64LE(0));
  const { __metadata__, ...entries } = JSON.parse(bytes.toString('utf8', 8, dataStart));
  const tensors: Record<string, GoldenTensor> = {};
  for (const [name, entry] of Object.entries(entries as Record<string, Entry>)) {
    const [begin, end] = entry.data_offsets;
    const copy = bytes.buffer.slice(bytes.byteOffset + dataStart + begin, bytes.byteOffset + dataStart + end);
    tensors[name] = { data: typed(entry.dtype, copy as ArrayBuffer), shape: entry.shape };
  }
  const metadata: Record<string, unknown> = {};
  for (const [key, text] of Object.entries((__metadata__ ?? {}) as Record<string, string>)) metadata[key] = value(text);
  return { tensors, metadata };
}

interface Entry {
  dtype: string;
  shape: number[];
  data_offsets: [number, number];
}

function typed(dtype: string, buffer: ArrayBuffer): GoldenTensor['data'] {
  switch (dtype) {
    case 'F32':
      return new Float32Array(buffer);
    case 'I32':
      return new Int32Array(buffer);
    case 'I64':
      return Int32Array.from(new BigInt64Array(buffer), Number);
    case 'U8':
    case 'BOOL':
      return new Uint8Array(buffer);
    default:
      throw new Error(`golden files hold no ${dtype}`);
  }
}

function value(text: string): unknown {
  try {
    return JSON.parse(text.replace(/: NaN\b/g, ': null'), (_, v) =>
      v === 'inf' ? Infinity : v === '-inf' ? -Infinity : v,
    );
  } catch {
    return text;
  }
}

/** Kernel cases of the second corpus, where the whole of it lies beside the project; a selection is in goldenRoot. */
const second = resolve(__dirname, '../../../shared/golden/seed-C/kernels');
const prefix = 'seed-C/';

/** Names of the kernel cases of one op, or of all; those of the second corpus begin with its name. */
export function kernelNames(op?: string): string[] {
  const names = (folder: string, before = '') =>
    readdirSync(folder)
      .map((file) => before + file.replace(/\.safetensors$/, ''))
      .sort();
  const all = [...names(join(goldenRoot, 'kernels')), ...(existsSync(second) ? names(second, prefix) : [])];
  return all.filter((name) => op === undefined || kernelOp(name) === op);
}

/** The op of a case, by its name. */
export function kernelOp(name: string): string {
  return name.replace(prefix, '').replace(/__.*/, '');
}

export function kernelCase(name: string): KernelCase {
  const file = name.startsWith(prefix) ? join(second, name.slice(prefix.length)) : join(goldenRoot, 'kernels', name);
  const { tensors, metadata } = readGolden(`${file}.safetensors`);
  const part = (prefix: string) =>
    Object.fromEntries(
      Object.entries(tensors).flatMap(([key, t]) => (key.startsWith(prefix) ? [[key.slice(prefix.length), t]] : [])),
    );
  const atol = metadata.suggested_atol as Record<string, number>;
  const spread = metadata.chunked_f32_spread as Record<string, number> | number | undefined;
  return {
    name,
    op: metadata.op as string,
    inputs: part('in.'),
    outputs: part('out.'),
    flags: metadata.flags as Record<string, unknown>,
    tolerance(output, form = 'sequential') {
      const suggested = atol[output];
      if (suggested === undefined) throw new Error(`${name} has no output ${output}`);
      const floor = form === 'chunked' ? (typeof spread === 'object' ? (spread[output] ?? 0) : (spread ?? 0)) : 0;
      return { atol: Math.max(suggested, floor), rtol: Number(metadata.suggested_rtol) };
    },
    metadata,
  };
}

export function modelNames(): string[] {
  const names = roots.flatMap((root) => readdirSync(join(root, 'models')));
  return [...new Set(names)].filter((name) => existsSync(join(modelFolder(name), 'expected.safetensors'))).sort();
}

/** The folder of a checkpoint of the corpus, here or beside the project. */
export function modelFolder(name: string): string {
  const folders = roots.map((root) => join(root, 'models', name));
  return folders.find((folder) => existsSync(folder)) ?? folders[0]!;
}

/** Whether a checkpoint of the corpus lies beside the project only. */
export const isBeside = (name: string): boolean => !existsSync(join(goldenRoot, 'models', name));

/** The model_type of a checkpoint of the corpus; those of mamba_ssm name none, RWKV's own have no config.json. */
export function modelType(name: string): string {
  const file = join(modelFolder(name), 'config.json');
  return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')).model_type ?? 'mamba_ssm') : 'rwkv';
}

/** The last of each model_type. */
export function oneOfEachFamily(names: string[]): string[] {
  return [...new Map(names.map((name) => [modelType(name), name])).values()];
}

export function modelCase(name: string): ModelCase {
  const folder = modelFolder(name);
  const { tensors, metadata } = readGolden(join(folder, 'expected.safetensors'));
  const noise = (metadata.f32_vs_f64_maxdiff as number | undefined) ?? 0;
  return { name, folder, expected: tensors, metadata, tolerance: { atol: Math.max(1e-3, 10 * noise), rtol: 0 } };
}

/** What a stream of a model gives of the reference's greedy tokens: it ends before an end of text, the reference goes on. */
export function streamed(model: Model, greedy: Iterable<number>): number[] {
  const ends = [model.config.eos_token_id].flat();
  const tokens = [...greedy];
  const end = tokens.findIndex((id) => ends.includes(id));
  return end < 0 ? tokens : tokens.slice(0, end);
}

/** |actual − expected| ≤ atol + rtol·|expected| everywhere, with the worst place in the message. NaN equals NaN only. */
export function expectClose(actual: Numbers, expected: Numbers, { atol, rtol }: Tolerance, what = 'values'): void {
  if (actual.length !== expected.length) {
    expect.fail(`${what}: expected ${expected.length} values, received ${actual.length}`);
  }
  let worst = -1;
  let excess = 1;
  let wrong = 0;
  for (let i = 0; i < expected.length; i++) {
    const [a, e] = [actual[i]!, expected[i]!];
    if (Object.is(a, e) || a === e) continue;
    const bound = atol + rtol * Math.abs(e);
    const ratio = Number.isFinite(a) && Number.isFinite(e) ? Math.abs(a - e) / bound : Infinity;
    if (ratio <= 1) continue;
    wrong++;
    if (ratio > excess || worst < 0) [worst, excess] = [i, ratio];
  }
  if (worst < 0) return;
  expect.fail(
    `${what}: ${wrong} of ${expected.length} beyond tolerance (atol ${atol}, rtol ${rtol}); worst at ${worst}: ` +
      `expected ${expected[worst]}, received ${actual[worst]}, ${excess.toPrecision(3)} times the bound`,
  );
}

/** ‖actual − expected‖ / ‖expected‖. */
export function relativeL2(actual: Numbers, expected: Numbers): number {
  let error = 0;
  let norm = 0;
  for (let i = 0; i < expected.length; i++) {
    error += (actual[i]! - expected[i]!) ** 2;
    norm += expected[i]! ** 2;
  }
  return Math.sqrt(error / (norm || 1));
}
