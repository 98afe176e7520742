import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { type Page, renderPage } from '../../dist/bench/html/page.js';
import { scalingPage } from '../../dist/bench/html/reports.js';
import { kernelPreset } from '../../dist/bench/scaling/kernel.js';
import { runScaling } from '../../dist/bench/scaling/run.js';
import { findChromium, lookAt } from '../support/browser.js';
import { needs } from '../support/needs.js';
import { plainOps } from '../support/plain-ops.js';

const chromium = findChromium();

const machine = {
  ...{ statespace: '0.0.0', commit: null, cpu: 'a <b>bold</b> processor', cores: 2, isa: 'scalar', threads: 2 },
  ...{ memoryBytes: 2 ** 34, node: 'v20', platform: 'linux-x64' },
};
let page: Page;

// Runs in the page: how many of the first three series' colours each canvas shows.
const INKS = `[...document.querySelectorAll('canvas')].map((canvas) => {
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  const seen = new Set();
  for (let i = 0; i < data.length; i += 4) if (data[i + 3] === 255) seen.add([data[i], data[i + 1], data[i + 2]].join());
  return ['192,57,43', '230,126,34', '36,113,163'].filter((colour) => seen.has(colour)).length;
})`;

beforeAll(async () => {
  const report = await runScaling(kernelPreset(plainOps, { dModel: 16, heads: 2, dState: 4, batch: 1 }, 2), {
    ...{ lengths: [8, 16, 32], reps: 3, budgetSeconds: 1e6, command: 'statespace bench scaling --html </script>' },
    ...{ machine, signal: new AbortController().signal, onProgress: () => {} },
  });
  page = scalingPage(report);
});

describe('the report page', () => {
  it('holds everything that it needs', () => {
    const html = renderPage(page);
    expect(html).not.toMatch(/<(script|link|img)[^>]+(src|href)=/);
    expect(html).not.toMatch(/url\(|@import|https?:\/\/(?!github\.com\/leeoniya)/);
    expect(html).toContain('&lt;b&gt;bold');
    expect(html).toContain('--html &lt;/script&gt;');
    expect(html.match(/<\/script>/g)!.length).toBe(3);
  });

  it.runIf(needs(chromium, 'chromium (STATESPACE_CHROMIUM may name one)'))(
    'shows its charts and tables in a browser, offline',
    async () => {
      const file = join(mkdtempSync(join(tmpdir(), 'statespace-html-')), 'report.html');
      writeFileSync(file, renderPage(page));
      await lookAt(chromium!, file, async (tab, { requests, errors }) => {
        const drawn = page.charts.filter((chart) => chart.series.some((s) => s.points.length > 1));
        expect(drawn.length).toBeGreaterThanOrEqual(3);
        expect(await tab.locator('.uplot canvas').count()).toBe(drawn.length);
        // Every series left its colour on the canvas.
        const inks = (await tab.evaluate(INKS)) as number[];
        expect(inks[0]).toBe(3);
        for (const ink of inks) expect(ink).toBeGreaterThan(0);
        expect(await tab.locator('.u-legend').first().textContent()).toContain('selective scan');
        const rows = page.tables[0]!.rows.filter((row) => row !== null).length;
        expect(await tab.locator('table').nth(drawn.length).locator('tbody tr:not(.rule)').count()).toBe(rows);
        expect(await tab.locator('body').textContent()).toContain('a <b>bold</b> processor');
        expect(requests).toEqual([]);
        expect(errors).toEqual([]);
        // On a telephone nothing but wide tables scrolls sideways; where the system is dark, the page is.
        const colours = () =>
          tab.evaluate('[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]');
        expect(await colours()).toEqual(['rgb(255, 255, 255)', 'rgb(26, 26, 26)']);
        await tab.emulateMedia({ colorScheme: 'dark' });
        expect(await colours()).toEqual(['rgb(22, 24, 27)', 'rgb(230, 230, 230)']);
        await tab.setViewportSize({ width: 360, height: 740 });
        await tab.reload();
        expect(await tab.evaluate('document.documentElement.scrollWidth')).toBeLessThanOrEqual(360);
        for (const canvas of await tab.locator('.uplot canvas').all())
          expect((await canvas.boundingBox())!.width).toBeLessThanOrEqual(360);
      });
    },
  );
});
