/**
 * Bytes under keys, somewhere that outlives the process or is shared with others: see folderStore() and redisStore().
 * Keys consist of lower-case letters, digits, `-`, and `/` between names. A value is put whole or not at all; what comes
 * back is checked by who reads it.
 */
export interface SnapshotStore {
  /** undefined where nothing is. */
  get(key: string): Promise<Uint8Array | undefined>;
  /** Replaces what was there. */
  put(key: string, value: Uint8Array): Promise<void>;
  /** Nothing, where nothing is. */
  delete(key: string): Promise<void>;
  /** Keys that begin with `prefix` (whole names: it ends in `/`, or is empty). */
  list(prefix: string): AsyncIterable<string>;
  /**
   * Optional: a value in pieces, so that a large one need not lie in memory as a whole before it is used; the store may
   * write all of them to the same memory, as each is used up before the next is asked for. Who gets them reads them, to the end or not
   * (`return()`). undefined where nothing is.
   */
  read?(key: string): Promise<StoredPieces | undefined>;
}

/** A value that comes in pieces, in order. */
export interface StoredPieces {
  /** Of all of them. */
  bytes: number;
  pieces: AsyncIterable<Uint8Array>;
}

/** A value in pieces, whether or not the store can. */
export async function readPieces(store: SnapshotStore, key: string): Promise<StoredPieces | undefined> {
  if (store.read) return store.read(key);
  const value = await store.get(key);
  return value && { bytes: value.length, pieces: one(value) };
}

async function* one(value: Uint8Array): AsyncGenerator<Uint8Array> {
  yield value;
}
