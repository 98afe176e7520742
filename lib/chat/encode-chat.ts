import type { EncodeOptions } from '../tokenizers/vocabulary.js';

/** What a chat's prompt is made with. */
export interface ChatEncoding {
  encode(text: string, options: EncodeOptions): Int32Array;
  render(messages: readonly object[], options: Record<string, unknown>): string;
  /** Texts of control tokens. */
  control: readonly string[];
}

/** Stands within what a message spells like a control token: no text of anybody's holds it. */
const MARK = '\ufdd0';
/** What a template looks at to choose its words, and writes out as it is. */
const NAMES = new Set(['role', 'type']);

/**
 * The ids of a rendered chat: what the template writes may be control tokens, what the messages say never is, however it
 * is spelled.
 */
export function encodeChat(
  chat: ChatEncoding,
  messages: readonly object[],
  options: Record<string, unknown>,
): Int32Array {
  const plain = chat.render(messages, options);
  const allowed = { addSpecialTokens: false, allowSpecial: true };
  const control = [...chat.control].filter((text) => text !== '').sort((a, b) => b.length - a.length);
  if (control.length === 0) return chat.encode(plain, allowed);
  const pattern = new RegExp(control.map((text) => text.replace(/[.*+?^${}()|[\]\\/-]/g, '\\$&')).join('|'), 'g');
  const { tools, documents } = options;
  const marked = (value: unknown) => mark(value, pattern);
  const beside = {
    ...options,
    ...(tools ? { tools: marked(tools) } : {}),
    ...(documents ? { documents: marked(documents) } : {}),
  };
  let rendered = chat.render(marked(messages) as object[], beside);
  if (!rendered.includes(MARK)) return chat.encode(plain, allowed);
  // A template that takes what the model has said apart has to find there what it looks for.
  if (rendered.replaceAll(MARK, '') !== plain) {
    const others = messages.map((message) =>
      (message as { role?: unknown }).role === 'assistant' ? message : (marked(message) as object),
    );
    rendered = chat.render(others, beside);
  }
  return pieces(rendered, pattern, chat, allowed);
}

/** Between the template's control tokens, text that holds a mark is encoded as text. */
function pieces(text: string, pattern: RegExp, chat: ChatEncoding, allowed: EncodeOptions): Int32Array {
  const ids: number[] = [];
  let clean = 0; // where text begins that is not yet encoded
  let at = 0;
  const segment = (end: number) => {
    if (!text.slice(at, end).includes(MARK)) return;
    if (at > clean) ids.push(...chat.encode(text.slice(clean, at), allowed));
    ids.push(...asText(text.slice(at, end).replaceAll(MARK, ''), chat, at > 0));
    clean = end;
  };
  for (const { 0: found, index } of text.matchAll(pattern)) {
    segment(index);
    at = index + found.length;
  }
  segment(text.length);
  if (clean < text.length) ids.push(...chat.encode(text.slice(clean), allowed));
  return Int32Array.from(ids);
}

/** behind: what stands before it is a control token, after which some tokenizers put no space as they do in front of a text. */
function asText(text: string, { encode, control }: ChatEncoding, behind: boolean): Int32Array {
  const plain = (of: string) => encode(of, { addSpecialTokens: false, allowSpecial: false });
  const ids = plain(text);
  if (!behind) return ids;
  const after = encode(`${control[0]}a`, { addSpecialTokens: false, allowSpecial: true }).subarray(1);
  const [alone, line] = [plain('a'), plain('\n')];
  if (`${after}` === `${alone}`) return ids;
  const whole = plain(`\n${text}`);
  return line.every((id, i) => whole[i] === id) ? whole.subarray(line.length) : ids;
}

function mark(value: unknown, pattern: RegExp): unknown {
  if (typeof value === 'string') return value.replace(pattern, (text) => `${text[0]}${MARK}${text.slice(1)}`);
  if (Array.isArray(value)) return value.map((item) => mark(item, pattern));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [key, NAMES.has(key) ? item : mark(item, pattern)]),
  );
}
