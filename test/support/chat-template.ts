import type { Model } from 'statespace';

/** Gives a model of textModelFolder() its chat template, where the package does not read it from the folder. */
export function withTemplate(model: Model): Model {
  const tokenizer = model.tokenizer as { applyChatTemplate?: unknown } & object;
  if (!tokenizer.applyChatTemplate)
    Object.assign(tokenizer, {
      applyChatTemplate: (messages: { role: string; content: string }[], options: { addGenerationPrompt?: boolean }) =>
        messages.map((m) => `<${m.role}> ${m.content} <end> `).join('') +
        (options.addGenerationPrompt ? '<assistant>' : ''),
    });
  return model;
}
