// RWKV's checkpoints of other libraries in the names and shapes of the official releases, which a file is paired with.
import type { StoredTensor } from '../checkpoint/stored.js';
import { renamed, transposed } from '../checkpoint/views.js';
import { officialName } from '../models/rwkv-stack.js';

type Tensors = ReadonlyMap<string, StoredTensor>;

const flaParts: readonly [RegExp, string][] = [
  [/^model\.embeddings\./, 'emb.'],
  [/^model\.norm\./, 'ln_out.'],
  [/^lm_head\./, 'head.'],
  [/^model\.layers\.(\d+)\./, 'blocks.$1.'],
  [/\.pre_norm\./, '.ln0.'],
  [/\.attn_norm\./, '.ln1.'],
  [/\.ffn_norm\./, '.ln2.'],
  [/\.attn\./, '.att.'],
  [/\.g_norm\./, '.ln_x.'],
  [/\.r_proj\./, '.receptance.'],
  [/\.k_proj\./, '.key.'],
  [/\.v_proj\./, '.value.'],
  [/\.o_proj\./, '.output.'],
  [/\.([wavg])_lora\.lora\.2\.bias$/, '.$10'],
  [/\.([wavg])_lora\.lora\.0\.weight$/, '.$11'],
  [/\.([wavg])_lora\.lora\.2\.weight$/, '.$12'],
];

/** Of flash-linear-attention: its low-rank products are Linear layers, whose weights the releases keep the other way round. */
export function officialRwkv7(tensors: Tensors): Map<string, StoredTensor> {
  return new Map(
    [...tensors].map(([name, tensor]) => {
      const official = flaParts.reduce((n, [pattern, part]) => n.replace(pattern, part), name);
      const turned = /_lora\.lora\.\d\.weight$/.test(name) ? transposed(tensor) : tensor;
      return [official, renamed(turned, official)];
    }),
  );
}

/** Of ports to transformers, versions 5 and 6. */
export const officialRwkv6 = (tensors: Tensors): Map<string, StoredTensor> =>
  new Map([...tensors].map(([name, tensor]) => [officialName(name), renamed(tensor, officialName(name))]));
