//! What the tests of this crate share.

use base64ct::{Base64, Encoding};
use qtls_crypto::{
    Backend, Error, KEM_ALGORITHMS, KemAlgorithm, KemPrivateKey, KemPublicKey, KnownAnswerObserver,
    KnownAnswerStep, MlKem, Order, SIGNATURE_ALGORITHMS, SignatureAlgorithm,
};
use std::path::PathBuf;

/// The row of the pure algorithm with this parameter set, by FIPS 203's name.
pub(crate) fn pure(parameter_set: &str) -> &'static KemAlgorithm {
    KEM_ALGORITHMS.iter().find(|a| a.name == parameter_set).expect("a parameter set of FIPS 203")
}

/// Bytes that look random and are the same in every run: a test that fails fails again.
pub(crate) fn bytes(stream: u64, count: usize) -> Vec<u8> {
    // splitmix64 (S. Vigna), public domain.
    let mut state = stream.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    std::iter::repeat_with(|| {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) as u8
    })
    .take(count)
    .collect()
}

/// A seed for an algorithm. No scalar from [`bytes`] begins with 0xFF, so all are in range.
pub(crate) fn seed(algorithm: &KemAlgorithm, stream: u64) -> Vec<u8> {
    let mut seed = bytes(stream, algorithm.seed_bytes());
    if let Some(first) = seed.get_mut(MlKem::SEED_BYTES) {
        *first &= 0x7F;
    }
    seed
}

/// Randomness for a deterministic encapsulation, in range like [`seed`].
pub(crate) fn randomness(algorithm: &KemAlgorithm, stream: u64) -> Vec<u8> {
    let mut randomness = bytes(!stream, algorithm.randomness_bytes());
    if let Some(first) = randomness.get_mut(MlKem::RANDOMNESS_BYTES) {
        *first &= 0x7F;
    }
    randomness
}

/// Ciphertext and secret, as `encapsulate` makes them.
pub(crate) fn encapsulate<B: Backend>(
    algorithm: &'static KemAlgorithm,
    public: &[u8],
) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let mut ciphertext = vec![0; algorithm.ciphertext_bytes()];
    let mut secret = vec![0; algorithm.shared_secret_bytes()];
    KemPublicKey::<B>::from_bytes(algorithm, public)?.encapsulate(&mut ciphertext, &mut secret)?;
    Ok((ciphertext, secret))
}

/// Ciphertext and secret, as `encapsulate_deterministic` makes them.
pub(crate) fn encapsulate_with<B: Backend>(
    algorithm: &'static KemAlgorithm,
    public: &[u8],
    randomness: &[u8],
) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let mut ciphertext = vec![0; algorithm.ciphertext_bytes()];
    let mut secret = vec![0; algorithm.shared_secret_bytes()];
    KemPublicKey::<B>::from_bytes(algorithm, public)?.encapsulate_deterministic(
        randomness,
        &mut ciphertext,
        &mut secret,
    )?;
    Ok((ciphertext, secret))
}

/// The secret, as `decapsulate` finds it.
pub(crate) fn decapsulate<B: Backend>(key: &KemPrivateKey<B>, ciphertext: &[u8]) -> Result<Vec<u8>, Error> {
    let mut secret = vec![0; key.algorithm().shared_secret_bytes()];
    key.decapsulate(ciphertext, &mut secret)?;
    Ok(secret)
}

/// Where the curve half lies in an encoding of which the ML-KEM half has `ml_kem_bytes`.
pub(crate) fn curve_range(
    algorithm: &KemAlgorithm,
    whole: usize,
    ml_kem_bytes: usize,
) -> std::ops::Range<usize> {
    match algorithm.curve {
        Some((_, Order::CurveFirst)) => 0..whole - ml_kem_bytes,
        _ => ml_kem_bytes..whole,
    }
}

/// Where the curve half lies in a public key.
pub(crate) fn curve_in_public_key(algorithm: &KemAlgorithm) -> std::ops::Range<usize> {
    curve_range(algorithm, algorithm.public_key_bytes(), algorithm.ml_kem.encapsulation_key_bytes())
}

/// Where the curve half lies in a ciphertext.
pub(crate) fn curve_in_ciphertext(algorithm: &KemAlgorithm) -> std::ops::Range<usize> {
    curve_range(algorithm, algorithm.ciphertext_bytes(), algorithm.ml_kem.ciphertext_bytes())
}

/// Where the ML-KEM half begins in a public key or a ciphertext.
pub(crate) fn ml_kem_begins(algorithm: &KemAlgorithm) -> usize {
    match algorithm.curve {
        Some((curve, Order::CurveFirst)) => curve.share_bytes(),
        _ => 0,
    }
}

/// Where the curve half lies in a shared secret.
pub(crate) fn curve_in_secret(algorithm: &KemAlgorithm) -> std::ops::Range<usize> {
    curve_range(algorithm, algorithm.shared_secret_bytes(), MlKem::SECRET_BYTES)
}

/// The row of this signature algorithm.
pub(crate) fn signature(name: &str) -> &'static SignatureAlgorithm {
    SIGNATURE_ALGORITHMS.iter().find(|a| a.name == name).expect("a row of the table")
}

/// The end of a key file's DER: seed and expanded key are its last field, with headers of a known length before them.
pub(crate) fn last_bytes(file: PathBuf, count: usize) -> Vec<u8> {
    let pem = std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let (_, der) = pem_rfc7468::decode_vec(&pem).unwrap();
    der[der.len() - count..].to_vec()
}

/// A field of a JSON file in the base64 of RFC 4648 section 4.
pub(crate) fn base64(object: &serde_json::Value, field: &str) -> Vec<u8> {
    let text = object[field].as_str().unwrap_or_else(|| panic!("no {field}"));
    Base64::decode_vec(text).unwrap()
}

/// Watches a self-test, writes down what it is told, and spoils the output of one step.
#[derive(Default)]
pub(crate) struct Recorder {
    pub(crate) spoil: Option<KnownAnswerStep>,
    pub(crate) events: Vec<String>,
}

impl KnownAnswerObserver for Recorder {
    fn begin(&mut self, step: KnownAnswerStep) {
        self.events.push(format!("begin {step}"));
    }

    fn corrupt(&mut self, step: KnownAnswerStep, output: &mut [u8]) {
        if self.spoil == Some(step) {
            let last = output.len() - 1;
            output[last] ^= 1;
        }
    }

    fn end(&mut self, step: KnownAnswerStep, passed: bool) {
        self.events.push(format!("end {step} {passed}"));
    }
}
