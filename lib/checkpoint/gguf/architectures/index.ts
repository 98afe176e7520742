import { StatespaceError, show } from '../../../errors.js';
import type { Architecture } from '../architecture.js';
import { jamba } from './jamba.js';
import { llama } from './llama.js';
import { mamba, mamba2 } from './mamba.js';
import { rwkv6, rwkv7 } from './rwkv.js';

export const architectures: readonly Architecture[] = [mamba, mamba2, jamba, llama, rwkv6, rwkv7];

/** Of general.architecture; ERR_UNSUPPORTED_MODEL for one that is not read. */
export function architectureNamed(name: string, file: string): Architecture {
  const found = architectures.find((a) => a.name === name);
  if (found) return found;
  throw new StatespaceError(
    'ERR_UNSUPPORTED_MODEL',
    `${file}: general.architecture ${show(name)} is not supported; supported: ${architectures.map((a) => a.name).join(', ')}`,
  );
}
