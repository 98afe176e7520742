/** One self-contained page: charts, tables and text, with uPlot inside; it loads nothing and works offline. */
import { readFileSync } from 'node:fs';
import type { Table } from '../table.js';

export interface Series {
  name: string;
  /** Tokens, and what they cost. */
  points: { x: number; y: number }[];
}

export interface Chart {
  title: string;
  /** Of the vertical axis: seconds, bytes, tokens a second; a loss over steps, both axes even; percent over bytes. */
  unit: 'seconds' | 'bytes' | 'rate' | 'loss' | 'share';
  series: Series[];
}

export interface Page {
  title: string;
  /** One paragraph: what was measured. */
  subtitle: string;
  machine: [name: string, value: string][];
  commands: string[];
  charts: Chart[];
  tables: ({ title: string } & Table)[];
  /** The report as the terminal shows it. */
  text: string;
}

/** The whole document. */
export function renderPage(page: Page): string {
  const charts = page.charts.filter((chart) => chart.series.some((series) => series.points.length > 1));
  const uplot = (file: string) => readFileSync(require.resolve(`uplot/dist/${file}`), 'utf8');
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(page.title)}</title>
<style>${uplot('uPlot.min.css')}${STYLE}</style>
</head>
<body>
<h1>${escapeHtml(page.title)}</h1>
<p>${escapeHtml(page.subtitle)}</p>
<div class="charts">${charts.map((c, i) => `<figure><figcaption>${escapeHtml(c.title)}</figcaption><div id="chart-${i}"></div></figure>`).join('')}</div>
${page.tables.map(table).join('\n')}
<h2>Machine</h2>
<table class="facts"><tbody>${page.machine.map(([name, value]) => `<tr><th>${escapeHtml(name)}</th><td>${escapeHtml(value)}</td></tr>`).join('')}</tbody></table>
<h2>Commands</h2>
<pre>${page.commands.map(escapeHtml).join('\n')}</pre>
<details><summary>As the terminal shows it</summary><pre>${escapeHtml(page.text)}</pre></details>
<script type="application/json" id="data">${JSON.stringify(charts).replaceAll('<', '\\u003c')}</script>
<script>${uplot('uPlot.iife.min.js')}</script>
<script>${SCRIPT}</script>
</body>
</html>
`;
}

export function escapeHtml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
}

function table({ title, columns, rows }: { title: string } & Table): string {
  const cell = (tag: 'th' | 'td', text: string, i: number) =>
    `<${tag}${columns[i]?.align === 'left' ? ' class="left"' : ''}>${escapeHtml(text)}</${tag}>`;
  const widths = columns.length;
  const body = rows.map((row) =>
    row === null
      ? `<tr class="rule"><td colspan="${widths}"></td></tr>`
      : `<tr>${columns.map((_, i) => cell('td', row[i] ?? '', i)).join('')}</tr>`,
  );
  const head = columns.map(({ title: name }, i) => cell('th', name, i)).join('');
  return `<h2>${escapeHtml(title)}</h2>\n<div class="wide"><table><thead><tr>${head}</tr></thead><tbody>${body.join('')}</tbody></table></div>`;
}

const STYLE = `
:root { color-scheme: light dark; --ink: light-dark(#1a1a1a, #e6e6e6); --paper: light-dark(#fff, #16181b); --soft: light-dark(#f5f5f5, #24272b); --line: light-dark(#999, #6b7177); --thin: light-dark(#ddd, #3a3f44); }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: var(--ink); background: var(--paper); overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.charts { display: flex; flex-wrap: wrap; gap: 1rem; } figure { margin: 0; width: 560px; max-width: 100%; } figcaption { font-weight: 600; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; white-space: nowrap; } .u-legend { white-space: normal; font-size: 12px; }
th, td { text-align: right; padding: 0.15rem 0.7rem; } thead th { border-bottom: 1px solid var(--line); }
.left, .facts th, .facts td { text-align: left; } .facts td { white-space: normal; } .rule td { border-bottom: 1px solid var(--thin); padding: 0; }
pre { background: var(--soft); overflow-wrap: normal; padding: 0.8rem; overflow-x: auto; font-size: 13px; }
`;

// Runs in the browser. Both axes are logarithmic: a power law is a straight line, its slope the exponent.
const SCRIPT = `
const colours = ['#c0392b', '#e67e22', '#2471a3', '#1e8449', '#7d3c98', '#b7950b', '#117a65', '#566573'];
const digits = (v) => v >= 100 ? Math.round(v).toLocaleString('en-US') : String(Number(v.toPrecision(3)));
const scaled = (v, base, units) => { let i = 0; while (v >= base && i < units.length - 1) { v /= base; i++; } return (digits(v) + ' ' + units[i]).trim(); };
const format = {
  seconds: (v) => v >= 1 ? digits(v) + ' s' : v >= 1e-3 ? digits(v * 1e3) + ' ms' : digits(v * 1e6) + ' µs',
  bytes: (v) => scaled(v, 1024, ['B', 'KiB', 'MiB', 'GiB', 'TiB']),
  rate: (v) => scaled(v, 1000, ['', 'k', 'M', 'G']) + ' tok/s',
  loss: (v) => v.toPrecision(4),
  share: (v) => v.toFixed(0) + ' %',
};
const tokens = (v) => scaled(v, 1024, ['', 'K', 'M']);
const dark = matchMedia('(prefers-color-scheme: dark)');
const line = () => dark.matches ? '#3a3f44' : '#e3e3e3';
const axis = { stroke: () => dark.matches ? '#e6e6e6' : '#1a1a1a', grid: { stroke: line }, ticks: { stroke: line } };
JSON.parse(document.getElementById('data').textContent).forEach((chart, index) => {
  const xs = [...new Set(chart.series.flatMap((s) => s.points.map((p) => p.x)))].sort((a, b) => a - b);
  const ys = chart.series.map((s) => xs.map((x) => s.points.find((p) => p.x === x)?.y ?? null));
  const show = format[chart.unit];
  const even = chart.unit === 'loss';
  const share = chart.unit === 'share';
  const across = even ? 'step' : share ? 'bytes' : 'tokens';
  const place = document.getElementById('chart-' + index);
  const width = Math.min(560, place.clientWidth);
  const plot = new uPlot({
    width, height: Math.round(Math.min(380, width * 0.8)),
    scales: even ? { x: { time: false } } : share ? { x: { time: false, distr: 3, log: 2 }, y: { range: [0, 100] } } : { x: { time: false, distr: 3, log: 2 }, y: { distr: 3, log: chart.unit === 'bytes' ? 2 : 10 } },
    axes: [
      { ...axis, values: (_, ticks) => ticks.map((v) => v === null ? null : even ? v : share ? format.bytes(v) : tokens(v)), label: across },
      { ...axis, values: (_, ticks) => ticks.map((v) => v === null ? null : show(v)), size: 80 },
    ],
    series: [
      { label: across, value: (_, v) => v === null ? '' : v.toLocaleString('en-US') },
      ...chart.series.map((s, i) => ({
        label: s.name, stroke: colours[i % colours.length], width: 2, spanGaps: true, points: { show: !even, size: 6 },
        value: (_, v) => v === null ? '' : show(v),
      })),
    ],
  }, [xs, ...ys], place);
  dark.addEventListener('change', () => plot.redraw());
});
document.body.dataset.charts = String(document.querySelectorAll('.uplot canvas').length);
`;
