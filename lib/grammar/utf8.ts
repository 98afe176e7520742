/** Bytes of UTF-8: the grammar engine takes any byte of 0xC0 to 0xF7 as the first of a character. */

/**
 * What follows the first byte of a character is 0x80 to 0xBF, and behind these less: no form is too long, no character a
 * surrogate or beyond U+10FFFF.
 */
const SECOND: Readonly<Record<number, readonly [from: number, to: number]>> = {
  224: [0xa0, 0xbf],
  237: [0x80, 0x9f],
  240: [0x90, 0xbf],
  244: [0x80, 0x8f],
};
const FOLLOWS: readonly [number, number] = [0x80, 0xbf];

const follows = (byte: number): boolean => byte >= 0x80 && byte <= 0xbf;

/** Bytes that belong to a character with this one first; 0: none begins so. */
function lengthOf(first: number): number {
  if (first < 0x80) return 1;
  if (first < 0xc2 || first > 0xf4) return 0;
  return first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
}

/** Whether the byte may follow `first`; one behind others of the character always may. */
export const mayFollow = (first: number, byte: number): boolean => {
  const [from, to] = SECOND[first] ?? FOLLOWS;
  return byte >= from && byte <= to;
};

/** Whether a text has these bytes somewhere. */
export function isPart(bytes: Uint8Array): boolean {
  let at = 0;
  while (at < bytes.length && follows(bytes[at]!)) at++;
  if (at > 3) return false;
  while (at < bytes.length) {
    const first = bytes[at]!;
    const length = lengthOf(first);
    if (length === 0) return false;
    for (let i = 1; i < length && at + i < bytes.length; i++)
      if (!(i === 1 ? mayFollow(first, bytes[at + 1]!) : follows(bytes[at + i]!))) return false;
    at += length;
  }
  return true;
}

/** Whether the bytes begin within a character. */
export const beginsWithin = (bytes: Uint8Array): boolean => bytes.length > 0 && follows(bytes[0]!);

/** The byte at their end that begins a character, where not every one may follow it. */
export function openedBy(bytes: Uint8Array): number | undefined {
  const last = bytes.at(-1);
  return last !== undefined && last in SECOND ? last : undefined;
}
