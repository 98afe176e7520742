import { StatespaceError } from '../../errors.js';
import { checkpointError } from '../stored.js';
import type { Metadata } from './values.js';

/** The keys of a file's architecture, without the prefix that it has in common. */
export class ArchitectureKeys {
  readonly layers: number;

  constructor(
    readonly metadata: Metadata,
    readonly architecture: string,
  ) {
    this.layers = metadata.needCount(this.key('block_count'));
    if (this.layers > 10_000) throw this.error('block_count', `expected at most 10000, received ${this.layers}`);
  }

  key(name: string): string {
    return `${this.architecture}.${name}`;
  }
  has(name: string): boolean {
    return this.metadata.has(this.key(name));
  }
  /** Of all layers; a list of one number a layer counts where these are the same. */
  count(name: string, standard?: number): number {
    if (this.isList(name)) {
      const each = this.perLayer(name)!;
      if (each.some((n) => n !== each[0])) throw this.error(name, 'expected the same number for all layers');
      if (each.length > 0) return each[0]!;
    }
    return standard === undefined
      ? this.metadata.needCount(this.key(name))
      : (this.metadata.count(this.key(name)) ?? standard);
  }
  /** A finite number; of an epsilon, the base of rotations or a factor of theirs one with which a network can compute. */
  number(name: string, standard?: number): number {
    const x =
      standard === undefined
        ? this.metadata.needNumber(this.key(name))
        : (this.metadata.number(this.key(name)) ?? standard);
    if (!Number.isFinite(x)) throw this.error(name, `expected a finite number, received ${x}`);
    if (/epsilon$/.test(name) && x < 0) throw this.error(name, `expected a number from 0 on, received ${x}`);
    if (/freq_base$|scaling\.factor$|scale_linear$|attn_factor$/.test(name) && x <= 0)
      throw this.error(name, `expected a number above 0, received ${x}`);
    return x;
  }
  boolean(name: string, standard = false): boolean {
    return this.metadata.boolean(this.key(name)) ?? standard;
  }
  string(name: string): string | undefined {
    return this.metadata.string(this.key(name));
  }
  /** One number a layer; a single one counts for all. */
  perLayer(name: string): number[] | undefined {
    return this.metadata.perLayer(this.key(name), this.layers);
  }

  /** Whether the file has a list under the key, where others have one number for all layers. */
  isList(name: string): boolean {
    return typeof this.metadata.value(this.key(name)) === 'object';
  }

  /** ERR_UNSUPPORTED_MODEL for layers that attend to some tokens before, in an architecture whose layers see all here. */
  withoutWindows(model: string): void {
    const key = 'attention.sliding_window';
    if (this.count(key, 0) === 0) return;
    const where = `${this.metadata.file}: metadata ${this.key(key)}`;
    throw new StatespaceError('ERR_UNSUPPORTED_MODEL', `${where}: ${model} is not supported`);
  }

  error(name: string, what: string) {
    return checkpointError(this.metadata.file, `metadata ${this.key(name)}: ${what}`);
  }
}
