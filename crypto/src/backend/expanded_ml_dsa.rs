//! Whether the parts of an expanded ML-DSA private key fit each other: the public key is computed again from `ρ`, `s1`
//! and `s2`, and with it `t0` and `tr` (FIPS 204 algorithm 6).
//!
//! The crate `ml-dsa` takes an expanded key as it comes; AWS-LC has this check itself. A wrong `t0` would otherwise show
//! only as a signature that now and then does not verify. Straight from the standard and without its tricks for speed:
//! it runs once for each key that is read in its expanded form.

use crate::MlDsa;
use shake::Shake128;
use shake::digest::{ExtendableOutput, Update, XofReader};
use zeroize::Zeroizing;

/// The modulus (FIPS 204 table 1).
const Q: u32 = 8_380_417;
/// A 512th root of unity modulo q (FIPS 204 section 2.5).
const ZETA: u32 = 1753;
/// Coefficients of a polynomial.
const N: usize = 256;
/// Bits that are dropped from t (FIPS 204 table 1).
const D: u32 = 13;

type Polynomial = [u32; N];

/// Writes the public key that belongs to an expanded key into `public`; whether `t0` is the one in the key. `tr` is the
/// caller's to compare.
///
/// The coefficients of `s1` and `s2` are known to be in range.
pub(super) fn public_key(parameters: MlDsa, expanded: &[u8], public: &mut [u8]) -> bool {
    let (rows, columns, eta) = parameters.dimensions();
    let eta_bytes = parameters.eta_polynomial_bytes();
    let (rho, rest) = expanded.split_at(32);
    let (s1, rest) = rest[parameters.secret_begins() - 32..].split_at(columns * eta_bytes);
    let (s2, t0) = rest.split_at(rows * eta_bytes);
    let (public_rho, t1) = public.split_at_mut(32);
    public_rho.copy_from_slice(rho);

    let mut s1_hat = Zeroizing::new(vec![[0; N]; columns]);
    for (polynomial, encoded) in s1_hat.iter_mut().zip(s1.chunks_exact(eta_bytes)) {
        small_polynomial(encoded, eta, polynomial);
        ntt(polynomial);
    }

    let mut difference = 0;
    for row in 0..rows {
        let mut t = Zeroizing::new([0; N]);
        for (column, s) in s1_hat.iter().enumerate() {
            let a = matrix_element(rho, row, column);
            t.iter_mut().zip(&a).zip(s).for_each(|((t, a), s)| *t = add(*t, multiply(*a, *s)));
        }
        inverse_ntt(&mut t);
        let mut s2_row = Zeroizing::new([0; N]);
        small_polynomial(&s2[row * eta_bytes..][..eta_bytes], eta, &mut s2_row);
        t.iter_mut().zip(s2_row.iter()).for_each(|(t, s)| *t = add(*t, *s));

        // FIPS 204 algorithm 35: t = t1 * 2^13 + t0 with -2^12 < t0 <= 2^12; both are packed as the key has them, t0 as
        // 2^12 - t0 (algorithm 24).
        let high = |t: u32| (t + (1 << (D - 1)) - 1) >> D;
        pack(t.iter().map(|t| high(*t)), 10, &mut t1[row * 320..][..320]);
        let mut packed_t0 = Zeroizing::new([0; 416]);
        pack(t.iter().map(|t| (1 << (D - 1)) + (high(*t) << D) - t), D, &mut *packed_t0);
        difference |= packed_t0.iter().zip(&t0[row * 416..][..416]).fold(0, |all, (a, b)| all | (a ^ b));
    }
    difference == 0
}

/// FIPS 204 algorithm 30: a polynomial in the NTT domain from SHAKE128(ρ ‖ column ‖ row), by rejection.
fn matrix_element(rho: &[u8], row: usize, column: usize) -> Polynomial {
    let mut stream = Shake128::default();
    stream.update(rho);
    stream.update(&[column as u8, row as u8]);
    let mut stream = stream.finalize_xof();
    let mut polynomial = [0; N];
    let mut found = 0;
    while found < N {
        let mut bytes = [0; 3];
        stream.read(&mut bytes);
        let candidate = u32::from_le_bytes([bytes[0], bytes[1], bytes[2] & 0x7F, 0]);
        if candidate < Q {
            polynomial[found] = candidate;
            found += 1;
        }
    }
    polynomial
}

/// FIPS 204 algorithm 19 with a = b = η: coefficients η - z, of three or four bits.
fn small_polynomial(encoded: &[u8], eta: u32, polynomial: &mut Polynomial) {
    let bits = encoded.len() * 8 / N;
    for (index, coefficient) in polynomial.iter_mut().enumerate() {
        let (byte, shift) = (index * bits / 8, index * bits % 8);
        let next = encoded.get(byte + 1).copied().unwrap_or(0);
        let value = u32::from(u16::from_le_bytes([encoded[byte], next]) >> shift) & ((1 << bits) - 1);
        *coefficient = subtract(eta, value);
    }
}

/// FIPS 204 algorithm 16: values of `bits` each, little-endian.
fn pack(values: impl Iterator<Item = u32>, bits: u32, out: &mut [u8]) {
    let (mut pending, mut pending_bits, mut position) = (0u32, 0, 0);
    for value in values {
        pending |= value << pending_bits;
        pending_bits += bits;
        while pending_bits >= 8 {
            out[position] = pending as u8;
            position += 1;
            pending >>= 8;
            pending_bits -= 8;
        }
    }
}

/// FIPS 204 algorithm 41.
fn ntt(w: &mut Polynomial) {
    let mut m = 0;
    let mut length = N / 2;
    while length >= 1 {
        for start in (0..N).step_by(2 * length) {
            m += 1;
            let z = zeta(m);
            for j in start..start + length {
                let t = multiply(z, w[j + length]);
                w[j + length] = subtract(w[j], t);
                w[j] = add(w[j], t);
            }
        }
        length /= 2;
    }
}

/// FIPS 204 algorithm 42.
fn inverse_ntt(w: &mut Polynomial) {
    /// 256^-1 modulo q.
    const F: u32 = 8_347_681;
    let mut m = N;
    let mut length = 1;
    while length < N {
        for start in (0..N).step_by(2 * length) {
            m -= 1;
            let z = Q - zeta(m);
            for j in start..start + length {
                let t = w[j];
                w[j] = add(t, w[j + length]);
                w[j + length] = multiply(z, subtract(t, w[j + length]));
            }
        }
        length *= 2;
    }
    w.iter_mut().for_each(|w| *w = multiply(*w, F));
}

/// ζ to the power of the bit-reversed index (FIPS 204 appendix B).
fn zeta(index: usize) -> u32 {
    const ZETAS: Polynomial = {
        let mut zetas = [0; N];
        let mut index = 0;
        while index < N {
            let mut power = 1;
            let mut step = 0;
            while step < (index as u8).reverse_bits() {
                power = (power as u64 * ZETA as u64 % Q as u64) as u32;
                step += 1;
            }
            zetas[index] = power;
            index += 1;
        }
        zetas
    };
    ZETAS[index]
}

fn multiply(a: u32, b: u32) -> u32 {
    (u64::from(a) * u64::from(b) % u64::from(Q)) as u32
}

fn add(a: u32, b: u32) -> u32 {
    reduce_once(a + b)
}

fn subtract(a: u32, b: u32) -> u32 {
    reduce_once(a + Q - b)
}

/// Subtracts q if the value is not below it, without a branch: the values are secret.
fn reduce_once(value: u32) -> u32 {
    let less = value.wrapping_sub(Q);
    less.wrapping_add(Q & (less >> 31).wrapping_neg())
}
