// The first charts of a report page as a picture. usage: node scripts/report-chart.cjs REPORT.html OUT.png [COUNT]
const { resolve } = require('node:path');
const { pathToFileURL } = require('node:url');
const { chromium } = require('playwright-core');

async function main([page, out, count = '2']) {
  const executablePath = process.env.STATESPACE_CHROMIUM ?? '/usr/bin/chromium';
  const browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu'] });
  try {
    const tab = await browser.newPage({ viewport: { width: 1200, height: 900 } });
    await tab.goto(pathToFileURL(resolve(page)).href);
    await tab.evaluate(
      `document.querySelectorAll('figure').forEach((f, i) => { if (i >= ${Number(count)}) f.remove(); })`,
    );
    await tab.locator('.charts').screenshot({ path: out });
  } finally {
    await browser.close();
  }
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error.message);
  process.exit(1);
});
