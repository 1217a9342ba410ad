//! The RustCrypto crates, `x25519-dalek` and `ed25519-dalek`: the second side and the oracle, Rust only.

use super::{Backend, expanded_ml_dsa};
use crate::{Classical, Curve, Error, HashFunction, MlDsa, MlKem};
use ml_dsa::{ExpandedSigningKey, VerifyingKey};
use ml_kem::kem::{Decapsulate, KeyExport};
use ml_kem::{B32, DecapsulationKey, EncapsulationKey, Seed};
use ml_kem::{MlKem512, MlKem768, MlKem1024};

/// The RustCrypto crates, `rustcrypto` in reports.
#[derive(Clone, Copy, Debug)]
pub struct RustCrypto;

/// A key of one of the three parameter sets.
pub enum ByParameterSet<A, B, C> {
    /// ML-KEM-512.
    K512(A),
    /// ML-KEM-768.
    K768(B),
    /// ML-KEM-1024.
    K1024(C),
}

/// Runs one expression for whichever parameter set the key has.
macro_rules! each {
    ($key:expr, $inner:ident => $body:expr) => {
        match $key {
            ByParameterSet::K512($inner) => $body,
            ByParameterSet::K768($inner) => $body,
            ByParameterSet::K1024($inner) => $body,
        }
    };
}

/// Runs one expression with `$set` as the parameter set's type, and wraps its result as the key of that set.
macro_rules! of_set {
    ($parameters:expr, $set:ident => $body:expr) => {
        match $parameters {
            MlKem::MlKem512 => {
                type $set = MlKem512;
                ByParameterSet::K512($body)
            }
            MlKem::MlKem768 => {
                type $set = MlKem768;
                ByParameterSet::K768($body)
            }
            MlKem::MlKem1024 => {
                type $set = MlKem1024;
                ByParameterSet::K1024($body)
            }
        }
    };
}

/// A peer's public value.
pub enum Point {
    /// The u coordinate.
    X25519(x25519_dalek::PublicKey),
    /// A point on P-256.
    P256(p256::PublicKey),
    /// A point on P-384.
    P384(p384::PublicKey),
}

/// A private scalar; each of these types wipes itself.
pub enum Scalar {
    /// As it was given; the operation clamps it.
    X25519(x25519_dalek::StaticSecret),
    /// A scalar of P-256.
    P256(p256::SecretKey),
    /// A scalar of P-384.
    P384(p384::SecretKey),
}

/// Runs one expression with `$set` as the ML-DSA parameter set's type, and wraps its result as the key of that set.
macro_rules! of_ml_dsa_set {
    ($parameters:expr, $set:ident => $body:expr) => {
        match $parameters {
            MlDsa::MlDsa44 => {
                type $set = ml_dsa::MlDsa44;
                MlDsaKey::D44($body)
            }
            MlDsa::MlDsa65 => {
                type $set = ml_dsa::MlDsa65;
                MlDsaKey::D65($body)
            }
            MlDsa::MlDsa87 => {
                type $set = ml_dsa::MlDsa87;
                MlDsaKey::D87($body)
            }
        }
    };
}

/// Runs one expression for whichever ML-DSA parameter set the key has.
macro_rules! each_ml_dsa {
    ($key:expr, $inner:ident, $set:ident => $body:expr) => {
        match $key {
            MlDsaKey::D44($inner) => {
                type $set = ml_dsa::MlDsa44;
                $body
            }
            MlDsaKey::D65($inner) => {
                type $set = ml_dsa::MlDsa65;
                $body
            }
            MlDsaKey::D87($inner) => {
                type $set = ml_dsa::MlDsa87;
                $body
            }
        }
    };
}

/// An ML-DSA key of one of the three parameter sets. Boxed: some are a hundred thousand bytes, and moving a private one
/// would leave copies behind.
pub enum MlDsaKey<A, B, C> {
    /// ML-DSA-44.
    D44(Box<A>),
    /// ML-DSA-65.
    D65(Box<B>),
    /// ML-DSA-87.
    D87(Box<C>),
}

/// A public key of a composite's classical half.
pub enum ClassicalVerifyingKey {
    /// ECDSA on P-256.
    P256(p256::ecdsa::VerifyingKey),
    /// ECDSA on P-384.
    P384(p384::ecdsa::VerifyingKey),
    /// Ed25519; `None` if the bytes are not on the curve, so that no signature holds.
    Ed25519(Option<ed25519_dalek::VerifyingKey>),
}

/// A private key of a composite's classical half; each of these types wipes itself.
pub enum ClassicalSigningKey {
    /// ECDSA on P-256.
    P256(p256::ecdsa::SigningKey),
    /// ECDSA on P-384.
    P384(p384::ecdsa::SigningKey),
    /// Ed25519.
    Ed25519(ed25519_dalek::SigningKey),
}

/// A hash being computed.
#[derive(Clone)]
pub enum Hash {
    /// SHA-224.
    Sha224(sha2::Sha224),
    /// SHA-256.
    Sha256(sha2::Sha256),
    /// SHA-384.
    Sha384(sha2::Sha384),
    /// SHA-512.
    Sha512(sha2::Sha512),
    /// SHAKE256.
    Shake256(shake::Shake256),
}

impl Backend for RustCrypto {
    const NAME: &'static str = "rustcrypto";

    type EncapsulationKey =
        ByParameterSet<EncapsulationKey<MlKem512>, EncapsulationKey<MlKem768>, EncapsulationKey<MlKem1024>>;
    type DecapsulationKey =
        ByParameterSet<DecapsulationKey<MlKem512>, DecapsulationKey<MlKem768>, DecapsulationKey<MlKem1024>>;
    type Point = Point;
    type Scalar = Scalar;
    type VerifyingKey =
        MlDsaKey<VerifyingKey<ml_dsa::MlDsa44>, VerifyingKey<ml_dsa::MlDsa65>, VerifyingKey<ml_dsa::MlDsa87>>;
    type SigningKey = MlDsaKey<
        ExpandedSigningKey<ml_dsa::MlDsa44>,
        ExpandedSigningKey<ml_dsa::MlDsa65>,
        ExpandedSigningKey<ml_dsa::MlDsa87>,
    >;
    type ClassicalVerifyingKey = ClassicalVerifyingKey;
    type ClassicalSigningKey = ClassicalSigningKey;
    type Hash = Hash;

    fn random(out: &mut [u8]) -> Result<(), Error> {
        getrandom::fill(out).map_err(|_| Error::Randomness)
    }

    fn encapsulation_key(parameters: MlKem, encoded: &[u8]) -> Result<Self::EncapsulationKey, Error> {
        const WRONG: Error = Error::Backend("EncapsulationKey::new");
        Ok(of_set!(parameters, Set => {
            let encoded = encoded.try_into().map_err(|_| WRONG)?;
            EncapsulationKey::<Set>::new(encoded).map_err(|_| WRONG)?
        }))
    }

    fn encapsulate(
        key: &Self::EncapsulationKey,
        randomness: Option<&[u8; MlKem::RANDOMNESS_BYTES]>,
        ciphertext: &mut [u8],
        shared_secret: &mut [u8],
    ) -> Result<(), Error> {
        let mut m = zeroize::Zeroizing::new([0; MlKem::RANDOMNESS_BYTES]);
        match randomness {
            Some(given) => *m = *given,
            None => Self::random(&mut *m)?,
        }
        each!(key, key => {
            let (made, secret) = key.encapsulate_deterministic(<&B32>::from(&*m));
            let secret = zeroize::Zeroizing::new(<[u8; MlKem::SECRET_BYTES]>::from(secret));
            ciphertext.copy_from_slice(&made);
            shared_secret.copy_from_slice(&*secret);
        });
        Ok(())
    }

    fn decapsulation_key_from_seed(
        parameters: MlKem,
        seed: &[u8; MlKem::SEED_BYTES],
        encapsulation_key: &mut [u8],
    ) -> Result<Self::DecapsulationKey, Error> {
        Ok(of_set!(parameters, Set => {
            let key = DecapsulationKey::<Set>::from_seed(Seed::from(*seed));
            encapsulation_key.copy_from_slice(&key.encapsulation_key().to_bytes());
            key
        }))
    }

    // The crate calls the expanded form deprecated because it prefers seeds; RFC 9935 has both.
    #[allow(deprecated)]
    fn decapsulation_key_from_bytes(
        parameters: MlKem,
        expanded: &[u8],
    ) -> Result<Option<Self::DecapsulationKey>, Error> {
        Ok(Some(of_set!(parameters, Set => {
            let expanded = expanded.try_into().map_err(|_| Error::Backend("DecapsulationKey::from_expanded"))?;
            match DecapsulationKey::<Set>::from_expanded(expanded) {
                Ok(key) => key,
                Err(_) => return Ok(None),
            }
        })))
    }

    #[allow(deprecated)]
    fn decapsulation_key_to_bytes(key: &Self::DecapsulationKey, expanded: &mut [u8]) -> Result<(), Error> {
        use ml_kem::ExpandedKeyEncoding;
        use zeroize::Zeroize;
        each!(key, key => {
            let mut bytes = key.to_expanded_bytes();
            expanded.copy_from_slice(&bytes);
            bytes.as_mut_slice().zeroize();
        });
        Ok(())
    }

    fn decapsulate(
        key: &Self::DecapsulationKey,
        ciphertext: &[u8],
        shared_secret: &mut [u8],
    ) -> Result<(), Error> {
        each!(key, key => {
            let ciphertext = ciphertext.try_into().map_err(|_| Error::Backend("DecapsulationKey::decapsulate"))?;
            let secret = zeroize::Zeroizing::new(<[u8; MlKem::SECRET_BYTES]>::from(key.decapsulate(ciphertext)));
            shared_secret.copy_from_slice(&*secret);
        });
        Ok(())
    }

    fn point(curve: Curve, encoded: &[u8]) -> Result<Option<Point>, Error> {
        Ok(match curve {
            Curve::X25519 => Some(Point::X25519(array(encoded)?.into())),
            Curve::P256 => p256::PublicKey::from_sec1_bytes(encoded).ok().map(Point::P256),
            Curve::P384 => p384::PublicKey::from_sec1_bytes(encoded).ok().map(Point::P384),
        })
    }

    fn scalar(curve: Curve, encoded: &[u8]) -> Result<Option<Scalar>, Error> {
        Ok(match curve {
            Curve::X25519 => Some(Scalar::X25519(array(encoded)?.into())),
            Curve::P256 => p256::SecretKey::from_slice(encoded).ok().map(Scalar::P256),
            Curve::P384 => p384::SecretKey::from_slice(encoded).ok().map(Scalar::P384),
        })
    }

    fn public_value(scalar: &Scalar, encoded: &mut [u8]) -> Result<(), Error> {
        use p256::elliptic_curve::sec1::ToSec1Point;
        match scalar {
            Scalar::X25519(scalar) => {
                encoded.copy_from_slice(x25519_dalek::PublicKey::from(scalar).as_bytes());
            }
            Scalar::P256(scalar) => {
                encoded.copy_from_slice(scalar.public_key().to_sec1_point(false).as_bytes());
            }
            Scalar::P384(scalar) => {
                encoded.copy_from_slice(scalar.public_key().to_sec1_point(false).as_bytes());
            }
        }
        Ok(())
    }

    fn diffie_hellman(scalar: &Scalar, point: &Point, secret: &mut [u8]) -> Result<bool, Error> {
        match (scalar, point) {
            (Scalar::X25519(scalar), Point::X25519(point)) => {
                let shared = scalar.diffie_hellman(point);
                if !shared.was_contributory() {
                    return Ok(false);
                }
                secret.copy_from_slice(shared.as_bytes());
            }
            (Scalar::P256(scalar), Point::P256(point)) => {
                let shared = p256::ecdh::diffie_hellman(scalar.to_nonzero_scalar(), point.as_affine());
                secret.copy_from_slice(shared.raw_secret_bytes());
            }
            (Scalar::P384(scalar), Point::P384(point)) => {
                let shared = p384::ecdh::diffie_hellman(scalar.to_nonzero_scalar(), point.as_affine());
                secret.copy_from_slice(shared.raw_secret_bytes());
            }
            _ => return Err(Error::Backend("diffie_hellman")),
        }
        Ok(true)
    }

    fn hash(function: HashFunction) -> Result<Hash, Error> {
        Ok(match function {
            HashFunction::Sha224 => Hash::Sha224(Default::default()),
            HashFunction::Sha256 => Hash::Sha256(Default::default()),
            HashFunction::Sha384 => Hash::Sha384(Default::default()),
            HashFunction::Sha512 => Hash::Sha512(Default::default()),
            HashFunction::Shake256 => Hash::Shake256(Default::default()),
        })
    }

    fn hash_update(hash: &mut Hash, message: &[u8]) -> Result<(), Error> {
        use sha2::digest::Update;
        match hash {
            Hash::Sha224(hash) => hash.update(message),
            Hash::Sha256(hash) => hash.update(message),
            Hash::Sha384(hash) => hash.update(message),
            Hash::Sha512(hash) => hash.update(message),
            Hash::Shake256(hash) => hash.update(message),
        }
        Ok(())
    }

    fn hash_clone(hash: &Hash) -> Result<Hash, Error> {
        Ok(hash.clone())
    }

    fn hash_finish(hash: Hash, out: &mut [u8]) -> Result<(), Error> {
        use sha2::digest::{ExtendableOutput, FixedOutput, XofReader};
        const WRONG: Error = Error::Backend("finalize_into");
        match hash {
            Hash::Sha224(hash) => hash.finalize_into(out.try_into().map_err(|_| WRONG)?),
            Hash::Sha256(hash) => hash.finalize_into(out.try_into().map_err(|_| WRONG)?),
            Hash::Sha384(hash) => hash.finalize_into(out.try_into().map_err(|_| WRONG)?),
            Hash::Sha512(hash) => hash.finalize_into(out.try_into().map_err(|_| WRONG)?),
            Hash::Shake256(hash) => hash.finalize_xof().read(out),
        }
        Ok(())
    }

    fn verifying_key(parameters: MlDsa, encoded: &[u8]) -> Result<Self::VerifyingKey, Error> {
        Ok(of_ml_dsa_set!(parameters, Set => {
            let encoded = encoded.try_into().map_err(|_| Error::Backend("VerifyingKey::decode"))?;
            Box::new(VerifyingKey::<Set>::decode(encoded))
        }))
    }

    fn verify_mu(
        key: &Self::VerifyingKey,
        mu: &[u8; MlDsa::MU_BYTES],
        signature: &[u8],
    ) -> Result<bool, Error> {
        Ok(each_ml_dsa!(key, key, Set => {
            ml_dsa::Signature::<Set>::try_from(signature)
                .is_ok_and(|signature| key.verify_mu(mu.into(), &signature))
        }))
    }

    fn signing_key_from_seed(
        parameters: MlDsa,
        seed: &[u8; MlDsa::SEED_BYTES],
        public: &mut [u8],
    ) -> Result<Self::SigningKey, Error> {
        Ok(of_ml_dsa_set!(parameters, Set => {
            let key = ml_dsa::SigningKey::<Set>::from_seed(seed.into());
            let verifying: &VerifyingKey<Set> = key.as_ref();
            public.copy_from_slice(&verifying.to_bytes());
            Box::new(key.expanded_key().clone())
        }))
    }

    // The crate calls the expanded form deprecated because it prefers seeds and does not check; RFC 9881 has both, and it
    // is checked here.
    #[allow(deprecated)]
    fn signing_key_from_bytes(
        parameters: MlDsa,
        expanded: &[u8],
        public: &mut [u8],
    ) -> Result<Option<Self::SigningKey>, Error> {
        let t0_fits = expanded_ml_dsa::public_key(parameters, expanded, public);
        let mut tr = [0; MlDsa::MU_BYTES];
        let mut hash = Self::hash(HashFunction::Shake256)?;
        Self::hash_update(&mut hash, public)?;
        Self::hash_finish(hash, &mut tr)?;
        if !t0_fits || tr != expanded[64..parameters.secret_begins()] {
            return Ok(None);
        }
        Ok(Some(of_ml_dsa_set!(parameters, Set => {
            let expanded =
                expanded.try_into().map_err(|_| Error::Backend("ExpandedSigningKey::from_expanded"))?;
            Box::new(ExpandedSigningKey::<Set>::from_expanded(expanded))
        })))
    }

    #[allow(deprecated)]
    fn signing_key_to_bytes(key: &Self::SigningKey, expanded: &mut [u8]) -> Result<(), Error> {
        use zeroize::Zeroize;
        each_ml_dsa!(key, key, Set => {
            let mut bytes: ml_dsa::ExpandedSigningKeyBytes<Set> = key.to_expanded();
            expanded.copy_from_slice(&bytes);
            bytes.as_mut_slice().zeroize();
        });
        Ok(())
    }

    fn sign_mu(
        key: &Self::SigningKey,
        mu: &[u8; MlDsa::MU_BYTES],
        randomness: &[u8; MlDsa::RANDOMNESS_BYTES],
        signature: &mut [u8],
    ) -> Result<(), Error> {
        each_ml_dsa!(key, key, Set => {
            // The only way to give µ and `rnd` both; the method asks for 32 bytes, once.
            let made: ml_dsa::Signature<Set> = key
                .sign_mu_randomized(mu.into(), &mut Given(randomness))
                .map_err(|_| Error::Backend("ExpandedSigningKey::sign_mu_randomized"))?;
            signature.copy_from_slice(&made.encode());
        });
        Ok(())
    }

    fn classical_verifying_key(
        classical: Classical,
        encoded: &[u8],
    ) -> Result<Option<ClassicalVerifyingKey>, Error> {
        Ok(match classical {
            Classical::EcdsaP256 => {
                p256::ecdsa::VerifyingKey::from_sec1_bytes(encoded).ok().map(ClassicalVerifyingKey::P256)
            }
            Classical::EcdsaP384 => {
                p384::ecdsa::VerifyingKey::from_sec1_bytes(encoded).ok().map(ClassicalVerifyingKey::P384)
            }
            Classical::Ed25519 => Some(ClassicalVerifyingKey::Ed25519(
                ed25519_dalek::VerifyingKey::from_bytes(&array(encoded)?).ok(),
            )),
        })
    }

    fn classical_verify(
        key: &ClassicalVerifyingKey,
        message: &[u8],
        signature: &[u8],
    ) -> Result<bool, Error> {
        use p256::ecdsa::signature::Verifier;
        Ok(match key {
            ClassicalVerifyingKey::P256(key) => p256::ecdsa::DerSignature::from_bytes(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
            ClassicalVerifyingKey::P384(key) => p384::ecdsa::DerSignature::from_bytes(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
            ClassicalVerifyingKey::Ed25519(key) => key.as_ref().is_some_and(|key| {
                ed25519_dalek::Signature::from_slice(signature)
                    .is_ok_and(|signature| key.verify(message, &signature).is_ok())
            }),
        })
    }

    fn classical_signing_key(
        classical: Classical,
        scalar: &[u8],
        public: &mut [u8],
    ) -> Result<Option<ClassicalSigningKey>, Error> {
        Ok(match classical {
            Classical::EcdsaP256 => p256::ecdsa::SigningKey::from_slice(scalar).ok().map(|key| {
                public.copy_from_slice(key.verifying_key().to_sec1_point(false).as_bytes());
                ClassicalSigningKey::P256(key)
            }),
            Classical::EcdsaP384 => p384::ecdsa::SigningKey::from_slice(scalar).ok().map(|key| {
                public.copy_from_slice(key.verifying_key().to_sec1_point(false).as_bytes());
                ClassicalSigningKey::P384(key)
            }),
            Classical::Ed25519 => {
                let seed = zeroize::Zeroizing::new(array(scalar)?);
                let key = ed25519_dalek::SigningKey::from_bytes(&seed);
                public.copy_from_slice(key.verifying_key().as_bytes());
                Some(ClassicalSigningKey::Ed25519(key))
            }
        })
    }

    fn classical_sign(key: &ClassicalSigningKey, message: &[u8]) -> Result<Vec<u8>, Error> {
        use p256::ecdsa::signature::Signer;
        Ok(match key {
            ClassicalSigningKey::P256(key) => {
                let signature: p256::ecdsa::DerSignature = key.sign(message);
                signature.as_bytes().to_vec()
            }
            ClassicalSigningKey::P384(key) => {
                let signature: p384::ecdsa::DerSignature = key.sign(message);
                signature.as_bytes().to_vec()
            }
            ClassicalSigningKey::Ed25519(key) => key.sign(message).to_bytes().to_vec(),
        })
    }
}

/// A source of the bytes it holds.
struct Given<'a>(&'a [u8; MlDsa::RANDOMNESS_BYTES]);

/// It was asked for other bytes than the ones it holds.
#[derive(Debug)]
struct NotGiven;

impl std::fmt::Display for NotGiven {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("there are exactly 32 bytes to give")
    }
}

impl std::error::Error for NotGiven {}

impl ml_dsa::signature::rand_core::TryRng for Given<'_> {
    type Error = NotGiven;

    fn try_next_u32(&mut self) -> Result<u32, NotGiven> {
        Err(NotGiven)
    }

    fn try_next_u64(&mut self) -> Result<u64, NotGiven> {
        Err(NotGiven)
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), NotGiven> {
        if out.len() != self.0.len() {
            return Err(NotGiven);
        }
        out.copy_from_slice(self.0);
        Ok(())
    }
}

impl ml_dsa::signature::rand_core::TryCryptoRng for Given<'_> {}

fn array(bytes: &[u8]) -> Result<[u8; 32], Error> {
    bytes.try_into().map_err(|_| Error::Backend("X25519"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::ZeroizeOnDrop;

    /// Holds that the crates' `zeroize` features are on: without them these types do not have the trait.
    #[test]
    fn every_private_type_wipes_itself() {
        fn wipes<T: ZeroizeOnDrop>() {}
        wipes::<DecapsulationKey<MlKem512>>();
        wipes::<DecapsulationKey<MlKem768>>();
        wipes::<DecapsulationKey<MlKem1024>>();
        wipes::<x25519_dalek::StaticSecret>();
        wipes::<p256::SecretKey>();
        wipes::<p384::SecretKey>();
        wipes::<ml_dsa::SigningKey<ml_dsa::MlDsa65>>();
        wipes::<ExpandedSigningKey<ml_dsa::MlDsa44>>();
        wipes::<ExpandedSigningKey<ml_dsa::MlDsa65>>();
        wipes::<ExpandedSigningKey<ml_dsa::MlDsa87>>();
        wipes::<p256::ecdsa::SigningKey>();
        wipes::<p384::ecdsa::SigningKey>();
        wipes::<ed25519_dalek::SigningKey>();
    }
}
