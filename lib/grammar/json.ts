import {
  ASCII,
  type CodePoints,
  classOf,
  complement,
  intersection,
  literal,
  type Rules,
  sequence,
  union,
  without,
} from './ebnf.js';

/** Names of the rules that JSON is made of. */
export interface JsonRules {
  value: string;
  object: string;
  string: string;
  /** A character of a string, escaped or not. */
  char: string;
  /** One that stands as it is. */
  plain: string;
  /** One that stands as it is and is none of these. */
  plainBut(barred: CodePoints): string;
  integer: string;
  number: string;
  ws: string;
  comma: string;
  colon: string;
}

const BARRED: CodePoints = union([[0, 0x1f]], [[0x22, 0x22]], [[0x5c, 0x5c]]);

/**
 * JSON (RFC 8259) that every reader reads alike: numbers within the range and the digits of doubles, no halves of surrogate
 * pairs. White space is a space, or a line's end and its indentation: a model that says nothing else comes to an end.
 */
export function jsonRules(rules: Rules): JsonRules {
  const ws = rules.define('("" | " " | "\\n" [ \\t]{0,40})');
  const plain = rules.define(classOf(complement(BARRED)));
  const hex = '[0-9a-fA-F]';
  const escaped = `(${literal('"')} | ${literal('\\')} | "/" | "b" | "f" | "n" | "r" | "t")`;
  // Not \ud800 to \udfff.
  const point = `"u" (([0-9a-ce-fA-CE-F] ${hex}{3}) | ([dD] [0-7] ${hex}{2}))`;
  const char = rules.define(`(${plain} | ${literal('\\')} (${escaped} | ${point}))`);
  const string = rules.define(sequence([literal('"'), `${char}*`, literal('"')]));
  const whole = '("0" | [1-9] [0-9]{0,14})';
  const integer = rules.define(`"-"? ${whole}`);
  const number = rules.define(`"-"? ${whole} ("." [0-9]{1,15})? ([eE] [+-]? [0-9]{1,2})?`);
  const comma = rules.define(sequence([ws, '","', ws]));
  const colon = rules.define(sequence([ws, '":"', ws]));
  const [value, object, array] = ['value', 'object', 'array'];
  const pair = `${string} ${colon} ${value}`;
  rules.recursive(object, `"{" ${ws} (${pair} (${comma} ${pair})*)? ${ws} "}"`);
  rules.recursive(array, `"[" ${ws} (${value} (${comma} ${value})*)? ${ws} "]"`);
  rules.recursive(value, `${object} | ${array} | ${string} | ${number} | "true" | "false" | "null"`);
  const plainBut = (barred: CodePoints) => {
    const set = complement(union(BARRED, barred));
    return classOf(without(barred, ASCII).length > 0 ? intersection(set, ASCII) : set);
  };
  return { value, object, string, char, plain, plainBut, integer, number, ws, comma, colon };
}
