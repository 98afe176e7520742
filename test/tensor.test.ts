import fc from 'fast-check';
import { type DType, ops, StatespaceError, Tensor, type TensorLike } from 'statespace';
import { describe, expect, test } from 'vitest';

const f32 = (values: number[]) => new Tensor(Float32Array.from(values), [values.length]);
const encoded = (values: number[], dtype: DType) => [...f32(values).to(dtype).data];
const decoded = (halves: Uint16Array, dtype: DType) => new Tensor(halves, [halves.length], dtype).toFloat32Array();
const every16 = Uint16Array.from({ length: 65536 }, (_, i) => i);

describe('construction', () => {
  test('the dtype follows the data where it can', () => {
    expect(new Tensor(new Float32Array(6), [2, 3]).dtype).toBe('f32');
    expect(new Tensor(new Int32Array(0), [0, 3]).dtype).toBe('i32');
    expect(new Tensor(new Float32Array(1), []).shape).toEqual([]);
    expect(new Tensor(new Uint8Array(2 * 34), [2, 32], 'q8_0').dtype).toBe('q8_0');
    expect(new Tensor(new Uint8Array(18), [32], 'q4_0').dtype).toBe('q4_0');
    expect(new Tensor(Buffer.alloc(18), [32], 'q4_0').data).toBeInstanceOf(Uint8Array);
  });

  test('the shape is the tensor’s own', () => {
    const shape = [2, 3];
    const tensor = new Tensor(new Float32Array(6), shape);
    shape[0] = 7;
    expect(tensor.shape).toEqual([2, 3]);
  });

  test.each([new Float32Array(4), [1, 2, 3]])('values without a shape are no tensor: %o', async (bare) => {
    const failure = await ops.rmsNorm({ x: bare as unknown as TensorLike }).catch((error) => error);
    expect(failure).toMatchObject({
      code: 'ERR_SHAPE',
      message: expect.stringMatching(
        /x: expected a tensor \{ data, shape, dtype\? \}, received a bare (Float32Array|array)/,
      ),
    });
  });

  test.each<[string, () => unknown, string, RegExp]>([
    ['too little data', () => new Tensor(new Float32Array(5), [2, 3]), 'ERR_SHAPE', /expected 6 elements.*received 5/],
    ['a negative size', () => new Tensor(new Float32Array(0), [-1]), 'ERR_SHAPE', /\[-1\]/],
    ['a fractional size', () => new Tensor(new Float32Array(1), [0.5, 2]), 'ERR_SHAPE', /0\.5/],
    ['a size beyond 2^53', () => new Tensor(new Float32Array(0), [2 ** 40, 2 ** 40]), 'ERR_SHAPE', /2\^53/],
    ['no shape', () => new Tensor(new Float32Array(1), undefined as never), 'ERR_SHAPE', /undefined/],
    ['halves without a dtype', () => new Tensor(new Uint16Array(1), [1]), 'ERR_DTYPE', /'f16' or 'bf16'/],
    ['blocks without a dtype', () => new Tensor(new Uint8Array(18), [32]), 'ERR_DTYPE', /'q8_0' or 'q4_0'/],
    ['the wrong array', () => new Tensor(new Float32Array(1), [1], 'bf16'), 'ERR_DTYPE', /Uint16Array.*Float32Array/],
    ['an unknown dtype', () => new Tensor(new Float32Array(1), [1], 'toString' as never), 'ERR_DTYPE', /toString/],
    ['a plain array', () => new Tensor([1] as never, [1]), 'ERR_DTYPE', /Float32Array/],
    ['a float64 array', () => new Tensor(new Float64Array(1) as never, [1]), 'ERR_DTYPE', /Float64Array/],
    ['a ragged block', () => new Tensor(new Uint8Array(34), [16, 2], 'q8_0'), 'ERR_SHAPE', /multiple of 32/],
    ['a ragged conversion', () => f32([1, 2]).to('q4_0'), 'ERR_SHAPE', /multiple of 32/],
    ['a conversion to i32', () => f32([1]).to('i32'), 'ERR_DTYPE', /i32/],
    ['a conversion to nothing known', () => f32([1]).to('f64' as never), 'ERR_DTYPE', /f64/],
  ])('%s is refused', (_, make, code, message) => {
    expect(make).toThrow(StatespaceError);
    expect(make).toThrow(expect.objectContaining({ code, message: expect.stringMatching(message) }));
  });
});

test('values of another library`s tensor that lie in another order are refused, in order they are taken', () => {
  const data = Float32Array.of(1, 2, 3, 4, 5, 6);
  const norm = (more: object) => ops.rmsNormSync({ x: { data, shape: [2, 3], ...more } });
  expect(() => norm({ stride: [1, 2], offset: 0 })).toThrow(
    'rmsNorm: x: expected values in the order of the axes, the last one fastest, received strides [1, 2]',
  );
  expect(() => norm({ strides: [1, 2] })).toThrow(/received strides \[1, 2\]/);
  expect(() => norm({ stride: [3, 1], offset: 1 })).toThrow(
    'rmsNorm: x: expected data that begins with the first value',
  );
  const plain = norm({});
  expect(norm({ stride: [3, 1], offset: 0 })).toEqual(plain);
  expect(norm({ stride: () => [1, 2] })).toEqual(plain);
  const column = ops.rmsNormSync({ x: { data, shape: [6, 1], stride: [1, 7] } as never });
  expect(column.y.shape).toEqual([6, 1]);
});

describe('zeros', () => {
  test.each(['f32', 'f16', 'bf16', 'i32'] as const)(
    '%s, small and large, also in memory that was used before',
    (dtype) => {
      for (const shape of [[], [0, 3], [2, 3], [700, 1024]]) {
        const used = Tensor.zeros(shape, dtype);
        used.data.fill(7);
        used.dispose();
        const tensor = Tensor.zeros(shape, dtype);
        expect(tensor.shape).toEqual(shape);
        expect(tensor.dtype).toBe(dtype);
        expect(tensor.data.length).toBe(shape.reduce((n, s) => n * s, 1));
        expect(tensor.data.every((x) => x === 0)).toBe(true);
      }
    },
  );

  test('what cannot be is a typed error', () => {
    expect(() => Tensor.zeros([32], 'q8_0')).toThrow(/Tensor\.zeros: expected f32, f16, bf16 or i32/);
    expect(() => Tensor.zeros([-1])).toThrow(expect.objectContaining({ code: 'ERR_SHAPE' }));
    expect(() => Tensor.zeros([2 ** 50])).toThrow(expect.objectContaining({ code: 'ERR_OUT_OF_MEMORY' }));
  });
});

describe('halves', () => {
  test.each(['f16', 'bf16'] as const)('every %s survives a trip through f32, NaNs as NaNs', (dtype) => {
    const values = decoded(every16, dtype);
    const back = new Tensor(values, [65536]).to(dtype).data;
    let nans = 0;
    for (const half of every16) {
      if (Number.isNaN(values[half])) {
        nans++;
        expect(Number.isNaN(decoded(Uint16Array.of(back[half]!), dtype)[0])).toBe(true);
      } else if (back[half] !== half) expect.fail(`${half} came back as ${back[half]}`);
    }
    expect(nans).toBe(dtype === 'f16' ? 2 * 1023 : 2 * 127);
  });

  test.each([
    ['f16', 0x7bff],
    ['bf16', 0x7f7f],
  ] as const)('%s rounds to nearest, ties to even, over every neighbouring pair', (dtype, largest) => {
    const values = decoded(every16.subarray(0, largest + 1), dtype);
    const bits = new Int32Array(1);
    const float = new Float32Array(bits.buffer);
    const nudged = (value: number, by: number) => {
      float[0] = value;
      bits[0]! += by;
      return float[0];
    };
    const middles = Float32Array.from({ length: largest }, (_, h) => (values[h]! + values[h + 1]!) / 2);
    const even = new Tensor(middles, [largest]).to(dtype).data;
    const below = new Tensor(
      middles.map((m) => nudged(m, -1)),
      [largest],
    ).to(dtype).data;
    const above = new Tensor(
      middles.map((m) => nudged(m, 1)),
      [largest],
    ).to(dtype).data;
    for (let h = 0; h < largest; h++) {
      const wanted = h % 2 === 0 ? h : h + 1;
      if (even[h] !== wanted || below[h] !== h || above[h] !== h + 1) {
        expect.fail(`between ${h} and ${h + 1}: ${below[h]} ${even[h]} ${above[h]}`);
      }
    }
  });

  test('known values', () => {
    expect(encoded([1, -2, 65504, 65519.996, 65520, Infinity, -Infinity, -0, 2 ** -24, 2 ** -25], 'f16')).toEqual([
      0x3c00, 0xc000, 0x7bff, 0x7bff, 0x7c00, 0x7c00, 0xfc00, 0x8000, 1, 0,
    ]);
    expect(encoded([1, -2, 3.4e38, 3.4028235e38, -Infinity, 2 ** -133], 'bf16')).toEqual([
      0x3f80, 0xc000, 0x7f80, 0x7f80, 0xff80, 1,
    ]);
  });

  test('i32 becomes f32, and a conversion is a copy', () => {
    expect([...new Tensor(Int32Array.of(-3, 7), [2]).to('f32').data]).toEqual([-3, 7]);
    const tensor = f32([1, 2]);
    expect(tensor.to('f32').data).not.toBe(tensor.data);
    expect(tensor.toFloat32Array()).not.toBe(tensor.data);
  });
});

describe('ggml blocks', () => {
  const ramp = Array.from({ length: 32 }, (_, i) => i - 15); // -15 … 16

  test('q8_0: an f16 scale of max|x|/127, then 32 signed bytes', () => {
    const bytes = encoded(ramp, 'q8_0');
    expect(bytes.length).toBe(34);
    expect(bytes[0]! | (bytes[1]! << 8)).toBe(f32([16 / 127]).to('f16').data[0]);
    expect(bytes.slice(2)).toEqual(ramp.map((x) => (Math.sign(x) * Math.round((Math.abs(x) * 127) / 16)) & 255));
  });

  test('q4_0: an f16 scale of the extreme / -8; value j in the low nibble of byte j, value j + 16 in the high one', () => {
    const bytes = encoded(ramp, 'q4_0');
    expect(bytes.length).toBe(18);
    expect(bytes[0]! | (bytes[1]! << 8)).toBe(0xc000); // -2
    const nibbles = ramp.map((x) => Math.min(15, Math.floor(x / -2 + 8.5)));
    expect(bytes.slice(2)).toEqual(Array.from({ length: 16 }, (_, j) => nibbles[j]! | (nibbles[j + 16]! << 4)));
  });

  test('zeros stay zeros, and every block has its own scale', () => {
    const values = [...Array(32).fill(0), ...ramp, ...ramp.map((x) => x * 1024)];
    for (const dtype of ['q8_0', 'q4_0'] as const) {
      const back = f32(values).to(dtype).toFloat32Array();
      expect(back.subarray(0, 32).every((x) => x === 0)).toBe(true);
      for (let i = 64; i < 96; i++) expect(back[i]).toBe(back[i - 32]! * 1024);
    }
  });

  test('the error of a value is at most half a step, and a step where q4_0 has no +8', () => {
    const finite = fc.float({ noNaN: true, min: -1000, max: 1000 });
    fc.assert(
      fc.property(fc.array(finite, { minLength: 64, maxLength: 64 }), (values) => {
        for (const [dtype, levels, steps] of [
          ['q8_0', 127, 0.5],
          ['q4_0', 8, 1],
        ] as const) {
          const back = f32(values).to(dtype).toFloat32Array();
          for (let i = 0; i < 64; i++) {
            const block = values.slice(i & 32, (i & 32) + 32);
            const amax = Math.max(...block.map(Math.abs));
            const bound = (amax / levels) * steps + amax * 2 ** -10 + 2 ** -17;
            expect(Math.abs(back[i]! - Math.fround(values[i]!))).toBeLessThanOrEqual(bound);
          }
        }
      }),
      { numRuns: 50 },
    );
  });
});

describe('convert', () => {
  const dtypes = ['f32', 'f16', 'bf16', 'q8_0', 'q4_0'] as const;
  // Blocks of 4096 values and more: several pieces, of several threads.
  const values = Float32Array.from({ length: 3 * 4128 }, (_, i) => ((i * 7919) % 2003) / 97 - 10);
  const whole = new Tensor(values, [3, 4128]);

  test.each(dtypes.flatMap((from) => dtypes.map((to) => [from, to] as const)))('%s as %s is to()', async (from, to) => {
    const tensor = whole.to(from);
    const converted = await tensor.convert(to);
    expect(converted).toEqual(tensor.to(to));
    expect(converted.data.buffer).not.toBe(tensor.data.buffer);
  });

  test('i32 is copied, and becomes f32', async () => {
    const counts = new Tensor(
      Int32Array.from({ length: 40_000 }, (_, i) => i - 7),
      [40_000],
    );
    expect(await counts.convert('i32')).toEqual(counts);
    expect(await counts.convert('f32')).toEqual(counts.to('f32'));
    expect(await (await counts.convert('f32')).convert('f32')).toEqual(counts.to('f32'));
  });

  test('what cannot be is refused as by to()', async () => {
    await expect(f32([1]).convert('i32')).rejects.toThrow(/f32 has no conversion to i32/);
    await expect(f32([1, 2]).convert('q4_0')).rejects.toThrow(/^Tensor\.convert: expected a last axis.*multiple of 32/);
    await expect(f32([1]).convert('f64' as never)).rejects.toThrow(/^Tensor\.convert: expected f32, f16, bf16/);
  });
});
