// GPT-2 writes the 256 bytes as characters that can be seen: those that can as themselves, the others from U+0100 on.

const isVisible = (byte: number): boolean =>
  (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);

/** The byte that a code point stands for; -1: none. */
const byteOf = new Int16Array(0x180).fill(-1);
/** The code point of each byte. */
export const characterOf = new Uint16Array(256);
for (let byte = 0, next = 0x100; byte < 256; byte++) {
  characterOf[byte] = isVisible(byte) ? byte : next++;
  byteOf[characterOf[byte]!] = byte;
}

/** Whether UTF-8 text consists of such characters. */
export function isAlphabet(text: Uint8Array): boolean {
  for (let i = 0; i < text.length; i++) {
    const code = codeAt(text, i);
    if (code < 0 || code >= 0x180 || byteOf[code]! < 0) return false;
    if (code >= 0x80) i++;
  }
  return true;
}

/** The bytes that it stands for, of text that isAlphabet(). */
export function rawBytes(text: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(text.length);
  let n = 0;
  for (let i = 0; i < text.length; i++) {
    const code = codeAt(text, i);
    bytes[n++] = byteOf[code]!;
    if (code >= 0x80) i++;
  }
  return bytes.subarray(0, n);
}

/** Of one or two bytes; -1 for anything else. */
function codeAt(text: Uint8Array, i: number): number {
  const first = text[i]!;
  if (first < 0x80) return first;
  const second = text[i + 1] ?? 0;
  return (first & 0xe0) === 0xc0 && (second & 0xc0) === 0x80 ? ((first & 0x1f) << 6) | (second & 0x3f) : -1;
}
