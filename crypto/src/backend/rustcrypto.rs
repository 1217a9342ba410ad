//! The RustCrypto crates and `x25519-dalek`: the second side and the oracle, Rust only.

use super::Backend;
use crate::{Curve, Error, MlKem};
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

impl Backend for RustCrypto {
    const NAME: &'static str = "rustcrypto";

    type EncapsulationKey =
        ByParameterSet<EncapsulationKey<MlKem512>, EncapsulationKey<MlKem768>, EncapsulationKey<MlKem1024>>;
    type DecapsulationKey =
        ByParameterSet<DecapsulationKey<MlKem512>, DecapsulationKey<MlKem768>, DecapsulationKey<MlKem1024>>;
    type Point = Point;
    type Scalar = Scalar;

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
}

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
    }
}
