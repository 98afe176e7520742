/** The building blocks of networks: what model files are made of, and what networks of one's own are. */
export { attend, attention, rope } from './attention.js';
export { bidirectional } from './bidirectional.js';
export { deltaNet } from './delta-net.js';
export { hyena } from './hyena.js';
export { adapted, addScaled, concat, embedding, head, linear, linearBy, scaled } from './linear.js';
export { conv1d, mamba } from './mamba.js';
export { mamba2 } from './mamba2.js';
export { gatedMlp, mlp } from './mlp.js';
export { moe, weightedExpert } from './moe.js';
export { headRmsNorm, layerNorm, rmsNorm } from './norms.js';
export { retention } from './retention.js';
export { rwkvChannelMix, tokenMixes } from './rwkv.js';
export { rwkv4 } from './rwkv4.js';
export { rwkv5, rwkv6 } from './rwkv6.js';
export { rwkv7 } from './rwkv7.js';
export { s4d } from './s4d.js';
export { shortConv } from './short-conv.js';
export { selectiveSSM, simpleSSM } from './simple-ssm.js';
