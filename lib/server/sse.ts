import { apiError, closed } from './errors.js';

/** JSON in one line, for clients too that see the end of one in U+0085, U+2028 and U+2029 (huggingface_hub's). */
const inOneLine = (value: unknown): string =>
  JSON.stringify(value).replace(/[\u0085\u2028\u2029]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);

/** Server-sent events of JSON values, ending in `[DONE]`; a failure in the middle is one more event. `ended`: with what it failed of, if it did. */
export function eventStream(
  values: AsyncGenerator<unknown, void>,
  gone: AbortController,
): { response: Response; ended: Promise<unknown> } {
  let end!: (failure?: unknown) => void;
  const ended = new Promise<unknown>((resolve) => {
    end = resolve;
  });
  const encoder = new TextEncoder();
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      const send = (data: string) => controller.enqueue(encoder.encode(`data: ${data}\n\n`));
      let failure: unknown;
      try {
        const { done, value } = await values.next();
        if (!done) return send(inOneLine(value));
        send('[DONE]');
      } catch (error) {
        failure = error;
        send(inOneLine(apiError(error).body));
      }
      controller.close();
      end(failure);
    },
    // The client has gone. What is being waited for ends by the abort, so that the values can be returned.
    async cancel() {
      end(closed());
      gone.abort();
      await values.return();
    },
  });
  const response = new Response(body, {
    headers: {
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache, no-transform',
      'x-accel-buffering': 'no',
    },
  });
  return { response, ended };
}

/**
 * What several sources give, each with its number, as it comes; at most `most` are begun and not ended. Returning ends all
 * of them.
 */
export async function* merged<T>(
  sources: readonly AsyncGenerator<T, void>[],
  most: number,
): AsyncGenerator<{ from: number; value: T }, void> {
  const next = (from: number) => sources[from]!.next().then((result) => ({ from, result }));
  const open = new Map(sources.slice(0, most).map((_, i) => [i, next(i)]));
  let begun = open.size;
  try {
    while (open.size > 0) {
      const { from, result } = await Promise.race(open.values());
      if (result.done) {
        open.delete(from);
        if (begun < sources.length) open.set(begun, next(begun++));
        continue;
      }
      open.set(from, next(from));
      yield { from, value: result.value };
    }
  } finally {
    for (const pending of open.values()) pending.catch(() => {});
    await Promise.all(sources.map((source) => source.return().catch(() => {})));
  }
}
