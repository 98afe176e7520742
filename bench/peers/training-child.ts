/** A model being trained in a process of its own, so that the peak memory is that model's: answers one message at a time. */
import { library, type Model } from '../library.js';
import { peakResidentBytes } from '../machine.js';

export type TrainingJob =
  | { do: 'make'; folder: string; dtype: 'f32' | 'bf16'; learningRate: number; threads: number }
  | { do: 'step'; ids: number[] }
  | { do: 'finish'; ids: number[]; reps: number };

export interface TrainingStep {
  seconds: number;
  loss: number;
  gradNorm: number;
}

export interface TrainingEnd {
  peakBytes: number;
  /** Seconds of a prompt as long as a step's, on the model itself; taken after the peak was read. */
  prefill: number[];
}

const { createTrainer, loadModel, setThreads, Tensor } = library();
let model: Model;
let trainer: ReturnType<typeof createTrainer>;

const timed = async <T>(run: () => Promise<T>): Promise<{ seconds: number; value: T }> => {
  const started = performance.now();
  const value = await run();
  return { seconds: (performance.now() - started) / 1000, value };
};

async function answer(job: TrainingJob): Promise<{ parameters: number } | TrainingStep | TrainingEnd> {
  if (job.do === 'make') {
    setThreads(job.threads);
    model = await loadModel(job.folder, { device: 'cpu', dtype: job.dtype });
    trainer = createTrainer(model, { dtype: job.dtype, learningRate: job.learningRate });
    return { parameters: model.parameters.total };
  }
  const ids = Int32Array.from(job.ids);
  if (job.do === 'step') {
    const { seconds, value } = await timed(() => trainer.step({ ids: new Tensor(ids, [1, ids.length]) }));
    return { seconds, loss: value.loss, gradNorm: value.gradNorm };
  }
  const peakBytes = peakResidentBytes();
  await trainer.dispose();
  const prefill: number[] = [];
  for (let i = 0; i <= job.reps; i++) {
    const session = model.createSession();
    prefill.push((await timed(() => session.forward(ids, { logits: 'last' }))).seconds);
    await session.dispose();
  }
  return { peakBytes, prefill: prefill.slice(1) };
}

process.on('message', (job: TrainingJob) => {
  answer(job).then(
    (value) => process.send!({ value }),
    (error: Error) => process.send!({ error: error.message }),
  );
});
