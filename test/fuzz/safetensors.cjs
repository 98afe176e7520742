// The header of a safetensors file. The input is the whole file.
'use strict';
const { readSafetensors } = require('../../dist/lib/checkpoint/safetensors.js');
const { checkTensors, put, refusing } = require('./support.cjs');

exports.fuzz = async (data) => {
  const file = put('model.safetensors', data);
  checkTensors(await refusing('ERR_CHECKPOINT', () => readSafetensors(file)), data.length);
};
