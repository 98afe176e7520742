// docs/architecture.md says what each folder may include or import; the sources must keep to it.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';

const root = join(__dirname, '..');
const page = readFileSync(join(root, 'docs/architecture.md'), 'utf8');
const rows = [...page.matchAll(/^\| (`.+?`) \| .+? \| (.+?) \|$/gm)].flatMap(([, folders, allowed]) =>
  [...folders!.matchAll(/`(.+?)`/g)].map((m) => ({ folder: m[1]!, allowed: allowed!.split(', ') })),
);

const leaves = page.match(/^Leaves, for all of `lib`: (.+)\.$/m)![1]!.split(', ');

/** What a file includes or imports of the project: `ops/add.h`, `graph/graph`, relative to native/ or lib/. */
function uses(path: string): string[] {
  const text = readFileSync(join(root, path), 'utf8');
  if (!path.endsWith('.ts')) return [...text.matchAll(/^#include "(.+?)"/gm)].map((m) => m[1]!);
  return [...text.matchAll(/^(?:import|export) [^;]*?from '(\..+?)\.js'/gms)].map(
    (m) => join(path, '..', m[1]!).split('lib/')[1] ?? join(path, '..', m[1]!),
  );
}

test('the table lists every folder of the sources', () => {
  const listed = rows.map((r) => r.folder);
  for (const top of ['native', 'lib'])
    for (const entry of readdirSync(join(root, top), { withFileTypes: true }))
      if (entry.isDirectory() && !['tests', 'fuzz'].includes(entry.name))
        expect(listed).toContain(`${top}/${entry.name}`);
});

describe.each(rows.filter((r) => r.allowed[0] !== 'everything public'))('$folder', ({ folder, allowed }) => {
  const name = folder.split('/')[1]!;
  const fits = (used: string) =>
    used.startsWith(`${name}/`) ||
    (folder.startsWith('lib') && leaves.includes(used)) ||
    allowed.some((a) => (a === 'itself' ? false : used === a || used.startsWith(`${a}/`)));

  test(`uses ${allowed.join(', ')} and itself`, () => {
    const files = readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' }).filter((f) =>
      /\.(h|cc|ts)$/.test(f),
    );
    expect(files.length).toBeGreaterThan(0);
    const strange = files.flatMap((file) =>
      uses(join(folder, file))
        .filter((used) => used.includes('/') || folder.startsWith('lib'))
        .filter((used) => !fits(used))
        .map((used) => `${file}: ${used}`),
    );
    expect(strange.join('\n')).toBe('');
  });
});

test('no case is left out without its reason: support/needs.ts prints it', () => {
  const files = readdirSync(__dirname, { recursive: true, encoding: 'utf8' }).filter((f) => f.endsWith('.test.ts'));
  expect(files.length).toBeGreaterThan(50);
  const silent = files.flatMap((file) =>
    [...readFileSync(join(__dirname, file), 'utf8').matchAll(/\.(?:skipIf|skip|todo)\(.*|\.runIf\((?!needs\().*/g)].map(
      ([found]) => `${file}: ${found}`,
    ),
  );
  expect(silent.join('\n')).toBe('');
});

test('no file imports itself through whatever others, types included', () => {
  const imports = new Map<string, string[]>();
  for (const top of ['lib', 'bench'])
    for (const file of readdirSync(join(root, top), { recursive: true, encoding: 'utf8' }))
      if (file.endsWith('.ts')) {
        const path = join(top, file);
        const found = readFileSync(join(root, path), 'utf8').matchAll(/^(?:import|export) [^;]*?from '(\..+?)\.js'/gms);
        imports.set(
          path,
          [...found].map(([, to]) => `${join(path, '..', to!)}.ts`),
        );
      }
  expect(imports.size).toBeGreaterThan(300);
  const circles: string[] = [];
  const done = new Set<string>();
  const follow = (file: string, path: readonly string[]): void => {
    if (path.includes(file)) circles.push([...path.slice(path.indexOf(file)), file].join(' > '));
    if (path.includes(file) || done.has(file)) return;
    for (const next of imports.get(file) ?? []) follow(next, [...path, file]);
    done.add(file);
  };
  for (const file of imports.keys()) follow(file, []);
  expect(imports.size).toBeGreaterThan(100);
  expect(circles).toEqual([]);
});
