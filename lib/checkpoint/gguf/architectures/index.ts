import { StatespaceError, show } from '../../../errors.js';
import type { Architecture } from '../architecture.js';
import { falconH1 } from './falcon-h1.js';
import { gemma2, gemma3 } from './gemma.js';
import { granite } from './granite.js';
import { jamba } from './jamba.js';
import { lfm2, lfm2moe } from './lfm2.js';
import { llama } from './llama.js';
import { mamba, mamba2 } from './mamba.js';
import { nemotronH, nemotronHMoe } from './nemotron-h.js';
import { qwen3Next } from './qwen3-next.js';
import { rwkv6, rwkv7 } from './rwkv.js';
import { olmo2, phi3, qwen2, qwen3 } from './transformers.js';

export const architectures: readonly Architecture[] = [
  mamba,
  mamba2,
  jamba,
  llama,
  qwen2,
  qwen3,
  gemma2,
  gemma3,
  phi3,
  olmo2,
  granite,
  falconH1,
  lfm2,
  lfm2moe,
  nemotronH,
  nemotronHMoe,
  qwen3Next,
  rwkv6,
  rwkv7,
];

/** Of general.architecture; ERR_UNSUPPORTED_MODEL for one that is not read. */
export function architectureNamed(name: string, file: string): Architecture {
  const found = architectures.find((a) => a.name === name);
  if (found) return found;
  throw new StatespaceError(
    'ERR_UNSUPPORTED_MODEL',
    `${file}: general.architecture ${show(name)} is not supported; supported: ${architectures.map((a) => a.name).join(', ')}`,
  );
}
