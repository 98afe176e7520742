import { join } from 'node:path';
import { describe, test } from 'vitest';
import { readPytorch } from '../../dist/lib/checkpoint/pickle.js';
import {
  expectRefused,
  matrix,
  op,
  pickle,
  pickledTensor,
  scratchFolders,
  torchFile,
  zip,
} from '../support/checkpoint-files.js';

const folders = scratchFolders();
const put = (bytes: Uint8Array) => join(folders.put({ 'pytorch_model.bin': bytes }), 'pytorch_model.bin');
const good = pickle(op.dict(op.text('w'), pickledTensor(matrix)));
const storage = Buffer.alloc(24);

/** A copy with some bytes of the end record, 22 from the end, replaced. */
function ending(bytes: Buffer, at: number, value: number, width: 1 | 2 | 4): Buffer {
  const copy = Buffer.from(bytes);
  copy.writeUIntLE(value, copy.length - 22 + at, width);
  return copy;
}

describe('refused, naming the file', () => {
  const file = torchFile(good);
  test.each<[string, Buffer, RegExp]>([
    ['an empty file', Buffer.alloc(0), /the file is empty/],
    ['a file of two bytes', Buffer.from('PK'), /expected a PyTorch file/],
    ['a pickle without a zip', good, /expected a file of PyTorch, received other bytes/],
    [
      'a safetensors file',
      Buffer.from('\x02\0\0\0\0\0\0\0{}'),
      /received one of safetensors: name it model\.safetensors$/,
    ],
    ['a tar file', Buffer.alloc(10240), /expected a PyTorch file/],
    ['a head alone', Buffer.from('PK\x03\x04'), /no sound zip file/],
    [
      'a directory beyond the file',
      ending(file, 16, file.length, 4),
      /zip directory: expected .* bytes at .* received a file/,
    ],
    ['more entries than there are', ending(file, 10, 3, 2), /zip directory: expected 46 bytes at/],
    ['fewer entries than are needed', ending(file, 10, 1, 2), /expected its storage data\/0/],
    ['no entries', ending(file, 10, 0, 2), /expected one NAME\/data\.pkl in the zip file, received 0/],
    ['a directory elsewhere', ending(file, 16, 0, 4), /no sound zip file/],
    ['a comment longer than the file', ending(file, 20, 9, 2), /no sound zip file/],
    ['two pickles', torchFile(good, [{ name: 'other/data.pkl', data: good }]), /received 2/],
    [
      'big-endian values',
      torchFile(good, [{ name: 'archive/byteorder', data: Buffer.from('big') }]),
      /expected little, received "big"/,
    ],
    [
      'compressed entries (a zip bomb)',
      zip([{ name: 'archive/data.pkl', data: good, method: 8, size: 2 ** 31, packedSize: good.length }]),
      /"archive\/data\.pkl": expected a stored entry, received compression method 8/,
    ],
    [
      'a stored entry larger than its bytes',
      zip([{ name: 'archive/data.pkl', data: good, size: 2 ** 31, packedSize: good.length }]),
      /expected a stored entry of one size/,
    ],
    [
      'a pickle beyond the file',
      zip([{ name: 'archive/data.pkl', data: good, size: 10_000_000 }]),
      /no sound zip file.*10000000/,
    ],
    [
      'a pickle of a gigabyte',
      zip([{ name: 'archive/data.pkl', data: good, size: 2 ** 30 }]),
      /expected at most 16777216 bytes/,
    ],
    ['encryption', zip([{ name: 'archive/data.pkl', data: good, flags: 1 }]), /expected no encryption/],
    ['a name twice', torchFile(good, [{ name: 'archive/data/0', data: storage }]), /"archive\/data\/0": stands twice/],
    ['a name that is no UTF-8', ending(torchFile(good, [{ name: 'x', data: storage }]), -1, 0xff, 1), /UTF-8/],
    [
      'an entry that is no entry',
      zip([
        { name: 'archive/data.pkl', data: good },
        { name: 'archive/data/0', data: storage, headerOffset: 5 },
      ]),
      /"archive\/data\/0": this is no sound zip file/,
    ],
    [
      'an entry beyond the file',
      zip([
        { name: 'archive/data.pkl', data: good },
        { name: 'archive/data/0', data: storage, headerOffset: 2 ** 31 },
      ]),
      /expected 30 bytes at 2147483648/,
    ],
    [
      'a storage that runs into the directory',
      zip([
        { name: 'archive/data.pkl', data: good },
        { name: 'archive/data/0', data: storage, size: 60 },
      ]),
      /"archive\/data\/0": expected 60 bytes at/,
    ],
    [
      'zip64 sizes of 2^53',
      zip([{ name: 'archive/data.pkl', data: good, size: 2 ** 53 }], { zip64: true }),
      /expected a size, received 9007199254740992/,
    ],
    [
      'zip64 sizes of a petabyte',
      zip(
        [
          { name: 'archive/data.pkl', data: good },
          { name: 'archive/data/0', data: storage, size: 2 ** 50 },
        ],
        { zip64: true },
      ),
      /"archive\/data\/0": .*1125899906842624/,
    ],
  ])('%s', async (_, bytes, message) => {
    const path = put(bytes);
    await expectRefused(readPytorch(path), path, message);
  });

  test('every truncation of a valid file', async () => {
    for (let length = 0; length < file.length; length++) {
      const path = put(file.subarray(0, length));
      await expectRefused(readPytorch(path), path, /./);
    }
  });
});
