//! The rows of both tables as one, and their keys: for whoever does the same with every key, as key files do.

use crate::{
    Backend, DefaultBackend, Error, KEM_ALGORITHMS, KemAlgorithm, KemPrivateKey, KemPublicKey, MlKem,
    SIGNATURE_ALGORITHMS, SignatureAlgorithm, SignaturePrivateKey, SignaturePublicKey, kem_by_name,
    signature_by_name,
};
use std::fmt;
use zeroize::Zeroizing;

/// An algorithm that has keys: a row of [`KEM_ALGORITHMS`] or of [`SIGNATURE_ALGORITHMS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyAlgorithm {
    /// Keys to encapsulate to.
    Kem(&'static KemAlgorithm),
    /// Keys to sign with.
    Signature(&'static SignatureAlgorithm),
}

impl KeyAlgorithm {
    /// How many there are.
    pub const COUNT: usize = KEM_ALGORITHMS.len() + SIGNATURE_ALGORITHMS.len();

    /// All of them: the KEMs in the order of their table, then the signature algorithms.
    pub fn all() -> impl Iterator<Item = Self> + Clone {
        KEM_ALGORITHMS.iter().map(Self::Kem).chain(SIGNATURE_ALGORITHMS.iter().map(Self::Signature))
    }

    /// Finds one by its name or an alias; ASCII case does not matter.
    pub fn by_name(name: &str) -> Option<Self> {
        kem_by_name(name).map(Self::Kem).or_else(|| signature_by_name(name).map(Self::Signature))
    }

    /// Finds one by its dotted object identifier.
    pub fn by_oid(oid: &str) -> Option<Self> {
        Self::all().find(|algorithm| algorithm.oid() == Some(oid))
    }

    /// Its place among [`Self::all`].
    pub fn index(self) -> usize {
        match self {
            Self::Kem(row) => place(&KEM_ALGORITHMS, row),
            Self::Signature(row) => KEM_ALGORITHMS.len() + place(&SIGNATURE_ALGORITHMS, row),
        }
    }

    /// The name, as OpenSSL 3.5 or the composite draft spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kem(row) => row.name,
            Self::Signature(row) => row.name,
        }
    }

    /// The names exactly as OpenSSL 3.5's default provider registers them, separated by colons.
    pub fn openssl_names(self) -> &'static str {
        match self {
            Self::Kem(row) => row.openssl_names,
            Self::Signature(row) => row.openssl_names,
        }
    }

    /// The dotted object identifier; a hybrid KEM has none, and therefore no key files.
    pub fn oid(self) -> Option<&'static str> {
        match self {
            Self::Kem(row) => row.oid,
            Self::Signature(row) => Some(row.oid),
        }
    }

    /// The short name of its object identifier, as OpenSSL 3.5 has it (`id-ml-dsa-65`), or its only name (a composite).
    pub fn object_name(self) -> &'static str {
        self.openssl_names().split(':').find(|name| name.starts_with("id-")).unwrap_or(self.name())
    }

    /// Security strength in bits, as OpenSSL 3.5 states it.
    pub fn security_bits(self) -> u32 {
        match self {
            Self::Kem(row) => row.security_bits,
            Self::Signature(row) => row.security_bits,
        }
    }

    /// NIST's security category of the lattice half.
    pub fn security_category(self) -> u8 {
        match self {
            Self::Kem(row) => match row.ml_kem {
                MlKem::MlKem512 => 1,
                MlKem::MlKem768 => 3,
                MlKem::MlKem1024 => 5,
            },
            Self::Signature(row) => row.ml_dsa.security_category(),
        }
    }

    /// Bytes of an encoded public key.
    pub fn public_key_bytes(self) -> usize {
        match self {
            Self::Kem(row) => row.public_key_bytes(),
            Self::Signature(row) => row.public_key_bytes(),
        }
    }

    /// Bytes of a private key's short form.
    pub fn seed_bytes(self) -> usize {
        match self {
            Self::Kem(row) => row.seed_bytes(),
            Self::Signature(row) => row.seed_bytes(),
        }
    }

    /// Bytes of an expanded private key; a composite signature has no such form.
    pub fn private_key_bytes(self) -> Option<usize> {
        match self {
            Self::Kem(row) => Some(row.private_key_bytes()),
            Self::Signature(row) => row.private_key_bytes(),
        }
    }
}

fn place<T: PartialEq>(table: &[T], row: &T) -> usize {
    table
        .iter()
        .position(|other| other == row)
        .expect("a row of the table: its type cannot be made elsewhere")
}

/// A public key of any algorithm. Cheap to clone.
pub enum PublicKey<B: Backend = DefaultBackend> {
    /// To encapsulate to.
    Kem(KemPublicKey<B>),
    /// To verify with.
    Signature(SignaturePublicKey<B>),
}

impl<B: Backend> PublicKey<B> {
    /// Takes an encoded public key.
    ///
    /// # Errors
    /// Those of [`KemPublicKey::from_bytes`] and [`SignaturePublicKey::from_bytes`].
    pub fn from_bytes(algorithm: KeyAlgorithm, encoded: &[u8]) -> Result<Self, Error> {
        Ok(match algorithm {
            KeyAlgorithm::Kem(row) => Self::Kem(KemPublicKey::from_bytes(row, encoded)?),
            KeyAlgorithm::Signature(row) => Self::Signature(SignaturePublicKey::from_bytes(row, encoded)?),
        })
    }

    /// The algorithm the key is for.
    pub fn algorithm(&self) -> KeyAlgorithm {
        match self {
            Self::Kem(key) => KeyAlgorithm::Kem(key.algorithm()),
            Self::Signature(key) => KeyAlgorithm::Signature(key.algorithm()),
        }
    }

    /// The encoded key.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Kem(key) => key.as_bytes(),
            Self::Signature(key) => key.as_bytes(),
        }
    }
}

impl<B: Backend> fmt::Debug for PublicKey<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kem(key) => key.fmt(f),
            Self::Signature(key) => key.fmt(f),
        }
    }
}

impl<B: Backend> Clone for PublicKey<B> {
    fn clone(&self) -> Self {
        match self {
            Self::Kem(key) => Self::Kem(key.clone()),
            Self::Signature(key) => Self::Signature(key.clone()),
        }
    }
}

/// A private key of any algorithm, with its public key. Cheap to clone; wiped when the last clone is dropped.
pub enum PrivateKey<B: Backend = DefaultBackend> {
    /// To decapsulate with.
    Kem(KemPrivateKey<B>),
    /// To sign with.
    Signature(SignaturePrivateKey<B>),
}

impl<B: Backend> PrivateKey<B> {
    /// Makes a new key pair.
    ///
    /// # Errors
    /// [`Error::Randomness`] and [`Error::Backend`] if the machine fails.
    pub fn generate(algorithm: KeyAlgorithm) -> Result<Self, Error> {
        Ok(match algorithm {
            KeyAlgorithm::Kem(row) => Self::Kem(KemPrivateKey::generate(row)?),
            KeyAlgorithm::Signature(row) => Self::Signature(SignaturePrivateKey::generate(row)?),
        })
    }

    /// Makes the key pair that belongs to a seed of [`KeyAlgorithm::seed_bytes`] bytes.
    ///
    /// # Errors
    /// Those of [`KemPrivateKey::from_seed`] and [`SignaturePrivateKey::from_seed`].
    pub fn from_seed(algorithm: KeyAlgorithm, seed: &[u8]) -> Result<Self, Error> {
        Ok(match algorithm {
            KeyAlgorithm::Kem(row) => Self::Kem(KemPrivateKey::from_seed(row, seed)?),
            KeyAlgorithm::Signature(row) => Self::Signature(SignaturePrivateKey::from_seed(row, seed)?),
        })
    }

    /// Takes an expanded private key of [`KeyAlgorithm::private_key_bytes`] bytes.
    ///
    /// # Errors
    /// Those of [`KemPrivateKey::from_bytes`] and [`SignaturePrivateKey::from_bytes`].
    pub fn from_bytes(algorithm: KeyAlgorithm, expanded: &[u8]) -> Result<Self, Error> {
        Ok(match algorithm {
            KeyAlgorithm::Kem(row) => Self::Kem(KemPrivateKey::from_bytes(row, expanded)?),
            KeyAlgorithm::Signature(row) => Self::Signature(SignaturePrivateKey::from_bytes(row, expanded)?),
        })
    }

    /// The algorithm the key is for.
    pub fn algorithm(&self) -> KeyAlgorithm {
        match self {
            Self::Kem(key) => KeyAlgorithm::Kem(key.algorithm()),
            Self::Signature(key) => KeyAlgorithm::Signature(key.algorithm()),
        }
    }

    /// The encoded public key.
    pub fn public_key(&self) -> &[u8] {
        match self {
            Self::Kem(key) => key.public_key(),
            Self::Signature(key) => key.public_key(),
        }
    }

    /// The seed, if the key was made from one; secret.
    pub fn seed(&self) -> Option<&[u8]> {
        match self {
            Self::Kem(key) => key.seed(),
            Self::Signature(key) => key.seed(),
        }
    }

    /// The expanded private key; none of a composite signature, which has no such form.
    ///
    /// # Errors
    /// [`Error::Backend`] if the machine fails.
    pub fn to_bytes(&self) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        match self {
            Self::Kem(key) => key.to_bytes().map(Some),
            Self::Signature(key) if key.algorithm().composite.is_some() => Ok(None),
            Self::Signature(key) => key.to_bytes().map(Some),
        }
    }
}

impl<B: Backend> fmt::Debug for PrivateKey<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kem(key) => key.fmt(f),
            Self::Signature(key) => key.fmt(f),
        }
    }
}

impl<B: Backend> Clone for PrivateKey<B> {
    fn clone(&self) -> Self {
        match self {
            Self::Kem(key) => Self::Kem(key.clone()),
            Self::Signature(key) => Self::Signature(key.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_both_tables_is_found_by_its_place_its_names_and_its_oid() {
        assert_eq!(KeyAlgorithm::all().count(), KeyAlgorithm::COUNT);
        for (index, algorithm) in KeyAlgorithm::all().enumerate() {
            assert_eq!(algorithm.index(), index);
            for name in algorithm.openssl_names().split(':') {
                assert_eq!(KeyAlgorithm::by_name(name), Some(algorithm), "{name}");
            }
            if let Some(oid) = algorithm.oid() {
                assert_eq!(KeyAlgorithm::by_oid(oid), Some(algorithm));
            }
        }
        assert_eq!(KeyAlgorithm::by_oid("1.2.840.113549.1.1.1"), None);
    }

    #[test]
    fn an_object_s_short_name_is_openssl_s_own_where_it_has_one() {
        for (name, object_name) in [
            ("ML-DSA-65", "id-ml-dsa-65"),
            ("ML-KEM-512", "id-alg-ml-kem-512"),
            ("id-MLDSA65-Ed25519-SHA512", "id-MLDSA65-Ed25519-SHA512"),
            ("X25519MLKEM768", "X25519MLKEM768"),
        ] {
            assert_eq!(KeyAlgorithm::by_name(name).unwrap().object_name(), object_name);
        }
    }
}
