// Builds the addon with CMake. `npm run build:native`, `statespace build` and binding.gyp all come here, so there is one
// way to build it. Needs CMake 3.20 or newer and a C++20 compiler; downloads nothing.
//   node scripts/build-native.cjs [--arch x64|arm64] [--folder build] [--copy FILE] [--jobs N]
'use strict';
const { spawnSync } = require('node:child_process');
const { copyFileSync, existsSync, mkdirSync } = require('node:fs');
const { availableParallelism } = require('node:os');
const { dirname, join, resolve } = require('node:path');
const { parseArgs } = require('node:util');

const root = join(__dirname, '..');

/** Runs the build; `stdio` as for a child process. Returns the addon's path. Throws an Error that says what to do. */
function buildNative({ arch = process.arch, folder = 'build', copy, jobs, stdio = 'inherit' } = {}) {
  const build = resolve(root, folder);
  const cmake = (...args) => {
    const { error, status, signal } = spawnSync('cmake', args, { cwd: root, stdio });
    if (error?.code === 'ENOENT') {
      throw new Error(
        'cmake is not in PATH; building needs CMake 3.20 or newer and a C++20 compiler (gcc 12, clang 14)',
      );
    }
    if (error || status !== 0)
      throw new Error(`cmake ${args[0]} failed (${error?.message ?? signal ?? `exit ${status}`})`);
  };
  cmake('-S', root, '-B', build, '-DCMAKE_BUILD_TYPE=Release', ...target(arch));
  // The compiler takes up to 1 GB a process: no more of them than cores.
  const parallel = String(jobs ?? Math.min(8, availableParallelism()));
  cmake('--build', build, '--config', 'Release', '--target', 'statespace', '--parallel', parallel);
  const addon = join(build, 'Release', 'statespace.node');
  if (copy) {
    mkdirSync(dirname(resolve(root, copy)), { recursive: true });
    copyFileSync(addon, resolve(root, copy));
  }
  return addon;
}

/** CMake's options for a processor. */
function target(arch) {
  // The kernels use builtins that Microsoft's own compiler lacks; Visual Studio ships clang-cl.
  if (process.platform === 'win32') return ['-T', 'ClangCL', '-A', arch === 'arm64' ? 'ARM64' : 'x64'];
  if (arch === process.arch) return [];
  const toolchain = join(root, 'cmake', `${process.platform}-${arch}.cmake`);
  if (!existsSync(toolchain)) {
    throw new Error(`cannot build for ${process.platform}-${arch} on ${process.platform}-${process.arch}`);
  }
  return ['--toolchain', toolchain];
}

module.exports = { buildNative };

if (require.main === module) {
  const { values } = parseArgs({
    options: {
      arch: { type: 'string' },
      folder: { type: 'string' },
      copy: { type: 'string' },
      jobs: { type: 'string' },
    },
  });
  try {
    buildNative(values);
  } catch (error) {
    console.error(`build: ${error.message}`);
    process.exitCode = 1;
  }
}
