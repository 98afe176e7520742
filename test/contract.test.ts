// The names of the public contract, and what they do where a line says it.
import * as statespace from 'statespace';
import { expect, expectTypeOf, test } from 'vitest';

const { createModel, fork, ops, StatespaceError, Tensor } = statespace;
const tiny = { model_type: 'mamba', vocab_size: 16, hidden_size: 8, num_hidden_layers: 1, state_size: 4 };

const functions = [
  ...['systemInfo', 'setThreads', 'loadModel', 'createModel', 'supportedModels', 'describeModel', 'registerModel'],
  ...['saveModel', 'createEngine', 'createTrainer', 'resumeTrainer', 'fork', 'Tensor', 'StatespaceError'],
] as const;

test.each(functions)('%s is there', (name) => {
  expect(typeof (statespace as Record<string, unknown>)[name]).toBe('function');
});

const forward = [
  ...['discretize', 'discretizeDense', 'selectiveScan', 'selectiveStateUpdate', 'causalConv1d', 'ssd', 'attention'],
  ...['rope', 'rmsNorm', 'layerNorm', 'linear', 'moe', 'fftConv', 'hippo', 's4dInit', 's4Kernel', 's4Recurrent'],
  ...['retention', 'wkv4', 'wkv6', 'wkv7', 'gatedDeltaRule', 'mamba3', 'kda', 'deltaRule', 'gla', 'lightningAttention'],
  ...['rgLru', 'embedding', 'crossEntropy'],
];
const differentiable = [
  ...['selectiveScan', 'causalConv1d', 'ssd', 'attention', 'rope', 'rmsNorm', 'layerNorm', 'linear', 'moe', 'wkv4'],
  ...['wkv6', 'wkv7', 'retention', 'gatedDeltaRule', 'fftConv', 'embedding', 'crossEntropy'],
];

test.each([...forward, ...differentiable.map((op) => `${op}Backward`)])('ops.%s and its synchronous twin', (op) => {
  for (const name of [op, `${op}Sync`]) expect(typeof (ops as Record<string, unknown>)[name], name).toBe('function');
});

/** Ops whose arguments' type lacks `out`. */
type WithoutOut = {
  [K in keyof typeof ops]: 'out' extends keyof Parameters<(typeof ops)[K]>[0] ? never : K;
}[keyof typeof ops];

test('every op takes `out`, by its type as well, and a state of several parts by their names', () => {
  expectTypeOf<WithoutOut>().toBeNever();
  type Out = NonNullable<Parameters<typeof ops.mamba3>[0]['out']>;
  expectTypeOf<keyof NonNullable<Out['lastState']>>().toEqualTypeOf<'angle' | 'ssm' | 'k' | 'v'>();
});

test('a session forks by method and by function', async () => {
  const model = await createModel(tiny);
  const session = model.createSession();
  await session.forward([1, 2, 3]);
  const copies = [session.fork(), fork(session)];
  const next = await Promise.all([session, ...copies].map(async (s) => [...(await s.forward([4])).toFloat32Array()]));
  expect(next[1]).toEqual(next[0]);
  expect(next[2]).toEqual(next[0]);
  expect(() => fork({} as never)).toThrow(StatespaceError);
  await model.dispose();
});

test('a family registered again is replaced; definitions of the built-in ones are there to build with', async () => {
  const { modelDefinition, registerModel } = statespace;
  const mamba = modelDefinition('mamba');
  const own = (name: string) => ({ ...mamba, modelTypes: ['own_mamba'], config: mamba.config, name });
  registerModel(own('first'));
  registerModel(own('second'));
  expect((modelDefinition('own_mamba') as unknown as { name: string }).name).toBe('second');
  const model = await createModel({ ...tiny, model_type: 'own_mamba' });
  expect(model.parameters.total).toBeGreaterThan(0);
  await model.dispose();
  expect(() => registerModel({ ...mamba, modelTypes: ['mamba'] })).toThrow(/is taken/);
  expect(() => modelDefinition('nothing')).toThrow(StatespaceError);
});

test('gradients take arguments by name, as code has them that picks an op by its name', async () => {
  const [x, weight, dy] = [
    [1, 2],
    [3, 4, 5, 6],
    [1, -1],
  ].map((v) => new Tensor(Float32Array.from(v), [v.length / 2, 2]));
  const args: Record<string, unknown> = { x, weight, dy };
  const gradients: Record<string, statespace.Tensor> = await ops.linearBackward(args);
  const named: Record<string, statespace.Tensor> = ops.linearBackwardSync(args);
  for (const { dx, dweight } of [gradients, named, await ops.linearBackward({ x: x!, weight: weight!, dy: dy! })])
    expect([[...dx!.data], [...dweight!.data]]).toEqual([
      [-2, -2],
      [1, 2, -1, -2],
    ]);
  // @ts-expect-error names that are typed are checked
  await expect(ops.linearBackward({ x: x!, wieght: weight!, dy: dy! })).rejects.toThrow(/wieght/);
  // @ts-expect-error and so are those of gradients
  expect((await ops.linearBackward({ x: x!, weight: weight!, dy: dy! })).dwieght).toBe(undefined);
});
