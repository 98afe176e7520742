/** Writing GGUF files, loaded at its first use. */
import type { QuantizeOptions, QuantizeReport } from './quantize/quantize.js';

const lazyQuantize = (): typeof import('./quantize/quantize.js') => require('./quantize/quantize.js');

/**
 * Writes a model folder or a GGUF file as a GGUF file of one type, tensor by tensor: whole or not at all. See docs/gguf.md.
 *
 * @param path a folder with config.json and weights, or a .gguf file, the first one of a split one.
 * @param out the file to write.
 * @throws StatespaceError ERR_ARGUMENT, ERR_CHECKPOINT for a damaged checkpoint or values that are not finite,
 *   ERR_UNSUPPORTED_MODEL where GGUF has no architecture for the model.
 */
export function quantize(path: string, out: string, options: QuantizeOptions): Promise<QuantizeReport> {
  return lazyQuantize().quantize(path, out, options);
}
