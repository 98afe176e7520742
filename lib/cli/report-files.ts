/** --json and --html of every benchmark: checked before anything is measured, written whole afterwards. */
import type { Command } from 'commander';
import { type Page, renderPage } from '../../bench/html/page.js';
import { UsageError } from './errors.js';
import { checkApart, checkWritable, isStandardOutput, writeOutput } from './files.js';
import { write } from './terminal.js';

export interface ReportFiles {
  json?: string;
  html?: string;
}

export function addReportFiles(command: Command): Command {
  return command
    .option('--json <file>', 'also write everything measured, every sample included; - is standard output')
    .option('--html <file>', 'also write one self-contained page with charts and tables; - is standard output');
}

export function checkReportFiles({ json, html }: ReportFiles): void {
  for (const file of [json, html]) if (file !== undefined) checkWritable(file);
  checkApart({ '--json': json, '--html': html });
  if (json !== undefined && html !== undefined && isStandardOutput(json) && isStandardOutput(html))
    throw new UsageError('--json and --html cannot both go to standard output');
}

/** The files, and the text: on stderr where stdout takes one of them. */
export function writeReport<R>({ json, html }: ReportFiles, report: R, page: (report: R) => Page, text: string): void {
  if (json !== undefined) writeOutput(json, `${JSON.stringify(report, null, 2)}\n`);
  if (html !== undefined) writeOutput(html, renderPage(page(report)));
  writeText(text, json, html);
}

/** What is said beside files: on stderr where stdout takes one of them. */
export function writeText(text: string, ...files: (string | undefined)[]): void {
  const taken = files.some((file) => file !== undefined && isStandardOutput(file));
  write(text, taken ? process.stderr : process.stdout);
}
