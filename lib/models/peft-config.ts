// What peft's adapter_config.json says of adapters: what they are multiplied by, and whether they are plain additions at all.
import { join } from 'node:path';
import { runInNewContext } from 'node:vm';
import { parseConfig } from '../checkpoint/config.js';
import { asCheckpointError, readText } from '../checkpoint/files.js';
import { StatespaceError, show } from '../errors.js';

/** @public */
export interface PeftConfig {
  /** Of these modules: rows of A, and by what B·A is multiplied: alpha / rank, or alpha / √rank of rank-stabilised ones. */
  ranksOf(modules: readonly string[]): Map<string, { rank: number; scale: number }>;
  /** Ends of the names of modules that are saved whole (`modules_to_save`). */
  readonly whole: readonly string[];
  refuse(what: string): StatespaceError;
}

const MAX_CONFIG = 1 << 20;
/** Keys whose adapters are another function than x·Wᵀ + scale · (x·Aᵀ)·Bᵀ, or lie at something else than a module. */
const OTHER_KINDS = [
  'use_dora',
  'fan_in_fan_out',
  'lora_bias',
  'trainable_token_indices',
  'alora_invocation_tokens',
  'use_qalora',
  'use_bdlora',
  'layer_replication',
  'arrow_config',
  'kasa_config',
  'monteclora_config',
  'velora_config',
];
/** First values that are taken out of the base's weights: the adapter belongs to what is left of them. */
const CHANGES_BASE = /^(pissa|olora|corda|loftq|lora_ga)/i;
const PATTERN_MS = 100;

/** @throws StatespaceError ERR_CHECKPOINT for anything but plain LoRA. @public */
export async function readPeftConfig(folder: string): Promise<PeftConfig> {
  const file = join(folder, 'adapter_config.json');
  const text = await readText(file, MAX_CONFIG).catch((e) => Promise.reject(asCheckpointError(file, e)));
  const config = parseConfig(text, file);
  const refuse = (what: string) => new StatespaceError('ERR_CHECKPOINT', `${file}: ${what}`);
  if (config.peft_type !== 'LORA') throw refuse(`peft_type: expected LORA, received ${show(config.peft_type)}`);
  for (const key of OTHER_KINDS) if (isSet(config[key])) throw refuse(`${key}: is not supported`);
  const first = config.init_lora_weights;
  if (typeof first === 'string' && CHANGES_BASE.test(first))
    throw refuse(
      `init_lora_weights: ${show(first)} has changed the model that this adds to; save it converted ` +
        "(peft's path_initial_model_for_weight_conversion)",
    );
  const { r: rank, lora_alpha: alpha } = config;
  if (!isRank(rank) || typeof alpha !== 'number' || !Number.isFinite(alpha))
    throw refuse(`expected r and lora_alpha, received ${show(rank)} and ${show(alpha)}`);
  const numbers = (key: string): Map<string, number> => {
    const given = config[key] ?? {};
    const entries = typeof given === 'object' && !Array.isArray(given) ? Object.entries(given as object) : undefined;
    if (!entries?.every(([, n]) => (key === 'alpha_pattern' ? Number.isFinite(n) : isRank(n))))
      throw refuse(`${key}: expected numbers by names of modules, received ${show(given)}`);
    return new Map(entries as [string, number][]);
  };
  const [ranks, alphas] = [numbers('rank_pattern'), numbers('alpha_pattern')];
  const whole = config.modules_to_save ?? [];
  if (!Array.isArray(whole) || !whole.every((name) => typeof name === 'string'))
    throw refuse(`modules_to_save: expected names of modules, received ${show(whole)}`);
  const root = config.use_rslora === true ? Math.sqrt : (r: number) => r;
  return {
    refuse,
    whole,
    ranksOf(modules) {
      const byRank = matches([...ranks.keys()], modules, refuse);
      const byAlpha = matches([...alphas.keys()], modules, refuse);
      return new Map(
        modules.map((module, i) => {
          const own = ranks.get(byRank[i]!) ?? rank;
          return [module, { rank: own, scale: (alphas.get(byAlpha[i]!) ?? alpha) / root(own) }];
        }),
      );
    },
  };
}

const isRank = (n: unknown): n is number => Number.isSafeInteger(n) && (n as number) > 0;

/** Of each module the first pattern that it ends with, as peft finds it; '' where there is none. A pattern may take no time without end. */
function matches(patterns: readonly string[], modules: readonly string[], refuse: (what: string) => Error): string[] {
  if (patterns.length === 0) return modules.map(() => '');
  const find = 'names.map((n) => patterns.find((p) => new RegExp("^(.*\\\\.)?(" + p + ")$").test(n)) ?? "")';
  for (let spent = 0, timeout = PATTERN_MS; ; timeout *= 2) {
    const before = process.cpuUsage();
    try {
      return [...(runInNewContext(find, { patterns, names: modules }, { timeout }) as string[])];
    } catch (error) {
      const { user, system } = process.cpuUsage(before);
      spent += (user + system) / 1000;
      // The time limit goes on where this process is halted: that is no fault of the patterns.
      const halted = (error as { code?: string }).code === 'ERR_SCRIPT_EXECUTION_TIMEOUT' && spent < PATTERN_MS;
      if (!halted) throw refuse(`rank_pattern, alpha_pattern: ${(error as Error).message}`);
    }
  }
}

const isSet = (v: unknown): boolean =>
  v !== undefined && v !== null && v !== false && !(typeof v === 'object' && Object.keys(v).length === 0);
