import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { ROOT } from '../support/markdown.js';

it('docs/ops.md says what the native ops say of themselves', () => {
  const { opsPage } = require('../../scripts/ops-page.cjs') as { opsPage: () => string };
  expect(readFileSync(join(ROOT, 'docs', 'ops.md'), 'utf8'), 'run npm run docs:ops').toBe(opsPage());
});
