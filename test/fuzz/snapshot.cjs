// A saved session. The input is all but the digest, which is added: no fuzzer finds one.
'use strict';
const { createModel } = require('../../dist/lib/index.js');
const { native } = require('../../dist/lib/native.js');
const { refusing } = require('./support.cjs');

const config = {
  model_type: 'llama',
  vocab_size: 16,
  hidden_size: 8,
  intermediate_size: 8,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  num_key_value_heads: 1,
};
const model = createModel(config, { seed: 1 });

exports.fuzz = async (data) => {
  const bytes = Buffer.concat([data, native().digest(Uint8Array.from(data), true)]);
  const restored = await refusing('ERR_STATE', async () => (await model).restoreSession(bytes));
  if (restored === undefined) return;
  if (![true, false].some((logits) => Buffer.from(restored.save({ logits })).equals(bytes)))
    throw new Error('it is not saved as it was restored');
  await restored.forward([1, 2, 3]);
  await restored.dispose();
};
