/** How quantities are written. Bytes are binary (1 MiB = 2^20), times have three significant digits. */

const BYTE_UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'];

export function formatBytes(bytes: number): string {
  return scaled(bytes, 1024, BYTE_UNITS);
}

export function formatSeconds(seconds: number): string {
  if (seconds >= 100) return `${group(Math.round(seconds))} s`;
  if (seconds >= 1) return `${significant(seconds)} s`;
  if (seconds >= 1e-3) return `${significant(seconds * 1e3)} ms`;
  return `${significant(seconds * 1e6)} µs`;
}

/** 12,345: whole numbers with separators of thousands. */
export function group(value: number): string {
  return value.toLocaleString('en-US', { maximumFractionDigits: 0 });
}

/** 45 %: a share of 1 in whole percents. */
export function percent(share: number): string {
  return `${Math.round(100 * share)} %`;
}

/** 1.23 M, 45.6 k: for rates and counts whose last digits say nothing. */
export function formatCount(value: number): string {
  return scaled(value, 1000, ['', 'k', 'M', 'B', 'T', 'P', 'E']);
}

/** Three significant digits, without an exponent from a millionth on, trailing zeros kept so that columns compare: 1.20, 34.5, 678. */
export function significant(value: number): string {
  if (value === 0) return '0';
  if (!Number.isFinite(value)) return String(value);
  if (Math.abs(value) >= 999.5) return group(value);
  if (Math.abs(value) < 1e-6) return value.toExponential(2);
  const rounded = Number(value.toPrecision(3));
  return rounded.toFixed(Math.max(0, 2 - Math.floor(Math.log10(Math.abs(rounded)))));
}

/** A whole multiple of the unit is written without decimals: 2 MiB, 305 GiB, 1.25 GiB. */
function scaled(value: number, base: number, units: readonly string[]): string {
  let unit = 0;
  let rest = value;
  while (Math.abs(rest) >= base && unit < units.length - 1) {
    rest /= base;
    unit++;
  }
  const text = Number.isInteger(rest) ? group(rest) : significant(rest);
  return `${text} ${units[unit]}`.trimEnd();
}
