//! Keys of a [`SignatureAlgorithm`] and what is done with them, on any [`Backend`].
//!
//! Everything about what is signed is here: ML-DSA's message representative µ (FIPS 204 algorithms 2 and 7), and how a
//! composite puts two signatures together (`draft-ietf-lamps-pq-composite-sigs-19` section 3).

use crate::{Backend, Classical, Composite, DefaultBackend, Error, HashFunction, MlDsa, SignatureAlgorithm};
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

/// How a message becomes what ML-DSA signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageEncoding<'a> {
    /// FIPS 204's `ML-DSA.Sign`, and the draft's `Composite-ML-DSA.Sign`: with a context string of at most 255 bytes, empty
    /// in TLS and certificates.
    Pure {
        /// The context string.
        context: &'a [u8],
    },
    /// FIPS 204's `ML-DSA.Sign_internal`: the message is hashed as it is, for callers that have encoded it themselves.
    /// Composites have no such form.
    Raw,
}

impl MessageEncoding<'_> {
    /// The usual encoding, with an empty context string.
    pub const PURE: Self = Self::Pure { context: &[] };
}

/// Where the randomness `rnd` of an ML-DSA signature comes from (FIPS 204 section 3.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SigningRandomness<'a> {
    /// From the backend's generator: what to use.
    #[default]
    Hedged,
    /// 32 zero bytes, so that the same message gets the same signature. ML-DSA alone, no composite.
    Deterministic,
    /// The given bytes, for tests with known answers. ML-DSA alone, no composite.
    Given(&'a [u8; MlDsa::RANDOMNESS_BYTES]),
}

/// A public key, ready to verify with.
///
/// Cheap to clone, and shareable between threads.
pub struct SignaturePublicKey<B: Backend = DefaultBackend>(Arc<PublicKey<B>>);

struct PublicKey<B: Backend> {
    algorithm: &'static SignatureAlgorithm,
    encoded: Box<[u8]>,
    hash: KeyHash,
    ml_dsa: B::VerifyingKey,
    classical: Option<B::ClassicalVerifyingKey>,
}

impl<B: Backend> SignaturePublicKey<B> {
    /// Takes an encoded public key of [`SignatureAlgorithm::public_key_bytes`] bytes: ML-DSA's, then a composite's point or
    /// Ed25519 key. Every string of the right length is an ML-DSA public key.
    ///
    /// # Errors
    /// [`Error::PublicKeyLength`]; [`Error::PublicKeyPoint`] if the classical half is not an uncompressed point on the
    /// curve, or not a canonical Ed25519 encoding; [`Error::Backend`] if the machine fails.
    pub fn from_bytes(algorithm: &'static SignatureAlgorithm, bytes: &[u8]) -> Result<Self, Error> {
        let expected = algorithm.public_key_bytes();
        if bytes.len() != expected {
            return Err(Error::PublicKeyLength { algorithm: algorithm.name, expected, got: bytes.len() });
        }
        let (ml_dsa, classical) = bytes.split_at(algorithm.ml_dsa.public_key_bytes());
        Ok(Self(Arc::new(PublicKey {
            algorithm,
            encoded: bytes.into(),
            hash: KeyHash::of::<B>(ml_dsa)?,
            ml_dsa: B::verifying_key(algorithm.ml_dsa, ml_dsa)?,
            classical: match algorithm.composite {
                None => None,
                Some(composite) => Some(classical_key::<B>(algorithm, composite.classical, classical)?),
            },
        })))
    }

    /// The algorithm the key is for.
    pub fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.0.algorithm
    }

    /// The encoded key.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0.encoded
    }

    /// Checks a signature on a message.
    ///
    /// # Errors
    /// [`Error::SignatureInvalid`] unless it holds, both halves of a composite, whatever is wrong with it;
    /// [`Error::ContextLength`]; [`Error::Unsupported`] for [`MessageEncoding::Raw`] with a composite; [`Error::Backend`]
    /// if the machine fails.
    pub fn verify(
        &self,
        message: &[u8],
        encoding: MessageEncoding<'_>,
        signature: &[u8],
    ) -> Result<(), Error> {
        let mut hash = self.message_hash(encoding)?;
        hash.update(message)?;
        self.verify_representative(&hash.finish()?, signature)
    }

    /// Begins to take in a message piece by piece, to be verified with [`Self::verify_representative`].
    ///
    /// # Errors
    /// [`Error::ContextLength`]; [`Error::Unsupported`] for [`MessageEncoding::Raw`] with a composite; [`Error::Backend`]
    /// if the machine fails.
    pub fn message_hash(&self, encoding: MessageEncoding<'_>) -> Result<MessageHash<B>, Error> {
        MessageHash::new(self.0.algorithm, &self.0.hash, encoding)
    }

    /// [`Self::verify`] of a message that was hashed before.
    ///
    /// # Errors
    /// [`Error::SignatureInvalid`], also if `representative` is of another algorithm; [`Error::Backend`].
    pub fn verify_representative(
        &self,
        representative: &MessageRepresentative,
        signature: &[u8],
    ) -> Result<(), Error> {
        let PublicKey { algorithm, ml_dsa, classical, .. } = &*self.0;
        let invalid = Error::SignatureInvalid { algorithm: algorithm.name };
        let (for_ml_dsa, for_classical) =
            signature.split_at_checked(algorithm.ml_dsa.signature_bytes()).ok_or(invalid)?;
        if representative.algorithm != *algorithm || (classical.is_none() && !for_classical.is_empty()) {
            return Err(invalid);
        }
        // Both are computed whatever the first says, as the draft's section 3.3 has it.
        let ml_dsa_holds = B::verify_mu(ml_dsa, &representative.mu, for_ml_dsa)?;
        let classical_holds = match classical {
            None => true,
            Some(key) => B::classical_verify(key, &representative.composite, for_classical)?,
        };
        if ml_dsa_holds && classical_holds { Ok(()) } else { Err(invalid) }
    }
}

impl<B: Backend> Clone for SignaturePublicKey<B> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<B: Backend> fmt::Debug for SignaturePublicKey<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignaturePublicKey")
            .field("algorithm", &self.0.algorithm.name)
            .field("backend", &B::NAME)
            .finish_non_exhaustive()
    }
}

/// A private key with its public key. Its secrets are wiped when the last clone is dropped.
///
/// Holds ML-DSA's expanded form, so that no signature derives it again. A composite's halves cannot be taken apart:
/// neither signs alone. Cheap to clone, and shareable between threads.
pub struct SignaturePrivateKey<B: Backend = DefaultBackend>(Arc<PrivateKey<B>>);

struct PrivateKey<B: Backend> {
    algorithm: &'static SignatureAlgorithm,
    public: Box<[u8]>,
    hash: KeyHash,
    /// The short form, if the key was made from one.
    seed: Option<Secret>,
    ml_dsa: B::SigningKey,
    classical: Option<B::ClassicalSigningKey>,
}

/// On the heap, so that moving it leaves no copy behind.
type Secret = Zeroizing<Box<[u8]>>;

impl<B: Backend> SignaturePrivateKey<B> {
    /// Makes a new key pair from the backend's random generator; in a composite, both halves.
    ///
    /// # Errors
    /// [`Error::Randomness`] and [`Error::Backend`] if the machine fails.
    pub fn generate(algorithm: &'static SignatureAlgorithm) -> Result<Self, Error> {
        // A random scalar falls outside the range of P-256 once in 2^32 (FIPS 186-5 appendix A.2.2).
        const TRIES: usize = 8;
        for _ in 0..TRIES {
            let mut seed = Zeroizing::new(vec![0; algorithm.seed_bytes()].into_boxed_slice());
            let (ml_dsa, classical) = seed.split_at_mut(MlDsa::SEED_BYTES);
            B::random(ml_dsa)?;
            if let Some(Composite { classical: kind, .. }) = algorithm.composite {
                let (before, after) = kind.scalar_frame();
                let (head, rest) = classical.split_at_mut(before.len());
                let (scalar, tail) = rest.split_at_mut(kind.scalar_bytes());
                head.copy_from_slice(before);
                B::random(scalar)?;
                tail.copy_from_slice(after);
            }
            match Self::from_secret(algorithm, seed) {
                Err(Error::Scalar { .. }) => continue,
                made => return made,
            }
        }
        Err(Error::Randomness)
    }

    /// Makes the key pair that belongs to a seed of [`SignatureAlgorithm::seed_bytes`] bytes: FIPS 204's ξ (algorithm 6);
    /// in a composite then an `ECPrivateKey` in DER, named curve and no public key, or Ed25519's seed. It is what a
    /// PKCS#8 file of RFC 9881 has under `[0]`, and that of a composite as a whole.
    ///
    /// # Errors
    /// [`Error::SeedLength`]; [`Error::PrivateKeyEncoding`] if the `ECPrivateKey` is not the one form there is;
    /// [`Error::Scalar`] if its scalar is zero or not below the order of the curve's group; [`Error::Backend`].
    pub fn from_seed(algorithm: &'static SignatureAlgorithm, seed: &[u8]) -> Result<Self, Error> {
        let expected = algorithm.seed_bytes();
        if seed.len() != expected {
            return Err(Error::SeedLength { algorithm: algorithm.name, expected, got: seed.len() });
        }
        Self::from_secret(algorithm, Zeroizing::new(seed.into()))
    }

    fn from_secret(algorithm: &'static SignatureAlgorithm, seed: Secret) -> Result<Self, Error> {
        let mut public = vec![0; algorithm.public_key_bytes()].into_boxed_slice();
        let (ml_dsa_public, classical_public) = public.split_at_mut(algorithm.ml_dsa.public_key_bytes());
        let (ml_dsa_seed, classical_seed) = seed.split_first_chunk().ok_or(Error::Backend("seed"))?;
        // The cheap half first: `generate` comes again when it is refused.
        let classical = match algorithm.composite {
            None => None,
            Some(Composite { classical, .. }) => {
                let (before, after) = classical.scalar_frame();
                let scalar =
                    classical_seed.strip_prefix(before).and_then(|rest| rest.strip_suffix(after)).ok_or(
                        Error::PrivateKeyEncoding { algorithm: algorithm.name, classical: classical.name() },
                    )?;
                let key = B::classical_signing_key(classical, scalar, classical_public)?;
                Some(key.ok_or(Error::Scalar { algorithm: algorithm.name, curve: classical.name() })?)
            }
        };
        let ml_dsa = B::signing_key_from_seed(algorithm.ml_dsa, ml_dsa_seed, ml_dsa_public)?;
        let hash = KeyHash::of::<B>(ml_dsa_public)?;
        Ok(Self(Arc::new(PrivateKey { algorithm, public, hash, seed: Some(seed), ml_dsa, classical })))
    }

    /// Takes an expanded ML-DSA private key of [`SignatureAlgorithm::private_key_bytes`] bytes (FIPS 204 algorithm 24). The
    /// public key is computed from it.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a composite; [`Error::PrivateKeyLength`]; [`Error::PrivateKeyRange`] if a coefficient of
    /// `s1` or `s2` is out of range; [`Error::PrivateKeyPair`] if `t0` or `tr` is not what the rest gives;
    /// [`Error::Backend`].
    pub fn from_bytes(algorithm: &'static SignatureAlgorithm, expanded: &[u8]) -> Result<Self, Error> {
        let expected = expanded_bytes(algorithm)?;
        if expanded.len() != expected {
            return Err(Error::PrivateKeyLength { algorithm: algorithm.name, expected, got: expanded.len() });
        }
        if !secret_is_in_range(algorithm.ml_dsa, expanded) {
            return Err(Error::PrivateKeyRange { algorithm: algorithm.name });
        }
        let mut public = vec![0; algorithm.public_key_bytes()].into_boxed_slice();
        let ml_dsa = B::signing_key_from_bytes(algorithm.ml_dsa, expanded, &mut public)?
            .ok_or(Error::PrivateKeyPair { algorithm: algorithm.name })?;
        let hash = KeyHash::of::<B>(&public)?;
        Ok(Self(Arc::new(PrivateKey { algorithm, public, hash, seed: None, ml_dsa, classical: None })))
    }

    /// The algorithm the key is for.
    pub fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.0.algorithm
    }

    /// The encoded public key.
    pub fn public_key(&self) -> &[u8] {
        &self.0.public
    }

    /// The seed as [`Self::from_seed`] takes it, if the key was generated here or made from one; secret.
    pub fn seed(&self) -> Option<&[u8]> {
        self.0.seed.as_ref().map(|seed| &seed[..])
    }

    /// The expanded private key, as [`Self::from_bytes`] takes it.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a composite; [`Error::Backend`] if the machine fails.
    pub fn to_bytes(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        let mut expanded = Zeroizing::new(vec![0; expanded_bytes(self.0.algorithm)?]);
        B::signing_key_to_bytes(&self.0.ml_dsa, &mut expanded)?;
        Ok(expanded)
    }

    /// Signs a message; the signature has at most [`SignatureAlgorithm::max_signature_bytes`] bytes.
    ///
    /// # Errors
    /// [`Error::ContextLength`]; [`Error::Unsupported`] for [`MessageEncoding::Raw`], or any randomness but
    /// [`SigningRandomness::Hedged`], with a composite; [`Error::Randomness`] and [`Error::Backend`] if the machine fails.
    pub fn sign(
        &self,
        message: &[u8],
        encoding: MessageEncoding<'_>,
        randomness: SigningRandomness<'_>,
    ) -> Result<Vec<u8>, Error> {
        let mut hash = self.message_hash(encoding)?;
        hash.update(message)?;
        self.sign_representative(&hash.finish()?, randomness)
    }

    /// Begins to take in a message piece by piece, to be signed with [`Self::sign_representative`].
    ///
    /// # Errors
    /// Those of [`SignaturePublicKey::message_hash`].
    pub fn message_hash(&self, encoding: MessageEncoding<'_>) -> Result<MessageHash<B>, Error> {
        MessageHash::new(self.0.algorithm, &self.0.hash, encoding)
    }

    /// [`Self::sign`] of a message that was hashed before, with this key's [`Self::message_hash`] or its public key's.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if `representative` is of another algorithm, and as in [`Self::sign`];
    /// [`Error::Randomness`] and [`Error::Backend`] if the machine fails.
    pub fn sign_representative(
        &self,
        representative: &MessageRepresentative,
        randomness: SigningRandomness<'_>,
    ) -> Result<Vec<u8>, Error> {
        let PrivateKey { algorithm, ml_dsa, classical, .. } = &*self.0;
        let unsupported = |what| Error::Unsupported { algorithm: algorithm.name, what };
        if representative.algorithm != *algorithm {
            return Err(unsupported("a signature on another algorithm's message representative"));
        }
        if classical.is_some() && randomness != SigningRandomness::Hedged {
            return Err(unsupported("deterministic signatures"));
        }
        let mut drawn = Zeroizing::new([0; MlDsa::RANDOMNESS_BYTES]);
        let randomness = match randomness {
            SigningRandomness::Hedged => {
                B::random(&mut *drawn)?;
                &drawn
            }
            SigningRandomness::Deterministic => &*drawn,
            SigningRandomness::Given(given) => given,
        };
        let mut signature = Vec::with_capacity(algorithm.max_signature_bytes());
        signature.resize(algorithm.ml_dsa.signature_bytes(), 0);
        B::sign_mu(ml_dsa, &representative.mu, randomness, &mut signature)?;
        if let Some(key) = classical {
            signature.extend(B::classical_sign(key, &representative.composite)?);
        }
        Ok(signature)
    }
}

impl<B: Backend> Clone for SignaturePrivateKey<B> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<B: Backend> fmt::Debug for SignaturePrivateKey<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignaturePrivateKey")
            .field("algorithm", &self.0.algorithm.name)
            .field("backend", &B::NAME)
            .finish_non_exhaustive()
    }
}

/// A message being taken in for a certain key, of any length and in any number of pieces.
pub struct MessageHash<B: Backend = DefaultBackend> {
    algorithm: &'static SignatureAlgorithm,
    hash: B::Hash,
    /// What a composite needs at the end.
    composite: Option<(Composite, KeyHash, Box<[u8]>)>,
}

impl<B: Backend> MessageHash<B> {
    fn new(
        algorithm: &'static SignatureAlgorithm,
        key: &KeyHash,
        encoding: MessageEncoding<'_>,
    ) -> Result<Self, Error> {
        if let MessageEncoding::Pure { context } = encoding
            && context.len() > MlDsa::MAX_CONTEXT_BYTES
        {
            return Err(Error::ContextLength { algorithm: algorithm.name, got: context.len() });
        }
        let (hash, composite) = match (algorithm.composite, encoding) {
            (None, MessageEncoding::Pure { context }) => (key.pure::<B>(context)?, None),
            (None, MessageEncoding::Raw) => (key.raw::<B>()?, None),
            (Some(composite), MessageEncoding::Pure { context }) => {
                (B::hash(composite.pre_hash)?, Some((composite, key.clone(), context.into())))
            }
            (Some(_), MessageEncoding::Raw) => {
                return Err(Error::Unsupported { algorithm: algorithm.name, what: "a raw message encoding" });
            }
        };
        Ok(Self { algorithm, hash, composite })
    }

    /// Takes in the next piece of the message.
    ///
    /// # Errors
    /// [`Error::Backend`] if the machine fails.
    pub fn update(&mut self, message: &[u8]) -> Result<(), Error> {
        B::hash_update(&mut self.hash, message)
    }

    /// A second one that has taken in the same pieces.
    ///
    /// # Errors
    /// [`Error::Backend`] if the machine fails.
    pub fn try_clone(&self) -> Result<Self, Error> {
        Ok(Self {
            algorithm: self.algorithm,
            hash: B::hash_clone(&self.hash)?,
            composite: self.composite.clone(),
        })
    }

    /// The message is complete.
    ///
    /// # Errors
    /// [`Error::Backend`] if the machine fails.
    pub fn finish(self) -> Result<MessageRepresentative, Error> {
        let Self { algorithm, hash, composite } = self;
        let mut mu = [0; MlDsa::MU_BYTES];
        let Some((composite, key, context)) = composite else {
            B::hash_finish(hash, &mut mu)?;
            return Ok(MessageRepresentative { algorithm, mu, composite: [].into() });
        };
        let mut digest = vec![0; composite.pre_hash.output_bytes()];
        B::hash_finish(hash, &mut digest)?;
        // M' = Prefix ‖ Label ‖ len(ctx) ‖ ctx ‖ PH(M), section 2.2; the length is at most 255.
        let message =
            [COMPOSITE_PREFIX, composite.label.as_bytes(), &[context.len() as u8], &context, &digest]
                .concat();
        let mut hash = key.pure::<B>(composite.label.as_bytes())?;
        B::hash_update(&mut hash, &message)?;
        B::hash_finish(hash, &mut mu)?;
        Ok(MessageRepresentative { algorithm, mu, composite: message.into() })
    }
}

impl<B: Backend> fmt::Debug for MessageHash<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageHash").field("algorithm", &self.algorithm.name).finish_non_exhaustive()
    }
}

/// The draft's Prefix, section 2.2.
const COMPOSITE_PREFIX: &[u8] = b"CompositeAlgorithmSignatures2025";

/// What a signature is computed from in place of the message, whatever its length.
#[derive(Clone, PartialEq, Eq)]
pub struct MessageRepresentative {
    algorithm: &'static SignatureAlgorithm,
    mu: [u8; MlDsa::MU_BYTES],
    /// What a composite's classical half signs, empty without one.
    composite: Box<[u8]>,
}

impl MessageRepresentative {
    /// Takes ML-DSA's message representative µ of 64 bytes, computed elsewhere (FIPS 204 algorithm 7 line 6): it is bound
    /// to one public key, which is the caller's to see to.
    ///
    /// # Errors
    /// [`Error::MuLength`]; [`Error::Unsupported`] for a composite.
    pub fn from_mu(algorithm: &'static SignatureAlgorithm, mu: &[u8]) -> Result<Self, Error> {
        if algorithm.composite.is_some() {
            return Err(Error::Unsupported { algorithm: algorithm.name, what: "an external mu" });
        }
        let mu = mu.try_into().map_err(|_| Error::MuLength { algorithm: algorithm.name, got: mu.len() })?;
        Ok(Self { algorithm, mu, composite: [].into() })
    }

    /// ML-DSA's µ; `None` for a composite, whose halves never stand alone.
    pub fn mu(&self) -> Option<&[u8; MlDsa::MU_BYTES]> {
        self.algorithm.composite.is_none().then_some(&self.mu)
    }
}

impl fmt::Debug for MessageRepresentative {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageRepresentative")
            .field("algorithm", &self.algorithm.name)
            .finish_non_exhaustive()
    }
}

/// The hash of an ML-DSA public key, `tr`, with which every µ begins.
#[derive(Clone)]
struct KeyHash([u8; MlDsa::MU_BYTES]);

impl KeyHash {
    fn of<B: Backend>(public: &[u8]) -> Result<Self, Error> {
        let mut tr = [0; MlDsa::MU_BYTES];
        let mut hash = B::hash(HashFunction::Shake256)?;
        B::hash_update(&mut hash, public)?;
        B::hash_finish(hash, &mut tr)?;
        Ok(Self(tr))
    }

    /// FIPS 204 algorithm 7 line 6: the message is all that follows.
    fn raw<B: Backend>(&self) -> Result<B::Hash, Error> {
        let mut hash = B::hash(HashFunction::Shake256)?;
        B::hash_update(&mut hash, &self.0)?;
        Ok(hash)
    }

    /// FIPS 204 algorithm 2 line 10: the message is preceded by a zero byte and the context, of at most 255 bytes.
    fn pure<B: Backend>(&self, context: &[u8]) -> Result<B::Hash, Error> {
        let mut hash = self.raw::<B>()?;
        B::hash_update(&mut hash, &[0, context.len() as u8])?;
        B::hash_update(&mut hash, context)?;
        Ok(hash)
    }
}

fn expanded_bytes(algorithm: &SignatureAlgorithm) -> Result<usize, Error> {
    algorithm
        .private_key_bytes()
        .ok_or(Error::Unsupported { algorithm: algorithm.name, what: "an expanded private key" })
}

/// Whether every coefficient of s1 and s2 lies between -η and η: it is encoded as η - z, in three bits where η is 2, in
/// four where it is 4 (FIPS 204 algorithm 25). Without a branch until the end, because the key is secret.
fn secret_is_in_range(parameters: MlDsa, expanded: &[u8]) -> bool {
    let (rows, columns, eta) = parameters.dimensions();
    let bytes = (rows + columns) * parameters.eta_polynomial_bytes();
    let secret = &expanded[parameters.secret_begins()..][..bytes];
    let overflow = if eta == 2 {
        // Eight coefficients in three bytes; one is above 4 if its top bit is set and another one is.
        secret.chunks_exact(3).fold(0, |overflow, three| {
            let packed = u32::from_le_bytes([three[0], three[1], three[2], 0]);
            overflow | (packed & (packed << 1 | packed << 2) & 0o44_444_444)
        })
    } else {
        // Two in a byte; above 8 likewise.
        secret.iter().fold(0, |overflow, two| {
            let packed = u32::from(*two);
            overflow | (packed & (packed << 1 | packed << 2 | packed << 3) & 0x88)
        })
    };
    overflow == 0
}

/// Checks and takes the classical half of a composite's public key.
fn classical_key<B: Backend>(
    algorithm: &SignatureAlgorithm,
    classical: Classical,
    encoded: &[u8],
) -> Result<B::ClassicalVerifyingKey, Error> {
    // SEC 1 section 2.3.3, the draft's section 4: no other form.
    const UNCOMPRESSED: u8 = 4;
    let form_is_right = match classical {
        Classical::EcdsaP256 | Classical::EcdsaP384 => encoded.first() == Some(&UNCOMPRESSED),
        Classical::Ed25519 => ed25519_is_canonical(encoded),
    };
    let key = if form_is_right { B::classical_verifying_key(classical, encoded)? } else { None };
    key.ok_or(Error::PublicKeyPoint { algorithm: algorithm.name, curve: classical.name() })
}

/// Whether the y coordinate of an Ed25519 key is below p = 2^255 - 19, and no sign is given to an x that is zero (RFC 8032
/// section 5.1.3). Libraries differ on these, and no honest key is one of them.
fn ed25519_is_canonical(encoded: &[u8]) -> bool {
    let Some((last, rest)) = encoded.split_last() else { return false };
    let (sign, top) = (last & 0x80, last & 0x7F);
    let all = |byte: u8| rest[1..].iter().all(|b| *b == byte);
    let below_p = !(top == 0x7F && all(0xFF) && rest[0] >= 0xED);
    // x is zero where y is 1 or p - 1.
    let x_is_zero = (top == 0 && all(0) && rest[0] == 1) || (top == 0x7F && all(0xFF) && rest[0] == 0xEC);
    below_p && !(sign != 0 && x_is_zero)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An expanded key whose every secret coefficient has the largest valid encoding, 2η, but for one.
    fn with_coefficient(parameters: MlDsa, index: usize, value: u32) -> Vec<u8> {
        let (rows, columns, eta) = parameters.dimensions();
        let bits = if eta == 2 { 3 } else { 4 };
        let mut expanded = vec![0xFF; parameters.private_key_bytes()];
        for coefficient in 0..(rows + columns) * 256 {
            let encoded = if coefficient == index { value } else { 2 * eta };
            for bit in 0..bits {
                let position = coefficient * bits + bit;
                let byte = &mut expanded[parameters.secret_begins() + position / 8];
                *byte = *byte & !(1 << (position % 8)) | ((encoded >> bit & 1) as u8) << (position % 8);
            }
        }
        expanded
    }

    #[test]
    fn every_secret_coefficient_is_judged_right_at_every_position() {
        for parameters in [MlDsa::MlDsa44, MlDsa::MlDsa65, MlDsa::MlDsa87] {
            let (rows, columns, eta) = parameters.dimensions();
            let last = (rows + columns) * 256 - 1;
            for index in (0..16).chain([255, 256, columns * 256, last - 1, last]) {
                for value in 0..if eta == 2 { 8 } else { 16 } {
                    let key = with_coefficient(parameters, index, value);
                    assert_eq!(secret_is_in_range(parameters, &key), value <= 2 * eta, "{index}: {value}");
                }
            }
        }
    }

    #[test]
    fn an_ed25519_key_has_one_encoding() {
        let with = |first: u8, middle: u8, last: u8| {
            let mut key = [middle; 32];
            (key[0], key[31]) = (first, last);
            ed25519_is_canonical(&key)
        };
        for (first, canonical) in [(0xEB, true), (0xEC, true), (0xED, false), (0xFF, false)] {
            assert_eq!(with(first, 0xFF, 0x7F), canonical);
        }
        for (first, canonical) in [(0xEB, true), (0xEC, false), (0xED, false)] {
            assert_eq!(with(first, 0xFF, 0xFF), canonical);
        }
        for (first, last, canonical) in [(1, 0, true), (1, 0x80, false), (2, 0x80, true), (0, 0x80, true)] {
            assert_eq!(with(first, 0, last), canonical);
        }
    }
}
