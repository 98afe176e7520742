// A pickle machine for checkpoints. It builds dicts, lists, tuples, strings, numbers and what the given table of
// functions makes of their arguments, and refuses every other class or function by name: nothing in a file can run.
// Memory is bounded: text and bytes lie in the file, and containers, which one byte can make, are counted.
import { show } from '../errors.js';
import type { Turns } from '../turns.js';
import { checkpointError } from './stored.js';

export type PickleValue = null | boolean | number | bigint | string | Uint8Array | object;

/** A class or function of the table, as the pickle passes it around. */
export class Global {
  constructor(
    readonly name: string,
    readonly call?: (args: PickleValue[]) => PickleValue,
  ) {}
}

export class Tuple {
  constructor(readonly items: readonly PickleValue[]) {}
}

/** Kept apart from dict, because only it may be given attributes (which are dropped). */
export class OrderedDict extends Map<PickleValue, PickleValue> {}

export interface Vocabulary {
  /** By "module.name". */
  readonly globals: ReadonlyMap<string, Global>;
  /** What a persistent id stands for. */
  persistent(id: PickleValue): PickleValue;
}

/** A tensor takes six; one byte of a hostile file makes one of some 200 bytes. */
const maxContainers = 1_000_000;
const maxMemo = 4_000_000;
const maxOpenMarks = 1000;
/** A list that is used again and again is worked through each time. */
const maxSpent = 8_000_000;
const emptyTuple = new Tuple([]);

function lengthOf(value: PickleValue): number {
  if (value instanceof Tuple) return value.items.length;
  return Array.isArray(value) ? value.length : value instanceof Map ? value.size : 0;
}

/** Steps between looks at the clock. */
const steps = 2000;

/** The value that a pickle describes, and where it ends. `where` begins the messages of errors. */
export function unpickle(
  bytes: Buffer,
  where: string,
  vocabulary: Vocabulary,
  turns: Turns,
): Promise<{ value: PickleValue; end: number }> {
  return new Machine(bytes, where, vocabulary).run(turns);
}

class Machine {
  private at = 0;
  private opcodeAt = 0;
  private containers = 0;
  private spent = 0;
  private stack: PickleValue[] = [];
  /** The stacks below each open mark. */
  private readonly marked: PickleValue[][] = [];
  private readonly memo = new Map<number, PickleValue>();

  constructor(
    private readonly bytes: Buffer,
    private readonly where: string,
    private readonly vocabulary: Vocabulary,
  ) {}

  async run(turns: Turns): Promise<{ value: PickleValue; end: number }> {
    for (;;) {
      for (let step = 0; step < steps; step++) {
        this.opcodeAt = this.at;
        const byte = this.u8();
        if (byte === stop) return { value: this.pop(), end: this.at };
        const opcode = opcodes[byte];
        if (opcode === undefined) throw this.error(`expected an opcode, received byte 0x${byte.toString(16)}`);
        const [name, run] = opcode;
        if (run === undefined) throw this.error(`${name} is refused: a checkpoint is dicts, lists and tensors`);
        run(this);
      }
      const pause = turns.due();
      if (pause) await pause;
    }
  }

  protocol(version: number): void {
    if (version < 2 || version > 5) throw this.error(`expected pickle protocol 2 to 5, received ${version}`);
  }

  /** Names are looked up, never imported. */
  global(module: string, name: string): void {
    const found = this.vocabulary.globals.get(`${module}.${name}`);
    if (found === undefined) {
      throw this.error(`${show(`${module}.${name}`)} is refused: a checkpoint may name only tensors and containers`);
    }
    this.push(found);
  }

  stackGlobal(): void {
    const [module, name] = this.popMany(2);
    if (typeof module !== 'string' || typeof name !== 'string') {
      throw this.error(`STACK_GLOBAL: expected two strings, received ${show(module)} and ${show(name)}`);
    }
    this.global(module, name);
  }

  reduce(): void {
    const [callable, args] = this.popMany(2);
    if (!(callable instanceof Global) || callable.call === undefined) {
      const name = callable instanceof Global ? callable.name : show(callable);
      throw this.error(`REDUCE of ${name} is refused: it is not a function known here`);
    }
    if (!(args instanceof Tuple)) throw this.error(`REDUCE of ${callable.name}: expected a tuple of arguments`);
    this.spend(args.items.reduce<number>((n, arg) => n + lengthOf(arg), args.items.length));
    this.make(callable.call([...args.items]));
  }

  /** Attributes (state_dict()'s _metadata, a parameter's marks) change no tensor. Plain values have none. */
  build(): void {
    this.pop();
    const owner = this.top();
    const plain =
      owner instanceof Uint8Array || owner instanceof Tuple || owner instanceof Global || Array.isArray(owner);
    if (
      typeof owner !== 'object' ||
      owner === null ||
      plain ||
      (owner instanceof Map && !(owner instanceof OrderedDict))
    ) {
      throw this.error(`BUILD of ${show(owner)} is refused: only an OrderedDict or a tensor may have attributes`);
    }
  }

  /** What a function goes through once more although the file holds it once. */
  private spend(values: number): void {
    this.spent += values;
    if (this.spent > maxSpent) throw this.error(`expected functions over at most ${maxSpent} values in all`);
  }

  addItems(items: PickleValue[]): void {
    const set = this.top();
    if (!(set instanceof Set)) throw this.error(`ADDITEMS: expected a set, received ${show(set)}`);
    for (const item of items) set.add(item);
  }

  append(items: PickleValue[]): void {
    const list = this.top();
    if (!Array.isArray(list)) throw this.error(`APPEND: expected a list, received ${show(list)}`);
    for (const item of items) list.push(item);
  }

  setItems(items: PickleValue[]): void {
    const dict = this.top();
    if (!(dict instanceof Map)) throw this.error(`SETITEM: expected a dict, received ${show(dict)}`);
    if (items.length % 2 !== 0) throw this.error('SETITEMS: expected keys and values in pairs');
    for (let i = 0; i < items.length; i += 2) dict.set(items[i]!, items[i + 1]!);
  }

  persistent(): void {
    this.make(this.vocabulary.persistent(this.pop()));
  }

  put(index: number): void {
    if (this.memo.size === maxMemo) throw this.error(`expected at most ${maxMemo} memo entries`);
    this.memo.set(index, this.top());
  }

  memoize(): void {
    this.put(this.memo.size);
  }

  get(index: number): void {
    const value = this.memo.get(index);
    if (value === undefined) throw this.error(`expected a value in memo ${index}, received none`);
    this.push(value);
  }

  make(container: PickleValue): void {
    if (++this.containers > maxContainers) throw this.error(`expected at most ${maxContainers} containers`);
    this.push(container);
  }

  mark(): void {
    if (this.marked.length === maxOpenMarks) throw this.error(`expected at most ${maxOpenMarks} levels of nesting`);
    this.marked.push(this.stack);
    this.stack = [];
  }

  /** POP takes a mark where there is no value above it. */
  discard(): void {
    if (this.stack.length === 0 && this.marked.length > 0) this.popMark();
    else this.pop();
  }

  push(value: PickleValue): void {
    this.stack.push(value);
  }

  top(): PickleValue {
    const value = this.stack.at(-1);
    if (value === undefined) throw this.error('expected a value on the stack, received none');
    return value;
  }

  pop(): PickleValue {
    const value = this.top();
    this.stack.pop();
    return value;
  }

  popMany(count: number): PickleValue[] {
    if (this.stack.length < count)
      throw this.error(`expected ${count} values on the stack, received ${this.stack.length}`);
    return this.stack.splice(this.stack.length - count);
  }

  popMark(): PickleValue[] {
    const below = this.marked.pop();
    if (below === undefined) throw this.error('expected a mark on the stack, received none');
    const items = this.stack;
    this.stack = below;
    return items;
  }

  take(length: number): Buffer {
    const end = this.at + this.size(length);
    const part = this.bytes.subarray(this.at, end);
    this.at = end;
    return part;
  }

  /** A length that the rest of the pickle can hold. */
  size(length: number): number {
    const rest = this.bytes.length - this.at;
    if (length < 0 || length > rest) throw this.error(`expected ${length} more bytes, received ${rest}`);
    return length;
  }

  u8(): number {
    return this.take(1)[0]!;
  }

  u32(): number {
    return this.take(4).readUInt32LE();
  }

  u64(): number {
    return Number(this.take(8).readBigUInt64LE());
  }

  /** Little-endian two's complement. */
  long(length: number): number | bigint {
    if (length > 255) throw this.error(`expected an integer of at most 255 bytes, received ${length}`);
    let value = 0n;
    const bytes = this.take(length);
    for (let i = length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i]!);
    value = BigInt.asIntN(8 * length, value);
    return BigInt.asIntN(53, value) === value ? Number(value) : value;
  }

  text(length: number): string {
    return this.take(length).toString('utf8');
  }

  line(): string {
    const end = this.bytes.indexOf(0x0a, this.at);
    if (end < 0) throw this.error('expected a line, received the end');
    const line = this.bytes.toString('utf8', this.at, end);
    this.at = end + 1;
    return line;
  }

  private error(what: string) {
    return checkpointError(this.where, `at byte ${this.opcodeAt}: ${what}`);
  }
}

const stop = 0x2e;

/** Protocol 2 to 5 and what they kept of 0 and 1. Without a function: known, and refused by name. */
const opcodes: Record<number, readonly [name: string, run?: (m: Machine) => void]> = {
  128: ['PROTO', (m) => m.protocol(m.u8())],
  149: ['FRAME', (m) => m.size(m.u64())],

  78: ['NONE', (m) => m.push(null)],
  136: ['NEWTRUE', (m) => m.push(true)],
  137: ['NEWFALSE', (m) => m.push(false)],
  75: ['BININT1', (m) => m.push(m.u8())],
  77: ['BININT2', (m) => m.push(m.take(2).readUInt16LE())],
  74: ['BININT', (m) => m.push(m.take(4).readInt32LE())],
  138: ['LONG1', (m) => m.push(m.long(m.u8()))],
  139: ['LONG4', (m) => m.push(m.long(m.take(4).readInt32LE()))],
  71: ['BINFLOAT', (m) => m.push(m.take(8).readDoubleBE())],
  140: ['SHORT_BINUNICODE', (m) => m.push(m.text(m.u8()))],
  88: ['BINUNICODE', (m) => m.push(m.text(m.u32()))],
  141: ['BINUNICODE8', (m) => m.push(m.text(m.u64()))],
  84: ['BINSTRING', (m) => m.push(m.text(m.u32()))],
  85: ['SHORT_BINSTRING', (m) => m.push(m.text(m.u8()))],
  67: ['SHORT_BINBYTES', (m) => m.make(m.take(m.u8()))],
  66: ['BINBYTES', (m) => m.make(m.take(m.u32()))],
  142: ['BINBYTES8', (m) => m.make(m.take(m.u64()))],

  40: ['MARK', (m) => m.mark()],
  48: ['POP', (m) => m.discard()],
  49: ['POP_MARK', (m) => m.popMark()],
  50: ['DUP', (m) => m.push(m.top())],

  41: ['EMPTY_TUPLE', (m) => m.push(emptyTuple)],
  133: ['TUPLE1', (m) => m.make(new Tuple(m.popMany(1)))],
  134: ['TUPLE2', (m) => m.make(new Tuple(m.popMany(2)))],
  135: ['TUPLE3', (m) => m.make(new Tuple(m.popMany(3)))],
  116: ['TUPLE', (m) => m.make(new Tuple(m.popMark()))],
  93: ['EMPTY_LIST', (m) => m.make([])],
  108: ['LIST', (m) => m.make(m.popMark())],
  97: ['APPEND', (m) => m.append(m.popMany(1))],
  101: ['APPENDS', (m) => m.append(m.popMark())],
  125: ['EMPTY_DICT', (m) => m.make(new Map())],
  115: ['SETITEM', (m) => m.setItems(m.popMany(2))],
  117: ['SETITEMS', (m) => m.setItems(m.popMark())],

  143: ['EMPTY_SET', (m) => m.make(new Set())],
  144: ['ADDITEMS', (m) => m.addItems(m.popMark())],
  145: ['FROZENSET', (m) => m.make(new Set(m.popMark()))],
  150: ['BYTEARRAY8', (m) => m.make(m.take(m.u64()))],

  113: ['BINPUT', (m) => m.put(m.u8())],
  114: ['LONG_BINPUT', (m) => m.put(m.u32())],
  148: ['MEMOIZE', (m) => m.memoize()],
  104: ['BINGET', (m) => m.get(m.u8())],
  106: ['LONG_BINGET', (m) => m.get(m.u32())],

  99: ['GLOBAL', (m) => m.global(m.line(), m.line())],
  147: ['STACK_GLOBAL', (m) => m.stackGlobal()],
  81: ['BINPERSID', (m) => m.persistent()],
  82: ['REDUCE', (m) => m.reduce()],
  129: ['NEWOBJ', (m) => m.reduce()],
  98: ['BUILD', (m) => m.build()],

  70: ['FLOAT'],
  73: ['INT'],
  76: ['LONG'],
  80: ['PERSID'],
  83: ['STRING'],
  86: ['UNICODE'],
  100: ['DICT'],
  103: ['GET'],
  105: ['INST'],
  111: ['OBJ'],
  112: ['PUT'],
  130: ['EXT1'],
  131: ['EXT2'],
  132: ['EXT4'],
  146: ['NEWOBJ_EX'],
  151: ['NEXT_BUFFER'],
  152: ['READONLY_BUFFER'],
};
