// Builds the addon by cmake-js. `npm run build:native`, `statespace build` and binding.gyp (so prebuilds) all come here:
// there is one way to build it. Needs CMake 3.20 or newer and a C++20 compiler; downloads nothing, as package.json says
// "binary": { "napi_versions": … } and the headers come from npm packages.
//   node scripts/build-native.cjs [--arch x64|arm64] [--folder build] [--copy FILE] [--jobs N]
'use strict';
const { copyFileSync, existsSync, mkdirSync, readFileSync, realpathSync, rmSync } = require('node:fs');
const { availableParallelism } = require('node:os');
const { dirname, join, resolve } = require('node:path');
const { parseArgs } = require('node:util');

const root = join(__dirname, '..');

/** Runs the build. Resolves to the addon's path; rejects with an Error that says what to do. */
async function buildNative({ arch = process.arch, folder = 'build', copy, jobs, silent = false } = {}) {
  const out = await configureNative({ arch, folder, silent });
  // The compiler takes up to 1 GB a process: no more of them than cores.
  const parallel = String(jobs ?? Math.min(8, availableParallelism()));
  await systemOf({ out, arch, silent, target: 'statespace', parallel }).build();
  const addon = join(out, 'Release', 'statespace.node');
  if (copy) {
    mkdirSync(dirname(resolve(root, copy)), { recursive: true });
    copyFileSync(addon, resolve(root, copy));
  }
  return addon;
}

/** Prepares a build folder, anew where it was made in another place; its full path. */
async function configureNative({ arch = process.arch, folder = 'build', silent = false } = {}) {
  const out = resolve(root, folder);
  if (!systemOf({ out, arch }).cmake.isAvailable) {
    throw new Error('cmake is not in PATH; building needs CMake 3.20 or newer and a C++20 compiler (gcc 12, clang 14)');
  }
  const known = cacheOf(out);
  if (known && !(samePlace(known.CMAKE_HOME_DIRECTORY, root) && samePlace(known.CMAKE_CACHEFILE_DIR, out))) {
    console.error(`build: ${out} was made for ${known.CMAKE_HOME_DIRECTORY}; it is made anew`);
    rmSync(out, { recursive: true, force: true });
  }
  const generator = cacheOf(out)?.CMAKE_GENERATOR ?? process.env.CMAKE_GENERATOR;
  await systemOf({ out, arch, silent, generator, ...visualStudio(), extraCMakeArgs: settings(arch) }).configure();
  return out;
}

// cmake-js passes its extra arguments to the build as well, which refuses them: one system for each of the two.
function systemOf(options) {
  const { BuildSystem } = require('cmake-js');
  return new BuildSystem({ directory: root, config: 'Release', ...options });
}

/** What CMake has noted of a build folder; undefined where it has not been there. */
function cacheOf(out) {
  const file = join(out, 'CMakeCache.txt');
  if (!existsSync(file)) return undefined;
  return Object.fromEntries(
    [...readFileSync(file, 'utf8').matchAll(/^(CMAKE_\w+):[A-Z]+=(.*)$/gm)].map(([, name, value]) => [name, value]),
  );
}

function samePlace(noted, place) {
  try {
    return noted !== undefined && realpathSync(noted) === realpathSync(place);
  } catch {
    return false; // where it was made is gone
  }
}

/** The kernels use builtins that Microsoft's own compiler lacks; Visual Studio ships clang-cl. */
function visualStudio() {
  return process.platform === 'win32' ? { toolset: 'ClangCL' } : {};
}

/** CMake's arguments for a processor, and flags that CMakeLists.txt does not expect of cmake-js. */
function settings(arch) {
  const flags = [
    `-DCMAKE_CXX_FLAGS=${process.env.CXXFLAGS ?? ''}`,
    `-DCMAKE_SHARED_LINKER_FLAGS=${process.env.LDFLAGS ?? ''}`,
  ];
  if (arch === process.arch || process.platform === 'win32') return flags;
  const toolchain = join(root, 'cmake', `${process.platform}-${arch}.cmake`);
  if (!existsSync(toolchain)) {
    throw new Error(`cannot build for ${process.platform}-${arch} on ${process.platform}-${process.arch}`);
  }
  return [...flags, '--toolchain', toolchain];
}

module.exports = { buildNative, configureNative };

if (require.main === module) {
  const { values } = parseArgs({
    options: {
      arch: { type: 'string' },
      folder: { type: 'string' },
      copy: { type: 'string' },
      jobs: { type: 'string' },
    },
  });
  buildNative(values).catch((error) => {
    console.error(`build: ${error.message}`);
    process.exitCode = 1;
  });
}
