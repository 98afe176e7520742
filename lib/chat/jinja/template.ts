import type { Statement } from './ast.js';
import { templateGlobals } from './globals.js';
import { run } from './interpreter.js';
import { parse } from './parser.js';
import { fromJs, type Value } from './values.js';

/** Of the templates that a process uses, the last few. */
const KEPT = 32;
const parsed = new Map<string, Statement[]>();

function parsedOnce(source: string): Statement[] {
  const known = parsed.get(source);
  if (known) {
    parsed.delete(source);
    parsed.set(source, known);
    return known;
  }
  const body = parse(source);
  if (parsed.size >= KEPT) parsed.delete(parsed.keys().next().value!);
  parsed.set(source, body);
  return body;
}

/**
 * Renders a Jinja template as transformers does (jinja2 3.1 in an immutable sandbox, trim_blocks, lstrip_blocks, loop
 * controls, {% generation %}): with Python's values, methods and formats.
 *
 * @param variables JSON-like values; a number without a fraction is an int.
 * @throws StatespaceError ERR_ARGUMENT with the line, for a wrong template or what raise_exception says.
 */
export function renderTemplate(
  source: string,
  variables: Readonly<Record<string, unknown>>,
  now: () => Date = () => new Date(),
): string {
  const body = parsedOnce(source);
  const globals: Map<string, Value> = templateGlobals(now);
  for (const [name, value] of Object.entries(variables)) if (value !== undefined) globals.set(name, fromJs(value));
  return run(body, globals);
}
