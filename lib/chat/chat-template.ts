import { mismatch, StatespaceError, show } from '../errors.js';
import { misspelt } from '../options.js';
import { renderTemplate } from './jinja/template.js';

/** How a conversation becomes a prompt; other keys are variables of the template (enable_thinking, documents, …). */
export interface ChatTemplateOptions {
  /** Functions that the model may call, as JSON schemas. Default: none. */
  tools?: unknown[] | undefined;
  /** Ends with what opens the assistant's turn. Default: false. */
  addGenerationPrompt?: boolean | undefined;
  /** The last message is left open, to be continued; a text names the field to continue. Default: false. */
  continueFinalMessage?: boolean | string | undefined;
  /** A template, or the name of one of the folder's. Default: `tool_use` where tools are given and it exists, else `default`. */
  template?: string | undefined;
  [variable: string]: unknown;
}

const OPTIONS = ['tools', 'addGenerationPrompt', 'continueFinalMessage', 'template', 'documents'];
/** What Python's callers write; as variables of the template they would be overwritten, or read by nothing. */
const PYTHON: Readonly<Record<string, string>> = {
  add_generation_prompt: 'addGenerationPrompt',
  continue_final_message: 'continueFinalMessage',
  chat_template: 'template',
};

/** Stands behind the text to continue while the template runs, as in transformers, and is cut off with what follows. */
const TAG = 'CONTINUE_FINAL_MESSAGE_TAG ';

/** The chat templates of a model, and the special tokens that they name. */
export class ChatTemplates {
  constructor(
    /** By name; a single one is `default`. */
    readonly templates: ReadonlyMap<string, string>,
    /** bos_token, eos_token … by their names. */
    private readonly specialTokens: Readonly<Record<string, unknown>> = {},
  ) {}

  /**
   * The prompt of a conversation, as transformers' apply_chat_template(tokenize=False) renders it.
   *
   * @param given `{ role, content, … }` each; at least one.
   * @throws StatespaceError ERR_ARGUMENT for what the template refuses (raise_exception), options that contradict each
   *   other, or where there is no template.
   */
  apply(given: readonly object[], options: ChatTemplateOptions = {}): string {
    if (!Array.isArray(given) || given.length === 0)
      throw mismatch('ERR_ARGUMENT', 'applyChatTemplate: messages', 'at least one message', show(given));
    const messages = given as readonly Record<string, unknown>[];
    const bad = messages.findIndex((m) => typeof m !== 'object' || m === null || Array.isArray(m));
    if (bad >= 0)
      throw mismatch(
        'ERR_ARGUMENT',
        `applyChatTemplate: messages[${bad}]`,
        '{ role, content, … }',
        show(messages[bad]),
      );
    if (typeof options !== 'object' || options === null)
      throw mismatch('ERR_ARGUMENT', 'applyChatTemplate: options', 'an object', show(options));
    const { tools, addGenerationPrompt = false, continueFinalMessage = false, template, ...variables } = options;
    checkFlags(addGenerationPrompt, continueFinalMessage);
    if (tools !== undefined && tools !== null && !Array.isArray(tools))
      throw mismatch('ERR_ARGUMENT', 'applyChatTemplate: tools', 'an array of JSON schemas', show(tools));
    if (continueFinalMessage && addGenerationPrompt) {
      throw new StatespaceError(
        'ERR_ARGUMENT',
        'applyChatTemplate: continueFinalMessage continues the last message, addGenerationPrompt begins another: give one',
      );
    }
    const source = this.choose(template, tools ?? undefined);
    checkVariables(variables, source);
    const render = (chat: readonly unknown[]): string =>
      renderTemplate(source, {
        ...this.specialTokens,
        ...variables,
        messages: chat,
        tools: tools ?? null,
        documents: variables.documents ?? null,
        add_generation_prompt: addGenerationPrompt,
      });
    if (!continueFinalMessage) return render(messages);
    const field = continueFinalMessage === true ? 'content' : continueFinalMessage;
    return continued(source, messages, field, render);
  }

  private choose(asked: string | undefined, tools: unknown[] | undefined): string {
    const named = this.templates;
    if (asked !== undefined) {
      if (typeof asked !== 'string')
        throw mismatch('ERR_ARGUMENT', 'applyChatTemplate: template', 'a text', show(asked));
      return named.get(asked) ?? asked;
    }
    const chosen = (tools && named.get('tool_use')) ?? named.get('default');
    if (chosen !== undefined) return chosen;
    throw new StatespaceError(
      'ERR_ARGUMENT',
      named.size > 0
        ? `applyChatTemplate: the model has templates ${[...named.keys()].sort().join(', ')} and none is the default: name one`
        : 'applyChatTemplate: the model has no chat template; give one as `template`',
    );
  }
}

function checkFlags(addGenerationPrompt: unknown, continueFinalMessage: unknown): void {
  if (typeof addGenerationPrompt !== 'boolean')
    throw mismatch(
      'ERR_ARGUMENT',
      'applyChatTemplate: addGenerationPrompt',
      'true or false',
      show(addGenerationPrompt),
    );
  if (typeof continueFinalMessage !== 'boolean' && typeof continueFinalMessage !== 'string')
    throw mismatch(
      'ERR_ARGUMENT',
      'applyChatTemplate: continueFinalMessage',
      'true, false or the name of a field',
      show(continueFinalMessage),
    );
}

/** Any name is a variable; one that the template does not speak of, and that is nearly an option, was meant as that. */
function checkVariables(variables: Readonly<Record<string, unknown>>, source: string): void {
  for (const [name, value] of Object.entries(variables)) {
    if (value === undefined || OPTIONS.includes(name)) continue;
    const meant =
      (Object.hasOwn(PYTHON, name) ? PYTHON[name] : undefined) ??
      (source.includes(name) ? undefined : misspelt(name, OPTIONS));
    if (meant !== undefined)
      throw new StatespaceError(
        'ERR_ARGUMENT',
        `applyChatTemplate: unknown option ${show(name)}; did you mean '${meant}'?`,
      );
  }
}

function continued(
  source: string,
  messages: readonly Record<string, unknown>[],
  field: string,
  render: (chat: readonly unknown[]) => string,
): string {
  const refuse = (why: string) =>
    new StatespaceError('ERR_ARGUMENT', `applyChatTemplate: continueFinalMessage: ${why}`);
  const last = messages[messages.length - 1]!;
  const given = last[field];
  if (given === undefined || given === null) throw refuse(`the last message has no ${field} to continue`);
  if (!source.includes(field)) throw refuse(`the template reads no ${field}`);
  const { text, tagged } = tag(given);
  if (text === undefined) throw refuse('the last message holds no text');
  const rendered = render([...messages.slice(0, -1), { ...last, [field]: tagged }]);
  const at = rendered.lastIndexOf(TAG.trim());
  if (at < 0 || !rendered.includes(text.trim())) throw refuse('the template leaves out what should be continued');
  const whole = rendered.startsWith(TAG, at);
  return whole ? rendered.slice(0, at) : rendered.slice(0, at).trimEnd();
}

/** A message's text, or the last text among its parts, with the tag behind it. */
function tag(content: unknown): { text?: string; tagged?: unknown } {
  if (typeof content === 'string') return { text: content, tagged: content + TAG };
  if (!Array.isArray(content)) return {};
  const at = content.findLastIndex((part) => typeof part === 'object' && part !== null && 'text' in part);
  const text = content[at]?.text;
  if (typeof text !== 'string') return {};
  return { text, tagged: content.map((part, i) => (i === at ? { ...part, text: text + TAG } : part)) };
}
