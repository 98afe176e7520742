import type { Value } from './values.js';

/** Variables of a block, over those around it. */
export class Scope {
  readonly variables = new Map<string, Value>();
  constructor(readonly outer?: Scope) {}
  find(name: string): Value | undefined {
    for (let scope: Scope | undefined = this; scope; scope = scope.outer) {
      const value = scope.variables.get(name);
      if (value !== undefined) return value;
    }
    return undefined;
  }
}
