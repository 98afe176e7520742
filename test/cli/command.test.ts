import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createModel, saveModel } from 'statespace';
import { describe, expect, it } from 'vitest';
import { statespace } from '../support/cli.js';
import { needs } from '../support/needs.js';
import { until } from '../support/stalls.js';
import { textModelFolder } from '../support/text-model.js';

describe('help', () => {
  const commands = [
    [],
    ['bench'],
    ['bench', 'scaling'],
    ['bench', 'models'],
    ['compare'],
    ['generate'],
    ['inspect'],
    ['memory'],
    ['info'],
  ];
  it.each(commands.map((words) => [words.join(' ') || '(none)', words] as const))('%s --help', async (_name, words) => {
    const { code, stdout, stderr } = await statespace([...words, '--help']);
    expect(code).toBe(0);
    expect(stderr).toBe('');
    expect(stdout).toMatch(/^Usage: statespace/);
    expect(stdout).toContain('-h, --help');
    if (words.length > 0 && words[0] !== 'bench') expect(stdout).toMatch(/Examples?:/);
  });

  it('prints the version', async () => {
    const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };
    expect((await statespace(['--version'])).stdout.trim()).toBe(version);
  });
});

describe('exit codes', () => {
  it.each([
    [[], 'Usage:'],
    [['bench'], 'Usage:'],
    [['nonsense'], "unknown command 'nonsense'"],
    [['memory', '--lengths', '0'], 'expected a positive whole number'],
    [['memory', '--unknown'], "unknown option '--unknown'"],
    [['memory', '--heads', '6', '--kv-heads', '4'], '--heads 6 is no multiple of --kv-heads 4'],
    [['bench', 'scaling', '--d-model', '10', '--heads', '3'], '--d-model 10 is no multiple of --heads 3'],
    [['bench', 'models', '--d-model', '100'], '--d-model 100 is no multiple of 64'],
    [['bench', 'models', '--ratio', '1-7'], 'expected attention:mamba'],
    [['compare', '--d-model', '100'], '--d-model 100 is no multiple of --head-dim 128'],
    [['bench', 'scaling', '--preset', 'other'], 'Allowed choices are kernel, layer, mixers'],
    [['bench', 'scaling', '--json', '/nonexistent/x.json'], 'no folder /nonexistent'],
    [['generate', '/nonexistent', '--prompt', '1'], 'no file or folder /nonexistent'],
    [['generate', '.'], "required option '-p, --prompt <text>'"],
    [['inspect', '/nonexistent'], 'no file or folder /nonexistent'],
    [['quantize', '--typ', 'q8_0', 'in', 'out.gguf'], "unknown option '--typ'\n(Did you mean --type?)"],
    [['train', 'book.txt', '--confg', 'x'], "unknown option '--confg'\n(Did you mean --config?)"],
    [['worker', 'model', '--redi', 'x'], "unknown option '--redi'\n(Did you mean --redis?)"],
    [['quantize', 'in', 'out.gguf'], "required option '-t, --type <type>' not specified"],
    [['worker', 'model'], "required option '--redis <url>' not specified"],
  ])('%j is wrong usage: 2', async (args, message) => {
    const { code, stdout, stderr } = await statespace(args);
    expect(code).toBe(2);
    expect(stdout).toBe('');
    expect(stderr).toContain(message);
    expect(stderr).not.toMatch(/^\s+at /m);
  });

  it('a file that is no configuration is a failure, in one line: 1', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'statespace-cli-'));
    const file = join(folder, 'config.json');
    writeFileSync(file, '{"model_type": \n oops');
    const { code, stderr } = await statespace(['inspect', folder]);
    expect(code).toBe(1);
    expect(stderr.trim().split('\n')).toHaveLength(1);
    expect(stderr).toContain(file);
    const debug = await statespace(['inspect', folder], { env: { STATESPACE_DEBUG: '1' } });
    expect(debug.code).toBe(1);
    expect(debug.stderr).toMatch(/^\s+at /m);
  });
});

describe('streams', () => {
  it('writes no escape sequences into a pipe, unless asked to', async () => {
    expect((await statespace(['memory'])).stdout).not.toContain('\u001b');
    expect((await statespace(['memory'], { env: { FORCE_COLOR: '1' } })).stdout).toContain('\u001b');
    expect((await statespace(['memory'], { env: { FORCE_COLOR: '1', NO_COLOR: '1' } })).stdout).not.toContain('\u001b');
  });

  it.each([
    ['memory', []],
    ['compare', '--parameters 20M --d-model 256 --head-dim 64 --kv-heads 4 --lengths 4K'.split(' ')],
    ['inspect', [configFile()]],
    ['inspect', [textModelFolder()]],
    ['memory', [textModelFolder()]],
    ['info', []],
  ])('keeps %s to the width of the terminal', async (name, args) => {
    const width = 40;
    const { code, stdout } = await statespace([name, ...args], { env: { COLUMNS: String(width) } });
    expect(code).toBe(0);
    // A path of one word may be longer.
    for (const line of stdout.split('\n'))
      if (line.trim().includes(' ')) expect(line.length, line).toBeLessThanOrEqual(width);
  });

  const small = ['bench', 'scaling', '--lengths', '16,32', '--reps', '1', '--d-model', '32', '--heads', '2'];
  it.each([
    ['-', 'stdout'],
    ['/dev/stdout', 'stdout'],
    ['/dev/stderr', 'stderr'],
  ] as const)('--json %s is data on %s, and the report is on the other', async (file, where) => {
    const { code, stdout, stderr } = await statespace([...small, '--json', file]);
    expect(code).toBe(0);
    const [data, text] = where === 'stdout' ? [stdout, stderr] : [stderr, stdout];
    if (where === 'stdout') expect(JSON.parse(data)).toHaveProperty('machine');
    else expect(data).toContain('"machine"');
    expect(text).toContain('selective scan');
  });

  it('--json and --html cannot both be standard output', async () => {
    const { code, stderr } = await statespace([...small, '--json', '-', '--html', '-']);
    expect([code, stderr]).toEqual([2, expect.stringContaining('cannot both go to standard output')]);
  });

  it.runIf(needs(process.platform === 'linux', 'Linux'))('a full disk is a failure, in one line', () => {
    for (const args of [
      ['memory'],
      ['inspect', configFile(), '--json'],
      ['generate', textModelFolder(), '-q', '-n', '3', '-p', 'a'],
    ]) {
      const full = openSync('/dev/full', 'w');
      const { status, stderr } = spawnSync(process.execPath, ['dist/lib/cli/main.js', ...args], {
        stdio: ['ignore', full, 'pipe'],
        encoding: 'utf8',
      });
      closeSync(full);
      expect(status).toBe(1);
      expect(stderr).toMatch(/^statespace: standard output: .*ENOSPC.*\n$/);
    }
  });

  it('ends quietly when the reader leaves', async () => {
    const { code, stderr } = await statespace(['memory', '--lengths', lengths(200_000)], { closeStdout: true });
    expect(code).toBe(0);
    expect(stderr).toBe('');
  });
});

it.each(['SIGTERM', 'SIGHUP', 'SIGINT'] as const)('%s leaves no unfinished file', async (signal) => {
  const folder = mkdtempSync(join(tmpdir(), 'statespace-cli-'));
  const model = await createModel({ model_type: 'mamba', vocab_size: 8192, hidden_size: 512, num_hidden_layers: 8 });
  await saveModel(model, join(folder, 'model'));
  await model.dispose();
  // It comes to no end before the signal: what it has written whole is not renamed.
  const held = join(folder, 'held.cjs');
  writeFileSync(held, "require('node:fs/promises').rename = () => new Promise(() => setInterval(() => {}, 1000));");
  const child = spawn(
    process.execPath,
    [
      ...['--require', held],
      'dist/lib/cli/main.js',
      'quantize',
      join(folder, 'model'),
      join(folder, 'out.gguf'),
      '-t',
      'q3_K_S',
      '--threads',
      '1',
    ],
    { stdio: 'ignore' },
  );
  const ended = once(child, 'exit');
  await until(() => readdirSync(folder).length > 2 || child.exitCode !== null);
  child.kill(signal);
  const codes = { SIGTERM: 143, SIGHUP: 129, SIGINT: 130 };
  expect((await ended)[0]).toBe(codes[signal]);
  expect(readdirSync(folder).sort()).toEqual(['held.cjs', 'model']);
});

it.each([
  ['hello world', 0],
  ['hello world\n', 0],
  ['', 2],
])('generate reads its prompt from standard input: %j', (input, code) => {
  const args = ['dist/lib/cli/main.js', 'generate', textModelFolder(), '-n', '3', '-q', '-p'];
  const given = spawnSync(process.execPath, [...args, '-'], { input, encoding: 'utf8' });
  expect(given.status).toBe(code);
  if (code) expect(given.stderr).toContain('the prompt is empty');
  else expect(given.stdout).toBe(spawnSync(process.execPath, [...args, 'hello world'], { encoding: 'utf8' }).stdout);
});

describe('inspect', () => {
  it('says what will fit', async () => {
    expect((await statespace(['inspect', join(__dirname, '../../models/austen')])).stdout).toMatch(
      /^austen\nfamily +bamba/,
    );
    const { stdout } = await statespace(['inspect', configFile()]);
    expect(stdout).toMatch(/in \S+ \w+ that are free here/);
    expect(stdout).toMatch(/q8_0 .* fit, and 1,000,000 tokens/);
    const large = JSON.parse((await statespace(['inspect', configFile(60), '--json'])).stdout);
    const { availableBytes, weights } = large.memory;
    expect(availableBytes).toBeGreaterThan(0);
    expect(weights[0]).toMatchObject({ dtype: 'f32', fits: false, tokens: null });
    expect(weights[0].bytes).toBe(4 * large.parameters.total);
    expect((await statespace(['inspect', configFile(60)])).stdout).toContain('too large');
  });
});

function configFile(layers = 4): string {
  const file = join(mkdtempSync(join(tmpdir(), 'statespace-cli-')), 'config.json');
  const size = layers > 10 ? 8192 : 64;
  writeFileSync(
    file,
    JSON.stringify({ model_type: 'mamba', vocab_size: 256, hidden_size: size, num_hidden_layers: layers }),
  );
  return file;
}

// Many rows, so that the output is larger than a pipe holds.
function lengths(count: number): string {
  return Array.from({ length: Math.floor(count / 100) }, (_, i) => i + 1).join(',');
}
