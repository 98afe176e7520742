import type { Engine } from '../engine/engine.js';
import { canChat } from '../engine/request.js';
import type { Limits } from './served.js';

/** The page at `/`: one file that needs nothing else, to try the model in a browser. */
export function page(engine: Engine, { model, maxTokens }: Limits): string {
  const settings = { model, maxTokens, chat: canChat(engine.model) };
  const json = JSON.stringify(settings).replaceAll('<', '\\u003c');
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(model)}</title>
<style>${STYLE}</style>
</head>
<body>
<header><h1>${escapeHtml(model)}</h1><p id="figures" role="status"></p></header>
<main id="log" aria-live="polite"></main>
<form id="form">
  <textarea id="prompt" rows="3" placeholder="Say something" aria-label="Prompt" required></textarea>
  <div class="row">
    <label>temperature <input id="temperature" type="number" min="0" max="2" step="0.1" value="0.7"></label>
    <label>tokens <input id="max" type="number" min="1" max="${maxTokens}" value="${Math.min(256, maxTokens)}"></label>
    <label>key <input id="key" type="password" autocomplete="off" size="8"></label>
    <span class="grow"></span>
    <button type="button" id="clear">Clear</button>
    <button type="button" id="stop" disabled>Stop</button>
    <button type="submit" id="send">Send</button>
  </div>
</form>
<script type="application/json" id="settings">${json}</script>
<script>${SCRIPT}</script>
</body>
</html>
`;
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
}

const STYLE = `
:root { color-scheme: light dark; --ink: light-dark(#1c1e21, #e6e6e6); --soft: light-dark(#f1f3f5, #26292d); --line: light-dark(#ced4da, #495057); }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 52rem; height: 100vh; display: flex; flex-direction: column; font: 16px/1.5 system-ui, sans-serif; color: var(--ink); padding: 0 1rem; }
header { display: flex; align-items: baseline; gap: 1rem; flex-wrap: wrap; border-bottom: 1px solid var(--line); }
h1 { font-size: 1.1rem; margin: .8rem 0; } #figures { margin: 0; font-variant-numeric: tabular-nums; opacity: .8; font-size: .9rem; }
main { flex: 1; overflow-y: auto; padding: 1rem 0; }
.turn { white-space: pre-wrap; overflow-wrap: anywhere; padding: .6rem .8rem; margin: 0 0 .8rem; border-radius: .5rem; }
.user { background: var(--soft); } .error { color: light-dark(#b02a37, #ff8787); }
form { border-top: 1px solid var(--line); padding: .8rem 0; }
textarea { width: 100%; font: inherit; padding: .5rem; border: 1px solid var(--line); border-radius: .4rem; resize: vertical; background: transparent; color: inherit; }
.row { display: flex; gap: .8rem; align-items: center; flex-wrap: wrap; margin-top: .4rem; font-size: .9rem; } .grow { flex: 1; }
input { width: 5rem; font: inherit; } button { font: inherit; padding: .3rem .9rem; }
`;

// What the page does. It asks this server alone, by the same API as everybody.
const SCRIPT = `
'use strict';
const settings = JSON.parse(document.getElementById('settings').textContent);
const at = (id) => document.getElementById(id);
let messages = [], running = null;
function turn(kind, text) {
  const element = document.createElement('div');
  element.className = 'turn ' + kind;
  element.textContent = text;
  at('log').append(element);
  element.scrollIntoView({ block: 'end' });
  return element;
}
function bytes(n) {
  const unit = n >= 2 ** 30 ? [2 ** 30, 'GiB'] : n >= 2 ** 20 ? [2 ** 20, 'MiB'] : [1024, 'KiB'];
  return (n / unit[0]).toFixed(1) + ' ' + unit[1];
}
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    rest += value;
    const parts = rest.split('\\n\\n');
    rest = parts.pop();
    for (const part of parts) {
      const data = part.replace(/^data: /, '');
      if (data === '[DONE]') return;
      yield JSON.parse(data);
    }
  }
}
async function send(text) {
  running = new AbortController();
  at('send').disabled = true;
  at('stop').disabled = false;
  turn('user', text);
  // Of the conversation that it was asked in: Clear begins another.
  const conversation = messages;
  conversation.push({ role: 'user', content: text });
  const answer = turn('assistant', '');
  let said = '', tokens = 0, first = 0, usage = null;
  const started = performance.now();
  const figures = () => {
    const seconds = (performance.now() - first) / 1000;
    const speed = tokens > 1 ? ((tokens - 1) / seconds).toFixed(1) + ' tokens/s' : '';
    const start = first ? 'first after ' + ((first - started) / 1000).toFixed(2) + ' s' : 'reading';
    const cache = usage ? usage.prompt_tokens_details.cached_tokens + ' of ' + usage.prompt_tokens + ' prompt tokens cached' : '';
    const state = usage ? bytes(usage.state_bytes) + ' of state' : '';
    at('figures').textContent = [tokens + ' tokens', speed, start, cache, state].filter(Boolean).join(' · ');
  };
  // Drawn once a frame: a fast model must not keep the browser from seeing a click on Stop.
  let frame = 0;
  const draw = () => {
    cancelAnimationFrame(frame);
    frame = 0;
    answer.textContent = said;
    at('log').scrollTop = at('log').scrollHeight;
    figures();
  };
  const common = {
    model: settings.model, stream: true, stream_options: { include_usage: true },
    temperature: Number(at('temperature').value), max_tokens: Number(at('max').value),
  };
  const headers = { 'content-type': 'application/json' };
  if (at('key').value) headers.authorization = 'Bearer ' + at('key').value;
  try {
    const response = await fetch(settings.chat ? 'v1/chat/completions' : 'v1/completions', {
      method: 'POST', headers, signal: running.signal,
      body: JSON.stringify(settings.chat ? { ...common, messages: conversation } : { ...common, prompt: text }),
    });
    if (!response.ok) throw new Error((await response.json()).error.message);
    for await (const event of events(response)) {
      if (event.error) throw new Error(event.error.message);
      if (event.usage) usage = event.usage;
      const choice = event.choices[0];
      const piece = choice && (settings.chat ? choice.delta.content : choice.text);
      if (piece) {
        if (!first) first = performance.now();
        tokens++;
        said += piece;
      }
      if (!frame) frame = requestAnimationFrame(draw);
    }
    draw();
  } catch (error) {
    draw();
    if (error.name === 'AbortError') answer.append(' [stopped]');
    else turn('error', error.message);
  }
  // An answer that never began leaves nothing to go on from.
  if (said) conversation.push({ role: 'assistant', content: said });
  else conversation.pop();
  running = null;
  at('send').disabled = false;
  at('stop').disabled = true;
}
at('form').addEventListener('submit', (event) => {
  event.preventDefault();
  const text = at('prompt').value;
  if (running || !text.trim()) return;
  at('prompt').value = '';
  send(text);
});
at('prompt').addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && !event.shiftKey) { event.preventDefault(); at('form').requestSubmit(); }
});
at('stop').addEventListener('click', () => running && running.abort());
at('clear').addEventListener('click', () => {
  if (running) running.abort();
  messages = [];
  at('log').replaceChildren();
  at('figures').textContent = '';
});
`;
