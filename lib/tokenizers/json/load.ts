import type { Turns } from '../../turns.js';
import { checkDefinition } from './check.js';
import { type Model, modelOf } from './models.js';
import { withNamedTokens } from './named-tokens.js';
import { patterns } from './patterns.js';
import { type Definition, JsonTokenizer } from './tokenizer.js';

/**
 * A tokenizer.json and tokenizer_config.json, parsed, as a tokenizer. Throws Errors that name what is unknown or wrong.
 * @public
 */
export async function readDefinition(
  json: object,
  config: Readonly<Record<string, unknown>>,
  turns: Turns,
): Promise<{ definition: Definition; model: Model; tokenizer: JsonTokenizer }> {
  const definition = withNamedTokens(await checkDefinition(json, turns), config);
  const model = await modelOf(definition.model, turns);
  return { definition, model, tokenizer: new JsonTokenizer(definition, model, await patterns()) };
}
