// The spectrum of a real skew-symmetric matrix, in f64, and a vector in its eigenbasis.

/** Eigenvalue i·value, and v*·b for its unit eigenvector v. */
export interface SkewMode {
  value: number;
  coordinate: readonly [re: number, im: number];
}

/**
 * Eigenvalues i·λ of K (n, n) by ascending λ, with the vector b in the eigenbasis. K and b are overwritten.
 *
 * K = Q·T·Qᵀ with T skew tridiagonal (Householder). With D = diag((−i)^k), D*·(−iT)·D is real symmetric tridiagonal with
 * a zero diagonal: the eigenvectors are Q·D·y for its real ones y. So v*·b = Σ_k y_k·i^k·(Qᵀb)_k: only two rows, the
 * real and the imaginary part, need to follow the rotations of the tridiagonal solver.
 */
export function skewSpectrum(K: Float64Array, n: number, b: Float64Array): SkewMode[] {
  const off = tridiagonalize(K, n, b);
  const rows = [new Float64Array(n), new Float64Array(n)] as const;
  b.forEach((c, k) => {
    rows[k % 2 === 0 ? 0 : 1][k] = k % 4 < 2 ? c : -c;
  });
  const values = symmetricTridiagonal(off, n, rows);
  const modes = Array.from(values, (value, k) => ({ value, coordinate: [rows[0][k]!, rows[1][k]!] as const }));
  return modes.sort((x, y) => x.value - y.value);
}

/** Reduces K to skew tridiagonal form, returns its subdiagonal; b becomes Qᵀb. */
function tridiagonalize(K: Float64Array, n: number, b: Float64Array): Float64Array {
  const v = new Float64Array(n);
  const w = new Float64Array(n);
  for (let k = 0; k + 2 < n; k++) {
    // A reflection 1 − 2vvᵀ of the rows and columns below k that leaves one value in column k.
    let norm = 0;
    for (let i = k + 1; i < n; i++) norm = Math.hypot(norm, K[i * n + k]!);
    if (norm === 0) continue;
    const first = K[(k + 1) * n + k]!;
    v.fill(0);
    for (let i = k + 1; i < n; i++) v[i] = K[i * n + k]!;
    v[k + 1] = first + (first < 0 ? -norm : norm);
    let length = 0;
    for (let i = k + 1; i < n; i++) length = Math.hypot(length, v[i]!);
    for (let i = k + 1; i < n; i++) v[i] = v[i]! / length;
    // HKH = K − 2v(vᵀK) − 2(Kv)vᵀ, as vᵀKv = 0; with w = 2Kv and vᵀK = −(Kv)ᵀ that is K + v·wᵀ − w·vᵀ.
    for (let i = k; i < n; i++) {
      let sum = 0;
      for (let j = k + 1; j < n; j++) sum += K[i * n + j]! * v[j]!;
      w[i] = 2 * sum;
    }
    for (let i = k; i < n; i++)
      for (let j = k; j < n; j++) K[i * n + j] = K[i * n + j]! + v[i]! * w[j]! - w[i]! * v[j]!;
    let along = 0;
    for (let i = k + 1; i < n; i++) along += v[i]! * b[i]!;
    for (let i = k + 1; i < n; i++) b[i] = b[i]! - 2 * along * v[i]!;
  }
  return Float64Array.from({ length: n }, (_, k) => (k + 1 < n ? K[(k + 1) * n + k]! : 0));
}

const sweeps = 60;

/**
 * Eigenvalues of the symmetric tridiagonal matrix with zero diagonal and subdiagonal e, by QL with implicit shifts
 * (Golub & Van Loan); each of `rows` is multiplied by the eigenvectors from the right. e is overwritten.
 */
function symmetricTridiagonal(e: Float64Array, n: number, rows: readonly Float64Array[]): Float64Array {
  const d = new Float64Array(n);
  const small = Number.EPSILON * e.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  for (let l = 0; l < n; l++) {
    for (let sweep = 0; ; sweep++) {
      let m = l;
      while (m + 1 < n && Math.abs(e[m]!) > small) m++;
      if (m === l) break;
      if (sweep === sweeps) throw new Error('the tridiagonal eigenvalue iteration did not converge');
      const slope = (d[l + 1]! - d[l]!) / (2 * e[l]!);
      let g = d[m]! - d[l]! + e[l]! / (slope + Math.sign(slope || 1) * Math.hypot(slope, 1));
      let [s, c, p] = [1, 1, 0];
      let i = m - 1;
      for (; i >= l; i--) {
        const f = s * e[i]!;
        const h = c * e[i]!;
        const r = Math.hypot(f, g);
        e[i + 1] = r;
        if (r === 0) {
          d[i + 1] = d[i + 1]! - p;
          e[m] = 0;
          break;
        }
        [s, c] = [f / r, g / r];
        g = d[i + 1]! - p;
        const t = (d[i]! - g) * s + 2 * c * h;
        p = s * t;
        d[i + 1] = g + p;
        g = c * t - h;
        for (const z of rows) {
          const [a, b] = [z[i]!, z[i + 1]!];
          z[i + 1] = s * a + c * b;
          z[i] = c * a - s * b;
        }
      }
      if (i >= l) continue;
      d[l] = d[l]! - p;
      e[l] = g;
      e[m] = 0;
    }
  }
  return d;
}
