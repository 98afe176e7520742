// datetime.strftime in the C locale and the process's time zone, as Python prints a naive time.

const DAYS = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday'];
const MONTHS = `January February March April May June July August September October November December`.split(' ');
const DAY = 86_400_000;

const two = (n: number): string => String(n).padStart(2, '0');

/** Days since January 1st. */
const dayOfYear = (t: Date): number =>
  Math.round((Date.UTC(t.getFullYear(), t.getMonth(), t.getDate()) - Date.UTC(t.getFullYear(), 0, 1)) / DAY);

function isoWeek(t: Date): { year: number; week: number } {
  const thursday = new Date(Date.UTC(t.getFullYear(), t.getMonth(), t.getDate() + 4 - (t.getDay() || 7)));
  const year = thursday.getUTCFullYear();
  return { year, week: Math.floor((thursday.getTime() - Date.UTC(year, 0, 1)) / DAY / 7) + 1 };
}

const CODES: Record<string, (t: Date) => string> = {
  a: (t) => DAYS[t.getDay()]!.slice(0, 3),
  A: (t) => DAYS[t.getDay()]!,
  b: (t) => MONTHS[t.getMonth()]!.slice(0, 3),
  B: (t) => MONTHS[t.getMonth()]!,
  c: (t) => strftime(t, '%a %b %e %H:%M:%S %Y'),
  C: (t) => two(Math.floor(t.getFullYear() / 100)),
  d: (t) => two(t.getDate()),
  D: (t) => strftime(t, '%m/%d/%y'),
  e: (t) => String(t.getDate()).padStart(2),
  f: (t) => `${String(t.getMilliseconds()).padStart(3, '0')}000`,
  F: (t) => strftime(t, '%Y-%m-%d'),
  g: (t) => two(isoWeek(t).year % 100),
  G: (t) => String(isoWeek(t).year),
  h: (t) => MONTHS[t.getMonth()]!.slice(0, 3),
  H: (t) => two(t.getHours()),
  I: (t) => two(t.getHours() % 12 || 12),
  j: (t) => String(dayOfYear(t) + 1).padStart(3, '0'),
  k: (t) => String(t.getHours()).padStart(2),
  l: (t) => String(t.getHours() % 12 || 12).padStart(2),
  m: (t) => two(t.getMonth() + 1),
  M: (t) => two(t.getMinutes()),
  n: () => '\n',
  p: (t) => (t.getHours() < 12 ? 'AM' : 'PM'),
  P: (t) => (t.getHours() < 12 ? 'am' : 'pm'),
  r: (t) => strftime(t, '%I:%M:%S %p'),
  R: (t) => strftime(t, '%H:%M'),
  s: (t) => String(Math.floor(t.getTime() / 1000)),
  S: (t) => two(t.getSeconds()),
  t: () => '\t',
  T: (t) => strftime(t, '%H:%M:%S'),
  u: (t) => String(t.getDay() || 7),
  U: (t) => two(Math.floor((dayOfYear(t) + 7 - t.getDay()) / 7)),
  V: (t) => two(isoWeek(t).week),
  w: (t) => String(t.getDay()),
  W: (t) => two(Math.floor((dayOfYear(t) + 7 - ((t.getDay() + 6) % 7)) / 7)),
  x: (t) => strftime(t, '%m/%d/%y'),
  X: (t) => strftime(t, '%H:%M:%S'),
  y: (t) => two(t.getFullYear() % 100),
  Y: (t) => String(t.getFullYear()),
  z: () => '', // a naive time has no zone
  Z: () => '',
  '%': () => '%',
};

/** glibc's flags: `-` no padding, `_` blanks, `0` zeros, `^` upper case. */
export function strftime(time: Date, format: string): string {
  return format.replace(/%([-_0^]?)([A-Za-z%])/g, (whole, flag: string, code: string) => {
    const text = CODES[code]?.(time);
    if (text === undefined) return whole;
    if (flag === '-') return text.replace(/^[0 ]+(?=.)/, '');
    if (flag === '_') return text.replace(/^0+(?=.)/, (zeros) => ' '.repeat(zeros.length));
    if (flag === '0') return text.replace(/^ +/, (blanks) => '0'.repeat(blanks.length));
    return flag === '^' ? text.toUpperCase() : text;
  });
}
