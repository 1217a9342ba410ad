//! Power-on self-tests with known answers (FIPS 140-3 section 7.10.3.2).

use crate::{
    Backend, DefaultBackend, Error, KemAlgorithm, KemPrivateKey, KemPublicKey, MessageEncoding, MlDsa, Order,
    SignatureAlgorithm, SignaturePrivateKey, SignaturePublicKey, SigningRandomness,
};
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
    /// A signature with fixed randomness; of a composite, one that verifies.
    Signing,
    /// That signature, and one with a wrong bit in each half.
    Verification,
}

impl KnownAnswerStep {
    /// Every step of a KEM's self-test, in the order in which they run.
    pub const KEM: [Self; 4] =
        [Self::KeyGeneration, Self::Encapsulation, Self::Decapsulation, Self::Rejection];
    /// Every step of a signature algorithm's self-test, in the order in which they run.
    pub const SIGNATURE: [Self; 3] = [Self::KeyGeneration, Self::Signing, Self::Verification];
}

impl fmt::Display for KnownAnswerStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KeyGeneration => "key generation",
            Self::Encapsulation => "encapsulation",
            Self::Decapsulation => "decapsulation",
            Self::Rejection => "implicit rejection",
            Self::Signing => "signing",
            Self::Verification => "verification",
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
        run_step(algorithm.name, observer, step, expected, compute)
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

fn run_step(
    algorithm: &'static str,
    observer: &mut dyn KnownAnswerObserver,
    step: KnownAnswerStep,
    expected: &[u8],
    compute: &dyn Fn() -> Result<Vec<u8>, Error>,
) -> Result<(), Error> {
    observer.begin(step);
    let passed = compute().is_ok_and(|mut output| {
        observer.corrupt(step, &mut output);
        output == expected
    });
    observer.end(step, passed);
    if passed { Ok(()) } else { Err(Error::KnownAnswerMismatch { algorithm, step }) }
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

/// What the signatures in `known_answer/` are on.
const MESSAGE: &[u8] = b"Q-TLS: the self-test of a signature algorithm";
const ENCODING: MessageEncoding<'static> = MessageEncoding::Pure { context: b"self-test" };

/// Runs a signature algorithm's self-test on the default backend.
///
/// # Errors
/// [`Error::KnownAnswerMismatch`] with the first step that failed; the later ones are then not run.
pub fn run_signature_known_answer(
    algorithm: &'static SignatureAlgorithm,
    observer: &mut dyn KnownAnswerObserver,
) -> Result<(), Error> {
    run_signature_known_answer_on::<DefaultBackend>(algorithm, observer)
}

/// [`run_signature_known_answer`] on a backend of choice.
///
/// # Errors
/// Those of [`run_signature_known_answer`].
pub fn run_signature_known_answer_on<B: Backend>(
    algorithm: &'static SignatureAlgorithm,
    observer: &mut dyn KnownAnswerObserver,
) -> Result<(), Error> {
    let known = SignatureKnownAnswer::of(algorithm)?;
    let key = || SignaturePrivateKey::<B>::from_seed(algorithm, known.seed);
    let holds = |signature: &[u8]| {
        let public = SignaturePublicKey::<B>::from_bytes(algorithm, known.public_key)?;
        match public.verify(MESSAGE, ENCODING, signature) {
            Ok(()) => Ok(1),
            Err(Error::SignatureInvalid { .. }) => Ok(0),
            Err(failed) => Err(failed),
        }
    };
    run_step(algorithm.name, observer, KnownAnswerStep::KeyGeneration, known.public_key, &|| {
        Ok(key()?.public_key().to_vec())
    })?;
    if algorithm.composite.is_none() {
        run_step(algorithm.name, observer, KnownAnswerStep::Signing, known.signature, &|| {
            key()?.sign(MESSAGE, ENCODING, SigningRandomness::Given(known.randomness))
        })?;
    } else {
        // A composite's ECDSA half is never the same twice, so what is known is that it verifies.
        run_step(algorithm.name, observer, KnownAnswerStep::Signing, &[1], &|| {
            Ok(vec![holds(&key()?.sign(MESSAGE, ENCODING, SigningRandomness::Hedged)?)?])
        })?;
    }
    run_step(algorithm.name, observer, KnownAnswerStep::Verification, &[1, 0, 0], &|| {
        let with_wrong_bit = |position: usize| {
            let mut wrong = known.signature.to_vec();
            wrong[position] ^= 1;
            wrong
        };
        let last = known.signature.len() - 1;
        Ok(vec![holds(known.signature)?, holds(&with_wrong_bit(0))?, holds(&with_wrong_bit(last))?])
    })
}

/// The parts of a signature algorithm's file in `known_answer/`, which has them one after the other in this order.
struct SignatureKnownAnswer {
    seed: &'static [u8],
    randomness: &'static [u8; MlDsa::RANDOMNESS_BYTES],
    public_key: &'static [u8],
    signature: &'static [u8],
}

impl SignatureKnownAnswer {
    fn of(algorithm: &SignatureAlgorithm) -> Result<Self, Error> {
        const WRONG: Error = Error::Backend("known answer");
        let (seed, rest) = algorithm.known_answer.split_at_checked(algorithm.seed_bytes()).ok_or(WRONG)?;
        let (randomness, rest) = rest.split_first_chunk().ok_or(WRONG)?;
        let (public_key, signature) = rest.split_at_checked(algorithm.public_key_bytes()).ok_or(WRONG)?;
        if signature.is_empty() {
            return Err(WRONG);
        }
        Ok(Self { seed, randomness, public_key, signature })
    }
}

/// Computes the file of known answers for a signature algorithm, as [`compute_known_answer`] does for a KEM. Of a
/// composite with ECDSA the signature is another one each time.
///
/// Seed and randomness count up from the last number of the object identifier.
///
/// # Errors
/// [`Error::Backend`] and [`Error::Randomness`] if the machine fails.
pub fn compute_signature_known_answer<B: Backend>(
    algorithm: &'static SignatureAlgorithm,
) -> Result<Vec<u8>, Error> {
    let first = algorithm.oid.rsplit('.').next().and_then(|last| last.parse().ok()).unwrap_or(0u8);
    let counted = |from: usize, bytes: usize| -> Vec<u8> {
        (0..bytes).map(|position| first.wrapping_add((from + position) as u8)).collect()
    };
    let mut seed = counted(0, MlDsa::SEED_BYTES);
    if let Some(composite) = algorithm.composite {
        let (before, after) = composite.classical.scalar_frame();
        seed.extend(
            [before, &counted(MlDsa::SEED_BYTES, composite.classical.scalar_bytes()), after].concat(),
        );
    }
    let mut randomness = [0; MlDsa::RANDOMNESS_BYTES];
    randomness.copy_from_slice(&counted(0x80, MlDsa::RANDOMNESS_BYTES));
    let key = SignaturePrivateKey::<B>::from_seed(algorithm, &seed)?;
    let signing = match algorithm.composite {
        None => SigningRandomness::Given(&randomness),
        Some(_) => SigningRandomness::Hedged,
    };
    let signature = key.sign(MESSAGE, ENCODING, signing)?;
    Ok([&seed, &randomness[..], key.public_key(), &signature].concat())
}
