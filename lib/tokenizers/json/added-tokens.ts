// Added tokens of a tokenizer.json: found in a text before it is cut, as Hugging Face tokenizers finds them.
import { SPACE, WORD } from './part.js';
import type { Piece } from './pre-tokenizers.js';

export interface AddedToken {
  readonly id: number;
  readonly content: string;
  readonly special?: boolean;
  /** Looked for in the normalized text, by its own normalized text. Default: unless it is special. */
  readonly normalized?: boolean;
  /** Only where no letter, digit or the like stands beside it. */
  readonly single_word?: boolean;
  /** It takes the white space before it along, or behind it. */
  readonly lstrip?: boolean;
  readonly rstrip?: boolean;
}

type Node = Map<string, Node> & { found?: AddedToken };

const STARTS_WITH_WORD = new RegExp(`^[${WORD}]`, 'u');
const ENDS_WITH_WORD = new RegExp(`[${WORD}]$`, 'u');
const SPACES_AT_START = new RegExp(`^${SPACE}*`, 'u');
const IS_SPACE = new RegExp(SPACE, 'u');

/** Finds tokens in a text: of those that begin at the first place the longest, and on behind it. */
export class AddedTokens {
  private readonly root: Node = new Map();

  /** Tokens by the texts that are looked for. */
  constructor(tokens: Iterable<readonly [text: string, token: AddedToken]>) {
    for (const [text, token] of tokens) {
      if (text === '') continue;
      let node = this.root;
      for (let i = 0; i < text.length; i++) {
        const next: Node = node.get(text[i]!) ?? new Map();
        node.set(text[i]!, next);
        node = next;
      }
      node.found = token;
    }
  }

  /** Ids of the tokens and the pieces of text between them. */
  split({ text, isFirst }: Piece): (number | Piece)[] {
    if (this.root.size === 0) return text === '' ? [] : [{ text, isFirst }];
    const parts: (number | Piece)[] = [];
    let done = 0;
    const push = (end: number) => {
      if (end > done) parts.push({ text: text.slice(done, end), isFirst: isFirst && done === 0 });
    };
    for (let at = 0; at < text.length; ) {
      const match = this.longest(text, at);
      if (!match) {
        at++;
        continue;
      }
      let [start, end] = [at, match.end];
      at = end;
      const { id, single_word, lstrip, rstrip } = match.token;
      if (single_word && (endsWithWord(text, start) || startsWithWord(text, end))) continue;
      if (lstrip) while (start > done && IS_SPACE.test(text[start - 1]!)) start--;
      if (rstrip) end += SPACES_AT_START.exec(text.slice(end))![0].length;
      push(start);
      parts.push(id);
      done = end;
      at = Math.max(at, done);
    }
    push(text.length);
    return parts;
  }

  private longest(text: string, start: number): { token: AddedToken; end: number } | undefined {
    let found: { token: AddedToken; end: number } | undefined;
    let node: Node | undefined = this.root;
    for (let end = start; ; end++) {
      if (node.found) found = { token: node.found, end };
      node = end < text.length ? node.get(text[end]!) : undefined;
      if (!node) return found;
    }
  }
}

const startsWithWord = (text: string, at: number): boolean => STARTS_WITH_WORD.test(text.slice(at, at + 2));
const endsWithWord = (text: string, at: number): boolean => ENDS_WITH_WORD.test(text.slice(Math.max(0, at - 2), at));
