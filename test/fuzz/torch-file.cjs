// A PyTorch file: zip, then pickle. The input is the whole file.
'use strict';
const { readPytorch } = require('../../dist/lib/checkpoint/pickle.js');
const { checkTensors, put, refusing } = require('./support.cjs');

exports.fuzz = async (data) => {
  const file = put('model.pth', data);
  checkTensors(await refusing('ERR_CHECKPOINT', () => readPytorch(file)), data.length);
};
