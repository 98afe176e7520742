/** Code blocks of the documentation, and what they need to run: model folders under the names that they use. */
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { quantize } from 'statespace';

export const ROOT = resolve(__dirname, '../..');

export interface Block {
  file: string;
  /** Of its first line of code. */
  line: number;
  language: string;
  code: string;
}

/** README and everything below docs, generated pages left out. */
export function documents(): string[] {
  const docs = readdirSync(join(ROOT, 'docs'), { withFileTypes: true });
  const pages = docs
    .filter((entry) => entry.isFile() && entry.name.endsWith('.md'))
    .map((entry) => `docs/${entry.name}`);
  return ['README.md', 'CONTRIBUTING.md', ...pages];
}

export function blocksOf(file: string): Block[] {
  const blocks: Block[] = [];
  let open: Block | undefined;
  for (const [i, line] of readFileSync(join(ROOT, file), 'utf8').split('\n').entries()) {
    const fence = /^```(\w*)/.exec(line);
    if (fence && open) {
      blocks.push(open);
      open = undefined;
    } else if (fence) {
      open = { file, line: i + 2, language: fence[1]!, code: '' };
    } else if (open) {
      open.code += `${line}\n`;
    }
  }
  if (open) throw new Error(`${file}: the code block at line ${open.line} does not end`);
  return blocks;
}

/** Where the links of a page lead to that stay within the project; its code blocks left out. */
export function linksOf(text: string): string[] {
  const prose = text.replaceAll(/^```[\s\S]*?^```/gm, '');
  return [...prose.matchAll(/\]\(([^)\s]+)[^)]*\)/g)].map((match) => match[1]!).filter((to) => !to.includes('://'));
}

/** The anchors of a page's headings, as GitHub and npm make them. */
export function anchorsOf(text: string): string[] {
  const headings = text.replaceAll(/^```[\s\S]*?^```/gm, '').matchAll(/^#+ (.+)$/gm);
  return [...headings].map(([, title]) =>
    title!
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
      .replaceAll(' ', '-'),
  );
}

/** A folder in which `import 'statespace'` finds this build, with the models that the documents speak of. */
export async function playground(): Promise<string> {
  mkdirSync(join(ROOT, 'build'), { recursive: true });
  const folder = mkdtempSync(join(ROOT, 'build', 'docs-'));
  mkdirSync(join(folder, 'node_modules'));
  symlinkSync(ROOT, join(folder, 'node_modules', 'statespace'), 'dir');
  symlinkSync(join(ROOT, 'node_modules', '@types'), join(folder, 'node_modules', '@types'), 'dir');
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
  const model = join(ROOT, 'test', 'golden', 'models', 'mamba_hf');
  for (const name of ['mamba-130m', 'ids-only']) cpSync(model, join(folder, name), { recursive: true });
  const { vocab_size } = JSON.parse(readFileSync(join(model, 'config.json'), 'utf8')) as { vocab_size: number };
  writeFileSync(join(folder, 'mamba-130m', 'tokenizer.json'), JSON.stringify(wordTokenizer(vocab_size)));
  for (const [file, type] of Object.entries({ 'mamba-130m.q8_0.gguf': 'q8_0', 'granite-4.q4_K_M.gguf': 'q4_K_M' }))
    await quantize(join(folder, 'mamba-130m'), join(folder, file), { type });
  writeFileSync(join(folder, 'wiki.txt'), 'State space models space models\n'.repeat(20));
  return folder;
}

/** One token a word, as small as a tokenizer.json can be. */
function wordTokenizer(size: number): unknown {
  const words = ['[UNK]', 'State', 'space', 'models', ...'{}":,', 'city', 'Oslo', 'Lima']; // and what JSON needs
  const vocab = Object.fromEntries(Array.from({ length: size }, (_, i) => [words[i] ?? `w${i}`, i]));
  return {
    version: '1.0',
    added_tokens: [],
    normalizer: null,
    pre_tokenizer: { type: 'WhitespaceSplit' },
    post_processor: null,
    decoder: { type: 'Fuse' },
    model: { type: 'WordLevel', vocab, unk_token: '[UNK]' },
  };
}
