import type { AttentionOptions } from '../layers/attention.js';
import { type RopeScaling, ropeFrequencies } from '../rope-frequencies.js';
import type { ConfigReader } from './config.js';

const TYPES = ['default', 'linear', 'llama3', 'yarn', 'longrope', 'dynamic', 'divisors'] as const;

/** What ropeFrequencies() reads by itself. */
const SCALING_KEYS = [
  'factor',
  'original_max_position_embeddings',
  'low_freq_factor',
  'high_freq_factor',
  'attention_factor',
  'beta_fast',
  'beta_slow',
  'mscale',
  'mscale_all_dim',
  'short_factor',
  'long_factor',
  'divisors',
];

/** Channels of a head: each pair has a frequency, and published heads have up to 512. */
const MOST_ROTATED = 1 << 16;

export interface RopeStandard {
  /** rope_theta where the config has none; default 10000. */
  theta?: number;
  /**
   * partial_rotary_factor where the config has none. A family without this turns all of a head, whatever the config says, as
   * transformers does; there a scaled rotation of a share fails, and is refused here.
   */
  partial?: number;
  /** Read partial_rotary_factor in rope_parameters alone. */
  ignoreOuterPartial?: boolean;
  /** The kind of layer whose rope_parameters are read, where they are an object for each kind. */
  kind?: string;
  /** The family's older words for types. */
  words?: Readonly<Record<string, (typeof TYPES)[number]>>;
  /** original_max_position_embeddings where the config has none beside rope_parameters. */
  trained?: number;
  /** max_position_embeddings where the config has none. */
  longest?: number;
}

/**
 * What a config says of its rotations: rope_parameters of transformers 5, or the older rope_scaling. Where both say
 * something transformers takes the older one, whole; of rotations by kinds of layers it adds that to those that see all.
 */
export function ropeGiven(c: ConfigReader, kind?: string): ConfigReader | undefined {
  const parameters = c.nested('rope_parameters');
  const scaling = c.nested('rope_scaling');
  const older = scaling && Object.keys(scaling.raw).length > 0 ? scaling : undefined;
  const ofKind = kind === undefined ? undefined : parameters?.nested(kind);
  if (!ofKind) return older ?? parameters;
  return older && kind === 'full_attention' ? older.over(ofKind) : ofKind;
}

/** rope_parameters of transformers 5, or the older rope_theta and rope_scaling. */
export function readRope(
  c: ConfigReader,
  headDim: number,
  standard: RopeStandard = {},
): NonNullable<AttentionOptions['rope']> {
  const nested = ropeGiven(c, standard.kind);
  const kinds = standard.kind === undefined ? undefined : c.nested('rope_parameters');
  const ofKind = kinds?.nested(standard.kind!);
  const outerPartial = c.number('partial_rotary_factor', standard.partial ?? 1);
  const topPartial = standard.ignoreOuterPartial ? (standard.partial ?? 1) : outerPartial;
  const share = nested ? nested.number('partial_rotary_factor', topPartial) : topPartial;
  const partial = standard.partial === undefined ? 1 : share;
  const topTheta = c.number('rope_theta', standard.theta ?? 10000);
  const theta = nested ? nested.number('rope_theta', topTheta) : topTheta;
  // An odd share of a head: one pair more is rotated, with exponents of the odd number, as in transformers.
  const exponentDim = Math.floor(headDim * partial);
  const rotaryDim = exponentDim + (exponentDim % 2);
  if (rotaryDim > MOST_ROTATED)
    throw c.error(`head_dim: expected at most ${MOST_ROTATED} channels to rotate, received ${rotaryDim}`);
  if (exponentDim < 1 || rotaryDim > headDim)
    throw c.error(`rotary positions turn pairs of channels: head_dim ${headDim} must give a number that fits`);
  const rope = exponentDim === rotaryDim ? { theta, rotaryDim } : { theta, rotaryDim, exponentDim };
  if (!nested) return rope;
  const key = nested.has('rope_type') ? 'rope_type' : 'type';
  const word = standard.words?.[String(nested.raw[key])];
  if (word) nested.ignore(key);
  const type = word ?? nested.oneOf(key, TYPES, 'default');
  // Sections turn the positions of images; a text has one position, and all sections are equal.
  nested.ignore('type', 'mrope_section', 'mrope_interleaved', ...SCALING_KEYS);
  // transformers reads it beside the kinds, where it does not stand, and not inside.
  if (ofKind) nested.ignore('truncate');
  const truncate = (ofKind ? kinds! : nested).boolean('truncate', true);
  nested.done();
  const outer = c.any('original_max_position_embeddings') ?? standard.trained;
  if (type === 'default') return rope;
  if (partial !== share)
    throw c.error(
      `partial_rotary_factor ${share} with rope_type ${type}: the model type turns all of a head; expected 1`,
    );
  if (exponentDim !== rotaryDim && type !== 'linear' && type !== 'llama3')
    throw c.error(`rope_type ${type}: head_dim ${headDim} must give an even number`);
  const longest = c.raw.max_position_embeddings ?? standard.longest;
  const scaling: RopeScaling = { original_max_position_embeddings: longest, ...nested.raw, type, truncate };
  // transformers lets the outer one win; and without a factor these stretch as far as the positions go.
  if (outer !== undefined) scaling.original_max_position_embeddings = outer;
  if ((type === 'yarn' || type === 'longrope') && !nested.has('factor'))
    scaling.factor = Number(longest) / Number(scaling.original_max_position_embeddings);
  if (type === 'dynamic') scaling.max_position_embeddings = longest;
  const byLength = type === 'longrope' || type === 'dynamic';
  const options = { ...rope, scaling, ...(byLength && c.contextLength !== undefined && { length: c.contextLength }) };
  try {
    ropeFrequencies(options);
  } catch (error) {
    throw nested.error((error as Error).message.replace(/^rope: (scaling\.)?/, ''));
  }
  return options;
}
