// The text model within a multimodal checkpoint.
import type { StoredTensor } from '../checkpoint/open.js';
import type { Unread } from './bind.js';

/** The name under which a multimodal checkpoint holds a tensor of its text model. */
export function unwrapped(name: string, tensors?: ReadonlyMap<string, StoredTensor>): string {
  const inner = name.replace(/^model\./, '');
  const places = [name, `model.language_model.${inner}`, `language_model.${name}`, `model.llm.${inner}`];
  const names = [...places, `language_model.${inner}`, `llm.${inner}`]; // the last: saved without what holds the head
  return names.find((n) => tensors?.has(n)) ?? name;
}

/** What a multimodal checkpoint holds besides: its towers, and what joins them to the text. */
export const TOWERS: readonly Unread[] = [
  { names: /(^|\.)(visual|vision_\w+|image_\w+|embed_vision)\./, what: 'the vision part' },
  { names: /(^|\.)(audio_\w+|audio|embed_audio|speech_\w+)\./, what: 'the audio part' },
  { names: /(^|\.)(multi_modal_projector|mm_projector|projector|merger)\./, what: 'the projector of other modes' },
];

/** The text model's own name of a tensor that lies in one of those places. */
export const textName = (name: string): string =>
  name.replace(/^language_model\.(?=(model|lm_head)\.)/, '').replace(/^(model\.)?(language_model|llm)\./, 'model.');
