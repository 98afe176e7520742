// The wire format of protocol buffers, as far as SentencePiece's files use it.
import { StatespaceError } from '../errors.js';

/** A field of a message: its number, and what stands behind it. */
export interface Field {
  readonly number: number;
  /** Of a varint: its low 32 bits, signed. Of 4 bytes: a float. 0 otherwise. */
  readonly value: number;
  /** Of a string or a message within. Empty otherwise. */
  readonly bytes: Uint8Array;
}

const [VARINT, FIXED64, BYTES, FIXED32] = [0, 1, 2, 5] as const;
const none = new Uint8Array(0);

/** The fields of a message one after the other, unknown ones too. ERR_CHECKPOINT, naming `file`, for what is no message. */
export function* fieldsOf(message: Uint8Array, file: string): Generator<Field> {
  const view = new DataView(message.buffer, message.byteOffset, message.byteLength);
  let at = 0;
  const refuse = (what: string): never => {
    throw new StatespaceError('ERR_CHECKPOINT', `${file}: expected a SentencePiece model, received ${what}`);
  };
  const take = (length: number): number => {
    if (length > message.length - at) refuse(`a field that reaches beyond the end`);
    at += length;
    return at - length;
  };
  const varint = (): number => {
    let value = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      const byte = message[take(1)]!;
      if (shift < 32) value |= (byte & 127) << shift;
      if (byte < 128) return value;
    }
    return refuse('a number of more than ten bytes');
  };
  while (at < message.length) {
    const tag = varint() >>> 0;
    const number = tag >>> 3;
    if (number === 0) refuse('a field without a number');
    switch (tag & 7) {
      case VARINT:
        yield { number, value: varint(), bytes: none };
        break;
      case FIXED64:
        take(8);
        yield { number, value: 0, bytes: none };
        break;
      case BYTES: {
        const length = varint() >>> 0;
        const start = take(length);
        yield { number, value: 0, bytes: message.subarray(start, start + length) };
        break;
      }
      case FIXED32:
        yield { number, value: view.getFloat32(take(4), true), bytes: none };
        break;
      default:
        refuse(`a field of the type ${tag & 7}`);
    }
  }
}
