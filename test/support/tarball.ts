/** The package as npm would publish it. */
import { copyFileSync, existsSync, mkdirSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { succeed } from './process.js';

const root = resolve(__dirname, '../..');
export const npm =
  process.env.npm_execpath ?? join(dirname(process.execPath), '../lib/node_modules/npm/bin/npm-cli.js');
const target = `${process.platform}-${process.arch}`;

/** npm pack; the tarball, in `work`. */
async function pack(folder: string, work: string): Promise<string> {
  const args = [npm, 'pack', '--json', '--pack-destination', work];
  const [packed] = JSON.parse(await succeed(process.execPath, args, { cwd: folder })) as [{ filename: string }];
  return join(work, packed.filename);
}

/** A tarball with the prebuilt addons, or with the one that was built here. */
export async function packPackage(work: string, prebuilt: boolean): Promise<string> {
  const tarball = await pack(root, work);
  if (prebuilt && existsSync(join(root, 'prebuilds', target))) return tarball;
  await succeed('tar', ['-xzf', tarball, '-C', work]);
  const folder = join(work, 'package/prebuilds', target);
  mkdirSync(folder, { recursive: true });
  const addon = join(folder, 'statespace.glibc.node');
  copyFileSync(join(root, 'build/Release/statespace.node'), addon);
  if (process.platform === 'linux') await succeed('strip', ['--strip-all', addon]);
  return pack(join(work, 'package'), work);
}
