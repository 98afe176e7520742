#!/usr/bin/env bash
# @huggingface/hub puts each downloaded file in a snapshot of its own commit, without a ref: Python and even its own scan do not find it.
#
# Versions: @huggingface/hub 2.17.5 (JavaScript), huggingface_hub 2.0.0 (Python), both with the same cache folder.
# Behaviour: a snapshot is named after the commit that the revision points to, and refs/main holds that commit. downloadFileToCacheDir() names it after
#   lastCommit of the file, which is the last commit that changed that file, and writes no ref. snapshotDownload() asks for the revision's commit, and is right.
# Seen, with a server that answers as the Hub does for a repository whose two files were last changed in commits aaaa and bbbb, and whose head is cccc: the files lie in
#   snapshots/aaaa and snapshots/bbbb; hf_hub_download(local_files_only=True) raises LocalEntryNotFoundError for both; scanCacheDir() lists no repository
#   and warns of the missing folder refs. What Python downloaded lies in snapshots/cccc: JavaScript asks the Hub again and makes a second snapshot of the
#   same blobs. After snapshotDownload() Python finds all.
# Why it matters: a model's config.json and weights end up in different folders, so that no folder can be given to a loader; a model that was fetched in
#   Node is missing offline in Python; a container's cache filled by one is useless to the other.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages huggingface_hub==2.0.0
node_packages @huggingface/hub@2.17.5

cat >"$work/python.py" <<'PY'
import os, sys

mode, os.environ["HF_ENDPOINT"], cache = sys.argv[1:]
os.environ["HF_HUB_OFFLINE"] = "1" if mode == "offline" else "0"
from huggingface_hub import hf_hub_download

for name in ("config.json", "model.safetensors"):
    try:
        print(hf_hub_download("owner/model", name, cache_dir=cache, local_files_only=mode == "offline").split("/")[-2][:4])
    except Exception as error:
        print(type(error).__name__)
PY
cat >"$work/node/cache.mjs" <<'JS'
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createServer } from 'node:http';
import { promisify } from 'node:util';
import { downloadFileToCacheDir, scanCacheDir, snapshotDownload } from '@huggingface/hub';

const [python, script, folder] = process.argv.slice(2);
const commit = (letter) => letter.repeat(40);
const files = {
  'config.json': { text: '{"model_type":"mamba"}', last: commit('a') },
  'model.safetensors': { text: 'weights', last: commit('b') },
};
for (const file of Object.values(files)) {
  file.oid = createHash('sha1').update(`blob ${file.text.length}\0${file.text}`).digest('hex');
}
const entry = (path) => ({
  type: 'file', path, oid: files[path].oid, size: files[path].text.length,
  lastCommit: { id: files[path].last, title: 'upload', date: '2026-01-01T00:00:00.000Z' },
});
const server = createServer((request, response) => {
  let body = '';
  request.on('data', (part) => (body += part));
  request.on('end', () => {
    const json = (value) => response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(value));
    if (request.url.includes('/paths-info/')) return json(JSON.parse(body).paths.map(entry));
    if (request.url.includes('/tree/')) return json(Object.keys(files).map(entry));
    if (request.url.startsWith('/api/models/')) {
      const common = { _id: '1', id: 'owner/model', modelId: 'owner/model', private: false, gated: false, downloads: 0, likes: 0 };
      return json({ ...common, sha: commit('c'), lastModified: '2026-01-01T00:00:00.000Z' });
    }
    const asked = files[/\/resolve\/[^/]+\/([^?]+)/.exec(request.url)?.[1]];
    if (!asked) return response.writeHead(404).end();
    const { text, oid } = asked;
    const headers = { etag: `"${oid}"`, 'x-repo-commit': commit('c'), 'accept-ranges': 'bytes' };
    const range = /bytes=(\d+)-(\d*)/.exec(request.headers.range ?? '');
    if (!range) return response.writeHead(200, { ...headers, 'content-length': text.length }).end(text);
    const part = text.slice(Number(range[1]), range[2] === '' ? undefined : Number(range[2]) + 1);
    const where = `bytes ${range[1]}-${Number(range[1]) + part.length - 1}/${text.length}`;
    response.writeHead(206, { ...headers, 'content-range': where, 'content-length': part.length }).end(part);
  });
});
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
const hubUrl = `http://127.0.0.1:${server.address().port}`;
console.debug = () => {};

const run = promisify(execFile);
const inPython = async (mode, cache) => (await run(python, [script, mode, hubUrl, cache])).stdout.trim().split('\n').join();
async function inNode(cacheDir) {
  const snapshots = [];
  for (const path of Object.keys(files)) {
    snapshots.push((await downloadFileToCacheDir({ repo: 'owner/model', path, hubUrl, cacheDir })).split('/').at(-2).slice(0, 4));
  }
  return snapshots.join();
}
const seen = {};
seen.node = await inNode(`${folder}/one`);
const scan = await scanCacheDir(`${folder}/one`);
seen.scan = `${scan.repos.length} repositories, ${scan.warnings.map((warning) => warning.code)}`;
seen.pythonOffline = await inPython('offline', `${folder}/one`);
seen.pythonFirst = await inPython('online', `${folder}/two`);
seen.thenNode = await inNode(`${folder}/two`);
await snapshotDownload({ repo: 'owner/model', hubUrl, cacheDir: `${folder}/three` });
seen.afterSnapshot = await inPython('offline', `${folder}/three`);
server.close();
console.log(seen);
const expected = {
  node: 'aaaa,bbbb',
  scan: '0 repositories, ENOENT',
  pythonOffline: 'LocalEntryNotFoundError,LocalEntryNotFoundError',
  pythonFirst: 'cccc,cccc',
  thenNode: 'aaaa,bbbb',
  afterSnapshot: 'cccc,cccc',
};
process.exit(JSON.stringify(seen) === JSON.stringify(expected) ? 0 : 1);
JS
(cd "$work/node" && node cache.mjs "$python" "$work/python.py" "$work/cache")
