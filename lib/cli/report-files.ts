/** --json and --html of every benchmark: checked before anything is measured, written whole afterwards. */
import type { Command } from 'commander';
import { type Page, renderPage } from '../../bench/html/page.js';
import { checkWritable, writeFileAtomically } from './files.js';

export interface ReportFiles {
  json?: string;
  html?: string;
}

export function addReportFiles(command: Command): Command {
  return command
    .option('--json <file>', 'also write everything measured, every sample included')
    .option('--html <file>', 'also write one self-contained page with charts and tables');
}

export function checkReportFiles({ json, html }: ReportFiles): void {
  for (const file of [json, html]) if (file !== undefined) checkWritable(file);
}

export function writeReportFiles<R>({ json, html }: ReportFiles, report: R, page: (report: R) => Page): void {
  if (json !== undefined) writeFileAtomically(json, `${JSON.stringify(report, null, 2)}\n`);
  if (html !== undefined) writeFileAtomically(html, renderPage(page(report)));
}
