/** Reports as pages: what --html writes. */
import { createColors } from 'picocolors';
import { formatBytes } from '../format.js';
import * as kernelText from '../kernels/print.js';
import type { KernelReport } from '../kernels/report.js';
import type { Machine } from '../machine.js';
import * as modelText from '../models/print.js';
import type { ModelReport } from '../models/report.js';
import * as peerText from '../peers/print.js';
import * as recallText from '../recall/print.js';
import type { RecallReport } from '../recall/run.js';
import * as scalingText from '../scaling/print.js';
import type { ScalingReport } from '../scaling/report.js';
import type { Chart, Page } from './page.js';

const plain = createColors(false);

export function scalingPage(report: ScalingReport): Page {
  const label = (id: string) => report.contenders.find((contender) => contender.id === id)?.label ?? id;
  const chart = (
    title: string,
    unit: Chart['unit'],
    value: (m: ScalingReport['measurements'][0]) => number,
  ): Chart => ({
    title,
    unit,
    series: report.contenders.map(({ id }) => ({
      name: label(id),
      points: report.measurements
        .filter((m) => m.contender === id && value(m) > 0)
        .map((m) => ({ x: m.length, y: value(m) })),
    })),
  });
  return {
    title: `Attention and state-space scan over the number of tokens, preset ${report.preset}`,
    subtitle: report.title,
    ...about(report),
    charts: [
      chart('Time of one run', 'seconds', (m) => m.time.median),
      chart('Working memory (by formula)', 'bytes', (m) => m.workingBytes),
      chart('Kept for the next token (by formula)', 'bytes', (m) => m.keptBytes),
      chart('Growth of resident memory (measured)', 'bytes', (m) => m.peakBytes ?? 0),
    ],
    tables: [
      { title: 'Measurements', ...scalingText.measurementTable(report, label) },
      { title: 'Growth', ...scalingText.growthTable(report, label) },
    ],
    text: scalingText.printScaling(report, { colours: plain, charts: true }),
  };
}

export function modelsPage(report: ModelReport): Page {
  const label = (name: string) => report.models.find((model) => model.name === name)?.label ?? name;
  const chart = (title: string, unit: Chart['unit'], value: (m: ModelReport['measurements'][0]) => number): Chart => ({
    title,
    unit,
    series: report.models.map(({ name }) => ({
      name: label(name),
      points: report.measurements.filter((m) => m.family === name).map((m) => ({ x: m.context, y: value(m) })),
    })),
  });
  return {
    title: 'Models of equal size over the length of their context',
    subtitle: `Random weights, matrices in ${report.settings.dtype}; prefill of N tokens, then ${report.settings.decodeTokens} one by one.`,
    ...about(report),
    charts: [
      chart('Prefill', 'rate', (m) => m.prefillTokensPerSecond),
      chart('Decode after N tokens', 'rate', (m) => m.decodeTokensPerSecond),
      chart('Session', 'bytes', (m) => m.sessionBytes),
      chart('Peak memory of the process', 'bytes', (m) => m.peakBytes),
    ],
    tables: [{ title: 'Measurements', ...modelText.measurementTable(report, label) }],
    text: modelText.printModels(report, plain),
  };
}

export function recallPage(report: RecallReport): Page {
  const { settings: s, tasks, results } = report;
  const bySize = [...results].sort((a, b) => a.stateBytes - b.stateBytes);
  return {
    title: 'Recall of small models of equal size',
    subtitle: `${s.parameters.toLocaleString('en-US')} parameters, ${s.layers} layers of width ${s.dModel}; ${s.steps} steps on each of ${tasks.length} tasks, ${s.batch} sequences of ${s.length} tokens.`,
    ...about(report),
    charts: [
      {
        title: 'Right answers over bytes of a session',
        unit: 'share',
        series: tasks.map(({ name, label }) => ({
          name: label,
          points: bySize.map((r) => ({ x: r.stateBytes, y: 100 * r.accuracy[name]! })),
        })),
      },
    ],
    tables: [{ title: 'Results', ...recallText.recallTable(report) }],
    text: recallText.printRecall(report),
  };
}

export function kernelsPage(report: KernelReport): Page {
  return {
    title: 'Kernels against the limits of this machine',
    subtitle: 'Every result was compared with its definition in double precision before it was timed.',
    ...about(report),
    charts: [],
    tables: [
      { title: 'Limits', ...kernelText.limitsTable(report.limits, report.machine.threads) },
      { title: 'Kernels', ...kernelText.kernelTable(report) },
      ...(report.measurements.some((m) => m.gradient)
        ? [{ title: 'Gradients', ...kernelText.gradientTable(report) }]
        : []),
    ],
    text: kernelText.printKernels(report, { colours: plain }),
  };
}

export function peersPage(report: peerText.PeersReport): Page {
  return {
    title: 'Against other software on this machine',
    subtitle: `Same work, one run: ${report.peers.join(', ')}.`,
    ...about(report),
    charts: [],
    tables: [
      ...(report.kernels.length > 0 ? [{ title: 'Kernels', ...peerText.kernelTable(report.kernels) }] : []),
      ...(report.models.length > 0 ? [{ title: 'Models', ...peerText.modelTable(report.models) }] : []),
      ...(report.training.length > 0 ? [{ title: 'Training', ...peerText.trainingTable(report.training) }] : []),
    ],
    text: peerText.printPeers(report, plain),
  };
}

function about(report: { machine: Machine; command: string; created: string }): Pick<Page, 'machine' | 'commands'> {
  const { machine } = report;
  return {
    machine: [
      ['statespace', machine.commit ? `${machine.statespace} (source ${machine.commit})` : machine.statespace],
      ['processor', `${machine.cpu}, ${machine.cores} cores, ${machine.isa}`],
      ['threads', String(machine.threads)],
      ['memory', formatBytes(machine.memoryBytes)],
      ['Node', `${machine.node}, ${machine.platform}`],
      ['measured', report.created],
    ],
    commands: [report.command],
  };
}
