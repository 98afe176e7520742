/**
 * The tarball under every package manager, with and without scripts, where there is no compiler, no make and no Python:
 * all but npm would run node-gyp for a binding.gyp. Long (check:full): each brings the dependencies from the registry.
 */
import { mkdirSync, mkdtempSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { LONG, needs } from '../support/needs.js';
import { run, succeed } from '../support/process.js';
import { long } from '../support/scale.js';
import { npm, packPackage } from '../support/tarball.js';

const minutes = 60_000;
const work = mkdtempSync(join(tmpdir(), 'statespace-managers-'));
const tools = join(work, 'tools/node_modules');
const VERSIONS = ['pnpm9@npm:pnpm@9.15.9', 'pnpm10@npm:pnpm@10.34.8', 'yarn1@npm:yarn@1.22.22'];
VERSIONS.push(
  'yarn4@npm:@yarnpkg/cli-dist@4.18.1',
  '@oven/bun-linux-x64@1.4.5',
  '@esbuild/linux-x64@0.28.2',
  '@deno/linux-x64-glibc@2.9.6',
  'webpack@5.113.0',
);
let env: NodeJS.ProcessEnv;
let tarball: string;

interface Manager {
  install: string[];
  /** Beside package.json. */
  files?: Record<string, string>;
  /** What runs a program there. */
  node?: string[];
}
const node = process.execPath;
const [pnpm9, pnpm10] = ['pnpm9', 'pnpm10'].map((name) => [node, join(tools, name, 'bin/pnpm.cjs'), 'install']);
const yarn1 = [node, join(tools, 'yarn1/bin/yarn.js'), 'install'];
const yarn4 = [node, join(tools, 'yarn4/bin/yarn.js')];
const bun = [join(tools, '@oven/bun-linux-x64/bin/bun'), 'install'];
const yarnrc = (linker: string, scripts: boolean) => ({
  '.yarnrc.yml': `nodeLinker: ${linker}\nenableScripts: ${scripts}\n`,
});
const plugAndPlay = { install: [...yarn4, 'install'], node: [...yarn4, 'node'] };
const modules = { install: [...yarn4, 'install'] };
const MANAGERS: Record<string, Manager> = {
  npm: { install: [node, npm, 'install', '--no-audit', '--no-fund'] },
  'pnpm 9': { install: pnpm9! },
  'pnpm 9 without scripts': { install: [...pnpm9!, '--ignore-scripts'] },
  'pnpm 10': { install: pnpm10! },
  'pnpm 10 with scripts': { install: [...pnpm10!, '--dangerously-allow-all-builds'] },
  'yarn 1': { install: yarn1 },
  'yarn 1 without scripts': { install: [...yarn1, '--ignore-scripts'] },
  'yarn 4, node-modules': { ...modules, files: yarnrc('node-modules', true) },
  'yarn 4, node-modules, without scripts': { ...modules, files: yarnrc('node-modules', false) },
  'yarn 4, plug and play': { ...plugAndPlay, files: yarnrc('pnp', true) },
  'yarn 4, plug and play, without scripts': { ...plugAndPlay, files: yarnrc('pnp', false) },
  bun: { install: bun },
  'bun with scripts': { install: [...bun, '--trust'] },
};

const USE = `
const { Tensor, ops, systemInfo } = require('statespace');
const x = new Tensor(new Float32Array(4).fill(1), [2, 2]);
console.log(ops.linearSync({ x, weight: x }).y.data[0], systemInfo().version);`;

describe.runIf(needs(long, LONG))('installed without a compiler', () => {
  beforeAll(async () => {
    tarball = await packPackage(work, true);
    mkdirSync(join(work, 'tools'));
    writeFileSync(join(work, 'tools/package.json'), '{ "private": true }');
    await succeed(node, [npm, 'install', '--no-audit', '--no-fund', ...VERSIONS], { cwd: join(work, 'tools') });
    // node, a shell and its small helpers; no cc, no make, no python.
    const path = join(work, 'bin');
    mkdirSync(path);
    symlinkSync(node, join(path, 'node'));
    for (const name of ['sh', 'uname', 'sed', 'dirname', 'basename', 'readlink', 'cat'])
      symlinkSync((await succeed('sh', ['-c', `command -v ${name}`])).trim(), join(path, name));
    const registry = (await succeed(node, [npm, 'config', 'get', 'registry'])).trim();
    env = {
      ...process.env,
      ...{ PATH: path, HOME: join(work, 'home'), npm_config_registry: registry, YARN_NPM_REGISTRY_SERVER: registry },
      YARN_CACHE_FOLDER: join(work, 'yarn'), // not root's, which may hold another tarball of this version
      ...{ YARN_ENABLE_TELEMETRY: '0', YARN_ENABLE_IMMUTABLE_INSTALLS: 'false', YARN_UNSAFE_HTTP_WHITELIST: '*' },
    };
    // What npm tells its own scripts is nothing for the others.
    for (const name of Object.keys(env)) if (/^npm_(?!config_registry)/.test(name)) delete env[name];
  }, 10 * minutes);

  async function install(name: string): Promise<string> {
    const { install, files } = MANAGERS[name]!;
    const app = mkdtempSync(join(work, 'app-'));
    const dependencies = { statespace: `file:${tarball}` };
    writeFileSync(join(app, 'package.json'), JSON.stringify({ name: 'app', private: true, dependencies }));
    for (const [file, text] of Object.entries(files ?? {})) writeFileSync(join(app, file), text);
    const { code, stdout, stderr } = await run(install[0]!, install.slice(1), { cwd: app, env });
    expect([code, /node-gyp rebuild|gyp ERR/.test(stdout + stderr)], stdout + stderr).toEqual([0, false]);
    return app;
  }

  it.each(Object.keys(MANAGERS))(
    'by %s',
    async (name) => {
      const app = await install(name);
      writeFileSync(join(app, 'use.cjs'), USE);
      const [command, ...args] = MANAGERS[name]!.node ?? [node];
      const { code, stdout, stderr } = await run(command!, [...args, 'use.cjs'], { cwd: app, env });
      expect([code, stdout, stderr]).toEqual([0, '2 0.1.0\n', '']);
    },
    5 * minutes,
  );

  it(
    'runs in Bun and in Deno',
    async () => {
      const app = await install('npm');
      writeFileSync(join(app, 'use.cjs'), USE);
      const at = { cwd: app, env };
      expect(await succeed(join(tools, '@oven/bun-linux-x64/bin/bun'), ['use.cjs'], at)).toBe('2 0.1.0\n');
      const deno = join(tools, '@deno/linux-x64-glibc/deno');
      const local = ['run', '--node-modules-dir=manual'];
      const allowed = ['--allow-ffi', '--allow-read', '--allow-env', '--allow-sys'];
      expect(await succeed(deno, [...local, ...allowed, 'use.cjs'], at)).toBe('2 0.1.0\n');
      writeFileSync(join(app, 'import.cjs'), "require('statespace'); console.log('imported');");
      expect(await succeed(deno, [...local, '--allow-read', 'import.cjs'], at)).toBe('imported\n');
    },
    5 * minutes,
  );

  describe('in a bundle', () => {
    const esbuild = join(tools, '@esbuild/linux-x64/bin/esbuild');
    const webpack = `
      const [, , out, external] = process.argv;
      const { basename, dirname } = require('node:path');
      const esm = out.endsWith('.mjs');
      const library = { type: esm ? 'module' : 'commonjs2' };
      const externals = external === 'outside' ? { statespace: \`\${esm ? 'module' : 'commonjs'} statespace\` } : {};
      const output = { path: dirname(out), filename: basename(out), library, module: esm };
      const options = { mode: 'none', target: 'node', context: __dirname, entry: './bundled.mjs', output, externals };
      require(process.env.WEBPACK)({ ...options, experiments: { outputModule: esm } }, (error, stats) => {
        if (!error && !stats.hasErrors()) return;
        console.error(error ?? stats.toString());
        process.exitCode = 1;
      });`;
    let app: string;
    beforeAll(async () => {
      app = await install('npm');
      const use = USE.replace("const { Tensor, ops, systemInfo } = require('statespace')", '');
      const told = use.replace(/\nconsole.*/, '\ntry {$& } catch (e) { console.log(e.name, e.code, e.message); }');
      writeFileSync(join(app, 'bundled.mjs'), `import { Tensor, ops, systemInfo } from 'statespace'${told}`);
      writeFileSync(join(app, 'webpack.cjs'), webpack);
    }, 5 * minutes);

    /** What the program says from a place where nothing but `outside` gives it the package. */
    async function bundled(bundler: string, format: 'cjs' | 'esm', external: 'outside' | 'inside') {
      const folder = mkdtempSync(join(external === 'outside' ? app : work, 'bundle-'));
      const out = join(folder, format === 'esm' ? 'out.mjs' : 'out.cjs');
      const at = { cwd: app, env: { ...env, WEBPACK: join(tools, 'webpack') } };
      const flags = ['--bundle', '--platform=node', '--log-level=error', `--format=${format}`, `--outfile=${out}`];
      if (external === 'outside') flags.push('--external:statespace');
      if (bundler === 'esbuild') await succeed(esbuild, ['bundled.mjs', ...flags], at);
      else await succeed(node, ['webpack.cjs', out, external], at);
      return run(node, [out], { cwd: folder, env });
    }

    const both = ['esbuild', 'webpack'].flatMap((b) => (['cjs', 'esm'] as const).map((f) => [b, f] as const));
    it.each(both)(
      'of %s, %s, that leaves it out it runs',
      async (bundler, format) => {
        expect(await bundled(bundler, format, 'outside')).toMatchObject({ code: 0, stdout: '2 0.1.0\n' });
      },
      5 * minutes,
    );

    // esbuild's ESM has no require at all, and says so itself when it is imported.
    it.each(both.filter(([b, f]) => b === 'webpack' || f === 'cjs'))(
      'of %s, %s, that takes it in: the error says to leave it out',
      async (bundler, format) => {
        const { code, stdout } = await bundled(bundler, format, 'inside');
        expect(code).toBe(0);
        expect(stdout).toMatch(/^StatespaceError ERR_DEVICE .*\n[\s\S]*declare statespace external/);
      },
      5 * minutes,
    );
  });
});
