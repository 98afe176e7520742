import type { Value } from './values.js';

export type Expression =
  | { type: 'const'; value: Value }
  | { type: 'name'; name: string }
  | { type: 'list' | 'tuple'; items: Expression[] }
  | { type: 'dict'; entries: [Expression, Expression][] }
  | { type: 'and' | 'or'; left: Expression; right: Expression }
  | { type: 'not'; of: Expression }
  | { type: 'unary'; operator: '-' | '+'; of: Expression }
  | { type: 'binary'; operator: string; left: Expression; right: Expression }
  | { type: 'concat'; parts: Expression[] }
  | { type: 'compare'; first: Expression; rest: { operator: string; with: Expression }[] }
  | { type: 'if'; test: Expression; yes: Expression; no?: Expression }
  | { type: 'attribute'; of: Expression; name: string }
  | { type: 'item'; of: Expression; key: Expression }
  | { type: 'slice'; start?: Expression; stop?: Expression; step?: Expression }
  | { type: 'call'; of: Expression; args: CallArguments }
  | { type: 'filter'; name: string; of?: Expression; args: CallArguments }
  | { type: 'test'; name: string; of: Expression; args: CallArguments };

export interface CallArguments {
  positional: Expression[];
  named: [string, Expression][];
  /** *args and **kwargs. */
  spread?: Expression;
  spreadNamed?: Expression;
}

/** What an assignment names: a variable, several, or an attribute of a namespace. */
export type Target =
  | { type: 'name'; name: string }
  | { type: 'attribute'; of: string; name: string }
  | { type: 'tuple'; items: Target[] };

export interface Parameters {
  names: string[];
  /** Of the last of them. */
  defaults: Expression[];
}

export type Statement = { line: number } & (
  | { type: 'text'; text: string }
  | { type: 'output'; of: Expression }
  | { type: 'if'; branches: { test: Expression; body: Statement[] }[]; otherwise: Statement[] }
  | {
      type: 'for';
      target: Target;
      over: Expression;
      test?: Expression;
      recursive: boolean;
      body: Statement[];
      otherwise: Statement[];
    }
  | { type: 'set'; target: Target; value: Expression }
  | { type: 'set block'; target: Target; filter?: Expression; body: Statement[] }
  | { type: 'macro'; name: string; parameters: Parameters; body: Statement[] }
  | { type: 'call block'; call: Expression; parameters: Parameters; body: Statement[] }
  | { type: 'filter block'; filter: Expression; body: Statement[] }
  | { type: 'with'; bindings: [Target, Expression][]; body: Statement[] }
  | { type: 'scope'; body: Statement[] }
  | { type: 'break' | 'continue' }
);
