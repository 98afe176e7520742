export { type ErrorCode, StatespaceError } from './errors.js';
export { type DType, Tensor, type TensorLike } from './tensor.js';
