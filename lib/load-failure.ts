// Why the addon did not load, in terms of what to do about it.
import { closeSync, fstatSync, openSync, readdirSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { StatespaceError } from './errors.js';

export const solutionsHeading = '\nPossible solutions:\n';

const bundled =
  'if the program was bundled (esbuild, webpack, Next.js …), declare statespace external, so that it stays in node_modules';
const build = 'build it here: npx statespace build (needs CMake 3.20 or newer and a C++20 compiler)';
const reinstall = 'install the package again: remove node_modules/statespace, then npm install';

interface Place {
  /** As in the names under prebuilds/. */
  target: string;
  libc: string;
  /** Folders under prebuilds/ of this installation. */
  prebuilds: readonly string[];
}

/** Causes by what the dynamic linker, or node-gyp-build, says of them; the first that matches counts. */
const causes: { matches: RegExp; solutions(place: Place): string[] }[] = [
  {
    matches: /No native build was found|Cannot find (module|package)|Dynamic require|require is not defined/,
    solutions: ({ target, prebuilds }) =>
      prebuilds.length === 0
        ? [
            bundled,
            `this installation holds no prebuilt addon at all (a source checkout, or files left out while copying): ${reinstall}`,
            build,
          ]
        : [
            `it holds prebuilt addons for ${prebuilds.join(', ')} only. If node_modules was copied from another system, install it on ${target} instead`,
            build,
            bundled,
          ],
  },
  {
    matches: /GLIBC(XX)?_[\d.]+' not found|version `GLIBC/,
    solutions: () => [
      'use a system with glibc 2.34 or newer (Debian 12, Ubuntu 22.04, RHEL 9, Amazon Linux 2023)',
      build,
    ],
  },
  {
    matches: /Error loading shared library|cannot open shared object file|Library not loaded|module could not be found/,
    solutions: ({ libc }) => [
      libc === 'musl'
        ? 'install the runtime library of the compiler: apk add libgcc'
        : 'install the library that is named above (libgcc_s.so.1 is in libgcc-s1 of Debian and Ubuntu, libgcc of Fedora and RHEL)',
      build,
    ],
  },
  {
    matches: /failed to map segment|Permission denied|EACCES|Operation not permitted|code signature|blocked by/,
    solutions: () => [
      'let this user read the file, and have it on a file system that may hold programs (mounted without noexec)',
      'look whether a security policy (SELinux, AppArmor, Gatekeeper, Smart App Control) refuses it',
    ],
  },
  {
    matches:
      /invalid ELF header|file too short|wrong ELF class|not a mach-o file|wrong architecture|incompatible architecture|not a valid Win32|did not self-register|undefined symbol|Symbol not found|procedure could not be found/,
    solutions: ({ target }) => [
      `the file is damaged, of another release or not for ${target}: ${reinstall}`,
      'if build/Release holds an addon, it is used before the prebuilt one: remove it or build it again',
      build,
    ],
  },
];

/** The failure of loading the addon under `root` as an ERR_DEVICE that ends in a list of possible solutions. */
export function explainLoadFailure(error: unknown, root: string): StatespaceError {
  const reason = error instanceof Error ? error.message : String(error);
  const libc = libcOf(process.report);
  const place = { target: `${process.platform}-${process.arch}`, libc, prebuilds: prebuildsOf(root) };
  const known = causes.find((c) => c.matches.test(reason));
  const solutions = known?.solutions(place) ?? [reinstall, build];
  return new StatespaceError(
    'ERR_DEVICE',
    `statespace: its native addon cannot be loaded on ${[place.target, libc].join(' ').trim()}, Node ${process.versions.node}\n` +
      `${reason.trim()}${solutionsHeading}${solutions.map((s) => `- ${s}`).join('\n')}`,
    { cause: error },
  );
}

/** What there is to say of a Node that is older than what package.json's `engines` ask for; undefined of others. */
export function olderNode(version: string, engines: string): string | undefined {
  const numbers = (text: string) => /(\d+)\.(\d+)/.exec(text)!.slice(1).map(Number) as [number, number];
  const [[major, minor], [least, leastMinor]] = [numbers(version), numbers(engines)];
  if (major > least || (major === least && minor >= leastMinor)) return undefined;
  return `statespace needs Node ${least}.${leastMinor} or newer, and this is ${version}: parts of it will fail`;
}

/**
 * Throws for an ELF file that has lost its end: the dynamic linker would map it all the same, and the process would die
 * of SIGBUS at the first page that is not there. The section headers come last in what linkers write.
 */
export function checkWhole(file: string): void {
  const handle = openSync(file, 'r');
  try {
    const header = Buffer.alloc(64);
    const elf64LittleEndian = 0x010102464c457fn;
    if (readSync(handle, header, 0, 64, 0) < 64 || BigInt.asUintN(56, header.readBigUInt64LE(0)) !== elf64LittleEndian)
      return;
    const end = header.readBigUInt64LE(40) + BigInt(header.readUInt16LE(58) * header.readUInt16LE(60));
    const { size } = fstatSync(handle);
    if (end > size) throw new Error(`${file}: file too short: expected ${end} bytes, it has ${size}`);
  } finally {
    closeSync(handle);
  }
}

function prebuildsOf(root: string): string[] {
  try {
    return readdirSync(join(root, 'prebuilds')).sort();
  } catch {
    return [];
  }
}

/** `glibc 2.36`, `musl`, or nothing where the platform has one C library only. */
function libcOf(report: NodeJS.ProcessReport | undefined): string {
  if (process.platform !== 'linux') return '';
  const { header } = (report?.getReport() ?? {}) as { header?: { glibcVersionRuntime?: string } };
  return header?.glibcVersionRuntime ? `glibc ${header.glibcVersionRuntime}` : 'musl';
}
