/** Kinds of failures; docs/errors.md tells what each means. */
export type ErrorCode =
  | 'ERR_SHAPE'
  | 'ERR_DTYPE'
  | 'ERR_ARGUMENT'
  | 'ERR_CHECKPOINT'
  | 'ERR_UNSUPPORTED_MODEL'
  | 'ERR_STATE'
  | 'ERR_DEVICE'
  | 'ERR_DISPOSED'
  | 'ERR_OUT_OF_MEMORY'
  | 'ERR_OVERLOADED'
  | 'ERR_TIMEOUT';

/**
 * Every failure that this package reports. `code` says which kind, for programs; the message names the op or file,
 * the tensor, what was expected and what came, for people.
 */
export class StatespaceError extends Error {
  override readonly name = 'StatespaceError';
  /** Which kind of failure. */
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** One phrase for every failure: `where: expected wanted, received got`. */
export function mismatch(code: ErrorCode, where: string, wanted: string, got: string): StatespaceError {
  return new StatespaceError(code, `${where}: expected ${wanted}, received ${got}`);
}

/** A value as an error message shows it: short, told apart by type, and safe for a value that means harm. */
export function show(value: unknown): string {
  if (!Array.isArray(value)) return showItem(value);
  return `[${value.slice(0, 8).map(showItem).join(', ')}${value.length > 8 ? ', …' : ''}]`;
}

function showItem(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.length > 80 ? `${value.slice(0, 80)}…` : value);
  if (typeof value === 'bigint') return `${value}n`;
  if (typeof (value as Partial<PromiseLike<unknown>> | null)?.then === 'function') return 'a Promise (await it)';
  if (typeof value === 'object' && value !== null) return String(Object.getPrototypeOf(value)?.constructor.name);
  return typeof value === 'function' ? 'a function' : String(value);
}
