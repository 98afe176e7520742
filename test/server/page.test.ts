// The page at /, in a real browser.
import { rmSync } from 'node:fs';
import { chromium } from 'playwright-core';
import { createEngine, type Engine, type Listening, listen, loadModel, type Model } from 'statespace';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { findChromium } from '../support/browser.js';
import { needs } from '../support/needs.js';
import { until } from '../support/stalls.js';
import { textModelFolder } from '../support/text-model.js';

const browserPath = findChromium();

const folder = textModelFolder({ ends: false });
let model: Model;
let engine: Engine;
let server: Listening;

beforeAll(async () => {
  model = await loadModel(folder);
  engine = createEngine(model);
  server = await listen(engine, { port: 0, model: 'a <b>tiny</b> model', apiKey: 'secret', maxTokens: 1e9 });
});
afterAll(async () => {
  await server.close(0);
  await engine.dispose();
  await model.dispose();
  rmSync(folder, { recursive: true });
});

describe('the page', () => {
  it('holds everything that it needs', async () => {
    const html = await (await fetch(server.url)).text();
    expect(html).not.toMatch(/<(script|link|img)[^>]+(src|href)=/);
    expect(html).not.toMatch(/url\(|@import|https?:\/\//);
    expect(html).not.toContain('<b>tiny');
  });

  it.runIf(needs(browserPath, 'chromium (STATESPACE_CHROMIUM may name one)'))(
    'streams an answer, shows its figures, and stops',
    async () => {
      const browser = await chromium.launch({ executablePath: browserPath!, args: ['--no-sandbox', '--disable-gpu'] });
      try {
        const page = await browser.newPage();
        page.setDefaultTimeout(0); // the runner has one
        const errors: string[] = [];
        const asked: string[] = [];
        page.on('pageerror', (error) => errors.push(error.message));
        page.on('request', (request) => asked.push(new URL(request.url()).origin));
        await page.goto(server.url);
        expect(await page.title()).toBe('a <b>tiny</b> model');

        await page.fill('#prompt', 'hello <i>world</i>');
        await page.click('#send');
        await page.waitForSelector('.error');
        expect(await page.textContent('.error')).toMatch(/API key/);

        await page.fill('#key', 'secret');
        await page.fill('#temperature', '0');
        await page.fill('#max', '40');
        await page.click('#clear');
        await page.fill('#prompt', 'hello <i>world</i> one two');
        await page.press('#prompt', 'Enter');
        await page.waitForFunction(`document.getElementById('figures').textContent.includes('of state')`);
        expect(await page.textContent('.user')).toBe('hello <i>world</i> one two');
        expect((await page.textContent('.assistant'))!.length).toBeGreaterThan(3);
        const figures = (await page.textContent('#figures'))!;
        expect(figures).toMatch(
          /^\d+ tokens · [\d.]+ tokens\/s · first after [\d.]+ s · \d+ of \d+ prompt tokens cached · [\d.]+ KiB of state$/,
        );

        // The second turn finds the first in the cache; Stop ends it on both sides.
        await page.fill('#temperature', '2');
        await page.fill('#max', '1000000000'); // no end but Stop
        await page.fill('#prompt', 'one');
        await page.press('#prompt', 'Enter');
        await page.waitForFunction(`document.querySelectorAll('.assistant')[1]?.textContent.length > 3`);
        await page.click('#stop');
        await page.waitForFunction(`document.getElementById('log').textContent.includes('[stopped]')`);
        await until(() => engine.stats().running === 0);
        expect(engine.stats().cachedTokens).toBeGreaterThan(0);

        // Clear while an answer comes: what was said of it is no part of the next conversation.
        await page.fill('#prompt', 'two');
        await page.press('#prompt', 'Enter');
        await page.waitForFunction(`document.querySelectorAll('.assistant')[2]?.textContent.length > 3`);
        await page.click('#clear');
        await page.waitForFunction(`!document.getElementById('send').disabled`);
        const question = page.waitForRequest((request) => request.method() === 'POST');
        await page.fill('#max', '2');
        await page.fill('#prompt', 'three');
        await page.press('#prompt', 'Enter');
        expect((await question).postDataJSON().messages).toEqual([{ role: 'user', content: 'three' }]);
        await page.waitForFunction(`!document.getElementById('send').disabled`);
        expect(errors).toEqual([]);
        expect([...new Set(asked)]).toEqual([server.url]);
      } finally {
        await browser.close();
      }
    },
  );
});
