// What jinja2 3.1.6 prints, set up as transformers sets it up (make-jinja-table.py), row by row.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { renderTemplate } from '../../dist/lib/chat/jinja/template.js';
import { processorMs } from '../support/stalls.js';

interface Table {
  now: string;
  variables: Record<string, unknown>;
  /** Template, what it prints, and the error's class where it prints nothing. */
  rows: [template: string, printed: string | null, error?: string][];
}
const table: Table = JSON.parse(readFileSync(join(__dirname, 'jinja-table.json'), 'utf8'));
const render = (template: string) => renderTemplate(template, table.variables, () => new Date(table.now));
const printing = table.rows.filter(([, printed]) => printed !== null);
const failing = table.rows.filter(([, printed]) => printed === null);

test('the table holds several hundred rows of both kinds', () => {
  expect(printing.length).toBeGreaterThan(600);
  expect(failing.length).toBeGreaterThan(60);
});

test('what Python prints', () => {
  const wrong = printing.flatMap(([template, printed]) => {
    const got = tryRender(template);
    return got === printed ? [] : [{ template, printed, got }];
  });
  expect(wrong).toEqual([]);
});

test('what Python refuses is an ERR_ARGUMENT with a line', () => {
  const wrong = failing.flatMap<unknown>(([template, , why]) => {
    try {
      return [{ template, why, got: render(template) }];
    } catch (error) {
      const { code, message } = error as { code?: string; message: string };
      return code === 'ERR_ARGUMENT' && /^chat template: line \d+: /.test(message) ? [] : [{ template, why, message }];
    }
  });
  expect(wrong).toEqual([]);
});

function tryRender(template: string): string {
  try {
    return render(template);
  } catch (error) {
    return `${error}`;
  }
}

describe('a template that runs away is stopped', () => {
  test.each([
    ['loops', '{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}', /steps/],
    ['recursion', '{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}', /deep/],
    [
      'text',
      "{% set ns = namespace(s='x') %}{% for i in range(99) %}{% set ns.s = ns.s * 2 %}{% endfor %}",
      /repetition/,
    ],
    ['output', "{% for i in range(99) %}{{ 'x' * 9000000 }}{% endfor %}", /characters/],
    ['brackets', `{{ ${'('.repeat(50_000)}1${')'.repeat(50_000)} }}`, /nested/],
    ['blocks', '{% if 1 %}'.repeat(50_000), /nested/],
    ['numbers', '{{ 9 ** 99999 }}', /digits/],
    ['widths', "{{ '%999999999d' % 1 }}", /width/],
  ])('%s', (_, template, message) => {
    const start = processorMs();
    expect(() => renderTemplate(template, {})).toThrow(message);
    expect(processorMs() - start).toBeLessThan(5000);
  });

  test('values that hold themselves', () => {
    const loop: unknown[] = [];
    loop.push(loop);
    expect(() => renderTemplate('{{ x }}', { x: loop })).toThrow(/holds itself/);
  });
});
