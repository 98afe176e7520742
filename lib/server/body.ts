import { misspelt } from '../options.js';
import { type ApiError, invalid } from './errors.js';

const MAX_FIELDS = 256;

/** Fields of a JSON body, each checked as it is read. null is as if a field were not there, as OpenAI's API has it. */
export class Body {
  constructor(
    readonly fields: Readonly<Record<string, unknown>>,
    private readonly path = '',
  ) {}

  /** An object, nothing else. */
  static of(value: unknown, path = ''): Body {
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      throw invalid(`${path || 'the body'}: expected an object, received ${describe(value)}`, path || null);
    return new Body(value as Record<string, unknown>, path);
  }

  get(key: string): unknown {
    const value = Object.hasOwn(this.fields, key) ? this.fields[key] : undefined;
    return value === null ? undefined : value;
  }

  wrong(key: string, wanted: string): ApiError {
    const param = this.at(key);
    return invalid(`${param}: expected ${wanted}, received ${describe(this.get(key))}`, param);
  }

  number(key: string, low: number, high: number): number | undefined {
    const value = this.get(key);
    if (value === undefined) return undefined;
    if (typeof value !== 'number' || !(value >= low && value <= high))
      throw this.wrong(key, `a number from ${low} to ${high}`);
    return value;
  }

  integer(key: string, low: number, high = Number.MAX_SAFE_INTEGER): number | undefined {
    const value = this.get(key);
    if (value === undefined) return undefined;
    if (!Number.isSafeInteger(value) || (value as number) < low || (value as number) > high)
      throw this.wrong(key, `a whole number from ${low} to ${high}`);
    return value as number;
  }

  boolean(key: string): boolean | undefined {
    const value = this.get(key);
    if (value !== undefined && typeof value !== 'boolean') throw this.wrong(key, 'true or false');
    return value as boolean | undefined;
  }

  string(key: string): string | undefined {
    const value = this.get(key);
    if (value !== undefined && typeof value !== 'string') throw this.wrong(key, 'a string');
    return value as string | undefined;
  }

  array(key: string, most = Number.MAX_SAFE_INTEGER): unknown[] | undefined {
    const value = this.get(key);
    if (value === undefined) return undefined;
    if (!Array.isArray(value) || value.length > most)
      throw this.wrong(key, most < 1e6 ? `an array of at most ${most}` : 'an array');
    return value;
  }

  object(key: string): Body | undefined {
    const value = this.get(key);
    return value === undefined ? undefined : Body.of(value, this.at(key));
  }

  private at(key: string): string {
    return this.path ? `${this.path}.${key}` : key;
  }

  /** Fields of other servers are ignored; one that is nearly one of ours is a mistake, which would go unnoticed. */
  checkSpelling(known: readonly string[]): void {
    this.checkCount();
    for (const key of Object.keys(this.fields)) {
      const meant = known.includes(key) ? undefined : misspelt(key, known);
      if (meant)
        throw invalid(`unknown field ${JSON.stringify(key)}; did you mean "${meant}"?`, key, 'unknown_parameter');
    }
  }

  /** Names are compared one by one with those that are known: a hundred thousand of them would hold up everybody. */
  checkCount(): void {
    const count = Object.keys(this.fields).length;
    if (count > MAX_FIELDS)
      throw invalid(
        `${this.path || 'the body'}: expected at most ${MAX_FIELDS} fields, received ${count}`,
        this.path || null,
      );
  }

  /** What this server does not do, unless it is asked for in the one way that changes nothing. */
  unsupported(key: string, neutral: readonly unknown[] = []): void {
    const value = this.get(key);
    const param = this.at(key);
    if (value !== undefined && !neutral.includes(value))
      throw invalid(`${param}: this server does not support it`, param, 'unsupported_parameter');
  }
}

function describe(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (Array.isArray(value)) return `an array of ${value.length}`;
  if (typeof value === 'object') return value === null ? 'null' : 'an object';
  // JSON has no infinity, but numbers that are read as one.
  const text = typeof value === 'number' ? `${value}` : JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}
