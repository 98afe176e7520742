// A run of tests leaves the system's temporary folder as it was: test/support/temporary-folder.ts.
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { scratchFolders } from './support/checkpoint-files.js';
import { succeed } from './support/process.js';

const root = join(__dirname, '..');
const folders = scratchFolders();

test('tests, their workers and their child processes have a temporary folder of the run', () => {
  expect(basename(tmpdir())).toMatch(/^statespace-tests-/);
});

test('nothing is left of a run whose tests and child processes leave folders', async () => {
  const temporary = folders.put({});
  const folder = join(root, 'build', `leaves-${process.pid}`); // below the root, as vitest's files must be
  mkdirSync(join(folder, 'test'), { recursive: true });
  onTestFinished(() => rmSync(folder, { recursive: true }));
  writeFileSync(
    join(folder, 'test/left.test.ts'),
    `import { execFileSync } from 'node:child_process';
     import { mkdtempSync } from 'node:fs';
     import { tmpdir } from 'node:os';
     import { join } from 'node:path';
     import { test } from 'vitest';
     test('leaves two', () => {
       const make = "fs.mkdtempSync(path.join(os.tmpdir(), 'statespace-child-'))";
       console.log('LEFT', mkdtempSync(join(tmpdir(), 'statespace-own-')));
       console.log('LEFT', execFileSync(process.execPath, ['-p', make], { encoding: 'utf8' }));
     });`,
  );
  const vitest = join(root, 'node_modules/vitest/vitest.mjs');
  const stdout = await succeed(process.execPath, [vitest, 'run', '--dir', folder], {
    cwd: root,
    env: { ...process.env, TMPDIR: temporary, TEMP: temporary, TMP: temporary },
  });
  expect([...stdout.matchAll(/LEFT (.+)/g)].map(([, path]) => dirname(dirname(path!)))).toEqual([temporary, temporary]);
  expect(readdirSync(temporary)).toEqual([]);
});
