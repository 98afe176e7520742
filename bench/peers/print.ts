/** Comparisons with peers as text. */
import type { createColors } from 'picocolors';
import { formatBytes, formatSeconds, percent, significant } from '../format.js';
import { formatSizes } from '../kernels/parse.js';
import type { DType } from '../library.js';
import type { Machine } from '../machine.js';
import { formatSpread } from '../scaling/print.js';
import type { Sample } from '../statistics.js';
import { rendered, type Table, wrap } from '../table.js';
import type { KernelComparison } from './kernels.js';
import type { ModelComparison } from './models.js';
import type { TrainingComparison } from './training.js';

export const SCHEMA = 'statespace.bench.peers';
export const SCHEMA_VERSION = 1;

export interface PeersReport {
  schema: typeof SCHEMA;
  schemaVersion: typeof SCHEMA_VERSION;
  created: string;
  command: string;
  machine: Machine;
  peers: string[];
  missing: { name: string; reason: string }[];
  kernels: KernelComparison[];
  models: ModelComparison[];
  training: TrainingComparison[];
  /** Models that were not trained, and why. */
  untrained: string[];
}

const WIDTH = 110;

export function printPeers(report: PeersReport, { bold, dim }: ReturnType<typeof createColors>): string {
  const { machine, kernels, models, training } = report;
  return [
    bold('Against other software on this machine, same work, one run'),
    dim(
      wrap(
        `statespace ${machine.statespace}${machine.commit ? ` (${machine.commit})` : ''}, ${machine.cpu}, ${machine.isa}, ` +
          `${machine.threads} threads each; ${report.peers.join(', ')}`,
        WIDTH,
      ),
    ),
    ...(kernels.length > 0 ? ['', rendered(kernelTable(kernels))] : []),
    ...(models.length > 0 ? ['', rendered(modelTable(models))] : []),
    ...(training.length > 0 ? ['', rendered(trainingTable(training))] : []),
    ...skipped(report),
    '',
    dim(
      wrap(
        'Times are medians. "Faster" is the peer\'s median divided by ours. Kernels get the same inputs, their results are ' +
          'compared with ours, and a result that is another is not timed; ours is the public call, its output allocated and (with ' +
          'out) into one that is there, half of its samples taken before the peers and half after. Models have the same configuration and random weights; those that ' +
          'are trained have the same weights and tokens, and steps of which the first gives another loss or norm are not ' +
          'timed. "Of prefill": a step beside a prompt of its length.',
        WIDTH,
      ),
    ),
  ].join('\n');
}

export function kernelTable(kernels: readonly KernelComparison[]): Table {
  return {
    columns: [
      { title: 'kernel', align: 'left' },
      { title: 'shape', align: 'left' },
      { title: 'statespace' },
      { title: 'spread' },
      { title: 'with out' },
      { title: 'peer', align: 'left' },
      { title: 'its median' },
      { title: 'spread' },
      { title: 'faster' },
      { title: 'with out' },
      { title: 'difference' },
    ],
    rows: kernels.flatMap((k) =>
      k.peers.map((p, i) => [
        i === 0 ? k.kernel : '',
        i === 0 ? formatSizes({ sizes: k.sizes, dtype: k.dtype as DType }) : '',
        i === 0 ? formatSeconds(k.ours.median) : '',
        i === 0 ? formatSpread(k.ours) : '',
        i === 0 ? formatSeconds(k.withOut.median) : '',
        `${p.peer}, ${p.form}`,
        formatSeconds(p.time.median),
        formatSpread(p.time),
        `${significant(p.ratio)} ×`,
        `${significant(p.ratioWithOut)} ×`,
        p.difference.toExponential(1),
      ]),
    ),
  };
}

export function modelTable(models: readonly ModelComparison[]): Table {
  const speed = (tokens: number, seconds: number) => significant(tokens / seconds);
  return {
    columns: [
      { title: 'model', align: 'left' },
      { title: 'prompt' },
      { title: 'software', align: 'left' },
      { title: 'prefill tok/s' },
      { title: 'we are faster' },
      { title: 'decode tok/s' },
      { title: 'we are faster' },
    ],
    rows: models.flatMap((m, i) => [
      ...(i > 0 ? [null] : []),
      [
        `${m.model}, ${significant(m.parameters / 1e6)} M`,
        String(m.context),
        `statespace ${m.dtype}`,
        speed(m.context, m.ours.prefill.median),
        '',
        speed(1, m.ours.decode.median),
        '',
      ],
      ...m.peers.map((p) => [
        ...['', '', `${p.peer} ${p.dtype}`, speed(m.context, p.prefill.median), `${significant(p.ratio.prefill)} ×`],
        ...[speed(1, p.decode.median), `${significant(p.ratio.decode)} ×`],
      ]),
    ]),
  };
}

export function trainingTable(training: readonly TrainingComparison[]): Table {
  return {
    columns: [
      { title: 'training', align: 'left' },
      { title: 'tokens' },
      { title: 'software', align: 'left' },
      { title: 'tok/s' },
      { title: 'spread of a step' },
      { title: 'we are faster' },
      { title: 'peak memory' },
      { title: 'of its' },
      { title: 'of prefill' },
    ],
    rows: training.flatMap((t, i) => {
      const speed = ({ step }: { step: Sample }) => significant(t.length / step.median);
      return [
        ...(i > 0 ? [null] : []),
        [
          ...[`${t.model}, ${significant(t.parameters / 1e6)} M`, String(t.length), `statespace ${t.dtype}`],
          ...[speed(t.ours), formatSpread(t.ours.step), '', formatBytes(t.ours.peakBytes), ''],
          percent(t.ours.ofPrefill),
        ],
        [
          ...['', '', `${t.peer.name}${t.cold ? ' (its first step)' : ''}`, speed(t.peer), formatSpread(t.peer.step)],
          ...[`${significant(t.ratio.speed)} ×`, formatBytes(t.peer.peakBytes), percent(t.ratio.memory), ''],
        ],
      ];
    }),
  };
}

function skipped({ missing, kernels, models, untrained }: PeersReport): string[] {
  const lines = [
    ...missing.map(({ name, reason }) => `${name}: ${reason}`),
    ...kernels.flatMap((k) => k.skipped.map((s) => `${s.peer}, ${k.kernel} ${k.dtype}: ${s.reason}`)),
    ...models.flatMap((m) => m.skipped.map((s) => `${s.peer}, ${m.model} ${s.dtype}: ${s.reason}`)),
    ...untrained,
  ];
  return lines.length === 0 ? [] : ['', 'Not compared:', ...lines.map((line) => wrap(`  ${line}`, WIDTH, '    '))];
}
