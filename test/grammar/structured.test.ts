// Structured output: whatever a model that knows nothing says, its text keeps to the format, and ends where that does.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createEngine, createModel, type GenerateOptions, loadModel, type ResponseFormat } from 'statespace';
import { describe, expect, test } from 'vitest';
import { byteTokenizer } from '../../dist/lib/cli/train/byte-tokenizer.js';
import { grammarEngine } from '../../dist/lib/grammar/engine.js';
import { isPart } from '../../dist/lib/grammar/utf8.js';
import { ASCII_END, asciiModelFolder, forAllTests } from '../support/text-model.js';

const held = forAllTests(asciiModelFolder());

interface Said {
  text: string;
  tokens: number[];
  reason: string | undefined;
}

type Generate = (options: GenerateOptions & { responseFormat: ResponseFormat }) => Promise<Said>;

const collect = async (stream: AsyncIterable<{ token: number; text?: string }> & { finishReason?: string }) => {
  const said: Said = { text: '', tokens: [], reason: undefined };
  for await (const { token, text } of stream) {
    said.text += text;
    said.tokens.push(token);
  }
  said.reason = stream.finishReason;
  return said;
};

const ways: [string, Generate][] = [
  [
    'session.generate',
    async (options) => {
      await using session = held.model.createSession();
      return await collect(session.generate(options));
    },
  ],
  [
    'engine.generate',
    async (options) => {
      await using engine = createEngine(held.model);
      return await collect(engine.generate(options) as never);
    },
  ],
];

const person = {
  type: 'object',
  properties: {
    name: { type: 'string', maxLength: 8 },
    age: { type: 'integer', minimum: 0, maximum: 120 },
    tags: { type: 'array', items: { enum: ['a', 'b'] }, maxItems: 3 },
    mail: { anyOf: [{ type: 'null' }, { type: 'boolean' }] },
  },
  required: ['name', 'age', 'tags', 'mail'],
};

test.each(ways)(
  '%s: a schema of many parts, written in a thread of its own, says what a small one says',
  async (_, generate) => {
    const properties = { a: { enum: ['x', 'y'] }, n: { type: 'integer', minimum: 1, maximum: 9 } };
    const required = ['a', 'n'];
    const $defs = Object.fromEntries(
      Array.from({ length: 400 }, (_, i) => [`d${i}`, { type: 'string', maxLength: 3 + i }]),
    );
    const options = { prompt: 'Say it:', seed: 5, temperature: 1, maxTokens: 60 };
    const of = (schema: object) => generate({ ...options, responseFormat: { type: 'json_schema', schema } });
    const small = { type: 'object', properties, required };
    const said = await of({ ...small, $defs });
    expect(said.reason).not.toBe('length');
    expect(JSON.parse(said.text)).toMatchObject({ a: expect.stringMatching(/^[xy]$/) });
    expect(said).toEqual(await of(small));
    const wrong = { ...small, properties: { ...properties, z: { type: 'nothing' } } };
    const refusal = await of(wrong).catch((error) => error);
    expect(refusal).toMatchObject({ code: 'ERR_ARGUMENT' });
    await expect(of({ ...wrong, $defs })).rejects.toMatchObject({ code: 'ERR_ARGUMENT', message: refusal.message });
    await expect(of({ ...small, $defs, description: () => 0 })).resolves.toMatchObject({ text: said.text });
  },
);

describe.each(ways)('%s', (_, generate) => {
  const seeds = [1, 2];

  test('json_object: an object, or the beginning of one where it is cut off', async () => {
    for (const seed of seeds) {
      const { text, reason } = await generate({
        ...{ prompt: 'Say it:', temperature: 0.5, seed, maxTokens: 60 },
        responseFormat: { type: 'json_object' },
      });
      expect(text.startsWith('{')).toBe(true);
      if (reason === 'eos') expect(typeof JSON.parse(text)).toBe('object');
      else expect(reason).toBe('length');
    }
  });

  test('json_schema: what the schema allows, at any temperature', async () => {
    for (const seed of seeds) {
      const { text, reason } = await generate({
        ...{ prompt: 'A person: ', temperature: seed / 2, seed, maxTokens: 400 },
        responseFormat: { type: 'json_schema', schema: person },
      });
      expect(reason, text).toBe('eos');
      const { name, age, tags, mail, ...rest } = JSON.parse(text);
      expect(rest).toEqual({});
      expect([...name].length).toBeLessThanOrEqual(8);
      expect(Number.isInteger(age) && age >= 0 && age <= 120).toBe(true);
      expect(tags.length <= 3 && tags.every((t: string) => t === 'a' || t === 'b')).toBe(true);
      expect([null, true, false]).toContain(mail);
    }
  });

  test('regex: the whole text matches', async () => {
    for (const [i, pattern] of ['^[A-Z]{3}-\\d{4}$', '(yes|no|may ?be)', '[a-f0-9]+(:[a-f]*)?!'].entries()) {
      const { text, reason } = await generate({
        ...{ prompt: 'id ', temperature: 1, seed: i, maxTokens: 500 },
        responseFormat: { type: 'regex', pattern },
      });
      expect(reason, text).toBe('eos');
      expect(text).toMatch(new RegExp(`^(?:${pattern})$`));
    }
  });

  test('grammar: EBNF whose first rule is root', async () => {
    const ebnf = 'root ::= "(" item ("," item)* ")"\nitem ::= [0-9] | root\n';
    let whole = 0;
    for (const seed of seeds) {
      const { text, reason } = await generate({
        ...{ prompt: 'list ', temperature: 1, seed, maxTokens: 300 },
        responseFormat: { type: 'grammar', ebnf },
      });
      if (reason !== 'eos') continue;
      whole++;
      expect(() => JSON.parse(text.replaceAll('(', '[').replaceAll(')', ']'))).not.toThrow();
    }
    expect(whole).toBeGreaterThan(0);
  });

  test('an end-of-text token comes where the format is complete, and nowhere else', async () => {
    const digits = { type: 'regex', pattern: '[0-9]{2,60}' } as const;
    const bias = { [ASCII_END]: 100 };
    const { text, tokens, reason } = await generate({
      prompt: 'n',
      maxTokens: 90,
      logitBias: bias,
      responseFormat: digits,
    });
    expect([text.length, reason]).toEqual([2, 'eos']);
    expect(tokens).not.toContain(ASCII_END);
    const held = await generate({
      ...{ prompt: 'n', maxTokens: 90, minTokens: 7, logitBias: bias, responseFormat: digits },
    });
    expect([held.text.length, held.reason]).toEqual([7, 'eos']);
  });

  test('a stop text still ends it, and so does maxTokens', async () => {
    const responseFormat = { type: 'regex', pattern: 'aXb{40}' } as const;
    expect(await generate({ prompt: 'n', stop: ['Xb'], responseFormat })).toMatchObject({ text: 'a', reason: 'stop' });
    expect(await generate({ prompt: 'n', maxTokens: 5, responseFormat })).toMatchObject({
      text: 'aXbbb',
      reason: 'length',
    });
  });

  test.each<[string, unknown, RegExp]>([
    ['no object', 'json', /responseFormat/],
    ['an unknown type', { type: 'yaml' }, /json_object, json_schema, regex or grammar/],
    ['no schema', { type: 'json_schema' }, /JSON schema/],
    ['a schema that cannot be kept to', { type: 'json_schema', schema: { not: {} } }, /not cannot be kept to/],
    ['a schema that allows nothing', { type: 'json_schema', schema: { type: 'integer', minimum: 3, maximum: 2 } }, /#/],
    ['no regular expression', { type: 'regex', pattern: '(' }, /regular expression/],
    ['one that looks ahead', { type: 'regex', pattern: 'a(?=b)' }, /lookahead/],
    ['no grammar', { type: 'grammar', ebnf: 'root ::= (' }, /responseFormat/],
    ['a rule that is not there', { type: 'grammar', ebnf: 'root ::= other' }, /responseFormat/],
    ['one that no token can write', { type: 'regex', pattern: '\\n' }, /no token of the vocabulary/],
  ])('%s is ERR_ARGUMENT', async (_, responseFormat, message) => {
    const failure = generate({ prompt: 'n', maxTokens: 3, responseFormat } as never);
    await expect(failure).rejects.toMatchObject({ code: 'ERR_ARGUMENT', message: expect.stringMatching(message) });
    // And the next one is served as if nothing had been.
    const next = await generate({ prompt: 'n', responseFormat: { type: 'regex', pattern: 'ok' } });
    expect(next.text).toBe('ok');
  });
});

test('processLogits sees the row before the format takes its part', async () => {
  await using session = held.model.createSession();
  const rows: number[] = [];
  const processLogits = (row: Float32Array) => {
    rows.push(row.filter(Number.isFinite).length);
    row['q'.charCodeAt(0) - 32] = 1000;
  };
  const options = { prompt: 'n', responseFormat: { type: 'regex', pattern: '[pq]x' }, processLogits } as const;
  expect((await collect(session.generate(options) as never)).text).toBe('qx');
  expect(rows.every((finite) => finite >= 96)).toBe(true);
});

describe('while a grammar is made that takes more than ten seconds', () => {
  const long: ResponseFormat = { type: 'regex', pattern: '((a|b){1,300}c){1,600}' };
  const short: ResponseFormat = { type: 'regex', pattern: '[pq]x' };
  const patient = { prompt: 'n', maxTokens: 5 };

  test('an abort and a deadline are heard, and whoever comes and goes does not make it wait longer', async () => {
    await using engine = createEngine(held.model);
    let ended = false;
    const refused = collect(engine.generate({ ...patient, responseFormat: long }) as never).finally(() => {
      ended = true;
    });
    refused.catch(() => {});
    // Where they made it wait longer it would never end.
    for (let rounds = 0; !ended; rounds++) {
      const aborted = [ways[0]![1], ways[1]![1]].map((generate) => {
        const signal = AbortSignal.timeout(100);
        return expect(generate({ ...patient, responseFormat: short, signal })).rejects.toThrow(/timeout/);
      });
      const late = collect(engine.generate({ ...patient, responseFormat: short, timeoutMs: 100 }) as never);
      if (rounds === 0) {
        await Promise.all([...aborted, expect(late).rejects.toMatchObject({ code: 'ERR_TIMEOUT' })]);
        expect(ended).toBe(false);
      } else await Promise.allSettled([...aborted, late]);
      await new Promise((resolve) => setTimeout(resolve, 1200));
    }
    await expect(refused).rejects.toMatchObject({
      code: 'ERR_ARGUMENT',
      message: expect.stringMatching(/takes more than 10000 ms/),
    });
  });

  test('draining waits for who has asked already; dispose ends those, and who waits on is not blamed for their grammar', async () => {
    await using engine = createEngine(held.model);
    const early = collect(engine.generate({ ...patient, responseFormat: short }) as never);
    const drained = engine.drain();
    await expect(collect(engine.generate(patient) as never)).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
    await expect(engine.embed('n')).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
    await drained;
    expect(engine.stats()).toMatchObject({ finished: 1, failed: 0 });
    expect((await early).text).toMatch(/^[pq]x$/);

    const other = createEngine(held.model);
    const ended = collect(other.generate({ ...patient, responseFormat: long }) as never);
    setTimeout(() => void other.dispose(), 50);
    await expect(ended).rejects.toMatchObject({ code: 'ERR_DISPOSED', message: expect.stringMatching(/disposed of/) });
    await using session = held.model.createSession();
    const { text } = await collect(session.generate({ ...patient, responseFormat: short }) as never);
    expect(text).toMatch(/^[pq]x$/);
  });
});

test('a process that was halted for longer than a grammar may take does not refuse one for that', async () => {
  const script = `
    const { loadModel } = require(${JSON.stringify(resolve(__dirname, '../../dist/lib/index.js'))});
    const { grammarEngine } = require(${JSON.stringify(resolve(__dirname, '../../dist/lib/grammar/engine.js'))});
    const halt = () => {
      if (grammarEngine().asked.length === 0) return setImmediate(halt);
      console.log('begun');
      process.kill(process.pid, 'SIGSTOP');
    };
    (async () => {
      const model = await loadModel(${JSON.stringify(asciiModelFolder())});
      const responseFormat = { type: 'regex', pattern: '[pq]x' };
      halt();
      for await (const { text } of model.createSession().generate({ prompt: 'n', responseFormat })) console.log(text);
    })();`;
  const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  for (const from of [child.stdout, child.stderr])
    from.setEncoding('utf8').on('data', (text: string) => {
      said += text;
      if (said === 'begun\n') setTimeout(() => child.kill('SIGCONT'), 11_000);
    });
  await once(child, 'close');
  expect(said.replaceAll('\n', '')).toMatch(/^begun[pq]x$/);
});

test('the vocabulary of a model that was disposed of is given up when another model comes', async () => {
  const said = async () => {
    await using model = await loadModel(asciiModelFolder());
    await using session = model.createSession();
    const options = { prompt: 'n', responseFormat: { type: 'regex', pattern: '[pq]x' } } as const;
    expect((await collect(session.generate(options) as never)).text).toMatch(/^[pq]x$/);
    return grammarEngine().vocabularyCount;
  };
  const first = await said();
  for (let i = 0; i < 3; i++) expect(await said()).toBe(first);
  await using session = held.model.createSession();
  const format = { type: 'regex', pattern: 'still[pq]' } as const;
  expect((await collect(session.generate({ prompt: 'n', responseFormat: format }) as never)).text).toMatch(/^still/);
});

test('many at once, with texts of no format beside them: each keeps to its own, and says what it says alone', async () => {
  await using engine = createEngine(held.model);
  const formats = Array.from({ length: 12 }, (_, i) => {
    return i % 3 === 2 ? undefined : ({ type: 'regex', pattern: `${i}[a-z]{${i}}[!?]` } as const);
  });
  const said = await Promise.all(
    formats.map((responseFormat, i) =>
      collect(engine.generate({ prompt: `p${i}`, maxTokens: 20, responseFormat }) as never),
    ),
  );
  for (const [i, responseFormat] of formats.entries()) {
    await using session = held.model.createSession();
    const alone = await collect(session.generate({ prompt: `p${i}`, maxTokens: 20, responseFormat }) as never);
    expect(said[i]).toEqual(alone);
    if (responseFormat) expect(said[i]!.text).toMatch(new RegExp(`^${responseFormat.pattern}$`));
  }
});

describe('tokens of bytes', () => {
  const fatal = new TextDecoder('utf8', { fatal: true });
  const isText = (bytes: Uint8Array) => {
    try {
      fatal.decode(bytes);
      return true;
    } catch {
      return false;
    }
  };

  test('are parts of a text, or of none', () => {
    const text = Buffer.from('aé߿ࠀ퟿日￿𐀀😀\u{10ffff}');
    expect(isText(text)).toBe(true);
    for (let from = 0; from < text.length; from++)
      for (let to = from; to <= text.length; to++) expect(isPart(text.subarray(from, to))).toBe(true);
    // What two bytes begin that are a part of a text: with the rest of a character they are one.
    for (let a = 0; a < 256; a++)
      for (let b = 0; b < 256; b++) {
        const rest = [0x80, 0x80, 0x80];
        const more = [...[0, 1, 2, 3].map((n) => rest.slice(0, n)), [0xa0, 0x80], [0x90, 0x80, 0x80]];
        const before = [[], [0xc2], [0xe1], [0xe1, 0x80], [0xf1, 0x80]];
        const found = before.some((x) => more.some((y) => isText(Uint8Array.from([...x, a, b, ...y]))));
        expect(isPart(Uint8Array.of(a, b)), `${a} ${b}`).toBe(found);
      }
  });

  test('make characters alone, also of a model that knows nothing', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'statespace-bytes-'));
    await using made = await createModel(
      { model_type: 'mamba', vocab_size: 257, hidden_size: 8, num_hidden_layers: 1, state_size: 4, eos_token_id: 256 },
      { seed: 1 },
    );
    await made.save(folder);
    for (const [name, file] of Object.entries(byteTokenizer())) writeFileSync(join(folder, name), JSON.stringify(file));
    await using model = await loadModel(folder);
    const schema = { type: 'string', minLength: 6, maxLength: 8 };
    for (let seed = 1; seed <= 20; seed++) {
      const responseFormat = { type: 'json_schema', schema } as const;
      const logitBias = Object.fromEntries(Array.from({ length: 128 }, (_, i) => [i === 34 ? 255 : i, -8]));
      const { text, tokens } = await collect(
        model
          .createSession()
          .generate({ prompt: 'x', responseFormat, seed, temperature: 1, maxTokens: 60, logitBias }) as never,
      );
      expect(isText(Uint8Array.from(tokens)), tokens.join()).toBe(true);
      expect(text).not.toContain('\ufffd');
      expect([...(JSON.parse(text) as string)].length).toBeLessThanOrEqual(8);
    }
  });
});
