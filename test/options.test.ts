// Options that a call does not know are errors with a suggestion, everywhere: one that is ignored is a wrong answer.
import {
  createApp,
  createEngine,
  createModel,
  createTrainer,
  describeModel,
  type Engine,
  folderStore,
  fork,
  listen,
  loadModel,
  type Model,
  openJobs,
  ops,
  pull,
  quantize,
  redisStore,
  registerModel,
  resumeTrainer,
  type StatespaceError,
  saveModel,
  startWorker,
  Tensor,
} from 'statespace';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadTokenizer } from '../dist/lib/models/tokenizer.js';
import { scratchFolders } from './support/checkpoint-files.js';
import { modelCase } from './support/golden.js';
import { SMALL, tokenizerFiles } from './support/tokenizer-kinds.js';

const MAMBA = { model_type: 'mamba', vocab_size: 61, hidden_size: 32, num_hidden_layers: 2, state_size: 16 };
const OWN = { modelTypes: ['never_made'], config: () => ({}), build: () => undefined as never };
const folders = scratchFolders();
const x = new Tensor(new Float32Array(4), [2, 2]);
let model: Model;
let engine: Engine;
beforeAll(async () => {
  model = await createModel(MAMBA, { seed: 1 });
  engine = createEngine(model);
});
afterAll(async () => {
  await engine.dispose();
  await model.dispose();
});

type Options = Record<string, unknown>;
/** Every call with options, a key that it does not know, and the one that was meant. */
const calls: [string, (o: never) => unknown, string, string][] = [
  ['loadModel', (o) => loadModel(modelCase('mamba_hf').folder, o), 'dType', 'dtype'],
  ['loadModel of nothing', (o) => loadModel('./nowhere', o), 'on_progress', 'onProgress'],
  ['createModel', (o) => createModel(MAMBA, o), 'sede', 'seed'],
  ['pull', (o) => pull('hf:a/b', o), 'onprogress', 'onProgress'],
  ['forward', (o) => model.createSession().forward([1], o), 'logit', 'logits'],
  ['forwardBatch', (o) => model.forwardBatch([], o), 'signals', 'signal'],
  [
    'an entry',
    (o) => model.forwardBatch([{ session: model.createSession(), tokens: [1], ...(o as Options) }]),
    'logts',
    'logits',
  ],
  [
    'generate',
    (o) =>
      model
        .createSession()
        .generate({ prompt: [1], ...(o as Options) })
        .next(),
    'max_tokens',
    'maxTokens',
  ],
  [
    'generate',
    (o) =>
      model
        .createSession()
        .generate({ prompt: [1], ...(o as Options) })
        .next(),
    'temprature',
    'temperature',
  ],
  ['save', (o) => model.createSession().save(o), 'Logits', 'logits'],
  ['saveAsync', (o) => model.createSession().saveAsync(o), 'logit', 'logits'],
  ['restoreSession', (o) => model.restoreSession(snapshot(), o), 'signal', ''],
  ['restoreSessionAsync', (o) => model.restoreSessionAsync(snapshot(), o), 'signal', ''],
  ['restoreSessionFromFile', (o) => model.restoreSessionFromFile('./nowhere', o), 'signal', ''],
  ['model.save', (o) => model.save('./nowhere', o), 'dtype', ''],
  ['saveModel', (o) => saveModel(model, './nowhere', o), 'dtype', ''],
  ['trainer.save', (o) => createTrainer(model).save('./nowhere', o), 'dtype', ''],
  ['run', (o) => model.run(x, o), 'Signal', 'signal'],
  ['an op', (o) => ops.rmsNormSync({ x, ...(o as Options) }), 'epsilon', 'eps'],
  ['an op', (o) => ops.rmsNormSync({ x, ...(o as Options) }), 'wieght', 'weight'],
  ['an op’s options', (o) => ops.rmsNorm({ x }, o), 'sginal', 'signal'],
  ['createSession', (o) => model.createSession(o), 'contextSize', ''],
  ['Session.fork', (o) => model.createSession().fork(o), 'count', ''],
  ['fork', (o) => fork(model.createSession(), o), 'count', ''],
  ['describeModel of a config', (o) => describeModel(MAMBA as never, o), 'dtype', ''],
  ['describeModel of a folder', (o) => describeModel('./nowhere', o), 'dType', 'dtype'],
  ['responseFormat', (o) => constrained({ type: 'json_object', ...(o as Options) }), 'schema', ''],
  ['responseFormat of a pattern', (o) => constrained({ type: 'regex', ...(o as Options) }), 'patern', 'pattern'],
  ['createTrainer', (o) => createTrainer(model, o), 'lr', 'learningRate'],
  ['lora', (o) => createTrainer(model, { lora: o }), 'r', 'rank'],
  ['createEngine', (o) => createEngine(model, o), 'max_running', 'maxRunning'],
  ['prefixCache', (o) => createEngine(model, { prefixCache: o }), 'byte', 'bytes'],
  ['engine.generate', (o) => first(engine.generate({ prompt: [1], ...(o as Options) })), 'timeout', 'timeoutMs'],
  ['engine.generate', (o) => first(engine.generate({ prompt: [1], ...(o as Options) })), 'topk', 'topK'],
  ['engine.score', (o) => engine.score([1, 2], o), 'abortSignal', 'signal'],
  ['engine.embed', (o) => engine.embed([1, 2], o), 'poolling', 'pooling'],
  ['quantize', (o) => quantize('x', 'y', { type: 'q8_0', ...(o as Options) }), 'importances', 'importance'],
  ['folderStore', (o) => folderStore('x', o), 'Bytes', 'bytes'],
  ['redisStore', (o) => redisStore('redis://127.0.0.1', o), 'ttlSecond', 'ttlSeconds'],
  ['createApp', (o) => createApp(engine, o), 'api_key', 'apiKey'],
  ['listen', (o) => listen(engine, { port: 0, ...(o as Options) }), 'hosts', 'host'],
  ['openJobs', (o) => openJobs('redis://127.0.0.1', o), 'queu', 'queue'],
  ['startWorker', (o) => startWorker(engine, 'redis://127.0.0.1', o), 'concurency', 'concurrency'],
  ['encode', async (o) => (await tokenizer()).encode('a', o), 'add_special_tokens', 'addSpecialTokens'],
  ['decode', async (o) => (await tokenizer()).decode([1], o), 'skip_special_tokens', 'skipSpecialTokens'],
];
const tokenizer = async () => (await loadTokenizer(folders.put(tokenizerFiles(SMALL, false))))!;
const constrained = (responseFormat: unknown) =>
  first(model.createSession().generate({ prompt: [1], responseFormat } as never));
const snapshot = () => model.createSession().save();
const first = (stream: AsyncIterable<unknown>) => stream[Symbol.asyncIterator]().next();

it.each([
  ['stopp', 'stop'], // as near to topP
  ['stop_sequences', 'stop'],
  ['stopStrings', 'stop'],
  ['top-p', 'topP'],
  ['temp', 'temperature'],
  ['max_new_tokens', 'maxTokens'],
  ['n_predict', 'maxTokens'],
  ['repeat_penalty', 'repetitionPenalty'],
  ['abortSignal', 'signal'],
  ['randomSeed', 'seed'],
  ['logits_processor', 'processLogits'],
  ['response_format', 'responseFormat'],
  ['top_logprobs', 'logprobs'],
  ['frequency', 'frequencyPenalty'],
])('generate: %s is %s', async (wrong, meant) => {
  const stream = model.createSession().generate({ prompt: [1], [wrong]: 1 });
  await expect(stream.next()).rejects.toThrow(`unknown option "${wrong}"; did you mean '${meant}'?`);
});

describe.each(calls)('%s', (_, call, wrong, meant) => {
  it(`refuses ${wrong}`, async () => {
    const failure = await Promise.resolve()
      .then(() => call({ [wrong]: 1 } as never))
      .then(() => undefined)
      .catch((e: unknown) => e as StatespaceError);
    expect([failure?.name, failure?.code]).toEqual(['StatespaceError', 'ERR_ARGUMENT']);
    expect(failure!.message).toContain(`unknown ${/^an op$/.test(_) ? 'argument' : 'option'} "${wrong}"`);
    if (meant) expect(failure!.message).toContain(`did you mean '${meant}'?`);
    else expect(failure!.message).toMatch(/known are \w+|there are none/);
  });
});

it('undefined is as absent', async () => {
  const session = model.createSession();
  await session.forward([1], {
    logits: undefined,
    signal: undefined,
    onProgress: undefined,
    out: undefined,
    more: undefined,
  } as never);
  const options = { maxTokens: 2, topK: undefined, stop: undefined, seed: undefined, other: undefined } as never;
  for await (const { token } of session.generate(options)) expect(token).toBeLessThan(61);
  expect(ops.rmsNormSync({ x, eps: undefined, weight: undefined, other: undefined } as never).y.shape).toEqual([2, 2]);
  await (
    await createModel(MAMBA, { dtype: undefined, threads: undefined, device: undefined, other: undefined } as never)
  ).dispose();
  session.save({ logits: undefined });
});

describe('what would be left out in silence, or taken for something else', () => {
  const folder = modelCase('mamba_hf').folder;
  const ids = { ids: new Tensor(new Int32Array(4), [1, 4]) };
  const asked = async (request: object) => {
    for await (const _ of engine.generate(request)) return _;
    return undefined;
  };
  it.each<[string, () => unknown, string]>([
    [
      'threads',
      () => loadModel(folder, { threads: 2 ** 40 }),
      'loadModel: threads: expected an integer from 1 to 1024',
    ],
    [
      'threads',
      () => createModel(MAMBA, { threads: 5000 }),
      'createModel: threads: expected an integer from 1 to 1024',
    ],
    [
      'config',
      () => loadModel(folder, { config: {} }),
      'loadModel: config: is an option of loadModel of tensors in memory',
    ],
    ['config', () => createModel(MAMBA, { config: {} }), 'createModel: config: is an option of'],
    ['config', () => describeModel(folder, { config: {} }), 'describeModel: config: is an option of'],
    [
      'adapters',
      () => createModel(MAMBA, { adapters: ['a'] }),
      'createModel: adapters: is an option of loadModel of a path',
    ],
    [
      'adapters',
      () => loadModel(new Map(), { config: MAMBA, adapters: ['a'] }),
      'loadModel: adapters: is an option of',
    ],
    [
      'lora',
      () => createTrainer(model, { lora: 0 as never }),
      'createTrainer: lora: expected { rank, alpha, targets? }, received 0',
    ],
    ['lora', () => createTrainer(model, { lora: '' as never }), 'createTrainer: lora: expected'],
    [
      'templateOptions',
      () => asked({ prompt: [1], templateOptions: {} }),
      'generate: templateOptions: go with messages',
    ],
    ['templateOptions', () => asked({ messages: [{}], templateOptions: 'x' }), 'templateOptions: expected an object'],
    ['templateOptions', () => asked({ messages: [{}], templateOptions: null }), 'templateOptions: expected an object'],
    ['key', () => registerModel({ ...OWN, key: 5 as never }), 'registerModel: key: expected a function, received 5'],
    [
      'vocabSize',
      () => registerModel({ ...OWN, vocabSize: 5 as never }),
      'registerModel: vocabSize: expected a function',
    ],
    ['unread', () => registerModel({ ...OWN, unread: 'x' as never }), 'registerModel: unread: expected a list'],
    [
      'wrappers',
      () => registerModel({ ...OWN, wrappers: 'x' as never }),
      'registerModel: wrappers: expected an object',
    ],
    ['no adapters', () => createTrainer(model, { lora: undefined }).step(ids), ''],
  ])('%s', async (_, call, message) => {
    const outcome = Promise.resolve().then(call);
    if (message)
      await expect(outcome).rejects.toMatchObject({ code: 'ERR_ARGUMENT', message: expect.stringContaining(message) });
    else await outcome;
  });
});

it('undefined keys of a config are as absent', () => {
  expect(describeModel({ ...MAMBA, other: undefined } as never).parameters).toEqual(describeModel(MAMBA).parameters);
});

describe.each([5, null, undefined, {}, [], Symbol('x'), 'a\0b'])('in place of its first argument: %j', (wrong) => {
  const session = () => model.createSession();
  it.each<[string, (given: never) => unknown]>([
    ['saveToFile', (path) => session().saveToFile(path)],
    ['restoreSessionFromFile', (path) => model.restoreSessionFromFile(path)],
    ['resumeTrainer', (folder) => resumeTrainer(folder)],
    ['model.save', (folder) => model.save(folder)],
    ['pull', (text) => pull(text)],
    ['createEngine', (none) => createEngine(none)],
    ['createApp', (none) => createApp(none)],
    ['listen', (none) => listen(none, { port: 0 })],
    ['startWorker', (none) => startWorker(none, 'redis://127.0.0.1')],
  ])('%s refuses it in words', async (_, call) => {
    const failure = Promise.resolve().then(() => call(wrong as never));
    await expect(failure).rejects.toMatchObject({ name: 'StatespaceError', code: 'ERR_ARGUMENT' });
  });
});

it.each([
  ['vocabsize', 'vocabSize'],
  ['unreads', 'unread'],
  ['wrapper', 'wrappers'],
])('a definition with %s is refused', (wrong, meant) => {
  const definition = { modelTypes: ['misspelt'], config: () => ({}), build: () => undefined, [wrong]: () => 3 };
  expect(() => registerModel(definition as never)).toThrow(`registerModel: expected '${meant}', received '${wrong}'`);
});

it('a definition that lacks what makes one is refused', () => {
  const whole = { modelTypes: ['of one’s own'], config: () => ({}), build: () => undefined };
  for (const part of ['modelTypes', 'config', 'build'])
    expect(() => registerModel({ ...whole, [part]: undefined } as never)).toThrow(
      expect.objectContaining({ code: 'ERR_ARGUMENT', message: expect.stringContaining(`registerModel: ${part}`) }),
    );
});
