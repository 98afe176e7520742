import { call } from './native.js';
import { checkThreads } from './options.js';

/** This installation and this machine. */
export interface SystemInfo {
  /** Of this package. */
  version: string;
  /** The processor, and the instruction set that ops run on. */
  cpu: {
    model: string;
    cores: number;
    isa: 'scalar' | 'avx2' | 'avx512' | 'amx' | 'neon';
    /** Instruction sets that STATESPACE_BACKEND may name here, best first. */
    available: string[];
  };
  /** Whether a GPU can be used; `reason` where not. */
  cuda: {
    available: boolean;
    reason?: string;
    devices: { name: string; computeCapability: string; memoryBytes: number }[];
  };
  /** Of the compute pool. */
  threads: number;
  /** Why there are fewer threads than were asked for; absent where there are not. */
  threadShortage?: string;
  /** What ops run on: an instruction set, or what STATESPACE_BACKEND names; absent where that cannot be used. */
  backend?: string;
}

/** This package and this machine: what kernels run on, and why not on a GPU. */
export function systemInfo(): SystemInfo {
  return call((n) => {
    // Behind the addon: where that is not found, as in a bundle, this file is not either.
    const { version } = require('../../package.json') as { version: string };
    const { count, shortage } = n.threads();
    return {
      version,
      cpu: n.cpuInfo() as SystemInfo['cpu'],
      cuda: n.cudaInfo(),
      threads: count,
      ...(shortage !== undefined && { threadShortage: shortage }),
      backend: usable(() => n.backendName()),
    };
  });
}

/**
 * Threads of the compute pool, for the whole process; default: physical cores, as far as a container's CPU quota pays for
 * them. Environment: STATESPACE_THREADS. Where the system allows fewer, there are fewer, and systemInfo says why.
 */
export function setThreads(count: number): void {
  checkThreads('setThreads: count', count);
  call((n) => n.setThreads(count));
}

function usable(name: () => string): string | undefined {
  try {
    return name();
  } catch {
    return undefined;
  }
}
