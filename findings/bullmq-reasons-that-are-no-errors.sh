#!/usr/bin/env bash
# BullMQ loses the reason of a job that throws something other than an Error, and a job that rejects with undefined stays active.
#
# Versions: bullmq 6.7.0, ioredis 6.0.0; needs redis-server (seen with 7.0.15).
# Behaviour: what a processor throws is stored by its property message. A string has none: failedReason is the text "null", there is no stack trace, and the listener of
#   "failed" alone gets the string. Of undefined the worker reads message, which throws inside the worker: the job is neither failed nor retried.
# Seen: Error("out of memory"): failedReason "out of memory". The string "out of memory", and a job cancelled by BullMQ's own cancelJob(id, "client left"), whose signal throws that reason: failed, failedReason "null",
#   waitUntilFinished() rejects with the message "null", three attempts are made all the same. Promise.reject(): state active after a second, attemptsMade 0, the worker
#   emits error "Cannot read properties of undefined (reading 'message')", nobody who waits for the job is told.
# Why it matters: whoever passes the job's signal on to a generation or to fetch() rejects with the reason of cancelJob(), which is a string; bindings and Emscripten throw strings and numbers. The dashboard says
#   null. A job without a reason holds its place until its lock has run out and it counts as stalled, which is when it is run again.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
if ! command -v redis-server >/dev/null; then
  echo "redis-server is needed and not installed: nothing was shown" >&2
  exit 2
fi
node_packages bullmq@6.7.0 ioredis@6.0.0
redis-server --port 0 --unixsocket "$work/redis.sock" --save '' --daemonize no >/dev/null &
redis=$!
trap 'kill $redis; wait $redis || true; rm -rf "$work"' EXIT
for _ in $(seq 50); do [[ -S $work/redis.sock ]] && break; sleep 0.1; done

cat >"$work/node/reasons.mjs" <<'JS'
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { Queue, QueueEvents, Worker } from 'bullmq';

const connection = { path: process.argv[2] };
const reasons = {
  error: () => Promise.reject(new Error('out of memory')),
  string: () => Promise.reject('out of memory'),
  cancelled: async (_job, _token, signal) => {
    await once(signal, 'abort');
    signal.throwIfAborted();
  },
  nothing: () => Promise.reject(),
};
const seen = {};
for (const [name, processor] of Object.entries(reasons)) {
  const queue = new Queue(name, { connection });
  const events = new QueueEvents(name, { connection });
  await events.waitUntilReady();
  const worker = new Worker(name, processor, { connection });
  const raised = [];
  worker.on('error', (error) => raised.push(error.message));
  if (name === 'cancelled') worker.on('active', (job) => setTimeout(() => worker.cancelJob(job.id, 'client left'), 20));
  const { id } = await queue.add('generate', {}, { attempts: 3 });
  const waited = await (await queue.getJob(id)).waitUntilFinished(events, 1000).catch((error) => error.message);
  await sleep(50);
  const job = await queue.getJob(id);
  seen[name] = {
    state: await job.getState(),
    failedReason: job.failedReason,
    attemptsMade: job.attemptsMade,
    waited: waited.replace(/ before finishing.*/, ''),
    raised,
  };
  await worker.close(true);
  await events.close();
  await queue.close();
}
console.log(seen);
const is = (name, state, reason, attempts) =>
  seen[name].state === state && seen[name].failedReason === reason && seen[name].attemptsMade === attempts;
process.exit(
  is('error', 'failed', 'out of memory', 3) &&
    is('string', 'failed', 'null', 3) &&
    is('cancelled', 'failed', 'null', 3) &&
    is('nothing', 'active', undefined, 0) &&
    seen.string.waited === 'null' &&
    /timed out/.test(seen.nothing.waited) &&
    /reading 'message'/.test(seen.nothing.raised[0])
    ? 0
    : 1,
);
JS
(cd "$work/node" && node reasons.mjs "$work/redis.sock")
