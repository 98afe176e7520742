/** `statespace serve` in a process of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { resolve } from 'node:path';

const MAIN = resolve(__dirname, '../../dist/lib/cli/main.js');

export interface ServerProcess {
  readonly url: string;
  readonly child: ChildProcess;
  stderr(): string;
  /** Sends a signal; resolves with how the process ended. */
  end(signal: NodeJS.Signals): Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
}

/** Resolves when it has said its URL; rejects where it ends before. `env`: beside this process's. */
export function serveProcess(args: readonly string[], env: Record<string, string> = {}): Promise<ServerProcess> {
  const child = spawn(process.execPath, [MAIN, 'serve', '--port', '0', ...args], {
    env: { ...process.env, FORCE_COLOR: '', NO_COLOR: '', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let [out, err] = ['', ''];
  const ended = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((done) =>
    child.on('close', (code, signal) => done({ code, signal })),
  );
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    err += text;
  });
  return new Promise((ready, fail) => {
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      out += text;
      const url = /^statespace: serving .+ at (http:\S+)\n$/.exec(out)?.[1];
      if (!url) return;
      ready({
        ...{ url, child, stderr: () => err },
        end(signal) {
          child.kill(signal);
          return ended;
        },
      });
    });
    void ended.then(({ code, signal }) =>
      fail(new Error(`serve ended with ${signal ?? code} before it was ready:\n${err}`)),
    );
  });
}

export interface Answer {
  text: string;
  cached: number;
}

/** A completion of a server, or of several one after the other. */
export async function complete(url: string, body: Record<string, unknown>): Promise<Answer> {
  const response = await fetch(`${url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ temperature: 0, max_tokens: 8, ...body }),
  });
  const answer = (await response.json()) as {
    choices: { text: string }[];
    usage: { prompt_tokens_details: { cached_tokens: number } };
    error?: { message: string };
  };
  if (!response.ok) throw new Error(`${response.status}: ${answer.error?.message}`);
  return { text: answer.choices[0]!.text, cached: answer.usage.prompt_tokens_details.cached_tokens };
}

/** A number that /metrics shows. */
export async function metric(url: string, name: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text();
  return Number(new RegExp(`^statespace_${name} (\\S+)$`, 'm').exec(text)?.[1]);
}
