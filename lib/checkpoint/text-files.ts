// What readers of tokenizers need of this folder.
export { fileExists, readText } from './files.js';
export { parseLongJson } from './long-json.js';
