import { mismatch, show } from '../errors.js';
import { checkOptions } from '../options.js';

/** How an engine is shown to the web. */
export interface AppOptions {
  /** What clients call the model. Default: `model`. */
  model?: string | undefined;
  /**
   * Who does not send one of these as `Authorization: Bearer` is refused: printable ASCII characters. Default: everybody may
   * ask.
   */
  apiKey?: string | readonly string[] | undefined;
  /** Origins whose pages may call, such as `https://app.example.org`, or `*`. Default: none but the server's own. */
  cors?: string | readonly string[] | undefined;
  /** Bytes of a request's body at most. Default: 4 MiB. */
  bodyLimit?: number | undefined;
  /** Tokens that one answer has at most, and where a chat names no limit. Default: 4096. */
  maxTokens?: number | undefined;
  /** Milliseconds that a request may take. Default: no limit. */
  timeoutMs?: number | undefined;
  /** Whether there is a page at `/` to try the model. Default: true. */
  page?: boolean | undefined;
  /** Called for every request that was answered. */
  log?: ((entry: LogEntry) => void) | undefined;
}

export const APP_OPTIONS: readonly string[] = [
  'model',
  'apiKey',
  'cors',
  'bodyLimit',
  'maxTokens',
  'timeoutMs',
  'page',
  'log',
];

/** What is known of a request when it has been answered. */
export interface LogEntry {
  time: string;
  id: string;
  method: string;
  path: string;
  status: number;
  ms: number;
  promptTokens?: number;
  cachedTokens?: number;
  generatedTokens?: number;
  error?: string;
}

/** ERR_ARGUMENT for what no server could be with. */
export function checkApp(options: AppOptions): void {
  checkOptions('createApp', options, APP_OPTIONS);
  const list = (value: unknown): unknown[] => [value].flat();
  const whole = (value: unknown) => Number.isSafeInteger(value) && (value as number) > 0;
  const rules: [keyof AppOptions, string, (value: unknown) => boolean][] = [
    ['model', 'a name', (value) => typeof value === 'string' && value !== ''],
    [
      'cors',
      'origins as browsers send them, https://host or https://host:port, or *',
      (value) => list(value).every(isOrigin),
    ],
    ['bodyLimit', 'a whole number of bytes', whole],
    ['maxTokens', 'a whole number from 1 on', whole],
    ['timeoutMs', 'milliseconds above 0', (value) => typeof value === 'number' && value > 0 && value < 2 ** 31],
    ['page', 'true or false', (value) => typeof value === 'boolean'],
    ['log', 'a function', (value) => typeof value === 'function'],
  ];
  for (const [key, wanted, right] of rules)
    if (options[key] !== undefined && !right(options[key]))
      throw mismatch('ERR_ARGUMENT', `createApp: ${key}`, wanted, show(options[key]));
  const keys = options.apiKey === undefined ? undefined : list(options.apiKey);
  // Whose value is a secret: it is not shown.
  if (keys && !(keys.length > 0 && keys.every(isKey)))
    throw mismatch('ERR_ARGUMENT', 'createApp: apiKey', KEYS, keys.length > 0 ? 'another' : 'none');
}

const KEYS =
  'one or more keys of printable ASCII characters, without white space around them, as a header carries them';

const isKey = (key: unknown): boolean => typeof key === 'string' && /^[!-~]([ -~]*[!-~])?$/.test(key);

/** Whether a browser may send it as its page's origin; schemes of their own have no canonical form. */
function isOrigin(origin: unknown): boolean {
  if (typeof origin !== 'string') return false;
  if (origin === '*' || origin === 'null') return true;
  if (/^https?:/i.test(origin)) return URL.canParse(origin) && new URL(origin).origin === origin;
  return /^[a-z][a-z0-9+.-]*:\/\/[^\s/]+$/.test(origin);
}
