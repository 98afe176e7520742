/** Runs a Job in a process of its own; an aborted signal kills it. */
import { fork } from 'node:child_process';
import { join } from 'node:path';
import type { Job, Outcome } from './child.js';

export type RunJob = (job: Job, signal: AbortSignal) => Promise<Outcome>;

export const runInChild: RunJob = (job, signal) =>
  new Promise((resolve, reject) => {
    const child = fork(join(__dirname, 'child.js'), { signal, killSignal: 'SIGKILL', silent: true });
    let answered = false;
    let complaint = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      complaint += text;
    });
    child.on('message', ({ outcome, error }: { outcome?: Outcome; error?: string }) => {
      answered = true;
      if (outcome) resolve(outcome);
      else reject(new Error(error));
    });
    child.on('error', (error) => reject(signal.aborted ? signal.reason : error));
    child.on('exit', (code, killed) => {
      if (answered) return;
      const how = killed ? `was killed by ${killed} (out of memory?)` : `ended with code ${code}`;
      reject(new Error(`the measuring process ${how}${complaint ? `: ${complaint.trim().split('\n').at(-1)}` : ''}`));
    });
    child.send(job);
  });
