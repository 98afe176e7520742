import { LOCAL_BASE, seesAll, standardPeriod, standardScalar } from '../../checkpoint/gguf/architectures/gemma.js';
import { f32, u32 } from '../../checkpoint/gguf/pairs.js';
import type { AttentionLayerOptions } from '../../layers/attention.js';
import type { LlamaConfig } from '../../models/llama.js';
import {
  activationKeys,
  decoderKeys,
  NO_DIVISORS,
  outBiasNotes,
  type Raw,
  type RopeWritten,
  ropeKeys,
  ropeParameters,
  type Written,
} from './written.js';

type Part = Pick<Written, 'keys' | 'beyond' | 'notes'>;
const NOTHING: Part = { keys: {}, beyond: {}, notes: [] };

const BUILT = { activation: 'gelu-tanh', name: 'gelu_pytorch_tanh', key: 'hidden_activation' } as const;
const WINDOWS = 'attention.sliding_window_pattern';

/** What attention of the first layer of a kind has, and nothing where no layer is of it. */
const ofKind = (c: LlamaConfig, kind: string): AttentionLayerOptions | undefined => {
  const i = c.kinds!.indexOf(kind as never);
  return i < 0 ? undefined : { ...c.attention, ...c.attentionOf!(i) };
};

/** Where layers that have windows in the published models have none. */
const OPEN = {
  gemma2: 'it gives every second layer a window of 4096 tokens, the model has none',
  gemma3: 'it turns all layers as those without windows: the model has none, and two bases',
};

/** Which layers have windows: a period where there is one, else the list, which llama.cpp does not read. */
function windowKeys(name: 'gemma2' | 'gemma3', c: LlamaConfig): Part {
  const kinds = c.kinds!;
  const sliding = ofKind(c, 'sliding_attention');
  if (!sliding && name === 'gemma3') return NOTHING;
  const window = sliding?.window;
  const isPeriod = (period: number) => kinds.every((kind, i) => (kind === 'full_attention') === seesAll(i, period));
  const standard = standardPeriod(name);
  const period = [standard, ...kinds.map((_, i) => i + 1), kinds.length + 1].find(isPeriod);
  const endless = sliding !== undefined && window === undefined;
  return {
    keys: {
      'attention.sliding_window': window === undefined ? undefined : u32(window),
      [WINDOWS]: period === undefined || period === standard ? undefined : u32(period),
    },
    beyond: {
      ...(endless && { sliding_window: null }),
      ...((endless || period === undefined) && { layer_types: kinds }),
    },
    notes: [
      ...(period === undefined
        ? [`it gives windows to all layers but number ${standard} and its multiples, the model to others`]
        : []),
      ...(endless ? [OPEN[name]] : []),
    ],
  };
}

/** The factor of queries: no key says it. */
function scalarKeys(name: 'gemma2' | 'gemma3', c: LlamaConfig): Part {
  const { attention: a, dModel, nLayers: layers } = c;
  const standard = standardScalar(name, { layers, dModel, nHeads: a.nHeads, headDim: a.headDim });
  const scalar = a.scale! ** -2;
  if (Math.abs(scalar - standard) <= 1e-9 * standard) return NOTHING;
  const own = Number(scalar.toPrecision(12));
  return {
    keys: {},
    beyond: { query_pre_attn_scalar: own },
    notes: [`it divides queries by the root of ${standard}, the model by that of ${own}`],
  };
}

function capKeys(key: string, what: string, cap: number | undefined, standard: number | undefined): Part {
  if (cap !== undefined) return { ...NOTHING, keys: { [key]: f32(cap) } };
  if (standard === undefined) return NOTHING;
  return { keys: {}, beyond: { [key]: null }, notes: [`it caps ${what} at ${standard}, the model does not`] };
}

function gemma(name: 'gemma2' | 'gemma3', c: LlamaConfig, raw: Raw, rope: RopeWritten, parts: Part[]): Written {
  const act = activationKeys(c.activation, BUILT, raw);
  const all = [rope, windowKeys(name, c), scalarKeys(name, c), ...parts, { keys: {}, ...act }];
  const width = u32(c.attention.headDim);
  return {
    architecture: name,
    layers: c.nLayers,
    keys: {
      ...decoderKeys(c, raw, { keys: {} }, name === 'gemma2' ? 8192 : 131072),
      'attention.key_length': width,
      'attention.value_length': width,
      ...Object.assign({}, ...all.map((part) => part.keys)),
    },
    config: {},
    beyond: Object.assign({}, ...all.map((part) => part.beyond)),
    notes: [...all.flatMap((part) => part.notes), ...outBiasNotes(c), ...(rope.ropeDivisors ? [NO_DIVISORS] : [])],
    ropeDivisors: rope.ropeDivisors,
  };
}

export function gemma2(c: LlamaConfig, raw: Raw): Written {
  const rope = ropeKeys({ ...c.attention, ...c.attentionOf!(0) }, raw);
  const untied = c.tied ? [] : ['it refuses the file: its head is the embedding'];
  return gemma('gemma2', c, raw, rope, [
    capKeys('attn_logit_softcapping', 'logits of attention', c.attention.softcap, 50),
    capKeys('final_logit_softcapping', 'logits', c.softcap, 30),
    { ...NOTHING, notes: untied },
  ]);
}

export function gemma3(c: LlamaConfig, raw: Raw): Written {
  return gemma('gemma3', c, raw, ropesOfKinds(c, raw), [
    capKeys('final_logit_softcapping', 'logits', c.softcap, undefined),
  ]);
}

/** Keys of the rotations of layers that see all, and the base of the others. */
function ropesOfKinds(c: LlamaConfig, raw: Raw): RopeWritten {
  const full = ofKind(c, 'full_attention');
  const [of, local] = [full?.rope, ofKind(c, 'sliding_attention')?.rope];
  const rope: RopeWritten = full ? ropeKeys(full, raw) : NOTHING;
  const stretched = local !== undefined && ropeParameters(local).rope_type !== 'default';
  const said = rope.beyond.rope_parameters ?? (of && ropeParameters(of));
  return {
    ...rope,
    keys: {
      ...rope.keys,
      ...(local && local.theta !== LOCAL_BASE && { 'rope.freq_base_swa': f32(local.theta) }),
    },
    beyond: {
      ...((stretched || rope.beyond.rope_parameters !== undefined) && {
        rope_parameters: {
          ...(said !== undefined && { full_attention: said }),
          ...(local && { sliding_attention: ropeParameters(local) }),
          ...(of?.scaling?.truncate === false && { truncate: false }),
        },
      }),
    },
    notes: [...rope.notes, ...(stretched ? ['it does not stretch the rotations of layers with windows'] : [])],
  };
}
