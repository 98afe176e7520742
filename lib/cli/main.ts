#!/usr/bin/env node
/** The `statespace` command: finds the subcommand, turns how it ended into an exit code. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command, CommanderError } from 'commander';
import { removeUnfinishedFiles } from '../atomic-file.js';
import { addBench } from './commands/bench.js';
import { addBuild } from './commands/build.js';
import { addChat } from './commands/chat.js';
import { addCompare } from './commands/compare.js';
import { addGenerate } from './commands/generate.js';
import { addInfo } from './commands/info.js';
import { addInspect } from './commands/inspect.js';
import { addMemory } from './commands/memory.js';
import { addPull } from './commands/pull.js';
import { addQuantize } from './commands/quantize.js';
import { addServe } from './commands/serve.js';
import { addTrain } from './commands/train.js';
import { addWorker } from './commands/worker.js';
import { describeError, EXIT, Interrupted, UsageError } from './errors.js';
import { interruption } from './interruption.js';
import { colours, endOnBrokenOutput, restoreTerminal } from './terminal.js';

// Of help that no terminal shows.
const HELP_WIDTH = 110;

function createProgram(signal: AbortSignal): Command {
  const { version } = JSON.parse(readFileSync(join(__dirname, '../../../package.json'), 'utf8')) as { version: string };
  const program = new Command('statespace')
    .description('State-space, attention and hybrid sequence models: benchmarks, generation, memory and cost figures.')
    .version(version, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print help for a command')
    .helpCommand('help [command]', 'print help for a command')
    .addHelpText(
      'after',
      `
Examples:
  $ statespace bench scaling                        where attention's O(N²) overtakes a scan's O(N), here
  $ statespace generate ./mamba-130m --prompt "Once upon a time"
  $ statespace train book.txt --config tiny.json    a model of one's own
  $ statespace chat ./mamba-chat                    talk with it in this terminal
  $ statespace serve ./mamba-130m                   OpenAI's API and a page at http://127.0.0.1:8080
  $ statespace inspect ./model/config.json
  $ statespace memory --layers 80 --heads 64 --kv-heads 8 --head-dim 128

Exit codes: 0 done, 1 failure, 2 wrong usage, 130 interrupted. STATESPACE_DEBUG=1 adds stack traces to errors.
Environment: STATESPACE_THREADS (compute threads), STATESPACE_BACKEND (force an instruction set), NO_COLOR.`,
    );
  for (const add of [
    addBench,
    addGenerate,
    addTrain,
    addChat,
    addServe,
    addWorker,
    addPull,
    addQuantize,
    addInspect,
    addMemory,
    addCompare,
    addInfo,
    addBuild,
  ])
    add(program, signal);
  for (const command of everyCommand(program)) {
    command
      .exitOverride()
      .showHelpAfterError(`Run "statespace${path(command)} --help" for usage.`)
      .configureOutput({
        getOutHelpWidth: () => process.stdout.columns ?? HELP_WIDTH,
        getErrHelpWidth: () => process.stderr.columns ?? HELP_WIDTH,
        outputError: (text, out) => out(text.replace(/^error: /, 'statespace: ')),
      });
    askForRequiredOptionsLast(command);
  }
  return program;
}

/** Commander would ask for a missing option before it says that another is misspelt. */
function askForRequiredOptionsLast(command: Command): void {
  const required = command.options.filter(({ mandatory }) => mandatory);
  for (const option of required) option.makeOptionMandatory(false);
  command.hook('preAction', () => {
    const missing = required.find((option) => command.getOptionValue(option.attributeName()) === undefined);
    if (missing) command.error(`error: required option '${missing.flags}' not specified`);
  });
}

function everyCommand(command: Command): Command[] {
  return [command, ...command.commands.flatMap(everyCommand)];
}

function path(command: Command): string {
  return command.parent === null ? '' : `${path(command.parent)} ${command.name()}`;
}

/** Of a command that prints JSON: `--json -` is its `--json`, as others write a file there. */
function withoutDash(program: Command, words: readonly string[]): string[] {
  let command = program;
  for (const word of words) command = command.commands.find((c) => c.name() === word) ?? command;
  const prints = command.options.some((option) => option.long === '--json' && option.isBoolean());
  return words.filter((word, i) => !(prints && word === '-' && words[i - 1] === '--json'));
}

function exitCode(error: unknown): number {
  if (error instanceof CommanderError) {
    // Help that was asked for is no error; help in place of a missing subcommand is one.
    const asked = ['commander.helpDisplayed', 'commander.version'].includes(error.code);
    return asked || (error.code === 'commander.help' && error.exitCode === 0) ? EXIT.ok : EXIT.usage;
  }
  if (error instanceof Interrupted) return EXIT.interrupted;
  const line = colours(process.stderr).red('statespace:');
  process.stderr.write(`${line} ${describeError(error)}\n`);
  return error instanceof UsageError ? EXIT.usage : EXIT.failure;
}

function end(code: number): never {
  restoreTerminal();
  removeUnfinishedFiles();
  process.exit(code);
}

async function main(): Promise<void> {
  endOnBrokenOutput(end);
  const signal = interruption(() => end(EXIT.interrupted));
  // serve and worker have an end of their own.
  for (const [name, code] of [
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ] as const)
    process.on(name, () => process.listenerCount(name) === 1 && end(code));
  try {
    const program = createProgram(signal);
    await program.parseAsync(withoutDash(program, process.argv.slice(2)), { from: 'user' });
    if (signal.aborted) end(EXIT.interrupted);
  } catch (error) {
    end(exitCode(signal.aborted ? signal.reason : error));
  }
}

void main();
