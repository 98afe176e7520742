import { call } from '../native.js';

interface Array32 {
  readonly data: Float32Array;
  readonly shape: readonly number[];
}

/**
 * Runs a native op on arrays, on the CPU and off the event loop, for weights that are computed at load. `inputs` go by
 * the names of the op's fields, absent ones may be undefined; so do `outputs`, given by their shapes.
 */
export async function compute(
  op: string,
  inputs: Readonly<Record<string, Array32 | undefined>>,
  attrs: Readonly<Record<string, number | string>>,
  outputs: Readonly<Record<string, readonly number[]>>,
): Promise<Record<string, Float32Array>> {
  const results = Object.fromEntries(
    Object.entries(outputs).map(([name, shape]) => [name, new Float32Array(shape.reduce((n, s) => n * s, 1))]),
  );
  const tensors = Object.fromEntries([
    ...Object.entries(inputs).flatMap(([name, t]) => (t ? [[name, { ...t, dtype: 'f32' as const }]] : [])),
    ...Object.entries(outputs).map(([name, shape]) => [name, { data: results[name]!, shape, dtype: 'f32' as const }]),
  ]);
  await call((n) => n.runOp(op, tensors, attrs, false, true));
  return results;
}
