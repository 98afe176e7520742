import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { serve as serveNode } from '@hono/node-server';
import { checkEngine, type Engine } from '../engine/engine.js';
import { mismatch, show } from '../errors.js';
import { checkOptions } from '../options.js';
import { Patience } from '../patience.js';
import { createApp } from './app.js';
import { APP_OPTIONS, type AppOptions } from './app-options.js';
import { answerUnreadable, cutStalled } from './connections.js';
import { shuttingDown } from './errors.js';

/** Where a server listens. */
export interface ServeOptions extends AppOptions {
  /** Default: 8080; 0: any that is free. */
  port?: number | undefined;
  /** Default: 127.0.0.1, which this machine alone can reach. */
  host?: string | undefined;
}

/** A server that listens. */
export interface Listening {
  /** http://host:port */
  url: string;
  /**
   * Takes no more requests; resolves when those that run have been answered. What has not after graceMs is answered with
   * 503, a stream with an event that says so, and its connection closed.
   */
  close(graceMs: number): Promise<void>;
}

// Slow clients: what a request's head, and all of it, may take to come.
const HEADERS_MS = 15_000;
const REQUEST_MS = 60_000;
// And for how long one may take nothing of its answer; Node notices at the latest in twice that time.
const STALLED_MS = 30_000;
// Longer than load balancers keep one open, as a rule for 60 s: they would ask on one that is being closed.
const KEEP_ALIVE_MS = 75_000;
const MAX_HEADER_BYTES = 16 << 10;
const SWEEP_MS = 50;
// For those that are cut off to be told so.
const LAST_WORDS_MS = 250;
const MAX_PORT = 65_535;

/**
 * Serves an engine over HTTP; rejects where the address cannot be had.
 * @public
 */
export async function listen(engine: Engine, options: ServeOptions = {}): Promise<Listening> {
  checkOptions('listen', options, [...APP_OPTIONS, 'port', 'host']);
  checkEngine('listen', engine);
  const { port = 8080, host = '127.0.0.1', ...ofApp } = options;
  if (!Number.isSafeInteger(port) || port < 0 || port > MAX_PORT)
    throw mismatch('ERR_ARGUMENT', 'listen: port', `a whole number from 0 to ${MAX_PORT}`, show(port));
  if (typeof host !== 'string' || host === '') throw mismatch('ERR_ARGUMENT', 'listen: host', 'an address', show(host));
  const running = new Set<AbortController>();
  const app = createApp(engine, ofApp, running);
  let closing = false;
  // Connections that were kept open would ask on until the end of the grace.
  const refuse = () =>
    new Response(JSON.stringify(shuttingDown().body), {
      status: 503,
      headers: { 'content-type': 'application/json', 'retry-after': '5', connection: 'close' },
    });
  const server = await new Promise<Server>((resolve, reject) => {
    const made = serveNode(
      {
        fetch: (request, ...rest) => (closing ? refuse() : app.fetch(request, ...rest)),
        port,
        hostname: host,
        createServer,
        serverOptions: {
          ...{ headersTimeout: HEADERS_MS, requestTimeout: REQUEST_MS, keepAliveTimeout: KEEP_ALIVE_MS },
          ...{ connectionsCheckingInterval: 1000, maxHeaderSize: MAX_HEADER_BYTES },
        },
      },
      () => resolve(made),
    ) as Server;
    made.once('error', reject);
    cutStalled(made, STALLED_MS);
    answerUnreadable(made, MAX_HEADER_BYTES);
  });
  const { port: taken } = server.address() as AddressInfo;
  return {
    url: `http://${host.includes(':') ? `[${host}]` : host}:${taken}`,
    async close(graceMs) {
      closing = true;
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeIdleConnections();
      let words: Patience | undefined;
      const cut = setTimeout(() => {
        for (const request of running) request.abort(shuttingDown());
        words = new Patience(LAST_WORDS_MS);
        void words.over.then(() => server.closeAllConnections());
      }, graceMs);
      // Those that are answered now and kept open.
      const sweep = setInterval(() => server.closeIdleConnections(), SWEEP_MS);
      await closed;
      clearTimeout(cut);
      words?.end();
      clearInterval(sweep);
    },
  };
}
