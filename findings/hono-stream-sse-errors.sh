#!/usr/bin/env bash
# hono's streamSSE: an error ends the stream as if all were said, or hands its text to the client; writes to nobody succeed.
#
# Versions: hono 4.13.19, @hono/node-server 2.1.9, Node 20 and later.
# Behaviour: a callback that throws is caught. Without an onError the message goes to the server's console, and the response ends in the ordinary way. With an
#   onError, the error's own message is sent as an event "error" after whatever onError sent. Once the client is gone, writeSSE() resolves as before;
#   only stream.aborted, onAbort() and the request's signal know.
# Seen: of data "a" and a thrown Error("password of the database") the client gets "a" and a proper end, status 200; with an onError that sends
#   "sorry": "sorry", and then "password of the database". A client that left after 2 of 20 events: 20 writes succeed, none throws, aborted is true.
#   A client that does not read is waited for: of 125 MB about 4 MB are written.
# Why it matters: a model that fails in the middle of an answer looks finished unless the protocol has an end of its own (data: [DONE]); internals reach users
#   that the handler was written to keep away; a generation loop goes on for nobody unless it asks stream.aborted at each token.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
node_packages hono@4.13.19 @hono/node-server@2.1.9

cat >"$work/node/streams.mjs" <<'JS'
import { once } from 'node:events';
import { get } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { serve } from '@hono/node-server';
import { Hono } from 'hono';
import { stream, streamSSE } from 'hono/streaming';

const secret = 'password of the database';
const app = new Hono();
async function fail(events) {
  await events.writeSSE({ data: 'a' });
  throw new Error(secret);
}
app.get('/plain', (context) => streamSSE(context, fail));
app.get('/handled', (context) =>
  streamSSE(context, fail, (_error, events) => events.writeSSE({ event: 'error', data: 'sorry' })),
);
const left = { written: 0, thrown: 0, aborted: undefined };
app.get('/left', (context) =>
  streamSSE(context, async (events) => {
    for (let token = 0; token < 20; token++) {
      await events.writeSSE({ data: `${token}` }).then(
        () => left.written++,
        () => left.thrown++,
      );
      await sleep(20);
    }
    left.aborted = events.aborted;
  }),
);
let blocks = 0;
app.get('/unread', (context) =>
  stream(context, async (bytes) => {
    for (; blocks < 2000 && !bytes.aborted; blocks++) await bytes.write(new Uint8Array(1 << 16));
  }),
);
console.error = () => {};
const server = serve({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' });
await once(server, 'listening');
const request = (path) => get({ host: '127.0.0.1', port: server.address().port, path, agent: false });

async function read(path) {
  const [response] = await once(request(path), 'response');
  let text = '';
  for await (const part of response) text += part;
  return { status: response.statusCode, complete: response.complete, text };
}
const plain = await read('/plain');
const handled = await read('/handled');
const leaving = request('/left');
const [response] = await once(leaving, 'response');
let events = 0;
for await (const _ of response) if (++events === 2) break;
leaving.destroy();
const silent = request('/unread');
(await once(silent, 'response'))[0].pause();
await sleep(800);
const megabytes = (blocks * 65536) / 1e6;
silent.destroy();
console.log({ plain, handled, left, megabytes });
const holds =
  plain.status === 200 && plain.complete && plain.text === 'data: a\n\n' &&
  handled.text === `data: a\n\nevent: error\ndata: sorry\n\nevent: error\ndata: ${secret}\n\n` &&
  left.written === 20 && left.thrown === 0 && left.aborted === true &&
  megabytes < 30;
process.exit(holds ? 0 : 1);
JS
(cd "$work/node" && node streams.mjs)
