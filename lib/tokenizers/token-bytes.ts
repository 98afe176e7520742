/** What tokens of a tokenizer.json stand for, behind other text, as its decoder says. */

interface Definition {
  decoder?: unknown;
  pre_tokenizer?: unknown;
  model?: { continuing_subword_prefix?: string };
  added_tokens?: { id: number; content: string; special?: boolean }[];
}

/** Bytes of a token, by the model's tokens; undefined for special ones and for ids without a token. */
export function tokenBytes(
  definition: object,
  tokens: readonly (string | undefined)[],
): (id: number) => Uint8Array | undefined {
  const { decoder, pre_tokenizer, model, added_tokens = [] } = definition as Definition;
  const added = new Map(added_tokens.map((t) => [t.id, t.special ? undefined : t.content]));
  const write = writer(kindsOf(decoder), kindsOf(pre_tokenizer), model?.continuing_subword_prefix ?? '##');
  return (id) => {
    if (added.has(id)) {
      const content = added.get(id);
      return content === undefined ? undefined : Buffer.from(content);
    }
    const token = tokens[id];
    return token === undefined ? undefined : write(token);
  };
}

/** The types of a decoder or pre-tokenizer and of those that it is a sequence of. */
function kindsOf(part: unknown): Set<string> {
  const { type, decoders, pretokenizers } = (part ?? {}) as Record<string, unknown>;
  const inner = [decoders, pretokenizers].flatMap((list) => (Array.isArray(list) ? list : []));
  return new Set([String(type), ...inner.flatMap((p) => [...kindsOf(p)])]);
}

function writer(decoder: Set<string>, preTokenizer: Set<string>, prefix: string): (token: string) => Uint8Array {
  if (decoder.has('ByteLevel') || (decoder.has('undefined') && preTokenizer.has('ByteLevel'))) return byteLevel;
  if (decoder.has('ByteFallback') || decoder.has('Metaspace') || decoder.has('Replace')) return sentencePiece;
  if (decoder.has('WordPiece'))
    return (token) => Buffer.from(token.startsWith(prefix) ? token.slice(prefix.length) : ` ${token}`);
  if (decoder.has('undefined')) return (token) => Buffer.from(` ${token}`); // words, joined by spaces
  return (token) => Buffer.from(token);
}

const BYTES: ReadonlyMap<string, number> = (() => {
  const printed = (b: number) => (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
  let others = 256;
  return new Map(Array.from({ length: 256 }, (_, b) => [String.fromCharCode(printed(b) ? b : others++), b]));
})();

function byteLevel(token: string): Uint8Array {
  const bytes = new Uint8Array(token.length);
  for (let i = 0; i < token.length; i++) {
    const byte = BYTES.get(token[i]!);
    if (byte === undefined) return Buffer.from(token); // not of this alphabet: it stands for itself
    bytes[i] = byte;
  }
  return bytes;
}

function sentencePiece(token: string): Uint8Array {
  const byte = /^<0x([0-9A-Fa-f]{2})>$/.exec(token);
  return byte ? Uint8Array.of(Number.parseInt(byte[1]!, 16)) : Buffer.from(token.replaceAll('▁', ' '));
}
