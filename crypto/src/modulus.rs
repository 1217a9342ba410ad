//! The modulus check of FIPS 203 section 7.2: every 12-bit coefficient is below q.

/// The modulus of ML-KEM.
const Q: u64 = 3329;
/// 24 bytes hold 16 coefficients; an encoded polynomial (384 bytes) is a whole number of these.
const BLOCK_BYTES: usize = 24;

/// Whether every coefficient of an encoded vector of polynomials is below q.
///
/// The section states the check as decode, reduce, encode, compare; a coefficient survives this exactly if it is
/// below q. Branch-free until the end, because a private key is checked with it too.
///
/// `vector.len()` must be a multiple of 384; a remainder counts as invalid.
pub(crate) fn coefficients_are_reduced(vector: &[u8]) -> bool {
    let mut blocks = vector.chunks_exact(BLOCK_BYTES);
    let overflow = blocks.by_ref().fold(0, |overflow, block| {
        // Four coefficients each, at bytes 0, 6, 12, 18; the last load starts two bytes early to stay in the block.
        overflow
            | overflow_of_four(load(block, 0))
            | overflow_of_four(load(block, 6))
            | overflow_of_four(load(block, 12))
            | overflow_of_four(load(block, 16) >> 16)
    });
    blocks.remainder().is_empty() && overflow == 0
}

fn load(block: &[u8], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&block[at..at + 8]);
    u64::from_le_bytes(bytes)
}

/// Non-zero if one of the four coefficients in the low 48 bits is q or more: adding 2^12 - q then carries into bit 12.
fn overflow_of_four(packed: u64) -> u64 {
    const FIELDS: u64 = 0xFFF | (0xFFF << 24);
    const ADDEND: u64 = ((1 << 12) - Q) | (((1 << 12) - Q) << 24);
    const CARRIES: u64 = (1 << 12) | (1 << 36);
    (((packed & FIELDS) + ADDEND) | (((packed >> 12) & FIELDS) + ADDEND)) & CARRIES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_coefficient(index: usize, value: u16) -> Vec<u8> {
        // 3328 everywhere else: the largest valid value, so that a carry would show at a neighbour.
        let mut coefficients = vec![Q as u16 - 1; 256];
        coefficients[index] = value;
        coefficients
            .chunks_exact(2)
            .flat_map(|pair| {
                let packed = u32::from(pair[0]) | (u32::from(pair[1]) << 12);
                packed.to_le_bytes()[..3].to_vec()
            })
            .collect()
    }

    #[test]
    fn every_value_is_judged_right_at_every_position_of_a_block() {
        for index in 0..16 {
            for value in 0..4096 {
                assert_eq!(
                    coefficients_are_reduced(&with_coefficient(index, value)),
                    u64::from(value) < Q,
                    "coefficient {index} = {value}"
                );
            }
        }
    }

    #[test]
    fn the_limit_is_found_at_every_position_of_a_polynomial() {
        for index in 0..256 {
            assert!(coefficients_are_reduced(&with_coefficient(index, 0)));
            assert!(!coefficients_are_reduced(&with_coefficient(index, Q as u16)), "coefficient {index}");
        }
    }

    #[test]
    fn a_piece_of_a_block_is_refused() {
        assert!(!coefficients_are_reduced(&[0; BLOCK_BYTES + 1]));
    }
}
