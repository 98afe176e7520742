// What a schema's keywords say, checked, and two schemas as one.
import { StatespaceError, show } from '../errors.js';
import type { Bound } from './ranges.js';

export type Schema = Record<string, unknown>;

/** What says nothing about which values are right. */
export const ANNOTATIONS = new Set(
  `title description default examples example $schema $id id $comment $anchor $defs definitions deprecated readOnly
   writeOnly contentEncoding contentMediaType nullable discriminator xml externalDocs strict`.split(/\s+/),
);
export const isObject = (value: unknown): value is Schema =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

export const wrong = (at: string, why: string): StatespaceError =>
  new StatespaceError('ERR_ARGUMENT', `responseFormat: schema: ${at}: ${why}`);

export function typesOf(value: unknown): string[] {
  if (value === null) return ['null'];
  if (Array.isArray(value)) return ['array'];
  if (typeof value === 'number') return Number.isInteger(value) ? ['integer', 'number'] : ['number'];
  return [typeof value];
}

export function counts(schema: Schema, lower: string, upper: string, at: string): [number, number] {
  const read = (key: string, absent: number) => {
    const value = schema[key] ?? absent;
    if (value !== Infinity && !(Number.isSafeInteger(value) && (value as number) >= 0))
      throw wrong(at, `${key}: expected a whole number, received ${show(value)}`);
    return value as number;
  };
  const [least, most] = [read(lower, 0), read(upper, Infinity)];
  if (least > most) throw wrong(at, `${lower} ${least} is more than ${upper} ${most}`);
  return [least, most];
}

/** minimum and exclusiveMinimum, or the upper two, as one bound. */
export function bound(
  schema: Schema,
  key: string,
  tighter: (a: number, b: number) => number,
  at: string,
): Bound | undefined {
  const exclusiveKey = `exclusive${key[0]!.toUpperCase()}${key.slice(1)}`;
  let [value, exclusive] = [schema[key], schema[exclusiveKey]];
  if (typeof exclusive === 'boolean') [value, exclusive] = exclusive ? [undefined, value] : [value, undefined]; // draft 4
  for (const v of [value, exclusive])
    if (v !== undefined && !Number.isFinite(v)) throw wrong(at, `${key}: expected a number, received ${show(v)}`);
  const [inside, outside] = [value as number | undefined, exclusive as number | undefined];
  if (inside === undefined && outside === undefined) return undefined;
  if (inside === undefined || (outside !== undefined && tighter(inside, outside) === outside))
    return { value: outside!, exclusive: true };
  return { value: inside, exclusive: false };
}

/** Two schemas as one that allows what both do. */
export function merge(a: Schema, b: Schema, at: string): Schema {
  const out: Schema = { ...a };
  for (const [key, theirs] of Object.entries(b)) {
    const ours = out[key];
    if (ours === undefined || ANNOTATIONS.has(key)) out[key] = theirs;
    else if (key === 'properties' && isObject(ours) && isObject(theirs)) out[key] = mergedProperties(ours, theirs);
    else if (key === 'required' && Array.isArray(ours) && Array.isArray(theirs))
      out[key] = [...new Set([...ours, ...theirs])];
    else if (key === 'type') out[key] = commonTypes(ours, theirs, at);
    else if (key === 'enum' && Array.isArray(ours) && Array.isArray(theirs)) out[key] = commonValues(ours, theirs);
    else if (/^(min|exclusiveMin)/.test(key) && bothNumbers(ours, theirs))
      out[key] = Math.max(ours as number, theirs as number);
    else if (/^(max|exclusiveMax)/.test(key) && bothNumbers(ours, theirs))
      out[key] = Math.min(ours as number, theirs as number);
    else if (JSON.stringify(ours) !== JSON.stringify(theirs))
      throw wrong(at, `allOf: two different ${key} cannot be put together`);
  }
  return out;
}

const bothNumbers = (a: unknown, b: unknown): boolean => typeof a === 'number' && typeof b === 'number';
const commonValues = (a: unknown[], b: unknown[]): unknown[] => {
  const texts = new Set(b.map((value) => JSON.stringify(value)));
  return a.filter((value) => texts.has(JSON.stringify(value)));
};
const mergedProperties = (a: Schema, b: Schema): Schema => {
  const out = { ...a };
  for (const [name, schema] of Object.entries(b))
    out[name] = Object.hasOwn(out, name) ? { allOf: [out[name], schema] } : schema;
  return out;
};

function commonTypes(a: unknown, b: unknown, at: string): unknown {
  const [ours, theirs] = [[a].flat(), [b].flat()];
  const both = ours.filter((t) => theirs.includes(t) || (t === 'integer' && theirs.includes('number')));
  if (theirs.includes('integer') && ours.includes('number') && !both.includes('integer')) both.push('integer');
  if (both.length === 0) throw wrong(at, `allOf: no value is of type ${show(a)} and of type ${show(b)}`);
  return both;
}
