/** Every code block of README and docs: TypeScript is checked by the compiler and run, commands are run. */
import { spawn } from 'node:child_process';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { anchorsOf, type Block, blocksOf, documents, linksOf, playground, ROOT } from '../support/markdown.js';

const all = documents().flatMap(blocksOf);
const code = all.filter((block) => block.language === 'ts');
// Without a language: what would need a Redis beside it. test/server/scaling.test.ts does what it says.
const compiled = [...code, ...all.filter((block) => !block.language && block.code.startsWith('import '))];
const shell = all.filter((block) => block.language === 'sh');
const name = (block: Block) => `${block.file}:${block.line}`;
const fileOf = (block: Block) => `${block.file.replaceAll(/\W/g, '_')}_${block.line}.ts`;
let folder: string;

beforeAll(async () => {
  folder = await playground();
  for (const block of compiled) writeFileSync(join(folder, fileOf(block)), block.code);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function run(command: string, args: readonly string[]): Promise<{ code: number | null; output: string }> {
  return new Promise((done, fail) => {
    const child = spawn(command, args, { cwd: folder, env: { ...process.env, NO_COLOR: '1', FORCE_COLOR: '' } });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        output += text;
      });
    }
    child.on('error', fail);
    child.on('close', (code) => done({ code, output }));
  });
}

describe('code blocks', () => {
  it('have a language that is run, or none', () => {
    expect([...new Set(all.map((block) => block.language))].filter((l) => !['', 'ts', 'sh'].includes(l))).toEqual([]);
    expect(code.length).toBeGreaterThan(15);
    expect(compiled.map(name).filter((n) => !code.map(name).includes(n))).toEqual([
      expect.stringMatching(/^docs\/scaling/),
    ]);
    expect(shell.length).toBeGreaterThan(5);
  });

  it('are TypeScript that compiles', () => {
    const options: ts.CompilerOptions = {
      target: ts.ScriptTarget.ES2023,
      lib: ['lib.es2023.d.ts', 'lib.esnext.disposable.d.ts'],
      module: ts.ModuleKind.NodeNext,
      moduleResolution: ts.ModuleResolutionKind.NodeNext,
      types: ['node'],
      strict: true,
      noUncheckedIndexedAccess: true,
      skipLibCheck: true,
      noEmit: true,
    };
    const program = ts.createProgram(
      compiled.map((block) => join(folder, fileOf(block))),
      options,
    );
    const complaints = ts.getPreEmitDiagnostics(program).map((d) => {
      const at = d.file && d.start !== undefined ? d.file.getLineAndCharacterOfPosition(d.start).line : 0;
      const block = compiled.find((b) => d.file?.fileName.endsWith(fileOf(b)));
      const where = block ? `${block.file}:${block.line + at}` : (d.file?.fileName ?? '');
      return `${where}: ${ts.flattenDiagnosticMessageText(d.messageText, '\n')}`;
    });
    expect(complaints).toEqual([]);
  });

  it.each(code.map((block) => [name(block), block] as const))('%s runs', async (_, block) => {
    const script = fileOf(block).replace(/\.ts$/, '.mjs');
    // `await using` is newer than the oldest Node here: the compiler writes it out.
    const { outputText } = ts.transpileModule(block.code, {
      compilerOptions: { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext },
    });
    writeFileSync(join(folder, script), outputText);
    const { code, output } = await run(process.execPath, [script]);
    expect(output).not.toMatch(/^\w*Error\b/m);
    expect(code, output).toBe(0);
  });
});

// Commands measure for minutes by default; later options win.
const SHORT: [RegExp, string[]][] = [
  [/^bench scaling/, ['--lengths', '64,128', '--reps', '3', '--budget', '20']],
  [
    /^bench models/,
    ['--parameters', '300K', '--d-model', '64', '--vocabulary', '200', '--lengths', '64', '--reps', '1'],
  ],
  [/^bench models(?!.*--ratio)/, ['--families', 'mamba,llama']], // all of them: test/cli/installed.test.ts
  [/^bench kernels/, ['--shape', 'scan:L=64,D=32', '--shape', 'linear:rows=2,in=32,out=32']],
  [
    /^bench recall/,
    ['--models', 'mamba', '--tasks', 'mqar', '--parameters', '20K', '--d-model', '32', '--steps', '2', '--asked', '4'],
  ],
  [/^bench event-loop/, ['--parameters', '300K', '--d-model', '64', '--tokens', '64']],
];

describe('commands', () => {
  const lines = shell.flatMap((block) =>
    block.code
      .split('\n')
      .flatMap((line) => line.replace(/\s+#.*/, '').split(' && '))
      .filter(Boolean)
      .map((line) => [name(block), line] as const),
  );
  const own = lines.filter(([, line]) => line.startsWith('npx statespace ') && !line.includes(' bench peers'));

  it.each(own)('%s: %s', async (_, line) => {
    const words = line.split(/\s+/).slice(2);
    const short = SHORT.filter(([pattern]) => pattern.test(words.join(' '))).flatMap(([, options]) => options);
    const { code, output } = await run(process.execPath, [join(ROOT, 'dist/lib/cli/main.js'), ...words, ...short]);
    expect(code, output).toBe(0);
  });

  it.each(lines.filter((line) => !own.includes(line as (typeof own)[0])))('%s: %s exists', (_, line) => {
    const { scripts } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
      scripts: Record<string, string>;
    };
    const [command, verb, script] = line.split(/\s+/) as [string, string, string];
    if (command === 'npm' && verb === 'run') expect(scripts).toHaveProperty([script]);
    else if (command === 'npm') expect(['ci', 'test', 'install', 'pack']).toContain(verb);
    else if (command === 'npx') expect(['statespace', 'vitest']).toContain(verb);
    else if (command.includes('/')) expect(existsSync(join(ROOT, command))).toBe(true);
    else expect(['cmake', 'git']).toContain(command);
  });
});

describe('links', () => {
  it.each(documents())('of %s lead somewhere', (file) => {
    const text = readFileSync(join(ROOT, file), 'utf8');
    const dead = linksOf(text).filter((to) => {
      const [path, anchor] = to.split('#') as [string, string?];
      const target = path ? join(ROOT, file, '..', path) : join(ROOT, file);
      return !existsSync(target) || (anchor && !anchorsOf(readFileSync(target, 'utf8')).includes(anchor));
    });
    expect(dead).toEqual([]);
  });
});
