/** Option values as people write them: 4K, 512..8192, 1:7. A wrong one is a usage error that shows a right one. */
import { InvalidArgumentError } from 'commander';
import type { Ratio } from '../../bench/models/families.js';

const SUFFIX: Record<string, number> = { '': 1, k: 1024, m: 1024 * 1024 };

/** A count of tokens: 512, 4K (4,096), 1M (1,048,576). */
export function parseLength(text: string): number {
  const match = /^(\d{1,15})([km]?)$/i.exec(text.trim());
  const value = match ? Number(match[1]) * SUFFIX[match[2]!.toLowerCase()]! : 0;
  if (value < 1 || !Number.isSafeInteger(value)) {
    throw new InvalidArgumentError(`expected a positive whole number such as 512, 4K or 1M, got "${text}"`);
  }
  return value;
}

/** A list of lengths, ascending and without repeats; a..b goes from a in doublings and ends with b. */
export function parseLengths(text: string): number[] {
  const lengths = text.split(',').flatMap((part) => {
    const range = part.split('..');
    if (range.length === 1) return [parseLength(part)];
    if (range.length > 2) throw new InvalidArgumentError(`expected first..last, got "${part}"`);
    const [first, last] = [parseLength(range[0]!), parseLength(range[1]!)];
    if (first > last) throw new InvalidArgumentError(`the range ${part} goes down`);
    const doubled: number[] = [];
    for (let length = first; length < last; length *= 2) doubled.push(length);
    return [...doubled, last];
  });
  return [...new Set(lengths)].sort((a, b) => a - b);
}

const AMOUNT: Record<string, number> = { '': 1, k: 1e3, m: 1e6, b: 1e9 };

/** A number of parameters: 130M, 2.8B, 350000. */
export function parseAmount(text: string): number {
  const match = /^(\d{1,15}(?:\.\d{1,6})?)([kmb]?)$/i.exec(text.trim());
  const value = match ? Math.round(Number(match[1]) * AMOUNT[match[2]!.toLowerCase()]!) : 0;
  if (value < 1) throw new InvalidArgumentError(`expected a number such as 130M or 2.8B, got "${text}"`);
  return value;
}

/** Layers of attention to layers of Mamba: 1:7. */
export function parseRatios(text: string): Ratio[] {
  return text.split(',').map((part) => {
    const match = /^(\d{1,3}):(\d{1,3})$/.exec(part.trim());
    const ratio = { attention: Number(match?.[1] ?? 0), mamba: Number(match?.[2] ?? 0) };
    if (ratio.attention + ratio.mamba === 0) {
      throw new InvalidArgumentError(`expected attention:mamba such as 1:7 or 0:1, got "${part}"`);
    }
    return ratio;
  });
}

export function parsePositive(text: string): number {
  if (!/^\d{1,15}$/.test(text) || Number(text) < 1) {
    throw new InvalidArgumentError(`expected a positive whole number, got "${text}"`);
  }
  return Number(text);
}

/** A whole number from `least` on. */
export function parseLeast(least: number): (text: string) => number {
  return (text) => {
    const value = least > 0 ? parsePositive(text) : parseCount(text);
    if (value < least) throw new InvalidArgumentError(`expected at least ${least}, got "${text}"`);
    return value;
  };
}

const BYTES: Record<string, number> = { '': 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 };

/** Bytes: 512M, 2G, 1048576. */
export function parseBytes(text: string): number {
  const match = /^(\d{1,12}(?:\.\d{1,3})?)([kmgt]?)(?:i?b)?$/i.exec(text.trim());
  const value = match ? Math.round(Number(match[1]) * BYTES[match[2]!.toLowerCase()]!) : Number.NaN;
  if (!Number.isSafeInteger(value)) throw new InvalidArgumentError(`expected bytes such as 512M or 2G, got "${text}"`);
  return value;
}

/** Bytes in powers of a thousand, as llama.cpp's gguf-split counts them: 400M, 50G. */
export function parseSize(text: string): number {
  const match = /^(\d{1,15})([kmg]?)$/i.exec(text.trim());
  const value = match ? Number(match[1]) * { '': 1, k: 1e3, m: 1e6, g: 1e9 }[match[2]!.toLowerCase()]! : Number.NaN;
  if (!(Number.isSafeInteger(value) && value > 0))
    throw new InvalidArgumentError(`expected bytes such as 400M or 50G, got "${text}"`);
  return value;
}

export function parseCount(text: string): number {
  if (!/^\d{1,15}$/.test(text)) throw new InvalidArgumentError(`expected a whole number from 0 on, got "${text}"`);
  return Number(text);
}

/** A finite number within bounds, for sampling options and seconds. */
export function parseNumber(low: number, high = Number.POSITIVE_INFINITY): (text: string) => number {
  return (text) => {
    const value = text.trim() === '' ? Number.NaN : Number(text);
    if (!Number.isFinite(value) || value < low || value > high) {
      const bounds = high === Number.POSITIVE_INFINITY ? `from ${low} on` : `between ${low} and ${high}`;
      throw new InvalidArgumentError(`expected a number ${bounds}, got "${text}"`);
    }
    return value;
  };
}

/** Token ids as "12,5,7" (spaces allowed); null where the text is something else. */
export function parseIds(text: string): Int32Array | null {
  if (!/^\s*\d+(\s*[,\s]\s*\d+)*\s*$/.test(text)) return null;
  const ids = text
    .trim()
    .split(/[\s,]+/)
    .map(Number);
  return ids.every((id) => id <= 0x7fffffff) ? Int32Array.from(ids) : null;
}

/** Of an option that may be repeated. */
export const collect = (value: string, all: string[] = []): string[] => [...all, value];
