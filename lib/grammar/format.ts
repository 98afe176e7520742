import { mismatch, StatespaceError, show } from '../errors.js';
import { checkKnown } from '../options.js';
import { Rules } from './ebnf.js';
import { asText, regexGrammar } from './regex.js';
import { schemaGrammar } from './schema.js';

/** What a generated text must be. */
export type ResponseFormat =
  | { type: 'json_object' }
  | { type: 'json_schema'; schema: object }
  | { type: 'regex'; pattern: string }
  | { type: 'grammar'; ebnf: string };

/** What each type has besides. */
const KEYS: Readonly<Record<ResponseFormat['type'], readonly string[]>> = {
  json_object: [],
  json_schema: ['schema'],
  regex: ['pattern'],
  grammar: ['ebnf'],
};

// Longer ones take the grammar engine longer than anybody waits.
const MOST_CHARACTERS = 1 << 20;

/** The format as a grammar whose rule is `root`; ERR_ARGUMENT for what is none. */
export function grammarOf(format: ResponseFormat): string {
  try {
    return written(format);
  } catch (error) {
    // Whose message says how deep a stack is, which is nobody's fault but that of who nests so deep.
    if (!(error instanceof RangeError)) throw error;
    throw new StatespaceError('ERR_ARGUMENT', 'generate: responseFormat: it is nested too deeply');
  }
}

function written(format: ResponseFormat): string {
  if (typeof format !== 'object' || format === null)
    throw mismatch('ERR_ARGUMENT', 'generate: responseFormat', 'an object with a type', show(format));
  const text = (key: 'pattern' | 'ebnf', value: unknown): string => {
    if (typeof value !== 'string' || value === '')
      throw mismatch('ERR_ARGUMENT', `generate: responseFormat: ${key}`, 'a text', show(value));
    return sized(value);
  };
  const keys = KEYS[format.type];
  if (keys && Object.hasOwn(KEYS, format.type)) checkKnown('generate: responseFormat', format, ['type', ...keys]);
  switch (format.type) {
    case 'json_object':
      return schemaGrammar({ type: 'object' });
    case 'json_schema':
      if (typeof format.schema !== 'object' || format.schema === null)
        throw mismatch('ERR_ARGUMENT', 'generate: responseFormat: schema', 'a JSON schema', show(format.schema));
      return sized(schemaGrammar(format.schema));
    case 'regex':
      return new Rules().grammar(
        sized(regexGrammar(text('pattern', format.pattern), asText, 'generate: responseFormat')),
      );
    case 'grammar':
      return text('ebnf', format.ebnf);
  }
  throw mismatch(
    'ERR_ARGUMENT',
    'generate: responseFormat: type',
    'json_object, json_schema, regex or grammar',
    show((format as { type?: unknown }).type),
  );
}

function sized(text: string): string {
  if (text.length > MOST_CHARACTERS)
    throw new StatespaceError(
      'ERR_ARGUMENT',
      `generate: responseFormat: its grammar has ${text.length} characters, more than ${MOST_CHARACTERS}`,
    );
  return text;
}
