// What a GGUF file says of a model besides its tensors; the readers' side is checkpoint/gguf/architectures.
import { f32, i32s, type Pair, text, u32 } from '../../checkpoint/gguf/pairs.js';
import { StatespaceError } from '../../errors.js';
import type { AttentionLayerOptions } from '../../layers/attention.js';
import type { Activation } from '../../layers/linear.js';
import type { Mamba2Options } from '../../layers/mamba2.js';
import type { ModelDefinition } from '../../models/definition.js';
import type { LlamaConfig } from '../../models/llama.js';
import type { mixtral } from '../../models/mixtral.js';
import { ropeFrequencies } from '../../rope-frequencies.js';

/** What a family reads its config to. */
export type ConfigOf<D> = D extends ModelDefinition<infer C> ? C : never;
export type Raw = Readonly<Record<string, unknown>>;

export interface Written {
  /** general.architecture. */
  readonly architecture: string;
  readonly layers: number;
  /** Behind the prefix of the architecture; undefined: not written. */
  readonly keys: Readonly<Record<string, Pair | undefined>>;
  /** Keys of a config that tell which tensors of a checkpoint are which of the file. */
  readonly config: Raw;
  /** Keys of a config that no key of the format says; the file keeps them under statespace.config. */
  readonly beyond: Raw;
  /** What llama.cpp does otherwise with such a file. */
  readonly notes: readonly string[];
  /** Divisors of the rotary frequencies (headDim / 2). */
  readonly ropeDivisors?: Float32Array;
  /** More vectors that are no tensors of the checkpoint, by their names in the file. */
  readonly vectors?: Readonly<Record<string, Float32Array>> | undefined;
  /** Vectors that llama.cpp asks for: of zeros where the model has none. */
  readonly asked?: readonly { readonly name: string; readonly length: number }[];
  /** What a tensor of the checkpoint is multiplied by, or each of its rows. */
  readonly factor?: (name: string) => number | readonly number[];
  /** The head is tied to the embedding in the model, and other values in the file. */
  readonly untied?: boolean;
}

/** A length that stands where a model has none. */
const ENDLESS = 2 ** 20;

export const contextLength = (raw: Raw, standard = ENDLESS): Pair => {
  const longest = raw.max_position_embeddings;
  return u32(typeof longest === 'number' && Number.isSafeInteger(longest) && longest > 0 ? longest : standard);
};

export const layersOf = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

/** Of every layer; 0 where it does not attend. */
export const headsKv = (attends: readonly boolean[], heads: number): Pair =>
  i32s(attends.map((is) => (is ? heads : 0)));

/** head_dim where the config says it, or it does not follow from the width. */
export function headSizes(a: AttentionLayerOptions, dModel: number, raw: Raw): Record<string, Pair | undefined> {
  const said = typeof raw.head_dim === 'number' || a.headDim * a.nHeads !== dModel;
  const size = said ? u32(a.headDim) : undefined;
  return { 'attention.key_length': size, 'attention.value_length': size };
}

/** Keys of a decoder of Llama's kind. */
export function decoderKeys(
  c: LlamaConfig | ConfigOf<typeof mixtral>,
  raw: Raw,
  rope: Pick<Written, 'keys'>,
  standardLength: number,
): Record<string, Pair | undefined> {
  const { attention: a } = c;
  return {
    vocab_size: u32(c.vocabSize),
    context_length: contextLength(raw, standardLength),
    embedding_length: u32(c.dModel),
    block_count: u32(c.nLayers),
    feed_forward_length: u32(c.dFf),
    'attention.head_count': u32(a.nHeads),
    'attention.head_count_kv': u32(a.nHeadsKv),
    ...headSizes(a, c.dModel, raw),
    ...rope.keys,
    'attention.layer_norm_rms_epsilon': f32(c.eps),
  };
}

/** A file has the rows of a head as pairs that rotate, whether they do or not. */
export function checkPairs(architecture: string, headDim: number): void {
  if (headDim % 2 !== 0)
    throw new StatespaceError(
      'ERR_UNSUPPORTED_MODEL',
      `quantize: GGUF's ${architecture} holds the channels of a head in pairs, this model has ${headDim} of them`,
    );
}

/** Keys of the mixers of Mamba-2, and what of them no key says. */
export function mamba2Keys(m: Mamba2Options): Pick<Written, 'keys' | 'beyond' | 'notes'> {
  const parts = m.norm ? m.dInner / (m.norm.groupSize ?? m.dInner) : m.nGroups;
  const [low, high] = m.dtLimit ?? [0, Number.POSITIVE_INFINITY];
  const limited = low > 0 || high < Number.POSITIVE_INFINITY;
  return {
    keys: {
      'ssm.conv_kernel': u32(m.dConv),
      'ssm.state_size': u32(m.dState),
      'ssm.group_count': u32(m.nGroups),
      'ssm.inner_size': u32(m.dInner),
      'ssm.time_step_rank': u32(m.nHeads),
    },
    beyond: {
      ...(parts !== m.nGroups && { norm_groups: parts }),
      ...(limited && { time_step_limit: [low, high].map(finite) }),
    },
    notes: [
      ...(parts !== m.nGroups
        ? [`it takes the mean square of ${partsOf(m.nGroups)}, the model that of ${partsOf(parts)}`]
        : []),
      ...(limited ? [`it does not clamp dt to [${low}, ${high}]`] : []),
      ...biasNotes(m),
    ],
  };
}

const partsOf = (groups: number): string => (groups === 1 ? 'the whole width' : `each of ${groups} groups`);

/** Infinities as transformers 5 writes them into JSON. */
export const finite = (x: number): unknown => (Number.isFinite(x) ? x : { __float__: String(x) });

/** llama.cpp counts the tensors of a file, and these are none that it knows. */
export const biasNotes = (m: { bias?: boolean; outBias?: boolean }): string[] =>
  (m.bias ?? false) || (m.outBias ?? false) ? ['it refuses the file: it knows no biases of in_proj and out_proj'] : [];

/** Biases of the convolutions of these layers, which llama.cpp refuses to do without, or crashes where they are missing. */
export const askedConvBias = (
  m: { convBias?: boolean },
  channels: number,
  layers: readonly number[],
): NonNullable<Written['asked']> =>
  m.convBias === false ? layers.map((i) => ({ name: `blk.${i}.ssm_conv1d.bias`, length: channels })) : [];

/** What Mamba-2's convolution goes over: x, B and C. */
export const mamba2Channels = (m: Mamba2Options): number => m.dInner + 2 * m.nGroups * m.dState;

/** Of an architecture that llama.cpp has no divisors of frequencies for. */
export const NO_DIVISORS = 'it refuses the file: it knows no divisors of the frequencies';

export const outBiasNotes = ({ attention }: LlamaConfig): string[] =>
  attention.outBias ? ["it refuses the file: it knows no bias of attention's output"] : [];

/** An activation that is not the one that llama.cpp has built in. */
export function activationKeys(
  activation: Activation,
  built: { readonly activation: Activation; readonly name: string; readonly key: string },
  raw: Raw,
): Pick<Written, 'beyond' | 'notes'> {
  if (activation === built.activation) return { beyond: {}, notes: [] };
  const own = raw[built.key];
  return { beyond: { [built.key]: own }, notes: [`it takes ${built.name} for the model's ${String(own)}`] };
}

export const SILU = { activation: 'silu', name: 'silu', key: 'hidden_act' } as const;

/** What yarn can be told and files cannot. */
const UNSAID = ['attention_factor', 'mscale', 'mscale_all_dim'];

/** What llama.cpp takes for yarn's bounds, whatever a file of these architectures says. */
const YARN_TURNS = { beta_fast: 32, beta_slow: 1 };

/** Rotations as a config says them. */
export function ropeParameters({ theta, scaling }: NonNullable<AttentionLayerOptions['rope']>): Raw {
  const type = scaling?.type ?? scaling?.rope_type ?? 'default';
  return { ...scaling, type: undefined, rope_type: type, rope_theta: theta };
}

export type RopeWritten = Pick<Written, 'keys' | 'beyond' | 'notes' | 'ropeDivisors'>;

/** Base and stretch of rotary positions. */
export function ropeKeys(a: AttentionLayerOptions, raw: Raw): RopeWritten {
  const said = evenRopeKeys(a, raw);
  const { exponentDim, scaling, theta } = a.rope ?? {};
  if (exponentDim === undefined) return said;
  // Half a channel more, so that the product is never rounded below.
  const share = { partial_rotary_factor: (exponentDim + 0.5) / a.headDim };
  return {
    ...said,
    beyond: { rope_parameters: { ...scaling, rope_theta: theta, ...share } },
    notes: [...said.notes, `it takes frequencies of ${exponentDim + 1} channels, the model of ${exponentDim}`],
  };
}

function evenRopeKeys(a: AttentionLayerOptions, raw: Raw): RopeWritten {
  const rope = a.rope;
  const plainly = { beyond: {}, notes: [] };
  if (!rope) return { keys: {}, ...plainly };
  const rotaryDim = rope.rotaryDim ?? a.headDim;
  const base = { 'rope.freq_base': f32(rope.theta) };
  const scaling = rope.scaling;
  const type = scaling?.type ?? scaling?.rope_type ?? 'default';
  if (!scaling || type === 'default') return { keys: base, ...plainly };
  if (type === 'llama3' || type === 'divisors') {
    const plain = ropeFrequencies({ theta: rope.theta, rotaryDim }).invFreq;
    const { invFreq } = ropeFrequencies({ theta: rope.theta, rotaryDim, scaling });
    return { keys: base, ...plainly, ropeDivisors: plain.map((f, i) => f / invFreq[i]!) };
  }
  if (type !== 'linear' && type !== 'yarn')
    return {
      keys: base,
      beyond: { rope_parameters: ropeParameters(rope) },
      notes: [`it knows no rotations of the type ${type}, and turns as if there were none`],
    };
  const number = (key: string) => (typeof scaling[key] === 'number' ? f32(scaling[key] as number) : undefined);
  const trained = scaling.original_max_position_embeddings ?? raw.max_position_embeddings;
  const more = type === 'yarn' && (UNSAID.some((key) => scaling[key] != null) || scaling.truncate === false);
  const turns = Object.entries(YARN_TURNS).filter(
    ([key, usual]) => type === 'yarn' && (scaling[key] || usual) !== usual,
  );
  return {
    beyond: more ? { rope_parameters: ropeParameters(rope) } : {},
    notes: [
      ...(more ? ['it scales cos and sin by the factor of yarn alone'] : []),
      ...turns.map(([key, usual]) => `it takes ${usual} for yarn's ${key} of ${String(scaling[key])}`),
    ],
    keys: {
      ...base,
      'rope.scaling.type': text(type),
      'rope.scaling.factor': number('factor'),
      ...(type === 'yarn' && {
        'rope.scaling.original_context_length': typeof trained === 'number' ? u32(trained) : undefined,
        'rope.scaling.yarn_beta_fast': number('beta_fast'),
        'rope.scaling.yarn_beta_slow': number('beta_slow'),
      }),
    },
  };
}

/** Routed experts, where there are any. */
export const expertCounts = (experts: number, topK: number): Record<string, Pair | undefined> =>
  experts > 0 ? { expert_count: u32(experts), expert_used_count: u32(topK) } : {};
