//! The tokens of one configuration.

use crate::key::{PublicKey, TokenKey};
use crate::{Config, EcCurve, Error, ObjectClass, Uri};
use qtls_crypto::SignatureAlgorithm;
use std::sync::Arc;

/// The tokens of one configuration. Making it does no more than take note of the environment that modules may need.
pub struct Hsm {}

/// A certificate found in a token.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// CKA_LABEL.
    pub label: String,
    /// CKA_VALUE: X.509 in DER.
    pub der: Vec<u8>,
}

/// A token, as `qtls doctor --hsm` and errors show it.
#[derive(Clone, Debug)]
pub struct TokenInfo {
    /// The slot's number.
    pub slot_id: u64,
    /// Label of the token.
    pub label: String,
    /// Its manufacturer.
    pub manufacturer: String,
    /// Its model.
    pub model: String,
    /// Its serial number.
    pub serial: String,
    /// Whether it was initialised.
    pub initialized: bool,
    /// CKF_USER_PIN_LOCKED
    pub pin_locked: bool,
    /// CKF_USER_PIN_FINAL_TRY
    pub pin_final_try: bool,
}

/// An object in a token.
#[derive(Clone, Debug)]
pub struct ObjectInfo {
    /// Its class.
    pub class: ObjectClass,
    /// CKA_LABEL.
    pub label: String,
    /// CKA_ID.
    pub id: Vec<u8>,
    /// A URI that names it alone.
    pub uri: String,
    /// Type, as `ML-DSA-65`, `EC P-256`, `RSA 3072`; for people.
    pub description: String,
}

/// What to generate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GenerateType {
    /// RSA with so many bits, e = 65537.
    Rsa(u32),
    /// On a curve.
    Ec(EcCurve),
    /// ML-DSA.
    MlDsa(&'static SignatureAlgorithm),
}

impl Hsm {
    /// Takes note; no module is loaded.
    pub fn new(_config: Config) -> Arc<Self> {
        unimplemented!()
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        unimplemented!()
    }

    /// The key that a URI names. A URI asked for before is answered without a token call. With `public`, its public key, no
    /// token is needed now: the PIN is read, and that is all.
    ///
    /// # Errors
    /// Each names the URI, the cause, and what to do.
    pub fn key(self: &Arc<Self>, _uri: &Uri, _public: Option<PublicKey>) -> Result<Arc<TokenKey>, Error> {
        unimplemented!()
    }

    /// The certificates that a URI names (none is no error).
    ///
    /// # Errors
    /// Each names the URI, the cause, and what to do.
    pub fn certificates(&self, _uri: &Uri) -> Result<Vec<Certificate>, Error> {
        unimplemented!()
    }

    /// Public keys that a URI names, by public objects.
    ///
    /// # Errors
    /// Each names the URI, the cause, and what to do.
    pub fn public_keys(&self, _uri: &Uri) -> Result<Vec<PublicKey>, Error> {
        unimplemented!()
    }

    /// What a token of the configuration (0 is the first) holds, after a login where a PIN is configured.
    ///
    /// # Errors
    /// As above.
    pub fn objects(&self, _token: usize, _uri: &Uri) -> Result<Vec<ObjectInfo>, Error> {
        unimplemented!()
    }

    /// The tokens that the module of a configured token (0 is the first) shows.
    ///
    /// # Errors
    /// The module does not load or answer.
    pub fn tokens(&self, _token: usize) -> Result<Vec<TokenInfo>, Error> {
        unimplemented!()
    }

    /// Makes a key pair in the token that the URI names, with its `object` and `id` (a random one without), private and not
    /// extractable, and answers with it.
    ///
    /// # Errors
    /// The URI names an object that exists already; the token cannot do it, or is full.
    pub fn generate(self: &Arc<Self>, _uri: &Uri, _kind: GenerateType) -> Result<Arc<TokenKey>, Error> {
        unimplemented!()
    }

    /// Closes and finalises what this process opened. Called when the provider is unloaded.
    pub fn close(&self) {
        unimplemented!()
    }
}
