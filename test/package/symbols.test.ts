/** What the linker made: versions of glibc, exported names, size, and code that must not meet other code. */
import { copyFileSync, existsSync, mkdtempSync, readdirSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { needs } from '../support/needs.js';
import { succeed } from '../support/process.js';

const root = resolve(__dirname, '../..');
const built = join(root, 'build/Release/statespace.node');
const prebuilds = existsSync(join(root, 'prebuilds'))
  ? readdirSync(join(root, 'prebuilds'), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.glibc.node'))
      .map((name) => join(root, 'prebuilds', name))
  : [];

const newest = [2, 34];
const isNewer = ([major = 0, minor = 0]: number[]) => major > newest[0]! || (major === newest[0] && minor > newest[1]!);

describe.runIf(needs(process.platform === 'linux', 'Linux')).each([built, ...prebuilds])('%s', (addon) => {
  it('needs no newer glibc than 2.34 and no libstdc++', async () => {
    const text = await succeed('readelf', ['--version-info', '--wide', addon]);
    const versions = [...text.matchAll(/GLIBC_(\d+)\.(\d+)/g)].map((m) => [Number(m[1]), Number(m[2])]);
    expect(versions.length).toBeGreaterThan(3);
    expect(versions.filter(isNewer)).toEqual([]);
    expect(text).not.toMatch(/GLIBCXX|CXXABI/);
    const needed = [...(await succeed('readelf', ['--dynamic', '--wide', addon])).matchAll(/NEEDED.*\[(.+)\]/g)];
    expect(needed.map((m) => m[1]!.replace(/\.so.*/, '')).sort()).toEqual(
      expect.arrayContaining(['libc', 'libgcc_s', 'libm']),
    );
    for (const [, name] of needed) expect(name).toMatch(/^(libc|libm|libgcc_s|libdl|libpthread|ld-linux)[.-]/);
  });

  it('exports the entry points of Node-API alone', async () => {
    const names = await succeed('nm', ['--dynamic', '--defined-only', '--format=posix', addon]);
    const exported = names
      .trim()
      .split('\n')
      .map((line) => line.split(/[ @]/, 1)[0]);
    expect(exported).toContain('napi_register_module_v1');
    expect(exported.filter((name) => !/^(napi_register_module|node_api_module)_/.test(name!))).toEqual([]);
  });
});

it.runIf(needs(process.platform === 'linux', 'Linux'))('the addon is at most 8.5 MB, stripped', async () => {
  const copy = join(mkdtempSync(join(tmpdir(), 'statespace-strip-')), 'statespace.node');
  copyFileSync(built, copy);
  await succeed('strip', ['--strip-all', copy]);
  for (const file of [copy, ...prebuilds]) expect(statSync(file).size).toBeLessThanOrEqual(8.5e6);
});

// A weak symbol is merged with others of its name. One that was compiled for AVX-512 must never be the one kept for
// code that runs everywhere, so all that a kernel defines lies in its instruction set's namespace.
describe.runIf(needs(process.platform === 'linux', 'Linux'))('objects of one instruction set', () => {
  const objects = join(root, 'build/CMakeFiles');
  const sets = readdirSync(objects)
    .map((name) => /^kernels_(\w+)\.dir$/.exec(name)?.[1])
    .filter((isa) => isa !== undefined);

  it.each(sets)('%s: define no weak symbol outside of their namespace', async (isa) => {
    const folder = join(objects, `kernels_${isa}.dir`);
    const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.o'));
    expect(files.length).toBeGreaterThan(10);
    const text = await succeed('nm', ['--defined-only', '--no-sort', ...files.map((name) => join(folder, name))]);
    const symbols = [...text.matchAll(/^[0-9a-f]* ([a-zA-Z]) (.+)$/gm)].map((m) => ({ kind: m[1]!, name: m[2]! }));
    // In the mangled name the enclosing namespace comes first, behind a possible St, N, K, L or guard prefix; a template of
    // the core over a kernel's own function carries it in its arguments (NS_), and so is of one instruction set as well.
    const own = new RegExp(`(10statespace|NS_)${isa.length}${isa}`);
    const leaked = symbols.filter(
      ({ kind, name }) => 'WVuwv'.includes(kind) && !own.test(name) && name !== 'DW.ref.__gxx_personality_v0',
    );
    expect(leaked.map((s) => s.name)).toEqual([]);
    // A kernel's own entry is global: it too must carry the name of its instruction set.
    expect(symbols.filter(({ kind, name }) => kind === 'T' && !own.test(name))).toEqual([]);
  });

  it('are those of this machine and the scalar one', () => {
    expect(sets).toContain('scalar');
    expect(sets.length).toBeGreaterThan(1);
  });
});
