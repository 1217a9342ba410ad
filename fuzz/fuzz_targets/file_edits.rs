//! Input for the targets that take key files: files that are nearly right reach deeper than random bytes.

use qtls_crypto::{AwsLc, KeyAlgorithm, PrivateKey};

/// The key pair of each algorithm that has key files, the same in every run, so that a crash can be repeated.
pub fn keys() -> Vec<PrivateKey<AwsLc>> {
    KeyAlgorithm::all().filter(|algorithm| algorithm.oid().is_some()).map(key).collect()
}

fn key(algorithm: KeyAlgorithm) -> PrivateKey<AwsLc> {
    match algorithm {
        KeyAlgorithm::Kem(row) => {
            let seed: Vec<u8> = (0..row.seed_bytes()).map(|position| position as u8).collect();
            PrivateKey::from_seed(algorithm, &seed).unwrap()
        }
        // That of the self-test, with which its vectors begin: not every string is a composite's.
        KeyAlgorithm::Signature(row) => {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../crypto/src/known_answer");
            let file = std::fs::read(format!("{folder}/{}.bin", row.name)).unwrap();
            PrivateKey::from_seed(algorithm, &file[..row.seed_bytes()]).unwrap()
        }
    }
}

/// The rest of the input as it is or, if the first byte's top bit is set, the file that the other bits choose, with edits,
/// each three bytes of the input: a position and a value, which stands in place of the byte there or, if the position's
/// top bit is set, before it.
pub fn edited(data: &[u8], good: &[Vec<u8>]) -> Option<Vec<u8>> {
    let (choice, rest) = data.split_first()?;
    if choice & 0x80 == 0 {
        return Some(rest.to_vec());
    }
    let mut file = good[usize::from(choice & 0x7F) % good.len()].clone();
    for edit in rest.chunks_exact(3) {
        let position = u16::from_le_bytes([edit[0], edit[1]]);
        let place = usize::from(position & 0x7FFF) % file.len();
        if position & 0x8000 == 0 { file[place] = edit[2] } else { file.insert(place, edit[2]) }
    }
    Some(file)
}
