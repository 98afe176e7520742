import { call, type NativeBinding } from './native.js';

/** What benchmarks measure of the machine itself; failures are StatespaceErrors. */
export const limits: Pick<NativeBinding, 'computeRates' | 'memoryRates'> = {
  computeRates: (...args) => call((n) => n.computeRates(...args)),
  memoryRates: (...args) => call((n) => n.memoryRates(...args)),
};
