#!/usr/bin/env bash
# ioredis stores a typed array as decimal text: Float32Array [1, 2.5] becomes the five bytes "1,2.5", without an error.
#
# Versions: ioredis 6.0.0; redis 6.3.1 (node-redis) beside it. No Redis server: a socket that shows what was sent.
# Behaviour: an argument that is no Buffer goes through String(). Of a Uint8Array, a Float32Array and an ArrayBuffer that is the text that JavaScript prints.
#   node-redis refuses them.
# Seen, bytes of the argument of SET: Buffer "hi" 2; Uint8Array of the same 7 ("104,105"); a Buffer that went through structuredClone() the same 7;
#   Float32Array [1, 2.5] 5; ArrayBuffer 20 ("[object ArrayBuffer]"); null 0. node-redis: "arguments[2] must be of type string | Buffer".
# Why it matters: embeddings, states and KV caches are typed arrays, and a Buffer that crossed a worker's boundary is a Uint8Array. What comes back from
#   getBuffer() has another length, or, for a vector index, is a vector of garbage. Buffer.from(a.buffer, a.byteOffset, a.byteLength) is the way.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
node_packages ioredis@6.0.0 redis@6.3.1

cat >"$work/node/arguments.mjs" <<'JS'
import { once } from 'node:events';
import { createServer } from 'node:net';
import { Redis } from 'ioredis';
import { createClient } from 'redis';

const sent = [];
const server = createServer((socket) =>
  socket.on('data', (data) => {
    // One command at a time: *3 $3 set $1 k $LENGTH ARGUMENT.
    const set = /^\*3\r\n\$3\r\nset\r\n\$1\r\nk\r\n\$\d+\r\n([^]*)\r\n$/i.exec(data.toString('latin1'));
    if (set) sent.push(set[1]);
    socket.write('+OK\r\n');
  }),
);
server.listen(0, '127.0.0.1');
await once(server, 'listening');
const { port } = server.address();
const values = {
  Buffer: Buffer.from('hi'),
  Uint8Array: new Uint8Array([104, 105]),
  'structuredClone(Buffer)': structuredClone(Buffer.from('hi')),
  Float32Array: new Float32Array([1, 2.5]),
  ArrayBuffer: new ArrayBuffer(2),
  null: null,
};
const ioredis = new Redis({ host: '127.0.0.1', port, enableReadyCheck: false, disableClientInfo: true });
const redis = createClient({ socket: { host: '127.0.0.1', port, reconnectStrategy: false }, RESP: 2, disableClientInfo: true });
redis.on('error', () => {});
await redis.connect();
const seen = {};
for (const [name, value] of Object.entries(values)) {
  await ioredis.set('k', value);
  const other = await redis.set('k', value).then(
    () => sent.pop(),
    (error) => error.constructor.name,
  );
  seen[name] = `${sent.pop()} | ${other}`;
}
console.log('ioredis | redis', seen);
const expected = {
  Buffer: 'hi | hi',
  Uint8Array: '104,105 | TypeError',
  'structuredClone(Buffer)': '104,105 | TypeError',
  Float32Array: '1,2.5 | TypeError',
  ArrayBuffer: '[object ArrayBuffer] | TypeError',
  null: ' | TypeError',
};
process.exit(JSON.stringify(seen) === JSON.stringify(expected) ? 0 : 1);
JS
(cd "$work/node" && node arguments.mjs)
