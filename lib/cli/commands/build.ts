import { join } from 'node:path';
import type { Command } from 'commander';
import { parsePositive } from '../parse.js';

interface BuildNative {
  buildNative(options: { jobs?: number }): Promise<string>;
}

export function addBuild(program: Command): void {
  program
    .command('build')
    .description('Compile the native addon from the installed sources, where no prebuilt one fits this machine.')
    .option('-j, --jobs <n>', 'compilers at once (default: a core each, at most 8)', parsePositive)
    .addHelpText(
      'after',
      `
Needs CMake 3.20 or newer and a C++20 compiler (gcc 12, clang 14, Xcode 15, Visual Studio 2022 with clang-cl).
Nothing is downloaded. The result, build/Release/statespace.node in the package's folder, is used from then on.

Example:
  $ npx statespace build`,
    )
    .action(async ({ jobs }: { jobs?: number }) => {
      const { buildNative } = require(join(__dirname, '../../../../scripts/build-native.cjs')) as BuildNative;
      process.stderr.write(`built ${await buildNative({ jobs })}\n`);
    });
}
