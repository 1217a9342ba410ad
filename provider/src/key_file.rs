//! Key files: what OpenSSL's encoders and decoders ask for, over the encodings of `qtls-crypto`.

use crate::key::Key;
use crate::key_text::key_text;
use crate::problem::{Problem, Reason};
use crate::provider::Provider;
use qtls_crypto::{
    Error, KeyAlgorithm, PbesCipher, PrivateKey, PrivateKeyForm, PublicKey, encrypt_pkcs8, pkcs8_algorithm,
    spki_algorithm, to_pem,
};
use qtls_pkcs11::TokenKey;
use std::sync::Arc;
use zeroize::Zeroizing;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Structure {
    /// SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7).
    Public,
    /// PrivateKeyInfo (RFC 5958, PKCS#8).
    Private,
    /// EncryptedPrivateKeyInfo (RFC 5958 section 3).
    EncryptedPrivate,
    /// What a type of key had before PKCS#8 (RSAPrivateKey, ECPrivateKey): only keys in tokens, to say that they stay there.
    TypeSpecific,
}

/// How it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Der,
    /// RFC 7468.
    Pem,
}

/// What an encoder writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    File(Structure, Form),
    /// For a person to read.
    Text,
}

/// An encoder at work.
pub(crate) struct Encoder {
    pub(crate) provider: Arc<Provider>,
    pub(crate) output: Output,
    /// Private keys are encrypted with it.
    pub(crate) cipher: Cipher,
}

/// What private keys are encrypted with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cipher {
    /// Nothing, unless the structure is an encrypted one.
    Unset,
    Known(PbesCipher),
    /// What OpenSSL called a cipher that is not there.
    Unknown(String),
}

impl Encoder {
    /// Chooses the cipher for private keys by OpenSSL's name for it. One that is not there is refused when a private key is to
    /// be written: libcrypto sets the cipher of every encoder that it has, and each of them would say the same.
    pub(crate) fn choose_cipher(&mut self, name: &str) {
        self.cipher = match PbesCipher::by_name(name) {
            Some(cipher) => Cipher::Known(cipher),
            None => Cipher::Unknown(name.to_owned()),
        };
    }

    /// The bytes of the file.
    ///
    /// # Errors
    /// The key lacks the part that is to be written, or has no file format; a cipher that is not there; no passphrase.
    pub(crate) fn encode(
        &self,
        key: &Key,
        with_private: bool,
        passphrase: impl FnOnce() -> Result<Zeroizing<Vec<u8>>, Problem>,
    ) -> Result<Zeroizing<Vec<u8>>, Problem> {
        let (structure, form) = match self.output {
            Output::Text => {
                return key_text(key, with_private)
                    .map(|mut text| Zeroizing::new(std::mem::take(&mut *text).into_bytes()));
            }
            Output::File(structure, form) => (structure, form),
        };
        let (label, der) = match (structure, &self.cipher) {
            (Structure::Public, _) => ("PUBLIC KEY", Zeroizing::new(key.to_public()?.to_spki_der()?)),
            (Structure::Private | Structure::TypeSpecific, Cipher::Unset) => {
                ("PRIVATE KEY", private_key_info(key)?)
            }
            (Structure::EncryptedPrivate, Cipher::Unset) => {
                encrypted(key, PbesCipher::Aes256Cbc, passphrase)?
            }
            (_, Cipher::Known(cipher)) => encrypted(key, *cipher, passphrase)?,
            (_, Cipher::Unknown(name)) => {
                return Err(Problem::argument(format!("{name}: {}", Error::CipherUnknown)));
            }
        };
        Ok(match form {
            Form::Der => der,
            Form::Pem => Zeroizing::new(std::mem::take(&mut *to_pem(label, &der)).into_bytes()),
        })
    }
}

fn private_key_info(key: &Key) -> Result<Zeroizing<Vec<u8>>, Problem> {
    if let Some(token) = key.token() {
        return Err(key_stays_in_token(token));
    }
    let private = key.private().ok_or_else(|| {
        Problem::new(
            Reason::MissingKey,
            format!("{}: a private key is to be written, and this key has none", key.algorithm().name()),
        )
    })?;
    Ok(private.to_pkcs8_der(PrivateKeyForm::Preferred)?)
}

fn encrypted(
    key: &Key,
    cipher: PbesCipher,
    passphrase: impl FnOnce() -> Result<Zeroizing<Vec<u8>>, Problem>,
) -> Result<(&'static str, Zeroizing<Vec<u8>>), Problem> {
    let info = private_key_info(key)?;
    Ok(("ENCRYPTED PRIVATE KEY", Zeroizing::new(encrypt_pkcs8(&info, &passphrase()?, cipher)?)))
}

/// What is said where the private half of a token's key is to be written.
pub(crate) fn key_stays_in_token(key: &TokenKey) -> Problem {
    Problem::new(
        Reason::KeyStaysInToken,
        format!(
            "{}: the private key stays in its token and is not written; for a file that names it: qtls key-ref '{0}'",
            key.uri()
        ),
    )
}

/// A decoder at work: for the keys of one algorithm in one structure, in DER.
pub(crate) struct Decoder {
    pub(crate) provider: Arc<Provider>,
    pub(crate) algorithm: KeyAlgorithm,
    /// For private keys, in PKCS#8; else for public ones.
    pub(crate) private: bool,
}

impl Decoder {
    /// The key in `der`; none if it is something else, which another decoder may know.
    ///
    /// # Errors
    /// It says that it is a key of this algorithm, and is not a right one.
    pub(crate) fn decode(&self, der: &[u8]) -> Result<Option<Key>, Problem> {
        let said = if self.private { pkcs8_algorithm(der) } else { spki_algorithm(der) };
        if said != Some(self.algorithm) {
            return Ok(None);
        }
        let key = self.decode_own(der).inspect_err(|problem| {
            self.provider.tell_of_bad_key(self.private, problem);
        })?;
        self.provider.key_was_read(self.algorithm);
        Ok(Some(key))
    }

    fn decode_own(&self, der: &[u8]) -> Result<Key, Problem> {
        if self.private {
            Key::of_private(self.provider.clone(), PrivateKey::from_pkcs8_der(der)?)
        } else {
            Key::of_public(self.provider.clone(), PublicKey::from_spki_der(der)?)
        }
    }
}

/// How many bytes a DER object has that begins like this, header included; none if they begin none, or one longer than any
/// key. `header` holds the first bytes of it.
pub(crate) fn object_bytes(header: &[u8; HEADER_BYTES]) -> Option<usize> {
    const SEQUENCE: u8 = 0x30;
    let [tag, first, long @ ..] = *header;
    if tag != SEQUENCE {
        return None;
    }
    // X.690 section 8.1.3: below 0x80 the length itself, else the number of bytes that follow and hold it.
    let (length_bytes, length) = match first {
        0..=0x7F => (0, usize::from(first)),
        0x81 => (1, usize::from(long[0])),
        0x82 => (2, usize::from(long[0]) << 8 | usize::from(long[1])),
        _ => return None,
    };
    Some(2 + length_bytes + length)
}

/// Bytes from which the length of an object of up to 65,535 bytes can be read.
pub(crate) const HEADER_BYTES: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_s_length_is_read_from_its_header_and_what_is_no_key_is_passed_over() {
        assert_eq!(object_bytes(&[0x30, 0x05, 0xFF, 0xFF]), Some(7));
        assert_eq!(object_bytes(&[0x30, 0x81, 0xC8, 0xFF]), Some(203));
        assert_eq!(object_bytes(&[0x30, 0x82, 0x15, 0x00]), Some(4 + 0x1500));
        for header in
            [[0x31, 0x05, 0, 0], [0x30, 0x80, 0, 0], [0x30, 0x83, 1, 0], [0x30, 0xFF, 0, 0], *b"----"]
        {
            assert_eq!(object_bytes(&header), None, "{header:x?}");
        }
    }
}
