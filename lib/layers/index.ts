/** The building blocks of networks: what model files are made of, and what networks of one's own are. */
export { attend, attention, rope } from './attention.js';
export { embedding, head, linear, linearBy } from './linear.js';
export { conv1d, mamba } from './mamba.js';
export { mamba2 } from './mamba2.js';
export { gatedMlp } from './mlp.js';
export { moe } from './moe.js';
export { layerNorm, rmsNorm } from './norms.js';
