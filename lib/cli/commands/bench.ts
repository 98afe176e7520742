import type { Command } from 'commander';
import { addBenchCalls } from './bench-calls.js';
import { addBenchEventLoop } from './bench-event-loop.js';
import { addBenchFamilies } from './bench-families.js';
import { addBenchKernels } from './bench-kernels.js';
import { addBenchModels } from './bench-models.js';
import { addBenchPeers } from './bench-peers.js';
import { addBenchQuantised } from './bench-quantised.js';
import { addBenchRecall } from './bench-recall.js';
import { addBenchScaling } from './bench-scaling.js';
import { addBenchServing } from './bench-serving.js';

export function addBench(program: Command, signal: AbortSignal): void {
  const bench = program
    .command('bench')
    .description('Measure on this machine; every number is checked before it is timed.');
  addBenchScaling(bench, signal);
  addBenchModels(bench, signal);
  addBenchFamilies(bench, signal);
  addBenchQuantised(bench, signal);
  addBenchRecall(bench, signal);
  addBenchKernels(bench, signal);
  addBenchPeers(bench, signal);
  addBenchCalls(bench, signal);
  addBenchServing(bench, signal);
  addBenchEventLoop(bench);
}
