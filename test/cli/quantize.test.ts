// statespace quantize, bench quantised, and inspect and memory of what it wrote.
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { statespace } from '../support/cli.js';
import { goldenRoot } from '../support/golden.js';

const folder = mkdtempSync(join(tmpdir(), 'statespace-quantize-'));
afterAll(() => rmSync(folder, { recursive: true }));
const model = join(goldenRoot, 'models/llama_gqa');
const file = join(folder, 'x.gguf');
const text = join(folder, 'ids.txt');
writeFileSync(text, Array.from({ length: 40 }, (_, i) => (i * 7) % 60).join(', '));

it('writes a file, and says what of it was lost', async () => {
  const json = join(folder, 'report.json');
  const run = await statespace(['quantize', model, file, '-t', 'Q8_0', '--report', '--text', text, '--json', json]);
  expect(run.stderr).not.toMatch(/error/i);
  expect(run.code).toBe(0);
  expect(run.stdout).toMatch(/blk\.0\.attn_q\.weight +\(\d+, \d+\) +f32 +(q8_0|f16) +0\.00/);
  expect(run.stdout).toMatch(/perplexity +[\d,.]+ before, [\d,.]+ after, of 40 tokens/);
  const report = JSON.parse(readFileSync(json, 'utf8'));
  expect(report).toMatchObject({ architecture: 'llama', type: 'q8_0', perplexity: { tokens: 40 } });
  expect(report.perplexity.after / report.perplexity.before).toBeCloseTo(1, 1);
  expect(report.tensors.every((t: { error: number }) => t.error < 0.01)).toBe(true);
});

it('measures the same tokens before and after, also where GGUF has no place for the tokenizer', async () => {
  const [source, words] = [join(folder, 'words'), join(folder, 'words.txt')];
  cpSync(model, source, { recursive: true });
  const vocab = Object.fromEntries(Array.from({ length: 60 }, (_, i) => [`w${i}`, i]));
  writeFileSync(
    join(source, 'tokenizer.json'),
    JSON.stringify({
      ...{ version: '1.0', added_tokens: [], normalizer: null, post_processor: null, decoder: { type: 'Fuse' } },
      pre_tokenizer: { type: 'WhitespaceSplit' },
      model: { type: 'WordLevel', vocab, unk_token: 'w0' },
    }),
  );
  writeFileSync(words, Array.from({ length: 40 }, (_, i) => `w${(i * 7) % 60}`).join(' '));
  const perplexity = async (from: string, told: string) => {
    const out = join(folder, 'words.gguf');
    const run = await statespace(['quantize', from, out, '-t', 'q8_0', '--report', '--text', told, '--json', '-']);
    expect(run.code, run.stderr).toBe(0);
    return (JSON.parse(run.stdout) as { perplexity: object }).perplexity;
  };
  expect(await perplexity(source, words)).toEqual(await perplexity(model, text));
});

it('which inspect and memory read', async () => {
  const inspected = JSON.parse((await statespace(['inspect', file, '--json'])).stdout);
  expect(inspected).toMatchObject({ modelType: 'llama', bytes: { stored: expect.any(Number) } });
  expect(inspected.tensors[0]).toEqual(
    expect.objectContaining({ name: 'token_embd.weight', held: expect.any(String) }),
  );
  expect((await statespace(['inspect', file])).stdout).toMatch(/types .*f32/);
  const { weights, rows } = JSON.parse((await statespace(['memory', file, '--lengths', '128', '--json'])).stdout);
  expect(weights.held).toBe(inspected.bytes.held);
  expect(rows[0]).toMatchObject({ tokens: 128, kvCache: expect.any(Number) });
});

it('its report goes to standard output alone', async () => {
  const run = await statespace(['quantize', model, join(folder, 'z.gguf'), '-t', 'q8_0', '--json', '-']);
  expect(JSON.parse(run.stdout)).toHaveProperty('files');
  expect(run.stderr).toContain('z.gguf');
  expect(JSON.parse((await statespace(['inspect', file, '--json', '-'])).stdout)).toHaveProperty('modelType');
});

it('refuses wrong usage before any work', async () => {
  const wrong = await statespace(['quantize', model, join(folder, 'y.gguf'), '--type', 'q9']);
  expect([wrong.code, wrong.stderr]).toEqual([2, expect.stringContaining('--type: expected one of f32, f16')]);
  const nowhere = await statespace(['quantize', model, '/nonexistent/y.gguf', '--type', 'q8_0']);
  expect([nowhere.code, nowhere.stderr]).toEqual([2, expect.stringContaining('no folder /nonexistent')]);
  expect(readdirSync(folder)).not.toContain('y.gguf');
});

it('never writes one of its files over another, and reads texts alone', async () => {
  const out = join(folder, 'apart.gguf');
  const quantize = (...more: string[]) => statespace(['quantize', model, out, '--type', 'q4_K_M', ...more]);
  const page = join(folder, 'page.html');
  for (const [wrong, said] of [
    [() => quantize('--json', out), `--json: ${out} is the same file as <out>`],
    [() => quantize('--text', text, '--json', text), `--json: ${text} is the same file as --text`],
    [
      () => quantize('--importance', text, '--json', join(folder, '../', folder.split('/').at(-1)!, 'ids.txt')),
      '--importance',
    ],
    [() => quantize('--importance', file), '--importance: '], // a model is no text
    [() => quantize('--importance', folder), `${folder} is a folder`],
    [() => quantize('--text', join(folder, 'nothing')), `no file ${join(folder, 'nothing')}`],
    [() => statespace(['quantize', file, file, '-t', 'q8_0']), 'is the same file as model'],
    [() => statespace(['bench', 'quantised', file, '--json', file]), 'is the same file as model'],
    [() => statespace(['bench', 'quantised', model, '--text', file]), 'is not UTF-8 text'],
    [
      () => statespace(['bench', 'kernels', '--json', page, '--html', page]),
      `--html: ${page} is the same file as --json`,
    ],
  ] as const) {
    const { code, stderr } = await wrong();
    expect([code, stderr], said).toEqual([2, expect.stringContaining(said)]);
  }
  expect(readFileSync(file).toString('latin1', 0, 4)).toBe('GGUF');
  expect(readFileSync(text, 'utf8')).toMatch(/^0, 7, 14/);
  expect(readdirSync(folder)).not.toContain('apart.gguf');
});

it('and is measured in several types', async () => {
  const json = join(folder, 'bench.json');
  const small = ['--tokens', '16', '--decode', '2', '--reps', '1', '--text', text, '--json', json];
  const run = await statespace(['bench', 'quantised', model, '--types', 'q8_0,q4_0', ...small]);
  expect(run.code).toBe(0);
  expect(run.stdout).toMatch(/q4_0 .*%/);
  const { types, reference, schema } = JSON.parse(readFileSync(json, 'utf8'));
  expect(schema).toBe('statespace.bench.quantised');
  const [q8, q4] = types;
  expect(q8.logitsError).toBeLessThan(q4.logitsError);
  expect(q4.bitsPerWeight).toBeLessThan(q8.bitsPerWeight);
  expect(q8.perplexity / reference.perplexity).toBeCloseTo(1, 1);
  for (const t of types) {
    expect(Math.min(t.prefillTokensPerSecond, t.decodeTokensPerSecond)).toBeGreaterThan(0);
    expect(t.heldBytes / t.fileBytes).toBeGreaterThan(0.3);
    expect(t.heldBytes).toBeLessThan(1.05 * t.fileBytes);
  }
});
