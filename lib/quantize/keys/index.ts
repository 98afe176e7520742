import { StatespaceError, show } from '../../errors.js';
import type { ResolvedModel } from '../../models/registry.js';
import { falconH1 } from './falcon-h1.js';
import { gemma2, gemma3 } from './gemma.js';
import { bamba, granite, jamba, lfm2, nemotronH, qwen3Next } from './hybrids.js';
import { llama } from './llama.js';
import { mamba, mamba2 } from './mamba.js';
import { rwkv6, rwkv7 } from './rwkv.js';
import { olmo2, phi3, qwen2, qwen3 } from './transformers.js';
import type { Raw, Written } from './written.js';

type Write = (config: never, raw: Raw, columns: (name: string) => number) => Written;

const writers: Readonly<Record<string, Write>> = {
  mamba,
  falcon_mamba: mamba,
  mamba2,
  llama,
  mistral: llama,
  mixtral: llama,
  qwen2,
  qwen3,
  gemma2,
  gemma3_text: gemma3,
  phi3,
  olmo2,
  jamba,
  granitemoehybrid: granite,
  bamba,
  falcon_h1: falconH1,
  lfm2,
  lfm2_moe: lfm2,
  nemotron_h: nemotronH,
  qwen3_next: qwen3Next,
  rwkv6: (c, _, columns) => rwkv6(c, columns),
  rwkv7: (c, _, columns) => rwkv7(c, columns),
};

/** The model types whose checkpoints become GGUF files. */
export const writable: readonly string[] = Object.keys(writers);

/** What a file says of a model; ERR_UNSUPPORTED_MODEL where GGUF has no architecture for it. */
export function written(model: ResolvedModel, raw: Raw, columns: (name: string) => number): Written {
  const write = Object.hasOwn(writers, model.modelType) ? writers[model.modelType] : undefined;
  if (!write)
    throw new StatespaceError(
      'ERR_UNSUPPORTED_MODEL',
      `quantize: GGUF has no architecture for model_type ${show(model.modelType)}; written: ${writable.join(', ')}`,
    );
  return write(model.config as never, raw, columns);
}
