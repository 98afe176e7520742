// Runs a parsed template over Python's values.

import { Bound, type Runtime } from './arguments.js';
import type { CallArguments, Expression, Parameters, Statement, Target } from './ast.js';
import { FILTERS } from './filters.js';
import { attribute, item, member } from './members.js';
import { binary, comparison, concat, slice, unary } from './operators.js';
import { Scope } from './scope.js';
import { TESTS } from './tests.js';
import { str } from './text.js';
import {
  type Arguments,
  Callable,
  Dict,
  equal,
  Float,
  iterate,
  Markup,
  Namespace,
  NONE,
  TemplateError,
  Tuple,
  truthy,
  typeName,
  Undefined,
  type Value,
} from './values.js';

/** A template is short; one that runs on and on is broken. */
const maxSteps = 5_000_000;
const maxOutput = 50_000_000;
const maxCalls = 200;

class Break {}
class Continue {}

/** Renders; `globals` are functions and variables by name. Throws TemplateError. */
export function run(body: readonly Statement[], globals: ReadonlyMap<string, Value>): string {
  const scope = new Scope();
  for (const [name, value] of globals) scope.variables.set(name, value);
  return new Interpreter().render(body, new Scope(scope));
}

class Interpreter implements Runtime {
  private steps = 0;
  private written = 0;
  private calls = 0;

  render(body: readonly Statement[], scope: Scope): string {
    const out: string[] = [];
    this.run(body, scope, out);
    return out.join('');
  }

  private write(out: string[], text: string): void {
    this.written += text.length;
    if (this.written > maxOutput) throw new TemplateError(`an output of more than ${maxOutput} characters`);
    out.push(text);
  }

  private step(): void {
    if (++this.steps > maxSteps) throw new TemplateError(`more than ${maxSteps} steps`);
  }

  private run(body: readonly Statement[], scope: Scope, out: string[]): void {
    for (const statement of body) {
      this.step();
      try {
        this.execute(statement, scope, out);
      } catch (error) {
        throw located(error, statement.line);
      }
    }
  }

  private execute(s: Statement, scope: Scope, out: string[]): void {
    switch (s.type) {
      case 'text':
        this.write(out, s.text);
        return;
      case 'output':
        this.write(out, str(this.evaluate(s.of, scope)));
        return;
      case 'if': {
        const branch = s.branches.find(({ test }) => truthy(this.evaluate(test, scope)));
        this.run(branch?.body ?? s.otherwise, scope, out);
        return;
      }
      case 'for':
        this.loop(s, scope, out, this.evaluate(s.over, scope), 0);
        return;
      case 'set':
        this.assign(s.target, this.evaluate(s.value, scope), scope);
        return;
      case 'set block': {
        const text = this.render(s.body, new Scope(scope));
        this.assign(s.target, s.filter ? this.filtered(s.filter, text, scope) : text, scope);
        return;
      }
      case 'macro':
        scope.variables.set(s.name, this.macro(s.name, s.parameters, s.body, scope));
        return;
      case 'call block': {
        const { of, args } = s.call as Extract<Expression, { type: 'call' }>;
        const caller = this.macro('caller', s.parameters, s.body, scope);
        const given = this.arguments(args, scope);
        given.named.set('caller', caller);
        this.write(out, str(this.call(this.evaluate(of, scope), given)));
        return;
      }
      case 'filter block':
        this.write(out, str(this.filtered(s.filter, this.render(s.body, new Scope(scope)), scope)));
        return;
      case 'with': {
        const inner = new Scope(scope);
        for (const [target, value] of s.bindings) this.assign(target, this.evaluate(value, scope), inner);
        this.run(s.body, inner, out);
        return;
      }
      case 'scope':
        this.run(s.body, new Scope(scope), out);
        return;
      case 'break':
        throw new Break();
      case 'continue':
        throw new Continue();
    }
  }

  private loop(s: Extract<Statement, { type: 'for' }>, scope: Scope, out: string[], over: Value, depth: number): void {
    const all: Value[] = [];
    for (const item of iterate(over)) {
      this.step();
      if (s.test) {
        const trial = new Scope(scope);
        this.assign(s.target, item, trial);
        if (!truthy(this.evaluate(s.test, trial))) continue;
      }
      all.push(item);
    }
    if (all.length === 0) this.run(s.otherwise, new Scope(scope), out);
    const at = { index: 0 };
    const loop = this.loopVariable(s, scope, all, at, depth);
    for (; at.index < all.length; at.index++) {
      const inner = new Scope(scope);
      this.assign(s.target, all[at.index]!, inner);
      inner.variables.set('loop', loop);
      try {
        this.run(s.body, inner, out);
      } catch (jump) {
        if (jump instanceof Break) return;
        if (!(jump instanceof Continue)) throw jump;
      }
    }
  }

  private loopVariable(
    s: Extract<Statement, { type: 'for' }>,
    scope: Scope,
    all: readonly Value[],
    at: { index: number },
    depth: number,
  ): Callable {
    let shown: Value | undefined;
    const neighbour = (i: number, what: string): Value => all[i] ?? new Undefined(`there is no ${what} item`);
    const attributes: Record<string, () => Value> = {
      index: () => at.index + 1,
      index0: () => at.index,
      revindex: () => all.length - at.index,
      revindex0: () => all.length - at.index - 1,
      first: () => at.index === 0,
      last: () => at.index === all.length - 1,
      length: () => all.length,
      depth: () => depth + 1,
      depth0: () => depth,
      previtem: () => neighbour(at.index - 1, 'previous'),
      nextitem: () => neighbour(at.index + 1, 'next'),
      cycle: () =>
        new Callable('cycle', ({ positional }) => {
          if (positional.length === 0) throw new TemplateError('no items for cycling given');
          return positional[at.index % positional.length]!;
        }),
      changed: () =>
        new Callable('changed', ({ positional }) => {
          const changed = shown === undefined || !equal(shown, positional);
          shown = positional;
          return changed;
        }),
    };
    const again = ({ positional }: Arguments): Value => {
      if (!s.recursive) throw new TemplateError("the loop must have the 'recursive' marker to be called");
      const out: string[] = [];
      this.deeper(() => this.loop(s, scope, out, positional[0] ?? new Undefined('loop: no argument'), depth + 1));
      return out.join('');
    };
    return new Callable('loop', again, (name) => (Object.hasOwn(attributes, name) ? attributes[name]!() : undefined));
  }

  private deeper<T>(work: () => T): T {
    if (++this.calls > maxCalls) throw new TemplateError(`calls nested more than ${maxCalls} deep`);
    try {
      return work();
    } finally {
      this.calls--;
    }
  }

  private assign(target: Target, value: Value, scope: Scope): void {
    if (target.type === 'name') scope.variables.set(target.name, value);
    else if (target.type === 'attribute') {
      const owner = scope.find(target.of);
      if (!(owner instanceof Namespace)) throw new TemplateError('cannot assign attribute on non-namespace object');
      owner.attributes.set(target.name, value);
    } else {
      const parts = [...iterate(value)];
      if (parts.length !== target.items.length) {
        const [few, n] = [parts.length < target.items.length, target.items.length];
        throw new TemplateError(
          few
            ? `not enough values to unpack (expected ${n}, got ${parts.length})`
            : `too many values to unpack (expected ${n})`,
        );
      }
      target.items.forEach((t, i) => {
        this.assign(t, parts[i]!, scope);
      });
    }
  }

  private macro(name: string, { names, defaults }: Parameters, body: Statement[], scope: Scope): Callable {
    const call = ({ positional, named }: Arguments): Value =>
      this.deeper(() => {
        const inner = new Scope(scope);
        const left = new Map(named);
        names.forEach((parameter, i) => {
          if (positional[i] !== undefined && left.has(parameter))
            throw new TemplateError(`macro '${name}' got multiple values for argument '${parameter}'`);
          const given = positional[i] ?? left.get(parameter);
          left.delete(parameter);
          const fallback = defaults[i - (names.length - defaults.length)];
          const value = given ?? (fallback ? this.evaluate(fallback, inner) : undefined);
          inner.variables.set(parameter, value ?? new Undefined(`parameter '${parameter}' was not provided`));
        });
        const caller = left.get('caller');
        left.delete('caller');
        if (caller) inner.variables.set('caller', caller);
        const uses = (word: string) => mentions(body, word);
        const extra = positional.slice(names.length);
        if (extra.length > 0 && !uses('varargs'))
          throw new TemplateError(`macro '${name}' takes not more than ${names.length} argument(s)`);
        if (left.size > 0 && !uses('kwargs'))
          throw new TemplateError(`macro '${name}' takes no keyword argument '${[...left.keys()][0]}'`);
        inner.variables.set('varargs', new Tuple(extra));
        inner.variables.set('kwargs', Dict.from(left));
        return this.render(body, inner);
      });
    const attributes = new Map<string, Value>([
      ['name', name],
      ['arguments', new Tuple(names)],
      ['caller', mentions(body, 'caller')],
      ['catch_varargs', mentions(body, 'varargs')],
      ['catch_kwargs', mentions(body, 'kwargs')],
    ]);
    return new Callable(`Macro ${name}`, call, attributes);
  }

  private evaluate(e: Expression, scope: Scope): Value {
    this.step();
    switch (e.type) {
      case 'const':
        return e.value;
      case 'name':
        return scope.find(e.name) ?? new Undefined(`'${e.name}' is undefined`);
      case 'list':
        return e.items.map((item) => this.evaluate(item, scope));
      case 'tuple':
        return new Tuple(e.items.map((item) => this.evaluate(item, scope)));
      case 'dict':
        return Dict.from(e.entries.map(([k, v]) => [this.evaluate(k, scope), this.evaluate(v, scope)] as const));
      case 'and': {
        const left = this.evaluate(e.left, scope);
        return truthy(left) ? this.evaluate(e.right, scope) : left;
      }
      case 'or': {
        const left = this.evaluate(e.left, scope);
        return truthy(left) ? left : this.evaluate(e.right, scope);
      }
      case 'not':
        return !truthy(this.evaluate(e.of, scope));
      case 'unary':
        return unary(e.operator, this.evaluate(e.of, scope));
      case 'binary':
        return binary(e.operator, this.evaluate(e.left, scope), this.evaluate(e.right, scope));
      case 'concat':
        return concat(e.parts.map((p) => this.evaluate(p, scope)));
      case 'compare':
        return this.comparisons(e, scope);
      case 'if':
        if (truthy(this.evaluate(e.test, scope))) return this.evaluate(e.yes, scope);
        return e.no
          ? this.evaluate(e.no, scope)
          : new Undefined('the inline if-expression evaluated to false and no else section was defined.');
      case 'attribute':
        return member(this.evaluate(e.of, scope), e.name);
      case 'item': {
        const of = this.evaluate(e.of, scope);
        if (e.key.type !== 'slice') return item(of, this.evaluate(e.key, scope));
        const part = (x?: Expression) => (x ? this.evaluate(x, scope) : NONE);
        return slice(of, { start: part(e.key.start), stop: part(e.key.stop), step: part(e.key.step) });
      }
      case 'call':
        return this.call(this.evaluate(e.of, scope), this.arguments(e.args, scope));
      case 'filter':
        return this.filter(e.name, this.evaluate(e.of!, scope), this.arguments(e.args, scope));
      case 'test':
        return this.test(e.name, this.evaluate(e.of, scope), this.arguments(e.args, scope));
      case 'slice':
        throw new TemplateError('a slice stands alone');
    }
  }

  private comparisons(e: Extract<Expression, { type: 'compare' }>, scope: Scope): boolean {
    let left = this.evaluate(e.first, scope);
    for (const { operator, with: expression } of e.rest) {
      const right = this.evaluate(expression, scope);
      if (!comparison(operator, left, right)) return false;
      left = right;
    }
    return true;
  }

  /** A block's text through the filters of its tag. */
  private filtered(e: Expression, text: string, scope: Scope): Value {
    if (e.type !== 'filter') throw new TemplateError('expected a filter');
    const value = e.of ? this.filtered(e.of, text, scope) : text;
    return this.filter(e.name, value, this.arguments(e.args, scope));
  }

  private arguments(args: CallArguments, scope: Scope): Arguments {
    const positional = args.positional.map((a) => this.evaluate(a, scope));
    if (args.spread) positional.push(...iterate(this.evaluate(args.spread, scope)));
    const named = new Map(args.named.map(([name, a]) => [name, this.evaluate(a, scope)]));
    if (args.spreadNamed) {
      const more = this.evaluate(args.spreadNamed, scope);
      if (!(more instanceof Dict)) throw new TemplateError('argument after ** must be a mapping');
      for (const [key, value] of more.entries()) named.set(str(key), value);
    }
    return { positional, named };
  }

  private call(callee: Value, args: Arguments): Value {
    if (callee instanceof Undefined) callee.fail();
    if (!(callee instanceof Callable)) throw new TemplateError(`'${typeName(callee)}' object is not callable`);
    return callee.call(args);
  }

  filter(name: string, value: Value, args: Arguments): Value {
    const filter = Object.hasOwn(FILTERS, name) ? FILTERS[name] : undefined;
    if (!filter) throw new TemplateError(`No filter named '${name}'.`);
    return filter(value, new Bound(name, args), this);
  }

  test(name: string, value: Value, args: Arguments): boolean {
    const test = Object.hasOwn(TESTS, name) ? TESTS[name] : undefined;
    if (!test) throw new TemplateError(`No test named '${name}'.`);
    return test(value, new Bound(name, args), this);
  }

  attribute(value: Value, name: string): Value {
    return attribute(value, name);
  }

  item(value: Value, key: Value): Value {
    return item(value, key);
  }
}

/** Whether a macro's body reads a variable: varargs, kwargs and caller are accepted only then. */
function mentions(node: unknown, word: string): boolean {
  if (Array.isArray(node)) return node.some((n) => mentions(n, word));
  if (typeof node !== 'object' || node === null || node instanceof Float || node instanceof Markup) return false;
  const { type, name } = node as { type?: string; name?: string };
  return (type === 'name' && name === word) || Object.values(node).some((n) => mentions(n, word));
}

/** An error with the line of the innermost statement. */
function located(error: unknown, line: number): unknown {
  if (error instanceof RangeError) {
    const what = /string length/i.test(error.message) ? 'a text that is too long' : 'nested too deeply';
    return new TemplateError(`line ${line}: ${what}`);
  }
  if (!(error instanceof TemplateError) || /^chat template: line \d+: /.test(error.message)) return error;
  return new TemplateError(`line ${line}: ${error.message.replace(/^chat template: /, '')}`);
}
