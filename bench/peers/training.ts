/** A training step against transformers on PyTorch: the same weights and tokens, steps in turn in one run. */
import { type ChildProcess, fork } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { Random } from '../random.js';
import { median, type Sample, summarise } from '../statistics.js';
import { peerModels } from './models.js';
import { Peer, type Program, TRAINING } from './peer.js';
import type { TrainingEnd, TrainingJob, TrainingStep } from './training-child.js';

export type TrainingType = 'f32' | 'bf16';

export interface TrainingComparison {
  model: string;
  dtype: TrainingType;
  length: number;
  parameters: number;
  ours: TrainingSpeed & {
    /** A prompt as long as a step's, by the same model: its seconds divided by a step's. */
    ofPrefill: number;
  };
  peer: TrainingSpeed & { name: string };
  /** The peer's step divided by ours; our peak memory divided by the peer's. */
  ratio: { speed: number; memory: number };
  /** Relative distance of the first step's losses and gradients' norms. */
  difference: { loss: number; gradNorm: number };
  /** The peer's only step was its first: it took longer than a case may. */
  cold: boolean;
}

export interface TrainingSpeed {
  /** Seconds of forward, backward and AdamW. */
  step: Sample;
  peakBytes: number;
}

export interface TrainingSettings {
  length: number;
  reps: number;
  threads: number;
  dir: string;
  signal: AbortSignal;
  onProgress: (fraction: number, note: string) => void;
}

const LEARNING_RATE = 1e-4;
// A first step longer than this is the sample.
const LONGEST_STEP = 20;
// Threads of others spin for some time when their work is done.
const PAUSE = 300;
const BOUNDS = { f32: { loss: 1e-4, gradNorm: 1e-3 }, bf16: { loss: 1e-3, gradNorm: 2e-2 } };

export async function compareTraining(
  jobs: readonly { model: string; dtype: TrainingType }[],
  settings: TrainingSettings,
): Promise<{ training: TrainingComparison[]; skipped: string[] }> {
  const training: TrainingComparison[] = [];
  const skipped: string[] = [];
  for (const [i, job] of jobs.entries()) {
    settings.onProgress(i / jobs.length, `${job.model} ${job.dtype}`);
    const result = await compareStep(job, settings);
    settings.signal.throwIfAborted();
    if (typeof result === 'string') skipped.push(`${job.model} ${job.dtype}: ${result}`);
    else training.push(result);
  }
  return { training, skipped };
}

/** The comparison, or why there is none. Each side is a process of its own for each model: its peak memory is the model's. */
async function compareStep(
  { model, dtype }: { model: string; dtype: TrainingType },
  { length, reps, threads, dir, signal }: TrainingSettings,
): Promise<TrainingComparison | string> {
  const config = peerModels()[model]!;
  const folder = mkdtempSync(join(tmpdir(), 'statespace-training-'));
  const ours = new Child(signal);
  const program: Program = TRAINING;
  const { peer, hello } = await Peer.start(program.command(dir), program.args(dir, threads));
  const kill = () => peer.stop();
  signal.addEventListener('abort', kill);
  const ask = async <T>(job: object): Promise<T> => {
    const answer = await peer.ask<T & { error?: string }>(job);
    if (answer.error !== undefined) throw new Error(`${hello.peer}: ${answer.error}`);
    return answer;
  };
  try {
    const theirs = await ask<{ parameters: number }>({
      do: 'make',
      config,
      dtype,
      folder,
      learningRate: LEARNING_RATE,
    });
    const own = await ours.ask<{ parameters: number }>({
      ...{ do: 'make', folder, dtype, learningRate: LEARNING_RATE, threads },
    });
    if (theirs.parameters !== own.parameters) return `it has ${theirs.parameters} parameters, not ${own.parameters}`;
    const ids = tokens(Number(config.vocab_size), length);
    const turn = async () => {
      await pause(PAUSE);
      const their = await ask<TrainingStep>({ do: 'step', ids });
      await pause(PAUSE);
      return { their, our: await ours.ask<TrainingStep>({ do: 'step', ids }) };
    };
    const first = await turn();
    const difference = {
      loss: Math.abs(first.our.loss / first.their.loss - 1),
      gradNorm: Math.abs(first.our.gradNorm / first.their.gradNorm - 1),
    };
    const bound = BOUNDS[dtype];
    if (!(difference.loss <= bound.loss && difference.gradNorm <= bound.gradNorm))
      return `its first step is another: loss ${first.their.loss} and ${first.our.loss}, norm ${first.their.gradNorm} and ${first.our.gradNorm}`;
    const cold = first.their.seconds > LONGEST_STEP;
    const samples = { their: cold ? [first.their.seconds] : [], our: [] as number[] };
    for (let i = 0; i < reps; i++) {
      const { their, our } = cold
        ? { their: null, our: await ours.ask<TrainingStep>({ do: 'step', ids }) }
        : await turn();
      if (their) samples.their.push(their.seconds);
      samples.our.push(our.seconds);
    }
    const { peakBytes: theirPeak } = await ask<{ peakBytes: number }>({ do: 'finish' });
    peer.stop();
    await pause(PAUSE);
    const { peakBytes, prefill } = await ours.ask<TrainingEnd>({ do: 'finish', ids, reps });
    const step = summarise(samples.our);
    const their = summarise(samples.their);
    return {
      ...{ model, dtype, length, parameters: own.parameters, difference, cold },
      ours: { step, peakBytes, ofPrefill: median(prefill) / step.median },
      peer: { name: hello.peer, step: their, peakBytes: theirPeak },
      ratio: { speed: their.median / step.median, memory: peakBytes / theirPeak },
    };
  } catch (error) {
    return (error as Error).message;
  } finally {
    signal.removeEventListener('abort', kill);
    peer.stop();
    ours.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

function tokens(vocabulary: number, count: number): number[] {
  const random = new Random(11);
  return Array.from({ length: count }, () => Math.floor(random.next(0, vocabulary)));
}

/** Our side: one message, one answer. */
class Child {
  readonly #process: ChildProcess;
  #complaint = '';

  constructor(signal: AbortSignal) {
    this.#process = fork(join(__dirname, 'training-child.js'), { signal, killSignal: 'SIGKILL', silent: true });
    this.#process.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#complaint = (this.#complaint + text).slice(-4000);
    });
    this.#process.on('error', () => {}); // aborted: it ends, and ask() says so
  }

  ask<T>(job: TrainingJob): Promise<T> {
    return new Promise((resolve, reject) => {
      const ended = () => reject(new Error(`the training process ended: ${this.#complaint.trim().split('\n').at(-1)}`));
      this.#process.once('exit', ended);
      this.#process.once('message', ({ value, error }: { value?: T; error?: string }) => {
        this.#process.off('exit', ended);
        if (error === undefined) resolve(value!);
        else reject(new Error(`statespace: ${error}`));
      });
      this.#process.send(job);
    });
  }

  stop(): void {
    this.#process.kill('SIGKILL');
  }
}
