import type { Engine } from '../engine/engine.js';
import type { GenerationEvent } from '../engine/generation.js';
import type { EngineToken, GenerateRequest, Usage } from '../engine/request.js';
import { ofText } from './errors.js';
import { merged } from './sse.js';

/** What some choices together took, as OpenAI's API counts it. */
export interface ApiUsage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  prompt_tokens_details: { cached_tokens: number };
  /** Bytes of state and KV cache that the sequences held at their end: beyond OpenAI's API. */
  state_bytes: number;
}

/** A token of a choice, with whether nothing of the text so far is held back; or its end. */
export type ChoiceEvent =
  | { choice: number; token: EngineToken; whole: boolean }
  | { choice: number; finishReason: 'stop' | 'length'; text: string; closing: EngineToken | undefined };

/** Generates the choices of one HTTP request together. */
export class Choices {
  readonly usage: ApiUsage = {
    ...{ prompt_tokens: 0, completion_tokens: 0, total_tokens: 0 },
    ...{ prompt_tokens_details: { cached_tokens: 0 }, state_bytes: 0 },
  };
  private readonly sources: AsyncGenerator<GenerationEvent, void>[];

  /** `requests`: one a prompt, of each `n` choices, numbered prompt by prompt; `field`: what the texts came in. */
  constructor(
    private readonly engine: Engine,
    requests: readonly GenerateRequest[],
    private readonly n: number,
    gone: AbortController,
    private readonly field: string,
  ) {
    this.sources = requests.flatMap((request) => {
      let prompt: ReturnType<Engine['read']> | undefined;
      const read = () => (prompt ??= engine.read(request));
      return Array.from({ length: n }, (_, i) => {
        const seed = request.seed === undefined ? {} : { seed: request.seed + i };
        return this.choice({ ...request, ...seed, signal: gone.signal }, read, gone);
      });
    });
  }

  /** Of one that fails the others are of no use. */
  private async *choice(
    request: GenerateRequest,
    read: () => ReturnType<Engine['read']>,
    gone: AbortController,
  ): AsyncGenerator<GenerationEvent, void> {
    try {
      yield* this.engine.events(request, read);
    } catch (error) {
      gone.abort(error);
      throw ofText(error, this.field);
    }
  }

  /**
   * Everything that comes, in the order in which it does. The first event is there when this resolves: a request that
   * cannot be served fails before anything is answered.
   */
  async start(): Promise<AsyncGenerator<ChoiceEvent, void>> {
    const events = this.events();
    const first = await events.next();
    return (async function* () {
      try {
        if (!first.done) yield first.value;
        yield* events;
      } finally {
        await events.return();
      }
    })();
  }

  private async *events(): AsyncGenerator<ChoiceEvent, void> {
    for await (const { from: choice, value: event } of merged(this.sources, this.engine.together)) {
      if (event.kind === 'token') yield { choice, token: event.token, whole: event.whole };
      else {
        this.count(choice, event.usage);
        // An end-of-text token is no other way to stop there.
        const finishReason = event.finishReason === 'length' ? 'length' : 'stop';
        yield { choice, finishReason, text: event.text, closing: event.closing };
      }
    }
  }

  /** A prompt counts once, however many choices it has: what the first of them found is what was cached. */
  private count(choice: number, { promptTokens, cachedTokens, generatedTokens }: Usage): void {
    const { usage } = this;
    if (choice % this.n === 0) {
      usage.prompt_tokens += promptTokens;
      usage.prompt_tokens_details.cached_tokens += cachedTokens;
    }
    usage.completion_tokens += generatedTokens;
    usage.total_tokens = usage.prompt_tokens + usage.completion_tokens;
    usage.state_bytes += this.engine.model.sessionBytes(promptTokens + generatedTokens).total;
  }
}

/** A token's text where the model has a tokenizer; its id, and a space, where it has none. */
export const textOf = (token: { token: number; text?: string }): string => token.text ?? `${token.token} `;

/** What a token stands for behind other text, for log-probabilities: of some tokenizers a part of a character. */
export function tokenBytes(engine: Engine, token: number): Buffer {
  const { tokenizer } = engine.model;
  if (!tokenizer) return Buffer.from(`${token}`);
  const bytes = tokenizer.tokenBytes?.(token);
  return bytes ? Buffer.from(bytes) : Buffer.from(tokenizer.decode([token], { skipSpecialTokens: false }));
}

/** Whether a token is left out of texts: a special one. */
export function isSilent(engine: Engine, token: number): boolean {
  const { tokenizer } = engine.model;
  return tokenizer?.decode([token]) === '' && tokenizer.decode([token], { skipSpecialTokens: false }) !== '';
}
