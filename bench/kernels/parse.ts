/** Which kernels at which shapes: what --only and --shape say. */
import type { DType } from '../library.js';
import type { Kernel, KernelCase, Sizes, Variant } from './kernel.js';

/** "scan L=2048 D=1536 N=16 f32". */
export function formatVariant(kernel: Pick<Kernel, 'name'>, variant: Variant): string {
  return `${kernel.name} ${formatSizes(variant)}`;
}

export function formatSizes({ sizes, dtype }: Variant): string {
  return [...Object.entries(sizes).map(([name, size]) => `${name}=${size}`), dtype].join(' ');
}

/** A kernel by its name; the error lists all. */
export function kernelNamed(name: string, kernels: readonly Kernel[]): Kernel {
  const found = kernels.find((kernel) => kernel.name.toLowerCase() === name.trim().toLowerCase());
  if (found) return found;
  throw new Error(`there is no kernel "${name}"; there are ${kernels.map((kernel) => kernel.name).join(', ')}`);
}

/** scan:D=768,N=64,dtype=bf16 — what is left out is as in the kernel's first shape. */
export function parseShape(text: string, kernels: readonly Kernel[]): KernelCase {
  const [name, rest] = text.split(/:(.*)/s) as [string, string | undefined];
  const kernel = kernelNamed(name, kernels);
  const first = kernel.variants[0]!;
  const sizes: Record<string, number> = { ...first.sizes };
  let dtype: DType = first.dtype;
  for (const part of (rest ?? '').split(',').filter((p) => p.trim() !== '')) {
    const [key, value] = part.split('=').map((s) => s.trim()) as [string, string | undefined];
    if (key === 'dtype') {
      const known = kernel.dtypes.find((d) => d === value);
      if (known === undefined)
        throw new Error(`${kernel.name} takes dtype ${kernel.dtypes.join(', ')}, not "${value}"`);
      dtype = known;
    } else if (Object.hasOwn(sizes, key)) {
      if (!/^[1-9]\d{0,9}$/.test(value ?? '')) throw new Error(`${kernel.name}: expected ${key}=NUMBER, got "${part}"`);
      sizes[key] = Number(value);
    } else {
      throw new Error(`${kernel.name} has no size "${key}"; it has ${Object.keys(sizes).join(', ')}, and dtype`);
    }
  }
  return { kernel, variant: { sizes: sizes as Sizes, dtype } };
}

/** All shapes of all kernels, those of `only`, or the given ones. */
export function selectCases(
  kernels: readonly Kernel[],
  { only, shapes }: { only?: readonly string[]; shapes?: readonly string[] },
): KernelCase[] {
  const given = (shapes ?? []).map((text) => parseShape(text, kernels));
  if (only === undefined && given.length > 0) return given;
  const chosen = only?.map((name) => kernelNamed(name, kernels)) ?? kernels;
  return chosen.flatMap((kernel) => {
    const own = given.filter((one) => one.kernel === kernel);
    return own.length > 0 ? own : kernel.variants.map((variant) => ({ kernel, variant }));
  });
}
