import { resolve } from 'node:path';
import { expect, it } from 'vitest';
import { succeed } from '../support/process.js';

const entry = resolve(__dirname, '../../dist/lib/index.js');

// The main thread never loads the addon, so that the end of each worker leaves it without a user while its threads sleep.
const program = `
const { Worker } = require('node:worker_threads');
const work = \`
  const { ops, Tensor } = require(\${JSON.stringify(process.argv[1])});
  const x = new Tensor(new Float32Array(1 << 16).fill(1), [256, 256]);
  ops.linear({ x, weight: x }).then(({ y }) => require('node:worker_threads').parentPort.postMessage(y.data[0]));\`;
(async () => {
  const seen = [];
  for (let i = 0; i < 4; i++) {
    const worker = new Worker(work, { eval: true });
    const ended = new Promise((done) => worker.once('exit', done));
    seen.push(await new Promise((done, fail) => worker.once('message', done).once('error', fail)));
    await ended;
    await new Promise((done) => setTimeout(done, 50));
  }
  console.log(seen.join(' '));
})();`;

it('stays in memory when the only worker_threads that loaded it have ended', async () => {
  expect((await succeed(process.execPath, ['-e', program, entry])).trim()).toBe('256 256 256 256');
});
