import { call, type NativeHandle } from '../native.js';
import type { Network } from './network.js';
import { Session } from './session.js';
import { decodeSnapshot, digested, type Snapshot } from './snapshot.js';

/** A session from what save() returned; ids: those that can be fed lie below it. */
export function restore(network: Network, ids: number, bytes: Uint8Array): Session {
  const digest = call((n) => n.digest(digested(bytes), true));
  const { snapshot, handle } = begin(network, ids, bytes, digest);
  call((n) => n.importSession(handle, snapshot.state, snapshot.position, true));
  return remembering(network, handle, snapshot);
}

/** The same, its bytes checked and copied off the event loop. */
export async function restoreAsync(network: Network, ids: number, bytes: Uint8Array): Promise<Session> {
  const digest = await call((n) => n.digest(digested(bytes), false));
  const { snapshot, handle } = begin(network, ids, bytes, digest);
  await call((n) => n.importSession(handle, snapshot.state, snapshot.position, false));
  return remembering(network, handle, snapshot);
}

function begin(
  network: Network,
  ids: number,
  bytes: Uint8Array,
  digest: Uint8Array,
): { snapshot: Snapshot; handle: NativeHandle } {
  const handle = network.newSession();
  const { fingerprint, heldType, outputFeatures } = network;
  return { handle, snapshot: decodeSnapshot({ fingerprint, heldType, outputFeatures, ids }, bytes, digest) };
}

function remembering(network: Network, handle: NativeHandle, { tokens, lastRow, pending }: Snapshot): Session {
  const known = pending >= 0 ? tokens.subarray(0, -1) : tokens;
  call((n) => n.rememberSession(handle, known, lastRow, pending));
  return new Session(network, handle);
}
