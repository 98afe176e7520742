// A conversation by lines on stdin.
import { spawn, spawnSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { createEngine, loadModel } from 'statespace';
import { afterAll, expect, test } from 'vitest';
import { modelCase } from '../support/golden.js';
import { needs } from '../support/needs.js';
import { textModelFolder } from '../support/text-model.js';

const folder = textModelFolder();
afterAll(() => rmSync(folder, { recursive: true }));

function chat(args: string[], input: string): Promise<{ code: number | null; stdout: string; stderr: string }> {
  return new Promise((done, fail) => {
    const main = resolve(__dirname, '../../dist/lib/cli/main.js');
    const child = spawn(process.execPath, [main, 'chat', ...args], { env: { ...process.env, NO_COLOR: '1' } });
    const out = { stdout: '', stderr: '' };
    for (const from of ['stdout', 'stderr'] as const)
      child[from].setEncoding('utf8').on('data', (text: string) => {
        out[from] += text;
      });
    child.on('error', fail);
    child.on('close', (code) => done({ code, ...out }));
    child.stdin.end(input);
  });
}

test('answers each line with the conversation before it in mind, of which nothing is read again', async () => {
  const said = ['hello world w20 w21 w22 w23', 'one two', '/reset', 'one two', '/exit', 'never'];
  const { code, stdout, stderr } = await chat([folder, '-t', '0', '-n', '9', '--system', 'w30'], said.join('\n'));
  expect([code, stderr]).toEqual([0, expect.stringMatching(/0 kept[\s\S]*read, [1-9]\d* kept/)]);

  const model = await loadModel(folder);
  const system = { role: 'system', content: 'w30' };
  const user = (content: string) => ({ role: 'user', content });
  const answer = async (messages: object[]) => {
    await using engine = createEngine(model);
    let text = '';
    for await (const token of engine.generate({ messages: messages as never, maxTokens: 9 })) text += token.text;
    return text;
  };
  const first = await answer([system, user(said[0]!)]);
  const second = await answer([system, user(said[0]!), { role: 'assistant', content: first }, user(said[1]!)]);
  const fresh = await answer([system, user(said[1]!)]);
  expect(stdout).toBe([first, second, fresh, ''].join('\n'));
  await model.dispose();
});

test('a model without a chat template is wrong usage', async () => {
  const { code, stdout, stderr } = await chat([modelCase('mamba_hf').folder], 'hello\n');
  expect([code, stdout]).toEqual([2, '']);
  expect(stderr).toMatch(/cannot chat.*statespace generate/);
});

const script = spawnSync('script', ['--version']).status === 0;

/** The command in a pseudo-terminal; a step is sent when the output since the last one matches. */
function inTerminal(
  args: string,
  steps: readonly [RegExp, string][],
): Promise<{ code: number | null; output: string }> {
  return new Promise((done, fail) => {
    const main = resolve(__dirname, '../../dist/lib/cli/main.js');
    const env = { ...process.env, NO_COLOR: '1', TERM: 'xterm' };
    const child = spawn('script', ['-qec', `"${process.execPath}" ${main} chat ${args}`, '/dev/null'], { env });
    let [output, seen, next] = ['', 0, 0];
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text;
      const step = steps[next];
      if (!step?.[0].test(output.slice(seen))) return;
      seen = output.length;
      next++;
      child.stdin.write(step[1]);
    });
    child.on('error', fail);
    child.on('close', (code) => done({ code, output }));
  });
}

test.runIf(needs(script, 'script(1), a terminal for chat'))(
  'in a terminal: commands, a refusal, Ctrl-C, Ctrl-D, long lines',
  async () => {
    const prompt = /> /;
    const endless = textModelFolder({ ends: false });
    writeFileSync(
      join(endless, 'chat_template.jinja'),
      "{{ raise_exception('no such thing') if 'w30' in messages[-1].content }}{% for m in messages %}{{ m.content }} {% endfor %}",
    );
    const { code, output } = await inTerminal(`${endless} -t 0 -n 1000000`, [
      [prompt, '/help\r'],
      [/Ctrl-D.*[\s\S]*> /, '/nothing\r'],
      [/unknown command \/nothing[\s\S]*> /, 'w30\r'],
      [/no such thing[\s\S]*> /, `${'hello '.repeat(500)}\r`],
      [/w\d+ w\d+/, '\x03'], // while it answers
      [prompt, 'half a line'],
      [/half a line/, '\x03'],
      [prompt, 'one\r'],
      [/w\d+ w\d+/, '\x04'],
    ]);
    expect(output).not.toMatch(/Error|undefined/);
    expect(code).toBe(0);
    rmSync(endless, { recursive: true });
  },
);

test('no folder, no file', async () => {
  const { code, stderr } = await chat(['/no/such/model'], '');
  expect([code, stderr]).toEqual([2, expect.stringContaining('no folder or file /no/such/model')]);
});
