export { checkDefinition } from './check.js';
export { modelOf } from './models.js';
export { withNamedTokens } from './named-tokens.js';
export { patterns } from './patterns.js';
export { JsonTokenizer } from './tokenizer.js';
