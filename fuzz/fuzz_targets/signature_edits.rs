//! Input for the targets that take a signature or its key: ones that are nearly right reach deeper than random bytes.

use qtls_crypto::{
    AwsLc, MessageEncoding, MlDsa, RustCrypto, SIGNATURE_ALGORITHMS, SignatureAlgorithm, SignaturePublicKey,
};
use std::sync::LazyLock;

/// What the signatures of the self-tests are on, in `known_answer.rs` of the crate.
pub const MESSAGE: &[u8] = b"Q-TLS: the self-test of a signature algorithm";
pub const ENCODING: MessageEncoding<'static> = MessageEncoding::Pure { context: b"self-test" };

/// A good key and a good signature: those of the self-test, the same in every run, so that a crash can be repeated.
#[allow(dead_code, reason = "each target uses a part of it")]
pub struct Prepared {
    pub algorithm: &'static SignatureAlgorithm,
    pub public_key: Vec<u8>,
    pub signature: Vec<u8>,
    pub fast: SignaturePublicKey<AwsLc>,
    pub oracle: SignaturePublicKey<RustCrypto>,
}

static PREPARED: LazyLock<Vec<Prepared>> =
    LazyLock::new(|| SIGNATURE_ALGORITHMS.iter().map(prepare).collect());

fn prepare(algorithm: &'static SignatureAlgorithm) -> Prepared {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../crypto/src/known_answer");
    let file = std::fs::read(format!("{folder}/{}.bin", algorithm.name)).unwrap();
    let rest = &file[algorithm.seed_bytes() + MlDsa::RANDOMNESS_BYTES..];
    let (public_key, signature) = rest.split_at(algorithm.public_key_bytes());
    Prepared {
        algorithm,
        public_key: public_key.to_vec(),
        signature: signature.to_vec(),
        fast: SignaturePublicKey::from_bytes(algorithm, public_key).unwrap(),
        oracle: SignaturePublicKey::from_bytes(algorithm, public_key).unwrap(),
    }
}

/// The algorithm that the first byte chooses, and the bytes to try: the rest of the input as it is or, if the byte's top
/// bit is set, the good ones with edits, each three bytes of the input (position from the end, value).
pub fn edited(
    data: &[u8],
    good: impl FnOnce(&'static Prepared) -> &'static Vec<u8>,
) -> Option<(&'static Prepared, Vec<u8>)> {
    let (choice, rest) = data.split_first()?;
    let prepared = &PREPARED[usize::from(choice & 0x7F) % PREPARED.len()];
    if choice & 0x80 == 0 {
        return Some((prepared, rest.to_vec()));
    }
    let mut bytes = good(prepared).clone();
    let count = bytes.len();
    for edit in rest.chunks_exact(3) {
        // From the end, where the hints and a composite's classical half are.
        let position = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % count;
        bytes[count - 1 - position] = edit[2];
    }
    Some((prepared, bytes))
}
