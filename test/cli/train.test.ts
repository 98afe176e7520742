import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { expect, test } from 'vitest';

const main = resolve(__dirname, '../../dist/lib/cli/main.js');

function run(args: string[], killAfter?: RegExp): Promise<{ code: number | null; out: string; err: string }> {
  return new Promise((done) => {
    const child = spawn(process.execPath, [main, ...args], { env: { ...process.env, NO_COLOR: '1' } });
    let [out, err] = ['', ''];
    child.stdout.on('data', (d) => {
      out += d;
    });
    child.stderr.on('data', (d) => {
      err += d;
      if (killAfter?.test(err)) child.kill('SIGKILL');
    });
    child.on('close', (code) => done({ code, out, err }));
  });
}

test('trains on a text, goes on after a kill as if there had been none, and generates', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'statespace-train-test-'));
  const text = join(folder, 'text.txt');
  await writeFile(text, 'the quick brown fox jumps over the lazy dog. '.repeat(80));
  const config = join(folder, 'tiny.json');
  await writeFile(
    config,
    JSON.stringify({
      model_type: 'llama',
      vocab_size: 256,
      hidden_size: 32,
      intermediate_size: 64,
      num_hidden_layers: 1,
      num_attention_heads: 2,
      num_key_value_heads: 2,
      tie_word_embeddings: true,
    }),
  );
  const to = (name: string) => join(folder, name);
  const args = (out: string) => [
    ...['train', text, '--config', config, '--out', out, '--steps', '24', '--batch', '4', '--length', '48'],
    ...['--learning-rate', '1e-2', '--save-every', '4', '--threads', '1'],
  ];
  const whole = await run([...args(to('whole')), '--html', to('page.html')]);
  expect(whole.code, whole.err).toBe(0);
  expect(whole.out).toMatch(/24 steps in .*held-out text: loss \d.* bits a byte/);
  expect(await readFile(to('page.html'), 'utf8')).toContain('Loss (nats a token)');

  const killed = await run(args(to('killed')), /step 1[0-9] of 24/);
  expect(killed.code).toBe(null);
  expect(existsSync(join(to('killed'), 'trainer.json'))).toBe(true);
  const on = await run(args(to('killed')));
  expect(on.code, on.err).toBe(0);
  expect(on.err).toMatch(/going on from step/);
  const bytes = (name: string) => readFile(join(to(name), 'model.safetensors'));
  expect((await bytes('killed')).equals(await bytes('whole'))).toBe(true);

  const written = await run(['generate', to('whole'), '--prompt', 'the quick', '-n', '12', '--quiet']);
  expect(written.code, written.err).toBe(0);
  expect(written.out.length).toBeGreaterThan(5);
  const wrong = await run(['train', to('nothing.txt'), '--config', config]);
  expect(wrong.code).toBe(2);
  // Where nothing can be saved is said before a step is taken.
  for (const out of [text, join(text, 'below'), folder]) {
    const nowhere = await run(args(out));
    expect(nowhere.code, out).not.toBe(0);
    expect(nowhere.err).toMatch(/^statespace: save: .*(cannot be|holds other files)/);
  }
}, 60_000);
