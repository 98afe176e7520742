import { basename, resolve } from 'node:path';
import type { Command } from 'commander';
import { library } from '../../../bench/library.js';
import { type AppOptions, checkApp } from '../../server/app-options.js';
import { Interrupted, UsageError } from '../errors.js';
import { collect, parseBytes, parseLeast, parsePositive } from '../parse.js';
import { shippedModel } from '../shipped.js';
import { write } from '../terminal.js';
import { addEngineOptions, asked, given as defined, type EngineFlags, openEngine } from './engine-options.js';

interface Options extends EngineFlags {
  port: number;
  host: string;
  apiKey?: string[];
  modelName?: string;
  maxTokens: number;
  timeout?: number;
  bodyLimit?: number;
  cors?: string[];
  page: boolean;
  grace: number;
}

const MAX_PORT = 65_535;
// What a timer can wait for.
const MAX_SECONDS = 2_147_483;

export function addServe(program: Command, signal: AbortSignal): void {
  const command = program
    .command('serve [model]')
    .description("Serve a model over HTTP by OpenAI's API, with a page at / to try it.")
    .option('--port <n>', 'port; 0: any that is free', parseLeast(0), 8080)
    .option('--host <address>', 'address to listen on; 0.0.0.0: all of this machine', '127.0.0.1')
    .option('--api-key <key>', 'refuse who does not send it; may be repeated (or STATESPACE_API_KEY)', collect)
    .option('--model-name <name>', 'what clients call the model (default: the name of its folder or file)')
    .option('--redis <url>', 'keep read prompts in a Redis that replicas share')
    .option('--max-tokens <n>', 'tokens of one answer at most', parsePositive, 4096)
    .option('--timeout <seconds>', 'for one request', parsePositive)
    .option('--body-limit <bytes>', "of a request's body", parseBytes)
    .option('--cors <origin>', 'pages of this origin may call; may be repeated, * for all', collect)
    .option('--no-page', 'no page at /')
    .option('--grace <seconds>', 'for running requests after SIGTERM', parseLeast(0), 30);
  addEngineOptions(command)
    .addHelpText(
      'after',
      `
Without a model: the small one of the package. Prints one line with its URL on stdout when it is ready. SIGTERM: answers what runs, then ends. More requests than may
wait get 429.

Examples:
  $ statespace serve
  $ statespace serve ./mamba-130m
  $ statespace serve ./jamba --host 0.0.0.0 --api-key SECRET --cache-folder /var/cache/statespace
  $ curl http://127.0.0.1:8080/v1/completions -H 'content-type: application/json' \\
      -d '{"prompt": "State space models", "max_tokens": 50}'`,
    )
    .action((model: string | undefined, options: Options) => serve(model, options, signal));
}

async function serve(given: string | undefined, options: Options, interrupted: AbortSignal): Promise<void> {
  const { host, port, maxTokens, page } = options;
  const path = given ?? shippedModel();
  // What a server would refuse is said before a model has been loaded for it.
  if (port > MAX_PORT) throw new UsageError(`there is no port ${port}`);
  if (options.timeout && options.timeout > MAX_SECONDS)
    throw new UsageError(`--timeout: at most ${MAX_SECONDS} seconds, received ${options.timeout}`);
  const texts = { host: host, 'model-name': options.modelName, 'api-key': options.apiKey, cors: options.cors };
  for (const [flag, text] of Object.entries(texts))
    if ([text].flat().includes('')) throw new UsageError(`--${flag}: expected a text that is not empty`);
  const keys = options.apiKey ?? (process.env.STATESPACE_API_KEY ? [process.env.STATESPACE_API_KEY] : undefined);
  const name = options.modelName ?? basename(resolve(path));
  const ofApp: AppOptions = {
    ...{ maxTokens, page, model: name },
    ...defined({ apiKey: keys, bodyLimit: options.bodyLimit, cors: options.cors }),
    ...(options.timeout ? { timeoutMs: options.timeout * 1000 } : {}),
    ...(options.log === 'json' ? { log: (entry: object) => process.stderr.write(`${JSON.stringify(entry)}\n`) } : {}),
  };
  checkApp(ofApp);
  const { engine, close } = await openEngine(path, options, interrupted);
  const server = await library().listen(engine, { host, port, ...ofApp });
  write(`statespace: serving ${name} at ${server.url}`);

  await asked(interrupted);
  // Who is answered now is answered to the end; then what goes into the store is written.
  await server.close(options.grace * 1000);
  await close();
  if (interrupted.aborted) throw new Interrupted();
}
