import { bamba } from './bamba.js';
import type { ModelDefinition } from './definition.js';
import { falconH1 } from './falcon-h1.js';
import { gatedDeltaNet } from './gated-deltanet.js';
import { gemma } from './gemma.js';
import { gla } from './gla.js';
import { glm5Next } from './glm5-next.js';
import { graniteMoeHybrid } from './granitemoehybrid.js';
import { hyena, hyenaOperator } from './hyena.js';
import { inkling } from './inkling.js';
import { jamba } from './jamba.js';
import { kimiLinear } from './kimi-linear.js';
import { lfm2 } from './lfm2.js';
import { llama } from './llama.js';
import { mamba } from './mamba.js';
import { mambaSsm } from './mamba-ssm.js';
import { mamba2 } from './mamba2.js';
import { minimax } from './minimax.js';
import { mixtral } from './mixtral.js';
import { nemotronH } from './nemotron-h.js';
import { olmoHybrid } from './olmo-hybrid.js';
import { olmo2 } from './olmo2.js';
import { phi3 } from './phi3.js';
import { qwen } from './qwen.js';
import { qwen3Next } from './qwen3-next.js';
import { qwen4Exp } from './qwen4-exp.js';
import { recurrentGemma } from './recurrent-gemma.js';
import { retnet } from './retnet.js';
import { rwkv4 } from './rwkv4.js';
import { rwkv6 } from './rwkv6.js';
import { rwkv7 } from './rwkv7.js';
import { s4d } from './s4d.js';
import { zamba } from './zamba.js';
import { zamba2 } from './zamba2.js';
import { zaya } from './zaya.js';

/**
 * Every family of the package; loaded at the first config that is read: 30 of the 80 ms that an import of all took.
 * @public
 */
// biome-ignore lint/suspicious/noExplicitAny: families differ in what their config becomes
export const families: ModelDefinition<any>[] = [
  mamba,
  mamba2,
  mambaSsm,
  llama,
  mixtral,
  qwen,
  gemma,
  phi3,
  olmo2,
  jamba,
  s4d,
  rwkv4,
  rwkv6,
  rwkv7,
  retnet,
  hyena,
  hyenaOperator,
  bamba,
  falconH1,
  graniteMoeHybrid,
  lfm2,
  nemotronH,
  qwen3Next,
  olmoHybrid,
  gatedDeltaNet,
  gla,
  kimiLinear,
  minimax,
  recurrentGemma,
  zaya,
  inkling,
  glm5Next,
  qwen4Exp,
  zamba,
  zamba2,
];
