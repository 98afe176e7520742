// The header of a GGUF file, and the model that it describes. The input is the whole file.
'use strict';
const { readGguf } = require('../../dist/lib/checkpoint/gguf/container.js');
const { openGguf } = require('../../dist/lib/checkpoint/gguf/open.js');
const { readTokenizer } = require('../../dist/lib/checkpoint/gguf/tokenizer.js');
const { checkTensors, put, refusing } = require('./support.cjs');

exports.fuzz = async (data) => {
  const file = put('model.gguf', data);
  const read = await refusing('ERR_CHECKPOINT', () => readGguf(file));
  if (read === undefined) return;
  checkTensors(read.tensors, data.length);
  const either = async (work) => {
    try {
      return await refusing('ERR_CHECKPOINT', work);
    } catch (error) {
      if (error?.code !== 'ERR_UNSUPPORTED_MODEL') throw error;
      return undefined;
    }
  };
  const model = await either(() => openGguf(file));
  for (const tensor of model?.tensors.values() ?? [])
    if (!tensor.shape.every((n) => Number.isSafeInteger(n) && n >= 0))
      throw new Error(`tensor ${tensor.name}: ${tensor.shape}`);
  const tokenizer = await either(() => readTokenizer(read.metadata));
  tokenizer?.decode(tokenizer.encode('Hello <s> wörld 12\n'));
};
