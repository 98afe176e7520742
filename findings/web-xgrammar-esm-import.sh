#!/usr/bin/env bash
# @mlc-ai/web-xgrammar cannot be imported in Node: its module asks for a require() that modules do not have.
#
# Versions: @mlc-ai/web-xgrammar 0.1.27, Node 20 and later.
# Behaviour: package.json says "type": "module", and the script in it is made for CommonJS: it calls require('url') and reads
#   __filename at the top, so that import throws. Where those exist the script goes on, and puts its library on the global object,
#   as a module has no exports object to fill.
# Seen: import: "ReferenceError: require is not defined in ES module scope". With require, __filename and __dirname put on
#   globalThis first, the import passes, has no exports, and the library is at globalThis.xgrammar.
# Why it matters: constrained decoding in a Node server with the package as published needs these three globals, for the whole
#   process; a worker thread keeps them to itself.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
node_packages @mlc-ai/web-xgrammar@0.1.27

cat >"$work/node/plain.mjs" <<'JS'
const error = await import('@mlc-ai/web-xgrammar').then(() => undefined, (e) => e);
console.log(`plain import: ${error?.name}: ${error?.message.split('\n')[0]}`);
process.exitCode = error instanceof ReferenceError ? 0 : 1;
JS
cat >"$work/node/globals.mjs" <<'JS'
import { createRequire } from 'node:module';

const file = new URL(import.meta.url).pathname;
Object.assign(globalThis, { require: createRequire(import.meta.url), __filename: file, __dirname: process.cwd() });
const exported = Object.keys(await import('@mlc-ai/web-xgrammar')).filter((name) => name !== 'default');
console.log(`with the globals: exports [${exported}], globalThis.xgrammar has ${Object.keys(globalThis.xgrammar ?? {})}`);
process.exitCode = exported.length === 0 && globalThis.xgrammar?.GrammarCompiler !== undefined ? 0 : 1;
JS
(cd "$work/node" && node plain.mjs && node globals.mjs)
