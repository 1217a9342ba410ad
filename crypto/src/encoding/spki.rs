//! `SubjectPublicKeyInfo` (RFC 5280 section 4.1.2.7): the key's bytes in a BIT STRING, without ASN.1 of their own (RFC 9881
//! section 4, RFC 9935 section 4, the composite draft's section 5.1).

use super::{BIT_STRING, Fields, SEQUENCE, algorithm_ahead, algorithm_identifier, inside, tlv};
use crate::{Backend, Error, KeyAlgorithm, PublicKey};

const STRUCTURE: &str = "SubjectPublicKeyInfo";

/// Whose key a `SubjectPublicKeyInfo` holds, as far as its algorithm identifier says: `None` if it is none, or that of an
/// algorithm which is not in our tables. The key may still turn out to be bad when it is read.
pub fn spki_algorithm(der: &[u8]) -> Option<KeyAlgorithm> {
    algorithm_ahead(inside(der, SEQUENCE)?)
}

impl<B: Backend> PublicKey<B> {
    /// Reads a `SubjectPublicKeyInfo` in DER.
    ///
    /// # Errors
    /// [`Error::KeyEncoding`], [`Error::KeyAlgorithmUnknown`], [`Error::KeyParameters`], and those of
    /// [`Self::from_bytes`].
    pub fn from_spki_der(der: &[u8]) -> Result<Self, Error> {
        let mut info = Fields::of(STRUCTURE, der)?;
        let algorithm = info.algorithm("algorithm")?;
        let content = info.value("subjectPublicKey", BIT_STRING)?;
        let key = info.bits("subjectPublicKey", content)?;
        info.finish("subjectPublicKey")?;
        Self::from_bytes(algorithm, key)
    }

    /// Writes a `SubjectPublicKeyInfo` in DER.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a hybrid KEM, which has no object identifier.
    pub fn to_spki_der(&self) -> Result<Vec<u8>, Error> {
        let identifier = algorithm_identifier(self.algorithm())?;
        let key = tlv(BIT_STRING, &[&[0], self.as_bytes()])?;
        let mut info = tlv(SEQUENCE, &[&identifier, &key])?;
        Ok(std::mem::take(&mut *info))
    }
}
