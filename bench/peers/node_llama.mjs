// node-llama-cpp as setup.sh installed it in a folder of peers.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

/** Its engine on the CPU, and its version. */
export async function openLlama(dir, threads) {
  const entry = createRequire(join(dir, 'node', 'package.json')).resolve('node-llama-cpp');
  const { getLlama } = await import(pathToFileURL(entry).href);
  const manifest = join(dir, 'node', 'node_modules', 'node-llama-cpp', 'package.json');
  const { version } = JSON.parse(readFileSync(manifest, 'utf8'));
  const llama = await getLlama({ gpu: false, build: 'never', logLevel: 'error', maxThreads: threads });
  return { llama, version };
}
