'use strict';
const { mkdtempSync, rmSync, writeFileSync } = require('node:fs');
const { tmpdir } = require('node:os');
const { join } = require('node:path');

const folder = mkdtempSync(join(tmpdir(), 'statespace-fuzz-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));

/** Runs a reader on hostile input: it returns, or throws a StatespaceError of this code; all else is a finding. */
exports.refusing = async (code, work) => {
  let result;
  try {
    result = await work();
  } catch (error) {
    if (error?.name !== 'StatespaceError' || error.code !== code) throw error;
  }
  if (Object.keys(Object.prototype).length > 0) throw new Error('the input reached Object.prototype');
  return result;
};

/** A file with these bytes, under the same name at every call. */
exports.put = (name, bytes) => {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  return path;
};

/** Every tensor must lie within its file. */
exports.checkTensors = (tensors, size) => {
  for (const { name, shape, offset, byteLength } of tensors ?? []) {
    const good =
      offset >= 0 &&
      byteLength >= 0 &&
      offset + byteLength <= size &&
      shape.every((n) => Number.isSafeInteger(n) && n >= 0);
    if (!good)
      throw new Error(`tensor ${name}: ${byteLength} bytes at ${offset}, shape ${shape}, in a file of ${size}`);
  }
};
