import { join } from 'node:path';

/** The model in the package, which commands take where none is named; docs/training.md says what it is. */
export const SHIPPED_NAME = 'austen';
export const shippedModel = (): string => join(__dirname, '../../../models', SHIPPED_NAME);
