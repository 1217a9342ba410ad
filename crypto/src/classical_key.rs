//! RSA and ECDSA keys from files. No row of the tables has them alone: libcrypto does, and this is only for where a token's key
//! is declared to have a software copy, which signs when the token cannot.

use crate::backend::{AwsLc, ClassicalKey};
use crate::{Backend, Error, HashFunction};

/// How RSA signs (RFC 8017).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RsaPadding {
    /// RSASSA-PKCS1-v1_5 (section 8.2).
    Pkcs1 {
        /// SHA-2, of the digest.
        hash: HashFunction,
    },
    /// RSASSA-PSS (section 8.1).
    Pss {
        /// SHA-2, of the digest.
        hash: HashFunction,
        /// SHA-2, of MGF1.
        mgf1: HashFunction,
        /// Bytes of the salt.
        salt_bytes: usize,
    },
}

impl RsaPadding {
    /// In place of the salt's bytes, for verifying alone: of whatever length it has.
    pub const ANY_SALT: usize = usize::MAX;
}

/// A private key of RSA (2,048 to 16,384 bits) or ECDSA (P-256, P-384).
pub struct ClassicalPrivateKey {
    key: ClassicalKey,
    public_key: Vec<u8>,
}

impl ClassicalPrivateKey {
    /// Reads PKCS#8 (RFC 5958) in DER.
    ///
    /// # Errors
    /// [`Error::ClassicalKey`]: it is something else, or damaged.
    pub fn from_pkcs8_der(der: &[u8]) -> Result<Self, Error> {
        let key = ClassicalKey::from_pkcs8_der(der)?.ok_or(Error::ClassicalKey)?;
        let public_key = key.to_spki_der()?;
        Ok(Self { key, public_key })
    }

    /// The public key: SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7) in DER.
    pub fn public_key_der(&self) -> &[u8] {
        &self.public_key
    }

    /// Signs a digest: with RSA where there is a padding, with ECDSA (a signature in DER, RFC 3279 section 2.2.3) where not.
    ///
    /// # Errors
    /// [`Error::Unsupported`]: the key is of the other kind; [`Error::Backend`]: a digest of the wrong length, a salt too long
    /// for the key, or the machine failed.
    pub fn sign(&self, padding: Option<RsaPadding>, digest: &[u8]) -> Result<Vec<u8>, Error> {
        if matches!(padding, Some(RsaPadding::Pss { salt_bytes: RsaPadding::ANY_SALT, .. })) {
            return Err(Error::Backend("set_rsa_pss_saltlen"));
        }
        self.key.sign(padding, digest)?.ok_or_else(|| other_kind(padding))
    }
}

/// A public key of RSA (2,048 to 16,384 bits) or ECDSA (P-256, P-384).
pub struct ClassicalPublicKey(ClassicalKey);

impl ClassicalPublicKey {
    /// Reads a SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7) in DER.
    ///
    /// # Errors
    /// [`Error::ClassicalKey`]: it is something else, or damaged.
    pub fn from_spki_der(der: &[u8]) -> Result<Self, Error> {
        ClassicalKey::from_spki_der(der)?.map(Self).ok_or(Error::ClassicalKey)
    }

    /// Whether a signature is one of a digest, as [`ClassicalPrivateKey::sign`] makes them.
    ///
    /// # Errors
    /// [`Error::Unsupported`]: the key is of the other kind; [`Error::Backend`]: the machine failed.
    pub fn verify(
        &self,
        padding: Option<RsaPadding>,
        digest: &[u8],
        signature: &[u8],
    ) -> Result<bool, Error> {
        self.0.verify(padding, digest, signature)?.ok_or_else(|| other_kind(padding))
    }
}

impl std::fmt::Debug for ClassicalPublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ClassicalPublicKey({})", AwsLc::NAME)
    }
}

fn other_kind(padding: Option<RsaPadding>) -> Error {
    let (algorithm, what) = match padding {
        Some(_) => ("ECDSA", "RSA padding"),
        None => ("RSA", "signatures without a padding"),
    };
    Error::Unsupported { algorithm, what }
}

impl std::fmt::Debug for ClassicalPrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ClassicalPrivateKey({})", AwsLc::NAME)
    }
}
