// The ways in which a model may be given a sequence: every one gives the logits of all its tokens.
import type { Model } from 'statespace';
import { feedTokens } from './sessions.js';

export type Way = (model: Model, ids: Int32Array) => Promise<Float32Array>;

export const ways: Record<string, Way> = {
  whole: (model, ids) => feedTokens(model.createSession(), ids, [ids.length]),
  'token by token': (model, ids) => feedTokens(model.createSession(), ids, [1]),
  'in pieces': (model, ids) => feedTokens(model.createSession(), ids, [1, 3, 8, 2, 33, 1, 17]),
  packed: async (model, ids) => {
    const all = [ids.subarray(3), ids.subarray(0, 1), ids, ids.subarray(1, 2), ids.subarray(0, 2)];
    const entries = all.map((tokens) => ({ session: model.createSession(), tokens, logits: 'all' as const }));
    return (await model.forwardBatch(entries))[2]!.toFloat32Array();
  },
  'forked and restored': async (model, ids) => {
    const half = ids.length >> 1;
    const session = model.createSession();
    const first = await feedTokens(session, ids.subarray(0, half), [half]);
    const fork = session.fork();
    await session.forward(ids.subarray(0, 3)); // what the fork does not see
    const restored = model.restoreSession(fork.save());
    return Float32Array.from([...first, ...(await feedTokens(restored, ids.subarray(half), [2]))]);
  },
};
