// How .ci/lib.sh selects and orders the long checks of `npm run check:full -- WORD…`.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
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

test('tests that failed run once more alone; what passes then counts and is named, what does not has failed', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'statespace-checks-'));
  const script = `
source .ci/lib.sh
# the first run fails in b and c; run again, b passes
vitest() {
  shift
  if [ $# -eq 0 ]; then
    printf ' FAIL  test/b.test.ts > moment\\n FAIL  test/c.test.ts > fault\\n Tests  2 failed | 5 passed (7)\\n'
    return 1
  fi
  echo "$@" >>${folder}/again
  case "$FAULT" in
    1) printf ' FAIL  test/c.test.ts > fault\\n Tests  1 failed | 3 passed (4)\\n'; return 1 ;;
    0) printf ' Tests  4 passed (4)\\n' ;;
  esac
}
twice 'all' vitest --
finish`;
  const outcome = async (FAULT: string) => {
    const { code, stdout } = await run('bash', ['-uc', script], {
      cwd: join(__dirname, '..'),
      env: { ...process.env, FAULT },
    });
    return [
      code,
      stdout
        .replaceAll(/ \(\d+ s\)/g, '')
        .trim()
        .split('\n'),
    ] as const;
  };
  const [held, mended] = await outcome('0');
  expect(held).toBe(0);
  const named = ['passed when run again alone:', ' FAIL  test/b.test.ts > moment', ' FAIL  test/c.test.ts > fault'];
  expect(mended.slice(-5)).toEqual([...named, 'all: 7 passed, 0 failed', '7 passed, 0 failed']);
  const [failed, left] = await outcome('1');
  expect(failed).toBe(1);
  expect(left.slice(-2)).toEqual(['all: 6 passed, 1 failed', '6 passed, 1 failed']);
  expect(left).not.toContain('passed when run again alone:');
  expect(readFileSync(join(folder, 'again'), 'utf8').trim().split('\n')).toEqual(
    Array(2).fill('test/b.test.ts test/c.test.ts --no-file-parallelism'),
  );
  rmSync(folder, { recursive: true });
});

test('a word that no check has is an error', async () => {
  expect(await checks('nothing')).toEqual([1, 'no check is called so: nothing', '0 passed, 1 failed']);
});
