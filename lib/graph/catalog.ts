import { native } from '../native.js';

export interface OpField {
  name: string;
  /** wanted: an output that is written where it is given. */
  kind: 'in' | 'optional' | 'state' | 'runtime' | 'out' | 'wanted';
  /** Alternatives of axis symbols, as the op's struct declares them. */
  shapes: string[][];
  dtypes: string[];
}
export interface OpAttr {
  name: string;
  type: 'boolean' | 'integer' | 'float' | 'choice';
  choices: string[];
  default: number;
}
export interface OpDescription {
  name: string;
  fields: OpField[];
  attrs: OpAttr[];
  /** The op whose gradient this one computes: fields of the same names are its tensors, dx the gradient of its x. */
  gradientOf?: string;
  /** Of that op: the input whose gradient is dy as it stands. */
  passesOn?: string;
  /** Of that op: inputs that only choose among others, which no gradient reaches. */
  chosenBy?: readonly string[];
  /** The op that computes this one's gradient. */
  gradient?: string;
  /** The op that gives the same of whole sequences, without this one's state or cache. */
  whole?: string;
}

let catalog: Map<string, OpDescription> | undefined;

/** What every op says of itself, from the native structs. */
export function opCatalog(): ReadonlyMap<string, OpDescription> {
  if (!catalog) {
    type Raw = {
      name: string;
      gradientOf?: string;
      wholeOf?: string;
      passesOn?: string;
      chosenBy?: string;
      fields: { name: string; kind: OpField['kind']; shape: string; dtypes: string }[];
      attrs: { name: string; type: OpAttr['type']; choices: string; default: string }[];
    };
    const raw = JSON.parse(native().describeOps()) as Raw[];
    const gradients = new Map(raw.flatMap((op) => (op.gradientOf ? [[op.gradientOf, op.name]] : [])));
    const wholes = new Map(raw.flatMap((op) => (op.wholeOf ? [[op.wholeOf, op.name]] : [])));
    catalog = new Map(
      raw.map((op) => [
        op.name,
        {
          name: op.name,
          gradientOf: op.gradientOf,
          passesOn: op.passesOn,
          chosenBy: op.chosenBy?.split(' '),
          gradient: gradients.get(op.name),
          whole: wholes.get(op.name),
          fields: op.fields.map((f) => ({
            name: f.name,
            kind: f.kind,
            shapes: f.shape.split(' | ').map((s) => s.split(' ')),
            dtypes: f.dtypes.split(' '),
          })),
          attrs: op.attrs.map((a) => ({
            name: a.name,
            type: a.type,
            choices: a.choices ? a.choices.split('|') : [],
            default: a.default === 'inf' ? Number.POSITIVE_INFINITY : Number(a.default),
          })),
        },
      ]),
    );
  }
  return catalog;
}
