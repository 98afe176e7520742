import { StatespaceError } from '../errors.js';

/** Small files that a model folder may hold. */
const SMALL = new Set([
  'config.json',
  'generation_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'chat_template.jinja',
  'adapter_config.json',
]);
const TEMPLATES = /^additional_chat_templates\/[^/]+\.jinja$/;

/** The weights of a folder, best first: each a test for its files. */
const WEIGHTS: { one: string; shards: RegExp }[] = [
  { one: 'model.safetensors', shards: /^model-\d+-of-\d+\.safetensors$/ },
  { one: 'adapter_model.safetensors', shards: /(?!)/ },
  { one: 'pytorch_model.bin', shards: /^pytorch_model-\d+-of-\d+\.bin$/ },
];
const SPLIT = /-\d{5}-of-\d{5}\.gguf$/;

/**
 * Of a repository's files those that loadModel reads: configs, tokenizer, templates, and one form of the weights.
 * `file`: one GGUF (of a split one all parts). ERR_CHECKPOINT where there are no weights, or several GGUF and none named.
 */
export function neededFiles(repo: string, files: readonly string[], file?: string): string[] {
  if (file !== undefined) return ggufParts(repo, files, file);
  // What tokenizer.json says, the others say once more.
  const isOther = (f: string) => f === 'tokenizer.model' || /^rwkv_vocab[^/]*\.txt$/.test(f);
  const hasJson = files.includes('tokenizer.json');
  const small = files.filter((f) => SMALL.has(f) || (!hasJson && isOther(f)) || TEMPLATES.test(f));
  for (const { one, shards } of WEIGHTS) {
    if (files.includes(one)) return [...small, one];
    const index = `${one}.index.json`;
    const parts = files.filter((f) => shards.test(f));
    if (files.includes(index) && parts.length > 0) return [...small, index, ...parts];
  }
  const pth = files.filter((f) => /^[^/]+\.pth$/.test(f));
  if (pth.length === 1) return [...small, pth[0]!];
  const gguf = files.filter((f) => f.endsWith('.gguf'));
  const first = gguf.filter((f) => !SPLIT.test(f) || f.includes('-00001-of-'));
  if (first.length === 1) return ggufParts(repo, files, first[0]!);
  throw new StatespaceError(
    'ERR_CHECKPOINT',
    first.length > 1
      ? `hf:${repo}: holds ${first.length} GGUF files; name one: ${first
          .slice(0, 8)
          .map((f) => `hf:${repo}/${f}`)
          .join(', ')}`
      : `hf:${repo}: holds no weights that can be loaded (safetensors, PyTorch or GGUF)`,
  );
}

function ggufParts(repo: string, files: readonly string[], file: string): string[] {
  const stem = SPLIT.test(file) ? file.replace(SPLIT, '') : undefined;
  const parts = files.filter(
    (f) => f === file || (stem !== undefined && SPLIT.test(f) && f.replace(SPLIT, '') === stem),
  );
  if (parts.length > 0) return parts.sort();
  throw new StatespaceError('ERR_CHECKPOINT', `hf:${repo}: there is no file ${file}`);
}
