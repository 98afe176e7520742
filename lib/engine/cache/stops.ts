/** Why a checkpoint stands where it does. */
export type StopKind = 'end' | 'boundary' | 'branch' | 'tail' | 'grid';

export interface Stop {
  position: number;
  kind: StopKind;
}

export interface StopRules {
  /** A checkpoint every so many tokens. */
  every: number;
  /** Tokens that a checkpoint must at least save. */
  least: number;
}

// Tokens before the end of a prompt: who asks another question about the same text differs from it only near its end.
const NEAR = 32;
const FAR = 128;
// Of a chat's messages: who says something else says it near its end, or after what it begins with. Each costs a step.
const LAST_BOUNDARIES = 32;
const known = (boundaries: readonly number[]): readonly number[] =>
  boundaries.length > LAST_BOUNDARIES ? [boundaries[0]!, ...boundaries.slice(-LAST_BOUNDARIES)] : boundaries;
const tails = (least: number): number[] => {
  const near = Math.max(NEAR, least + 1);
  return FAR >= 2 * near ? [near, FAR] : [near];
};

/**
 * Where reading a prompt of `length` tokens stops to leave a checkpoint, ascending. The last token is never part of one:
 * it is read by itself, so that who asks the same again finds all but that, and gets its logits in the same way.
 *
 * They depend on the prompt and on the rules alone, but for the branch: so a prompt is cut into the same pieces whether
 * or not its beginning was found.
 */
export function planStops(
  length: number,
  from: number,
  boundaries: readonly number[],
  branch: number,
  { every, least }: StopRules,
): Stop[] {
  const end = length - 1;
  const wanted: Stop[] = [
    { position: end, kind: 'end' },
    ...known(boundaries).map((position): Stop => ({ position, kind: 'boundary' })),
    { position: branch, kind: 'branch' },
    // A prompt that is shorter than what is worth a guess is soon read again.
    ...(length > every ? tails(least) : []).map((back): Stop => ({ position: length - back, kind: 'tail' })),
  ];
  // Of those that lie closer together than a checkpoint is worth, the better known one stays; of the end and a branch
  // before it both do, as texts are known to part there.
  const kept: Stop[] = [];
  for (const stop of wanted) {
    if (stop.position < least || stop.position > end) continue;
    const apart = stop.kind === 'branch' ? 1 : least;
    if (kept.some((other) => Math.abs(other.position - stop.position) < apart)) continue;
    kept.push(stop);
  }
  const better = [...kept];
  // These lie further apart from each other than a checkpoint is worth.
  for (let position = every; position < end; position += every)
    if (position >= least && better.every((other) => Math.abs(other.position - position) >= least))
      kept.push({ position, kind: 'grid' });
  return kept.filter((stop) => stop.position > from).sort((a, b) => a.position - b.position);
}
