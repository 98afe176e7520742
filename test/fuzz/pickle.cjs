// The restricted unpickler. The input is the pickle; a sound zip with two storages is put around it.
'use strict';
const { crc32 } = require('node:zlib');
const { readPytorch } = require('../../dist/lib/checkpoint/pickle.js');
const { checkTensors, put, refusing } = require('./support.cjs');

/** Stored entries, as torch.save writes them. */
function zip(entries) {
  const parts = [];
  const directory = [];
  let at = 0;
  for (const [name, data] of entries) {
    const common = Buffer.alloc(26); // from the version that is needed on: the same in both headers
    common.writeUInt16LE(20, 0);
    common.writeUInt32LE(crc32(data), 10);
    common.writeUInt32LE(data.length, 14);
    common.writeUInt32LE(data.length, 18);
    common.writeUInt16LE(name.length, 22);
    const offset = Buffer.alloc(14);
    offset.writeUInt32LE(at, 10);
    parts.push(Buffer.from('PK\x03\x04', 'latin1'), common, Buffer.from(name), data);
    directory.push(Buffer.from('PK\x01\x02\x14\0', 'latin1'), common, offset, Buffer.from(name));
    at += 30 + name.length + data.length;
  }
  const listed = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.write('PK\x05\x06', 0, 'latin1');
  end.writeUInt16LE(entries.length, 8);
  end.writeUInt16LE(entries.length, 10);
  end.writeUInt32LE(listed.length, 12);
  end.writeUInt32LE(at, 16);
  return Buffer.concat([...parts, listed, end]);
}

exports.fuzz = async (data) => {
  const bytes = zip([
    ['archive/data.pkl', data],
    ['archive/data/0', Buffer.alloc(24)],
    ['archive/data/1', Buffer.alloc(64)],
    ['archive/version', Buffer.from('3\n')],
  ]);
  const file = put('model.pth', bytes);
  checkTensors(await refusing('ERR_CHECKPOINT', () => readPytorch(file)), bytes.length);
};
