// Node's own modules that are slow to load, loaded at their first use: node:crypto takes 20 ms of a cold import,
// node:fs/promises 9 (measured together with 50 for the whole package).
// By require: where another loader reads the package (Jest's), import() throws.
export const lazyCrypto = (): typeof import('node:crypto') => require('node:crypto');
export const lazyFiles = (): typeof import('node:fs/promises') => require('node:fs/promises');
