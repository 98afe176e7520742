/** Tasks that ask what a model remembers. Every answer is somewhere in the sequence itself, and nowhere else. */
import { Random } from '../random.js';

export interface Task {
  name: string;
  label: string;
  /** What is to be done, for the report. */
  text: string;
  /** Writes one sequence, and where an answer stands its token: the position before it has to predict it. */
  write(ids: Int32Array, answers: Int32Array, random: Random, vocabulary: number): void;
}

/** No answer. */
export const NONE = -100;

const NOISE = 0;
const MARK = 1;
/** Tokens below it mean something. */
const FIRST = 2;

const below = (random: Random, n: number): number => Math.min(n - 1, Math.floor(random.next(0, n)));

/** `count` of the numbers below n, in random order. */
function distinct(random: Random, count: number, n: number): number[] {
  const all = Array.from({ length: n }, (_, i) => i);
  for (let i = 0; i < count; i++) {
    const j = i + below(random, n - i);
    [all[i], all[j]] = [all[j]!, all[i]!];
  }
  return all.slice(0, count);
}

const ascending = (a: number, b: number): number => a - b;

export const TASKS: readonly Task[] = [
  {
    name: 'copying',
    label: 'selective copying',
    text: 'one token in eight among noise, to be repeated in their order after a mark (Gu & Dao 2023)',
    write(ids, answers, random, vocabulary) {
      const count = Math.floor(ids.length / 8);
      const room = ids.length - count - 1;
      ids.fill(NOISE);
      ids[room] = MARK;
      for (const [i, at] of distinct(random, count, room).sort(ascending).entries()) {
        ids[at] = FIRST + below(random, vocabulary - FIRST);
        ids[room + 1 + i] = ids[at]!;
        answers[room + 1 + i] = ids[at]!;
      }
    },
  },
  {
    name: 'induction',
    label: 'induction heads',
    text: 'random tokens; the mark that stood among them stands at the end: what followed it? (Olsson et al. 2022; Gu & Dao 2023)',
    write(ids, answers, random, vocabulary) {
      const last = ids.length - 1;
      for (let t = 0; t < last; t++) ids[t] = FIRST + below(random, vocabulary - FIRST);
      const at = below(random, last - 2);
      ids[at] = MARK;
      ids[last - 1] = MARK;
      ids[last] = ids[at + 1]!;
      answers[last] = ids[last]!;
    },
  },
  {
    name: 'mqar',
    label: 'multi-query associative recall',
    text: 'pairs of key and value over half of the sequence, then every key again, shuffled: which value? (Arora et al. 2023)',
    write(ids, answers, random, vocabulary) {
      const half = Math.floor((vocabulary - FIRST) / 2);
      const pairs = Math.min(half, Math.floor(ids.length / 4));
      const keys = distinct(random, pairs, half);
      const values = keys.map(() => FIRST + half + below(random, half));
      ids.fill(NOISE);
      keys.forEach((key, i) => {
        ids[2 * i] = FIRST + key;
        ids[2 * i + 1] = values[i]!;
      });
      for (const [i, pair] of distinct(random, pairs, pairs).entries()) {
        const at = 2 * (pairs + i);
        ids[at] = FIRST + keys[pair]!;
        ids[at + 1] = values[pair]!;
        answers[at + 1] = values[pair]!;
      }
    },
  },
];

/** `rows` sequences of a task; the same for a seed. */
export function sequences(task: Task, rows: number, length: number, vocabulary: number, seed: number) {
  const random = new Random(seed);
  for (let i = 0; i < 8; i++) random.next();
  const [ids, labels] = [new Int32Array(rows * length), new Int32Array(rows * length).fill(NONE)];
  for (let r = 0; r < rows; r++) {
    const part = (x: Int32Array) => x.subarray(r * length, (r + 1) * length);
    task.write(part(ids), part(labels), random, vocabulary);
  }
  const shape = [rows, length];
  return { ids: { data: ids, shape }, labels: { data: labels, shape } };
}
