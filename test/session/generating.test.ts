// Who may generate, and when: one at a time on a session, from networks that give logits, with one mark of the beginning.
import { cpSync } from 'node:fs';
import { createEngine, createModel, layers, loadModel, type Model, registerModel } from 'statespace';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { scratchFolders } from '../support/checkpoint-files.js';
import { mamba } from '../support/engines.js';
import { modelCase } from '../support/golden.js';
import { run } from '../support/process.js';
import { MARKS, SMALL, tokenizerFiles } from '../support/tokenizer-kinds.js';

const folders = scratchFolders();
const tokens = async (stream: AsyncIterable<{ token: number }>) => {
  const all: number[] = [];
  for await (const { token } of stream) all.push(token);
  return all;
};

describe('one at a time', () => {
  let model: Model;
  beforeAll(async () => {
    model = await mamba();
  });
  afterAll(() => model.dispose());
  const prompt = [1, 2, 3];
  const other = { code: 'ERR_STATE', message: expect.stringContaining('another generate()') };

  it('a second generate() on a session that generates is refused, and the first goes on unmixed', async () => {
    const alone = await tokens(model.createSession().generate({ prompt, maxTokens: 6 }));
    const session = model.createSession();
    const first = session.generate({ prompt, maxTokens: 6 });
    const second = session.generate({ prompt: [9], maxTokens: 6 });
    const [begun, refused] = await Promise.allSettled([first.next(), second.next()]);
    expect(refused).toMatchObject({ status: 'rejected', reason: other });
    expect(begun).toMatchObject({ value: { value: { token: alone[0] } } });
    await expect(session.generate({ prompt }).next()).rejects.toMatchObject(other);
    expect(await tokens(first)).toEqual(alone.slice(1));
    // It goes on from the last.
    expect(await tokens(session.generate({ maxTokens: 1 }))).toHaveLength(1);
    expect(session.position).toBe(prompt.length + 6 + 1);
  });

  it.each([
    [
      'its last token was read',
      async (g: ReturnType<ReturnType<Model['createSession']>['generate']>) => void (await g.next()),
    ],
    ['its reader left', async (g) => void (await g.return())],
    ['it failed', async (g) => void (await g.throw(new Error('mine')).catch(() => {}))],
  ])('the next may begin when %s', async (_, end) => {
    const session = model.createSession();
    await session.forward([1]);
    const first = session.generate({ maxTokens: 1 });
    await end(first);
    expect(await tokens(session.generate({ prompt: [2], maxTokens: 2 }))).toHaveLength(2);
    // A reader that asks once more learns that it has ended, and disturbs nobody.
    const running = session.generate({ maxTokens: 3 });
    await running.next();
    expect((await first.next()).done).toBe(true);
    await expect(session.generate().next()).rejects.toMatchObject(other);
    await running.return();
  });
});

describe('a model that is disposed of before a stream has read its prompt', () => {
  it.each([1, 3000])('of %i tokens: the stream fails, and nothing else does', async (length) => {
    const model = await mamba();
    const unheard: unknown[] = [];
    const listen = (error: unknown) => unheard.push(error);
    process.on('unhandledRejection', listen);
    const sessions = [model.createSession(), model.createSession()];
    const calls = sessions.map((session) =>
      session.generate({ prompt: new Int32Array(length).fill(1), maxTokens: 3 }).next(),
    );
    const gone = model.dispose();
    for (const call of calls) await expect(call).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
    await gone;
    await new Promise(setImmediate);
    process.off('unhandledRejection', listen);
    expect(unheard).toEqual([]);
    expect(() => model.createEngine()).toThrow(expect.objectContaining({ code: 'ERR_DISPOSED' }));
  });
});

describe('a network without a head', () => {
  registerModel({
    modelTypes: ['headless'],
    config: (c) => ({ vocabulary: c.size('vocab_size', 30), dModel: c.size('hidden_size', 16) }),
    build(g, w, c) {
      const x = layers.embedding(g, w.tensor('embed.weight', [c.vocabulary, c.dModel]));
      return layers.mamba(g, x, w.scope('mixer'), { dInner: 32, dState: 4, dConv: 4, dtRank: 2 });
    },
  });

  it('gives the rows that are asked for, and generates nothing', async () => {
    const model = await createModel({ model_type: 'headless' });
    const shapes = (['last', 'all', 'none'] as const).map((logits) =>
      model.createSession().forward([1, 2, 3], { logits }),
    );
    expect((await Promise.all(shapes)).map((rows) => rows.shape)).toEqual([
      [1, 16],
      [3, 16],
      [0, 16],
    ]);
    await expect(
      model
        .createSession()
        .generate({ prompt: [1] })
        .next(),
    ).rejects.toThrow(/reads float rows or has no head/);
    expect(() => createEngine(model)).toThrow(/no head/);
    await model.dispose();
  });
});

describe('the mark of the beginning', () => {
  const [bos] = MARKS.map((_, i) => SMALL.size + i) as [number];
  let model: Model;
  beforeAll(async () => {
    const piece = { SpecialToken: { id: MARKS[0], type_id: 0 } };
    const post_processor = {
      ...{
        type: 'TemplateProcessing',
        pair: [piece, { Sequence: { id: 'A', type_id: 0 } }, { Sequence: { id: 'B', type_id: 1 } }],
      },
      single: [piece, { Sequence: { id: 'A', type_id: 0 } }],
      special_tokens: { [MARKS[0]!]: { id: MARKS[0], ids: [bos], tokens: [MARKS[0]] } },
    };
    const kind = { ...SMALL, definition: { ...SMALL.definition, post_processor } };
    const folder = folders.put(tokenizerFiles(kind, false));
    cpSync(modelCase('mamba_hf').folder, folder, { recursive: true });
    model = await loadModel(folder);
  });
  afterAll(() => model.dispose());

  it('stands at position 0 and nowhere else: two prompts, a fork, a snapshot, a text that spells it', async () => {
    const plain = [...model.tokenizer!.encode('hello', { addSpecialTokens: false })];
    expect([...model.tokenizer!.encode('hello')]).toEqual([bos, ...plain]);
    /** Which ids two prompts feed, after `first`. */
    const feeds = async (
      first: string,
      between: (s: ReturnType<Model['createSession']>) => ReturnType<Model['createSession']>,
    ) => {
      const fed: number[][] = [];
      const session = model.createSession();
      const step = model.step.bind(model);
      model.step = (entries, how) => {
        for (const e of entries) if (e.tokens.length > 0) fed.push([...e.tokens]);
        return step(entries, how);
      };
      const once = { maxTokens: 1, processLogits: undefined };
      await tokens(session.generate({ prompt: first, ...once }));
      await tokens(between(session).generate({ prompt: 'hello', ...once }));
      model.step = step;
      return fed;
    };
    for (const between of [
      (s: ReturnType<Model['createSession']>) => s,
      (s: ReturnType<Model['createSession']>) => s.fork(),
      (s: ReturnType<Model['createSession']>) => model.restoreSession(s.save()),
    ])
      expect(await feeds('hello', between)).toEqual([[bos, ...plain], plain]);
    expect((await feeds(`${MARKS[0]}hello`, (s) => s))[0]!.filter((id) => id === bos)).toEqual([bos]);
  });

  it('an engine puts it once as well', async () => {
    await using engine = model.createEngine();
    const stream = engine.generate({ prompt: 'hello', maxTokens: 1 });
    await tokens(stream);
    expect(stream.usage!.promptTokens).toBe(1 + model.tokenizer!.encode('hello', { addSpecialTokens: false }).length);
  });
});

it("after logits 'all' no more than the result stays", async () => {
  const entry = JSON.stringify(require.resolve('../../dist/lib/index.js'));
  const program = `
    const { createModel } = require(${entry});
    (async () => {
      const config = { model_type: 'mamba', vocab_size: 20000, hidden_size: 32, num_hidden_layers: 1, state_size: 8 };
      const model = await createModel(config, { seed: 1 });
      const session = model.createSession();
      await session.forward([1, 2, 3], { logits: 'all' });
      const before = process.memoryUsage.rss();
      const rows = await session.forward(new Int32Array(2000).fill(7), { logits: 'all' });
      console.log((process.memoryUsage.rss() - before) / rows.data.byteLength);
    })();`;
  const { stdout, stderr } = await run(process.execPath, ['-e', program]);
  expect(Number(stdout), stderr).toBeLessThan(1.15);
  expect(Number(stdout)).toBeGreaterThan(0.9);
});
