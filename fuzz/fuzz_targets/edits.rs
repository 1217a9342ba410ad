//! Input for the targets that take a peer's share: shares that are nearly right reach deeper than random bytes.

use qtls_crypto::{KEM_ALGORITHMS, KemAlgorithm, MlKem};

/// The algorithm that the first byte chooses, and the share: the rest of the input as it is or, if the byte's top bit is
/// set, the good share with edits, each three bytes of the input (position, value).
pub fn share<'a>(
    data: &[u8],
    good: impl FnOnce(&'static KemAlgorithm) -> &'a [u8],
) -> Option<(&'static KemAlgorithm, Vec<u8>)> {
    let (choice, rest) = data.split_first()?;
    let algorithm = &KEM_ALGORITHMS[usize::from(choice & 0x7F) % KEM_ALGORITHMS.len()];
    if choice & 0x80 == 0 {
        return Some((algorithm, rest.to_vec()));
    }
    let mut share = good(algorithm).to_vec();
    for edit in rest.chunks_exact(3) {
        let position = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % share.len();
        share[position] = edit[2];
    }
    Some((algorithm, share))
}

/// A seed in the range of every curve.
pub fn seed(algorithm: &KemAlgorithm) -> Vec<u8> {
    (0..algorithm.seed_bytes()).map(|position| position as u8 + 1).collect()
}

/// Randomness in the range of every curve.
pub fn randomness(algorithm: &KemAlgorithm) -> Vec<u8> {
    (0..algorithm.randomness_bytes()).map(|position| (position + MlKem::SEED_BYTES) as u8).collect()
}
