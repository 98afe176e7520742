import { mismatch, StatespaceError, show } from './errors.js';

/** The keys of Hugging Face's `rope_parameters` (older: `rope_scaling`), with `type` or `rope_type`. */
export interface RopeScaling {
  type?: string | undefined;
  rope_type?: string | undefined;
  [key: string]: unknown;
}

export interface RopeFrequencies {
  /** Radians per position of each rotated pair, (rotaryDim / 2). */
  invFreq: Float32Array;
  /** Factor of cos and sin; 1 but for yarn and longrope. */
  scale: number;
  /** Where they depend on the sequence's length: the longest sequence that they hold for. */
  longest?: number | undefined;
  /** Where they are those of longer sequences: which ones. */
  stretched?: string | undefined;
}

const f32 = Math.fround;

/**
 * Frequencies of rotary position embedding (Su et al. 2021): invFreq_j = f32(1 / f32(theta^f32(2j / rotaryDim))).
 * Checkpoints were trained with angles in f32, so every step rounds to f32; at position 131,071 the f64 angle would
 * move cos and sin by 4e-3. Scalings: linear (Chen et al. 2023), llama3 (Meta's for Llama 3.1), yarn (Peng et al. 2023),
 * longrope (Ding et al. 2024), dynamic (NTK by length, "emozilla" 2023), divisors (of each frequency, as GGUF stores what
 * llama3 makes).
 */
export function ropeFrequencies(o: {
  theta?: number | undefined;
  rotaryDim: number;
  /** What exponents are divided by, where that is not rotaryDim: transformers rotates an odd share of a head so. */
  exponentDim?: number | undefined;
  scaling?: RopeScaling | undefined;
  /** Tokens of the whole sequence, which longrope and dynamic depend on. Default: as many as the short form holds for. */
  length?: number | undefined;
  /** Whose arguments errors speak of. Default 'rope'. */
  op?: string | undefined;
}): RopeFrequencies {
  const { theta = 10000, rotaryDim, exponentDim = rotaryDim, length = 0, op = 'rope' } = o;
  if (!(theta > 0 && Number.isFinite(theta)))
    throw mismatch('ERR_ARGUMENT', `${op}: theta`, 'a number > 0', show(theta));
  if (!Number.isInteger(rotaryDim) || rotaryDim < 2 || rotaryDim % 2 !== 0)
    throw mismatch('ERR_ARGUMENT', `${op}: rotaryDim`, 'an even number of at least 2', show(rotaryDim));
  const powers = Float32Array.from({ length: rotaryDim / 2 }, (_, j) => theta ** f32((2 * j) / exponentDim));
  const plain = powers.map((p) => 1 / p);
  const type = o.scaling?.type ?? o.scaling?.rope_type ?? 'default';
  const read = new ScalingReader(op, type, o.scaling ?? {});
  switch (type) {
    case 'default':
      return { invFreq: plain, scale: 1 };
    case 'linear': {
      const factor = read.positive('factor');
      return { invFreq: plain.map((f) => f / factor), scale: 1 };
    }
    case 'llama3':
      return { invFreq: llama3(plain, read), scale: 1 };
    case 'divisors': {
      const divisors = read.list('divisors', plain.length);
      return { invFreq: plain.map((f, j) => f / divisors[j]!), scale: 1 };
    }
    case 'yarn':
      return yarn(powers, theta, rotaryDim, read);
    case 'longrope':
      return longrope(powers, length, read);
    case 'dynamic':
      return dynamic(plain, theta, rotaryDim, length, read);
    default:
      throw mismatch(
        'ERR_ARGUMENT',
        `${op}: scaling.type`,
        'linear, llama3, yarn, longrope, dynamic or divisors',
        show(type),
      );
  }
}

/** Numbers of a scaling by their Hugging Face names. */
class ScalingReader {
  constructor(
    readonly op: string,
    private readonly type: string,
    private readonly scaling: RopeScaling,
  ) {}

  optional(key: string): number | undefined {
    const value = this.scaling[key];
    if (value === undefined || value === null) return undefined;
    if (typeof value !== 'number' || !Number.isFinite(value))
      throw mismatch('ERR_ARGUMENT', `${this.op}: scaling.${key}`, 'a finite number', show(value));
    return value;
  }
  positive(key: string): number {
    const value = this.optional(key);
    if (value === undefined) throw new StatespaceError('ERR_ARGUMENT', `${this.op}: scaling ${this.type} needs ${key}`);
    if (value <= 0) throw mismatch('ERR_ARGUMENT', `${this.op}: scaling.${key}`, 'a number > 0', show(value));
    return value;
  }
  /** As many positive numbers. */
  list(key: string, length: number): number[] {
    const value = this.scaling[key];
    if (!Array.isArray(value) || value.length !== length || !value.every((n) => Number.isFinite(n) && n > 0))
      throw mismatch('ERR_ARGUMENT', `${this.op}: scaling.${key}`, `${length} numbers > 0`, show(value));
    return value;
  }
  flag(key: string, otherwise: boolean): boolean {
    return (this.scaling[key] as boolean | undefined) ?? otherwise;
  }
}

/** number / x as PyTorch evaluates it in f32, which the checkpoints' frequencies carry. */
const divided = (number: number, x: number) => f32(f32(1 / x) * f32(number));

/** Long wavelengths are slowed by `factor`, short ones kept, those between blended. */
function llama3(plain: Float32Array, read: ScalingReader): Float32Array {
  const factor = read.positive('factor');
  const low = read.positive('low_freq_factor');
  const high = read.positive('high_freq_factor');
  const trained = read.positive('original_max_position_embeddings');
  return plain.map((frequency) => {
    const wavelength = divided(2 * Math.PI, frequency);
    if (wavelength > trained / low) return frequency / factor;
    if (wavelength < trained / high) return frequency;
    const smooth = f32(f32(divided(trained, wavelength) - low) / (high - low));
    return f32(f32(f32(1 - smooth) * frequency) / factor) + f32(smooth * frequency);
  });
}

/** Pairs that turn more than beta_fast times over the trained length are kept, those under beta_slow interpolated. */
function yarn(powers: Float32Array, theta: number, rotaryDim: number, read: ScalingReader): RopeFrequencies {
  const factor = read.positive('factor');
  const trained = read.positive('original_max_position_embeddings');
  const pairAt = (turns: number) => (rotaryDim * Math.log(trained / (turns * 2 * Math.PI))) / (2 * Math.log(theta));
  const truncate = read.flag('truncate', true);
  const first = pairAt(read.optional('beta_fast') || 32);
  const last = pairAt(read.optional('beta_slow') || 1);
  const low = Math.max(truncate ? Math.floor(first) : first, 0);
  const high = Math.min(truncate ? Math.ceil(last) : last, rotaryDim - 1);
  const span = high === low ? 0.001 : high - low;
  const invFreq = powers.map((power, j) => {
    const ramp = f32(Math.min(1, Math.max(0, f32(f32(j - low) / span))));
    const kept = f32(1 - ramp);
    return f32(f32(1 / f32(factor * power)) * f32(1 - kept)) + f32(f32(1 / power) * kept);
  });
  const mscale = read.optional('mscale');
  const mscaleAll = read.optional('mscale_all_dim');
  const growth = (m: number) => (factor <= 1 ? 1 : 0.1 * m * Math.log(factor) + 1);
  const standard = mscale && mscaleAll ? growth(mscale) / growth(mscaleAll) : growth(1);
  return { invFreq, scale: read.optional('attention_factor') ?? standard };
}

/** A factor for each pair: short ones up to the trained length, long ones (they may be the same) for any sequence beyond it. */
function longrope(powers: Float32Array, length: number, read: ScalingReader): RopeFrequencies {
  const trained = read.positive('original_max_position_embeddings');
  const factor = read.positive('factor');
  const [short, long] = [read.list('short_factor', powers.length), read.list('long_factor', powers.length)];
  const isLong = length > trained;
  const standard = factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(trained));
  return {
    invFreq: powers.map((power, j) => 1 / f32(f32((isLong ? long : short)[j]!) * power)),
    scale: read.optional('attention_factor') ?? standard,
    ...(short.every((f, j) => f === long[j]) ? {} : isLong ? { stretched: 'longrope' } : { longest: trained }),
  };
}

/** Beyond the trained length theta grows with the sequence, so that the slowest pair turns as far as it did in training. */
function dynamic(
  plain: Float32Array,
  theta: number,
  rotaryDim: number,
  length: number,
  read: ScalingReader,
): RopeFrequencies {
  const factor = read.positive('factor');
  const trained = read.positive('max_position_embeddings');
  if (length <= trained) return { invFreq: plain, scale: 1, longest: trained };
  // In f32 step by step, as the reference, to which the length is a tensor.
  const stretch = f32(f32(f32(factor * length) / trained) - (factor - 1));
  const grown = f32(theta * f32(stretch ** f32(rotaryDim / (rotaryDim - 2))));
  const invFreq = plain.map((_, j) => 1 / f32(grown ** f32((2 * j) / rotaryDim)));
  return { invFreq, scale: 1, longest: length, stretched: `dynamic ${length}` };
}
