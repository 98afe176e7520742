/** The build folder of the addon: configured by cmake-js without a download, and anew where it is of another place. */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { expect, it } from 'vitest';
import { run } from '../support/process.js';

const root = resolve(__dirname, '../..');
const script = join(root, 'scripts/build-native.cjs');

it('is made anew where it was configured in another place, and kept where it was not', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'statespace-build-'));
  const out = join(folder, 'build');
  const home = join(folder, 'home');
  mkdirSync(home);
  const configure = async () => {
    const code = `require(${JSON.stringify(script)}).configureNative({ folder: ${JSON.stringify(out)} })`;
    const finished = await run(process.execPath, ['-e', code], { env: { ...process.env, HOME: home } });
    expect(finished.code, finished.stderr + finished.stdout).toBe(0);
    return finished.stderr;
  };
  try {
    // As COPY brings it into a container, or as it lies in a checkout that was moved.
    mkdirSync(out);
    writeFileSync(
      join(out, 'CMakeCache.txt'),
      'CMAKE_CACHEFILE_DIR:INTERNAL=/elsewhere/build\nCMAKE_HOME_DIRECTORY:INTERNAL=/elsewhere\nCMAKE_GENERATOR:INTERNAL=Nothing\n',
    );
    writeFileSync(join(out, 'stale'), '');
    expect(await configure()).toMatch(/was made for \/elsewhere; it is made anew/);
    expect(existsSync(join(out, 'stale'))).toBe(false);
    expect(readFileSync(join(out, 'CMakeCache.txt'), 'utf8')).toContain(`CMAKE_HOME_DIRECTORY:INTERNAL=${root}\n`);
    // A second time nothing is thrown away, and nobody has been asked for headers.
    writeFileSync(join(out, 'kept'), '');
    expect(await configure()).not.toMatch(/made anew/);
    expect(existsSync(join(out, 'kept'))).toBe(true);
    expect(readdirSync(home).filter((name) => name.includes('cmake-js'))).toEqual([]);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
