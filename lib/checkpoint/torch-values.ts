// What a pickle of PyTorch may name, by the list of torch.load(weights_only=True) of torch 2.13: tensors as views of
// storages, the functions that rebuild them, and a few containers. What has no dense values here is kept as its kind.
import { show } from '../errors.js';
import { checkpointError, type foreignBits, type StoredDType } from './stored.js';
import { Global, OrderedDict, type PickleValue, Tuple, type Vocabulary } from './unpickle.js';

/** A storage type and its dtype; in its place, of those whose values are not read, the bytes of one. */
const STORAGES: Record<string, StoredDType | number> = {
  Float: 'f32',
  Half: 'f16',
  BFloat16: 'bf16',
  Double: 'f64',
  Long: 'i64',
  Int: 'i32',
  Short: 'i16',
  Char: 'i8',
  Byte: 'u8',
  Bool: 'bool',
  ComplexFloat: 'c64',
  ComplexDouble: 16,
  QUInt8: 1,
  QInt8: 1,
  QInt32: 4,
  QUInt4x2: 1,
  QUInt2x4: 1,
};
const DTYPES: Record<string, StoredDType | undefined> = {
  float32: 'f32',
  float16: 'f16',
  bfloat16: 'bf16',
  float64: 'f64',
  int64: 'i64',
  int32: 'i32',
  int16: 'i16',
  int8: 'i8',
  uint8: 'u8',
  bool: 'bool',
  uint16: 'u16',
  uint32: 'u32',
  uint64: 'u64',
  complex64: 'c64',
  float8_e4m3fn: 'f8_e4m3',
  float8_e5m2: 'f8_e5m2',
  float8_e4m3fnuz: 'f8_e4m3fnuz',
  float8_e5m2fnuz: 'f8_e5m2fnuz',
  float8_e8m0fnu: 'f8_e8m0',
} satisfies Record<string, StoredDType | keyof typeof foreignBits>;
/** Dtypes and schemes without values here: nothing but names. */
const NAMES =
  `complex32 complex128 chalf float4_e2m1fn_x2 quint8 qint8 qint32 quint4x2 quint2x4 bits1x8 bits2x4 bits4x2 bits8 bits16
  uint1 uint2 uint3 uint4 uint5 uint6 uint7 int1 int2 int3 int4 int5 int6 int7 per_tensor_affine per_tensor_symmetric
  per_channel_affine per_channel_symmetric per_channel_affine_float_qparams Tensor storage.TypedStorage`.split(/\s+/);
/** Types of tensors by their values, which are named and hold nothing: dense or sparse ones, of a processor or a device. */
const TENSOR_TYPES = 'BFloat16 Bool Byte Char Double Float Half Int Long Short'.split(' ');
/** Rebuild functions whose tensors have no dense values in the file. */
const ABSTRACT: Record<string, string> = {
  '_utils._rebuild_qtensor': 'quantised',
  '_utils._rebuild_sparse_tensor': 'sparse',
  '_utils._rebuild_meta_tensor_no_storage': 'meta',
  '_utils._rebuild_nested_tensor': 'nested',
  '_utils._rebuild_wrapper_subclass': 'wrapped',
  '_utils._rebuild_device_tensor_from_numpy': 'numpy',
  'nested._internal.nested_tensor._rebuild_njt': 'nested',
};

export class Storage {
  constructor(
    readonly key: string,
    /** A number: of values that are not read, of so many bytes each. 'bytes': typed by the tensors over it. */
    readonly dtype: StoredDType | 'bytes' | number,
    /** In values. */
    readonly length: number,
    /** Of a view that very old files name apart: its first value in the storage. */
    readonly first = 0,
  ) {}
}

export class TorchTensor {
  constructor(
    readonly storage: Storage,
    readonly dtype: StoredDType,
    readonly start: number,
    readonly shape: readonly number[],
    readonly strides: readonly number[],
    /** Its values are the storage's with the other sign: PyTorch negates some views only when they are read. */
    readonly negated = false,
  ) {}
}

/** A tensor without dense values that can be read. */
export class AbstractTensor {
  constructor(readonly kind: string) {}
}

export function torchVocabulary(where: string): Vocabulary {
  const globals = new Map<string, Global>();
  const define = (name: string, call?: (args: PickleValue[]) => PickleValue) =>
    globals.set(name, new Global(name, call));
  for (const place of ['torch', 'torch.cuda']) {
    for (const name of Object.keys(STORAGES)) define(`${place}.${name}Storage`);
    for (const name of TENSOR_TYPES) {
      define(`${place}.${name}Tensor`);
      define(`${place}.sparse.${name}Tensor`);
    }
  }
  for (const name of ['torch.storage.UntypedStorage', 'torch.UntypedStorage']) define(name);
  for (const name of [...Object.keys(DTYPES), ...NAMES]) define(`torch.${name}`);

  define('collections.OrderedDict', ([items, ...rest]) => orderedDict(where, items, rest));
  define('collections.Counter', ([items]) => (items instanceof Map ? new OrderedDict(items) : new OrderedDict()));
  // Python 2's names, which protocol 2 keeps.
  for (const module of ['builtins', '__builtin__']) {
    define(`${module}.set`, ([items]) => new Set(Array.isArray(items) ? items : []));
    define(`${module}.bytearray`, ([bytes]) => bytes ?? new Uint8Array(0));
    define(`${module}.complex`, (args) => new Tuple(args));
  }
  define('_codecs.encode', ([text]) => text ?? '');
  define('torch.device', (args) => new Tuple(args));
  define('torch.serialization._get_layout', ([name]) => name ?? null);
  define('torch.Size', ([sizes]) => new Tuple(sizesOf(where, 'torch.Size', sizes)));

  const tensor = ([storage, start, shape, strides, , , marks]: PickleValue[]) => {
    const built = rebuild(where, storage, start, shape, strides);
    if (!(marks instanceof Map && built instanceof TorchTensor)) return built;
    if (marks.get('conj')) return new AbstractTensor('conjugated');
    if (!marks.get('neg')) return built;
    return new TorchTensor(built.storage, built.dtype, built.start, built.shape, built.strides, true);
  };
  define('torch._utils._rebuild_tensor', tensor);
  define('torch._utils._rebuild_tensor_v2', tensor);
  define('torch._utils._rebuild_tensor_v3', ([storage, start, shape, strides, , , dtype]) =>
    rebuild(where, storage, start, shape, strides, dtype),
  );
  for (const [name, kind] of Object.entries(ABSTRACT)) define(`torch.${name}`, () => new AbstractTensor(kind));
  const parameter = ([data]: PickleValue[]) => tensorOf(where, data);
  define('torch._utils._rebuild_parameter', parameter);
  define('torch._utils._rebuild_parameter_with_state', parameter); // its attributes change no value
  define('torch._utils._rebuild_device_tensor_from_cpu_tensor', parameter);
  define('torch.nn.parameter.Parameter', parameter);
  define('torch._tensor._rebuild_from_type_v2', ([func, , args]) => {
    if (!(func instanceof Global) || !func.name.startsWith('torch._utils._rebuild') || !(args instanceof Tuple))
      throw checkpointError(where, `tensor: expected a rebuild function and its arguments, received ${show(func)}`);
    return tensorOf(where, func.call!([...args.items]));
  });
  return { globals, persistent: (id) => storageOf(where, id) };
}

function orderedDict(where: string, items: PickleValue | undefined, rest: PickleValue[]): OrderedDict {
  const pairs = items === undefined ? [] : items;
  if (rest.length > 0 || !Array.isArray(pairs))
    throw checkpointError(where, 'OrderedDict: expected no arguments or a list');
  const dict = new OrderedDict();
  for (const pair of pairs as PickleValue[]) {
    const entry = pair instanceof Tuple ? pair.items : pair;
    if (!Array.isArray(entry) || entry.length !== 2)
      throw checkpointError(where, 'OrderedDict: expected a list of pairs');
    dict.set(entry[0], entry[1]);
  }
  return dict;
}

/** ('storage', type, key, device, length), and before PyTorch 1.6 what it is a view of: (key, first, length). */
function storageOf(where: string, id: PickleValue): Storage {
  const [kind, type, key, , length, view] = id instanceof Tuple ? id.items : [];
  const name = type instanceof Global ? type.name : '';
  const typed = /^torch\.(?:cuda\.)?(\w+)Storage$/.exec(name)?.[1];
  const untyped = name === 'torch.storage.UntypedStorage' || typed === 'Untyped';
  const known = untyped || (typed !== undefined && Object.hasOwn(STORAGES, typed));
  if (kind !== 'storage' || !known || typeof key !== 'string' || !isSize(length)) {
    const got = id instanceof Tuple ? id.items.map((item) => (item instanceof Global ? item.name : item)) : id;
    throw checkpointError(where, `expected a storage as ('storage', type, key, device, length), received ${show(got)}`);
  }
  const dtype = untyped ? 'bytes' : STORAGES[typed!]!;
  const [, first, size] = view instanceof Tuple ? view.items : [];
  return isSize(first) && isSize(size) ? new Storage(key, dtype, size, first) : new Storage(key, dtype, length);
}

function rebuild(
  where: string,
  storage: unknown,
  start: unknown,
  shape: unknown,
  strides: unknown,
  typed?: unknown,
): TorchTensor | AbstractTensor {
  if (!(storage instanceof Storage))
    throw checkpointError(where, `tensor: expected a storage, received ${show(storage)}`);
  if (!isSize(start))
    throw checkpointError(where, `tensor: expected an offset into its storage, received ${show(start)}`);
  const sizes = sizesOf(where, 'shape', shape);
  const steps = sizesOf(where, 'strides', strides);
  if (sizes.length !== steps.length) {
    throw checkpointError(where, `tensor: expected a stride per axis of ${show(sizes)}, received ${show(steps)}`);
  }
  const own = storage.dtype === 'bytes' ? 'u8' : storage.dtype;
  const dtype = typed instanceof Global ? DTYPES[typed.name.slice('torch.'.length)] : own;
  return dtype === undefined || typeof dtype === 'number'
    ? new AbstractTensor(typed instanceof Global ? typed.name : 'of an unread type')
    : new TorchTensor(storage, dtype, start, sizes, steps);
}

function tensorOf(where: string, data: PickleValue | undefined): TorchTensor | AbstractTensor {
  if (!(data instanceof TorchTensor || data instanceof AbstractTensor))
    throw checkpointError(where, `parameter: expected a tensor, received ${show(data)}`);
  return data;
}

function sizesOf(where: string, what: string, value: unknown): number[] {
  const items = value instanceof Tuple ? value.items : value;
  if (!Array.isArray(items) || !items.every(isSize)) {
    throw checkpointError(where, `tensor: expected ${what} as a tuple of sizes, received ${show(items)}`);
  }
  return items;
}

function isSize(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
