import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline';
import type { Command } from 'commander';
import { significant } from '../../../bench/format.js';
import { type Engine, library } from '../../../bench/library.js';
import { UsageError } from '../errors.js';
import { collect, parseCount, parseNumber, parsePositive } from '../parse.js';
import { shippedModel } from '../shipped.js';
import { colours, isTerminal, progress } from '../terminal.js';

interface Options {
  system?: string;
  maxTokens: number;
  temperature: number;
  topP?: number;
  seed?: number;
  stop?: string[];
  adapter?: string[];
  threads?: number;
  contextLength?: number;
  quiet?: boolean;
}

type Message = { role: 'system' | 'user' | 'assistant'; content: string };

const COMMANDS =
  '/reset forgets the conversation, /exit (or Ctrl-D) ends, /help says this. Ctrl-C stops an answer, drops a line, or ends.';

export function addChat(program: Command, signal: AbortSignal): void {
  program
    .command('chat [model]')
    .description('Talk with a model that has a chat template: a folder, a .gguf file or hf:owner/name.')
    .option('-s, --system <text>', 'what the model is told before the conversation')
    .option('-n, --max-tokens <n>', 'tokens of an answer at most', parsePositive, 1024)
    .option('-t, --temperature <x>', '0 takes the likeliest token', parseNumber(0), 0.7)
    .option('--top-p <p>', 'sample among the likeliest that together reach p', parseNumber(0, 1))
    .option('--seed <n>', 'makes sampling repeatable', parseCount)
    .option('--adapter <folder>', 'LoRA adapters in peft’s format; may be repeated', collect)
    .option('--threads <n>', 'compute threads (default: physical cores)', parsePositive)
    .option(
      '--context-length <n>',
      'tokens that sequences are to hold, where rotations depend on it (longrope, dynamic)',
      parsePositive,
    )
    .option('-q, --quiet', 'no progress and no speed on stderr')
    .addHelpText(
      'after',
      `
A line is a message. ${COMMANDS}
What was said before is not read again: its state is kept.

Without a model the small one of the package goes on from what is said, as far as its paragraph.

Examples:
  $ statespace chat
  $ statespace chat ./mamba-chat --system "Answer in one sentence."
  $ echo "What is a state space?" | statespace chat ./model.gguf -t 0`,
    )
    .action((model: string | undefined, options: Options) =>
      // What the small model of the package says ends with its paragraph.
      model === undefined ? chat(shippedModel(), { ...options, stop: ['\n'] }, signal) : chat(model, options, signal),
    );
}

async function chat(path: string, options: Options, signal: AbortSignal): Promise<void> {
  if (!path.startsWith('hf:') && !existsSync(path)) throw new UsageError(`no folder or file ${path}`);
  const { loadModel, createEngine } = library();
  const bar = options.quiet ? undefined : progress('loading');
  const onProgress = ({ loadedBytes, totalBytes }: { loadedBytes: number; totalBytes: number }) =>
    bar?.update(totalBytes ? loadedBytes / totalBytes : 1, 'weights');
  const given = {
    ...(options.threads === undefined ? {} : { threads: options.threads }),
    ...(options.adapter && { adapters: options.adapter }),
  };
  const { contextLength } = options;
  const model = await loadModel(path, { ...given, contextLength, signal, onProgress }).finally(() => bar?.stop());
  try {
    checkTemplate(model.tokenizer);
    await using engine = createEngine(model);
    await talk(engine, options, signal);
  } finally {
    await model.dispose();
  }
}

function checkTemplate(tokenizer: { applyChatTemplate(messages: Message[]): string } | undefined): void {
  try {
    if (!tokenizer) throw new Error('it has no tokenizer');
    tokenizer.applyChatTemplate([{ role: 'user', content: 'Hello' }]);
  } catch (error) {
    throw new UsageError(`the model cannot chat: ${(error as Error).message}; statespace generate continues texts`);
  }
}

async function talk(engine: Engine, options: Options, signal: AbortSignal): Promise<void> {
  const terminal = isTerminal(process.stdin as unknown as NodeJS.WriteStream) && isTerminal();
  const lines = createInterface({ input: process.stdin, output: terminal ? process.stdout : undefined, terminal });
  const begin = (): Message[] => (options.system === undefined ? [] : [{ role: 'system', content: options.system }]);
  let messages = begin();
  let answering: AbortController | undefined;
  const end = () => lines.close();
  lines.on('SIGINT', () => {
    if (answering) answering.abort();
    else if (lines.line === '') end();
    else lines.write(null, { ctrl: true, name: 'u' }); // the line that is being written goes, as in a shell
  });
  let closed = false;
  lines.on('close', () => {
    closed = true;
    if (terminal) answering?.abort(); // Ctrl-D; the lines of a pipe end before they are answered
  });
  signal.addEventListener('abort', end, { once: true });
  lines.setPrompt(colours().bold('> '));
  if (terminal) lines.prompt();
  try {
    for await (const line of lines) {
      const said = line.trim();
      if (said === '/exit') break;
      if (said === '/reset') messages = begin();
      else if (said === '/help') process.stderr.write(`${COMMANDS}\n`);
      else if (/^\/\w*$/.test(said)) process.stderr.write(`unknown command ${said}. ${COMMANDS}\n`);
      else if (said !== '') {
        answering = new AbortController();
        const asked: Message[] = [...messages, { role: 'user', content: said }];
        try {
          const content = await answer(engine, asked, options, AbortSignal.any([signal, answering.signal]));
          // An answer that was stopped before it began leaves nothing to go on from.
          if (content !== '' || !answering.signal.aborted) messages = [...asked, { role: 'assistant', content }];
        } catch (error) {
          if (!terminal || signal.aborted) throw error;
          process.stderr.write(`${colours(process.stderr).red((error as Error).message)}\n`);
        }
        answering = undefined;
        signal.throwIfAborted();
      }
      if (terminal && !closed) lines.prompt();
    }
  } finally {
    signal.removeEventListener('abort', end);
    end();
  }
  signal.throwIfAborted();
}

/** Without what would steer the terminal. */
const shown = (text: string) =>
  text.replace(/\p{Cc}/gu, (c) => (c === '\n' || c === '\t' ? c : c === '\r' ? '' : '\ufffd'));

/** Prints an answer as it comes; one that is stopped counts as far as it came. */
async function answer(engine: Engine, messages: Message[], options: Options, signal: AbortSignal): Promise<string> {
  const { maxTokens, temperature, topP, seed, stop, quiet } = options;
  const sampling = Object.fromEntries(
    Object.entries({ temperature, topP, seed, stop }).filter(([, v]) => v !== undefined),
  );
  const started = performance.now();
  const stream = engine.generate({ messages: [...messages], maxTokens, ...sampling, signal });
  let said = '';
  let first: number | undefined;
  try {
    for await (const { text = '' } of stream) {
      first ??= performance.now();
      process.stdout.write(isTerminal() ? shown(text) : text);
      said += text;
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  }
  process.stdout.write('\n');
  const { usage } = stream;
  if (quiet || !usage || first === undefined) return said;
  const seconds = (performance.now() - first) / 1000;
  const speed = usage.generatedTokens > 1 ? `, ${significant((usage.generatedTokens - 1) / seconds)} tokens/s` : '';
  const read = `${usage.promptTokens - usage.cachedTokens} read, ${usage.cachedTokens} kept`;
  const wait = significant((first - started) / 1000);
  process.stderr.write(
    colours(process.stderr).dim(`${usage.generatedTokens} tokens${speed}, first after ${wait} s; ${read}\n`),
  );
  return said;
}
