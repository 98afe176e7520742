/** A part of a tokenizer.json (normalizer, pre-tokenizer, model, post-processor, decoder), as it is written. */
export interface Part {
  readonly type?: string;
  readonly [key: string]: unknown;
}

/** Tokens with their ids; of a long file they come as a map. */
export const idsOf = (vocab: unknown): Iterable<[token: string, id: number]> =>
  vocab instanceof Map ? vocab : Object.entries((vocab ?? {}) as Record<string, number>);

/** A pattern as tokenizer.json writes it: Oniguruma's syntax, or a text. */
export type Pattern = { Regex: string } | { String: string };

/** Makes a pattern an expression with the flags g and u. */
export type Compile = (pattern: Pattern) => RegExp;

/** Parts of a list of them; absent ones count as none. */
export function partsOf(list: unknown): Part[] {
  if (list !== undefined && list !== null && !Array.isArray(list))
    throw new Error(`parts of a Sequence: expected a list, received ${JSON.stringify(list)}`);
  return ((list ?? []) as (Part | null)[]).filter((p) => p !== null);
}

export const unknownPart = (what: string, type: unknown): Error =>
  new Error(`unknown ${what}: ${JSON.stringify(type)}`);

export const SPACE = '\\p{White_Space}';
/** Of letters, marks, digits, connectors and joiners: \w of the expressions that Rust has. */
export const WORD = '\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}';
export const PUNCTUATION = '\\p{P}$+<=>^`|~';

/** GPT-2's characters for the 256 bytes (Radford et al. 2019): printed ones stand for themselves. */
export const BYTE_CHARACTERS: readonly string[] = (() => {
  const printed = (b: number) => (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
  let others = 256;
  return Array.from({ length: 256 }, (_, b) => String.fromCharCode(printed(b) ? b : others++));
})();

export const CHARACTER_BYTES: ReadonlyMap<string, number> = new Map(BYTE_CHARACTERS.map((c, b) => [c, b]));

/** The bytes of a text in those characters. */
export const inCharacters = (text: string): string => {
  let out = '';
  for (const byte of Buffer.from(text)) out += BYTE_CHARACTERS[byte]!;
  return out;
};

export const byteToken = (byte: number): string => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`;

/** Of a token <0xNN>. */
export function byteOfToken(token: string): number | undefined {
  const found = /^<0x([0-9A-Fa-f]{2})>$/.exec(token);
  return found ? Number.parseInt(found[1]!, 16) : undefined;
}
