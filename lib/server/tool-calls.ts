import { randomUUID } from 'node:crypto';
import { invalid } from './errors.js';

/** A call as OpenAI's API has it. */
export interface ToolCall {
  id: string;
  type: 'function';
  function: { name: string; arguments: string };
}

/** How models write calls; which, their chat template says to them. */
const MARKS = ['<tool_call>', '[TOOL_CALLS]', '<|tool_call|>', '<|python_tag|>', '<|tool_call_start|>', '<function='];

/** Where a call may begin in a text that is still being written: what is before it can be shown. */
export function shownLength(text: string): number {
  const marks = text.trimStart().startsWith('{') ? 0 : text.length;
  let shown = marks;
  for (const mark of MARKS) {
    const at = text.indexOf(mark);
    if (at >= 0) shown = Math.min(shown, at);
    for (let n = Math.min(mark.length - 1, text.length); n > 0; n--)
      if (text.endsWith(mark.slice(0, n))) shown = Math.min(shown, text.length - n);
  }
  return shown;
}

/** A tool that an answer has to call: `format` holds the text to that. */
export interface ForcedCall {
  /** The one that is called; undefined: any of them, which the text names. */
  name: string | undefined;
  format: { type: 'json_schema'; schema: Record<string, unknown> };
}

/** Of the tools' parameters by name: a call of `name`, or of any. */
export function forceCall(parameters: ReadonlyMap<string, unknown>, name: string | undefined): ForcedCall {
  const taken = (of: string, at: string) => argumentsOf(parameters.get(of), at);
  if (name !== undefined) return { name, format: { type: 'json_schema', schema: taken(name, '#') } };
  const call = (its: string, at: string) => ({
    ...{ type: 'object', required: ['name', 'arguments'], additionalProperties: false },
    properties: { name: { const: its }, arguments: taken(its, `${at}/properties/arguments`) },
  });
  const names = [...parameters.keys()];
  const schema =
    names.length === 1 ? call(names[0]!, '#') : { anyOf: names.map((its, i) => call(its, `#/anyOf/${i}`)) };
  return { name, format: { type: 'json_schema', schema } };
}

/** A tool's parameters, which are an object's, as a schema whose root lies at `at`: what it refers to is within itself. */
function argumentsOf(parameters: unknown, at: string): Record<string, unknown> {
  const given = (parameters ?? {}) as Record<string, unknown>;
  const schema = Object.keys(given).length === 0 ? { type: 'object' } : given;
  return at === '#' ? schema : (moved(schema, at) as Record<string, unknown>);
}

/** Keywords whose keys are names of schemas. */
const NAMED = new Set(['properties', 'patternProperties', '$defs', 'definitions']);

const MOST_LEVELS = 100;

function moved(schema: unknown, at: string, areNames = false, level = 0): unknown {
  if (level > MOST_LEVELS) throw invalid(`parameters of a tool: more than ${MOST_LEVELS} levels`, 'tools');
  if (Array.isArray(schema)) return schema.map((part) => moved(part, at, false, level + 1));
  if (typeof schema !== 'object' || schema === null) return schema;
  const parts = Object.entries(schema).map(([key, value]) => {
    if (!areNames && (key === 'const' || key === 'enum')) return [key, value];
    const isReference = key === '$ref' && typeof value === 'string' && value.startsWith('#');
    return [key, isReference ? at + value.slice(1) : moved(value, at, !areNames && NAMED.has(key), level + 1)];
  });
  return Object.fromEntries(parts);
}

/** What such an answer comes to; a text that was cut short is a call only where it is known of what. */
export function readForcedCall(text: string, { name }: ForcedCall): { content: string; calls: ToolCall[] } {
  if (name !== undefined) return { content: '', calls: [callOf(name, text)] };
  for (const found of jsonCalls(text)) return { content: '', calls: [callOf(found.name, JSON.stringify(found.args))] };
  return { content: text, calls: [] };
}

const callOf = (name: string, args: string): ToolCall => ({
  ...{ id: `call_${randomUUID().replaceAll('-', '').slice(0, 24)}`, type: 'function' },
  function: { name, arguments: args },
});

/** The text before the calls, and the calls; no calls where the text holds none that can be read. */
export function parseToolCalls(text: string, names: ReadonlySet<string>): { content: string; calls: ToolCall[] } {
  const first = Math.min(...MARKS.map((mark) => text.indexOf(mark)).filter((at) => at >= 0));
  const [content, rest] = first === Infinity ? ['', text] : [text.slice(0, first), text.slice(first)];
  const found = [...taggedCalls(rest)].filter(({ name }) => names.has(name));
  if (found.length === 0) return { content: text, calls: [] };
  const calls = found.map(({ name, args }) => callOf(name, JSON.stringify(args ?? {})));
  return { content: content.trimEnd(), calls };
}

interface Found {
  name: string;
  args: unknown;
}

function* taggedCalls(text: string): Generator<Found> {
  // <tool_call>{"name": …, "arguments": …}</tool_call> (Hermes, Qwen, Granite), or XML within it (Qwen-Coder, Nemotron)
  const tagged = [...text.matchAll(/<tool_call>\s*([\s\S]*?)\s*(<\/tool_call>|$)/g)];
  const bodies =
    tagged.length > 0
      ? tagged.map(([, body, end]) => ({ body: body!, isWhole: end !== '' }))
      : [{ body: text.replace(/^\s*(\[TOOL_CALLS\]|<\|tool_call\|>|<\|python_tag\|>)/, ''), isWhole: false }];
  for (const { body, isWhole } of bodies) {
    yield* xmlCalls(body, isWhole);
    yield* jsonCalls(body);
  }
  const python = /<\|tool_call_start\|>\s*\[([\s\S]*?)\]\s*(?:<\|tool_call_end\|>|$)/.exec(text);
  if (python) yield* pythonCalls(python[1]!);
}

function* jsonCalls(body: string): Generator<Found> {
  for (const piece of [body, ...body.split(/;\s*(?={)/)]) {
    let value: unknown;
    try {
      value = JSON.parse(piece);
    } catch {
      continue;
    }
    for (const call of Array.isArray(value) ? value : [value]) {
      const { name, arguments: args, parameters } = (call ?? {}) as Record<string, unknown>;
      if (typeof name === 'string') yield { name, args: args ?? parameters };
    }
    if (piece === body) return;
  }
}

/** isWhole: the text did not end within it. A call that was cut, its last arguments missing, is none. */
function* xmlCalls(body: string, isWhole: boolean): Generator<Found> {
  for (const [, name, inner, end] of body.matchAll(/<function=([^>\s]+)>([\s\S]*?)(<\/function>|$)/g)) {
    if (end === '' && !isWhole) return;
    const args: Record<string, unknown> = {};
    for (const [, key, value] of inner!.matchAll(/<parameter=([^>\s]+)>\n?([\s\S]*?)\n?<\/parameter>/g))
      args[key!] = scalar(value!);
    yield { name: name!, args };
  }
}

/** name(key=value, …), as LFM2 writes it. */
function* pythonCalls(list: string): Generator<Found> {
  for (const [, name, inner] of list.matchAll(/([A-Za-z_][\w.]*)\(([^()]*)\)/g)) {
    const args: Record<string, unknown> = {};
    for (const [, key, value] of inner!.matchAll(/([A-Za-z_]\w*)\s*=\s*("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^,]+)/g))
      args[key!] = scalar(value!.trim().replace(/^'(.*)'$/s, '"$1"'));
    yield { name: name!, args };
  }
}

function scalar(text: string): unknown {
  const plain = { True: true, False: false, None: null }[text];
  if (plain !== undefined) return plain;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
