// How tokenizer.json cuts a text into what its model is given: the pre-tokenizers of Hugging Face tokenizers, as its Rust code has them.
import {
  type Compile,
  inCharacters,
  type Part,
  type Pattern,
  PUNCTUATION,
  partsOf,
  SPACE,
  unknownPart,
  WORD,
} from './part.js';

export interface Piece {
  readonly text: string;
  /** It begins where the whole text does. */
  readonly isFirst: boolean;
}

export type PreTokenize = (pieces: readonly Piece[]) => Piece[];

const GPT2 = `'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^${SPACE}\\p{L}\\p{N}]+|${SPACE}+(?!\\P{White_Space})|${SPACE}+`;
const expression = (source: string): RegExp => new RegExp(source, 'gu');

const each =
  (cut: (piece: Piece) => Piece[]): PreTokenize =>
  (pieces) =>
    pieces.flatMap(cut).filter((p) => p.text !== '');

export function preTokenizer(part: Part | null | undefined, compile: Compile): PreTokenize {
  if (!part) return (pieces) => [...pieces];
  switch (part.type) {
    case 'Sequence': {
      const all = partsOf(part.pretokenizers).map((p) => preTokenizer(p, compile));
      return (pieces) => all.reduce<Piece[]>((found, cut) => cut(found), [...pieces]);
    }
    case 'ByteLevel':
      return byteLevel(part);
    case 'Metaspace':
      return metaspace(part);
    case 'Split':
      return each(cutter(compile(part.pattern as Pattern), String(part.behavior), part.invert === true));
    case 'Whitespace':
      return each(cutter(expression(`[${WORD}]+|[^${WORD}${SPACE}]+`), 'Removed', true));
    case 'WhitespaceSplit':
      return each(cutter(expression(SPACE), 'Removed'));
    case 'CharDelimiterSplit':
      return each(cutter(compile({ String: String(part.delimiter) }), 'Removed'));
    case 'BertPreTokenizer': {
      const words = cutter(expression(SPACE), 'Removed');
      const marks = cutter(expression(`[${PUNCTUATION}]`), 'Isolated');
      return each((piece) => words(piece).flatMap(marks));
    }
    case 'Punctuation':
      return each(cutter(expression(`[${PUNCTUATION}]`), String(part.behavior ?? 'Isolated')));
    case 'Digits':
      return each(cutter(expression('\\p{N}'), part.individual_digits ? 'Isolated' : 'Contiguous'));
    case 'FixedLength': {
      const length = Number(part.length ?? 5);
      return each(cutter(expression(`[^]{1,${length}}`), 'Isolated'));
    }
    default:
      throw unknownPart('pre-tokenizer', part.type);
  }
}

function byteLevel({ add_prefix_space = true, use_regex = true }: Part): PreTokenize {
  const cut = use_regex ? cutter(expression(GPT2), 'Isolated') : (piece: Piece) => [piece];
  return each(({ text, isFirst }) => {
    const spaced = add_prefix_space && !text.startsWith(' ') ? ` ${text}` : text;
    return cut({ text: spaced, isFirst }).map((p) => ({ ...p, text: inCharacters(p.text) }));
  });
}

function metaspace({
  replacement = '▁',
  add_prefix_space,
  prepend_scheme = 'always',
  split = true,
}: Part): PreTokenize {
  const mark = String(replacement);
  const scheme = String(add_prefix_space === false ? 'never' : prepend_scheme).toLowerCase();
  const cut = split ? cutter(expression(mark), 'MergedWithNext') : (piece: Piece) => [piece];
  return each(({ text, isFirst }) => {
    const marked = text.replaceAll(' ', mark);
    const isPrefixed = !marked.startsWith(mark) && (scheme === 'always' || (scheme === 'first' && isFirst));
    return cut({ text: isPrefixed ? mark + marked : marked, isFirst });
  });
}

interface Cut {
  readonly start: number;
  end: number;
  readonly matches: boolean;
}

/** Cuts at what a pattern matches, or with `inverted` at what it does not; `behavior`: what becomes of the places of the cuts. */
function cutter(pattern: RegExp, behavior: string, inverted = false): (piece: Piece) => Piece[] {
  const join = JOINED[behavior.toLowerCase().replaceAll('_', '')];
  if (!join) throw unknownPart('behavior of a split', behavior);
  return ({ text, isFirst }) => {
    const cuts: Cut[] = [];
    let at = 0;
    for (const { index, 0: found } of text.matchAll(pattern)) {
      if (index > at) cuts.push({ start: at, end: index, matches: inverted });
      cuts.push({ start: index, end: index + found.length, matches: !inverted });
      at = index + found.length;
    }
    if (at < text.length) cuts.push({ start: at, end: text.length, matches: inverted });
    return join(cuts).map(({ start, end }) => ({ text: text.slice(start, end), isFirst: isFirst && start === 0 }));
  };
}

const JOINED: Readonly<Record<string, (cuts: readonly Cut[]) => Cut[]>> = {
  removed: (cuts) => cuts.filter((c) => !c.matches),
  isolated: (cuts) => [...cuts],
  contiguous: (cuts) => joined(cuts, (cut, before) => cut.matches === before),
  mergedwithprevious: (cuts) => joined(cuts, (cut, before) => cut.matches && !before),
  mergedwithnext: (cuts) => {
    const turned = cuts.map(({ start, end, matches }) => ({ start: -end, end: -start, matches })).reverse();
    return joined(turned, (cut, before) => cut.matches && !before)
      .map(({ start, end, matches }) => ({ start: -end, end: -start, matches }))
      .reverse();
  },
};

/** Neighbours joined where `joins` says so, by a cut and by whether the one before it matched. */
function joined(cuts: readonly Cut[], joins: (cut: Cut, before: boolean) => boolean): Cut[] {
  const out: Cut[] = [];
  let before = false;
  for (const cut of cuts) {
    const last = out.at(-1);
    if (last && joins(cut, before)) last.end = cut.end;
    else out.push({ ...cut });
    before = cut.matches;
  }
  return out;
}
