import { copyFileSync, cpSync, mkdirSync, mkdtempSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { describe, expect, it, test } from 'vitest';
import { explainLoadFailure, olderNode } from '../dist/lib/load-failure.js';
import { run } from './support/process.js';

const root = resolve(__dirname, '..');
const addon = join(root, 'build/Release/statespace.node');
const file = `${process.platform}-${process.arch}/statespace.node`;

/** A copy of the package without an addon; `prepare` puts what it wants under prebuilds/. */
function installation(prepare: (prebuilds: string) => void): string {
  const folder = mkdtempSync(join(tmpdir(), 'statespace-load-'));
  cpSync(join(root, 'dist'), join(folder, 'dist'), { recursive: true });
  copyFileSync(join(root, 'package.json'), join(folder, 'package.json'));
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
  mkdirSync(join(folder, 'prebuilds', `${process.platform}-${process.arch}`), { recursive: true });
  prepare(join(folder, 'prebuilds'));
  return folder;
}

const use = (folder: string) =>
  run(process.execPath, [
    '-e',
    `try { require(${JSON.stringify(folder)}).systemInfo(); console.log('loaded') }
     catch (e) { console.log(e.name, e.code); console.log(e.message); if (!e.cause) console.log('no cause') }`,
  ]);

test.each([
  ['16.20.2', true],
  ['20.16.0', true],
  ['20.17.0', false],
  ['20.20.2', false],
  ['22.1.0', false],
  ['24.0.0-nightly', false],
])('Node %s is older than 20.17: %j', (version, older) => {
  const said = `statespace needs Node 20.17 or newer, and this is ${version}: parts of it will fail`;
  expect(olderNode(version, '>=20.17')).toBe(older ? said : undefined);
});

describe('an addon that cannot be loaded', () => {
  it('loads from prebuilds/', async () => {
    expect(await use(installation((p) => copyFileSync(addon, join(p, file))))).toMatchObject({
      code: 0,
      stdout: 'loaded\n',
    });
  });

  it('as in a bundle, where nothing of the package lies around the code: the error says to leave it out', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'statespace-bundle-'));
    cpSync(join(root, 'dist/lib'), join(folder, 'app/out/lib'), { recursive: true });
    symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
    const { code, stdout } = await use(join(folder, 'app/out/lib'));
    expect(code).toBe(0);
    expect(stdout).toMatch(/^StatespaceError ERR_DEVICE\n/);
    expect(stdout).toMatch(/Possible solutions:\n- if the program was bundled .*declare statespace external/);
  });

  it.each([
    [
      'is absent',
      () => {},
      /No native build was found[\s\S]*Possible solutions:\n- it holds[\s\S]*\n- build it here: npx/,
    ],
    ['is truncated', (p: string) => truncateSync(join(p, file), 5000), /Possible solutions:\n- the file is damaged/],
    [
      'has lost its end',
      (p: string) => truncateSync(join(p, file), 1_000_000),
      /file too short[\s\S]*Possible solutions:\n- the file is damaged/,
    ],
    [
      'is no library',
      (p: string) => writeFileSync(join(p, file), 'text'),
      /Possible solutions:\n- the file is damaged/,
    ],
    ['is empty', (p: string) => truncateSync(join(p, file), 0), /Possible solutions:\n- the file is damaged/],
  ])('that %s: ERR_DEVICE, what to do, and no crash', async (what, damage, message) => {
    const folder = installation((p) => {
      if (what !== 'is absent') copyFileSync(addon, join(p, file));
      damage(p);
    });
    const { code, stdout } = await use(folder);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^StatespaceError ERR_DEVICE\n/);
    expect(stdout).toMatch(message);
    expect(stdout).not.toContain('no cause');
  });

  it('is told by the command as a list, exit code 1', async () => {
    const folder = installation(() => {});
    const { code, stdout, stderr } = await run(process.execPath, [join(folder, 'dist/lib/cli/main.js'), 'info']);
    expect([code, stdout]).toEqual([1, '']);
    expect(stderr).toMatch(/\nPossible solutions:\n- [\s\S]+\n- build it here/);
  });

  it.each([
    ["/lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.34' not found (required by a.node)", 'glibc 2.34 or newer'],
    ['libgcc_s.so.1: cannot open shared object file: No such file or directory', 'libgcc-s1'],
    ['a.node: failed to map segment from shared object', 'noexec'],
    ['EACCES: permission denied, open a.node', 'let this user read the file'],
    ['\\\\?\\C:\\a.node is not a valid Win32 application.', 'the file is damaged'],
    ['something never seen', 'install the package again'],
  ])('whose reason is %s', (reason, solution) => {
    const { message, code, cause } = explainLoadFailure(new Error(reason), root);
    expect(code).toBe('ERR_DEVICE');
    expect((cause as Error).message).toBe(reason);
    expect(message).toContain(`\n${reason}\nPossible solutions:\n- `);
    expect(message.split('Possible solutions:')[1]).toContain(solution);
  });
});
