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
}
