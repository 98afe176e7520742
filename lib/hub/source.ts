import { homedir } from 'node:os';
import { join } from 'node:path';
import { mismatch, show } from '../errors.js';
import { lazyFiles } from '../lazy.js';

/** A repository of the Hugging Face hub, at a revision. */
export interface HubSource {
  /** owner/name */
  repo: string;
  /** Branch, tag or commit. */
  revision: string;
  /** A file of it, where one is named: a GGUF among several. */
  file?: string;
}

const PATTERN = /^hf:([\w.-]+\/[\w.-]+)(?:\/([^@]+))?(?:@([\w./-]+))?$/;

export const isHubSource = (path: unknown): path is string => typeof path === 'string' && path.startsWith('hf:');

/** 'hf:owner/name[/file.gguf][@revision]'; ERR_ARGUMENT for anything else. */
export function parseHubSource(text: string): HubSource {
  const [, repo, file, revision = 'main'] = (isHubSource(text) && PATTERN.exec(text)) || [];
  const climbs = (part: string | undefined) => part?.split('/').some((p) => p === '..' || p === '.' || p === '');
  if (!repo || climbs(repo) || climbs(file) || climbs(revision))
    throw mismatch(
      'ERR_ARGUMENT',
      'hub',
      'hf:owner/name, hf:owner/name@revision or hf:owner/name/file.gguf',
      show(text),
    );
  return { repo, revision, file };
}

/** The hub's address: HF_ENDPOINT, or the public one. */
export const hubEndpoint = (): string => (process.env.HF_ENDPOINT || 'https://huggingface.co').replace(/\/+$/, '');

/** Whether HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE) forbids asking the hub. */
export function hubOffline(): boolean {
  const said = process.env.HF_HUB_OFFLINE ?? process.env.TRANSFORMERS_OFFLINE ?? '';
  return ['1', 'ON', 'YES', 'TRUE'].includes(said.toUpperCase());
}

const hubHome = (): string =>
  process.env.HF_HOME ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'huggingface');

/** HF_TOKEN, or what `hf auth login` kept; undefined where there is none. */
export async function hubToken(): Promise<string | undefined> {
  const given = process.env.HF_TOKEN ?? process.env.HUGGING_FACE_HUB_TOKEN;
  if (given) return given.trim();
  const path = process.env.HF_TOKEN_PATH ?? join(hubHome(), 'token');
  return (
    (
      await lazyFiles()
        .readFile(path, 'utf8')
        .catch(() => '')
    ).trim() || undefined
  );
}
