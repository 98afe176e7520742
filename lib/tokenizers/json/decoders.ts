// How tokenizer.json makes a text of tokens: the decoders of Hugging Face tokenizers, as its Rust code has them.
import { tidied } from '../tidy.js';
import { byteOfToken, CHARACTER_BYTES, type Compile, type Part, type Pattern, partsOf, unknownPart } from './part.js';

export type Decode = (tokens: readonly string[]) => string[];

const utf8 = new TextDecoder('utf-8', { ignoreBOM: true });
const strict = new TextDecoder('utf-8', { ignoreBOM: true, fatal: true });

const cleaned = (token: string): string => tidied(token).replaceAll(' do not', " don't");

/** Tokens of a text that is joined; without a decoder tokens are words. */
export function decoder(part: Part | null | undefined, compile: Compile): Decode {
  if (!part) return (tokens) => [tokens.join(' ')];
  switch (part.type) {
    case 'Sequence': {
      const all = partsOf(part.decoders).map((p) => decoder(p, compile));
      return (tokens) => all.reduce<string[]>((found, decode) => decode(found), [...tokens]);
    }
    case 'ByteLevel':
      return (tokens) => [utf8.decode(Buffer.concat(tokens.map(bytesOf)))];
    case 'Metaspace':
      return metaspace(part);
    case 'WordPiece': {
      const prefix = String(part.prefix ?? '##');
      return (tokens) =>
        tokens.map((token, i) => {
          const joins = token.startsWith(prefix);
          const text = i === 0 ? token : joins ? token.slice(prefix.length) : ` ${token}`;
          return part.cleanup === false ? text : cleaned(text);
        });
    }
    case 'BPEDecoder': {
      const suffix = String(part.suffix ?? '</w>');
      return (tokens) => tokens.map((token, i) => token.replaceAll(suffix, i === tokens.length - 1 ? '' : ' '));
    }
    case 'CTC':
      return connected(part);
    case 'Replace': {
      const pattern = compile(part.pattern as Pattern);
      return (tokens) => tokens.map((token) => token.replace(pattern, () => String(part.content)));
    }
    case 'Fuse':
      return (tokens) => [tokens.join('')];
    case 'Strip':
      return (tokens) => tokens.map((token) => stripped(token, part));
    case 'ByteFallback':
      return byteFallback;
    default:
      throw unknownPart('decoder', part.type);
  }
}

/** A token of other characters than those of bytes stands for itself. */
function bytesOf(token: string): Uint8Array {
  const bytes = new Uint8Array(token.length);
  for (let i = 0; i < token.length; i++) {
    const byte = CHARACTER_BYTES.get(token[i]!);
    if (byte === undefined) return Buffer.from(token);
    bytes[i] = byte;
  }
  return bytes;
}

/** All marks of the first token are left out, unless none is ever put in front. */
function metaspace({ replacement = '▁', add_prefix_space, prepend_scheme = 'always' }: Part): Decode {
  const mark = String(replacement);
  const never = add_prefix_space === false || String(prepend_scheme).toLowerCase() === 'never';
  return (tokens) => tokens.map((token, i) => token.replaceAll(mark, i === 0 && !never ? '' : ' '));
}

/** Connectionist temporal classification: what is repeated counts once. */
function connected({ pad_token = '<pad>', word_delimiter_token = '|', cleanup = true }: Part): Decode {
  return (tokens) =>
    tokens
      .filter((token, i) => token !== tokens[i - 1])
      .map((token) => {
        const text = token.replaceAll(String(pad_token), '');
        return cleanup ? cleaned(text).replaceAll(String(word_delimiter_token), ' ') : text;
      })
      .filter((token) => token !== '');
}

function stripped(token: string, { content = ' ', start = 0, stop = 0 }: Part): string {
  const characters = [...token];
  let [from, to] = [0, characters.length];
  while (from < Number(start) && characters[from] === content) from++;
  while (characters.length - to < Number(stop) && to > 0 && characters[to - 1] === content) to--;
  return characters.slice(from, to).join('');
}

/** A run of tokens of bytes that is no UTF-8 becomes one replacement character for each byte, whatever is whole in it. */
function byteFallback(tokens: readonly string[]): string[] {
  const out: string[] = [];
  let run: number[] = [];
  const flush = () => {
    if (run.length === 0) return;
    try {
      out.push(strict.decode(Uint8Array.from(run)));
    } catch {
      for (let i = 0; i < run.length; i++) out.push('\ufffd');
    }
    run = [];
  };
  for (const token of tokens) {
    const byte = byteOfToken(token);
    if (byte !== undefined) {
      run.push(byte);
      continue;
    }
    flush();
    out.push(token);
  }
  flush();
  return out;
}
