//! Power-on self-tests with known answers (FIPS 140-3 section 7.10.3.2).

use crate::{Backend, DefaultBackend, Error, KemAlgorithm, KemPrivateKey, KemPublicKey, Order};
use std::fmt;

/// A part of an algorithm's self-test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KnownAnswerStep {
    /// A key pair from a fixed seed.
    KeyGeneration,
    /// Ciphertext and secret from fixed randomness.
    Encapsulation,
    /// The secret of that ciphertext.
    Decapsulation,
    /// The secret of a wrong ciphertext (implicit rejection).
    Rejection,
}

impl KnownAnswerStep {
    /// Every step, in the order in which they run.
    pub const ALL: [Self; 4] =
        [Self::KeyGeneration, Self::Encapsulation, Self::Decapsulation, Self::Rejection];
}

impl fmt::Display for KnownAnswerStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KeyGeneration => "key generation",
            Self::Encapsulation => "encapsulation",
            Self::Decapsulation => "decapsulation",
            Self::Rejection => "implicit rejection",
        })
    }
}

/// Watches a self-test, and may spoil it: what OpenSSL's self-test callback needs (phases Start, Corrupt, Pass, Fail).
pub trait KnownAnswerObserver {
    /// A step begins.
    fn begin(&mut self, step: KnownAnswerStep) {
        let _ = step;
    }

    /// The step's output was computed and is about to be compared; changing it makes the step fail, as it must.
    fn corrupt(&mut self, step: KnownAnswerStep, output: &mut [u8]) {
        let _ = (step, output);
    }

    /// A step ended.
    fn end(&mut self, step: KnownAnswerStep, passed: bool) {
        let _ = (step, passed);
    }
}

/// Watches nothing.
impl KnownAnswerObserver for () {}

/// Runs an algorithm's self-test on the default backend.
///
/// # Errors
/// [`Error::KnownAnswerMismatch`] with the first step that failed; the later ones are then not run.
pub fn run_known_answer(
    algorithm: &'static KemAlgorithm,
    observer: &mut dyn KnownAnswerObserver,
) -> Result<(), Error> {
    run_known_answer_on::<DefaultBackend>(algorithm, observer)
}

/// [`run_known_answer`] on a backend of choice.
///
/// # Errors
/// Those of [`run_known_answer`].
pub fn run_known_answer_on<B: Backend>(
    algorithm: &'static KemAlgorithm,
    observer: &mut dyn KnownAnswerObserver,
) -> Result<(), Error> {
    let known = KnownAnswer::of(algorithm)?;
    let mut run = |step: KnownAnswerStep, expected: &[u8], compute: &dyn Fn() -> Result<Vec<u8>, Error>| {
        observer.begin(step);
        let passed = compute().is_ok_and(|mut output| {
            observer.corrupt(step, &mut output);
            output == expected
        });
        observer.end(step, passed);
        if passed { Ok(()) } else { Err(Error::KnownAnswerMismatch { algorithm: algorithm.name, step }) }
    };

    let key = || KemPrivateKey::<B>::from_seed(algorithm, known.seed);
    let decapsulate = |ciphertext: &[u8]| {
        let mut secret = vec![0; algorithm.shared_secret_bytes()];
        key()?.decapsulate(ciphertext, &mut secret)?;
        Ok(secret)
    };
    run(KnownAnswerStep::KeyGeneration, known.public_key, &|| Ok(key()?.public_key().to_vec()))?;
    run(KnownAnswerStep::Encapsulation, known.ciphertext_and_secret, &|| {
        let mut output = vec![0; known.ciphertext_and_secret.len()];
        let (ciphertext, secret) = output.split_at_mut(algorithm.ciphertext_bytes());
        KemPublicKey::<B>::from_bytes(algorithm, known.public_key)?.encapsulate_deterministic(
            known.randomness,
            ciphertext,
            secret,
        )?;
        Ok(output)
    })?;
    let (ciphertext, secret) = known.ciphertext_and_secret.split_at(algorithm.ciphertext_bytes());
    run(KnownAnswerStep::Decapsulation, secret, &|| decapsulate(ciphertext))?;
    run(KnownAnswerStep::Rejection, known.rejection_secret, &|| decapsulate(&spoiled(algorithm, ciphertext)))
}

/// The parts of a file in `known_answer/`, which has them one after the other in this order.
struct KnownAnswer {
    seed: &'static [u8],
    randomness: &'static [u8],
    public_key: &'static [u8],
    ciphertext_and_secret: &'static [u8],
    rejection_secret: &'static [u8],
}

impl KnownAnswer {
    fn of(algorithm: &KemAlgorithm) -> Result<Self, Error> {
        let mut rest = algorithm.known_answer;
        let mut take = |bytes: usize| {
            let (part, after) = rest.split_at_checked(bytes).ok_or(Error::Backend("known answer"))?;
            rest = after;
            Ok(part)
        };
        Ok(Self {
            seed: take(algorithm.seed_bytes())?,
            randomness: take(algorithm.randomness_bytes())?,
            public_key: take(algorithm.public_key_bytes())?,
            ciphertext_and_secret: take(algorithm.ciphertext_bytes() + algorithm.shared_secret_bytes())?,
            rejection_secret: take(algorithm.shared_secret_bytes())?,
        })
    }
}

/// The ciphertext with a bit of its ML-KEM half changed, so that ML-KEM rejects it and the curve does not notice.
fn spoiled(algorithm: &KemAlgorithm, ciphertext: &[u8]) -> Vec<u8> {
    let ml_kem_begins = match algorithm.curve {
        Some((curve, Order::CurveFirst)) => curve.share_bytes(),
        _ => 0,
    };
    let mut spoiled = ciphertext.to_vec();
    spoiled[ml_kem_begins] ^= 1;
    spoiled
}

/// Computes the file of known answers for an algorithm; the files in `src/known_answer/` were written with it by
/// `examples/known_answers.rs`.
///
/// Seed and randomness count up from the algorithm's code point, so that anyone can see that nothing is hidden in them.
///
/// # Errors
/// [`Error::Backend`] and [`Error::Randomness`] if the machine fails.
pub fn compute_known_answer<B: Backend>(algorithm: &'static KemAlgorithm) -> Result<Vec<u8>, Error> {
    let mut counter = algorithm.group_id as u8;
    let mut counted = |bytes: usize| -> Vec<u8> {
        (0..bytes)
            .map(|_| {
                counter = counter.wrapping_add(1);
                counter
            })
            .collect()
    };
    let seed = counted(algorithm.seed_bytes());
    let randomness = counted(algorithm.randomness_bytes());
    let key = KemPrivateKey::<B>::from_seed(algorithm, &seed)?;
    let mut ciphertext = vec![0; algorithm.ciphertext_bytes()];
    let mut secret = vec![0; algorithm.shared_secret_bytes()];
    let mut rejection_secret = secret.clone();
    KemPublicKey::<B>::from_bytes(algorithm, key.public_key())?.encapsulate_deterministic(
        &randomness,
        &mut ciphertext,
        &mut secret,
    )?;
    key.decapsulate(&spoiled(algorithm, &ciphertext), &mut rejection_secret)?;
    Ok([&seed, &randomness, key.public_key(), &ciphertext, &secret, &rejection_secret].concat())
}
