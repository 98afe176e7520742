import type { Command } from 'commander';
import { formatBytes } from '../../../bench/format.js';
import { library } from '../../../bench/library.js';
import { availableMemory, describeMachine } from '../../../bench/machine.js';
import { labelled } from '../../../bench/table.js';
import { write } from '../terminal.js';

export function addInfo(program: Command): void {
  program
    .command('info')
    .description('Print what this installation runs on: version, processor, instruction sets, threads, GPU, models.')
    .option('--json', 'print JSON instead of text')
    .addHelpText('after', '\nExample:\n  $ statespace info --json')
    .action(({ json }: { json?: boolean }) => {
      const { systemInfo, supportedModels } = library();
      const system = systemInfo();
      if (json) {
        write(JSON.stringify({ ...system, models: supportedModels(), node: process.version }, null, 2));
        return;
      }
      const machine = describeMachine(system);
      const cuda = system.cuda.available
        ? system.cuda.devices
            .map((d) => `${d.name} (compute ${d.computeCapability}, ${formatBytes(d.memoryBytes)})`)
            .join(', ')
        : `not available: ${system.cuda.reason ?? 'no reason given'}`;
      const rows = [
        ['statespace', machine.commit ? `${machine.statespace} (source ${machine.commit})` : machine.statespace],
        ['node', `${machine.node} on ${machine.platform}`],
        ['processor', `${machine.cpu}, ${machine.cores} cores`],
        ['instruction set', `${machine.isa} (available: ${system.cpu.available.join(', ')})`],
        ['threads', `${machine.threads}`],
        ['memory', `${formatBytes(machine.memoryBytes)}, ${formatBytes(availableMemory())} available`],
        ['cuda', cuda],
        ['models', supportedModels().join(', ')],
      ];
      write(rows.map(([name, value]) => labelled(name!, value!, 17)).join('\n'));
    });
}
