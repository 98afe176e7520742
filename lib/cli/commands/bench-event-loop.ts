import type { Command } from 'commander';
import { eventLoopDelay } from '../../../bench/event-loop.js';
import { formatCount, formatSeconds, group, significant } from '../../../bench/format.js';
import { library } from '../../../bench/library.js';
import { FAMILIES, sized } from '../../../bench/models/families.js';
import { UsageError } from '../errors.js';
import { parseAmount, parseLength, parsePositive } from '../parse.js';
import { write } from '../terminal.js';

interface Options {
  family: string;
  parameters: number;
  dModel: number;
  tokens: number;
  json?: boolean;
}

const HEAD_DIM = 64;
const VOCABULARY = 50280;

// Of tokens: the delay does not depend on what a prompt is made of.
const READERS = FAMILIES.filter((family) => family.features === undefined);

export function addBenchEventLoop(bench: Command): void {
  bench
    .command('event-loop')
    .description('How long the event loop stands still while a model reads a prompt.')
    .option('--family <name>', `of ${READERS.map((family) => family.name).join(', ')}`, 'mamba')
    .option('--parameters <n>', 'size of the model; the number of layers follows', parseAmount, 130e6)
    .option('--d-model <n>', `model width, a multiple of ${HEAD_DIM}`, parsePositive, 768)
    .option('--tokens <n>', 'length of the prompt', parseLength, 8192)
    .option('--json', 'print JSON instead of text')
    .addHelpText('after', '\nExample:\n  $ statespace bench event-loop --family llama --tokens 4K')
    .action(measure);
}

async function measure({ family: name, parameters, dModel, tokens, json }: Options): Promise<void> {
  const family = READERS.find((candidate) => candidate.name === name);
  if (family === undefined) throw new UsageError(`--family: "${name}" is none of ${READERS.map((f) => f.name)}`);
  if (dModel % HEAD_DIM !== 0) throw new UsageError(`--d-model ${dModel} is no multiple of ${HEAD_DIM}`);
  const d = { dModel, vocabulary: VOCABULARY, headDim: HEAD_DIM, kvHeads: dModel / HEAD_DIM, longest: tokens };
  const model = sized(library(), family, d, parameters);
  const delay = await eventLoopDelay(model.config, tokens);
  if (json) {
    write(JSON.stringify({ family: name, parameters: model.parameters, ...delay }, null, 2));
    return;
  }
  const ms = (value: number) => `${significant(value)} ms`;
  write(
    `${family.label}, ${formatCount(model.parameters)} parameters, ${group(tokens)} tokens in ${formatSeconds(delay.seconds)}\n` +
      `delay of the event loop: median ${ms(delay.p50)}, p99 ${ms(delay.p99)}, longest ${ms(delay.max)} ` +
      `(${group(delay.samples)} samples)`,
  );
}
