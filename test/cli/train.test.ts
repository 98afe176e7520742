import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createModel, loadModel, quantize } from 'statespace';
import { expect, test } from 'vitest';
import { loadTokenizer } from '../../dist/lib/models/tokenizer.js';
import { least } from '../support/stalls.js';

const main = resolve(__dirname, '../../dist/lib/cli/main.js');

/**
 * `killAfter`: sends itself the signal when it has said that, before it goes on: whoever would have to hear of it first may
 * be halted until it has ended.
 */
function run(
  args: string[],
  killAfter?: RegExp,
  signal: NodeJS.Signals = 'SIGKILL',
  options: string[] = [],
): Promise<{ code: number | null; out: string; err: string }> {
  const killer = ['--require', join(__dirname, '../support/signal-itself.cjs')];
  return new Promise((done) => {
    const child = spawn(process.execPath, [...options, ...(killAfter ? killer : []), main, ...args], {
      env: { ...process.env, NO_COLOR: '1', SIGNAL: signal, SIGNAL_AFTER: killAfter?.source ?? '' },
    });
    let [out, err] = ['', ''];
    child.stdout.on('data', (d) => {
      out += d;
    });
    child.stderr.on('data', (d) => {
      err += d;
    });
    child.on('close', (code) => done({ code, out, err }));
  });
}

const TINY = {
  model_type: 'llama',
  vocab_size: 256,
  hidden_size: 32,
  intermediate_size: 64,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  num_key_value_heads: 2,
  tie_word_embeddings: true,
};

/** A folder with a text and a config. */
async function started(): Promise<{ to: (name: string) => string; text: string; config: string }> {
  const folder = await mkdtemp(join(tmpdir(), 'statespace-train-test-'));
  const to = (name: string) => join(folder, name);
  await writeFile(to('text.txt'), 'the quick brown fox jumps over the lazy dog. '.repeat(80));
  await writeFile(to('tiny.json'), JSON.stringify(TINY));
  return { to, text: to('text.txt'), config: to('tiny.json') };
}

test('trains on a text, goes on after a kill as if there had been none, and generates', async () => {
  const { to, text, config } = await started();
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

  await writeFile(to('wider.json'), JSON.stringify({ ...TINY, hidden_size: 64 }));
  const another = await run([...args(to('whole')), '--config', to('wider.json')]);
  expect(another.code).toBe(2);
  expect(another.err).toMatch(/whole holds a run of another model: its hidden_size is 32, that of .*wider.json 64/);
  const adapting = await run([...args(to('whole')), '--lora-rank', '2']);
  expect(adapting.code).toBe(2);
  expect(adapting.err).toMatch(/whole holds a run of all weights, --lora-rank 2 another; give another --out/);
  const learning = await run([...args(to('whole')), '--vocabulary', '300']);
  expect(learning.code).toBe(2);
  expect(learning.err).toMatch(/whole holds a run with a tokenizer that it did not learn, --vocabulary 300 another/);

  const written = await run(['generate', to('whole'), '--prompt', 'the quick', '-n', '12', '--quiet']);
  expect(written.code, written.err).toBe(0);
  expect(written.out.length).toBeGreaterThan(5);
  const wrong = await run(['train', to('nothing.txt'), '--config', config]);
  expect(wrong.code).toBe(2);
  // Where nothing can be saved is said before a step is taken.
  for (const out of [text, join(text, 'below'), to('.')]) {
    const nowhere = await run(args(out));
    expect(nowhere.code, out).not.toBe(0);
    expect(nowhere.err).toMatch(/^statespace: save: .*(cannot be|holds other files)/);
  }
});

test('Ctrl-C saves, however long that takes, and adapters of a new model have it beside them', async () => {
  const { to, text, config } = await started();
  const slow = to('slow.cjs');
  await writeFile(
    slow,
    `const files = require('node:fs/promises');
     const { rename } = files;
     files.rename = async (...args) => { await new Promise((done) => setTimeout(done, 3000)); return rename(...args); };`,
  );
  const args = [
    ...['train', text, '--config', config, '--out', to('out'), '--batch', '2', '--length', '32', '--threads', '1'],
    ...['--lora-rank', '2', '--steps', '2000', '--save-every', '3000'],
  ];
  const stopped = await run(args, /step 1[0-9] of 2000/, 'SIGINT', ['--require', slow]);
  expect(stopped.code, stopped.err).toBe(130);
  const at = Number(/saving step (\d+) in /.exec(stopped.err)?.[1]);
  expect(at).toBeGreaterThanOrEqual(10);
  const on = await run(args, /step \d+ of 2000/, 'SIGINT');
  expect(on.err).toContain(`going on from step ${at} of`);
  expect(on.code, on.err).toBe(130);
  await using model = await loadModel(join(to('out'), 'base'), { adapters: [to('out')] });
  expect(model.tokenizer?.decode([104, 105])).toBe('hi');
});

test('a GGUF file is trained on, from its weights, with its own tokenizer or one that is given', async () => {
  const { to, text } = await started();
  const rope_parameters = {
    ...{ rope_type: 'llama3', rope_theta: 1e4, factor: 8, low_freq_factor: 1, high_freq_factor: 4 },
    original_max_position_embeddings: 16,
  };
  const model = await createModel({ ...TINY, rope_parameters, max_position_embeddings: 64 }, { seed: 7 });
  await model.save(to('plain'));
  await model.save(to('model'));
  const words = ['a', 'b', ' ', 'ab', ...'cdefghijklmnopqrstuvwxyz'].map((word) => word.replace(' ', 'Ġ'));
  const vocab = Object.fromEntries(words.map((word, id) => [word, id]));
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, use_regex: true };
  await writeFile(
    to('model/tokenizer.json'),
    JSON.stringify({ pre_tokenizer: byteLevel, decoder: byteLevel, model: { type: 'BPE', vocab, merges: ['a b'] } }),
  );
  await quantize(to('model'), to('model.gguf'), { type: 'q8_0' });
  const file = await loadModel(to('model.gguf'), { exact: true });
  const args = ['train', text, '--config', to('model.gguf'), '--out', to('out'), '--batch', '2', '--length', '32'];
  const few = [...args, '--steps', '1'];
  for (const steps of [few, [...args, '--steps', '2']]) expect((await run([...steps])).code).toBe(0);
  const own = await loadModel(to('out'));
  expect(own.tokenizer!.encode('abba')).toEqual(file.tokenizer!.encode('abba'));
  expect(own.tokenizer!.encode('ab')).not.toEqual(Int32Array.of(97, 98));
  await own.dispose();
  await rm(to('out'), { recursive: true });
  // A tokenizer of another file, of a model without one.
  const other = [
    'train',
    text,
    '--config',
    to('plain/config.json'),
    '--tokenizer',
    to('model.gguf'),
    '--out',
    to('other'),
  ];
  expect((await run([...other, '--batch', '2', '--length', '32', '--steps', '1'])).code).toBe(0);
  expect((await loadTokenizer(to('other')))!.encode('abba')).toEqual(file.tokenizer!.encode('abba'));
  const little = [...args, '--tokenizer', 'bytes', '--learning-rate', '1e-7', '--weight-decay', '0'];
  for (const steps of ['1', '2']) expect((await run([...little, '--steps', steps])).code).toBe(0); // the second goes on
  const trained = await loadModel(to('out'));
  expect(trained.tokenizer?.encode('ab')).toEqual(Int32Array.of(97, 98));
  const [a, b] = [await trained.parameters(), await file.parameters()];
  for (const [name, { data }] of b)
    expect(
      Math.max(...Array.from(data as Float32Array, (v, i) => Math.abs(v - Number(a.get(name)!.data[i])))),
      name,
    ).toBeLessThan(1e-6);
  await Promise.all([model, file, trained].map((m) => m.dispose()));
});

test('the tokenizer that a model is trained with is the one that is saved', async () => {
  const { to, text } = await started();
  const model = await createModel(TINY, { seed: 7 });
  await model.save(to('model'));
  await model.dispose();
  await writeFile(
    to('model/tokenizer.json'),
    JSON.stringify({ model: { type: 'WordLevel', vocab: { the: 0 }, unk_token: 'the' } }),
  );
  const args = ['train', text, '--config', to('model'), '--out', to('out'), '--batch', '2', '--length', '32'];
  expect((await run([...args, '--tokenizer', 'bytes', '--steps', '1'])).code).toBe(0);
  const trained = await loadModel(to('out'));
  expect(trained.tokenizer?.encode('ab')).toEqual(Int32Array.of(97, 98));
  await trained.dispose();
});

test('texts in every form are the same tokens; what is no text is told by its place', async () => {
  const { to, config } = await started();
  const words = 'naïve café 東京. '.repeat(20);
  const lines = Array.from({ length: 8 }, (_, i) => `${i} ${words}`);
  const json = (end: string) => lines.map((text) => JSON.stringify({ text })).join(end);
  const mark = '\ufeff';
  await mkdir(to('folder/below'), { recursive: true });
  await mkdir(to('folder/.git'));
  await writeFile(to('folder/.git/HEAD'), 'no text of mine');
  await writeFile(to('folder/image.png'), Buffer.from([0xff, 0xfe]));
  for (const [i, line] of lines.entries())
    await writeFile(to(i < 4 ? `folder/below/${i}.md` : `folder/l${i}.txt`), `${i % 2 ? mark : ''}${line}`);
  await symlink('..', to('folder/below/up'));
  const texts: Record<string, string> = {
    'plain.txt': lines.join(''),
    'marked.txt': mark + lines.join(''),
    'lines.jsonl': json('\n'),
    'marked.jsonl': `${mark}${json('\r\n')}\r\n\r\n`,
    'strings.jsonl': lines.map((text) => JSON.stringify(text)).join('\n'),
  };
  for (const [name, text] of Object.entries(texts)) await writeFile(to(name), text);
  const train = (name: string, ...more: string[]) =>
    run([
      ...['train', to(name), '--config', config, '--out', to(`${name}.out`), '--steps', '1', '--batch', '2'],
      ...['--length', '16', '--quiet', ...more],
    ]);
  const losses = new Set<string | undefined>();
  for (const name of [...Object.keys(texts), 'folder']) {
    const { code, out, err } = await train(name);
    expect(code, err).toBe(0);
    losses.add(/loss .* bits a byte/.exec(out)?.[0]);
  }
  expect(losses.size).toBe(1);

  await writeFile(to('latin.txt'), Buffer.from('caf\xe9 '.repeat(50), 'latin1'));
  await writeFile(to('utf16.jsonl'), Buffer.from(json('\n'), 'utf16le'));
  await writeFile(to('chat.jsonl'), `${json('\n')}\n{"messages": []}\n`);
  await writeFile(to('cut.jsonl'), `${json('\n')}\n{"text": "\n`);
  await mkdir(to('empty'));
  const wrong: [string, RegExp][] = [
    ['latin.txt', /latin\.txt: is not UTF-8 text/],
    ['utf16.jsonl', /utf16\.jsonl:1: is not/],
    ['chat.jsonl', /chat\.jsonl:9: expected \{ "text": "…" \} or a string, received \{"messages": \[\]\}/],
    ['cut.jsonl', /cut\.jsonl:9: is not JSON/],
    ['empty', /holds no \.txt, \.text, \.md or \.jsonl files/],
  ];
  for (const [name, message] of wrong) {
    const { code, err } = await train(name);
    expect(code, name).toBe(2);
    expect(err).toMatch(message);
  }
  expect(await train('plain.txt', '--length', '1')).toMatchObject({
    code: 2,
    err: expect.stringMatching(/at least 2/),
  });
});

test('a run keeps its tokenizer, and what is saved has the one that was named', async () => {
  const { to, text } = await started();
  await writeFile(to('wide.json'), JSON.stringify({ ...TINY, vocab_size: 300 }));
  const train = (out: string, config: string, ...more: string[]) =>
    run([
      ...['train', text, '--config', to(config), '--out', to(out), '--batch', '2', '--length', '16', '--quiet'],
      ...['--warmup', '0', ...more],
    ]);
  const tokenizer = async (out: string) => readFile(join(to(out), 'tokenizer.json'), 'utf8');
  expect((await train('out', 'wide.json', '--vocabulary', '270', '--steps', '1')).code).toBe(0);
  const learnt = await tokenizer('out');
  // Without its option the run goes on with what it has learnt; bytes would be other words to it.
  const on = await train('out', 'wide.json', '--steps', '2');
  expect(on.code, on.err).toBe(0);
  expect(Number(/, ([\d.]+) bits a byte/.exec(on.out)?.[1])).toBeLessThan(6); // a token has more than one byte
  expect(await tokenizer('out')).toBe(learnt);
  const larger = await train('out', 'wide.json', '--steps', '3', '--vocabulary', '280');
  expect(larger).toMatchObject({ code: 2, err: expect.stringMatching(/a run of --vocabulary 270, --vocabulary 280/) });
  expect((await train('out', 'wide.json', '--steps', '3', '--vocabulary', '270')).code).toBe(0);
  const bytes = await train('out', 'wide.json', '--steps', '4', '--tokenizer', 'bytes');
  expect(bytes).toMatchObject({
    code: 2,
    err: expect.stringMatching(/out holds a run with another tokenizer than bytes/),
  });
  const other = await train('new', 'wide.json', '--steps', '1', '--tokenizer', to('wide.json'));
  expect(other).toMatchObject({ code: 2, err: expect.stringMatching(/expected tokenizer\.json, tokenizer\.model or/) });

  // Of a folder's weights: another tokenizer than the folder's, and none there.
  expect((await train('named', 'out', '--steps', '1', '--tokenizer', 'bytes')).code).toBe(0);
  const byBytes = await tokenizer('named');
  expect(byBytes).not.toBe(learnt);
  for (const file of ['tokenizer.json', 'tokenizer_config.json']) await rm(join(to('out'), file));
  expect((await train('bare', 'out', '--steps', '1')).code).toBe(0);
  expect(await tokenizer('bare')).toBe(byBytes);

  // Adapters of it, and the commands that use them.
  expect((await train('lora', 'named', '--steps', '3', '--lora-rank', '2', '--learning-rate', '1')).code).toBe(0);
  expect((await train('lora', 'named', '--steps', '4', '--lora-rank', '2', '--lora-alpha', '4')).code).toBe(0);
  for (const more of [
    ['--lora-rank', '3'],
    ['--lora-alpha', '1'],
  ])
    expect(await train('lora', 'named', '--steps', '5', ...more)).toMatchObject({
      code: 2,
      err: expect.stringMatching(/lora holds a run with adapters of rank 2 and alpha 4, --lora-\w+ \d another/),
    });
  const generate = (...more: string[]) => run(['generate', to('named'), '-p', 'the quick', '-n', '12', '-q', ...more]);
  const [plain, adapted] = [await generate(), await generate('--adapter', to('lora'))];
  expect(adapted.code, adapted.err).toBe(0);
  expect(adapted.out).not.toBe(plain.out);
});

test('a new model whose config names no vocab_size has the tokens of the tokenizer that is made for it', async () => {
  const { to, text } = await started();
  const { vocab_size: _, ...config } = TINY;
  await writeFile(to('open.json'), JSON.stringify(config));
  for (const [more, size] of [
    [[], 256],
    [['--vocabulary', '270'], 270],
  ] as const) {
    const out = to(`of-${size}`);
    const args = ['--steps', '2', '--batch', '1', '--length', '16', '--quiet', '--out', out, ...more];
    const { code, err } = await run(['train', text, '--config', to('open.json'), ...args]);
    expect(code, err).toBe(0);
    expect(JSON.parse(await readFile(join(out, 'config.json'), 'utf8')).vocab_size).toBe(size);
    const again = await run(['train', text, '--config', to('open.json'), ...args, '--steps', '3']);
    expect(again.code, again.err).toBe(0);
  }
});

test('Ctrl-C is heard while a text is read and its tokenizer learnt', async () => {
  const { to } = await started();
  const words = Array.from({ length: 400_000 }, (_, i) => (Math.imul(i + 1, 0x9e3779b1) >>> 0).toString(36));
  await writeFile(to('words.txt'), words.join(' ')); // half a minute's work
  await writeFile(to('wide.json'), JSON.stringify({ ...TINY, vocab_size: 8000 }));
  const stop = async () => {
    const begin = performance.now();
    const stopped = await run(
      ['train', to('words.txt'), '--config', to('wide.json'), '--vocabulary', '8000', '--out', to('out')],
      /reading/,
      'SIGINT',
    );
    expect(stopped.code, stopped.err).toBe(130);
    return performance.now() - begin;
  };
  expect(await least(5000, stop, 10)).toBeLessThan(5000);
  expect(existsSync(to('out'))).toBe(false);
});

test('--context-length: sequences of a model whose rotations depend on it, and a run keeps it', async () => {
  const { to, text } = await started();
  const rope_parameters = { rope_type: 'dynamic', factor: 2, rope_theta: 1e4 };
  await writeFile(to('dynamic.json'), JSON.stringify({ ...TINY, max_position_embeddings: 16, rope_parameters }));
  const train = (...more: string[]) =>
    run([
      'train',
      text,
      '--config',
      to('dynamic.json'),
      '--out',
      to('out'),
      '--batch',
      '1',
      '--length',
      '24',
      '-q',
      ...more,
    ]);
  expect((await train('--steps', '1')).err).toMatch(/at most 16 tokens, for which rope_type dynamic/);
  expect((await train('--steps', '1', '--context-length', '24')).code).toBe(0);
  expect((await train('--steps', '2')).code).toBe(0);
  expect((await train('--steps', '3', '--context-length', '32')).err).toMatch(
    /of --context-length 24, --context-length 32/,
  );
});
