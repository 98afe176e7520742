// Formats whose own code runs on a GPU alone or is no package: random sizes and flags, and weights drawn as plain networks in
// f64 ask for them, in all the ways in which a session takes tokens, on every backend.
import { loadModel } from 'statespace';
import { describe, expect, test } from 'vitest';
import { onDevice, onEveryBackend } from '../conformance/backends.js';
import { Random } from '../conformance/random.js';
import { safetensorsOf, scratchFolders } from '../support/checkpoint-files.js';
import { relativeL2 } from '../support/golden.js';
import { amount } from '../support/scale.js';
import { ways } from '../support/ways.js';
import { deltaNetConfig, fla, glaConfig } from './plain/fla.js';
import { mambaSsm, mambaSsmConfig } from './plain/mamba-ssm.js';
import { type Config, Net, type Rows } from './plain/net.js';
import { flaRwkv7, flaRwkv7Config, rwkv, rwkvConfig } from './plain/rwkv.js';

const folders = scratchFolders();
const seed = Number(process.env.STATESPACE_SEED ?? 1);
const seeds = Array.from({ length: amount(1, onDevice ? 2 : 40) }, (_, i) => seed + i);

type Forward = (net: Net, c: Config, ids: Int32Array) => Rows;
type Draw = (net: Net) => Config;
const formats: Record<string, [Draw, Forward]> = {
  'mamba_ssm, Mamba-1': [(net) => mambaSsmConfig(net, 'Mamba1'), mambaSsm],
  'mamba_ssm, Mamba-2': [(net) => mambaSsmConfig(net, 'Mamba2'), mambaSsm],
  'mamba_ssm, Mamba-3': [(net) => mambaSsmConfig(net, 'Mamba3'), mambaSsm],
  ...Object.fromEntries(([4, 5, 6, 7] as const).map((v) => [`RWKV-${v}`, [(net: Net) => rwkvConfig(net, v), rwkv]])),
  "RWKV-7 in flash-linear-attention's layout": [flaRwkv7Config, flaRwkv7],
  'gated DeltaNet': [deltaNetConfig, fla],
  GLA: [glaConfig, fla],
};

const reference = (kind: string, seed: number) => {
  const [draw, forward] = formats[kind]!;
  const net = new Net(new Random(seed * 7919));
  const config = draw(net);
  const ids = Int32Array.from({ length: net.one(5, 19, 40, 75, 140) }, () => Math.floor(net.random.next() * 61));
  const logits = forward(net, config, ids).flatMap((r) => [...r]);
  const folder = folders.put({
    'config.json': JSON.stringify(config),
    'model.safetensors': safetensorsOf(net.tensors),
  });
  return { config, ids, logits, folder };
};
/** Each computed once for all backends. */
const known = new Map<string, ReturnType<typeof reference>>();

onEveryBackend(() => {
  describe.each(Object.keys(formats))('%s', (kind) => {
    test.each(seeds)('seed %d', async (seed) => {
      const key = `${kind} ${seed}`;
      if (!known.has(key)) known.set(key, reference(kind, seed));
      const { config, ids, logits, folder } = known.get(key)!;
      await using model = await loadModel(folder);
      for (const [name, way] of Object.entries(ways))
        expect(relativeL2(await way(model, ids), logits), `${name} of ${JSON.stringify(config)}`).toBeLessThan(2e-5);
    });
  });
});
