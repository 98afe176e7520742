// node cuda/resources.mjs BUILD-FOLDER: docs/cuda-resources.md on stdout, from what ptxas reported of every object there
// (ptxas_report.sh keeps it). Fails when a kernel spills that must not.
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

// What a multiprocessor has, by architecture (CUDA C++ Programming Guide, "Technical Specifications per Compute
// Capability"): warps, blocks, KB of shared memory. All have 65,536 registers, given to warps by 256.
const architectures = {
  75: { warps: 32, blocks: 16, shared: 64 },
  80: { warps: 64, blocks: 32, shared: 164 },
  86: { warps: 48, blocks: 16, shared: 100 },
  89: { warps: 48, blocks: 24, shared: 100 },
  90: { warps: 64, blocks: 32, shared: 228 },
  100: { warps: 64, blocks: 32, shared: 228 },
  120: { warps: 48, blocks: 24, shared: 100 },
};
/** Why a kernel may spill; one that is not here must not. */
const turing = 'on sm_75 only, whose tensor cores know neither bf16 nor tf32: the operands arrive by shuffles';
const maySpill = {
  'wkv7: head_recurrence<Wkv7Rule, 16, false>':
    'heads of 128, twice the size that models have; with these bytes in registers one block would be resident, not two',
  'product_mma: mma_tiles<__nv_bfloat16, __nv_bfloat16, 128>': turing,
  'ssd_tiles: ssd_chunks<false, false>': turing,
  'ssd_tiles: ssd_chunks<true, false>': turing,
  'ssd_tiles: ssd_square<false>': turing,
};

const folder = process.argv[2] ?? 'build-cuda';
const files = readdirSync(folder, { recursive: true }).filter((f) => f.endsWith('.ptxas'));
if (files.length === 0) throw new Error(`${folder}: no reports of ptxas; build with npm run build:cuda`);

/** {file, name, mangled, threads, by: {architecture: {registers, shared, stack, stores, loads}}} */
const kernels = new Map();
for (const file of files.sort()) {
  const text = readFileSync(join(folder, file), 'utf8');
  const entry =
    /Compiling entry function '(\S+)' for 'sm_(\d+)'[\s\S]*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads[\s\S]*?Used (\d+) registers([^\n]*)/g;
  for (const [, mangled, arch, stack, stores, loads, registers, rest] of text.matchAll(entry)) {
    const source = basename(file).replace(/(\.cu)?\.o(bj)?\.ptxas$/, '');
    const key = `${source} ${mangled}`;
    if (!kernels.has(key)) kernels.set(key, { file: source, mangled, by: {} });
    const shared = Number(/(\d+) bytes smem/.exec(rest)?.[1] ?? 0);
    kernels.get(key).by[arch] = { registers: +registers, shared, stack: +stack, stores: +stores, loads: +loads };
  }
}

/** Names as a person writes them: no namespaces, no arguments. */
function readable(mangled) {
  const full = execFileSync('c++filt', { input: mangled.join('\n'), encoding: 'utf8' }).trim().split('\n');
  return full.map((name) =>
    name
      .replace(/\(anonymous namespace\)::|<unnamed>::|statespace::|cuda::/g, '')
      .replace(/^void /, '')
      .replace(/\((?!int\)|bool\)|anonymous)[^()]*\)$/, '')
      .replace(/\((int|bool)\)/g, ''),
  );
}

/** A kernel's file with the headers of this folder that it includes. */
function sourceOf(file, seen = new Set()) {
  if (seen.has(file)) return '';
  seen.add(file);
  const text = readFileSync(join(dirname(fileURLToPath(import.meta.url)), file), 'utf8');
  const headers = [...text.matchAll(/^#include "(\w+\.h)"/gm)].map(([, header]) => header);
  return text + headers.filter((h) => !h.startsWith('device_')).map((h) => sourceOf(h, seen)).join('\n');
}

/** Threads of a block: the launch bounds in the source, a product of integers, constants and the kernel's own template
 * arguments. */
function threadsOf(file, name) {
  const source = sourceOf(`${file}.cu`);
  const [, kernel, given] = /^(\w+)(?:<(.*)>)?$/s.exec(name);
  const head = new RegExp(
    `(?:template <([^>]*)>\\s+)?__global__ void __launch_bounds__\\(([^),]*)[^{;]*?\\)\\s+${kernel}\\(`,
  ).exec(source);
  if (!head) return undefined;
  const parameters = (head[1] ?? '').split(',').map((parameter) => parameter.trim().split(' ').at(-1));
  const values = (given ?? '').split(',').map((argument) => argument.trim());
  const value = (expression) =>
    expression
      .split('*')
      .map((term) => term.trim())
      .reduce((product, term) => {
        if (/^\d+$/.test(term)) return product * Number(term);
        if (parameters.includes(term)) return product * Number(values[parameters.indexOf(term)]);
        const constant = new RegExp(`(?:constexpr int|,) *\\b${term} = ([^,;]+)[,;]`).exec(source)?.[1];
        return constant ? product * value(constant) : Number.NaN;
      }, 1);
  return value(head[2]);
}

/** Part of a multiprocessor's warps that are resident at once. */
function occupancy(arch, threads, { registers, shared }) {
  const { warps, blocks, shared: kilobytes } = architectures[arch];
  const perBlock = Math.ceil(threads / 32);
  const byRegisters = Math.floor(Math.floor(65536 / (Math.ceil((registers * 32) / 256) * 256)) / perBlock);
  const reserved = arch >= 80 ? 1024 : 0;
  const byShared = Math.floor((kilobytes * 1024) / Math.max(1, Math.ceil((shared + reserved) / 128) * 128));
  return (Math.min(blocks, Math.floor(warps / perBlock), byRegisters, byShared) * perBlock) / warps;
}

const all = [...kernels.values()];
const names = readable(all.map((k) => k.mangled));
for (const [i, k] of all.entries()) {
  k.name = names[i];
  k.threads = threadsOf(k.file, k.name);
  if (!k.threads) throw new Error(`${k.file}: ${k.name}: its launch bounds are missing or no product of constants`);
}
all.sort((a, b) => a.file.localeCompare(b.file) || a.name.localeCompare(b.name));

const built = Object.keys(architectures).filter((arch) => all.some((k) => k.by[arch]));
const cell = (k, arch) => {
  const r = k.by[arch];
  if (!r) return '';
  const spill = r.stores + r.loads > 0 ? `, spills ${r.stores + r.loads} B` : '';
  return `${r.registers}, ${(r.shared / 1024).toFixed(1)} KB, ${Math.round(100 * occupancy(arch, k.threads, r))} %${spill}`;
};
const label = (k) => `${k.file}: ${k.name}`;
const spilling = all.filter((k) => built.some((arch) => k.by[arch] && k.by[arch].stores + k.by[arch].loads > 0));

console.log(`# Resources of the CUDA kernels

Generated by \`npm run docs:cuda\` from the reports of ptxas (${nvcc()}). Per architecture: registers a thread, shared
memory a block, and the part of a multiprocessor's warps that both allow to be resident (occupancy).

${spilling.length === 0 ? 'No kernel spills registers.' : `These spill registers:\n\n${spilling.map((k) => `- \`${label(k)}\`: ${maySpill[label(k)] ?? 'without a reason'}`).join('\n')}`}

| kernel | threads | ${built.map((a) => `sm_${a}`).join(' | ')} |
| --- | --: | ${built.map(() => '---').join(' | ')} |
${all.map((k) => `| ${k.file}: \`${k.name}\` | ${k.threads} | ${built.map((a) => cell(k, a)).join(' | ')} |`).join('\n')}`);

function nvcc() {
  return /release [^\n]*V([0-9.]+)/.exec(execFileSync('nvcc', ['--version'], { encoding: 'utf8' }))?.[1] ?? 'nvcc';
}

const forbidden = spilling.filter((k) => !maySpill[label(k)]);
if (forbidden.length > 0) {
  console.error(`must not spill, or cuda/resources.mjs must say why: ${forbidden.map(label).join(', ')}`);
  process.exitCode = 1;
}
