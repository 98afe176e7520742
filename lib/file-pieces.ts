import { lazyFiles } from './lazy.js';

// Small enough to stay in a processor's cache until it is used, large enough that its way there and back is none.
const PIECE = 1 << 20;

/**
 * A file's bytes in order, in two buffers by turns: one is read while the other is used. Who gets the pieces reads them,
 * to the end or not: that closes the file.
 */
export async function filePieces(path: string): Promise<{ bytes: number; pieces: AsyncIterable<Uint8Array> }> {
  const file = await lazyFiles().open(path, 'r');
  try {
    const { size } = await file.stat();
    return { bytes: size, pieces: piecesOf(file, size) };
  } catch (error) {
    await file.close();
    throw error;
  }
}

type File = Awaited<ReturnType<ReturnType<typeof lazyFiles>['open']>>;

async function* piecesOf(file: File, size: number): AsyncGenerator<Uint8Array> {
  const buffers = [0, 1].map(() => new Uint8Array(Math.min(PIECE, size)));
  const read = (turn: number, at: number) => file.read(buffers[turn & 1]!, 0, Math.min(PIECE, size - at), at);
  let reading = size > 0 ? read(0, 0) : undefined;
  try {
    for (let turn = 0, at = 0; at < size; turn++) {
      const { bytesRead } = await reading!;
      if (bytesRead === 0) return;
      at += bytesRead;
      reading = at < size ? read(turn + 1, at) : undefined;
      reading?.catch(() => {}); // who asks for the next piece hears of it
      yield buffers[turn & 1]!.subarray(0, bytesRead);
    }
  } finally {
    await reading?.catch(() => {});
    await file.close();
  }
}
