// Marks around a text, as the post-processors of a tokenizer.json put them.
import { type Part, partsOf, unknownPart } from './part.js';

export type PostProcess = (ids: readonly number[]) => number[];

interface Template {
  readonly SpecialToken?: { id: string };
  readonly Sequence?: { id: string };
}

export function postProcessor(part: Part | null | undefined): PostProcess {
  if (!part) return (ids) => [...ids];
  switch (part.type) {
    case 'Sequence': {
      const all = partsOf(part.processors).map(postProcessor);
      return (ids) => all.reduce<number[]>((found, process) => process(found), [...ids]);
    }
    case 'TemplateProcessing': {
      const special = (part.special_tokens ?? {}) as Record<string, { ids: number[] }>;
      const marks = (part.single as Template[]).map(({ SpecialToken: token, Sequence: sequence }) => {
        if (sequence?.id === 'A') return undefined;
        const found = token && Object.hasOwn(special, token.id) ? special[token.id] : undefined;
        if (!found) throw new Error(`post_processor: no special token ${JSON.stringify(token?.id ?? sequence?.id)}`);
        return found.ids;
      });
      return (ids) => marks.flatMap((mark) => mark ?? ids);
    }
    case 'BertProcessing':
    case 'RobertaProcessing': {
      const [cls, sep] = [part.cls, part.sep] as [[string, number], [string, number]];
      return (ids) => [cls[1], ...ids, sep[1]];
    }
    case 'ByteLevel':
      return (ids) => [...ids];
    default:
      throw unknownPart('post-processor', part.type);
  }
}
