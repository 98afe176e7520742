/** A real browser for tests of pages: Debian's chromium, or the one that STATESPACE_CHROMIUM names. */
import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { chromium, type Page } from 'playwright-core';

const NAMES = ['chromium', 'chromium-browser', 'google-chrome'];

export function findChromium(): string | undefined {
  const named = process.env.STATESPACE_CHROMIUM;
  if (named) return named;
  const folders = (process.env.PATH ?? '').split(delimiter);
  return folders.flatMap((folder) => NAMES.map((name) => join(folder, name))).find((path) => existsSync(path));
}

export interface Seen {
  /** What was asked for besides the file itself. */
  requests: string[];
  /** Errors of the page and of its console. */
  errors: string[];
}

/** Opens a file without network and hands the page over. */
export async function lookAt<T>(executablePath: string, file: string, look: (page: Page, seen: Seen) => Promise<T>) {
  const browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu'] });
  try {
    const context = await browser.newContext({ offline: true, viewport: { width: 1280, height: 1600 } });
    context.setDefaultTimeout(0); // the runner has one
    const page = await context.newPage();
    const seen: Seen = { requests: [], errors: [] };
    const url = pathToFileURL(file).href;
    page.on('request', (request) => {
      if (request.url() !== url) seen.requests.push(request.url());
    });
    page.on('pageerror', (error) => seen.errors.push(error.message));
    page.on('console', (message) => {
      if (message.type() === 'error') seen.errors.push(message.text());
    });
    await page.goto(url);
    return await look(page, seen);
  } finally {
    await browser.close();
  }
}
