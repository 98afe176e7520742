import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { openCheckpoint, readTensorF32, type StoredTensor } from '../../dist/lib/checkpoint/open.js';
import { readPytorch } from '../../dist/lib/checkpoint/pickle.js';
import {
  byName,
  expectRefused,
  matrix,
  op,
  pickle,
  pickledTensor,
  scratchFolders,
  type TensorSpec,
  torchFile,
} from '../support/checkpoint-files.js';

const folders = scratchFolders();
const put = (bytes: Uint8Array) => join(folders.put({ 'model.pth': bytes }), 'model.pth');
const w = op.text('w');
const tensor = pickledTensor(matrix);

describe.each(['state-protocol2', 'wrapped-protocol5'])('%s, written by torch', (name) => {
  let tensors: Record<string, StoredTensor>;
  beforeAll(async () => {
    tensors = byName(await readPytorch(join(__dirname, 'torch', `${name}.pth`)));
  });

  const ramp = Array.from({ length: 24 }, (_, i) => i);
  const transposed = ramp.map((i) => (i % 4) * 6 + Math.floor(i / 4));
  test.each<[string, string, number[], number[], number[]?]>([
    ['f32', 'f32', [4, 6], ramp],
    ['bf16', 'bf16', [4, 6], ramp],
    ['f16', 'f16', [4, 6], ramp],
    ['f64', 'f64', [4, 6], ramp],
    ['i64', 'i64', [8], [-3, -2, -1, 0, 1, 2, 3, 4]],
    ['i32', 'i32', [3], [0, 1, 2]],
    ['i16', 'i16', [3], [0, 1, 2]],
    ['i8', 'i8', [5], [-2, -1, 0, 1, 2]],
    ['u8', 'u8', [3], [0, 1, 2]],
    ['bool', 'bool', [2], [1, 0]],
    ['parameter', 'f32', [4, 6], ramp],
    ['transposed', 'f32', [6, 4], transposed, [1, 6]],
    ['sliced', 'f32', [2, 2], [7, 10, 19, 22], [12, 3]],
    ['scalar', 'f32', [], [3.5]],
    ['empty', 'f32', [0, 3], []],
  ])('%s', async (key, dtype, shape, values, strides) => {
    const stored = tensors[key]!;
    expect(stored).toMatchObject({ dtype, shape });
    expect(stored.strides).toEqual(strides);
    expect([...(await readTensorF32(stored))]).toEqual(values);
  });

  test('views of one storage are located in it', () => {
    expect(tensors.transposed!.offset).toBe(tensors.f32!.offset);
    expect(tensors.sliced!.offset).toBe(tensors.f32!.offset + 7 * 4);
    expect(tensors.sliced!.byteLength).toBe(16 * 4);
    expect(Object.keys(tensors).length).toBe(15);
  });
});

/** A file of torch, by names and values. */
async function valuesOf(name: string): Promise<Record<string, number[]>> {
  const folder = folders.put({ 'model.pth': readFileSync(join(__dirname, 'torch', name)) });
  const tensors = (await openCheckpoint(folder)).tensors.values();
  const values: Record<string, number[]> = {};
  for (const t of tensors)
    if (!t.dtype.match(/f8|u16|c64/)) values[t.name] = [...(await readTensorF32(t))].map((x) => x + 0);
  return values;
}
const ramp = Array.from({ length: 24 }, (_, i) => i);

test('a file of PyTorch before 1.6', async () => {
  expect(await valuesOf('legacy.pth')).toEqual({
    w: ramp,
    half: ramp,
    view: [2, 3, 4, 5],
    same: [0, 1, 2, 3, 4, 5, 6, 7],
    steps: [3],
    t: ramp.map((i) => (i % 4) * 6 + Math.floor(i / 4)),
  });
});

test('a training state: the state dict among other tensors, names without wrappers, views that repeat', async () => {
  expect(await valuesOf('training.pth')).toEqual({
    p: ramp,
    tensor: ramp,
    ones: new Array(16).fill(1),
    rows: [0, 1, 2].flatMap(() => [0, 1, 2, 3, 4, 5]),
    overlap: [0, 3, 6, 9].flatMap((i) => [i, i + 1, i + 2, i + 3]),
    flat: ramp,
  });
});

test('values of another sign than their storage, under a key of its own, wrapped within and averaged', async () => {
  const transposed = ramp.map((i) => -((i % 4) * 6 + Math.floor(i / 4)));
  expect(await valuesOf('lazy.pth')).toEqual({
    'a.neg': ramp.map((x) => 0 - x),
    'a.t': transposed.map((x) => x + 0),
    imag: ramp.map((x) => -1 - x),
    plain: ramp,
  });
});

test('before 1.6 as well what is behind values that are not read is found', async () => {
  const tensors = await readPytorch(join(__dirname, 'torch', 'legacy-kinds.pth'));
  expect(tensors.map((t) => [t.name, t.unreadable])).toEqual([
    ['z', 'of an unread type'],
    ['q', 'quantised'],
    ['w', undefined],
    ['7', undefined],
  ]);
  for (const t of tensors.slice(2)) expect([...(await readTensorF32(t))]).toEqual(ramp);
});

describe('a state dict under a key of its own', () => {
  const dict = op.dict(w, tensor, op.text('b'), tensor);
  const state = op.dict(op.text('state'), op.dict(op.int(0), op.dict(op.text('exp_avg'), tensor)));
  test.each([
    ['beside a tensor', op.dict(op.text('net'), dict, op.text('loss'), tensor)],
    ['beside a tensor, two deep', op.dict(op.text('loss'), tensor, op.text('a'), op.dict(op.text('net'), dict))],
    ['two deep, under a known one', op.dict(op.text('a'), op.dict(op.text('model_state_dict'), dict))],
    ['beside an optimiser', op.dict(op.text('net'), dict, op.text('optimizer'), state)],
    ['beside averages that lie deeper', op.dict(op.text('net'), dict, op.text('ema'), op.dict(op.text('a'), dict))],
    [
      'beside tensors under numbers',
      op.dict(op.text('a'), op.dict(op.text('net'), dict), op.text('c'), op.dict(op.int(7), tensor)),
    ],
  ])('%s', async (_, value) => {
    const found = await readPytorch(put(torchFile(pickle(value))));
    expect(found.map((t) => t.name)).toEqual(['w', 'b']);
  });
  test('fewer tensors within than beside it are part of the state', async () => {
    const file = put(torchFile(pickle(op.dict(w, tensor, op.text('b'), tensor, op.text('extra'), op.dict(w, tensor)))));
    expect((await readPytorch(file)).map((t) => t.name)).toEqual(['w', 'b']);
  });
});

test('two dicts of tensors, of which neither is known to be the one, are named', async () => {
  const one = op.dict(w, tensor);
  const file = put(torchFile(pickle(op.dict(op.text('encoder'), one, op.text('decoder'), one))));
  await expectRefused(readPytorch(file), file, /the only one of its kind; received a dict of \["encoder", "decoder"\]/);
});

test('tensors without dense values say what they are, others of foreign types are located', async () => {
  const all = await readPytorch(join(__dirname, 'torch', 'kinds.pth'));
  const [tensors, others] = [all.filter((t) => !t.unreadable), all.filter((t) => t.unreadable)];
  expect(others.map((t) => [t.name, t.unreadable])).toEqual([
    ['sparse', 'sparse'],
    ['meta', 'meta'],
    ['quantised', 'quantised'],
    ['conj', 'conjugated'],
  ]);
  for (const t of others)
    await expectRefused(readTensorF32(t), t.file, new RegExp(`tensor ${t.name} is ${t.unreadable} and cannot be read`));
  expect(tensors.map((t) => [t.name, t.dtype])).toEqual([
    ['w', 'f32'],
    ['f8', 'f8_e4m3'],
    ['u16', 'u16'],
    ['complex', 'c64'],
  ]);
});

describe('accepted', () => {
  const accepts = async (data: Buffer, options?: object) => {
    const [stored, ...rest] = await readPytorch(put(torchFile(data, [], options)));
    expect(rest).toEqual([]);
    expect(stored).toMatchObject({ name: 'w', dtype: 'f32', shape: [2, 3] });
    expect([...(await readTensorF32(stored!))]).toEqual([0, 1, 2, 3, 4, 5]);
  };
  const ordered = (...pairs: Buffer[]) =>
    op.reduce(op.global('collections', 'OrderedDict'), op.tuple(op.list(...pairs.map((pair) => pair))));

  test('a dict', () => accepts(pickle(op.dict(w, tensor))));
  test('an OrderedDict with attributes', () => accepts(pickle(op.build(ordered(op.tuple(w, tensor)), op.dict()))));
  test('values that are no tensors, beside them', () =>
    accepts(pickle(op.dict(w, tensor, op.text('version'), op.int(3)))));
  test('keys that mean something to JavaScript', () =>
    accepts(pickle(op.dict(op.text('__proto__'), op.dict(op.text('polluted'), op.int(1)), w, tensor))));
  test.each(['state_dict', 'model', 'module', 'model_state_dict'])('a dict under %s', (key) =>
    accepts(pickle(op.dict(op.text('epoch'), op.int(3), op.text(key), op.dict(w, tensor)))),
  );
  test('two wrappings', () =>
    accepts(pickle(op.dict(op.text('model'), op.dict(op.text('state_dict'), op.dict(w, tensor))))));
  test('zip64', () => accepts(pickle(op.dict(w, tensor)), { zip64: true }));
  test('a zip comment', () => accepts(pickle(op.dict(w, tensor)), { comment: 'x'.repeat(40) }));
  test('a list that holds itself', () =>
    accepts(pickle(op.dict(w, tensor, op.text('loop'), Buffer.from(']q\x00h\x00a')))));
  test('a tensor named __proto__', async () => {
    const [stored] = await readPytorch(put(torchFile(pickle(op.dict(op.text('__proto__'), tensor)))));
    expect(stored!.name).toBe('__proto__');
    expect(({} as { polluted?: number }).polluted).toBeUndefined();
  });
});

describe('nothing in a pickle runs', () => {
  const marker = join(folders.put({}), 'ran');
  const run = op.tuple(op.text(`touch ${marker}`));
  const stackGlobal = (module: string, name: string) => Buffer.concat([op.text(module), op.text(name), op.code(0x93)]);
  test.each<[string, Buffer, RegExp]>([
    ['os.system', op.reduce(op.global('os', 'system'), run), /at byte 2: "os\.system" is refused/],
    ['posix.system by STACK_GLOBAL', op.reduce(stackGlobal('posix', 'system'), run), /"posix\.system" is refused/],
    ['builtins.eval', op.reduce(op.global('builtins', 'eval'), run), /"builtins\.eval" is refused/],
    ['builtins.getattr', op.global('builtins', 'getattr'), /"builtins\.getattr" is refused/],
    ['subprocess.Popen', op.global('subprocess', 'Popen'), /"subprocess\.Popen" is refused/],
    ['torch.load', op.reduce(op.global('torch', 'load'), run), /"torch\.load" is refused/],
    ['torch.hub.load', op.global('torch.hub', 'load'), /"torch\.hub\.load" is refused/],
    [
      'a module of torch',
      op.global('torch.nn.modules.linear', 'Linear'),
      /"torch\.nn\.modules\.linear\.Linear" is refused/,
    ],
    ['a dotted path through a known name', op.global('torch._utils', '_rebuild_tensor_v2.__globals__'), /is refused/],
    ['a property of every object', op.global('constructor', 'constructor'), /"constructor\.constructor" is refused/],
    ['a name without a module', op.global('', '__proto__'), /is refused/],
    ['INST', Buffer.from('(ios\nsystem\n'), /INST is refused/],
    [
      'OBJ',
      Buffer.concat([op.code(0x28), op.global('collections', 'OrderedDict'), Buffer.from('o')]),
      /OBJ is refused/,
    ],
    [
      'NEWOBJ',
      Buffer.concat([op.global('torch', 'FloatStorage'), op.code(0x29, 0x81)]),
      /REDUCE of torch\.FloatStorage/,
    ],
    ['NEWOBJ_EX', op.code(0x7d, 0x29, 0x7d, 0x92), /NEWOBJ_EX is refused/],
    ['EXT1', op.code(0x82, 1), /EXT1 is refused/],
    ['PERSID', Buffer.from('Pos.system\n'), /PERSID is refused/],
    [
      'calling a class of storage',
      op.reduce(op.global('torch', 'FloatStorage'), op.code(0x29)),
      /REDUCE of torch\.FloatStorage/,
    ],
    ['calling a text', op.reduce(op.text('os.system'), run), /REDUCE of "os\.system" is refused/],
    ['attributes of a tuple', op.build(op.tuple(w), op.dict()), /BUILD of Tuple is refused/],
    ['attributes of a dict', op.build(op.dict(), op.dict(op.text('__class__'), op.int(1))), /BUILD of Map is refused/],
    [
      'attributes of a function',
      op.build(op.global('torch._utils', '_rebuild_tensor_v2'), op.dict()),
      /BUILD of Global/,
    ],
    ['a persistent id that is no storage', op.persistent(op.text('x')), /expected a storage as .* received "x"/],
    [
      'a storage of a foreign type',
      op.persistent(op.tuple(op.text('storage'), op.text('os'), w, w, op.int(1))),
      /"os"/,
    ],
    ['a storage that nobody knows', op.global('torch', 'QuaternionStorage'), /"torch\.QuaternionStorage" is refused/],
    [
      'any function by way of a subclass of tensors',
      op.reduce(
        op.global('torch._tensor', '_rebuild_from_type_v2'),
        op.tuple(op.global('_codecs', 'encode'), op.global('torch', 'Tensor'), op.tuple(w), op.dict()),
      ),
      /expected a rebuild function/,
    ],
  ])('%s', async (_, hostile, message) => {
    for (const data of [pickle(hostile), pickle(op.dict(w, tensor, op.text('x'), hostile))]) {
      const file = put(torchFile(data));
      const loosened = new RegExp(message.source.replace('at byte 2: ', 'at byte \\d+: '));
      await expectRefused(readPytorch(file), file, loosened);
    }
    expect(existsSync(marker)).toBe(false);
  });
});

describe('malformed pickles are refused', () => {
  test.each<[string, Buffer, RegExp]>([
    ['nothing', Buffer.alloc(0), /at byte 0: expected 1 more bytes, received 0/],
    ['no STOP', op.code(0x80, 2, 0x7d), /expected 1 more bytes/],
    ['STOP alone', pickle(), /expected a value on the stack/],
    ['protocol 0', op.code(0x80, 0), /expected pickle protocol 2 to 5, received 0/],
    ['protocol 6', op.code(0x80, 6), /received 6/],
    ['an unknown opcode', pickle(op.code(0xff)), /expected an opcode, received byte 0xff/],
    [
      'a text beyond the end',
      pickle(Buffer.from('X\xff\xff\xff\x7f', 'latin1')),
      /expected 2147483647 more bytes, received 1/,
    ],
    ['a text of 2^64 - 1 bytes', pickle(op.code(0x8d, 255, 255, 255, 255, 255, 255, 255, 255)), /more bytes/],
    ['a frame beyond the end', pickle(op.code(0x95, 0, 0, 0, 0, 0, 0, 1, 0)), /more bytes/],
    ['an integer of 2^31 bytes', pickle(op.code(0x8b, 255, 255, 255, 127)), /integer of at most 255 bytes/],
    ['an integer of -1 bytes', pickle(op.code(0x8b, 255, 255, 255, 255)), /more bytes/],
    ['a memo entry that is not there', pickle(op.code(0x68, 9)), /expected a value in memo 9/],
    ['a tuple without a mark', pickle(Buffer.from('t')), /expected a mark/],
    ['a pair of one', pickle(op.code(0x4e, 0x86)), /expected 2 values on the stack, received 1/],
    ['an odd number of items', pickle(op.dict(w)), /keys and values in pairs/],
    ['items for a list', pickle(Buffer.from('](NNu')), /SETITEM: expected a dict, received \[\]/],
    ['appending to a dict', pickle(Buffer.from('}(Ne')), /APPEND: expected a list, received Map/],
    ['a name without an end', pickle(Buffer.from('cos')), /expected a line, received the end/],
    ['a name that is a number', pickle(op.code(0x4b, 1, 0x4b, 2, 0x93)), /STACK_GLOBAL: expected two strings/],
    [
      'arguments that are no tuple',
      pickle(op.reduce(op.global('collections', 'OrderedDict'), op.list())),
      /tuple of arguments/,
    ],
    ['a million dicts and one', pickle(Buffer.alloc(1_000_001, '}')), /at most 1000000 containers/],
    ['many marks', pickle(Buffer.alloc(100_000, '(')), /1000 levels of nesting/],
    ['items for no set', pickle(op.code(0x7d, 0x28, 0x90)), /ADDITEMS: expected a set, received Map/],
    [
      'a list that is worked through again and again',
      pickle(
        Buffer.concat([
          op.tuple(op.list(...Array.from({ length: 3000 }, () => op.tuple(w, w)))),
          Buffer.from('q\0'),
          ...Array.from({ length: 3000 }, () =>
            Buffer.concat([op.global('collections', 'OrderedDict'), Buffer.from('h\0R')]),
          ),
        ]),
      ),
      /functions over at most 8000000 values/,
    ],
    [
      'no tensors',
      pickle(op.dict(op.text('epoch'), op.int(3))),
      /expected a dict of tensors.*received a dict of \["epoch"\]/,
    ],
    ['a list of tensors', pickle(op.list(tensor)), /received \[TorchTensor\]/],
    ['None', pickle(op.code(0x4e)), /received null/],
    ['a tensor under a number', pickle(op.dict(op.int(7), tensor)), /expected tensors under names, received 7/],
    [
      'an OrderedDict of a number',
      pickle(op.reduce(op.global('collections', 'OrderedDict'), op.tuple(op.int(1)))),
      /OrderedDict/,
    ],
    [
      'laughs by the billion',
      pickle(
        Buffer.from(
          `]q\0${Array.from({ length: 60 }, (_, i) => `](${`h${String.fromCharCode(i)}`.repeat(9)}eq${String.fromCharCode(i + 1)}`).join('')}`,
        ),
      ),
      /expected a dict of tensors/,
    ],
  ])('%s', async (_, data, message) => {
    const file = put(torchFile(data));
    await expectRefused(readPytorch(file), file, message);
  });
});

describe('lying tensors are refused', () => {
  test.each<[string, Partial<TensorSpec>, RegExp]>([
    ['a shape beyond the storage', { shape: [3, 3] }, /"w": expected shape \[3, 3\] .* storage of 6 values/],
    ['strides beyond the storage', { strides: [4, 1] }, /strides \[4, 1\]/],
    ['a start beyond the storage', { start: 1 }, /from 1 within/],
    ['a start beyond the storage, without values', { start: 7, shape: [0, 3] }, /from 7 within/],
    ['a view of values without end', { shape: [2 ** 20, 2 ** 20], strides: [0, 0] }, /repeats 1 values.*are refused/],
    ['a negative stride', { strides: [-3, 1] }, /strides as a tuple of sizes, received \[-3, 1\]/],
    ['a negative size', { shape: [-2, 3] }, /shape as a tuple of sizes/],
    ['a negative start', { start: -1 }, /expected an offset/],
    ['fewer strides than axes', { strides: [1] }, /expected a stride per axis of \[2, 3\], received \[1\]/],
    [
      'a size that overflows',
      { shape: Array(40).fill(2 ** 30), strides: Array(40).fill(2 ** 30) },
      /within a storage of 6/,
    ],
    ['a storage that is missing', { key: '1' }, /expected its storage data\/1 in the file, received none/],
    ['a storage outside', { key: '../../../../etc/passwd' }, /expected its storage/],
    ['a storage longer than its bytes', { length: 7 }, /expected 28 bytes for 7 f32 of storage 0, received 24/],
    ['a storage of wider values', { type: 'DoubleStorage' }, /expected 48 bytes for 6 f64/],
    ['a storage of negative length', { length: -6 }, /expected a storage/],
  ])('%s', async (_, lie, message) => {
    const file = put(torchFile(pickle(op.dict(w, pickledTensor({ ...matrix, ...lie })))));
    await expectRefused(readPytorch(file), file, message);
  });
});

test('putting many values in order leaves the event loop its turns', async () => {
  const side = 1500;
  const large = pickledTensor({ key: 'large', length: side * side, shape: [side, side], strides: [1, side] });
  const data = Buffer.from(Float32Array.from({ length: side * side }, (_, i) => i).buffer);
  const file = put(torchFile(pickle(op.dict(w, large)), [{ name: 'archive/data/large', data }]));
  const [stored] = await readPytorch(file);
  let turns = 0;
  const timer = setInterval(() => turns++, 0);
  const values = await readTensorF32(stored!);
  clearInterval(timer);
  expect([values[1], values[side], values.at(-1)]).toEqual([side, 1, side * side - 1]);
  expect(turns).toBeGreaterThan(2);
});
