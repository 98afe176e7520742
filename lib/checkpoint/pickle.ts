// PyTorch's file: a zip with NAME/data.pkl, a pickle of the structure, and NAME/data/KEY, the bytes of each storage.
// Tensors are views of storages: they are located, not read.
import { show } from '../errors.js';
import { InputFile } from './files.js';
import { checkpointError, itemBytes, type ReadableDType, type StoredTensor } from './stored.js';
import { Global, OrderedDict, type PickleValue, Tuple, unpickle } from './unpickle.js';
import { ZipFile } from './zip.js';

/** Some 100,000 tensors. The worst such pickle takes 0.5 GB and 2 s. */
const maxPickleBytes = 16 * 1024 * 1024;
/** What training scripts put around a state dict. */
const wrappers = ['state_dict', 'model_state_dict', 'model', 'module'];

const storageTypes: Record<string, ReadableDType> = {
  'torch.FloatStorage': 'f32',
  'torch.HalfStorage': 'f16',
  'torch.BFloat16Storage': 'bf16',
  'torch.DoubleStorage': 'f64',
  'torch.LongStorage': 'i64',
  'torch.IntStorage': 'i32',
  'torch.ShortStorage': 'i16',
  'torch.CharStorage': 'i8',
  'torch.ByteStorage': 'u8',
  'torch.BoolStorage': 'bool',
  'torch.storage.UntypedStorage': 'u8',
  'torch.UntypedStorage': 'u8',
};

class Storage {
  constructor(
    readonly key: string,
    readonly dtype: ReadableDType,
    readonly length: number,
  ) {}
}

class TorchTensor {
  constructor(
    readonly storage: Storage,
    readonly start: number,
    readonly shape: readonly number[],
    readonly strides: readonly number[],
  ) {}
}

/** The tensors of a pytorch_model.bin or .pth file. */
export function readPytorch(path: string): Promise<StoredTensor[]> {
  return InputFile.use(path, async (file) => {
    await checkKind(file);
    const zip = await ZipFile.open(file);
    const root = archiveRoot(path, zip);
    await checkByteOrder(path, zip, root);
    const pickle = await zip.read(zip.entries.get(`${root}data.pkl`)!, maxPickleBytes);
    const where = `${path}: data.pkl`;
    const tensors = stateDict(where, unpickle(pickle, where, vocabulary(where)));
    return locate(path, zip, `${root}data/`, tensors);
  });
}

async function checkKind(file: InputFile): Promise<void> {
  const head = await file.read(0, Math.min(file.size, 4), 'signature');
  if (head.toString('latin1') === 'PK\x03\x04') return;
  const legacy =
    head[0] === 0x80 ? ': this is the format of PyTorch before 1.6; load it there and save it with torch.save' : '';
  throw checkpointError(file.path, `expected a PyTorch zip file, received other bytes${legacy}`);
}

/** PyTorch names the folder inside after the file; all that is known is that it holds data.pkl. */
function archiveRoot(path: string, zip: ZipFile): string {
  const pickles = [...zip.entries.keys()].filter((name) => /^[^/]+\/data\.pkl$/.test(name));
  if (pickles.length !== 1) {
    throw checkpointError(path, `expected one NAME/data.pkl in the zip file, received ${pickles.length}`);
  }
  return pickles[0]!.slice(0, -'data.pkl'.length);
}

async function checkByteOrder(path: string, zip: ZipFile, root: string): Promise<void> {
  const entry = zip.entries.get(`${root}byteorder`);
  if (entry === undefined) return;
  const order = (await zip.read(entry, 16)).toString('latin1');
  if (order !== 'little') throw checkpointError(path, `byteorder: expected little, received ${show(order)}`);
}

function vocabulary(where: string) {
  const globals = new Map<string, Global>();
  const define = (name: string, call?: (args: PickleValue[]) => PickleValue) =>
    globals.set(name, new Global(name, call));
  for (const name of Object.keys(storageTypes)) define(name);
  define('collections.OrderedDict', ([items, ...rest]) => orderedDict(where, items, rest));
  define('torch.Size', ([sizes]) => new Tuple(sizesOf(where, 'torch.Size', sizes)));
  define('torch._utils._rebuild_tensor', ([storage, start, shape, strides]) =>
    rebuildTensor(where, storage, start, shape, strides),
  );
  define('torch._utils._rebuild_tensor_v2', ([storage, start, shape, strides]) =>
    rebuildTensor(where, storage, start, shape, strides),
  );
  define('torch._utils._rebuild_parameter', ([data]) => parameter(where, data));
  return { globals, persistent: (id: PickleValue) => storageOf(where, id) };
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

/** ('storage', type, key, device, length) */
function storageOf(where: string, id: PickleValue): Storage {
  const [kind, type, key, , length] = id instanceof Tuple ? id.items : [];
  const dtype = type instanceof Global ? storageTypes[type.name] : undefined;
  if (kind !== 'storage' || dtype === undefined || typeof key !== 'string' || !isSize(length)) {
    const got = id instanceof Tuple ? id.items.map((item) => (item instanceof Global ? item.name : item)) : id;
    throw checkpointError(where, `expected a storage as ('storage', type, key, device, length), received ${show(got)}`);
  }
  return new Storage(key, dtype, length);
}

function rebuildTensor(where: string, storage: unknown, start: unknown, shape: unknown, strides: unknown): TorchTensor {
  if (!(storage instanceof Storage))
    throw checkpointError(where, `tensor: expected a storage, received ${show(storage)}`);
  if (!isSize(start))
    throw checkpointError(where, `tensor: expected an offset into its storage, received ${show(start)}`);
  const sizes = sizesOf(where, 'shape', shape);
  const steps = sizesOf(where, 'strides', strides);
  if (sizes.length !== steps.length) {
    throw checkpointError(where, `tensor: expected a stride per axis of ${show(sizes)}, received ${show(steps)}`);
  }
  return new TorchTensor(storage, start, sizes, steps);
}

function parameter(where: string, data: PickleValue | undefined): TorchTensor {
  if (!(data instanceof TorchTensor))
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

/** The dict that holds the tensors: the pickle's own, or one that a training script wrapped. */
function stateDict(where: string, root: PickleValue): Map<string, TorchTensor> {
  let dict = root;
  for (let depth = 0; depth <= 2 && dict instanceof Map; depth++) {
    const tensors = tensorsIn(where, dict);
    if (tensors.size > 0) return tensors;
    const known: Map<PickleValue, PickleValue> = dict;
    const inner = wrappers.find((key) => known.get(key) instanceof Map);
    if (inner === undefined) break;
    dict = known.get(inner)!;
  }
  const got = root instanceof Map ? `a dict of ${show([...root.keys()])}` : show(root);
  throw checkpointError(where, `expected a dict of tensors, bare or under ${wrappers.join(', ')}; received ${got}`);
}

function tensorsIn(where: string, dict: Map<PickleValue, PickleValue>): Map<string, TorchTensor> {
  const tensors = new Map<string, TorchTensor>();
  for (const [name, value] of dict) {
    if (!(value instanceof TorchTensor)) continue;
    if (typeof name !== 'string') throw checkpointError(where, `expected tensors under names, received ${show(name)}`);
    tensors.set(name, value);
  }
  return tensors;
}

async function locate(
  file: string,
  zip: ZipFile,
  dataFolder: string,
  tensors: Map<string, TorchTensor>,
): Promise<StoredTensor[]> {
  const starts = new Map<string, number>();
  const located: StoredTensor[] = [];
  for (const [name, { storage, start, shape, strides }] of tensors) {
    const where = `${file}: tensor ${show(name)}`;
    const { dtype, key } = storage;
    const bytes = itemBytes[dtype];
    const entry = zip.entries.get(dataFolder + key);
    if (entry === undefined)
      throw checkpointError(where, `expected its storage data/${key} in the zip file, received none`);
    if (entry.size < storage.length * bytes) {
      throw checkpointError(
        where,
        `expected ${storage.length * bytes} bytes for ${storage.length} ${dtype} of storage ${key}, received ${entry.size}`,
      );
    }
    const count = shape.reduce((product, size) => product * size, 1);
    const extent = count === 0 ? 0 : shape.reduce((last, size, axis) => last + (size - 1) * strides[axis]!, 1);
    if (start + extent > storage.length || count > storage.length) {
      throw checkpointError(
        where,
        `expected shape ${show(shape)} with strides ${show(strides)} from ${start} within a storage of ${storage.length} values`,
      );
    }
    let dataStart = starts.get(key);
    if (dataStart === undefined) {
      dataStart = await zip.dataOffset(entry);
      starts.set(key, dataStart);
    }
    const tensor = { name, dtype, shape, file, offset: dataStart + start * bytes, byteLength: extent * bytes };
    located.push(isContiguous(shape, strides, count) ? tensor : { ...tensor, strides });
  }
  return located;
}

function isContiguous(shape: readonly number[], strides: readonly number[], count: number): boolean {
  if (count === 0) return true;
  let expected = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    if (shape[axis] !== 1 && strides[axis] !== expected) return false;
    expected *= shape[axis]!;
  }
  return true;
}
