// Jinja's tests (3.1): what stands behind `is`.
import type { Bound, Runtime } from './arguments.js';
import { FILTERS } from './filters.js';
import { binary, comparison } from './operators.js';
import { str } from './text.js';
import {
  Dict,
  equal,
  Float,
  isInt,
  isNumber,
  isText,
  iterate,
  Markup,
  NONE,
  Range,
  Tuple,
  textOf,
  typeName,
  Undefined,
  type Value,
} from './values.js';

export const TESTS: Record<string, (value: Value, args: Bound, runtime: Runtime) => boolean> = {
  boolean: (v) => typeof v === 'boolean',
  callable: (v) => typeName(v) === 'function',
  defined: (v) => !(v instanceof Undefined),
  divisibleby: (v, a) => equal(binary('%', v, a.need(0, 'num')), 0),
  escaped: (v) => v instanceof Markup,
  even: (v) => equal(binary('%', v, 2), 0),
  false: (v) => v === false,
  filter: (v) => isText(v) && Object.hasOwn(FILTERS, textOf(v)),
  float: (v) => v instanceof Float,
  integer: (v) => isInt(v) && typeof v !== 'boolean',
  iterable: (v) => (v instanceof Undefined || typeof v === 'object' || typeof v === 'string' ? isIterable(v) : false),
  lower: (v) => str(v) === str(v).toLowerCase() && /\p{Ll}/u.test(str(v)),
  mapping: (v) => v instanceof Dict,
  none: (v) => v === NONE,
  number: isNumber,
  odd: (v) => equal(binary('%', v, 2), 1),
  sameas: (v, a) => v === a.need(0, 'other') || (v instanceof Undefined && a.need(0, 'other') === v),
  sequence: (v) =>
    isText(v) ||
    Array.isArray(v) ||
    v instanceof Tuple ||
    v instanceof Dict ||
    v instanceof Range ||
    v instanceof Undefined,
  string: isText,
  test: (v) => isText(v) && Object.hasOwn(TESTS, textOf(v)),
  true: (v) => v === true,
  undefined: (v) => v instanceof Undefined,
  upper: (v) => str(v) === str(v).toUpperCase() && /\p{Lu}/u.test(str(v)),
};

function isIterable(value: Value): boolean {
  try {
    iterate(value);
    return true;
  } catch {
    return false;
  }
}

const COMPARING: Record<string, string[]> = {
  '==': ['eq', 'equalto', '=='],
  '!=': ['ne', '!='],
  '<': ['lt', 'lessthan', '<'],
  '<=': ['le', '<='],
  '>': ['gt', 'greaterthan', '>'],
  '>=': ['ge', '>='],
  in: ['in'],
};
for (const [operator, names] of Object.entries(COMPARING)) {
  for (const name of names) TESTS[name] = (v, a) => comparison(operator, v, a.need(0, 'other'));
}
