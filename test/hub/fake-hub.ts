// A server on loopback that speaks the hub's API, with faults on request.
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export const COMMIT = '0123456789abcdef0123456789abcdef01234567';
export const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
export const gitSha1 = (bytes: Uint8Array): string =>
  createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex');

export interface Repository {
  files: Record<string, Uint8Array>;
  /** Files that are stored as large ones: listed with their sha256. */
  large?: string[];
  token?: string;
}

/** Answers a request for a file's bytes otherwise; true where it did. */
export type Fault = (request: IncomingMessage, response: ServerResponse, bytes: Uint8Array, path: string) => boolean;

export async function fakeHub(repositories: Record<string, Repository>) {
  const requests: { url: string; range?: string }[] = [];
  const hub = { url: '', requests, fault: undefined as Fault | undefined, status: 0, close: async () => {} };
  const server = createServer((request, response) => {
    const url = decodeURIComponent(new URL(request.url!, 'http://hub').pathname);
    requests.push({ url, range: request.headers.range });
    const json = (value: unknown, status = 200) => {
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(JSON.stringify(value));
    };
    if (hub.status) return json({ error: 'fault' }, hub.status);
    const [, name = ''] = /^(?:\/api\/models)?\/([^/]+\/[^/]+)\//.exec(url) ?? [];
    const repository = repositories[name];
    if (!repository) return json({ error: 'Repository not found' }, 401);
    if (repository.token && request.headers.authorization !== `Bearer ${repository.token}`)
      return json({ error: 'Access to model is restricted' }, 401);
    if (url.startsWith(`/api/models/${name}/revision/`)) {
      if (!/\/(main|v1\.0|[0-9a-f]{40})$/.test(url)) return json({ error: 'Invalid rev id' }, 404);
      return json({
        _id: 'x',
        id: name,
        sha: COMMIT,
        private: false,
        downloads: 0,
        likes: 0,
        lastModified: '2026-01-01',
      });
    }
    if (url.startsWith(`/api/models/${name}/tree/`)) {
      return json(
        Object.entries(repository.files).map(([path, bytes]) => ({
          type: 'file',
          path,
          size: bytes.length,
          oid: gitSha1(bytes),
          ...(repository.large?.includes(path) && {
            lfs: { oid: sha256(bytes), size: bytes.length, pointerSize: 130 },
          }),
        })),
      );
    }
    const path = url.slice(`/${name}/resolve/${COMMIT}/`.length);
    const bytes = repository.files[path];
    if (!bytes) return json({ error: 'Entry not found' }, 404);
    if (hub.fault?.(request, response, bytes, path)) return;
    send(request, response, bytes);
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  hub.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  hub.close = () =>
    new Promise((done) => {
      server.closeAllConnections();
      server.close(() => done());
    });
  return hub;
}

/** The bytes, or the part that the request asks for. */
export function send(request: IncomingMessage, response: ServerResponse, bytes: Uint8Array): void {
  const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
  response.writeHead(from > 0 ? 206 : 200, { 'content-length': bytes.length - from });
  response.end(bytes.subarray(from));
}
