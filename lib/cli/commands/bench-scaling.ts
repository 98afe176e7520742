import { type Command, Option } from 'commander';
import { scalingPage } from '../../../bench/html/reports.js';
import { plans, reusing } from '../../../bench/kernels/plans.js';
import { library } from '../../../bench/library.js';
import { describeMachine } from '../../../bench/machine.js';
import { KERNEL_SHAPE, kernelPreset } from '../../../bench/scaling/kernel.js';
import { LAYER_SHAPE, layerPreset } from '../../../bench/scaling/layer.js';
import { MIXERS_SHAPE, mixersPreset } from '../../../bench/scaling/mixers.js';
import { printScaling } from '../../../bench/scaling/print.js';
import { runScaling } from '../../../bench/scaling/run.js';
import { UsageError } from '../errors.js';
import { parseLengths, parseNumber, parsePositive } from '../parse.js';
import { addReportFiles, checkReportFiles, type ReportFiles, writeReport } from '../report-files.js';
import { colours, isTerminal, progress } from '../terminal.js';

interface Options extends ReportFiles {
  preset: 'kernel' | 'layer' | 'mixers';
  lengths?: number[];
  reps: number;
  budget: number;
  threads?: number;
  dModel?: number;
  heads?: number;
  dState?: number;
  batch?: number;
  chart?: boolean;
}

/** The mixing alone is timed on memory that is there; whole layers allocate as any caller of ops does. */
function onKeptMemory(...[ops, shape, threads]: Parameters<typeof kernelPreset>): ReturnType<typeof kernelPreset> {
  const { attention, selectiveScan } = plans();
  const kept = { ...ops, attentionSync: reusing(attention), selectiveScanSync: reusing(selectiveScan) };
  return kernelPreset(ops, shape, threads, kept);
}

const PRESETS = {
  kernel: { make: onKeptMemory, shape: KERNEL_SHAPE, lengths: [512, 1024, 2048, 4096, 8192, 16384] },
  layer: { make: layerPreset, shape: LAYER_SHAPE, lengths: [512, 1024, 2048, 4096, 8192] },
  mixers: { make: mixersPreset, shape: MIXERS_SHAPE, lengths: [512, 1024, 2048, 4096, 8192] },
};

export function addBenchScaling(bench: Command, signal: AbortSignal): void {
  addReportFiles(bench.command('scaling'))
    .description('Time and memory of attention and of a state-space scan over length: where O(N²) overtakes O(N).')
    .addOption(
      new Option(
        '--preset <name>',
        'kernel: the mixing alone; layer: whole layers with their projections; mixers: every family in its modes',
      )
        .choices(['kernel', 'layer', 'mixers'])
        .default('kernel'),
    )
    .option(
      '--lengths <list>',
      'tokens; K = 1,024, a..b doubles (default: kernel 512..16K, others 512..8K)',
      parseLengths,
    )
    .option(
      '--reps <n>',
      'samples of each contender at each length; at most 3 of what takes over 2 s, fewer near the end of the budget',
      parsePositive,
      7,
    )
    .option(
      '--budget <seconds>',
      'time for the whole run; what does not fit is skipped and says so',
      parseNumber(1),
      120,
    )
    .option('--threads <n>', 'compute threads (default: physical cores)', parsePositive)
    .option('--d-model <n>', 'model width in channels (default: 512)', parsePositive)
    .option('--heads <n>', 'attention heads (default: 8)', parsePositive)
    .option('--d-state <n>', 'states per channel of the scan (default: 16, mixers 64)', parsePositive)
    .option('--batch <n>', 'sequences at once (default: layer 4, others 1)', parsePositive)
    .option('--chart', 'draw the chart although stdout is no terminal')
    .option('--no-chart', 'draw no chart')
    .addHelpText(
      'after',
      `
Contenders: tiled attention (never holds the N×N matrix), attention with the matrix in memory, and Mamba's selective
scan. The preset mixers has SSD, retention, WKV and the long convolution in all their modes instead. Results are checked
against each other and against plain TypeScript first; a wrong one ends the run (exit code 1).

Examples:
  $ statespace bench scaling
  $ statespace bench scaling --preset layer --json layer.json
  $ statespace bench scaling --preset mixers --lengths 512..4K
  $ statespace bench scaling --lengths 256..4K --reps 15 --threads 1`,
    )
    .action((options: Options) => scaling(options, signal));
}

async function scaling(options: Options, signal: AbortSignal): Promise<void> {
  const preset = PRESETS[options.preset];
  const { dModel, heads, dState, batch } = { ...preset.shape, ...defined(options) };
  if (dModel % heads !== 0) throw new UsageError(`--d-model ${dModel} is no multiple of --heads ${heads}`);
  checkReportFiles(options);
  const { ops, systemInfo, setThreads } = library();
  if (options.threads !== undefined) setThreads(options.threads);
  const machine = describeMachine(systemInfo());
  const bar = progress('bench scaling');
  try {
    const report = await runScaling(preset.make(ops, { dModel, heads, dState, batch }, machine.threads), {
      lengths: options.lengths ?? preset.lengths,
      reps: options.reps,
      budgetSeconds: options.budget,
      command: ['statespace', ...process.argv.slice(2)].join(' '),
      machine,
      signal,
      onProgress: (fraction, note) => bar.update(fraction, note),
    });
    bar.stop();
    writeReport(
      options,
      report,
      scalingPage,
      printScaling(report, { colours: colours(), charts: options.chart ?? isTerminal() }),
    );
  } finally {
    bar.stop();
  }
}

function defined({ dModel, heads, dState, batch }: Options): Partial<typeof KERNEL_SHAPE> {
  return Object.fromEntries(
    Object.entries({ dModel, heads, dState, batch }).filter(([, value]) => value !== undefined),
  );
}
