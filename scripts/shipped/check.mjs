#!/usr/bin/env node
// Trains the shipped model again for its first steps and compares the losses with those that are kept, within 1 %:
//   node scripts/shipped/check.mjs TEXT FOLDER [STEPS]
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const [text, folder, given = '100'] = process.argv.slice(2);
const steps = Number(given);
const kept = JSON.parse(readFileSync(join(here, 'losses.json'), 'utf8'));
const command = readFileSync(join(here, 'train.sh'), 'utf8').match(/--vocabulary [^"]*?--seed \d+/)[0];
const flags = command.replaceAll('\\\n', ' ').split(/\s+/);
const child = spawn(
  process.execPath,
  [
    join(here, '../../dist/lib/cli/main.js'),
    ...['train', text, '--config', join(here, 'hybrid.json'), ...flags],
    ...['--quiet', '--save-every', String(steps), '--out', folder],
  ],
  { stdio: ['ignore', 'inherit', 'inherit'] },
);
const ended = new Promise((resolve) => child.on('exit', resolve));
const state = join(folder, 'trainer.json');
while (child.exitCode === null && !existsSync(state)) await wait(500);
child.kill('SIGINT');
await ended;
const { losses } = JSON.parse(readFileSync(state, 'utf8')).notes.history;
const wrong = kept.losses.slice(0, steps).findIndex((loss, i) => !(Math.abs(losses[i] - loss) <= 0.01 * loss));
if (wrong >= 0) {
  console.error(`step ${wrong + 1}: loss ${losses[wrong]}, kept ${kept.losses[wrong]}: more than 1 % apart`);
  process.exit(1);
}
console.log(
  `${steps} steps: every loss within 1 % of that of the shipped model, the last ${losses[steps - 1].toFixed(4)}`,
);
