/**
 * The package as npm would publish it, installed without scripts into an empty folder, in an environment without a
 * compiler or CMake. `npm test` packs the addon that it built; check:full packs prebuilds/ and runs several Nodes, whose
 * binaries STATESPACE_NODES lists.
 */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join, posix, resolve } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { linksOf } from '../support/markdown.js';
import { run, succeed } from '../support/process.js';
import { long } from '../support/scale.js';
import { npm, packPackage } from '../support/tarball.js';

const root = resolve(__dirname, '../..');
const target = `${process.platform}-${process.arch}`;
const nodes = [process.execPath, ...(process.env.STATESPACE_NODES ?? '').split(delimiter).filter(Boolean)];
const minutes = 60_000;

const work = mkdtempSync(join(tmpdir(), 'statespace-package-'));
const app = join(work, 'app');
const path = join(work, 'bin'); // node and nothing else: no compiler, no cmake, no make
let tarball: string;

beforeAll(async () => {
  tarball = await packPackage(work, long);
  mkdirSync(app);
  mkdirSync(path);
  symlinkSync(process.execPath, join(path, 'node'));
  writeFileSync(join(app, 'package.json'), '{ "name": "app", "private": true }');
  await succeed(
    process.execPath,
    [npm, 'install', '--ignore-scripts', '--prefer-offline', '--no-audit', '--no-fund', tarball],
    { cwd: app, env: { ...process.env, PATH: path } },
  );
}, 5 * minutes);

/** Options that may be absent may be undefined as well: of every function, op, layer and method. */
const EXACT = `
import * as all from 'statespace';
type Ends = string | ArrayLike<unknown> | ArrayBufferView | ReadonlyMap<unknown, unknown> | ((...args: never[]) => unknown) | all.Model;
/** Keys that may be left out but not given as undefined. */
type Strict<T> = T extends Ends | all.Value | all.Graph | all.Weights ? never : T extends object ? {
  [K in keyof T]-?: Record<never, never> extends Pick<T, K> ? ({ [P in K]: undefined } extends Pick<T, K> ? never : K) : never;
}[keyof T] : never;
type Of<F> = F extends (...args: infer A) => unknown ? Strict<NonNullable<A[number]>> : never;
type In<M> = { [K in keyof M]-?: Of<NonNullable<M[K]>> }[keyof M];
const { layers, ops, Graph, Tensor, Weights, registerModel, ...functions } = all;
const none = <M,>(..._: [In<M>] extends [never] ? [] : [In<M>]) => {};
none<typeof ops>();
none<typeof layers>();
none<typeof functions>();
none<Omit<all.Model, 'open'>>();
none<all.Session>();
none<Omit<all.Engine, 'observe'>>();
none<all.Trainer>();
none<all.Jobs>();
none<NonNullable<all.Model['tokenizer']>>();
export const absent: all.GenerateOptions = { prompt: undefined, topK: undefined, stop: undefined, signal: undefined };
export const reading = (model: all.Model): { readonly tokenizer?: { encode(text: string): Int32Array } } => model;
// @ts-expect-error still no number
export const wrong: all.GenerateOptions = { topK: 'many' };
`;

const inApp = (node: string, ...args: string[]) =>
  run(node, args, { cwd: app, env: { HOME: process.env.HOME ?? work, PATH: path } });

describe('the tarball', () => {
  it('is under 14 MB and holds what is needed, no more', async () => {
    expect(statSync(tarball).size).toBeLessThan(14e6);
    const files = (await succeed('tar', ['-tzf', tarball])).trim().split('\n');
    const wanted = ['README.md', 'LICENSE', 'CHANGELOG.md', 'CMakeLists.txt', 'native/addon.cc'];
    wanted.push('dist/lib/index.js', 'dist/lib/index.d.ts', 'scripts/build-native.cjs', 'native/exports.map');
    wanted.push('models/austen/model.safetensors', 'models/austen/tokenizer.json');
    wanted.push(`prebuilds/${target}/statespace.glibc.node`);
    if (long) wanted.push('prebuilds/linux-arm64/statespace.glibc.node', 'prebuilds/linux-x64/statespace.glibc.node');
    expect(files).toEqual(expect.arrayContaining(wanted.map((name) => `package/${name}`)));
    expect(
      files.filter((name) =>
        // A binding.gyp makes other managers than npm run node-gyp, whatever package.json says.
        /\/tests?\/|\.test\.|golden|tsbuildinfo|node_modules|package\/build|\.o$|package\/\.|\/docs\/api|\.gyp$/.test(
          name,
        ),
      ),
    ).toEqual([]);
  });

  it('holds what its pages link to', async () => {
    const files = new Set((await succeed('tar', ['-tzf', tarball])).trim().split('\n'));
    const pages = [...files].filter((name) => /^package\/([A-Z]+|docs\/[\w-]+)\.md$/.test(name));
    expect(pages.length).toBeGreaterThan(20);
    const dead: string[] = [];
    for (const page of pages) {
      const text = await succeed('tar', ['-xzOf', tarball, page]);
      for (const target of linksOf(text))
        if (!target.startsWith('#') && !files.has(posix.join(posix.dirname(page), target.replace(/#.*/, ''))))
          dead.push(`${page}: ${target}`);
    }
    expect(dead).toEqual([]);
  });

  it('has declarations that TypeScript reads whose typed arrays have no parameter (5.4 to 5.6)', async () => {
    await succeed('tar', ['-xzf', tarball, '-C', work]);
    const folder = join(work, 'package/dist/lib');
    const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.d.ts'));
    expect(files.length).toBeGreaterThan(100);
    expect(files.filter((name) => /Array<ArrayBuffer/.test(readFileSync(join(folder, name), 'utf8')))).toEqual([]);
  });

  it('has no lifecycle script that an installation would run', async () => {
    const { scripts, gypfile } = JSON.parse(await succeed('tar', ['-xzOf', tarball, 'package/package.json'])) as {
      scripts: Record<string, string>;
      gypfile: boolean;
    };
    for (const name of ['preinstall', 'install', 'postinstall', 'prepare']) expect(scripts).not.toHaveProperty(name);
    expect(gypfile).toBe(false); // of a checkout, which has a binding.gyp
  });

  it('satisfies publint', async () => {
    const { publint } = await import('publint');
    const { formatMessage } = await import('publint/utils');
    await succeed('tar', ['-xzf', tarball, '-C', work]);
    const { messages, pkg } = await publint({ pkgDir: join(work, 'package'), pack: false, strict: true });
    expect(messages.map((m) => formatMessage(m, pkg as Record<string, unknown>))).toEqual([]);
  });

  it('has types that ESM and CommonJS resolve: are the types wrong?', async () => {
    const attw = join(root, 'node_modules/@arethetypeswrong/cli/dist/index.js');
    const { code, stdout } = await run(process.execPath, [
      attw,
      tarball,
      '--format',
      'ascii',
      '--no-emoji',
      '--no-color',
    ]);
    expect(stdout).toContain('No problems found');
    expect(code).toBe(0);
  });
});

describe(
  'the installed package',
  () => {
    const use = `
    const { y } = await ops.selectiveScan({
      u: new Tensor(new Float32Array(8).fill(1), [1, 4, 2]), delta: new Tensor(new Float32Array(8).fill(1), [1, 4, 2]),
      A: new Tensor(new Float32Array(2).fill(-1), [2, 1]), B: new Tensor(new Float32Array(4).fill(1), [1, 4, 1]),
      C: new Tensor(new Float32Array(4).fill(1), [1, 4, 1]),
    });
    const model = await createModel({ model_type: 'mamba', vocab_size: 16, hidden_size: 8, num_hidden_layers: 1,
      state_size: 4, conv_kernel: 4, expand: 2, time_step_rank: 1 }, { seed: 1 });
    const session = model.createSession();
    let tokens = 0;
    for await (const { token } of session.generate({ prompt: [1, 2, 3], maxTokens: 5 })) tokens++;
    await model.dispose();
    console.log([...y.data].map((v) => v.toFixed(4)).join(), tokens, systemInfo().version);`;
    // y_t = sum of e^-(t-s) over s <= t, for A = -1 and everything else 1.
    const sums = [1, 1.3679, 1.5032, 1.553].flatMap((v) => [v.toFixed(4), v.toFixed(4)]).join();

    it('holds no addon but its prebuilt ones', () => {
      const folder = join(app, 'node_modules/statespace');
      expect(readdirSync(folder)).not.toContain('build');
      const addons = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) =>
        name.endsWith('.node'),
      );
      expect(addons.every((name) => name.startsWith('prebuilds'))).toBe(true);
    });

    describe.each(nodes)('under %s', (node) => {
      it('is imported', async () => {
        writeFileSync(
          join(app, 'use.mjs'),
          `import { createModel, ops, systemInfo, Tensor } from 'statespace';\nimport * as all from 'statespace';
         if (!all.loadModel || !all.StatespaceError) throw new Error('names are missing');${use}`,
        );
        const { code, stdout, stderr } = await inApp(node, 'use.mjs');
        expect([code, stdout, stderr]).toEqual([0, `${sums} 5 0.1.0\n`, '']);
      });

      it('is required', async () => {
        writeFileSync(
          join(app, 'use.cjs'),
          `const { createModel, ops, systemInfo, Tensor } = require('statespace');\n(async () => {${use}})();`,
        );
        const { code, stdout, stderr } = await inApp(node, 'use.cjs');
        expect([code, stdout, stderr]).toEqual([0, `${sums} 5 0.1.0\n`, '']);
      });

      it('runs in several worker_threads at once', async () => {
        writeFileSync(
          join(app, 'workers.cjs'),
          `const { Worker } = require('node:worker_threads');
         for (let i = 0; i < 6; i++) new Worker('./use.cjs').on('exit', (code) => console.log('exit', code));`,
        );
        const { code, stdout, stderr } = await inApp(node, 'workers.cjs');
        expect([code, stderr]).toEqual([0, '']);
        const lines = stdout.trim().split('\n').sort();
        expect(lines).toEqual([...Array(6).fill(`${sums} 5 0.1.0`), ...Array(6).fill('exit 0')].sort());
      });

      it('answers as a command', async () => {
        const { code, stdout } = await inApp(node, 'node_modules/statespace/dist/lib/cli/main.js', 'info');
        expect(code).toBe(0);
        expect(stdout).toMatch(/^statespace +0\.1\.0/);
        const build = await inApp(node, 'node_modules/statespace/dist/lib/cli/main.js', 'build');
        expect(build.code).toBe(1);
        expect(build.stderr).toContain('cmake is not in PATH');
      });
    });

    it('has types that a strict program compiles against, from ESM and from CommonJS', async () => {
      const program = `import { createModel, type DType, loadModel, type Model, ops, type Session, Tensor } from 'statespace';
      const dtype: DType = 'f32';
      export async function first(folder: string): Promise<number> {
        const model: Model = await loadModel(folder, { dtype });
        const session: Session = model.createSession();
        for await (const { token, text } of session.generate({ prompt: 'a', maxTokens: 1 })) return token + (text ?? '').length;
        const { y } = await ops.linear({ x: new Tensor(new Float32Array(4), [1, 4]), weight: new Tensor(new Float32Array(8), [2, 4]) });
        // @ts-expect-error an op's result has no such name
        return (await createModel({})).parameters.total + y.nothing;
      }`;
      for (const name of ['types.mts', 'types.cts']) writeFileSync(join(app, name), program);
      writeFileSync(join(app, 'exact.mts'), EXACT);
      const tsc = join(root, 'node_modules/typescript/bin/tsc');
      const options = [
        '--noEmit',
        '--strict',
        '--target',
        'es2023',
        '--module',
        'nodenext',
        '--lib',
        'es2023,esnext.disposable',
      ];
      const typeRoots = ['--types', 'node', '--typeRoots', join(root, 'node_modules/@types')];
      await succeed(process.execPath, [tsc, ...options, ...typeRoots, 'types.mts', 'types.cts'], { cwd: app });
      // Node's own types are at odds with themselves under this option.
      const exact = ['--exactOptionalPropertyTypes', '--skipLibCheck', 'exact.mts'];
      await succeed(process.execPath, [tsc, ...options, ...typeRoots, ...exact], { cwd: app });
    });
  },
  5 * minutes,
);
