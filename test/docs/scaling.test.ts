/** The Compose file and the Kubernetes manifest of docs/scaling.md: that they are whole, and ask for what the program has. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { describe, expect, test } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';
import { addServe } from '../../dist/lib/cli/commands/serve.js';
import { addWorker } from '../../dist/lib/cli/commands/worker.js';
import { blocksOf, documents, ROOT } from '../support/markdown.js';

// biome-ignore lint/suspicious/noExplicitAny: what a file of settings holds has no type here
type Settings = any;

const program = new Command();
for (const add of [addServe, addWorker]) add(program, new AbortController().signal);
const commandOf = (name: string) => program.commands.find((command) => command.name() === name)!;
const argumentOf = (words: readonly string[], flag: string) => words[words.indexOf(flag) + 1];

/** Throws what the program would say to these words behind its name. Not behind npx, which keeps SIGTERM from it. */
function accepted(words: readonly string[]): void {
  const [name, command, ...rest] = words;
  expect(name).toBe('node_modules/.bin/statespace');
  const known = commandOf(command!);
  expect(known, command).toBeDefined();
  const { unknown, operands } = known
    .exitOverride()
    .configureOutput({ writeErr: () => {} })
    .parseOptions([...rest]);
  expect(unknown).toEqual([]);
  expect(operands).toHaveLength(1);
}

const blockUnder = (heading: string): string => {
  const page = readFileSync(join(ROOT, 'docs/scaling.md'), 'utf8').split('\n');
  const line = page.indexOf(`## ${heading}`) + 1;
  return blocksOf('docs/scaling.md').find((block) => block.line > line)!.code;
};

describe('the Compose file', () => {
  const file: Settings = parse(blockUnder('Compose'));
  const services: [string, Settings][] = Object.entries(file.services);
  const ours = services.filter(([, { command }]) => /\bstatespace (serve|worker)\b/.test(command));

  test('has services with an image, and volumes that it declares', () => {
    expect(Object.keys(file).sort()).toEqual(['services', 'volumes']);
    for (const [name, { image, volumes = [] }] of services) {
      expect(image, name).toMatch(/^[a-z]+:\d+$/);
      for (const [from] of volumes.map((volume: string) => volume.split(':')))
        expect(from.startsWith('./') || from in file.volumes, from).toBe(true);
    }
  });

  test('calls the program with what it takes, and leaves it time to end', () => {
    expect(ours.map(([name]) => name)).toEqual(['serve', 'worker']);
    for (const [, { command, stop_grace_period }] of ours) {
      const words = command.split(' ');
      accepted(words);
      expect(argumentOf(words, '--redis')).toBe('redis://redis:6379');
      const grace = words.includes('--grace') ? Number(argumentOf(words, '--grace')) : 0;
      expect(Number.parseInt(stop_grace_period, 10)).toBeGreaterThan(grace);
    }
  });

  test('reaches the server where it listens', () => {
    const port = commandOf('serve').options.find(({ long }) => long === '--port')!.defaultValue;
    expect(file.services.serve.command).toContain('--host 0.0.0.0');
    expect(file.services.serve.healthcheck.test.at(-1)).toContain(`http://127.0.0.1:${port}/health`);
    expect(file.services.balancer.command).toContain(`--to serve:${port}`);
    expect(Object.keys(file.services.serve.environment)).toEqual(['STATESPACE_API_KEY']);
  });
});

describe('the Kubernetes manifest', () => {
  const [deployment, service]: Settings[] = parseAllDocuments(blockUnder('Kubernetes')).map((part) => {
    expect(part.errors).toEqual([]);
    return part.toJS();
  });
  const pod = deployment.spec.template.spec;
  const [container] = pod.containers;

  test('is a deployment and a service that finds its pods', () => {
    expect([deployment.apiVersion, deployment.kind]).toEqual(['apps/v1', 'Deployment']);
    expect([service.apiVersion, service.kind]).toEqual(['v1', 'Service']);
    const { labels } = deployment.spec.template.metadata;
    expect(deployment.spec.selector.matchLabels).toEqual(labels);
    expect(service.spec.selector).toEqual(labels);
  });

  test('calls the program with what it takes, and leaves it time to end', () => {
    accepted(container.args);
    expect(pod.terminationGracePeriodSeconds).toBeGreaterThan(Number(argumentOf(container.args, '--grace')));
    expect(container.env.map(({ name }: Settings) => name)).toEqual(['STATESPACE_API_KEY']);
  });

  test('names one port and mounts what it declares', () => {
    const port = commandOf('serve').options.find(({ long }) => long === '--port')!.defaultValue;
    const ports = [
      container.ports[0].containerPort,
      ...[container.readinessProbe, container.livenessProbe].map((probe: Settings) => probe.httpGet.port),
      service.spec.ports[0].targetPort,
      Number(deployment.spec.template.metadata.annotations['prometheus.io/port']),
    ];
    expect(ports).toEqual(ports.map(() => port));
    const volumes = pod.volumes.map(({ name }: Settings) => name);
    for (const { name } of container.volumeMounts) expect(volumes).toContain(name);
  });
});

test('commands in the documents have the flags that they are given there', () => {
  const calls = documents().flatMap((file) =>
    [...readFileSync(join(ROOT, file), 'utf8').matchAll(/statespace (serve|worker)((?: [^\s`|]+)*)/g)].map((match) => ({
      ...{ file, name: match[1]! },
      flags: [...match[2]!.matchAll(/(?<= )--[a-z-]+/g)].map(([flag]) => flag),
    })),
  );
  expect(calls.length).toBeGreaterThan(5);
  for (const { file, name, flags } of calls) {
    const known = commandOf(name).options.map(({ long }) => long);
    for (const flag of flags) expect(known, `${file}: statespace ${name}`).toContain(flag);
  }
});

test('environment variables in the documents are read by the program', () => {
  const read = new Set<string>();
  const scan = (name: string) => {
    for (const [variable] of readFileSync(join(ROOT, name), 'utf8').matchAll(/STATESPACE_[A-Z]+\b/g))
      read.add(variable);
  };
  for (const name of ['lib/cli/main.ts', 'lib/cli/commands/serve.ts']) scan(name);
  for (const [variable] of readFileSync(join(ROOT, 'docs/scaling.md'), 'utf8').matchAll(/STATESPACE_[A-Z]+\b/g))
    expect(read).toContain(variable);
});
