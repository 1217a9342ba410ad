//! Encodings of RSA and EC keys of tokens: the public half, and for a person to read.

use crate::key_file::{Form, Output, Structure, key_stays_in_token};
use crate::key_text::{append, append_bytes};
use crate::problem::{Problem, Reason};
use crate::provider::Provider;
use crate::token_key::{TokenKeyObject, group_name, strength};
use qtls_crypto::to_pem;
use qtls_pkcs11::PublicKey;
use std::sync::Arc;

/// An encoder at work.
pub(crate) struct TokenEncoder {
    pub(crate) provider: Arc<Provider>,
    pub(crate) output: Output,
}

impl TokenEncoder {
    /// The bytes of the file.
    ///
    /// # Errors
    /// The private half is to be written; the key is empty.
    pub(crate) fn encode(&self, key: &TokenKeyObject, with_private: bool) -> Result<Vec<u8>, Problem> {
        let public = key.public().ok_or_else(|| {
            Problem::new(Reason::MissingKey, "a key is to be written, and this key object is empty")
        })?;
        match (self.output, key.token()) {
            (Output::Text, _) => Ok(text(key, public, with_private).into_bytes()),
            (Output::File(Structure::Public, Form::Der), _) => Ok(public.to_spki_der()),
            (Output::File(Structure::Public, Form::Pem), _) => {
                Ok(to_pem("PUBLIC KEY", &public.to_spki_der()).as_bytes().to_vec())
            }
            (Output::File(..), Some(token)) => Err(key_stays_in_token(token)),
            (Output::File(..), None) => Err(Problem::new(
                Reason::MissingKey,
                "a private key is to be written, and this key object has none",
            )),
        }
    }
}

/// In the form of `openssl pkey -text`.
fn text(key: &TokenKeyObject, public: &PublicKey, with_private: bool) -> String {
    let mut text = String::new();
    let bits = strength(public.key_type()).0;
    match key.token().filter(|_| with_private) {
        Some(token) => {
            append(&mut text, format_args!("Private-Key in a token: ({bits} bit)\nuri: {}\n", token.uri()))
        }
        None => append(&mut text, format_args!("Public-Key: ({bits} bit)\n")),
    }
    match public {
        PublicKey::Rsa { modulus, exponent } => {
            append_bytes(&mut text, "modulus", modulus);
            append_bytes(&mut text, "exponent", exponent);
        }
        PublicKey::Ec { curve, point } => {
            append_bytes(&mut text, "pub", point);
            append(&mut text, format_args!("ASN1 OID: {}\n", group_name(*curve).to_string_lossy()));
        }
        PublicKey::MlDsa { key, .. } => append_bytes(&mut text, "pub", key),
    }
    text
}
