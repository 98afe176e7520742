// Session.forward with `out`: the logits are written where the caller says, and nowhere else.
import { createModel, type Model, Tensor, type TensorLike } from 'statespace';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const MAMBA = { model_type: 'mamba', vocab_size: 61, hidden_size: 32, num_hidden_layers: 2, state_size: 16 };
const ids = Array.from({ length: 90 }, (_, i) => (i * 7) % 61);
let model: Model;
beforeAll(async () => {
  model = await createModel(MAMBA, { seed: 3 });
});
afterAll(() => model.dispose());

const blank = (...shape: [number, number]) => new Tensor(new Float32Array(shape[0] * shape[1]).fill(Number.NaN), shape);

it.each([
  ['last', 1],
  ['all', 90],
  ['none', 0],
] as const)('logits: %s', async (logits, rows) => {
  const expected = await model.createSession().forward(ids, { logits });
  const out = blank(rows, 61);
  const { data } = out;
  const result = await model.createSession().forward(ids, { logits, out });
  expect(result).toBe(out);
  expect(out.data).toBe(data);
  expect(out.data).toEqual(expected.data);
});

it('writes to a part of a larger buffer, and to nothing beside it', async () => {
  const all = new Float32Array(63).fill(-7);
  const out = { data: all.subarray(1, 62), shape: [1, 61] };
  const result = await model.createSession().forward(ids, { out });
  expect(result.data).toBe(out.data);
  expect([all[0], all[62]]).toEqual([-7, -7]);
  expect(out.data).toEqual((await model.createSession().forward(ids)).data);
});

it.each(['f16', 'bf16'] as const)('in %s', async (dtype) => {
  const out = new Tensor(new Uint16Array(61), [1, 61], dtype);
  await model.createSession().forward(ids, { out });
  expect(out.data).toEqual((await model.createSession().forward(ids)).to(dtype).data);
});

it('serves call after call, and a call without tokens behind generate()', async () => {
  const session = model.createSession();
  const other = model.createSession();
  const out = blank(1, 61);
  for (const id of ids.slice(0, 5)) {
    await session.forward([id], { out });
    expect(out.data).toEqual((await other.forward([id])).data);
  }
  for await (const _ of session.generate({ maxTokens: 1 })) for await (const _ of other.generate({ maxTokens: 1 }));
  await session.forward([], { out });
  expect(out.data).toEqual((await other.forward([])).data);
});

describe('refused, with the session as it was:', () => {
  const big = new Float32Array(200);
  const resizable = Reflect.construct(ArrayBuffer, [244, { maxByteLength: 488 }]) as ArrayBuffer;
  const wrong: [string, string, unknown][] = [
    ['another shape', 'ERR_SHAPE', blank(2, 61)],
    ['another order of the axes', 'ERR_SHAPE', blank(61, 1)],
    ['another type', 'ERR_DTYPE', new Tensor(new Int32Array(61), [1, 61])],
    ['no shape', 'ERR_SHAPE', new Float32Array(61)],
    ['a number', 'ERR_ARGUMENT', 5],
    ['resizable memory', 'ERR_ARGUMENT', { data: new Float32Array(resizable), shape: [1, 61] }],
    ['too little data', 'ERR_SHAPE', { data: big.subarray(0, 60), shape: [1, 61] }],
  ];
  it.each(wrong)('%s', async (_, code, out) => {
    const session = model.createSession();
    const failure = await session.forward([1, 2], { out: out as TensorLike }).catch((e) => e);
    expect([failure.name, failure.code]).toEqual(['StatespaceError', code]);
    expect(failure.message).toMatch(/^forward: out/);
    expect(session.position).toBe(0);
  });

  it('memory of the input', async () => {
    const buffer = new ArrayBuffer(400);
    const out = { data: new Float32Array(buffer, 8, 61), shape: [1, 61] };
    const failure = await model
      .createSession()
      .forward(new Int32Array(buffer, 0, 5), { out })
      .catch((e) => e);
    expect(failure).toMatchObject({ code: 'ERR_ARGUMENT' });
  });

  it('a tensor that was disposed of, also between the call and its turn', async () => {
    const session = model.createSession();
    const out = blank(1, 61);
    out.dispose();
    await expect(session.forward([1], { out })).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
    const late = blank(1, 61);
    const before = session.forward(ids, { logits: 'none' });
    const call = session.forward([1], { out: late });
    late.dispose();
    await before;
    await expect(call).rejects.toMatchObject({ name: 'StatespaceError' });
    expect(session.position).toBe(90);
  });

  it('an aborted call', async () => {
    const session = model.createSession();
    const controller = new AbortController();
    const { signal } = controller;
    const onProgress = () => controller.abort(new Error('enough'));
    const call = session.forward(new Int32Array(40_000), { out: blank(1, 61), signal, onProgress });
    await expect(call).rejects.toThrow('enough');
    expect(session.position).toBe(0);
  });
});
