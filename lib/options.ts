import { mismatch, StatespaceError, show } from './errors.js';

/**
 * ERR_ARGUMENT for an option that a call does not know, with the one that was meant where that can be guessed: an option
 * that is ignored in silence is a wrong answer. `undefined` is as absent.
 */
export function checkKnown(op: string, options: object, known: readonly string[], kind = 'option'): void {
  for (const key of Object.keys(options)) {
    if (known.includes(key) || (options as Record<string, unknown>)[key] === undefined) continue;
    const meant = closest(key, known);
    throw new StatespaceError(
      'ERR_ARGUMENT',
      `${op}: unknown ${kind} ${show(key)}; ${meant ? `did you mean '${meant}'?` : known.length > 0 ? `known are ${known.join(', ')}` : 'there are none'}`,
    );
  }
}

/** checkKnown() of what must be an object. */
export function checkOptions(op: string, options: unknown, known: readonly string[]): void {
  if (typeof options !== 'object' || options === null)
    throw mismatch('ERR_ARGUMENT', `${op}: options`, 'an object', show(options));
  checkKnown(op, options, known);
}

/** Options of a call that takes none; whatever is no object is another argument of a caller that maps over values. */
export function checkNone(op: string, options: unknown): void {
  if (typeof options === 'object' && options !== null) checkKnown(op, options, []);
}

const MOST_THREADS = 1024;

/** A number of compute threads. */
export function checkThreads(where: string, count: unknown): void {
  if (!Number.isSafeInteger(count) || (count as number) < 1 || (count as number) > MOST_THREADS)
    throw mismatch('ERR_ARGUMENT', where, `an integer from 1 to ${MOST_THREADS}`, show(count));
}

/** A path of the file system, which Node itself would refuse with a TypeError. */
export function checkPath(where: string, path: unknown): void {
  if (typeof path !== 'string' || path === '' || path.includes('\0'))
    throw mismatch('ERR_ARGUMENT', where, 'a path', show(path));
}

const plain = (name: string) => name.replace(/[_\-\s]/g, '').toLowerCase();

/** What other libraries call it; a name that one of ours begins with, or that begins with one of ours, needs none. */
const ELSEWHERE: Readonly<Record<string, readonly string[]>> = {
  maxTokens: ['maxnewtokens', 'maxlength', 'npredict', 'numpredict', 'maxcompletiontokens', 'maxgentokens'],
  stop: ['eostokenid', 'eostoken', 'customstoptriggers'],
  seed: ['randomseed', 'randomstate'],
  repetitionPenalty: ['repeatpenalty'],
  penaltyLastN: ['repeatlastn'],
  logprobs: ['toplogprobs', 'returnlogprobs'],
  processLogits: ['logitsprocessor', 'logitprocessor'],
  responseFormat: ['grammar', 'jsonschema'],
  prompt: ['input', 'text', 'inputs', 'inputids', 'tokens'],
  ids: ['inputids', 'tokens'],
  messages: ['chat', 'conversation'],
  signal: ['abortsignal', 'abort', 'cancel'],
  onProgress: ['progresscallback', 'progress'],
  dtype: ['torchdtype', 'precision', 'quantization', 'type'],
  device: ['devicemap', 'gpu'],
  threads: ['nthreads', 'numthreads'],
  maxRunning: ['maxbatchsize', 'maxnumseqs', 'parallel'],
  learningRate: ['lr'],
  rank: ['r', 'lorar', 'lorarank'],
  alpha: ['loraalpha'],
  targets: ['targetmodules'],
};

/**
 * The known name that is written nearly so (in another case, with a letter wrong in four), one of which either begins with
 * the other, or what other libraries have this name for.
 */
function closest(key: string, known: readonly string[]): string | undefined {
  const near = misspelt(key, known);
  if (near !== undefined) return near;
  const asked = plain(key);
  const ranked = known.map((name) => ({ name, common: begun(asked, plain(name)) }));
  const longer = ranked.filter(
    ({ name, common }) => (common === plain(name).length && common > 2) || (common === asked.length && common > 3),
  );
  longer.sort((a, b) => b.common - a.common);
  return longer[0]?.name ?? known.find((name) => ELSEWHERE[name]?.includes(asked));
}

const LONGEST_NAME = 64;

/** The known name that `key` is written nearly as. */
export function misspelt(key: string, known: readonly string[]): string | undefined {
  // Much longer than any name, it is none of them with a letter wrong; comparing would take as long as it is.
  if (key.length > LONGEST_NAME) return undefined;
  const asked = plain(key);
  const ranked = known.map((name) => ({
    name,
    distance: edits(asked, plain(name)),
    common: begun(asked, plain(name)),
  }));
  // Of two that are as near, the one that begins the same: `stopp` is `stop`, not `topP`.
  ranked.sort((a, b) => a.distance - b.distance || b.common - a.common);
  const best = ranked[0];
  if (!best) return undefined;
  // One letter wrong of one or two is another name.
  const allowed = best.name.length > 2 ? Math.max(1, Math.floor(best.name.length / 4)) : 0;
  return best.distance <= allowed ? best.name : undefined;
}

/** Letters that both begin with. */
function begun(a: string, b: string): number {
  let n = 0;
  while (n < a.length && a[n] === b[n]) n++;
  return n;
}

/** Letters to change, add or drop, and neighbours to swap (optimal string alignment). */
function edits(a: string, b: string): number {
  let before: number[] = [];
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      const kept = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, kept, swapped ? before[j - 2]! + 1 : kept));
    }
    before = row;
    row = next;
  }
  return row[b.length]!;
}
