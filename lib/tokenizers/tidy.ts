/** What `clean_up_tokenization_spaces` asks for, in the order in which transformers replaces. */
const REPLACED = [
  [' .', '.'],
  [' ?', '?'],
  [' !', '!'],
  [' ,', ','],
  [" ' ", "'"],
  [" n't", "n't"],
  [" 'm", "'m"],
  [" 's", "'s"],
  [" 've", "'ve"],
  [" 're", "'re"],
] as const;

/** Beginnings of what is replaced. */
const BEGUN = /(?: | '| n| n'| 'v| 'r)$/;

export function tidied(text: string): string {
  return REPLACED.reduce((t, [from, to]) => t.replaceAll(from, to), text);
}

/** How much of a text is tidied for good: what follows cannot be replaced together with any of it. */
export function safeLength(text: string): number {
  let length = text.length;
  // What has begun may itself end what began before it: the second space around a quotation mark.
  for (let begun = BEGUN.exec(text); begun; begun = BEGUN.exec(text.slice(0, length))) length = begun.index;
  return length;
}
