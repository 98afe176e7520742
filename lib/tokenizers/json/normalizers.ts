// What tokenizer.json does to a text before it is cut: the normalizers of Hugging Face tokenizers, as its Rust code has them.
import { Charsmap } from '../charsmap.js';
import { type Compile, inCharacters, type Part, type Pattern, partsOf, unknownPart } from './part.js';

export type Normalize = (text: string) => string;

const START = /^\p{White_Space}+/u;
const END = /\p{White_Space}+$/u;
// Of SentencePiece's nmt rules.
const NMT_DROPPED = /(?![\t\n\f\r\0\u0080-\u008e\u0090-\u009e])\p{Cc}/gu;
const NMT_SPACES = /[\t\n\f\r\u1680\u200b-\u200f\u2028\u2029\u2581\ufeff\ufffd]/g;
const HAN =
  /[\u4e00-\u9fff\u3400-\u4dbf\u{20000}-\u{2a6df}\u{2a700}-\u{2b73f}\u{2b740}-\u{2b81f}\u{2b920}-\u{2ceaf}\uf900-\ufaff\u{2f800}-\u{2fa1f}]/gu;

/** Each character by itself: a final sigma is one like any other. */
const lowercased = (text: string): string => Array.from(text, (c) => c.toLowerCase()).join('');

export function normalizer(part: Part | null | undefined, compile: Compile): Normalize {
  if (!part) return (text) => text;
  switch (part.type) {
    case 'Sequence': {
      const all = partsOf(part.normalizers).map((p) => normalizer(p, compile));
      return (text) => all.reduce((t, normalize) => normalize(t), text);
    }
    case 'NFC':
    case 'NFD':
    case 'NFKC':
    case 'NFKD': {
      const form = part.type;
      return (text) => text.normalize(form);
    }
    case 'Lowercase':
      return lowercased;
    case 'Strip':
      return (text) => {
        const begun = part.strip_left ? text.replace(START, '') : text;
        return part.strip_right ? begun.replace(END, '') : begun;
      };
    case 'StripAccents':
      return (text) => text.replace(/\p{M}/gu, '');
    case 'Prepend':
      return (text) => (text === '' ? text : String(part.prepend) + text);
    case 'Replace': {
      const pattern = compile(part.pattern as Pattern);
      return (text) => text.replace(pattern, () => String(part.content));
    }
    case 'ByteLevel':
      return inCharacters;
    case 'Nmt':
      return (text) => text.replace(NMT_DROPPED, '').replace(NMT_SPACES, ' ');
    case 'BertNormalizer':
      return bert(part);
    case 'Precompiled': {
      const bytes = Buffer.from(String(part.precompiled_charsmap ?? ''), 'base64');
      if (bytes.length === 0) return (text) => text;
      const rules = new Charsmap(bytes, 'precompiled_charsmap');
      return (text) => rules.normalizeGraphemes(text);
    }
    default:
      throw unknownPart('normalizer', part.type);
  }
}

function bert({ clean_text, handle_chinese_chars, strip_accents, lowercase }: Part): Normalize {
  const withoutAccents = strip_accents ?? lowercase;
  return (given) => {
    let text = given;
    if (clean_text) text = text.replace(/[\0\ufffd]|(?![\t\n\r])\p{C}/gu, '').replace(/\p{White_Space}/gu, ' ');
    if (handle_chinese_chars) text = text.replace(HAN, ' $& ');
    if (withoutAccents) text = text.normalize('NFD').replace(/\p{Mn}/gu, '');
    return lowercase ? lowercased(text) : text;
  };
}
