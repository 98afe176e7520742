// Makes prebuilds/<platform>-<arch>/statespace.<libc>.node from the files that the package ships.
//   npm run prebuild [-- --arch arm64]     default: this machine's processor
// linux-arm64 is cross-compiled on linux-x64 with Debian's g++-aarch64-linux-gnu.
'use strict';
const { spawnSync } = require('node:child_process');
const { cpSync, existsSync, mkdirSync, readFileSync, rmSync, symlinkSync } = require('node:fs');
const { dirname, join } = require('node:path');
const { parseArgs } = require('node:util');

const root = join(__dirname, '..');
const { values } = parseArgs({ options: { arch: { type: 'string', default: process.arch } } });
const { arch } = values;

// A folder of its own: node-gyp empties `build`, which holds the addon that this checkout runs.
const stage = join(root, `build-prebuild-${arch}`);
mkdirSync(stage, { recursive: true });
for (const name of ['package.json', 'binding.gyp', 'CMakeLists.txt', 'cmake', 'native', 'scripts']) {
  rmSync(join(stage, name), { recursive: true, force: true });
  cpSync(join(root, name), join(stage, name), { recursive: true, preserveTimestamps: true });
}
const modules = join(stage, 'node_modules');
if (!existsSync(modules)) symlinkSync(join(root, 'node_modules'), modules, 'junction');

// Node's own headers, where this Node came with them, save node-gyp a download.
const prefix = dirname(dirname(process.execPath));
const headers = existsSync(join(prefix, 'include', 'node', 'common.gypi'));
const output = join(root, 'prebuilds', `${process.platform}-${arch}`);
rmSync(output, { recursive: true, force: true });
const args = [
  '--napi',
  '--strip',
  '--tag-libc',
  '--arch',
  arch,
  '--target',
  process.version,
  '--cwd',
  stage,
  '--out',
  root,
];
if (arch !== process.arch && process.platform === 'linux') {
  args.push('--strip-bin', `${{ arm64: 'aarch64', x64: 'x86_64' }[arch]}-linux-gnu-strip`);
}
const prebuildify = require.resolve('prebuildify/bin.js');
const { status } = spawnSync(process.execPath, [prebuildify, ...args], {
  stdio: 'inherit',
  env: { ...process.env, ...(headers && { npm_config_nodedir: prefix }) },
});
if (status === 0) {
  const { name, version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  console.log(`${name} ${version}: ${output}`);
}
process.exitCode = status ?? 1;
