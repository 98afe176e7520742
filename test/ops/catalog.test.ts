// The hand-written signatures against what the native ops say of themselves.
import { StatespaceError } from 'statespace';
import { describe, expect, test } from 'vitest';
import { opCatalog } from '../../dist/lib/graph/catalog.js';
import { callSync, type OpName, opNames } from '../conformance/check.js';
import { Random } from '../conformance/random.js';
import { samples } from '../conformance/samples.js';

/** Native ops that only graphs use: models have them as steps, nobody calls them on arrays. */
const graphOnly = [
  'activate',
  'activateBackward',
  'add',
  'addBackward',
  'affine',
  'affineBackward',
  'cacheAppend',
  'denseConv',
  'denseConvBackward',
  'denseScan',
  'denseScanBackward',
  'discretizeDenseBackward',
  'expertWeights',
  'expertWeightsBackward',
  'gate',
  'gateBackward',
  'implicitFilter',
  'implicitFilterBackward',
  'joinStreams',
  'joinStreamsBackward',
  'lerp',
  'lerpBackward',
  'longConv',
  'maxPool',
  'maxPoolBackward',
  'meanPool',
  'meanPoolBackward',
  'mixStreams',
  'mixStreamsBackward',
  'ngramEmbedding',
  'ngramEmbeddingBackward',
  'retentionScale',
  'retentionScaleBackward',
  'reverse',
  'reverseBackward',
  's4Conv',
  's4ConvBackward',
  's4KernelBackward',
  'selectRows',
  'sinkhorn',
  'sinkhornBackward',
  'sparseAttention',
  'sparseAttentionBackward',
  'squaredError',
  'streamGate',
  'streamGateBackward',
  'tokenShift',
  'tokenShiftBackward',
  'tokenShiftMix',
  'tokenShiftMixBackward',
  'wholeConv',
  'wholeConvBackward',
  'wkv7Bonus',
  'wkv7BonusBackward',
  'wkv7Keys',
  'wkv7KeysBackward',
];

/** Public ops that are computed in TypeScript, or by another native op. */
const withoutNative = ['hippo', 's4dInit', 'selectiveStateUpdate', 'deltaRule', 'kda', 'lightningAttention'];

/** Native names that have other public ones; null: filled in by the op itself. */
const renamed: Record<string, Record<string, string[] | null>> = {
  '*': { state: ['initialState'], slots: null },
  attention: { cuSeqlensK: null, pageTable: null, keyLengths: null },
  rope: { invFreq: ['theta', 'rotaryDim', 'scaling'], mscale: ['scaling'] },
  moe: { weights: null, activation: null, limit: null },
  ssd: { dtMin: ['dtLimit'], dtMax: ['dtLimit'] },
  linear: { residual: null, activation: null },
  linearBackward: { activation: null, accumulate: null },
  embedding: { scale: null },
  embeddingBackward: { scale: null, accumulate: null },
  linearCrossEntropy: { dloss: null, divisor: null, accumulate: null },
  attentionBackward: { cuSeqlensK: null },
  crossEntropyBackward: { lse: null },
  ropeBackward: { invFreq: ['theta', 'rotaryDim', 'scaling'], mscale: ['scaling'] },
  retention: { scale: null },
  retentionBackward: { scale: null },
  moeBackward: { weights: null, activation: null, limit: null, accumulate: null },
  ssdBackward: { dtMin: ['dtLimit'], dtMax: ['dtLimit'] },
  mamba3Backward: {
    ...Object.fromEntries(['angle', 'ssm', 'k', 'v'].map((part) => [part, ['initialState']])),
    ...Object.fromEntries(['Angle', 'Ssm', 'K', 'V'].map((part) => [`dlast${part}`, ['dlastState']])),
    ...{ dtBias: null, rawSteps: null, aFloor: null },
  },
  mamba3: {
    ...Object.fromEntries(['angle', 'ssm', 'k', 'v'].map((part) => [part, ['initialState']])),
    ...{ dtBias: null, rawSteps: null, aFloor: null },
  },
};
/** Public arguments that say how others are read. */
const readingOnly: Record<string, string[]> = {
  attention: ['withLse'],
  moe: ['withHidden'],
  linearCrossEntropy: ['gradients'],
  embeddingBackward: ['weight'],
  layerNormBackward: ['bias'],
  ropeBackward: ['x'],
  selectiveScan: ['complex', 'withStates'],
  ...Object.fromEntries(['ssd', 'wkv6', 'wkv7', 'gatedDeltaRule', 'gla', 'mamba3'].map((op) => [op, ['withStates']])),
  rgLru: ['withGates'],
  selectiveScanBackward: ['complex'],
  ssdBackward: ['mode', 'chunkSize'],
  retentionBackward: ['mode', 'chunkSize'],
  mamba3Backward: ['mode', 'chunkSize'],
  ...Object.fromEntries(['gatedDeltaRule', 'gla', 'wkv6', 'wkv7'].map((op) => [`${op}Backward`, ['mode']])),
  s4Kernel: ['real', 'L'],
  s4Recurrent: ['real'],
};

/** The argument names that an op knows, from its own message. */
function argumentNames(op: OpName): string[] {
  try {
    callSync(op, { '?': 1 });
  } catch (error) {
    if (error instanceof StatespaceError)
      return error.message
        .split('known are ')[1]!
        .split(', ')
        .filter((name) => name !== 'out');
    throw error;
  }
  throw new Error(`${op} takes unknown arguments`);
}

test('every native op is public, or a step of graphs', () => {
  const native = [...opCatalog().keys()];
  const expected = [...opNames.filter((op) => !withoutNative.includes(op)), ...graphOnly];
  expect(native.sort()).toEqual(expected.sort());
});

describe.each([...opCatalog().values()].filter((op) => !graphOnly.includes(op.name)))(
  '$name',
  ({ name, fields, attrs }) => {
    const others = { ...renamed['*'], ...renamed[name] };
    const publicNames = (native: string) => (native in others ? (others[native] ?? []) : [native]);

    test('takes the arguments that the native op has', () => {
      const inputs = fields.filter((f) => f.kind !== 'out' && f.kind !== 'wanted').map((f) => f.name);
      const expected = [...inputs, ...attrs.map((a) => a.name)].flatMap(publicNames).concat(readingOnly[name] ?? []);
      expect(argumentNames(name as OpName).sort()).toEqual([...new Set(expected)].sort());
    });

    test('gives the results that the native op has', () => {
      const gradients = fields.some((f) => f.name.startsWith('d') && f.kind === 'wanted');
      const written = ['out', ...(gradients ? ['wanted'] : [])];
      const results = (f: { kind: string; name: string }) =>
        f.kind === 'wanted' ? publicNames(f.name.slice(1)).map((known) => `d${known}`) : [f.name];
      const outputs = [...new Set(fields.filter((f) => written.includes(f.kind)).flatMap(results))];
      const state = fields.some((f) => f.kind === 'state')
        ? [name === 'causalConv1d' ? 'finalState' : 'lastState']
        : [];
      const sizes = { B: 1, L: 3, G: 1, R: 2, P: 5, N: 2, K: 2 };
      const given = callSync(name as OpName, samples[name as OpName].args(new Random(1), sizes));
      const names = Object.keys(given).map((result) => result.split('.')[0]!);
      expect([...new Set(names)].sort()).toEqual([...outputs, ...state].sort());
    });

    test('takes every choice of the native op', () => {
      const sizes = { B: 1, L: 3, G: 1, R: 2, P: 4, N: 2, K: 2 };
      const sample = samples[name as OpName].args(new Random(1), sizes);
      for (const { name: attr, choices } of attrs.filter((a) => a.choices.length > 0 && !(a.name in others)))
        for (const choice of choices) {
          const withoutP = choice === 'zoh' && 'P' in sample ? { P: undefined } : {}; // S4's low-rank form is bilinear
          expect(() => callSync(name as OpName, { ...sample, ...withoutP, [attr]: choice })).not.toThrow();
        }
    });
  },
);

/** What autodiff relies on: names alone say which tensor of the forward a gradient's tensor is. */
describe.each([...opCatalog().values()].filter((op) => op.gradientOf))('$name', ({ fields, attrs, ...op }) => {
  const forward = opCatalog().get(op.gradientOf!)!;
  const names = forward.fields.map((f) => (f.kind === 'state' && f.name === 'state' ? 'initialState' : f.name));
  const outputs = forward.fields.filter((f) => f.kind === 'out').map((f) => `d${f.name}`);
  const states = forward.fields.filter((f) => f.kind === 'state').map(({ name }) => name);
  const last = states.map((name) => `dlast${name[0]!.toUpperCase()}${name.slice(1)}`);
  const above = [...outputs, ...last, 'dfinalState'];

  test('has fields that are named after those of its forward', () => {
    const unknown = fields.filter((f) => !names.includes(f.name) && !above.includes(f.name));
    const gradients = unknown.filter((f) => f.kind === 'wanted' && names.includes(f.name.slice(1)));
    expect(unknown.filter((f) => !gradients.includes(f))).toEqual([]);
    expect(fields.filter((f) => f.kind === 'wanted').length).toBeGreaterThan(0);
    if (op.passesOn) expect(names).toContain(op.passesOn);
  });

  test('has attributes of its forward, with their defaults', () => {
    for (const attr of attrs.filter((a) => a.name !== 'accumulate')) expect(forward.attrs).toContainEqual(attr);
  });
});
