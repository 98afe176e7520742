import { join } from 'node:path';
import { lazyFiles } from '../lazy.js';
import { ChatTemplates } from './chat-template.js';

const lazyText = (): typeof import('../checkpoint/files.js') => require('../checkpoint/files.js');

/** Of one template file: the largest published one has 40 KB. */
const maxBytes = 4 * 1024 * 1024;

/**
 * A folder's chat templates: chat_template.jinja (and additional_chat_templates/NAME.jinja), or else what
 * tokenizer_config.json holds, one or several by name. Special tokens are the tokenizer's: all that its config names
 * `…_token`, as transformers 5 takes them.
 */
export async function readChatTemplates(
  folder: string,
  config: Readonly<Record<string, unknown>>,
): Promise<ChatTemplates> {
  const templates = templatesOf(config.chat_template);
  const main = await readTemplate(join(folder, 'chat_template.jinja'));
  if (main !== undefined) templates.set('default', main);
  for (const file of await namesIn(join(folder, 'additional_chat_templates'))) {
    const text = await readTemplate(join(folder, 'additional_chat_templates', file));
    if (text !== undefined) templates.set(file.slice(0, -'.jinja'.length), text);
  }
  return new ChatTemplates(templates, specialTokens(config));
}

/** tokenizer_config.json's chat_template: a text, or [{ name, template }]. */
function templatesOf(value: unknown): Map<string, string> {
  const named = Array.isArray(value) ? value : [{ name: 'default', template: value }];
  const texts = named.filter((t) => typeof t?.template === 'string' && typeof t?.name === 'string');
  return new Map(texts.map(({ name, template }) => [name, template]));
}

function specialTokens(config: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const text = (token: unknown): unknown =>
    typeof token === 'object' && token !== null && 'content' in token ? (token as { content: unknown }).content : token;
  const tokens: Record<string, unknown> = {};
  const extra = config.extra_special_tokens;
  const named = typeof extra === 'object' && extra !== null && !Array.isArray(extra) ? extra : {};
  for (const [name, token] of Object.entries({ ...config, ...named })) {
    const known = name.endsWith('_token') || name in named;
    if (known && typeof text(token) === 'string') tokens[name] = text(token);
  }
  const additional = config.additional_special_tokens;
  if (Array.isArray(additional)) tokens.additional_special_tokens = additional.map(text);
  return tokens;
}

async function readTemplate(path: string): Promise<string | undefined> {
  const { fileExists, readText } = lazyText();
  return (await fileExists(path)) ? readText(path, maxBytes) : undefined;
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return (await lazyFiles().readdir(folder)).filter((name) => name.endsWith('.jinja')).sort();
  } catch {
    return []; // most folders have none
  }
}
