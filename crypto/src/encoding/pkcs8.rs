//! PKCS#8, `PrivateKeyInfo` and `OneAsymmetricKey` (RFC 5958).
//!
//! In its `privateKey`, ML-DSA (RFC 9881 section 6) and ML-KEM (RFC 9935 section 6) have a CHOICE of three, told apart by
//! their tags: a length says nothing, because a seed and what stands around it can be as long as something else. A
//! composite's private key stands there as it is (the draft's section 5.3).

use super::{
    Fields, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, SET, algorithm_ahead, algorithm_identifier,
    inside, tlv,
};
use crate::{Backend, Error, KeyAlgorithm, PrivateKey};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

const STRUCTURE: &str = "PKCS#8 private key";
/// `[0] IMPLICIT OCTET STRING`, primitive.
const SEED: u8 = 0x80;
/// `[0] IMPLICIT SET OF`, constructed.
const ATTRIBUTES: u8 = 0xA0;
/// `[1] IMPLICIT BIT STRING`, primitive.
const PUBLIC_KEY: u8 = 0x81;

/// Which of RFC 9881's and RFC 9935's three forms a private key is written in. A composite has one form, its seed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PrivateKeyForm {
    /// The seed if it is known, else the expanded key.
    #[default]
    Preferred,
    /// The seed alone, which is short and cannot be inconsistent.
    Seed,
    /// The expanded key alone, for readers that know no other form.
    Expanded,
    /// Both, as OpenSSL writes them unless told otherwise.
    Both,
}

/// Whose key a `PrivateKeyInfo` or `OneAsymmetricKey` holds, as far as its algorithm identifier says: `None` if it is none,
/// or that of an algorithm which is not in our tables. The key may still turn out to be bad when it is read.
pub fn pkcs8_algorithm(der: &[u8]) -> Option<KeyAlgorithm> {
    // Every version that RFC 5958 could give has one byte.
    let version = inside(der, SEQUENCE)?.strip_prefix(&[INTEGER, 1])?;
    algorithm_ahead(version.get(1..)?)
}

impl<B: Backend> PrivateKey<B> {
    /// Reads an unencrypted PKCS#8 private key in DER. Where it holds more than the seed, everything is checked against
    /// the rest: an expanded key beside its seed, the public key of version 1.
    ///
    /// # Errors
    /// [`Error::KeyEncoding`], [`Error::KeyAlgorithmUnknown`], [`Error::KeyParameters`], [`Error::KeyVersion`];
    /// [`Error::PrivateKeyChoice`] if the private key is in none of the standard's forms;
    /// [`Error::PrivateKeySeedMismatch`]; [`Error::PublicKeyMismatch`]; and those of [`Self::from_seed`] and
    /// [`Self::from_bytes`].
    pub fn from_pkcs8_der(der: &[u8]) -> Result<Self, Error> {
        let mut info = Fields::of(STRUCTURE, der)?;
        let version = info.value("version", INTEGER)?;
        let algorithm = info.algorithm("privateKeyAlgorithm")?;
        let with_public_key = match version {
            [0] => false,
            [1] => true,
            _ => return Err(Error::KeyVersion { algorithm: algorithm.name() }),
        };
        let private_key = info.value("privateKey", OCTET_STRING)?;
        if let Some(attributes) = info.optional("attributes", ATTRIBUTES)? {
            check_attributes(attributes)?;
        }
        let public_key = match info.optional("publicKey", PUBLIC_KEY)? {
            Some(_) if !with_public_key => return Err(Error::KeyVersion { algorithm: algorithm.name() }),
            Some(content) => Some(info.bits("publicKey", content)?),
            None => None,
        };
        info.finish("privateKey")?;

        let key = Self::from_private_key(algorithm, private_key)?;
        match public_key {
            Some(public_key) if public_key != key.public_key() => {
                Err(Error::PublicKeyMismatch { algorithm: algorithm.name() })
            }
            _ => Ok(key),
        }
    }

    /// Takes the content of `privateKey`.
    fn from_private_key(algorithm: KeyAlgorithm, private_key: &[u8]) -> Result<Self, Error> {
        if algorithm.private_key_bytes().is_none() {
            return Self::from_seed(algorithm, private_key);
        }
        const FIELD: &str = "content of privateKey";
        let mut choice = Fields::new(STRUCTURE, private_key)?;
        match choice.next_tag() {
            Some(SEED) => {
                let seed = choice.value(FIELD, SEED)?;
                choice.finish(FIELD)?;
                Self::from_seed(algorithm, seed)
            }
            Some(OCTET_STRING) => {
                let expanded = choice.value(FIELD, OCTET_STRING)?;
                choice.finish(FIELD)?;
                match Self::from_bytes(algorithm, expanded) {
                    // liboqs's providers put the public key behind the expanded one: refused all the same, and here the
                    // length helps to say what it is.
                    Err(Error::PrivateKeyLength { expected, got, .. })
                        if got == expected + algorithm.public_key_bytes() =>
                    {
                        Err(Error::PrivateKeyChoice { algorithm: algorithm.name() })
                    }
                    read => read,
                }
            }
            Some(SEQUENCE) => {
                let mut both = choice.nested(FIELD, SEQUENCE)?;
                choice.finish(FIELD)?;
                let seed = both.value("seed", OCTET_STRING)?;
                let expanded = both.value("expandedKey", OCTET_STRING)?;
                both.finish("expandedKey")?;
                Self::from_both(algorithm, seed, expanded)
            }
            _ => Err(Error::PrivateKeyChoice { algorithm: algorithm.name() }),
        }
    }

    fn from_both(algorithm: KeyAlgorithm, seed: &[u8], expanded: &[u8]) -> Result<Self, Error> {
        if let Some(expected) = algorithm.private_key_bytes()
            && expected != expanded.len()
        {
            return Err(Error::PrivateKeyLength {
                algorithm: algorithm.name(),
                expected,
                got: expanded.len(),
            });
        }
        let key = Self::from_seed(algorithm, seed)?;
        let derived = key.expanded()?;
        if bool::from(derived.ct_eq(expanded)) {
            Ok(key)
        } else {
            Err(Error::PrivateKeySeedMismatch { algorithm: algorithm.name() })
        }
    }

    /// Writes an unencrypted PKCS#8 private key in DER, version 0, without attributes and public key.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a hybrid KEM, which has no object identifier, and for a composite's expanded form, which
    /// does not exist; [`Error::SeedUnknown`] if the seed is asked for and the key was made from its expanded form;
    /// [`Error::Backend`] if the machine fails.
    pub fn to_pkcs8_der(&self, form: PrivateKeyForm) -> Result<Zeroizing<Vec<u8>>, Error> {
        let algorithm = self.algorithm();
        let identifier = algorithm_identifier(algorithm)?;
        let seed = || self.seed().ok_or(Error::SeedUnknown { algorithm: algorithm.name() });
        let has_expanded_form = algorithm.private_key_bytes().is_some();
        let content = match form {
            PrivateKeyForm::Preferred | PrivateKeyForm::Seed if !has_expanded_form => {
                Zeroizing::new(seed()?.to_vec())
            }
            PrivateKeyForm::Preferred if self.seed().is_none() => tlv(OCTET_STRING, &[&self.expanded()?])?,
            PrivateKeyForm::Preferred | PrivateKeyForm::Seed => tlv(SEED, &[seed()?])?,
            PrivateKeyForm::Expanded => tlv(OCTET_STRING, &[&self.expanded()?])?,
            PrivateKeyForm::Both => {
                let expanded = tlv(OCTET_STRING, &[&self.expanded()?])?;
                tlv(SEQUENCE, &[&tlv(OCTET_STRING, &[seed()?])?, &expanded])?
            }
        };
        let version = tlv(INTEGER, &[&[0]])?;
        tlv(SEQUENCE, &[&version, &identifier, &tlv(OCTET_STRING, &[&content])?])
    }

    fn expanded(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        let unsupported =
            Error::Unsupported { algorithm: self.algorithm().name(), what: "an expanded private key" };
        self.to_bytes()?.ok_or(unsupported)
    }
}

/// Attributes say nothing that we use, but must be some: `SET OF SEQUENCE { type OBJECT IDENTIFIER, values SET }`.
fn check_attributes(content: &[u8]) -> Result<(), Error> {
    const FIELD: &str = "attributes";
    let mut attributes = Fields::new(STRUCTURE, content)?;
    while attributes.next_tag().is_some() {
        let mut attribute = attributes.nested(FIELD, SEQUENCE)?;
        attribute.value(FIELD, OBJECT_IDENTIFIER)?;
        attribute.value(FIELD, SET)?;
        attribute.finish(FIELD)?;
    }
    Ok(())
}
