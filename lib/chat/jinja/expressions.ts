// Jinja's expressions (3.1), and the place in the tokens that statements go on from.
import type { CallArguments, Expression } from './ast.js';
import { type Token, unquote } from './lexer.js';
import { Float, integer, NONE, TemplateError, type Value } from './values.js';

const COMPARISONS = new Set(['==', '!=', '<', '<=', '>', '>=']);
const CONSTANTS: Record<string, Value> = {
  true: true,
  True: true,
  false: false,
  False: false,
  none: NONE,
  None: NONE,
};
/** Names that mean something. */
export const RESERVED = new Set([...Object.keys(CONSTANTS), 'and', 'or', 'not', 'in', 'is', 'if', 'else']);
/** Nesting of a template that a person could have written. */
const maxDepth = 200;

export class ExpressionParser {
  protected at = 0;
  private depth = 0;

  constructor(private readonly tokens: Token[]) {}

  protected get token(): Token {
    return this.tokens[this.at]!;
  }
  protected next(): Token {
    return this.tokens[this.at++]!;
  }
  protected is(kind: Token['kind'], text?: string): boolean {
    return this.token.kind === kind && (text === undefined || this.token.text === text);
  }
  protected op = (text: string): boolean => this.is('op', text);
  protected word = (text: string): boolean => this.is('name', text);
  protected skip(kind: Token['kind'], text: string): boolean {
    const found = this.is(kind, text);
    if (found) this.at++;
    return found;
  }
  protected expect(kind: Token['kind'], text?: string): Token {
    if (!this.is(kind, text)) throw this.unexpected(text ?? kind);
    return this.next();
  }
  protected unexpected(wanted?: string): TemplateError {
    const { text, line } = this.token;
    return new TemplateError(
      `line ${line}: ${wanted ? `expected ${wanted}, received` : 'unexpected'} ${JSON.stringify(text)}`,
    );
  }
  protected deeper<T>(work: () => T): T {
    if (++this.depth > maxDepth) throw new TemplateError(`line ${this.token.line}: nested more than ${maxDepth} deep`);
    try {
      return work();
    } finally {
      this.depth--;
    }
  }

  /** One expression, or several with commas between. */
  protected tuple(conditional = true, ends: string[] = []): Expression {
    const items: Expression[] = [];
    let comma = false;
    for (;;) {
      const over = this.is('variable end') || this.is('block end') || this.op(')');
      if (over || (this.is('name') && ends.includes(this.token.text))) break;
      items.push(conditional ? this.expression() : this.or());
      if (!this.op(',')) break;
      comma = true;
      this.at++;
    }
    if (items.length === 0) throw this.unexpected('an expression');
    return comma ? { type: 'tuple', items } : items[0]!;
  }

  protected expression(): Expression {
    return this.deeper(() => {
      let value = this.or();
      while (this.skip('name', 'if')) {
        const test = this.or();
        value = { type: 'if', test, yes: value, no: this.skip('name', 'else') ? this.expression() : undefined };
      }
      return value;
    });
  }

  private or(): Expression {
    let left = this.and();
    while (this.skip('name', 'or')) left = { type: 'or', left, right: this.and() };
    return left;
  }

  private and(): Expression {
    let left = this.not();
    while (this.skip('name', 'and')) left = { type: 'and', left, right: this.not() };
    return left;
  }

  private not(): Expression {
    if (!this.skip('name', 'not')) return this.comparison();
    return { type: 'not', of: this.deeper(() => this.not()) };
  }

  private comparison(): Expression {
    const first = this.sum();
    const rest: { operator: string; with: Expression }[] = [];
    for (;;) {
      let operator: string | undefined;
      if (this.token.kind === 'op' && COMPARISONS.has(this.token.text)) operator = this.next().text;
      else if (this.skip('name', 'in')) operator = 'in';
      else if (
        this.word('not') &&
        this.tokens[this.at + 1]?.text === 'in' &&
        this.tokens[this.at + 1]?.kind === 'name'
      ) {
        this.at += 2;
        operator = 'not in';
      }
      if (!operator) break;
      rest.push({ operator, with: this.sum() });
    }
    return rest.length > 0 ? { type: 'compare', first, rest } : first;
  }

  private sum(): Expression {
    let left = this.concat();
    while (this.op('+') || this.op('-')) {
      const operator = this.next().text;
      left = { type: 'binary', operator, left, right: this.concat() };
    }
    return left;
  }

  private concat(): Expression {
    const parts = [this.term()];
    while (this.skip('op', '~')) parts.push(this.term());
    return parts.length > 1 ? { type: 'concat', parts } : parts[0]!;
  }

  private term(): Expression {
    let left = this.power();
    while (['*', '/', '//', '%'].some(this.op)) {
      const operator = this.next().text;
      left = { type: 'binary', operator, left, right: this.power() };
    }
    return left;
  }

  private power(): Expression {
    let left = this.unary();
    while (this.skip('op', '**')) left = { type: 'binary', operator: '**', left, right: this.unary() };
    return left;
  }

  private unary(filtered = true): Expression {
    return this.deeper(() => {
      let node: Expression;
      if (this.op('-') || this.op('+')) {
        node = { type: 'unary', operator: this.next().text as '-' | '+', of: this.unary(false) };
      } else node = this.primary();
      node = this.postfix(node);
      return filtered ? this.filtersAndTests(node) : node;
    });
  }

  private primary(): Expression {
    const { kind, text, line } = this.next();
    switch (kind) {
      case 'name':
        if (Object.hasOwn(CONSTANTS, text)) return { type: 'const', value: CONSTANTS[text]! };
        return { type: 'name', name: text };
      case 'string': {
        let value = unquote(text);
        while (this.is('string')) value += unquote(this.next().text);
        return { type: 'const', value };
      }
      case 'integer':
        return { type: 'const', value: integer(BigInt(text.replaceAll('_', ''))) };
      case 'float':
        return { type: 'const', value: new Float(Number(text.replaceAll('_', ''))) };
      case 'op':
        if (text === '(') {
          if (this.skip('op', ')')) return { type: 'tuple', items: [] };
          const inner = this.tuple();
          this.expect('op', ')');
          return inner;
        }
        if (text === '[') return { type: 'list', items: this.items(']') };
        if (text === '{') return this.dict();
    }
    throw new TemplateError(`line ${line}: unexpected ${JSON.stringify(text)}`);
  }

  private items(close: string): Expression[] {
    const items: Expression[] = [];
    while (!this.op(close)) {
      if (items.length > 0) this.expect('op', ',');
      if (this.op(close)) break;
      items.push(this.expression());
    }
    this.expect('op', close);
    return items;
  }

  private dict(): Expression {
    const entries: [Expression, Expression][] = [];
    while (!this.op('}')) {
      if (entries.length > 0) this.expect('op', ',');
      if (this.op('}')) break;
      const key = this.expression();
      this.expect('op', ':');
      entries.push([key, this.expression()]);
    }
    this.expect('op', '}');
    return { type: 'dict', entries };
  }

  private postfix(node: Expression): Expression {
    for (let of = node; ; ) {
      if (this.skip('op', '.')) {
        const { kind, text } = this.next();
        if (kind === 'name') of = { type: 'attribute', of, name: text };
        else if (kind === 'integer') of = { type: 'item', of, key: { type: 'const', value: Number(text) } };
        else throw new TemplateError(`line ${this.token.line}: expected a name after '.'`);
      } else if (this.skip('op', '[')) of = { type: 'item', of, key: this.subscripts() };
      else if (this.op('(')) of = { type: 'call', of, args: this.arguments() };
      else return of;
    }
  }

  private subscripts(): Expression {
    const keys = [this.subscript()];
    while (this.skip('op', ',')) keys.push(this.subscript());
    this.expect('op', ']');
    return keys.length > 1 ? { type: 'tuple', items: keys } : keys[0]!;
  }

  private subscript(): Expression {
    const parts: (Expression | undefined)[] = [undefined];
    while (!this.op(']') && !this.op(',')) {
      if (this.skip('op', ':')) parts.push(undefined);
      else parts[parts.length - 1] = this.expression();
    }
    const [start, stop, step] = parts;
    if (parts.length > 3 || (parts.length === 1 && !start)) throw this.unexpected('a subscript');
    return parts.length === 1 ? start! : { type: 'slice', start, stop, step };
  }

  private arguments(): CallArguments {
    const args: CallArguments = { positional: [], named: [] };
    this.expect('op', '(');
    for (let first = true; !this.op(')'); first = false) {
      if (!first) this.expect('op', ',');
      if (this.op(')')) break;
      if (this.skip('op', '**')) args.spreadNamed = this.expression();
      else if (this.skip('op', '*')) args.spread = this.expression();
      else if (this.is('name') && this.tokens[this.at + 1]?.text === '=' && this.tokens[this.at + 1]?.kind === 'op') {
        const name = this.next().text;
        this.at++;
        args.named.push([name, this.expression()]);
      } else {
        if (args.named.length > 0 || args.spreadNamed) throw this.unexpected('a named argument');
        args.positional.push(this.expression());
      }
    }
    this.expect('op', ')');
    return args;
  }

  private filtersAndTests(node: Expression): Expression {
    for (let of = node; ; ) {
      if (this.op('|')) of = this.filters(of)!;
      else if (this.skip('name', 'is')) of = this.test(of);
      else if (this.op('(')) of = { type: 'call', of, args: this.arguments() };
      else return of;
    }
  }

  /** Filters one behind the other; without `of`, over a block's text. */
  protected filters(of: Expression | undefined, first = false): Expression | undefined {
    let node = of;
    for (let inline = first; inline || this.skip('op', '|'); inline = false) {
      const name = this.dotted();
      const args = this.op('(') ? this.arguments() : { positional: [], named: [] };
      node = { type: 'filter', name, of: node, args };
    }
    return node;
  }

  private test(of: Expression): Expression {
    const negated = this.skip('name', 'not');
    const name = this.dotted();
    let args: CallArguments = { positional: [], named: [] };
    const { kind, text } = this.token;
    const operand = ['name', 'string', 'integer', 'float'].includes(kind) || (kind === 'op' && '([{'.includes(text));
    if (this.op('(')) args = this.arguments();
    else if (operand && !(kind === 'name' && ['else', 'or', 'and', 'if'].includes(text))) {
      if (this.word('is')) throw new TemplateError(`line ${this.token.line}: tests cannot be chained with 'is'`);
      if (!this.word('in') && !this.word('not')) args = { positional: [this.postfix(this.primary())], named: [] };
    }
    const node: Expression = { type: 'test', name, of, args };
    return negated ? { type: 'not', of: node } : node;
  }

  private dotted(): string {
    let name = this.expect('name').text;
    while (this.skip('op', '.')) name += `.${this.expect('name').text}`;
    return name;
  }
}
