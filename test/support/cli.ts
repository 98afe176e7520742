/** Runs the built command in a process of its own. */
import { spawn } from 'node:child_process';
import { resolve } from 'node:path';

const MAIN = resolve(__dirname, '../../dist/lib/cli/main.js');

export interface Outcome {
  code: number | null;
  stdout: string;
  stderr: string;
}

export interface RunOptions {
  env?: Record<string, string>;
  /** Called with each piece of output; what it returns is sent as a signal. */
  onOutput?: (text: string, from: 'stdout' | 'stderr') => NodeJS.Signals | undefined;
  /** Closes our end of stdout after the first piece, as `head` does. */
  closeStdout?: boolean;
}

export function statespace(args: readonly string[], { env, onOutput, closeStdout }: RunOptions = {}): Promise<Outcome> {
  return new Promise((done, fail) => {
    const child = spawn(process.execPath, [MAIN, ...args], {
      env: { ...process.env, FORCE_COLOR: '', NO_COLOR: '', ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const outcome = { code: null as number | null, stdout: '', stderr: '' };
    for (const from of ['stdout', 'stderr'] as const) {
      child[from].setEncoding('utf8').on('data', (text: string) => {
        outcome[from] += text;
        const signal = onOutput?.(text, from);
        if (signal) child.kill(signal);
        if (closeStdout && from === 'stdout') child.stdout.destroy();
      });
    }
    child.on('error', fail);
    child.on('close', (code) => done({ ...outcome, code }));
  });
}
