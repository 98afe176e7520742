// What a filter or a test is given.
import { str } from './text.js';
import { type Arguments, isInt, TemplateError, truthy, typeName, type Value } from './values.js';

/** What filters need of the interpreter. */
export interface Runtime {
  filter(name: string, value: Value, args: Arguments): Value;
  test(name: string, value: Value, args: Arguments): boolean;
  /** x.name or x[name], as a template reads it. */
  item(value: Value, key: Value): Value;
  /** x.name, items left aside. */
  attribute(value: Value, name: string): Value;
}

export type Filter = (value: Value, args: Bound, runtime: Runtime) => Value;

/** Arguments by position or name. */
export class Bound {
  constructor(
    private readonly filter: string,
    readonly all: Arguments,
  ) {}
  get(index: number, name: string): Value | undefined {
    return this.all.positional[index] ?? this.all.named.get(name);
  }
  need(index: number, name: string): Value {
    const value = this.get(index, name);
    if (value === undefined) throw new TemplateError(`${this.filter}: the argument ${name} is missing`);
    return value;
  }
  text(index: number, name: string, fallback: string): string {
    const value = this.get(index, name);
    if (value === undefined) return fallback;
    return str(value);
  }
  int(index: number, name: string, fallback: number): number {
    const value = this.get(index, name);
    if (value === undefined) return fallback;
    if (!isInt(value)) throw new TemplateError(`${this.filter}: ${name}: expected an int, received ${typeName(value)}`);
    return Number(value);
  }
  flag(index: number, name: string, fallback: boolean): boolean {
    const value = this.get(index, name);
    return value === undefined ? fallback : truthy(value);
  }
  /** Those behind the first n. */
  rest(n: number): Arguments {
    return { positional: this.all.positional.slice(n), named: this.all.named };
  }
}
