import { createModel, describeModel, type Session, StatespaceError, systemInfo } from 'statespace';
import { beforeAll, describe, expect, test } from 'vitest';
import { expectClose } from '../support/golden.js';
import { needs } from '../support/needs.js';

const MAMBA = { model_type: 'mamba', vocab_size: 61, hidden_size: 20, num_hidden_layers: 2, state_size: 5 };
const LLAMA = {
  model_type: 'llama',
  vocab_size: 61,
  hidden_size: 24,
  intermediate_size: 40,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
};
const WINDOW = { ...LLAMA, model_type: 'mistral', sliding_window: 70 };
const RWKV = { vocab_size: 61, n_embd: 24, n_layer: 2 };
const families = {
  mamba: MAMBA,
  llama: LLAMA,
  'sliding window': WINDOW,
  'window of one token': { ...WINDOW, sliding_window: 1 },
  rwkv4: { model_type: 'rwkv4', ...RWKV },
  rwkv5: { model_type: 'rwkv5', ...RWKV, head_size: 6 },
  rwkv6: { model_type: 'rwkv6', ...RWKV, head_size: 6 },
  rwkv7: { model_type: 'rwkv7', ...RWKV, head_size: 6 },
  retnet: {
    model_type: 'retnet_torchscale',
    vocab_size: 61,
    decoder_embed_dim: 24,
    decoder_value_embed_dim: 36,
    decoder_ffn_embed_dim: 40,
    decoder_layers: 2,
  },
};
const ids = (n: number, seed = 1) => Int32Array.from({ length: n }, (_, i) => (i * 7919 + seed * 104729) % 61);

describe.each(Object.entries(families))('%s', (_, config) => {
  let model: Awaited<ReturnType<typeof createModel>>;
  beforeAll(async () => {
    model = await createModel(config, { seed: 3 });
  });

  test('the same seed gives the same weights', async () => {
    const twin = await createModel(config, { seed: 3 });
    const other = await createModel(config, { seed: 4 });
    const [a, b, c] = await Promise.all([model, twin, other].map((m) => m.createSession().forward(ids(9))));
    expect(b!.data).toEqual(a!.data);
    expect(c!.data).not.toEqual(a!.data);
  });

  test('a long prompt in native chunks equals pieces fed by hand', async () => {
    const prompt = ids(1500);
    const whole = await model.createSession().forward(prompt);
    const pieces = model.createSession();
    for (let at = 0; at < 1500; at += 250) await pieces.forward(prompt.subarray(at, at + 250), { logits: 'none' });
    expect(pieces.position).toBe(1500);
    const last = await pieces.forward([5]);
    const again = model.createSession();
    await again.forward(prompt, { logits: 'none' });
    expectClose((await again.forward([5])).toFloat32Array(), last.toFloat32Array(), { atol: 2e-4, rtol: 1e-4 });
    expect(whole.shape).toEqual([1, 61]);
  });

  test('fork goes on independently', async () => {
    const session = model.createSession();
    await session.forward(ids(70));
    const copy = session.fork();
    const a = await session.forward([1, 2, 3]);
    await copy.forward([9, 9, 9, 9]);
    const b = await session.fork().forward([4]);
    const straight = model.createSession();
    await straight.forward(Int32Array.of(...ids(70), 1, 2, 3));
    expectClose((await straight.forward([4])).toFloat32Array(), b.toFloat32Array(), { atol: 1e-5, rtol: 1e-4 });
    expect(a.shape).toEqual([1, 61]);
    expect(copy.position).toBe(74);
  });

  test('save and restore go on with the same numbers', async () => {
    const session = model.createSession();
    await session.forward(ids(130));
    const snapshot = session.save();
    const restored = model.restoreSession(snapshot);
    expect(restored.position).toBe(130);
    expect((await restored.forward([7])).data).toEqual((await session.forward([7])).data);
  });

  test('a restored session generates on as its origin does, the penalty on seen tokens included', async () => {
    const session = model.createSession();
    await session.forward(ids(9));
    const restored = model.restoreSession(session.save({ logits: true }));
    const draw = async (from: Session) => {
      const tokens: number[] = [];
      const options = { maxTokens: 6, temperature: 1, seed: 4, repetitionPenalty: 5 };
      for await (const { token } of from.generate(options)) tokens.push(token);
      return tokens;
    };
    const silent = model.restoreSession(session.save());
    expect(await draw(restored)).toEqual(await draw(session));
    await expect(draw(silent)).rejects.toMatchObject({ code: 'ERR_ARGUMENT' });
  });

  test('damaged, truncated and foreign snapshots are refused', async () => {
    const session = model.createSession();
    await session.forward(ids(5));
    const good = session.save();
    const foreign = await createModel(config, { seed: 5 });
    expect(() => foreign.restoreSession(good)).toThrow(expect.objectContaining({ code: 'ERR_STATE' }));
    for (let i = 0; i < good.length; i += Math.ceil(good.length / 97)) {
      const bad = good.slice();
      bad[i]! ^= 1 << (i % 8);
      expect(() => model.restoreSession(bad)).toThrow(expect.objectContaining({ code: 'ERR_STATE' }));
      expect(() => model.restoreSession(good.subarray(0, i))).toThrow(expect.objectContaining({ code: 'ERR_STATE' }));
    }
    expect(() => model.restoreSession('x' as never)).toThrow(StatespaceError);
  });

  test('an aborted forward rejects with the reason and leaves the session as it was', async () => {
    const session = model.createSession();
    await session.forward(ids(40));
    const before = session.save();
    const gone = AbortSignal.abort(new Error('early'));
    await expect(session.forward(ids(10), { signal: gone })).rejects.toThrow('early');
    const controller = new AbortController();
    const running = session.forward(ids(200_000), {
      signal: controller.signal,
      onProgress: () => controller.abort(new Error('enough')),
    });
    await expect(running).rejects.toThrow('enough');
    expect(session.position).toBe(40);
    expect(session.save()).toEqual(before);
  });

  test('a call that waits for another hears its abort, and the order stays', async () => {
    const session = model.createSession();
    const controller = new AbortController();
    const ended: string[] = [];
    const long = session.forward(ids(20_000, 1), { logits: 'none' }).then(() => ended.push('long'));
    const waiting = session.forward([1], { signal: controller.signal }).catch((reason) => ended.push(reason));
    const after = session.forward([2], { logits: 'none' }).then(() => ended.push('after'));
    setImmediate(() => controller.abort('enough'));
    await Promise.all([long, waiting, after]);
    expect(ended).toEqual(['enough', 'long', 'after']);
    expect(session.position).toBe(20_001);
  });

  test('calls on one session run in order; sessions run side by side', async () => {
    const straight = model.createSession();
    await straight.forward(ids(30, 1));
    await straight.forward(ids(30, 2));
    const want = await straight.forward([3]);
    const results = await Promise.all(
      Array.from({ length: 6 }, () => {
        const s = model.createSession();
        void s.forward(ids(30, 1));
        void s.forward(ids(30, 2));
        return s.forward([3]);
      }),
    );
    for (const r of results) expectClose(r.toFloat32Array(), want.toFloat32Array(), { atol: 1e-5, rtol: 1e-5 });
  });

  test('sessionBytes is what a session holds', async () => {
    const session = model.createSession();
    await session.forward(ids(200));
    expect(session.bytes).toBe(model.sessionBytes(200).total);
  });

  test('disposal during a forward is an error there, not a crash', async () => {
    const doomed = await createModel(config, { seed: 1 });
    const session = doomed.createSession();
    const running = session.forward(ids(100_000));
    const [outcome] = await Promise.allSettled([running, doomed.dispose()]);
    expect(outcome.status === 'fulfilled' || outcome.reason.code === 'ERR_DISPOSED').toBe(true);
    await expect(session.forward([1])).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
    expect(() => doomed.createSession()).toThrow(expect.objectContaining({ code: 'ERR_DISPOSED' }));
    await session.dispose();
  });

  test('bad tokens are named', async () => {
    const session = model.createSession();
    await expect(session.forward([1, 61])).rejects.toMatchObject({
      code: 'ERR_ARGUMENT',
      message: expect.stringContaining('tokens[1]'),
    });
    await expect(session.forward([-1])).rejects.toMatchObject({ code: 'ERR_ARGUMENT' });
    await expect(session.forward([0.5])).rejects.toMatchObject({ code: 'ERR_ARGUMENT' });
    for (const bad of [5, null, 'ab', [null], ['1'], [true], [Number.NaN]])
      await expect(session.forward(bad as never)).rejects.toMatchObject({ code: 'ERR_ARGUMENT' });
    for (const length of [2 ** 40, -1, 1.5, Number.NaN])
      await expect(session.forward({ length })).rejects.toMatchObject({
        code: 'ERR_ARGUMENT',
        message: `forward: tokens: expected from 0 to 2147483647 ids, received a length of ${length}`,
      });
    await expect(session.forward([1], { logits: 'some' as never })).rejects.toMatchObject({ code: 'ERR_ARGUMENT' });
    expect(session.position).toBe(0);
  });
});

describe('generate', () => {
  test('a seed makes sampling repeatable; stop ids end it', async () => {
    const model = await createModel(MAMBA, { seed: 3 });
    const draw = async (seed: number, stop: number[] = []) => {
      const out: number[] = [];
      const options = {
        prompt: [1, 2, 3],
        maxTokens: 20,
        temperature: 1.3,
        topK: 40,
        topP: 0.95,
        minP: 0.001,
        repetitionPenalty: 1.1,
        seed,
        stop,
      };
      for await (const { token, logprob } of model.createSession().generate(options)) {
        expect(logprob).toBeLessThanOrEqual(0);
        out.push(token);
      }
      return out;
    };
    const first = await draw(1);
    expect(first).toHaveLength(20);
    expect(await draw(1)).toEqual(first);
    expect(await draw(2)).not.toEqual(first);
    const at = first.findIndex((t, i) => i > 0 && !first.slice(0, i).includes(t));
    expect(await draw(1, [first[at]!])).toEqual(first.slice(0, at));
  });

  test('needs something to go on from, and sane options', async () => {
    const model = await createModel(MAMBA);
    const run = async (options: object) => {
      for await (const _ of model.createSession().generate(options)) return;
    };
    await expect(run({})).rejects.toMatchObject({ code: 'ERR_ARGUMENT' });
    await expect(run({ prompt: 'text' })).rejects.toMatchObject({ code: 'ERR_ARGUMENT' });
    for (const bad of [
      { temperature: -1 },
      { topP: 2 },
      { topK: 1.5 },
      { maxTokens: -1 },
      { seed: -4 },
      { stop: ['text'] },
      { stop: 'text' },
      { stop: [-1] },
      { stop: [1e6] },
      { stop: [true] },
      { prompt: 5 },
      { prompt: null },
      { signal: 3 },
    ]) {
      await expect(run({ prompt: [1], ...bad })).rejects.toMatchObject({ code: 'ERR_ARGUMENT' });
    }
  });
});

test.runIf(needs(!systemInfo().cuda.available, 'a machine without a GPU'))(
  'a GPU that is not there is a typed error',
  async () => {
    await expect(createModel(MAMBA, { device: 'cuda' })).rejects.toMatchObject({ code: 'ERR_DEVICE' });
  },
);

test('options that are none are typed errors', async () => {
  const model = await createModel(MAMBA);
  const session = model.createSession();
  for (const bad of [null, 3, { signal: 3 }, { signal: {} }, { onProgress: 3 }] as never[]) {
    await expect(session.forward([1], bad)).rejects.toMatchObject({ code: 'ERR_ARGUMENT' });
    await expect(model.forwardBatch([], bad)).rejects.toMatchObject({ code: 'ERR_ARGUMENT' });
    await expect(createModel(MAMBA, bad)).rejects.toMatchObject({ code: 'ERR_ARGUMENT' });
  }
  const described = describeModel(MAMBA);
  for (const bad of [-1, Number.NaN, Number.POSITIVE_INFINITY, 'x', undefined] as never[]) {
    for (const cost of [described.flopsPerToken, described.sessionBytes, model.sessionBytes.bind(model)])
      expect(() => cost(bad)).toThrow(expect.objectContaining({ code: 'ERR_ARGUMENT' }));
  }
  expect(() => described.sessionBytes(1, 'i8' as never)).toThrow(expect.objectContaining({ code: 'ERR_DTYPE' }));
});

test('unknown models and keys are typed errors', async () => {
  await expect(createModel({ model_type: 'unheard-of' })).rejects.toMatchObject({ code: 'ERR_UNSUPPORTED_MODEL' });
  await expect(createModel({ ...MAMBA, surprise: 1 })).rejects.toMatchObject({
    message: expect.stringContaining('surprise'),
  });
});

test('the cache of a sliding window does not grow with the prompt', async () => {
  const model = await createModel(WINDOW);
  const session = model.createSession();
  await session.forward(ids(4000), { logits: 'none' });
  expect(session.bytes).toBeLessThanOrEqual(model.sessionBytes(200).total * 2);
});

test('an eos token of the config ends the stream, a list of them as well', async () => {
  const greedy = async (eos: unknown) => {
    const model = await createModel({ ...MAMBA, eos_token_id: eos }, { seed: 3 });
    const tokens: number[] = [];
    for await (const { token } of model.createSession().generate({ prompt: [1, 2, 3], maxTokens: 12 }))
      tokens.push(token);
    return tokens;
  };
  const all = await greedy(null);
  expect(all).toHaveLength(12);
  const [first, last] = [all[0]!, all.at(-1)!];
  expect(await greedy(last)).toEqual(all.slice(0, all.indexOf(last)));
  expect(await greedy([60, first])).toEqual([]);
});
