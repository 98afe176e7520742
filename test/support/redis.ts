/** A real redis-server of Debian, on a port and in a folder of its own. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { type AddressInfo, connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';

export function findRedis(): string | undefined {
  const folders = (process.env.PATH ?? '').split(delimiter);
  return folders.map((folder) => join(folder, 'redis-server')).find((path) => existsSync(path));
}

/** A certificate of a server on this machine, which nobody but itself vouches for; undefined without Debian's openssl. */
export function selfSigned(folder: string): { cert: string; key: string } | undefined {
  const [cert, key] = ['cert.pem', 'key.pem'].map((name) => join(folder, name)) as [string, string];
  const names = 'subjectAltName=DNS:localhost,IP:127.0.0.1';
  const { status } = spawnSync(
    'openssl',
    ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=localhost'].concat([
      '-addext',
      names,
      '-keyout',
      key,
      '-out',
      cert,
    ]),
    { stdio: 'ignore' },
  );
  return status === 0 ? { cert, key } : undefined;
}

export interface RedisServer {
  readonly url: string;
  /** `rediss://`, where it was started with a certificate. */
  readonly tlsUrl: string | undefined;
  /** kill -9, and start again on the same port and folder. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

export async function startRedis(path: string, tls?: { cert: string; key: string }): Promise<RedisServer> {
  const folder = mkdtempSync(join(tmpdir(), 'statespace-redis-'));
  const port = await freePort();
  // What was answered is on the disk: a kill loses nothing that anybody was told of.
  const args = ['--port', `${port}`, '--dir', folder, '--save', '', '--appendonly', 'yes', '--appendfsync', 'always'];
  const tlsPort = tls && (await freePort());
  if (tls) {
    args.push('--tls-port', `${tlsPort}`, '--tls-auth-clients', 'no');
    args.push('--tls-cert-file', tls.cert, '--tls-key-file', tls.key, '--tls-ca-cert-file', tls.cert);
  }
  let child: ChildProcess;
  const start = async () => {
    child = spawn(path, args, { stdio: 'ignore' });
    for (let i = 0; i < 500; i++) {
      if (await answers(port)) return;
      await new Promise((done) => setTimeout(done, 20));
    }
    throw new Error('redis-server does not answer');
  };
  const kill = () =>
    new Promise<void>((done) => {
      child.on('exit', () => done());
      child.kill('SIGKILL');
    });
  await start();
  return {
    url: `redis://127.0.0.1:${port}`,
    tlsUrl: tls && `rediss://localhost:${tlsPort}`,
    async restart() {
      await kill();
      await start();
    },
    async stop() {
      await kill();
      rmSync(folder, { recursive: true });
    },
  };
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.setTimeout(500, () => socket.destroy());
    socket.on('connect', () => socket.write('PING\r\n'));
    socket.on('data', (data) => {
      resolve(data.toString().startsWith('+PONG'));
      socket.destroy();
    });
    socket.on('error', () => resolve(false));
    socket.on('close', () => resolve(false));
  });
}
