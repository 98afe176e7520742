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
  'add',
  'cacheAppend',
  'denseConv',
  'denseScan',
  'embedding',
  'gate',
  'implicitFilter',
  'lerp',
  'longConv',
  'meanPool',
  'retentionScale',
  'reverse',
  's4Conv',
  'selectRows',
  'tokenShift',
  'tokenShiftMix',
  'wkv7Bonus',
  'wkv7Keys',
];

/** Public ops that are computed in TypeScript, or by another native op. */
const withoutNative = ['hippo', 's4dInit', 'selectiveStateUpdate'];

/** Native names that have other public ones; null: filled in by the op itself. */
const renamed: Record<string, Record<string, string[] | null>> = {
  '*': { state: ['initialState'], slots: null },
  attention: { cuSeqlensK: null, pageTable: null, keyLengths: null },
  rope: { invFreq: ['theta', 'rotaryDim', 'scaling'], mscale: ['scaling'] },
  ssd: { dtMin: ['dtLimit'], dtMax: ['dtLimit'] },
  linear: { residual: null, activation: null },
};
/** Public arguments that say how others are read. */
const readingOnly: Record<string, string[]> = {
  selectiveScan: ['complex'],
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
      const inputs = fields.filter((f) => f.kind !== 'out').map((f) => f.name);
      const expected = [...inputs, ...attrs.map((a) => a.name)].flatMap(publicNames).concat(readingOnly[name] ?? []);
      expect(argumentNames(name as OpName).sort()).toEqual([...new Set(expected)].sort());
    });

    test('gives the results that the native op has', () => {
      const outputs = fields.filter((f) => f.kind === 'out').map((f) => f.name);
      const state = fields.some((f) => f.kind === 'state')
        ? [name === 'causalConv1d' ? 'finalState' : 'lastState']
        : [];
      const sizes = { B: 1, L: 3, G: 1, R: 2, P: 4, N: 2, K: 2 };
      const results = callSync(name as OpName, samples[name as OpName].args(new Random(1), sizes));
      expect(Object.keys(results).sort()).toEqual([...outputs, ...state].sort());
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
