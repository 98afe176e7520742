// applyChatTemplate: where templates come from, how one is chosen, and messages that are continued.
import { describe, expect, test } from 'vitest';
import { ChatTemplates } from '../../dist/lib/chat/chat-template.js';
import { readChatTemplates } from '../../dist/lib/chat/read-templates.js';
import { scratchFolders } from '../support/checkpoint-files.js';

const folders = scratchFolders();
const chatml = `{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content | trim }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}`;
const plain = chatml.replace(' | trim', '');
const chat = (template: string) => new ChatTemplates(new Map([['default', template]]));
const hi = [{ role: 'user', content: 'Hi ' }];

test('a conversation, with and without the opening of the next turn', () => {
  expect(chat(chatml).apply(hi)).toBe('<|im_start|>user\nHi<|im_end|>\n');
  expect(chat(chatml).apply(hi, { addGenerationPrompt: true })).toBe(
    '<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n',
  );
});

describe('continueFinalMessage', () => {
  const open = [...hi, { role: 'assistant', content: 'It is ' }];
  test('cuts at the end of the message, blanks kept where the template keeps them', () => {
    expect(chat(plain).apply(open, { continueFinalMessage: true })).toMatch(/assistant\nIt is $/);
    expect(chat(chatml).apply(open, { continueFinalMessage: true })).toMatch(/assistant\nIt is$/);
  });
  test('the last text of a message in parts, which stays as it was', () => {
    const parts = [{ type: 'text', text: 'one' }, { type: 'text', text: 'two' }, { type: 'image' }];
    const template = '{% for m in messages %}{% for p in m.content %}{{ p.text }};{% endfor %}END{% endfor %}';
    expect(chat(template).apply([{ role: 'assistant', content: parts }], { continueFinalMessage: true })).toBe(
      'one;two',
    );
    expect(parts[1]).toEqual({ type: 'text', text: 'two' });
  });
  test('another field', () => {
    const template = '{{ messages[0].thinking }}!{{ messages[0].content }}';
    const message = { role: 'assistant', content: 'a', thinking: 'because' };
    expect(chat(template).apply([message], { continueFinalMessage: 'thinking' })).toBe('because');
  });
  test.each([
    ['with addGenerationPrompt', open, plain, { addGenerationPrompt: true }, /give one/],
    ['of a message without text', [{ role: 'assistant', content: null }], plain, {}, /has no content/],
    ['of parts without text', [{ role: 'a', content: [{ type: 'image' }] }], plain, {}, /holds no text/],
    ['that the template leaves out', open, '{{ messages[0].content }}', {}, /leaves out/],
    ['of a field that the template does not read', open, 'x', {}, /reads no content/],
  ])('%s is an error', (_, messages, template, options, message) => {
    expect(() => chat(template).apply(messages, { continueFinalMessage: true, ...options })).toThrow(message);
  });
});

test('tools, documents and other variables; None where they are not given', () => {
  const t = chat('{{ tools }}{{ documents }}{{ enable_thinking }}{{ tools|tojson }}');
  expect(t.apply(hi)).toBe('NoneNonenull');
  expect(t.apply(hi, { tools: [{ a: 1 }], documents: [], enable_thinking: false })).toBe(
    '[{\'a\': 1}][]False[{"a": 1}]',
  );
});

describe('the template is chosen', () => {
  const several = new ChatTemplates(
    new Map([
      ['default', 'D'],
      ['tool_use', 'T'],
      ['rag', 'R'],
    ]),
  );
  test('by name, by tools, or given whole', () => {
    expect(several.apply(hi)).toBe('D');
    expect(several.apply(hi, { tools: [] })).toBe('T');
    expect(several.apply(hi, { template: 'rag' })).toBe('R');
    expect(several.apply(hi, { template: 'own {{ messages|length }}' })).toBe('own 1');
  });
  test('none and no default are errors that say what there is', () => {
    expect(() => new ChatTemplates(new Map()).apply(hi)).toThrow(/no chat template/);
    expect(() => new ChatTemplates(new Map([['rag', 'R']])).apply(hi)).toThrow(/templates rag/);
    expect(() => several.apply([])).toThrow(/at least one message/);
    expect(() => several.apply(hi, { tools: {} as never })).toThrow(/array of JSON schemas/);
  });
});

describe('a folder', () => {
  const read = (files: Record<string, string>, config = {}) => readChatTemplates(folders.put(files), config);
  const tokens = { bos_token: '<s>', eos_token: { content: '</s>' }, extra_special_tokens: { image_token: '<img>' } };

  test('chat_template.jinja wins over the config', async () => {
    const t = await read({ 'chat_template.jinja': 'file' }, { chat_template: 'config' });
    expect(t.apply(hi)).toBe('file');
  });
  test("the config's text, or several by name", async () => {
    expect((await read({}, { chat_template: 'one' })).apply(hi)).toBe('one');
    const several = [
      { name: 'default', template: 'a' },
      { name: 'rag', template: 'b' },
    ];
    expect((await read({}, { chat_template: several })).apply(hi, { template: 'rag' })).toBe('b');
  });
  test('special tokens by name, which variables may replace', async () => {
    const t = await read(
      { 'chat_template.jinja': '{{ bos_token }}{{ eos_token }}{{ image_token }}{{ pad_token }}' },
      tokens,
    );
    expect(t.apply(hi)).toBe('<s></s><img>');
    expect(t.apply(hi, { bos_token: 'B' })).toBe('B</s><img>');
  });
});

test.each([
  [{ add_generation_prompt: true }, /unknown option "add_generation_prompt"; did you mean 'addGenerationPrompt'/],
  [{ continue_final_message: true }, /did you mean 'continueFinalMessage'/],
  [{ chat_template: 'x' }, /did you mean 'template'/],
  [{ addGenerationpromt: true }, /did you mean 'addGenerationPrompt'/],
  [{ document: [] }, /did you mean 'documents'/],
  [{ addGenerationPrompt: 'yes' }, /addGenerationPrompt: expected true or false/],
  [{ continueFinalMessage: 1 }, /continueFinalMessage: expected true, false or the name/],
])('an option that would pass in silence: %j', (options, message) => {
  const error = expect.objectContaining({ code: 'ERR_ARGUMENT', message: expect.stringMatching(message) });
  expect(() => chat(plain).apply(hi, options as never)).toThrow(error);
});

test('a variable that the template reads is one, whatever it is like', () => {
  expect(chat('{{ tool }}{{ document }}').apply(hi, { tool: 1, document: 2 })).toBe('12');
});

test.each([['hello'], [null], [[['user', 'hi']]]])('a message that is no object: %j', (message) => {
  expect(() => chat(plain).apply([...hi, message] as never)).toThrow(/messages\[1\]: expected \{ role/);
});

test('special tokens as transformers takes them: all …_token of the config', async () => {
  const config = { image_token: '<img>', eot_token: { content: '<eot>' }, add_bos_token: true };
  const folder = folders.put({ 'chat_template.jinja': '{{ image_token }}{{ eot_token }}{{ add_bos_token }}|' });
  expect((await readChatTemplates(folder, config)).apply(hi)).toBe('<img><eot>|');
});

test.each([
  ["{{ 'a'|center(2000000000) }}", /a width of at most 1000000/],
  ["{{ 'a'|indent(2000000000, true) }}", /a width of at most 1000000/],
  ['{{ [1]|tojson(indent=2000000000) }}', /a width of at most 1000000/],
  ["{{ '\\t'.expandtabs(2000000000) }}", /a width of at most 1000000/],
  ["{% set n = namespace(t='a') %}{% for i in range(60) %}{% set n.t = n.t ~ n.t %}{% endfor %}", /too long/],
])('%s is bounded, in words', (template, message) => {
  expect(() => chat(template).apply(hi)).toThrow(message);
});
