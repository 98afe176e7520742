// Which tensor of a checkpoint each weight of a graph is read from, and which tensors nothing reads.
import type { StoredTensor } from '../checkpoint/open.js';
import { isBlocks, unreadableError } from '../checkpoint/stored.js';
import { StatespaceError } from '../errors.js';
import type { Graph } from '../graph/graph.js';
import type { WeightSource } from '../graph/weight-spec.js';

export type Tensors = ReadonlyMap<string, StoredTensor>;

/** Tensors of a checkpoint that a family knows and does not read. */
export interface Unread {
  readonly names: RegExp;
  /** What they are, where that is worth a word to the user: 'the vision tower'. Absent: buffers and the like. */
  readonly what?: string;
}

/** What older releases of every family stored beside the parameters: tables that follow from the config. */
const BUFFERS = /(^|\.)(rotary_emb\.(inv_freq|cos_cached|sin_cached)|masked_bias|position_ids)$/;
/** A head of tied weights is stored once, under one of two names, or under both. */
const HEAD = /^(language_model\.)?(lm_head|head|output|output_projection)\.weight$/;
/** Types that parameters come in; what no layer asks for in another type is a counter, a mask, a scale. */
const PARAMETERS = new Set(['f32', 'f16', 'bf16', 'f64']);
const SHOWN = 8;

/**
 * The tensors under the names that the graph asks for, where the checkpoint has another first part in all of them: none,
 * as a model that was saved without its head (`model.`, `backbone.`), or one more, as one that was saved from within
 * another (`module.`, `_orig_mod.`). Undefined where that is not the case.
 */
export function underOtherBase(graph: Graph, tensors: Tensors): Tensors | undefined {
  const missing = sourceNames(graph).filter((name) => !tensors.has(name));
  return withoutBase(missing, tensors) ?? withinAnother(missing, tensors);
}

function withoutBase(missing: readonly string[], tensors: Tensors): Tensors | undefined {
  const whole = missing.find((name) => name.includes('.') && tensors.has(name.slice(name.indexOf('.') + 1)));
  const base = whole?.slice(0, whole.indexOf('.') + 1);
  if (!base || [...tensors.keys()].some((name) => name.startsWith(base))) return undefined;
  return new Map([...tensors].map(([name, tensor]) => [HEAD.test(name) ? name : base + name, tensor]));
}

/** Beginnings of names that are tried. */
const PARTS = 16;

function withinAnother(missing: readonly string[], tensors: Tensors): Tensors | undefined {
  const parts = new Set<string>();
  for (const name of tensors.keys())
    for (let at = name.indexOf('.'), n = 0; at >= 0 && n < 2 && parts.size < PARTS; at = name.indexOf('.', at + 1), n++)
      parts.add(name.slice(0, at + 1));
  const part = [...parts].find((p) => missing.some((name) => tensors.has(p + name)));
  if (part === undefined) return undefined;
  const bare = (name: string) => (name.startsWith(part) ? name.slice(part.length) : name);
  const renamed = new Map([...tensors].map(([name, tensor]) => [bare(name), tensor]));
  return renamed.size === tensors.size ? renamed : undefined;
}

/** Finds what the graph asks for and remembers it; `rest` then judges what nobody asked for. */
export class Binding {
  readonly used = new Set<StoredTensor>();
  private readonly tied: Set<string>;

  constructor(
    private readonly folder: string,
    graph: Graph,
    private readonly tensors: Tensors,
  ) {
    this.tied = tiedTables(graph);
  }

  /** ERR_CHECKPOINT where the tensor is missing or has another shape. */
  find(source: WeightSource): StoredTensor {
    const stored = this.locate(source);
    if (!stored) throw this.error(`${this.folder}: tensor ${source.name} (${source.shape.join(', ')}) is missing`);
    if (stored.unreadable) throw unreadableError(stored);
    if (stored.shape.join() !== source.shape.join()) {
      throw this.error(
        `${stored.file}: tensor ${source.name}: expected shape (${source.shape.join(', ')}), received (${stored.shape.join(', ')})`,
      );
    }
    return stored;
  }

  /** The same of any shape; undefined where it is missing. */
  locate(source: WeightSource): StoredTensor | undefined {
    const stored = this.tensors.get(source.name) ?? this.headInstead(source);
    if (stored) this.used.add(stored);
    return stored;
  }

  /** A table that is embedding and head at once may be stored as the head. */
  private headInstead(source: WeightSource): StoredTensor | undefined {
    if (!this.tied.has(source.name)) return undefined;
    const heads = [...this.tensors].filter(([name]) => HEAD.test(name));
    return heads.length === 1 ? heads[0]![1] : undefined;
  }

  /**
   * Throws ERR_CHECKPOINT that names the tensors that no layer asks for: a config that left a part out would otherwise
   * load another network in silence. Returns a note on parts that the family leaves out, '' where there is none.
   */
  checkUnread(unread: readonly Unread[] = [], strict = true): string {
    const offsets = new Set([...this.used].map((t) => `${t.file}:${t.offset}`));
    const left = new Map<string, number>();
    const unknown: string[] = [];
    for (const [name, stored] of this.tensors) {
      if (this.used.has(stored) || BUFFERS.test(name) || (this.tied.size > 0 && HEAD.test(name))) continue;
      if (!PARAMETERS.has(stored.dtype) && !isBlocks(stored.dtype)) continue;
      if (offsets.has(`${stored.file}:${stored.offset}`)) continue; // another name of one that was read
      const known = unread.find((u) => u.names.test(name));
      if (!known) unknown.push(name);
      else if (known.what) left.set(known.what, (left.get(known.what) ?? 0) + 1);
    }
    const notes = [...left].map(([what, n]) => `${this.folder}: ${what} is left unread (${n} tensors)`);
    if (unknown.length > 0) {
      const shown = unknown.slice(0, SHOWN).join(', ') + (unknown.length > SHOWN ? ', …' : '');
      const message = `${this.folder}: no layer of this model asks for ${unknown.length} of its tensors: ${shown}`;
      if (strict) {
        throw this.error(
          `${message}; does config.json leave out a key that turns a part on (a bias, a norm)? strict: false loads all the same`,
        );
      }
      notes.push(message);
    }
    return notes.join('\n');
  }

  private error(message: string): StatespaceError {
    return new StatespaceError('ERR_CHECKPOINT', message);
  }
}

/** Names that the graph asks for. */
export function sourceNames(graph: Graph): string[] {
  return [...graph.weights.values()].flatMap((spec) => spec.sources.map((s) => s.name));
}

/** Names of the tables that tokens are looked up in and that a product reads as well. */
function tiedTables(graph: Graph): Set<string> {
  const tables = new Set(graph.nodes.filter((n) => n.op.name === 'embedding').map((n) => n.inputs.weight));
  const tied = graph.nodes
    .filter((n) => n.op.name !== 'embedding')
    .flatMap((n) => Object.values(n.inputs).filter((v) => tables.has(v)));
  return new Set(tied.flatMap((v) => graph.weights.get(v)?.sources.map((s) => s.name) ?? []));
}
