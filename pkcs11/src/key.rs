//! Keys in tokens.

use crate::Error;
use qtls_crypto::{HashFunction, SignatureAlgorithm};

/// The curves there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EcCurve {
    /// NIST P-256.
    P256,
    /// NIST P-384.
    P384,
}

/// What a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyType {
    /// RSA with a modulus of so many bits.
    Rsa {
        /// 2048 to 16384.
        bits: u32,
    },
    /// ECDSA.
    Ec(EcCurve),
    /// ML-DSA: a row without a composite.
    MlDsa(&'static SignatureAlgorithm),
}

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicKey {
    /// RSA; big-endian, without leading zeros.
    Rsa {
        /// n
        modulus: Vec<u8>,
        /// e
        exponent: Vec<u8>,
    },
    /// A point on a curve.
    Ec {
        /// The curve.
        curve: EcCurve,
        /// SEC 1, uncompressed: 0x04, x, y.
        point: Vec<u8>,
    },
    /// ML-DSA.
    MlDsa {
        /// A row without a composite.
        algorithm: &'static SignatureAlgorithm,
        /// FIPS 204's encoding.
        key: Vec<u8>,
    },
}

impl PublicKey {
    /// What it is.
    pub fn key_type(&self) -> KeyType {
        unimplemented!()
    }

    /// Reads a SubjectPublicKeyInfo (RFC 5280, 3279, 5480, 9881) in DER.
    ///
    /// # Errors
    /// Another type of key, or damaged.
    pub fn from_spki_der(_der: &[u8]) -> Result<Self, Error> {
        unimplemented!()
    }

    /// Writes it.
    pub fn to_spki_der(&self) -> Vec<u8> {
        unimplemented!()
    }
}

/// How to sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism<'a> {
    /// RSASSA-PKCS1-v1_5 (RFC 8017 section 8.2) of a digest.
    RsaPkcs1 {
        /// Of the digest.
        hash: HashFunction,
    },
    /// RSASSA-PSS (RFC 8017 section 8.1) of a digest.
    RsaPss {
        /// Of the digest.
        hash: HashFunction,
        /// Of MGF1.
        mgf1: HashFunction,
        /// Salt bytes.
        salt: usize,
    },
    /// ECDSA of a digest; the signature is DER (RFC 3279 section 2.2.3), each INTEGER in its shortest form.
    Ecdsa,
    /// ML-DSA (FIPS 204), pure, of a message.
    MlDsa {
        /// At most 255 bytes.
        context: &'a [u8],
        /// Not hedged.
        deterministic: bool,
    },
}

/// A key pair whose private half is in a token. Cheap to share; survives forks.
pub struct TokenKey {}

impl TokenKey {
    /// The public key.
    pub fn public(&self) -> &PublicKey {
        unimplemented!()
    }

    /// Its URI without PIN, for people.
    pub fn uri(&self) -> &str {
        unimplemented!()
    }

    /// The longest signature, in bytes.
    pub fn max_signature_bytes(&self) -> usize {
        unimplemented!()
    }

    /// Signs `input`: a digest, or for ML-DSA the message. Opens and logs in where this process has not yet; tries again
    /// after a lost session; goes on to the next token, and at last to a declared software key.
    ///
    /// # Errors
    /// Each names the URI, the cause, and what to do.
    pub fn sign(&self, _mechanism: Mechanism<'_>, _input: &[u8]) -> Result<Vec<u8>, Error> {
        unimplemented!()
    }
}
