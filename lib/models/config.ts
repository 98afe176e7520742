import { StatespaceError, show } from '../errors.js';
import { isHarmless, isIdle, warnOfKeys } from './harmless-keys.js';

/** Sizes that would be work before they are an error: no published network comes near. Windows and lengths cost nothing. */
export const MOST_LAYERS = 2000;
/** Of weights in the layouts of other libraries. */
const QUANTISED = 'weights quantised this way are not read; load the original ones, with `dtype`, or a GGUF file';
const MOST_PARTS = 10_000;
/** What the op expertWeights chooses among, and in how many groups. */
export const MOST_ROUTED = 2048;
export const MOST_ROUTING_GROUPS = 64;
const MOST_HEADS = 2 ** 16;
const MOST_CHANNELS = 2 ** 24;
/** Of the floats that networks compute with. */
const LARGEST = 3.4028234663852886e38;
function mostOf(key: string): number {
  if (/layer/.test(key)) return MOST_LAYERS;
  if (/expert|num_hash|n_streams|hc_(mult|count)|^order$|inner_mlps|cca_time/.test(key)) return MOST_PARTS;
  if (/heads|n_head|groups/.test(key)) return MOST_HEADS;
  return /window|position|length|context|size_limit|l_max/.test(key) ? 2 ** 31 - 1 : MOST_CHANNELS;
}

type Kind = 'integer' | 'number' | 'boolean' | 'string';

/**
 * Reads a config key by key and remembers which were asked for, so that at the end a key that nobody understood is
 * named and not ignored.
 */
export class ConfigReader {
  private readonly seen = new Set<string>();

  constructor(
    /** The config itself. */
    readonly raw: Readonly<Record<string, unknown>>,
    /** What errors call it. */
    readonly modelType: string,
    /** Tokens that sessions are to hold, where the caller says it. */
    readonly contextLength?: number,
    /** What errors call the place it is read from; of a file, its path is in it. */
    readonly where = 'config',
  ) {}

  /** What to throw about a key: ERR_UNSUPPORTED_MODEL with the model's name. */
  error(message: string): StatespaceError {
    return new StatespaceError('ERR_UNSUPPORTED_MODEL', `${this.where} (${this.modelType}): ${message}`);
  }

  /** Whether the key is there and not null. */
  has(key: string): boolean {
    this.seen.add(key);
    return this.raw[key] !== undefined && this.raw[key] !== null;
  }

  /** A value as it stands. */
  any(key: string): unknown {
    this.seen.add(key);
    return this.raw[key] ?? undefined;
  }

  private read(key: string, kind: Kind, fallback: unknown): unknown {
    this.seen.add(key);
    const value = this.raw[key];
    if (value === undefined || value === null) {
      if (fallback === undefined)
        throw this.error(`${key} is missing; expected ${kind === 'integer' ? 'an integer' : `a ${kind}`}`);
      return fallback;
    }
    const fits = kind === 'integer' ? Number.isSafeInteger(value) : typeof value === kind && !Number.isNaN(value);
    if (!fits)
      throw this.error(`${key}: expected ${kind === 'integer' ? 'an integer' : `a ${kind}`}, received ${show(value)}`);
    return value;
  }

  /** A positive integer; most: where an op takes fewer than a network could have. */
  size(key: string, fallback?: number, most = mostOf(key)): number {
    const n = this.read(key, 'integer', fallback) as number;
    if (n <= 0) throw this.error(`${key}: expected a positive integer, received ${n}`);
    if (n > most) throw this.error(`${key}: expected at most ${most}, received ${n}`);
    return n;
  }
  /** An integer from 0 on. */
  count(key: string, fallback?: number): number {
    const n = this.read(key, 'integer', fallback) as number;
    if (n < 0) throw this.error(`${key}: expected an integer from 0 on, received ${n}`);
    if (n > mostOf(key)) throw this.error(`${key}: expected at most ${mostOf(key)}, received ${n}`);
    return n;
  }
  /** `times` as often as this positive number says, rounded down: at least 1. */
  multiple(key: string, times: number, fallback?: number): number {
    const n = Math.floor((this.read(key, 'number', fallback) as number) * times);
    if (!(n >= 1 && n <= MOST_CHANNELS))
      throw this.error(`${key}: expected a positive number, received ${this.raw[key]}`);
    return n;
  }
  /** Any whole number. */
  integer(key: string, fallback?: number): number {
    return this.read(key, 'integer', fallback) as number;
  }
  /** Any number; of an epsilon, the least step or the base of rotations one with which a network can compute. */
  number(key: string, fallback?: number): number {
    const x = this.read(key, 'number', fallback) as number;
    if (/eps(ilon)?$|time_step_min$/.test(key) && !(x >= 0 && x <= LARGEST))
      throw this.error(`${key}: expected a finite number from 0 on, received ${x}`);
    if (/theta$|emb_base$/.test(key) && !(x > 0 && x <= LARGEST))
      throw this.error(`${key}: expected a finite number above 0, received ${x}`);
    return x;
  }
  /** A finite number above 0. */
  positive(key: string, fallback?: number): number {
    const x = this.number(key, fallback);
    if (!(x > 0 && x <= LARGEST)) throw this.error(`${key}: expected a positive finite number, received ${x}`);
    return x;
  }
  /** true or false. */
  boolean(key: string, fallback?: boolean): boolean {
    return this.read(key, 'boolean', fallback) as boolean;
  }
  /** A text. */
  string(key: string, fallback?: string): string {
    return this.read(key, 'string', fallback) as string;
  }
  /** One of these texts; another one is not supported. */
  oneOf<T extends string>(key: string, allowed: readonly T[], fallback?: T): T {
    const value = this.string(key, fallback) as T;
    if (!allowed.includes(value))
      throw this.error(`${key}: ${show(value)} is not supported; supported: ${allowed.join(', ')}`);
    return value;
  }

  /** Of several names for one thing, the one that is given; the first where none is. They must not contradict. */
  either(...names: string[]): string {
    const given = names.filter((name) => this.has(name));
    const [first = names[0]!, ...others] = given;
    const other = others.find((name) => JSON.stringify(this.raw[name]) !== JSON.stringify(this.raw[first]));
    if (other) throw this.error(`${other} ${show(this.raw[other])} contradicts ${first} ${show(this.raw[first])}`);
    return first;
  }

  /** A nested object, read with the same care; its errors name `key.inner`. */
  nested(key: string): ConfigReader | undefined {
    return this.has(key) ? this.nestedOrEmpty(key) : undefined;
  }

  /** The same; where the key is absent, of an object without keys. */
  nestedOrEmpty(key: string): ConfigReader {
    const value = this.any(key) ?? {};
    if (typeof value !== 'object' || Array.isArray(value))
      throw this.error(`${key}: expected an object, received ${show(value)}`);
    const name = `${this.modelType}: ${key}`;
    return new ConfigReader(value as Record<string, unknown>, name, this.contextLength, this.where);
  }

  /** The same keys, and those of another object that are not among them. */
  over(other: ConfigReader): ConfigReader {
    return new ConfigReader({ ...other.raw, ...this.raw }, this.modelType, this.contextLength, this.where);
  }

  /** A key whose only supported value is this one: anything else would change results. */
  only(key: string, supported: unknown): void {
    const value = this.any(key);
    if (value !== undefined && value !== supported) {
      throw this.error(`${key}: ${show(value)} is not supported; expected ${show(supported)}`);
    }
  }

  /** A key that says again what follows from others: where it is there, it must be this. */
  agrees(key: string, follows: unknown): void {
    const value = this.any(key);
    if (value !== undefined && JSON.stringify(value) !== JSON.stringify(follows))
      throw this.error(`${key} ${show(value)} contradicts the other keys, which make it ${show(follows)}`);
  }

  /** Keys that are understood and do not matter for this family. */
  ignore(...keys: string[]): void {
    for (const key of keys) this.seen.add(key);
  }

  /**
   * Call last: names the keys that nothing has read. One that could change results is an error; one that turns nothing
   * on is a warning.
   */
  done(): void {
    const unknown = Object.keys(this.raw).filter(
      (k) => !this.seen.has(k) && !isHarmless(k) && (this.raw[k] ?? null) !== null,
    );
    const serious = unknown.filter((k) => !isIdle(k, this.raw[k]));
    const quantised = serious.find((k) => k === 'quantization_config' || k === 'quantization');
    if (quantised) throw this.error(`${quantised}: ${QUANTISED}`);
    if (serious.length > 0) throw this.error(`unknown ${serious.length > 1 ? 'keys' : 'key'} ${serious.join(', ')}`);
    warnOfKeys(this.where, this.modelType, unknown);
  }
}
