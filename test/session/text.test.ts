// Text streamed is the text decoded whole: for every kind of tokenizer, from every position on, whatever is cut where.
import { cpSync } from 'node:fs';
import { type Generated, type GenerateOptions, loadModel, type Model, type Session } from 'statespace';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadTokenizer } from '../../dist/lib/models/tokenizer.js';
import { lastWithText, TextStream } from '../../dist/lib/session/text.js';
import { scratchFolders } from '../support/checkpoint-files.js';
import { modelCase } from '../support/golden.js';
import { amount } from '../support/scale.js';
import { KINDS, MARKS, SMALL, tokenizerFiles } from '../support/tokenizer-kinds.js';

const folders = scratchFolders();

/** A generator of small numbers that is the same every time. */
function numbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    return (state >>> 8) % below;
  };
}

describe.each(['日', '😀', 'é日', 'a日😀'])('a run of bytes of hundreds of characters, %s', (characters) => {
  const kind = KINDS.sentencePiece!;
  const text = characters.repeat(200);
  const ids = [...Buffer.from(text)].map((b) => kind.byteIds![b]!);

  it('streamed is decoded whole, in one call and in many', async () => {
    const tokenizer = (await loadTokenizer(folders.put(tokenizerFiles(kind, false))))!;
    for (const each of [ids.length, 1, 5, 16, 20, 64, 100]) {
      let streamed = '';
      for (let at = 0; at < ids.length; at += each) {
        const before = lastWithText(tokenizer, at, (from) => Int32Array.from(ids.slice(from, at)));
        const stream = new TextStream(tokenizer, { texts: [] }, before);
        for (const id of ids.slice(at, at + each)) streamed += stream.push(id);
        streamed += stream.rest(at + each >= ids.length);
      }
      expect(streamed, `${each} tokens a call`).toBe(text);
    }
  });
});

describe.each(Object.keys(KINDS))('%s', (name) => {
  const kind = KINDS[name]!;
  const some = numbers(name.length);

  /** Random tokens, characters in bytes, special tokens. */
  function sequence(): number[] {
    const ids: number[] = [];
    for (let length = 1 + some(60); ids.length < length; ) {
      const character = ['😀', 'é', '日', 'a', '\u{1f468}\u200d\u{1f469}'][some(5)]!;
      if (some(25) === 0) ids.push(kind.size + some(MARKS.length));
      else if (kind.byteIds && some(6) === 0) for (const b of Buffer.from(character)) ids.push(kind.byteIds[b]!);
      else ids.push(some(kind.size));
    }
    return ids;
  }

  /** Spaces among bytes that make no character, where a decoder takes spaces away. */
  const spoilt = [
    [0xbb, 0x20],
    [0x20, 0xf0, 0x9f, 0x20],
    [0x20, 0xf0, 0x9f, 0x91, 0x20, 0x20],
  ].map((bytes) => [...bytes.map((b) => kind.byteIds?.[b] ?? 0), kind.ids.get('\u2581I') ?? 1, 2]);

  it.each([false, true])('streamed is decoded whole; tidying: %s', async (tidying) => {
    const tokenizer = (await loadTokenizer(folders.put(tokenizerFiles(kind, tidying))))!;
    for (let trial = 0; trial < amount(60, 2000); trial++) {
      const ids = spoilt[trial >> 1] ?? sequence();
      const whole = tokenizer.decode(ids);
      for (const split of new Set([0, 1, some(ids.length), ids.length >> 1])) {
        const streamed = (part: number[], context: number[], last: boolean) => {
          const stream = new TextStream(tokenizer, { texts: [] }, context);
          return part.map((id) => stream.push(id)).join('') + stream.rest(last);
        };
        const before = streamed(ids.slice(0, split), [], false);
        if (!whole.startsWith(before)) continue; // tidied away or spoilt by what follows: what came before is no beginning of the whole
        expect(before + streamed(ids.slice(split), ids.slice(0, split), true), JSON.stringify({ ids, split })).toBe(
          whole,
        );
      }
    }
  });

  it('stop texts are found wherever tokens cut them', async () => {
    const tokenizer = (await loadTokenizer(folders.put(tokenizerFiles(kind, false))))!;
    for (let trial = 0; trial < amount(40, 500); trial++) {
      const ids = sequence();
      const whole = tokenizer.decode(ids);
      const at = some(whole.length);
      const stop = whole.slice(at, at + 1 + some(6));
      if (stop === '' || stop.includes('\ufffd')) continue;
      const stream = new TextStream(tokenizer, { texts: [stop, `${stop}!`] });
      let text = '';
      for (const id of ids) if (stream.stopped === undefined) text += stream.push(id);
      if (stream.stopped === undefined) text += stream.rest();
      expect([text, stream.stopped]).toEqual([whole.slice(0, whole.indexOf(stop)), stop]);
    }
  });

  it('a token costs the same after thousands', async () => {
    const tokenizer = (await loadTokenizer(folders.put(tokenizerFiles(kind, false))))!;
    let decoded = 0;
    const decode = (x: number[]) => {
      decoded += x.length;
      return tokenizer.decode(x);
    };
    const stream = new TextStream({ decode, ...(tokenizer.tidies && { tidies: decode }) }, { texts: ['never said'] });
    for (let i = 0; i < 3000; i++) stream.push(some(kind.size));
    expect(decoded).toBeLessThan(3000 * 18);
  });
});

describe('a session', () => {
  let folder: string;
  let model: Model;
  beforeAll(async () => {
    folder = folders.put(tokenizerFiles(SMALL, false));
    cpSync(modelCase('mamba_hf').folder, folder, { recursive: true });
    model = await loadModel(folder);
  });
  afterAll(() => model.dispose());
  const ids = (text: string) => text.split(' ').map((t) => SMALL.ids.get(t)!);

  /** What a stream says whose model chooses these tokens. */
  async function said(session: Session, tokens: number[], options: GenerateOptions = {}) {
    let at = 0;
    const stream = session.generate({
      maxTokens: tokens.length,
      processLogits: (row) => {
        row.fill(Number.NEGATIVE_INFINITY);
        row[tokens[at++]!] = 0;
      },
      ...options,
    });
    const parts: (string | undefined)[] = [];
    for await (const { text } of stream) parts.push(text);
    return { text: parts.join(''), parts, reason: stream.finishReason, by: stream.stoppedBy };
  }

  it('keeps the space of a word behind a prompt, and reads like one over several calls', async () => {
    const session = model.createSession();
    const first = await said(session, ids('▁big ▁world'), { prompt: 'hello' });
    expect(first.text).toBe(' big world');
    expect((await said(session, ids('▁a .'))).text).toBe(' a.');
  });

  it('gives a character whole whose bytes come in three calls', async () => {
    const session = model.createSession();
    await session.forward(ids('▁hello'));
    const bytes = [...Buffer.from('日')].map((b) => SMALL.byteIds![b]!);
    const texts: string[] = [];
    for (const id of bytes) texts.push((await said(session, [id])).text);
    expect(texts).toEqual(['', '', '日']);
  });

  const inBytes = [...Buffer.from('日é日')].map((b) => SMALL.byteIds![b]!);
  const texts: [string, number[], string, string[]][] = [
    ['bytes', [...inBytes, ...ids('▁big'), ...inBytes, ...ids('.')], '日é日 big日é日.', []],
    [
      'what may become a stop text',
      ids('▁hello ▁big ▁a ▁big ▁world .'),
      ' hello big a big world.',
      [' big a world', 'o big a b!'],
    ],
    ['bytes at the end', [...ids('▁big'), ...inBytes], ' big日é日', []],
    ['a character without its last byte', [...ids('▁big'), ...inBytes.slice(0, -1)], ` big${'\ufffd'.repeat(7)}`, []],
    ['what began a stop text', ids('▁hello ▁big ▁a'), ' hello big a', [' big a world', 'o big a b!']],
  ];
  describe.each(texts)('that ends early within %s', (_, tokens, whole, stop) => {
    const moves: Record<string, (session: Session) => Session | Promise<Session>> = {
      kept: (session) => session,
      forked: (session) => session.fork(),
      saved: (session) => model.restoreSession(session.save({ logits: true })),
      'saved meanwhile': async (session) => model.restoreSessionAsync(await session.saveAsync({ logits: true })),
    };
    const ways = ['left by its reader', 'aborted'].flatMap((how) => Object.keys(moves).map((move) => [how, move]));
    it.each(ways)('%s and %s, says all of it in later calls', async (how, move) => {
      const prompt = ids('▁hello');
      for (const each of [1, 2, 3, 5]) {
        let session = model.createSession();
        await session.forward(prompt);
        const choices = [...tokens, ...ids('</s>')];
        const processLogits = (row: Float32Array, so: readonly number[]) => {
          const chosen = choices[so.length - prompt.length]!;
          row.fill(1e9, chosen, chosen + 1);
        };
        let text = '';
        for (let calls = 0, ended = false; !ended && calls < 60; calls++) {
          const ending = new AbortController();
          const stream = session.generate({
            stop: [...stop, ids('</s>')[0]!],
            temperature: 0,
            signal: ending.signal,
            processLogits,
          });
          let got = 0;
          try {
            for await (const part of stream) {
              text += part.text;
              if (++got % each > 0 || stream.finishReason) continue;
              if (how === 'left by its reader') break;
              ending.abort();
            }
          } catch (error) {
            expect(error).toBe(ending.signal.reason);
          }
          ended = stream.finishReason === 'stop';
          session = await moves[move!]!(session);
        }
        expect(text, `${each} tokens a call`).toBe(whole);
      }
    });
  });

  it('ends at a special token that `stop` spells, of which nothing is yielded', async () => {
    const session = model.createSession();
    const seen = await said(session, ids('▁hello ▁big <im_end> ▁a'), { prompt: 'hello', stop: ['<im_end>'] });
    expect(seen).toMatchObject({ text: ' hello big', reason: 'stop', by: '<im_end>' });
  });

  it.each([
    ['<im_end> a', '▁hello ▁big <im_end> ▁a .', ' hello big', 'stop'],
    [' big<im_end>', '▁hello ▁big <im_end> ▁a', ' hello', 'stop'],
    ['big<im_end></s> a', '▁hello ▁big <im_end> </s> ▁a .', ' hello ', 'stop'],
    ['<im_end> a.', '▁hello <im_end> ▁a ▁big', ' hello a big', 'length'],
    ['end> a', '▁hello <im_end> ▁a ▁big', ' hello a big', 'length'],
    ['<im_end> big', '▁hello <im_end> ▁a ▁big', ' hello a big', 'length'],
    ['<im_end> big', '▁hello <im_end>', ' hello', 'length'],
  ])('ends at %j, which spells a special token among others', async (stop, tokens, text, reason) => {
    await using engine = model.createEngine();
    let at = 0;
    const chosen = ids(tokens);
    const processLogits = (row: Float32Array) => row.fill(1e9, chosen[at]!, chosen[at++]! + 1);
    const options = { prompt: 'hello', stop: [stop], maxTokens: chosen.length };
    expect(await said(model.createSession(), chosen, options)).toMatchObject({ text, reason });
    const stream = engine.generate({ ...options, processLogits, temperature: 0 });
    let theirs = '';
    for await (const part of stream) theirs += part.text;
    expect([theirs, stream.finishReason]).toEqual([text, reason]);
  });

  it('knows what alternatives would add where they stand', async () => {
    const session = model.createSession();
    await session.forward(ids('▁hello'));
    for await (const { token, alternatives } of session.generate({ maxTokens: 1, logprobs: 5 }))
      for (const a of alternatives!) {
        const whole = model.tokenizer!.decode([...ids('▁hello'), a.token]);
        expect([token, a.text]).toEqual([token, whole.slice('hello'.length)]);
      }
  });

  it('an engine says the same, alternatives and reasons included', async () => {
    await using engine = model.createEngine();
    const session = model.createSession();
    const request = {
      prompt: 'hello',
      maxTokens: 12,
      logprobs: 3,
      temperature: 1.5,
      seed: 4,
      stop: ['▁a', '<im_end>'],
    };
    const own = session.generate(request);
    const theirs = engine.generate(request);
    const [expected, got]: [object[], object[]] = [[], []];
    const seen = ({ token, text, alternatives }: Generated) => ({
      ...{ token, text },
      alternatives: alternatives!.map((a) => a.text),
    });
    for await (const part of own) expected.push(seen(part));
    for await (const part of theirs) got.push(seen(part));
    expect(got).toEqual(expected);
    expect([theirs.finishReason, theirs.stoppedBy]).toEqual([own.finishReason, own.stoppedBy]);
    const ended = engine.generate({
      ...{
        prompt: 'hello',
        stop: ['<im_end>'],
        processLogits: (row: Float32Array) => row.fill(1e9, ids('<im_end>')[0], ids('<im_end>')[0]! + 1),
      },
    });
    for await (const _ of ended);
    expect([ended.finishReason, ended.stoppedBy, ended.usage!.generatedTokens]).toEqual(['stop', '<im_end>', 0]);
  });

  it.each([
    ['stop', ['']],
    ['stop', ['a', '']],
    ['stop', 'a'],
    ['stop', [null]],
  ] as const)('refuses %s: %j', async (key, value) => {
    const stream = model.createSession().generate({ prompt: [1], [key]: value } as never);
    await expect(stream.next()).rejects.toMatchObject({ code: 'ERR_ARGUMENT' });
  });
});
