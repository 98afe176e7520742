/** What a number was measured on, and what this machine still has room for. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus, freemem, totalmem } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { SystemInfo } from './library.js';

export interface Machine {
  statespace: string;
  /** Commit of the source tree that runs, where there is one; "+" after it: with changes. */
  commit: string | null;
  cpu: string;
  cores: number;
  isa: string;
  threads: number;
  memoryBytes: number;
  node: string;
  platform: string;
}

export function describeMachine(system: SystemInfo): Machine {
  return {
    statespace: system.version,
    commit: sourceCommit(join(__dirname, '..', '..')),
    cpu: system.cpu.model || cpus()[0]?.model || 'unknown',
    cores: system.cpu.cores || availableParallelism(),
    isa: system.cpu.isa,
    threads: system.threads,
    memoryBytes: totalmem(),
    node: process.version,
    platform: `${process.platform}-${process.arch}`,
  };
}

function sourceCommit(root: string): string | null {
  if (!existsSync(join(root, '.git'))) return null;
  const git = (...args: string[]) =>
    execFileSync('git', ['-C', root, ...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  try {
    return (
      git('rev-parse', '--short', 'HEAD') + (git('status', '--porcelain', '--untracked-files=no') === '' ? '' : '+')
    );
  } catch {
    return null;
  }
}

/** Seconds that all cores have worked, and that the host has taken from them, since the start; null where unknown. */
export function processorTimes(): { busy: number; stolen: number; cores: number } | null {
  try {
    const text = readFileSync('/proc/stat', 'utf8');
    const [user, nice, system, , , irq, softirq, steal] = /^cpu +(.+)$/m.exec(text)![1]!.split(' ').map(Number);
    const ticks = 100; // USER_HZ, the same on every Linux
    const cores = text.match(/^cpu\d/gm)!.length;
    return { busy: (user! + nice! + system! + irq! + softirq!) / ticks, stolen: steal! / ticks, cores };
  } catch {
    return null;
  }
}

/** Bytes that can be allocated without swapping, the container's limit included. */
export function availableMemory(): number {
  const limited = (process as { availableMemory?: () => number }).availableMemory?.() ?? Number.POSITIVE_INFINITY;
  return Math.min(limited, freemem());
}

/**
 * Growth of the process' resident memory at its highest during `run`; null where the system cannot say. Linux resets
 * its high-water mark on request, so this can be asked again and again inside one process.
 */
export async function peakGrowth(run: () => Promise<unknown>): Promise<number | null> {
  collectGarbage();
  const before = residentBytes('VmRSS');
  if (before === null || !resetPeak()) return null;
  await run();
  const peak = residentBytes('VmHWM');
  return peak === null ? null : Math.max(0, peak - before);
}

/** Of this process at its highest. getrusage is the fallback: a forked child inherits its parent's mark until it execs on some systems. */
export function peakResidentBytes(): number {
  return residentBytes('VmHWM') ?? process.resourceUsage().maxRSS * 1024;
}

function residentBytes(field: 'VmRSS' | 'VmHWM'): number | null {
  try {
    const found = new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(readFileSync('/proc/self/status', 'utf8'));
    return found ? Number(found[1]) * 1024 : null;
  } catch {
    return null;
  }
}

function resetPeak(): boolean {
  try {
    writeFileSync('/proc/self/clear_refs', '5');
    return true;
  } catch {
    return false;
  }
}

let collector: (() => void) | undefined;

/** Gives back the buffers of earlier samples: their memory would otherwise count against the next case. */
export function collectGarbage(): void {
  if (collector === undefined) {
    setFlagsFromString('--expose-gc');
    collector = runInNewContext('gc') as () => void;
  }
  collector();
}
