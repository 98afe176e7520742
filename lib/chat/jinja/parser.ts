// Jinja's grammar (3.1): statements and expressions, without what needs other templates (extends, include, import).
import type { CallArguments, Expression, Parameters, Statement, Target } from './ast.js';
import { type Token, tokenize, unquote } from './lexer.js';
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
const RESERVED = new Set([...Object.keys(CONSTANTS), 'and', 'or', 'not', 'in', 'is', 'if', 'else']);
const ELSEWHERE = new Set(['extends', 'include', 'import', 'from']);
/** Nesting of a template that a person could have written. */
const maxDepth = 200;

export function parse(source: string): Statement[] {
  return new Parser(tokenize(source)).template();
}

class Parser {
  private at = 0;
  private depth = 0;
  private loops = 0;

  constructor(private readonly tokens: Token[]) {}

  template(): Statement[] {
    const body = this.statements([]);
    if (this.token.kind !== 'end') throw this.unexpected();
    return body;
  }

  private get token(): Token {
    return this.tokens[this.at]!;
  }
  private next(): Token {
    return this.tokens[this.at++]!;
  }
  private is(kind: Token['kind'], text?: string): boolean {
    return this.token.kind === kind && (text === undefined || this.token.text === text);
  }
  private op = (text: string): boolean => this.is('op', text);
  private word = (text: string): boolean => this.is('name', text);
  private skip(kind: Token['kind'], text: string): boolean {
    const found = this.is(kind, text);
    if (found) this.at++;
    return found;
  }
  private expect(kind: Token['kind'], text?: string): Token {
    if (!this.is(kind, text)) throw this.unexpected(text ?? kind);
    return this.next();
  }
  private unexpected(wanted?: string): TemplateError {
    const { text, line } = this.token;
    return new TemplateError(
      `line ${line}: ${wanted ? `expected ${wanted}, received` : 'unexpected'} ${JSON.stringify(text)}`,
    );
  }
  private deeper<T>(work: () => T): T {
    if (++this.depth > maxDepth) throw new TemplateError(`line ${this.token.line}: nested more than ${maxDepth} deep`);
    try {
      return work();
    } finally {
      this.depth--;
    }
  }

  /** Up to a block that begins with one of `ends`, which is left in place. */
  private statements(ends: string[]): Statement[] {
    return this.deeper(() => {
      const body: Statement[] = [];
      for (;;) {
        const { kind, text, line } = this.token;
        if (kind === 'end') {
          if (ends.length > 0) throw this.unexpected(`{% ${ends.join(' or ')} %}`);
          return body;
        }
        this.at++;
        if (kind === 'data') body.push({ type: 'text', text, line });
        else if (kind === 'variable') {
          body.push({ type: 'output', of: this.tuple(), line });
          this.expect('variable end');
        } else if (kind === 'block') {
          if (this.token.kind === 'name' && ends.includes(this.token.text)) {
            this.at--;
            return body;
          }
          const statement = this.statement(line);
          if (statement) body.push(statement);
          this.expect('block end');
        } else throw this.unexpected();
      }
    });
  }

  /** The body of a block, its end tag but for the closing mark included. */
  private body(end: string): Statement[] {
    this.expect('block end');
    const body = this.statements([end]);
    this.expect('block');
    this.expect('name', end);
    return body;
  }

  private statement(line: number): Statement | undefined {
    const { text: tag } = this.expect('name');
    switch (tag) {
      case 'if':
        return { ...this.ifStatement(), line };
      case 'for':
        return { ...this.forStatement(), line };
      case 'set':
        return this.setStatement(line);
      case 'macro': {
        const { text: name } = this.expect('name');
        const parameters = this.parameters();
        return { type: 'macro', name, parameters, body: this.outsideLoops(() => this.body('endmacro')), line };
      }
      case 'call': {
        const parameters = this.op('(') ? this.parameters() : { names: [], defaults: [] };
        const call = this.expression();
        if (call.type !== 'call') throw this.unexpected('a call');
        return { type: 'call block', call, parameters, body: this.outsideLoops(() => this.body('endcall')), line };
      }
      case 'filter': {
        const filter = this.filters(undefined, true)!;
        return { type: 'filter block', filter, body: this.body('endfilter'), line };
      }
      case 'with':
        return { ...this.withStatement(), line };
      case 'generation': // marks what the assistant says: transformers trains on it, nothing is printed
        return { type: 'scope', body: this.body('endgeneration'), line };
      case 'block':
        this.expect('name');
        this.skip('name', 'scoped');
        return { type: 'scope', body: this.blockBody(), line };
      case 'print':
        return { type: 'output', of: this.tuple(), line };
      case 'break':
      case 'continue':
        if (this.loops === 0) throw new TemplateError(`line ${line}: ${tag} outside of a loop`);
        return { type: tag, line };
      default:
        throw new TemplateError(
          `line ${line}: ${ELSEWHERE.has(tag) ? `{% ${tag} %} needs another template, and there is none` : `unknown tag '${tag}'`}`,
        );
    }
  }

  private blockBody(): Statement[] {
    const body = this.body('endblock');
    if (this.is('name')) this.at++;
    return body;
  }

  private outsideLoops<T>(work: () => T): T {
    const loops = this.loops;
    this.loops = 0;
    const result = work();
    this.loops = loops;
    return result;
  }

  private ifStatement(): Omit<Extract<Statement, { type: 'if' }>, 'line'> {
    const branches: { test: Expression; body: Statement[] }[] = [];
    let otherwise: Statement[] = [];
    for (;;) {
      const test = this.tuple(false);
      this.expect('block end');
      branches.push({ test, body: this.statements(['elif', 'else', 'endif']) });
      this.expect('block');
      const { text } = this.next();
      if (text === 'elif') continue;
      if (text === 'else') otherwise = this.body('endif');
      return { type: 'if', branches, otherwise };
    }
  }

  private forStatement(): Omit<Extract<Statement, { type: 'for' }>, 'line'> {
    const target = this.target();
    this.expect('name', 'in');
    const over = this.tuple(false, ['recursive']);
    const test = this.skip('name', 'if') ? this.expression() : undefined;
    const recursive = this.skip('name', 'recursive');
    this.expect('block end');
    this.loops++;
    const body = this.statements(['endfor', 'else']);
    this.loops--;
    this.expect('block');
    const otherwise = this.next().text === 'else' ? this.body('endfor') : [];
    return { type: 'for', target, over, test, recursive, body, otherwise };
  }

  private setStatement(line: number): Statement {
    const target = this.target();
    if (this.skip('op', '=')) return { type: 'set', target, value: this.tuple(), line };
    const filter = this.filters(undefined);
    return { type: 'set block', target, filter, body: this.body('endset'), line };
  }

  private withStatement(): Omit<Extract<Statement, { type: 'with' }>, 'line'> {
    const bindings: [Target, Expression][] = [];
    while (!this.is('block end')) {
      if (bindings.length > 0) this.expect('op', ',');
      const target = this.target();
      this.expect('op', '=');
      bindings.push([target, this.expression()]);
    }
    return { type: 'with', bindings, body: this.body('endwith') };
  }

  private target(): Target {
    const items: Target[] = [];
    let tuple = false;
    do {
      if (items.length > 0 && !(this.is('name') || this.op('('))) break;
      if (this.skip('op', '(')) {
        items.push(this.target());
        this.expect('op', ')');
        continue;
      }
      const name = this.expect('name').text;
      if (RESERVED.has(name)) throw new TemplateError(`line ${this.token.line}: cannot assign to '${name}'`);
      items.push(
        this.skip('op', '.') ? { type: 'attribute', of: name, name: this.expect('name').text } : { type: 'name', name },
      );
      if (this.word('in')) break;
      tuple ||= this.op(',');
    } while (this.skip('op', ','));
    return tuple || items.length > 1 ? { type: 'tuple', items } : items[0]!;
  }

  private parameters(): Parameters {
    const names: string[] = [];
    const defaults: Expression[] = [];
    this.expect('op', '(');
    while (!this.op(')')) {
      if (names.length > 0) this.expect('op', ',');
      if (this.op(')')) break;
      names.push(this.expect('name').text);
      if (this.skip('op', '=')) defaults.push(this.expression());
      else if (defaults.length > 0) throw this.unexpected('a default, as the parameter before has one');
    }
    this.expect('op', ')');
    return { names, defaults };
  }

  /** One expression, or several with commas between. */
  private tuple(conditional = true, ends: string[] = []): Expression {
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

  private expression(): Expression {
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
  private filters(of: Expression | undefined, first = false): Expression | undefined {
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
