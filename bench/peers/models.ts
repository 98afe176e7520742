/** Whole models against transformers and llama.cpp: same configuration, random weights, in turn in one run. */
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { DType } from '../library.js';
import { runInChild } from '../models/process.js';
import { type Sample, summarise } from '../statistics.js';
import { SCRIPTS, type Started } from './peer.js';

export interface ModelComparison {
  model: string;
  dtype: DType;
  context: number;
  parameters: number;
  ours: Speeds;
  peers: (Speeds & {
    peer: string;
    dtype: string;
    /** Its seconds divided by ours. */
    ratio: { prefill: number; decode: number };
  })[];
  skipped: { peer: string; dtype: string; reason: string }[];
}

/** Seconds of the whole prompt, and of a token after it. */
export interface Speeds {
  prefill: Sample;
  decode: Sample;
}

interface Answer {
  parameters?: number;
  prefill: number[];
  decode: number[];
  error?: string;
  unsupported?: string;
}

export interface ModelSettings {
  context: number;
  decodeTokens: number;
  reps: number;
  threads: number;
  dir: string;
  signal: AbortSignal;
  onProgress: (fraction: number, note: string) => void;
}

export function peerModels(): Record<string, Record<string, unknown>> {
  return JSON.parse(readFileSync(join(SCRIPTS, 'models.json'), 'utf8')) as Record<string, Record<string, unknown>>;
}

export async function compareModels(
  jobs: readonly { model: string; dtype: DType }[],
  peers: { transformers?: Started; llamaCpp?: Started },
  settings: ModelSettings,
): Promise<ModelComparison[]> {
  const comparisons: ModelComparison[] = [];
  for (const [i, job] of jobs.entries()) {
    const note = (who: string) => settings.onProgress(i / jobs.length, `${job.model} ${job.dtype}: ${who}`);
    comparisons.push(await compareModel(job, peers, settings, note));
  }
  return comparisons;
}

async function compareModel(
  { model, dtype }: { model: string; dtype: DType },
  { transformers, llamaCpp }: { transformers?: Started; llamaCpp?: Started },
  { context, decodeTokens, reps, threads, dir, signal }: ModelSettings,
  note: (who: string) => void,
): Promise<ModelComparison> {
  const config = peerModels()[model]!;
  note('statespace');
  const { prefill, decode, parameters } = await runInChild(
    { config, features: null, context, decodeTokens, reps, dtype, threads },
    signal,
  );
  const ours = { prefill: summarise(prefill), decode: summarise(decode) };
  const result: ModelComparison = {
    ...{ model, dtype, context, parameters: parameters.total, ours, peers: [], skipped: [] },
  };
  const ask = async ({ hello, peer }: Started, theirs: string, job: object) => {
    note(`${hello.peer}, ${theirs}`);
    const answer = await peer.ask<Answer>({ ...job, context, decodeTokens, reps });
    signal.throwIfAborted();
    const other = answer.parameters !== undefined && answer.parameters !== parameters.total;
    const reason =
      answer.error ??
      answer.unsupported ??
      (other ? `it has ${answer.parameters} parameters, not ${parameters.total}` : '');
    if (reason !== '') {
      result.skipped.push({ peer: hello.peer, dtype: theirs, reason });
      return;
    }
    const speeds = { prefill: summarise(answer.prefill), decode: summarise(answer.decode) };
    const ratio = {
      prefill: speeds.prefill.median / ours.prefill.median,
      decode: speeds.decode.median / ours.decode.median,
    };
    result.peers.push({ peer: hello.peer, dtype: theirs, ...speeds, ratio });
  };
  if (transformers) await ask(transformers, dtype, { config, dtype });
  if (llamaCpp) {
    try {
      await ask(llamaCpp, dtype, { file: await ggufFile(dir, model, dtype) });
    } catch (error) {
      result.skipped.push({ peer: llamaCpp.hello.peer, dtype, reason: (error as Error).message });
    }
  }
  return result;
}

/** The model in llama.cpp's format, made at its first use and kept below the environment's folder. */
async function ggufFile(dir: string, model: string, dtype: string): Promise<string> {
  const file = join(dir, 'gguf', `${model}-${dtype}.gguf`);
  if (existsSync(file)) return file;
  mkdirSync(join(dir, 'gguf'), { recursive: true });
  const args = [join(SCRIPTS, 'make_gguf.py'), join(SCRIPTS, 'models.json'), model, dtype, file];
  await promisify(execFile)(join(dir, 'venv', 'bin', 'python'), args);
  return file;
}
