// config.json, and what a model makes of it: described, not allocated.
'use strict';
const { describeModel } = require('../../dist/lib/index.js');
const { parseConfig } = require('../../dist/lib/checkpoint/config.js');
const { decodeUtf8 } = require('../../dist/lib/checkpoint/files.js');
const { refusing } = require('./support.cjs');

const codes = new Set([
  'ERR_CHECKPOINT',
  'ERR_UNSUPPORTED_MODEL',
  'ERR_ARGUMENT',
  'ERR_SHAPE',
  'ERR_DTYPE',
  'ERR_OUT_OF_MEMORY',
]);

exports.fuzz = async (data) => {
  const config = await refusing('ERR_CHECKPOINT', () => parseConfig(decodeUtf8('config.json', data), 'config.json'));
  if (config === undefined) return;
  // A network of a million layers is a valid wish; describing it takes as long.
  for (const [key, value] of Object.entries(config))
    if (/layer/.test(key) && typeof value === 'number' && value > 64) return;
  try {
    const { parameters } = describeModel(config);
    if (!(parameters.total >= 0)) throw new Error(`parameters: ${parameters.total}`);
  } catch (error) {
    if (error?.name !== 'StatespaceError' || !codes.has(error.code)) throw error;
  }
};
