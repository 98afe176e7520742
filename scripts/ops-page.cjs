// docs/ops.md from what the native ops say of themselves. usage: node scripts/ops-page.cjs [--write]
const { writeFileSync } = require('node:fs');
const { join } = require('node:path');

const KINDS = {
  in: 'input',
  optional: 'optional input',
  state: 'state, read and written',
  runtime: 'runtime, i32',
  out: 'output',
  wanted: 'output where given',
};

function cell(text) {
  return text.replaceAll('|', '\\|');
}

function shapes(field) {
  return field.shapes.map((axes) => `(${axes.join(', ')})`).join(' or ');
}

function defaultOf(attr) {
  if (attr.type === 'choice') return attr.choices[attr.default];
  if (attr.type === 'boolean') return String(Boolean(attr.default));
  return String(attr.default);
}

function section(op) {
  const rows = op.fields.map(
    (f) => `| \`${f.name}\` | ${KINDS[f.kind]} | ${cell(shapes(f))} | ${f.dtypes.join(', ')} |`,
  );
  const attrs = op.attrs.map(
    (a) => `| \`${a.name}\` | ${a.type === 'choice' ? a.choices.join(', ') : a.type} | ${defaultOf(a)} |`,
  );
  return [
    `## ${op.name}`,
    '',
    '| tensor | kind | shape | types |',
    '| --- | --- | --- | --- |',
    ...rows,
    ...(attrs.length > 0 ? ['', '| attribute | values | default |', '| --- | --- | --- |', ...attrs] : []),
    '',
  ].join('\n');
}

function opsPage() {
  const { opCatalog } = require('../dist/lib/graph/catalog.js');
  return [
    '# Native ops',
    '',
    'Generated from the structs in `native/ops` by `npm run docs:ops`; a test compares. These are the ops of a graph',
    '(`g.op(name, …)`): tokens of all sequences are packed into one axis. The public `ops` take (B, L, …) and check in the',
    "caller's terms; their docstrings say what is computed.",
    '',
    'A state lies in a pool: its first axis is chosen by `slots`. Runtime tensors are filled in by the program runner.',
    'Types after `host:` are read as they lie where the op runs on the CPU; elsewhere they become f32 first.',
    '',
    ...[...opCatalog().values()].map(section),
  ].join('\n');
}

module.exports = { opsPage };

if (require.main === module) {
  const page = opsPage();
  if (process.argv.includes('--write')) writeFileSync(join(__dirname, '..', 'docs', 'ops.md'), page);
  else process.stdout.write(page);
}
