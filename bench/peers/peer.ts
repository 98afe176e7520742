/** One of other people's programs, running beside us: a line of JSON in, a line of JSON out. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

export interface Hello {
  /** Name and version. */
  peer: string;
  kernels?: string[];
  dtypes?: string[];
}

/** The scripts lie in the source tree, not in the compiled one. */
export const SCRIPTS = join(__dirname, '..', '..', '..', 'bench', 'peers');

export class Peer {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #lines: AsyncIterator<string>;
  #complaint = '';

  private constructor(command: string, args: readonly string[]) {
    this.#child = spawn(command, args, { stdio: 'pipe' });
    this.#child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#complaint = (this.#complaint + text).slice(-4000);
    });
    this.#child.on('error', (error) => {
      this.#complaint = error.message;
    });
    this.#child.stdin.on('error', () => {}); // it has ended: the next answer says why
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  /** Starts it and waits until it is ready. Throws with its own last words where it is not. */
  static async start(command: string, args: readonly string[]): Promise<{ peer: Peer; hello: Hello }> {
    const peer = new Peer(command, args);
    return { peer, hello: (await peer.#answer()) as Hello };
  }

  async ask<T>(job: unknown): Promise<T> {
    this.#child.stdin.write(`${JSON.stringify(job)}\n`);
    return (await this.#answer()) as T;
  }

  stop(): void {
    this.#child.kill();
  }

  /** The next line that is JSON: libraries print notices of their own. */
  async #answer(): Promise<unknown> {
    for (;;) {
      const { value, done } = await this.#lines.next();
      if (done) throw new Error(lastWords(this.#complaint));
      if (value.startsWith('{')) return JSON.parse(value);
    }
  }
}

/** The line that tells the error: warnings may follow it. */
function lastWords(complaint: string): string {
  const lines = complaint.trim().split('\n');
  return lines.findLast((line) => /error/i.test(line)) ?? (lines.at(-1) || 'it ended without an answer');
}

export interface Program {
  name: string;
  /** What must exist below the environment's folder. */
  needs: string;
  command: (dir: string) => string;
  args: (dir: string, threads: number) => string[];
}

const python = (dir: string) => join(dir, 'venv', 'bin', 'python');
const script = (name: string) => join(SCRIPTS, name);

export const KERNEL_PEERS: readonly Program[] = [
  {
    name: 'PyTorch',
    needs: 'venv/bin/python',
    command: python,
    args: (_, threads) => [script('torch_kernels.py'), String(threads)],
  },
  {
    name: 'ONNX Runtime',
    needs: 'venv/bin/python',
    command: python,
    args: (_, threads) => [script('onnx_kernels.py'), String(threads)],
  },
  {
    name: 'flash-linear-attention',
    needs: 'venv/bin/python',
    command: python,
    args: (_, threads) => [script('fla_kernels.py'), String(threads)],
  },
];

export const TRANSFORMERS: Program = {
  name: 'transformers',
  needs: 'venv/bin/python',
  command: python,
  args: (_, threads) => [script('hf_models.py'), String(threads)],
};

export const TRAINING: Program = { ...TRANSFORMERS, args: (_, threads) => [script('hf_training.py'), String(threads)] };

export const LLAMA_CPP: Program = {
  name: 'llama.cpp',
  needs: 'node/node_modules/node-llama-cpp',
  command: () => process.execPath,
  args: (dir, threads) => [script('llama_cpp.mjs'), dir, String(threads)],
};

export interface Started {
  program: Program;
  peer: Peer;
  hello: Hello;
}

/** Starts the programs that are installed below `dir`; the others are told with the reason. */
export async function startPeers(
  programs: readonly Program[],
  dir: string,
  threads: number,
): Promise<{ started: Started[]; missing: { name: string; reason: string }[] }> {
  const [started, missing]: [Started[], { name: string; reason: string }[]] = [[], []];
  for (const program of programs) {
    if (!existsSync(join(dir, program.needs))) {
      missing.push({ name: program.name, reason: `not installed: there is no ${program.needs} below ${dir}` });
      continue;
    }
    try {
      started.push({ program, ...(await Peer.start(program.command(dir), program.args(dir, threads))) });
    } catch (error) {
      missing.push({ name: program.name, reason: `does not start: ${(error as Error).message}` });
    }
  }
  return { started, missing };
}
