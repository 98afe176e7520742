// GPT-2 writes the 256 bytes as characters that can be seen: those that can as themselves, the others from U+0100 on.

const isVisible = (byte: number): boolean =>
  (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);

/** The byte that a code point stands for; -1: none. */
const byteOf = new Int16Array(0x180).fill(-1);
/** The code point of each byte. */
export const characterOf: Uint16Array = new Uint16Array(256);
for (let byte = 0, next = 0x100; byte < 256; byte++) {
  characterOf[byte] = isVisible(byte) ? byte : next++;
  byteOf[characterOf[byte]!] = byte;
}

/**
 * The bytes that text[start … end) stands for, from into[at] on; returns where they end, or -1 for text that is not in this
 * alphabet. There are no more of them than `text` has.
 */
export function rawBytes(text: Uint8Array, start: number, end: number, into: Uint8Array, at = 0): number {
  let n = at;
  for (let i = start; i < end; i++) {
    const code = codeAt(text, i, end);
    const byte = code < 0 || code >= 0x180 ? -1 : byteOf[code]!;
    if (byte < 0) return -1;
    into[n++] = byte;
    if (code >= 0x80) i++;
  }
  return n;
}

/** Of one or two bytes; -1 for anything else. */
function codeAt(text: Uint8Array, i: number, end: number): number {
  const first = text[i]!;
  if (first < 0x80) return first;
  const second = i + 1 < end ? text[i + 1]! : 0;
  return (first & 0xe0) === 0xc0 && (second & 0xc0) === 0x80 ? ((first & 0x1f) << 6) | (second & 0x3f) : -1;
}
