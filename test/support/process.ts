import { type SpawnOptions, spawn } from 'node:child_process';

interface Finished {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

/** Runs a program to its end and collects what it says. */
export function run(command: string, args: readonly string[], options: SpawnOptions = {}): Promise<Finished> {
  return new Promise((done, fail) => {
    const child = spawn(command, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
    const text = { stdout: '', stderr: '' };
    for (const from of ['stdout', 'stderr'] as const) {
      child[from]!.setEncoding('utf8').on('data', (piece: string) => {
        text[from] += piece;
      });
    }
    child.on('error', fail);
    child.on('close', (code, signal) => done({ code, signal, ...text }));
  });
}

/** run(), where an exit code other than 0 is an error that shows the output. */
export async function succeed(command: string, args: readonly string[], options: SpawnOptions = {}): Promise<string> {
  const { code, signal, stdout, stderr } = await run(command, args, options);
  if (code !== 0) throw new Error(`${command} ${args.join(' ')}: ${signal ?? `exit ${code}`}\n${stdout}\n${stderr}`);
  return stdout;
}
