// The plain state-space layers against their definitions in f64, as networks of one's own: whole, by convolution, and
// streamed.
import { createModel, layers, loadModel, registerModel, Tensor } from 'statespace';
import { beforeAll, expect, test } from 'vitest';
import { onEveryBackend } from '../conformance/backends.js';
import { safetensorsOf, scratchFolders } from '../support/checkpoint-files.js';
import { expectClose } from '../support/golden.js';
import { feedRows, wave } from '../support/sessions.js';

const folders = scratchFolders();
const D = 6;
const f32 = { atol: 1e-5, rtol: 1e-4 };

beforeAll(() => {
  registerModel({
    modelTypes: ['test_simple_ssm'],
    config: (c) => ({
      dState: c.size('d_state'),
      mode: c.oneOf('mode', ['auto', 'recurrent', 'convolution'], 'recurrent'),
    }),
    build: (g, w, c) => layers.simpleSSM(g, g.input(D), w, c),
  });
  registerModel({
    modelTypes: ['test_selective_ssm'],
    config: (c) => ({ dState: c.size('d_state'), dConv: c.size('d_conv', 4) }),
    build: (g, w, c) => layers.selectiveSSM(g, g.input(D), w, c),
  });
});

type Weights = Record<string, { data: Float32Array; shape: number[] }>;
const tensor = (shape: number[], seed: number, scale = 1) => ({
  data: wave(
    shape.reduce((a, b) => a * b, 1),
    seed,
  ).map((x) => scale * x),
  shape,
});
const folder = (config: object, weights: Weights) =>
  folders.put({ 'config.json': JSON.stringify(config), 'model.safetensors': safetensorsOf(weights) });

const multiply = (W: ArrayLike<number>, x: ArrayLike<number>, rows: number): number[] =>
  Array.from({ length: rows }, (_, r) => {
    let sum = 0;
    for (let i = 0; i < x.length; i++) sum += W[r * x.length + i]! * x[i]!;
    return sum;
  });

/** e^M by its series, M small. */
function expm(M: number[], n: number): number[] {
  const identity: number[] = M.map((_, i) => (i % (n + 1) === 0 ? 1 : 0));
  let [sum, term] = [identity, identity];
  for (let k = 1; k < 40; k++) {
    term = term.map((_, i) => {
      let s = 0;
      for (let j = 0; j < n; j++) s += term[Math.floor(i / n) * n + j]! * M[j * n + (i % n)]!;
      return s / k;
    });
    sum = sum.map((s, i) => s + term[i]!);
  }
  return sum;
}

/** A stable A: a decay on the diagonal, and couplings. */
function simpleWeights(N: number): Weights {
  const A = tensor([N, N], 1, 0.5 / N);
  for (let n = 0; n < N; n++) A.data[n * (N + 1)]! -= 0.3 + 0.1 * n;
  return {
    A,
    B: tensor([N, D], 2),
    C: tensor([D, N], 3),
    delta: { data: Float32Array.of(0.25), shape: [1] },
  };
}

function simpleReference({ A, B, C, delta }: Weights, N: number, x: Float32Array): number[] {
  const step = delta!.data[0]!;
  const Abar = expm(
    Array.from(A!.data, (a) => a * step),
    N,
  );
  let h = new Array<number>(N).fill(0);
  const y: number[] = [];
  for (let t = 0; t < x.length / D; t++) {
    const drive = multiply(B!.data, x.subarray(t * D, (t + 1) * D), N);
    h = multiply(Abar, h, N).map((v, n) => v + step * drive[n]!);
    y.push(...multiply(C!.data, h, D));
  }
  return y;
}

const softplus = (x: number) => Math.log1p(Math.exp(x));
const silu = (x: number) => x / (1 + Math.exp(-x));

function selectiveWeights(N: number, K: number): Weights {
  const linear = (name: string, out: number, inputs: number, seed: number): Weights => ({
    [`${name}.weight`]: tensor([out, inputs], seed, 0.7),
    [`${name}.bias`]: tensor([out], seed + 0.5, 0.3),
  });
  return {
    ...linear('in_proj', 2 * D, D, 1),
    'conv1d.weight': tensor([D, 1, K], 2),
    'conv1d.bias': tensor([D], 3, 0.2),
    ...linear('B_proj', N, D, 4),
    ...linear('C_proj', N, D, 5),
    ...linear('delta_proj', D, D, 6),
    A_log: tensor([N], 7),
    ...linear('out_proj', D, D, 8),
  };
}

/** x first, gate second; Ā = exp(ΔA), B̄ = ΔB; A shared by channels; no skip term. */
function selectiveReference(w: Weights, N: number, K: number, x: Float32Array): number[] {
  const apply = (name: string, v: ArrayLike<number>, rows: number) =>
    multiply(w[`${name}.weight`]!.data, v, rows).map((s, i) => s + w[`${name}.bias`]!.data[i]!);
  const L = x.length / D;
  const projected = Array.from({ length: L }, (_, t) => apply('in_proj', x.subarray(t * D, (t + 1) * D), 2 * D));
  const h = Array.from({ length: D }, () => new Array<number>(N).fill(0));
  const y: number[] = [];
  for (let t = 0; t < L; t++) {
    const u = Array.from({ length: D }, (_, d) => {
      let sum = w['conv1d.bias']!.data[d]!;
      for (let j = 0; j < K; j++) {
        const from = t - K + 1 + j;
        if (from >= 0) sum += w['conv1d.weight']!.data[d * K + j]! * projected[from]![d]!;
      }
      return silu(sum);
    });
    const [B, C, delta] = [apply('B_proj', u, N), apply('C_proj', u, N), apply('delta_proj', u, D).map(softplus)];
    const out = u.map((ud, d) => {
      let sum = 0;
      for (let n = 0; n < N; n++) {
        const A = -Math.exp(w.A_log!.data[n]!);
        h[d]![n] = Math.exp(delta[d]! * A) * h[d]![n]! + delta[d]! * B[n]! * ud;
        sum += C[n]! * h[d]![n]!;
      }
      return sum * silu(projected[t]![D + d]!);
    });
    y.push(...apply('out_proj', out, D));
  }
  return y;
}

onEveryBackend(() => {
  test.each([1, 5, 33])('SimpleSSM, N = %i: recurrence = convolution = definition; streams', async (N) => {
    const weights = simpleWeights(N);
    const x = wave(2 * 150 * D, 9);
    const want = [x.subarray(0, 150 * D), x.subarray(150 * D)].flatMap((one) => simpleReference(weights, N, one));
    const input = new Tensor(x, [2, 150, D]);
    for (const mode of ['recurrent', 'convolution', 'auto']) {
      const model = await loadModel(folder({ model_type: 'test_simple_ssm', d_state: N, mode }, weights));
      expectClose((await model.run(input)).toFloat32Array(), want, f32, `run, ${mode}`);
      const first = x.slice(0, 150 * D);
      if (mode === 'convolution') {
        const session = model.createSession();
        await feedRows(session, first.slice(0, 10 * D), D, [10]);
        await expect(feedRows(session, first.slice(0, D), D, [1])).rejects.toMatchObject({ code: 'ERR_STATE' });
      } else {
        for (const sizes of [[1], [7, 1, 64]]) {
          const rows = await feedRows(model.createSession(), first, D, sizes);
          expectClose(rows, want.slice(0, rows.length), f32, `${mode}, pieces of ${sizes}`);
        }
      }
      await model.dispose();
    }
  });

  test.each([
    [1, 1],
    [4, 4],
    [16, 3],
  ])('SelectiveSSM, N = %i, K = %i: the definition; streams', async (N, K) => {
    const weights = selectiveWeights(N, K);
    const x = wave(90 * D, 5);
    const want = selectiveReference(weights, N, K, x);
    const model = await loadModel(folder({ model_type: 'test_selective_ssm', d_state: N, d_conv: K }, weights));
    expectClose((await model.run(new Tensor(x, [1, 90, D]))).toFloat32Array(), want, f32, 'run');
    for (const sizes of [[1], [7, 1, 64]])
      expectClose(await feedRows(model.createSession(), x, D, sizes), want, f32, `pieces of ${sizes}`);
    await model.dispose();
  });
});

test('new layers of both kinds answer, and with finite numbers', async () => {
  for (const model_type of ['test_simple_ssm', 'test_selective_ssm']) {
    const model = await createModel({ model_type, d_state: 8 }, { seed: 2 });
    const y = (await model.run(new Tensor(wave(400 * D), [1, 400, D]))).toFloat32Array();
    expect(y.every(Number.isFinite)).toBe(true);
    expect(y.some((v) => Math.abs(v) > 1e-6)).toBe(true);
    await model.dispose();
  }
});
