//! Keys in files that are declared to stand in for those in tokens (`pkcs11-software-key`).

use crate::key::{Mechanism, PublicKey};
use crate::{Error, ErrorKind};
use der::SecretDocument;
use qtls_crypto::{MessageEncoding, PrivateKey, SigningRandomness};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// A private key from a file.
pub(crate) struct SoftwareKey {
    file: PathBuf,
    public: PublicKey,
    private: Private,
}

enum Private {
    MlDsa(qtls_crypto::SignaturePrivateKey),
    #[cfg(feature = "aws-lc")]
    Classical(qtls_crypto::ClassicalPrivateKey),
}

/// The label of PKCS#8 (RFC 7468 section 10).
const PEM_LABEL: &str = "PRIVATE KEY";

impl SoftwareKey {
    /// Reads a PEM file with PKCS#8, not encrypted.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`], which names the file and what is wrong with it.
    pub(crate) fn read(file: &Path) -> Result<Self, Error> {
        let refuse = |why: &str| {
            Error::new(ErrorKind::Configuration, format!("pkcs11-software-key '{}': {why}", file.display()))
        };
        let text = std::fs::read_to_string(file).map_err(|error| refuse(&error.to_string()))?;
        let text = Zeroizing::new(text);
        // Other blocks may stand before it, as `EC PARAMETERS` does.
        let start = text.find("-----BEGIN PRIVATE KEY-----").ok_or_else(|| {
            refuse("it has no block 'PRIVATE KEY'; convert it by openssl pkcs8 -topk8 -nocrypt")
        })?;
        let end = "-----END PRIVATE KEY-----";
        let length = text[start..].find(end).ok_or_else(|| refuse("its block 'PRIVATE KEY' has no end"))?;
        let block = &text[start..start + length + end.len()];
        let (label, document) =
            SecretDocument::from_pem(block).map_err(|error| refuse(&error.to_string()))?;
        debug_assert_eq!(label, PEM_LABEL);
        let (public, private) = Private::read(document.as_bytes())
            .ok_or_else(|| refuse("it is none of RSA, EC (P-256, P-384) and ML-DSA, or damaged"))?;
        Ok(Self { file: file.to_owned(), public, private })
    }

    pub(crate) fn public(&self) -> &PublicKey {
        &self.public
    }

    /// As [`crate::TokenKey::sign`].
    pub(crate) fn sign(&self, mechanism: Mechanism<'_>, input: &[u8]) -> Result<Vec<u8>, Error> {
        self.private.sign(mechanism, input).map_err(|error| {
            let text = format!("the software key '{}' does not sign: {error}", self.file.display());
            Error::new(ErrorKind::Token, text)
        })
    }
}

impl Private {
    fn read(der: &[u8]) -> Option<(PublicKey, Self)> {
        if let Ok(PrivateKey::Signature(key)) = <PrivateKey>::from_pkcs8_der(der) {
            if key.algorithm().composite.is_some() {
                return None;
            }
            let public = PublicKey::ml_dsa(key.algorithm(), key.public_key())?;
            return Some((public, Self::MlDsa(key)));
        }
        #[cfg(feature = "aws-lc")]
        if let Ok(key) = qtls_crypto::ClassicalPrivateKey::from_pkcs8_der(der) {
            let public = PublicKey::from_spki_der(key.public_key_der()).ok()?;
            return Some((public, Self::Classical(key)));
        }
        None
    }

    fn sign(&self, mechanism: Mechanism<'_>, input: &[u8]) -> Result<Vec<u8>, String> {
        match (self, mechanism) {
            (Self::MlDsa(key), Mechanism::MlDsa { context, deterministic }) => {
                let randomness =
                    if deterministic { SigningRandomness::Deterministic } else { SigningRandomness::Hedged };
                key.sign(input, MessageEncoding::Pure { context }, randomness)
                    .map_err(|error| error.to_string())
            }
            #[cfg(feature = "aws-lc")]
            (Self::Classical(key), Mechanism::RsaPkcs1 { hash }) => {
                let padding = qtls_crypto::RsaPadding::Pkcs1 { hash };
                key.sign(Some(padding), input).map_err(|error| error.to_string())
            }
            #[cfg(feature = "aws-lc")]
            (Self::Classical(key), Mechanism::RsaPss { hash, mgf1, salt }) => {
                let padding = qtls_crypto::RsaPadding::Pss { hash, mgf1, salt_bytes: salt };
                key.sign(Some(padding), input).map_err(|error| error.to_string())
            }
            #[cfg(feature = "aws-lc")]
            (Self::Classical(key), Mechanism::Ecdsa) => {
                key.sign(None, input).map_err(|error| error.to_string())
            }
            _ => Err("it is of another type".to_owned()),
        }
    }
}
