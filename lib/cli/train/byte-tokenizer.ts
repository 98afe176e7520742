/** A tokenizer.json whose tokens are the bytes of UTF-8: ids 0 to 255. */

/** GPT-2's alphabet: a printable character for every byte. */
function alphabet(): string[] {
  const printable = (b: number) => (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255);
  let next = 256;
  return Array.from({ length: 256 }, (_, b) => String.fromCodePoint(printable(b) ? b : next++));
}

const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: false, use_regex: false };

export function byteTokenizer(): Record<string, object> {
  return {
    'tokenizer.json': {
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: [],
      normalizer: null,
      pre_tokenizer: byteLevel,
      post_processor: null,
      decoder: byteLevel,
      model: {
        type: 'BPE',
        dropout: null,
        unk_token: null,
        continuing_subword_prefix: null,
        end_of_word_suffix: null,
        fuse_unk: false,
        byte_fallback: false,
        vocab: Object.fromEntries(alphabet().map((c, b) => [c, b])),
        merges: [],
      },
    },
    'tokenizer_config.json': { tokenizer_class: 'PreTrainedTokenizerFast', clean_up_tokenization_spaces: false },
  };
}

/** The ids of a text. */
export const encodeBytes = (text: string): Int32Array => Int32Array.from(Buffer.from(text, 'utf8'));
