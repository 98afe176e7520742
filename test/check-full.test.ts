// How .ci/lib.sh selects and orders the long checks of `npm run check:full -- WORD…`.
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { run } from './support/process.js';

const CHECKS = `
source .ci/lib.sh
only=("$@")
tests() { echo "Tests  3 passed"; [ "$1" = 'two words' ]; }
step 'make: one' test 'two  words' = 'two  words'
step 'make: broken' false
after 'make: one' -- counted 'use: one' tests 'two words'
after 'make: one' 'make: broken' -- step 'use: both' true
step 'alone' true
finish`;

const checks = async (...words: string[]) => {
  const { code, stdout, stderr } = await run('bash', ['-uc', CHECKS, 'checks', ...words], {
    cwd: join(__dirname, '..'),
  });
  expect(stderr).toBe('');
  return [
    code,
    ...stdout
      .trim()
      .replaceAll(/ \(\d+ s\)/g, '')
      .split('\n'),
  ];
};

test('a check brings the steps that it needs along, once; one whose step fails is not run', async () => {
  expect(await checks('use: one')).toEqual([0, 'ok: make: one', 'use: one: 3 passed, 0 failed', '4 passed, 0 failed']);
  expect(await checks('use:')).toEqual([
    ...[1, 'ok: make: one', 'use: one: 3 passed, 0 failed', 'FAILED: make: broken'],
    ...['skipped: use: both (make: broken failed)', '1 skipped, for the reasons above', '4 passed, 1 failed'],
  ]);
  expect(await checks('alone')).toEqual([0, 'ok: alone', '1 passed, 0 failed']);
  expect(await checks()).toContain('5 passed, 1 failed');
});

test('a word that no check has is an error', async () => {
  expect(await checks('nothing')).toEqual([1, 'no check is called so: nothing', '0 passed, 1 failed']);
});
