// What a template reads of a value: x.name and x[key].
import { methodOf } from './methods.js';
import { str } from './text.js';
import {
  Callable,
  Dict,
  isInt,
  isText,
  iterate,
  Namespace,
  Range,
  Tuple,
  textOf,
  typeName,
  Undefined,
  type Value,
} from './values.js';

/** x.name, items left aside. */
export function attribute(value: Value, name: string): Value {
  if (value instanceof Undefined) value.fail();
  if (value instanceof Namespace) return value.attributes.get(name) ?? missing(value, name);
  if (value instanceof Callable) return value.attribute(name) ?? missing(value, name);
  return methodOf(value, name) ?? missing(value, name);
}

/** x.name: an attribute, else an item. */
export function member(value: Value, name: string): Value {
  const found = attribute(value, name);
  return found instanceof Undefined ? (lookUp(value, name) ?? found) : found;
}

/** x[key]: an item, else an attribute. */
export function item(value: Value, key: Value): Value {
  if (value instanceof Undefined) value.fail();
  const found = lookUp(value, key);
  if (found !== undefined) return found;
  if (!isText(key)) return missing(value, str(key));
  if (value instanceof Namespace || value instanceof Callable) return attribute(value, textOf(key));
  return methodOf(value, textOf(key)) ?? missing(value, textOf(key));
}

function lookUp(value: Value, key: Value): Value | undefined {
  if (value instanceof Dict) return Array.isArray(key) || key instanceof Dict ? undefined : value.get(key);
  if (!isInt(key)) return undefined;
  const sequence =
    value instanceof Tuple ? value.items : value instanceof Range || isText(value) ? [...iterate(value)] : value;
  if (!Array.isArray(sequence)) return undefined;
  return sequence[Number(key) < 0 ? sequence.length + Number(key) : Number(key)];
}

const missing = (value: Value, name: string): Undefined =>
  new Undefined(`'${typeName(value)} object' has no attribute '${name}'`);
