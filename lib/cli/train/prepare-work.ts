// A text as ids: by bytes, by a tokenizer that is there, or by one that is learnt of the text.
import { existsSync, statSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { tokenizerOf } from '../../models/text-of.js';
import { loadTokenizer, type TextTokenizer } from '../../models/tokenizer.js';
import { UsageError } from '../errors.js';
import { learnTokenizer } from './bpe.js';
import { byteTokenizer, encodeBytes } from './byte-tokenizer.js';
import { joinTokens, readDocuments } from './data.js';
import { type Prepared, type Question, writeFiles } from './prepare.js';

/** What text becomes ids with, and the files that make the trained model read it again. */
interface Encoding {
  encode(text: string): Int32Array;
  /** Of the text that an id stands for. */
  bytes(id: number): number;
  /** Of the tokenizer's files, or a GGUF file. */
  folder?: string | undefined;
  files?: Record<string, object>;
  vocabulary?: number;
}

const encodingBy = (tokenizer: TextTokenizer): Pick<Encoding, 'encode' | 'bytes'> => ({
  encode: (text) => tokenizer.encode(text, { addSpecialTokens: false }),
  bytes: (id) => tokenizer.tokenBytes?.(id)?.length ?? 0,
});

const BY_BYTES: Encoding = { encode: encodeBytes, bytes: () => 1, files: byteTokenizer(), vocabulary: 256 };
const TOKENIZER_FILE = /^(tokenizer\.(json|model)|rwkv_vocab.*\.txt)$/;
/** Characters by which two tokenizers are told apart. */
const SAMPLE = 4096;

async function chooseEncoding(asked: Question, documents: readonly string[]): Promise<Encoding> {
  const { vocabulary, tokenizer: named, out } = asked;
  // What a run that goes on began with, whatever the command says now.
  const before = existsSync(join(out, 'trainer.json')) ? await loadTokenizer(out) : undefined;
  if (vocabulary !== undefined) return before ? encodingBy(before) : learnt(documents, vocabulary);
  const given = named ?? asked.folder ?? 'bytes';
  if (given !== 'bytes' && !existsSync(given)) throw new UsageError(`no file or folder ${given}`);
  const isWhole = given === 'bytes' || given.toLowerCase().endsWith('.gguf') || statSync(given).isDirectory();
  const folder = given === 'bytes' ? undefined : isWhole ? given : join(given, '..');
  if (!isWhole && !TOKENIZER_FILE.test(basename(given)))
    throw new UsageError(
      `--tokenizer: expected tokenizer.json, tokenizer.model or rwkv_vocab_*.txt, their folder or a GGUF file, received ${given}`,
    );
  const tokenizer = folder === undefined ? undefined : await tokenizerOf(folder);
  if (!tokenizer && folder !== undefined && named) throw new UsageError(`${folder} has no tokenizer`);
  const chosen = tokenizer ? { ...encodingBy(tokenizer), folder } : BY_BYTES;
  if (!before) return chosen;
  const sample = (documents[0] ?? '').slice(0, SAMPLE);
  if (named && chosen.encode(sample).join() !== before.encode(sample, { addSpecialTokens: false }).join())
    throw new UsageError(`${out} holds a run with another tokenizer than ${named}; give another --out, or remove it`);
  return { ...encodingBy(before), folder: chosen.folder };
}

/** A tokenizer of the documents' own. */
async function learnt(documents: readonly string[], size: number): Promise<Encoding> {
  const files = learnTokenizer(documents, size);
  const folder = await mkdtemp(join(tmpdir(), 'statespace-tokenizer-'));
  try {
    await writeFiles(folder, files);
    const tokenizer = (await loadTokenizer(folder))!;
    const { vocab } = (files['tokenizer.json'] as { model: { vocab: Record<string, number> } }).model;
    return { ...encodingBy(tokenizer), files, vocabulary: Object.keys(vocab).length };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** @throws UsageError for what is no text, and tokenizers that are not there or not the run's. */
export async function prepared(asked: Question): Promise<Prepared> {
  const documents = await readDocuments(asked.text);
  const { encode, bytes, folder, files, vocabulary } = await chooseEncoding(asked, documents);
  const { eos_token_id: eos } = asked.config;
  const tokens = joinTokens(documents.map(encode), typeof eos === 'number' && folder !== undefined ? eos : undefined);
  const largest = tokens.reduce((a, b) => Math.max(a, b), 0);
  return { tokens, bytes: Int32Array.from({ length: largest + 1 }, (_, id) => bytes(id)), folder, files, vocabulary };
}
