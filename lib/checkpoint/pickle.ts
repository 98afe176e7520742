// PyTorch's files. Since 1.6: a zip with NAME/data.pkl, a pickle of the structure, and NAME/data/KEY, the bytes of each
// storage. Tensors are views of storages: they are located, not read.
import { show } from '../errors.js';
import { Turns } from '../turns.js';
import { InputFile, refusePlaceholder } from './files.js';
import { changed, multiplied } from './pieces.js';
import { bitsOf, checkpointError, isReadable, type StoredTensor } from './stored.js';
import { looksLegacy, readLegacy } from './torch-legacy.js';
import { AbstractTensor, TorchTensor, torchVocabulary } from './torch-values.js';
import { type PickleValue, unpickle } from './unpickle.js';
import { computed } from './views.js';
import { ZipFile } from './zip.js';

/** Some 100,000 tensors. */
const maxPickleBytes = 16 * 1024 * 1024;
/** What training scripts put around a state dict. */
const wrappers = ['state_dict', 'model_state_dict', 'model', 'module'];
/** How deep they are looked for. */
const maxWrappings = 2;
/** Bytes that views which repeat their storage (expand) may take together, beside those of the file. */
const maxRepeatedBytes = 256 * 1024 * 1024;

type Place = { offset: number; size: number };

/** The tensors of a pytorch_model.bin or .pth file. */
export function readPytorch(path: string, signal?: AbortSignal): Promise<StoredTensor[]> {
  const turns = new Turns(signal);
  return InputFile.use(path, async (file) => {
    await refusePlaceholder(file, 'PyTorch');
    const head = await file.read(0, Math.min(file.size, 4), 'signature');
    if (looksLegacy(head)) {
      const { root, place } = await readLegacy(file, turns);
      return locate(file, stateDict(path, root), async (key) => place(key));
    }
    if (head.toString('latin1') !== 'PK\x03\x04')
      throw checkpointError(path, 'expected a PyTorch file (a zip file, or a pickle before 1.6), received other bytes');
    const zip = await ZipFile.open(file);
    const folder = archiveRoot(path, zip);
    await checkByteOrder(path, zip, folder);
    const pickle = await zip.read(zip.entries.get(`${folder}data.pkl`)!, maxPickleBytes);
    const where = `${path}: data.pkl`;
    const { value } = await unpickle(pickle, where, torchVocabulary(where), turns);
    return locate(file, stateDict(where, value), async (key) => {
      const entry = zip.entries.get(`${folder}data/${key}`);
      return entry && { offset: await zip.dataOffset(entry), size: entry.size };
    });
  });
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

type Tensors = Map<string, TorchTensor | AbstractTensor>;

/**
 * The dict that holds the tensors: the one under a wrapper's key, whatever tensors (a generator's state) lie beside it, or
 * else the only one among the pickle's values that holds more parameters than the pickle does by itself, or else its own.
 */
function stateDict(where: string, root: PickleValue): Tensors {
  const found = root instanceof Map ? tensorsWithin(where, root, 0) : undefined;
  if (found) return found;
  const got = root instanceof Map ? `a dict of ${show([...root.keys()])}` : show(root);
  throw checkpointError(
    where,
    `expected a dict of tensors, bare or under ${wrappers.join(', ')} or another key that is the only one of its kind; received ${got}`,
  );
}

function tensorsWithin(where: string, dict: Map<PickleValue, PickleValue>, depth: number): Tensors | undefined {
  if (depth > maxWrappings) return undefined;
  for (const key of wrappers) {
    const inner = dict.get(key);
    const found = inner instanceof Map ? tensorsWithin(where, inner, depth + 1) : undefined;
    if (found) return found;
  }
  const own = tensorsIn(where, dict, depth === 0);
  const values = [...dict.values()].filter((value) => value instanceof Map);
  const direct = values.filter((value) => parametersIn(value) > 0);
  const deeper = () => values.flatMap((value) => tensorsWithin(where, value, depth + 1) ?? []);
  const [only, ...others] = direct.length > 0 ? direct.map((value) => tensorsIn(where, value)) : deeper();
  if (only && others.length === 0 && parametersIn(only) > parametersIn(own)) return only;
  return own.size > 0 ? own : undefined;
}

const PARAMETERS: readonly string[] = ['f32', 'f16', 'bf16', 'f64'];

function parametersIn(dict: ReadonlyMap<PickleValue, PickleValue | AbstractTensor>): number {
  let count = 0;
  for (const [name, value] of dict)
    if (typeof name === 'string' && value instanceof TorchTensor && PARAMETERS.includes(value.dtype)) count++;
  return count;
}

function tensorsIn(where: string, dict: Map<PickleValue, PickleValue>, isRoot = false): Tensors {
  const tensors: Tensors = new Map();
  const nameless: Tensors = new Map();
  for (const [name, value] of dict) {
    if (!(value instanceof TorchTensor || value instanceof AbstractTensor)) continue;
    if (typeof name === 'string') tensors.set(name, value);
    else nameless.set(show(name), value);
  }
  const [first] = nameless.keys();
  if (tensors.size === 0 && first !== undefined && isRoot)
    throw checkpointError(where, `expected tensors under names, received ${first}`);
  if (tensors.size > 0) for (const [name, value] of nameless) if (!tensors.has(name)) tensors.set(name, value);
  return tensors;
}

async function locate(
  file: InputFile,
  tensors: Tensors,
  find: (key: string) => Promise<Place | undefined>,
): Promise<StoredTensor[]> {
  const places = new Map<string, Place | undefined>();
  const located: StoredTensor[] = [];
  let repeated = 0;
  for (const [name, tensor] of tensors) {
    if (tensor instanceof AbstractTensor) {
      located.push({
        name,
        dtype: 'u8',
        shape: [],
        file: file.path,
        offset: 0,
        byteLength: 0,
        unreadable: tensor.kind,
      });
      continue;
    }
    const { storage, dtype, start, shape, strides } = tensor;
    const where = `${file.path}: tensor ${show(name)}`;
    if (!places.has(storage.key)) places.set(storage.key, await find(storage.key));
    const place = places.get(storage.key);
    if (place === undefined)
      throw checkpointError(where, `expected its storage data/${storage.key} in the file, received none`);
    const bytes = bitsOf(dtype) / 8;
    const values = storage.dtype === 'bytes' && dtype !== 'u8' ? Math.floor(storage.length / bytes) : storage.length;
    if (place.size < (storage.first + values) * bytes) {
      throw checkpointError(
        where,
        `expected ${(storage.first + values) * bytes} bytes for ${storage.first + values} ${dtype} of storage ${storage.key}, received ${place.size}`,
      );
    }
    const count = shape.reduce((product, size) => product * size, 1);
    const extent = count === 0 ? 0 : shape.reduce((last, size, axis) => last + (size - 1) * strides[axis]!, 1);
    if (start + extent > values) {
      throw checkpointError(
        where,
        `expected shape ${show(shape)} with strides ${show(strides)} from ${start} within a storage of ${values} values`,
      );
    }
    if (count > extent) repeated += (count - extent) * (isReadable(dtype) ? 4 : bytes);
    if (repeated > maxRepeatedBytes + file.size) {
      throw checkpointError(
        where,
        `its shape ${show(shape)} repeats ${extent} values: views that take over ${maxRepeatedBytes} bytes more than the file are refused`,
      );
    }
    const offset = place.offset + (storage.first + start) * bytes;
    const stored = { name, dtype, shape, file: file.path, offset, byteLength: extent * bytes };
    const view = isContiguous(shape, strides, count) ? stored : { ...stored, strides };
    located.push(tensor.negated ? negated(view) : view);
  }
  return located;
}

/** The place by a name of its own: the same values there are not these. */
const negated = (view: StoredTensor): StoredTensor => ({
  ...computed({ ...view, name: `${view.name} (negated)` }, view.shape, (values) => changed(values, multiplied(-1))),
  name: view.name,
});

function isContiguous(shape: readonly number[], strides: readonly number[], count: number): boolean {
  if (count === 0) return true;
  let expected = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    if (shape[axis] !== 1 && strides[axis] !== expected) return false;
    expected *= shape[axis]!;
  }
  return true;
}
