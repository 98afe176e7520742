// Jinja's statements (3.1), without what needs other templates (extends, include, import).
import type { Expression, Parameters, Statement, Target } from './ast.js';
import { ExpressionParser, RESERVED } from './expressions.js';
import { tokenize } from './lexer.js';
import { TemplateError } from './values.js';

const ELSEWHERE = new Set(['extends', 'include', 'import', 'from']);

export function parse(source: string): Statement[] {
  return new Parser(tokenize(source)).template();
}

class Parser extends ExpressionParser {
  private loops = 0;

  template(): Statement[] {
    const body = this.statements([]);
    if (this.token.kind !== 'end') throw this.unexpected();
    return body;
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
}
