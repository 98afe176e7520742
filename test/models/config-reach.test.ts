// What describeModel says yes to is a model: the sizes of ops are known where configs are read.
import { createModel, describeModel, supportedModels } from 'statespace';
import { expect, test } from 'vitest';
import { configs, keysOf, wrapping } from '../support/family-configs.js';
import { long } from '../support/scale.js';

/** Other values of a key's kind, small ones and what ops do not take. */
function near(held: unknown): unknown[] {
  if (typeof held === 'boolean') return [!held];
  if (typeof held !== 'number') return [];
  if (!Number.isInteger(held)) return [0, 0.5, 1];
  return long ? [0, 1, 2, 3, 5, 8, held * 2, held * 3, 65, 100] : [1, 3, 65];
}

const types = supportedModels().filter((type) => !wrapping.has(type));

test.each(types)('%s: no key of any size is left for an op to refuse', async (type) => {
  for (const [key, inside, held] of keysOf(configs.get(type)!)) {
    for (const value of near(held)) {
      const config = inside(value);
      try {
        if (describeModel(config).parameters.total > 1_000_000) continue;
      } catch {
        continue; // its message is for the tests of errors
      }
      const made = createModel(config).then((model) => model.dispose());
      await expect(made, `${key}: ${value}`).resolves.toBeUndefined();
    }
  }
});
