#!/usr/bin/env node
// A trained folder as it lies in the package: weights in bf16, and a template by which a chat is a text that goes on.
//   node scripts/shipped/pack.mjs TRAINED FOLDER
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const { loadModel } = createRequire(import.meta.url)('../../dist/lib/index.js');
const TEMPLATE = '{% for message in messages %}{{ message.content }}\n{% endfor %}';

const [from, to] = process.argv.slice(2);
const model = await loadModel(from, { dtype: 'bf16', device: 'cpu' });
await model.save(to);
await model.dispose();
writeFileSync(join(to, 'chat_template.jinja'), TEMPLATE);
const weights = readFileSync(join(to, 'model.safetensors'));
console.log(`${weights.length} bytes, SHA-256 ${createHash('sha256').update(weights).digest('hex')}`);
