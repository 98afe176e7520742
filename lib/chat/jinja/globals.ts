// Functions that every template has: Jinja's, and transformers' raise_exception and strftime_now.
import { strftime } from './strftime.js';
import { str } from './text.js';
import {
  type Arguments,
  Callable,
  Dict,
  isInt,
  iterate,
  Namespace,
  NONE,
  Range,
  TemplateError,
  typeName,
  type Value,
} from './values.js';

/** Jinja's sandbox bounds ranges as well. */
const maxRange = 100_000;

function range({ positional }: Arguments): Range {
  const numbers = positional.map((v) => {
    if (!isInt(v)) throw new TemplateError(`range: expected ints, received ${typeName(v)}`);
    return Number(v);
  });
  if (numbers.length < 1 || numbers.length > 3) throw new TemplateError(`range: expected 1 to 3 arguments`);
  const [start, stop, step] = numbers.length === 1 ? [0, numbers[0]!, 1] : [numbers[0]!, numbers[1]!, numbers[2] ?? 1];
  if (step === 0) throw new TemplateError('range: step must not be zero');
  const made = new Range(start, stop, step);
  if (made.length > maxRange) throw new TemplateError(`range: at most ${maxRange} steps, received ${made.length}`);
  return made;
}

function pairs({ positional, named }: Arguments): [Value, Value][] {
  const [first] = positional;
  if (first === undefined) return [...named];
  if (first instanceof Dict) return [...first.entries(), ...named];
  return [
    ...[...iterate(first)].map((pair) => {
      const [key, value, ...rest] = [...iterate(pair)];
      if (key === undefined || value === undefined || rest.length > 0)
        throw new TemplateError('dict: expected pairs of a key and a value');
      return [key, value] as [Value, Value];
    }),
    ...named,
  ];
}

function namespace(args: Arguments): Namespace {
  const made = new Namespace();
  for (const [key, value] of pairs(args)) made.attributes.set(str(key), value);
  return made;
}

function cycler({ positional: items }: Arguments): Callable {
  if (items.length === 0) throw new TemplateError('cycler: at least one item has to be provided');
  let at = 0;
  const current = () => items[at % items.length]!;
  return new Callable('cycler', current, (name) => {
    if (name === 'current') return current();
    const reset = () => {
      at = 0;
      return NONE;
    };
    if (name === 'reset') return new Callable('reset', reset);
    const next = () => {
      const value = current();
      at++;
      return value;
    };
    return name === 'next' ? new Callable('next', next) : undefined;
  });
}

function joiner({ positional, named }: Arguments): Callable {
  const separator = str(positional[0] ?? named.get('sep') ?? ', ');
  let used = false;
  return new Callable('joiner', () => {
    const value = used ? separator : '';
    used = true;
    return value;
  });
}

/** `now`: the time that strftime_now tells. */
export function templateGlobals(now: () => Date): Map<string, Value> {
  const functions: Record<string, (args: Arguments) => Value> = {
    range,
    dict: (args) => Dict.from(pairs(args)),
    namespace,
    cycler,
    joiner,
    raise_exception: ({ positional }) => {
      throw new TemplateError(str(positional[0] ?? 'raise_exception'));
    },
    strftime_now: ({ positional, named }) => strftime(now(), str(positional[0] ?? named.get('format') ?? '')),
    lipsum: () => {
      throw new TemplateError('lipsum is not supported');
    },
  };
  return new Map(Object.entries(functions).map(([name, call]) => [name, new Callable(name, call)]));
}
