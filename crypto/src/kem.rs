//! Keys of a [`KemAlgorithm`] and what is done with them, on any [`Backend`].
//!
//! Everything about a hybrid is here: which half stands where, and which checks a peer's bytes must pass.

use crate::modulus::coefficients_are_reduced;
use crate::{Backend, Curve, DefaultBackend, Error, KemAlgorithm, MlKem, Order};
use std::fmt;
use std::sync::Arc;
use zeroize::{Zeroize, Zeroizing};

/// A public key: parsed and checked, so that encapsulating to it cannot fail on account of the peer.
///
/// Cheap to clone, and shareable between threads.
pub struct KemPublicKey<B: Backend = DefaultBackend>(Arc<PublicKey<B>>);

struct PublicKey<B: Backend> {
    algorithm: &'static KemAlgorithm,
    encoded: Box<[u8]>,
    encapsulation_key: B::EncapsulationKey,
    point: Option<B::Point>,
}

impl<B: Backend> KemPublicKey<B> {
    /// Takes an encoded public key, the TLS client's share, of [`KemAlgorithm::public_key_bytes`] bytes.
    ///
    /// # Errors
    /// [`Error::PublicKeyLength`]; [`Error::PublicKeyModulus`] if an ML-KEM coefficient is out of range (FIPS 203
    /// section 7.2); [`Error::PublicKeyPoint`] if the NIST-curve half is not an uncompressed point on the curve;
    /// [`Error::AllZeroSharedSecret`] if the X25519 half has small order.
    pub fn from_bytes(algorithm: &'static KemAlgorithm, bytes: &[u8]) -> Result<Self, Error> {
        let expected = algorithm.public_key_bytes();
        if bytes.len() != expected {
            return Err(Error::PublicKeyLength { algorithm: algorithm.name, expected, got: bytes.len() });
        }
        let (ek, share) = halves(algorithm, bytes, algorithm.ml_kem.encapsulation_key_bytes());
        if !coefficients_are_reduced(&ek[..algorithm.ml_kem.vector_bytes()]) {
            return Err(Error::PublicKeyModulus { algorithm: algorithm.name });
        }
        let point = match algorithm.curve {
            None => None,
            Some((curve, _)) => Some(
                peer_point::<B>(algorithm, curve, share)?
                    .ok_or(Error::PublicKeyPoint { algorithm: algorithm.name, curve: curve.name() })?,
            ),
        };
        let encapsulation_key = B::encapsulation_key(algorithm.ml_kem, ek)?;
        Ok(Self(Arc::new(PublicKey { algorithm, encoded: bytes.into(), encapsulation_key, point })))
    }

    /// The algorithm the key is for.
    pub fn algorithm(&self) -> &'static KemAlgorithm {
        self.0.algorithm
    }

    /// The encoded key.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0.encoded
    }

    /// Makes a fresh shared secret and the ciphertext (the TLS server's share) that lets the private key's owner find
    /// it.
    ///
    /// # Errors
    /// [`Error::BufferLength`] unless the buffers have exactly [`KemAlgorithm::ciphertext_bytes`] and
    /// [`KemAlgorithm::shared_secret_bytes`] bytes; [`Error::Randomness`] and [`Error::Backend`] if the machine fails.
    /// After an error the buffers hold nothing secret.
    pub fn encapsulate(&self, ciphertext: &mut [u8], shared_secret: &mut [u8]) -> Result<(), Error> {
        let mut encoded = Zeroizing::new([0; Curve::P384.scalar_bytes()]);
        let ephemeral = |curve: Curve| random_scalar::<B>(curve, &mut encoded[..curve.scalar_bytes()]);
        self.encapsulate_with(None, ephemeral, ciphertext, shared_secret)
    }

    /// Encapsulates with given randomness, [`KemAlgorithm::randomness_bytes`] bytes: ML-KEM's `m`, then the curve's
    /// ephemeral scalar.
    ///
    /// For tests, the oracle and the self-test only: randomness used twice gives the secret away.
    ///
    /// # Errors
    /// Those of [`Self::encapsulate`]; [`Error::RandomnessLength`]; [`Error::Scalar`] if the scalar is zero or not below
    /// the order of the curve's group.
    pub fn encapsulate_deterministic(
        &self,
        randomness: &[u8],
        ciphertext: &mut [u8],
        shared_secret: &mut [u8],
    ) -> Result<(), Error> {
        let algorithm = self.0.algorithm;
        let wrong_length = Error::RandomnessLength {
            algorithm: algorithm.name,
            expected: algorithm.randomness_bytes(),
            got: randomness.len(),
        };
        if randomness.len() != algorithm.randomness_bytes() {
            return Err(wrong_length);
        }
        let (m, scalar) = randomness.split_first_chunk().ok_or(wrong_length)?;
        let ephemeral = |curve| checked_scalar::<B>(algorithm, curve, scalar);
        self.encapsulate_with(Some(m), ephemeral, ciphertext, shared_secret)
    }

    fn encapsulate_with(
        &self,
        m: Option<&[u8; MlKem::RANDOMNESS_BYTES]>,
        ephemeral: impl FnOnce(Curve) -> Result<B::Scalar, Error>,
        ciphertext: &mut [u8],
        shared_secret: &mut [u8],
    ) -> Result<(), Error> {
        let algorithm = self.0.algorithm;
        check_buffer("ciphertext", ciphertext, algorithm.ciphertext_bytes())?;
        check_buffer("shared secret", shared_secret, algorithm.shared_secret_bytes())?;
        let (ml_kem_ciphertext, share) =
            halves_mut(algorithm, ciphertext, algorithm.ml_kem.ciphertext_bytes());
        wiped_on_error(shared_secret, |shared_secret| {
            let (ml_kem_secret, curve_secret) = halves_mut(algorithm, shared_secret, MlKem::SECRET_BYTES);
            B::encapsulate(&self.0.encapsulation_key, m, ml_kem_ciphertext, ml_kem_secret)?;
            if let (Some((curve, _)), Some(point)) = (algorithm.curve, &self.0.point) {
                let scalar = ephemeral(curve)?;
                B::public_value(&scalar, share)?;
                diffie_hellman::<B>(algorithm, &scalar, point, curve_secret)?;
            }
            Ok(())
        })
    }
}

impl<B: Backend> Clone for KemPublicKey<B> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<B: Backend> fmt::Debug for KemPublicKey<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KemPublicKey")
            .field("algorithm", &self.0.algorithm.name)
            .field("backend", &B::NAME)
            .finish_non_exhaustive()
    }
}

/// A private key with its public key. Its secrets are wiped when the last clone is dropped.
///
/// Cheap to clone, and shareable between threads.
pub struct KemPrivateKey<B: Backend = DefaultBackend>(Arc<PrivateKey<B>>);

struct PrivateKey<B: Backend> {
    algorithm: &'static KemAlgorithm,
    public: Box<[u8]>,
    secret: Secret,
    /// Whether the key was made from a seed, so that `secret` holds ML-KEM's part of it.
    seed_is_known: bool,
    decapsulation_key: B::DecapsulationKey,
    scalar: Option<B::Scalar>,
}

/// A key's seed: ML-KEM's `d ‖ z`, then the curve's scalar. On the heap, so that moving it leaves no copy behind.
type Secret = Zeroizing<Box<[u8]>>;

fn empty_secret(algorithm: &KemAlgorithm) -> Secret {
    Zeroizing::new(vec![0; algorithm.seed_bytes()].into_boxed_slice())
}

impl<B: Backend> KemPrivateKey<B> {
    /// Makes a new key pair from the backend's random generator.
    ///
    /// # Errors
    /// [`Error::Randomness`] and [`Error::Backend`] if the machine fails.
    pub fn generate(algorithm: &'static KemAlgorithm) -> Result<Self, Error> {
        let mut secret = empty_secret(algorithm);
        let scalar = match algorithm.curve {
            Some((Curve::X25519, _)) | None => {
                // Any 32 bytes are an X25519 scalar, so one call fetches both halves' randomness.
                B::random(&mut secret)?;
                None
            }
            Some((curve, _)) => {
                let (ml_kem_seed, scalar) = secret.split_at_mut(MlKem::SEED_BYTES);
                B::random(ml_kem_seed)?;
                Some(random_scalar::<B>(curve, scalar)?)
            }
        };
        Self::from_secret(algorithm, secret, scalar)
    }

    /// Makes the key pair that belongs to a seed of [`KemAlgorithm::seed_bytes`] bytes: FIPS 203's `d ‖ z` (algorithm
    /// 16), then the curve's scalar.
    ///
    /// # Errors
    /// [`Error::SeedLength`]; [`Error::Scalar`] if the scalar is zero or not below the order of the curve's group.
    pub fn from_seed(algorithm: &'static KemAlgorithm, seed: &[u8]) -> Result<Self, Error> {
        let expected = algorithm.seed_bytes();
        if seed.len() != expected {
            return Err(Error::SeedLength { algorithm: algorithm.name, expected, got: seed.len() });
        }
        let mut secret = empty_secret(algorithm);
        secret.copy_from_slice(seed);
        Self::from_secret(algorithm, secret, None)
    }

    /// `scalar` is the one in `secret` if it was parsed before.
    fn from_secret(
        algorithm: &'static KemAlgorithm,
        secret: Secret,
        scalar: Option<B::Scalar>,
    ) -> Result<Self, Error> {
        let mut public = vec![0; algorithm.public_key_bytes()].into_boxed_slice();
        let (ek, share) = halves_mut(algorithm, &mut public, algorithm.ml_kem.encapsulation_key_bytes());
        let (ml_kem_seed, scalar_bytes) = secret.split_first_chunk().ok_or(Error::Backend("seed"))?;
        let scalar = match (algorithm.curve, scalar) {
            (None, _) => None,
            (Some(_), Some(parsed)) => Some(parsed),
            (Some((curve, _)), None) => Some(checked_scalar::<B>(algorithm, curve, scalar_bytes)?),
        };
        if let Some(scalar) = &scalar {
            B::public_value(scalar, share)?;
        }
        let decapsulation_key = B::decapsulation_key_from_seed(algorithm.ml_kem, ml_kem_seed, ek)?;
        Ok(Self(Arc::new(PrivateKey {
            algorithm,
            public,
            secret,
            seed_is_known: true,
            decapsulation_key,
            scalar,
        })))
    }

    /// Takes an expanded private key of [`KemAlgorithm::private_key_bytes`] bytes: FIPS 203's `dk` and the curve's
    /// scalar in the order of the public key. The public key is computed again from it.
    ///
    /// # Errors
    /// [`Error::PrivateKeyLength`]; [`Error::PrivateKeyModulus`] if a coefficient is out of range;
    /// [`Error::PrivateKeyHash`] (FIPS 203 section 7.3); [`Error::PrivateKeyPair`] if it cannot decapsulate what is
    /// encapsulated to its own public key; [`Error::Scalar`].
    pub fn from_bytes(algorithm: &'static KemAlgorithm, expanded: &[u8]) -> Result<Self, Error> {
        let expected = algorithm.private_key_bytes();
        if expanded.len() != expected {
            return Err(Error::PrivateKeyLength { algorithm: algorithm.name, expected, got: expanded.len() });
        }
        let ml_kem = algorithm.ml_kem;
        let (dk, scalar_bytes) = halves(algorithm, expanded, ml_kem.decapsulation_key_bytes());
        // dk = s ‖ ek ‖ H(ek) ‖ z (FIPS 203 algorithm 16), and s and ek begin with a vector each.
        let ek = &dk[ml_kem.vector_bytes()..][..ml_kem.encapsulation_key_bytes()];
        if !coefficients_are_reduced(&dk[..2 * ml_kem.vector_bytes()]) {
            return Err(Error::PrivateKeyModulus { algorithm: algorithm.name });
        }
        let decapsulation_key = B::decapsulation_key_from_bytes(ml_kem, dk)?
            .ok_or(Error::PrivateKeyHash { algorithm: algorithm.name })?;
        if !halves_fit::<B>(ml_kem, ek, &decapsulation_key)? {
            return Err(Error::PrivateKeyPair { algorithm: algorithm.name });
        }

        let mut secret = empty_secret(algorithm);
        let mut public = vec![0; algorithm.public_key_bytes()].into_boxed_slice();
        let (public_ek, share) = halves_mut(algorithm, &mut public, ek.len());
        public_ek.copy_from_slice(ek);
        let scalar = match algorithm.curve {
            None => None,
            Some((curve, _)) => {
                let scalar = checked_scalar::<B>(algorithm, curve, scalar_bytes)?;
                B::public_value(&scalar, share)?;
                secret[MlKem::SEED_BYTES..].copy_from_slice(scalar_bytes);
                Some(scalar)
            }
        };
        Ok(Self(Arc::new(PrivateKey {
            algorithm,
            public,
            secret,
            seed_is_known: false,
            decapsulation_key,
            scalar,
        })))
    }

    /// The algorithm the key is for.
    pub fn algorithm(&self) -> &'static KemAlgorithm {
        self.0.algorithm
    }

    /// The encoded public key, the TLS client's share.
    pub fn public_key(&self) -> &[u8] {
        &self.0.public
    }

    /// The seed, if the key was generated here or made from one; secret.
    pub fn seed(&self) -> Option<&[u8]> {
        self.0.seed_is_known.then_some(&self.0.secret)
    }

    /// The expanded private key, as [`Self::from_bytes`] takes it.
    ///
    /// # Errors
    /// [`Error::Backend`] if the machine fails.
    pub fn to_bytes(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        let algorithm = self.0.algorithm;
        let mut expanded = Zeroizing::new(vec![0; algorithm.private_key_bytes()]);
        let (dk, scalar) = halves_mut(algorithm, &mut expanded, algorithm.ml_kem.decapsulation_key_bytes());
        B::decapsulation_key_to_bytes(&self.0.decapsulation_key, dk)?;
        scalar.copy_from_slice(&self.0.secret[MlKem::SEED_BYTES..]);
        Ok(expanded)
    }

    /// Finds the shared secret of a ciphertext, the TLS server's share.
    ///
    /// A wrong ML-KEM ciphertext of the right length is not an error: the secret is then one that nobody else knows
    /// (implicit rejection, FIPS 203 algorithm 18).
    ///
    /// # Errors
    /// [`Error::CiphertextLength`]; [`Error::CiphertextPoint`] if the NIST-curve half is not an uncompressed point on
    /// the curve; [`Error::AllZeroSharedSecret`] if the X25519 half has small order; [`Error::BufferLength`] unless
    /// `shared_secret` has exactly [`KemAlgorithm::shared_secret_bytes`] bytes; [`Error::Backend`] if the machine fails.
    /// After an error the buffer holds nothing secret.
    pub fn decapsulate(&self, ciphertext: &[u8], shared_secret: &mut [u8]) -> Result<(), Error> {
        let algorithm = self.0.algorithm;
        let expected = algorithm.ciphertext_bytes();
        if ciphertext.len() != expected {
            return Err(Error::CiphertextLength {
                algorithm: algorithm.name,
                expected,
                got: ciphertext.len(),
            });
        }
        check_buffer("shared secret", shared_secret, algorithm.shared_secret_bytes())?;
        let (ml_kem_ciphertext, share) = halves(algorithm, ciphertext, algorithm.ml_kem.ciphertext_bytes());
        wiped_on_error(shared_secret, |shared_secret| {
            let (ml_kem_secret, curve_secret) = halves_mut(algorithm, shared_secret, MlKem::SECRET_BYTES);
            if let (Some((curve, _)), Some(scalar)) = (algorithm.curve, &self.0.scalar) {
                let point = peer_point::<B>(algorithm, curve, share)?
                    .ok_or(Error::CiphertextPoint { algorithm: algorithm.name, curve: curve.name() })?;
                diffie_hellman::<B>(algorithm, scalar, &point, curve_secret)?;
            }
            B::decapsulate(&self.0.decapsulation_key, ml_kem_ciphertext, ml_kem_secret)
        })
    }
}

impl<B: Backend> Clone for KemPrivateKey<B> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<B: Backend> fmt::Debug for KemPrivateKey<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KemPrivateKey")
            .field("algorithm", &self.0.algorithm.name)
            .field("backend", &B::NAME)
            .finish_non_exhaustive()
    }
}

/// The ML-KEM half of an encoding, of `ml_kem_bytes`, and the curve half, empty unless the algorithm is a hybrid.
fn halves<'a>(algorithm: &KemAlgorithm, bytes: &'a [u8], ml_kem_bytes: usize) -> (&'a [u8], &'a [u8]) {
    match algorithm.curve {
        Some((_, Order::CurveFirst)) => {
            let (curve, ml_kem) = bytes.split_at(bytes.len() - ml_kem_bytes);
            (ml_kem, curve)
        }
        Some((_, Order::MlKemFirst)) | None => bytes.split_at(ml_kem_bytes),
    }
}

/// [`halves`] to write to.
fn halves_mut<'a>(
    algorithm: &KemAlgorithm,
    bytes: &'a mut [u8],
    ml_kem_bytes: usize,
) -> (&'a mut [u8], &'a mut [u8]) {
    match algorithm.curve {
        Some((_, Order::CurveFirst)) => {
            let (curve, ml_kem) = bytes.split_at_mut(bytes.len() - ml_kem_bytes);
            (ml_kem, curve)
        }
        Some((_, Order::MlKemFirst)) | None => bytes.split_at_mut(ml_kem_bytes),
    }
}

fn check_buffer(what: &'static str, buffer: &[u8], expected: usize) -> Result<(), Error> {
    if buffer.len() == expected {
        Ok(())
    } else {
        Err(Error::BufferLength { what, expected, got: buffer.len() })
    }
}

fn wiped_on_error(
    secret: &mut [u8],
    operation: impl FnOnce(&mut [u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let result = operation(secret);
    if result.is_err() {
        secret.zeroize();
    }
    result
}

/// Checks and takes the curve half of a peer's share; `None` when it is not an uncompressed point on the curve.
fn peer_point<B: Backend>(
    algorithm: &KemAlgorithm,
    curve: Curve,
    share: &[u8],
) -> Result<Option<B::Point>, Error> {
    // SEC 1 section 2.3.3; TLS 1.3 allows no other form (RFC 8446 section 4.2.8.2).
    const UNCOMPRESSED: u8 = 4;
    match curve {
        Curve::X25519 if x25519_small_order(share) => {
            Err(Error::AllZeroSharedSecret { algorithm: algorithm.name })
        }
        Curve::P256 | Curve::P384 if share.first() != Some(&UNCOMPRESSED) => Ok(None),
        _ => B::point(curve, share),
    }
}

/// Whether an X25519 value is one of those whose product with any clamped scalar is zero.
///
/// Refusing them when the share comes in, and not when the product is found to be zero, lets libssl answer with
/// `illegal_parameter`. The product is looked at all the same ([`diffie_hellman`]).
fn x25519_small_order(value: &[u8]) -> bool {
    X25519_SMALL_ORDER.iter().any(|small| {
        // RFC 7748 section 5: the top bit is ignored.
        value.split_last().is_some_and(|(last, rest)| rest == &small[..31] && last & 0x7F == small[31])
    })
}

/// The u coordinates of all points of order 1, 2, 4 and 8 on Curve25519 and its twist, in every encoding below 2^255,
/// little-endian: 0, 1, two of order 8, p - 1, p, p + 1 (D. J. Bernstein, <https://cr.yp.to/ecdh.html#validate>).
const X25519_SMALL_ORDER: [[u8; 32]; 7] = [
    [0; 32],
    with_first(1, [0; 32]),
    [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda,
        0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
    ],
    [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b, 0x04,
        0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
    ],
    with_first(0xec, X25519_PRIME),
    X25519_PRIME,
    with_first(0xee, X25519_PRIME),
];

/// p = 2^255 - 19, little-endian.
const X25519_PRIME: [u8; 32] = {
    let mut prime = with_first(0xed, [0xff; 32]);
    prime[31] = 0x7f;
    prime
};

const fn with_first(first: u8, mut value: [u8; 32]) -> [u8; 32] {
    value[0] = first;
    value
}

fn checked_scalar<B: Backend>(
    algorithm: &KemAlgorithm,
    curve: Curve,
    encoded: &[u8],
) -> Result<B::Scalar, Error> {
    B::scalar(curve, encoded)?.ok_or(Error::Scalar { algorithm: algorithm.name, curve: curve.name() })
}

/// A fresh scalar, encoded into `encoded` and parsed, by rejection (FIPS 186-5 appendix A.2.2): a candidate falls outside
/// the range of P-256 once in 2^32, of P-384 once in 2^190.
fn random_scalar<B: Backend>(curve: Curve, encoded: &mut [u8]) -> Result<B::Scalar, Error> {
    const TRIES: usize = 8;
    for _ in 0..TRIES {
        B::random(encoded)?;
        if let Some(scalar) = B::scalar(curve, encoded)? {
            return Ok(scalar);
        }
    }
    Err(Error::Randomness)
}

fn diffie_hellman<B: Backend>(
    algorithm: &KemAlgorithm,
    scalar: &B::Scalar,
    point: &B::Point,
    secret: &mut [u8],
) -> Result<(), Error> {
    if B::diffie_hellman(scalar, point, secret)? {
        Ok(())
    } else {
        Err(Error::AllZeroSharedSecret { algorithm: algorithm.name })
    }
}

/// Whether what is encapsulated to `ek` is found again: a private key whose `s` was altered passes every check of FIPS
/// 203 section 7.3 and would answer each ciphertext with a useless secret, silently.
fn halves_fit<B: Backend>(ml_kem: MlKem, ek: &[u8], dk: &B::DecapsulationKey) -> Result<bool, Error> {
    let mut ciphertext = [0; MlKem::MlKem1024.ciphertext_bytes()];
    let ciphertext = &mut ciphertext[..ml_kem.ciphertext_bytes()];
    let mut sent = Zeroizing::new([0; MlKem::SECRET_BYTES]);
    let mut found = Zeroizing::new([0; MlKem::SECRET_BYTES]);
    B::encapsulate(&B::encapsulation_key(ml_kem, ek)?, None, ciphertext, &mut *sent)?;
    B::decapsulate(dk, ciphertext, &mut *found)?;
    Ok(*sent == *found)
}
