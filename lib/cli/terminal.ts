/** Data goes to stdout, progress to stderr; colours and moving bars only where a terminal looks at them. */
import { SingleBar } from 'cli-progress';
import { createColors } from 'picocolors';
import { EXIT } from './errors.js';

export function write(text: string, stream: NodeJS.WriteStream = process.stdout): void {
  stream.write(text.endsWith('\n') ? text : `${text}\n`);
}

export function isTerminal(stream: NodeJS.WriteStream = process.stdout): boolean {
  return Boolean(stream.isTTY);
}

function coloured(stream: NodeJS.WriteStream): boolean {
  const { NO_COLOR, FORCE_COLOR, TERM } = process.env;
  if (NO_COLOR) return false;
  return Boolean(FORCE_COLOR && FORCE_COLOR !== '0') || (isTerminal(stream) && TERM !== 'dumb');
}

export type Colours = ReturnType<typeof createColors>;

export function colours(stream: NodeJS.WriteStream = process.stdout): Colours {
  return createColors(coloured(stream));
}

/**
 * A reader that has seen enough (head, less) closes the pipe: not an error of ours. Output that cannot be written, as on a
 * full disk, is a failure.
 */
export function endOnBrokenOutput(end: (code: number) => never): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EPIPE') end(Number(process.exitCode ?? EXIT.ok));
      if (stream === process.stdout) process.stderr.write(`statespace: standard output: ${error.message}\n`);
      end(EXIT.failure);
    });
  }
}

export interface Progress {
  /** fraction in [0, 1]; the note says what happens now. */
  update(fraction: number, note: string): void;
  stop(): void;
}

/** A bar on a terminal; on a pipe one line per new note, so that a log shows where the time goes. */
export function progress(title: string): Progress {
  if (!isTerminal(process.stderr)) {
    let last = '';
    return {
      update(_fraction, note) {
        if (note !== last) process.stderr.write(`${title}: ${note}\n`);
        last = note;
      },
      stop() {},
    };
  }
  const bar = new SingleBar({
    format: `${title} {bar} {percentage}%  {note}`,
    barsize: 24,
    hideCursor: true,
    clearOnComplete: true,
    stream: process.stderr,
    barCompleteChar: '█',
    barIncompleteChar: '░',
  });
  bar.start(1000, 0, { note: '' });
  active = bar;
  return {
    update: (fraction, note) => bar.update(Math.round(Math.min(1, fraction) * 1000), { note }),
    stop() {
      bar.stop();
      active = undefined;
    },
  };
}

let active: SingleBar | undefined;

/** Leaves the terminal as it was (the bar hides the cursor): for exits that unwind nothing. */
export function restoreTerminal(): void {
  active?.stop();
  active = undefined;
}
