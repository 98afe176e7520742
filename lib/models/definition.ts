import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
import type { Unread } from './bind.js';
import type { ConfigReader } from './config.js';

/**
 * A family of models: config → graph, with its weights declared on the way. Everything else (loading, checks, random
 * weights, parameter counts, sessions, streaming) follows from it.
 */
export interface ModelDefinition<C = unknown> {
  /** Values of config.json's model_type that it answers to. */
  readonly modelTypes: readonly string[];
  /**
   * Multimodal model types whose text_config this family reads, by what that config is called: its tensors may lie under
   * `model.language_model.`, and what belongs to images and sounds is left unread.
   */
  readonly wrappers?: Readonly<Record<string, string>>;
  /** Reads and checks the config; the runner calls `config.done()` after it. */
  config(config: ConfigReader): C;
  /** Builds the graph and returns its output: logits, or whatever rows the network makes. */
  build(g: Graph, w: Weights, c: C): Value;
  /** The checkpoint's name of a weight, where it differs from the one that build() asks for. */
  key?(name: string, c: C, has: (name: string) => boolean): string;
  /** Tensors of its checkpoints that it knows and does not read; any other that no layer asks for is an error. */
  readonly unread?: readonly Unread[] | ((c: C) => readonly Unread[]);
  /** Token ids at and above this are padding of the embedding and never sampled. */
  vocabSize?(c: C): number;
}
