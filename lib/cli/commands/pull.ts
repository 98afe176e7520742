import type { Command } from 'commander';
import { formatBytes } from '../../../bench/format.js';
import { pull } from '../../hub/pull.js';
import { isHubSource } from '../../hub/source.js';
import { progress, write } from '../terminal.js';

interface Options {
  revision?: string;
}

export function addPull(program: Command, signal: AbortSignal): void {
  program
    .command('pull <model>')
    .description(
      'Bring a model of the Hugging Face hub into the cache that it shares with Python, and print where it is.',
    )
    .option('--revision <name>', 'branch, tag or commit (default: main)')
    .addHelpText(
      'after',
      `
Only what loading reads is fetched: configs, tokenizer, chat templates and one form of the weights. A cut download goes
on; sizes and hashes are checked. A model with several GGUF files: name one as owner/name/file.gguf.

Environment: HF_TOKEN, HF_ENDPOINT, HF_HUB_CACHE or HF_HOME, HF_HUB_OFFLINE.

Examples:
  $ statespace pull state-spaces/mamba-130m-hf
  $ statespace generate hf:state-spaces/mamba-130m-hf --prompt "Once upon a time"`,
    )
    .action((model: string, options: Options) => run(model, options, signal));
}

async function run(model: string, { revision }: Options, signal: AbortSignal): Promise<void> {
  const name = isHubSource(model) ? model : `hf:${model}`;
  const bar = progress('pull');
  try {
    const folder = await pull(revision === undefined ? name : `${name}@${revision}`, {
      signal,
      onProgress: ({ loadedBytes, totalBytes }) =>
        bar.update(loadedBytes / totalBytes, `of ${formatBytes(totalBytes)}`),
    });
    bar.stop();
    write(folder);
  } finally {
    bar.stop();
  }
}
