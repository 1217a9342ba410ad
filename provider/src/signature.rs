//! Signing and verifying, as libcrypto asks for it: at once or in pieces, with the settings of OpenSSL 3.5's own ML-DSA.

use crate::key::{Key, Signer};
use crate::problem::{Problem, Reason};
use crate::provider::Provider;
use qtls_crypto::{
    KeyAlgorithm, MessageEncoding, MessageHash, MessageRepresentative, MlDsa, SignatureAlgorithm,
    SignaturePublicKey, SigningRandomness,
};
use qtls_pkcs11::{Mechanism, TokenKey};
use std::sync::Arc;
use zeroize::Zeroizing;

/// A signature being made or checked.
pub(crate) struct SignatureOperation {
    pub(crate) provider: Arc<Provider>,
    role: Option<Role>,
    settings: Settings,
    /// A message that comes in pieces.
    begun: Option<Begun>,
    /// What `EVP_PKEY_verify_message_final` will check.
    to_verify: Option<Vec<u8>>,
}

#[derive(Clone)]
enum Role {
    Sign(Signer),
    Verify(SignaturePublicKey),
}

/// What `EVP_PKEY_CTX_set_params` may change (EVP_SIGNATURE-ML-DSA(7)).
#[derive(Clone, Default)]
pub(crate) struct Settings {
    /// `context-string`, at most 255 bytes.
    pub(crate) context: Vec<u8>,
    /// `message-encoding` 0: the message was encoded by the caller.
    pub(crate) raw: bool,
    /// `mu`: what is given is the message's representative µ of 64 bytes.
    pub(crate) mu: bool,
    /// `deterministic`.
    pub(crate) deterministic: bool,
    /// `test-entropy`: the randomness of the signature, for tests with known answers.
    pub(crate) test_entropy: Option<Zeroizing<[u8; MlDsa::RANDOMNESS_BYTES]>>,
}

enum Begun {
    Message(MessageHash),
    Mu(Vec<u8>),
    /// A token is handed the message and not its representative.
    Whole(Vec<u8>),
}

/// Bytes of a message in pieces that are kept for a token. Certificates, revocation lists and handshakes come whole.
const MAX_PIECES_BYTES: usize = 16 << 20;

impl SignatureOperation {
    pub(crate) fn new(provider: Arc<Provider>) -> Self {
        Self { provider, role: None, settings: Settings::default(), begun: None, to_verify: None }
    }

    /// Begins to sign with a key, or again with the one before.
    ///
    /// # Errors
    /// No key at all, or one that cannot sign.
    pub(crate) fn begin_signing(&mut self, key: Option<&Key>) -> Result<(), Problem> {
        let role = match (key, &self.role) {
            (Some(key), _) => Role::Sign(key.to_signing()?),
            (None, Some(role @ Role::Sign(_))) => role.clone(),
            (None, _) => return Err(no_key()),
        };
        self.begin(role);
        Ok(())
    }

    /// Begins to verify with a key, or again with the one before.
    ///
    /// # Errors
    /// No key at all, or one that cannot verify.
    pub(crate) fn begin_verifying(&mut self, key: Option<&Key>) -> Result<(), Problem> {
        let role = match (key, &self.role) {
            (Some(key), _) => Role::Verify(key.to_verifying()?),
            (None, Some(role @ Role::Verify(_))) => role.clone(),
            (None, _) => return Err(no_key()),
        };
        self.begin(role);
        Ok(())
    }

    fn begin(&mut self, role: Role) {
        self.role = Some(role);
        self.begun = None;
        self.to_verify = None;
        // As OpenSSL's own: the other settings stay when a context is initialised again.
        self.settings.mu = false;
    }

    /// Whether a digest of this name may be asked for: these algorithms take the message as it is, and the name changes
    /// nothing. Two things make libcrypto give one all the same:
    ///
    /// Before OpenSSL 3.2 a signature has as many security bits as its digest, and none without one, so that libssl
    /// refuses a chain under such a signature ("ca md too weak"). There their signatures are registered with SHA-512, whose
    /// name then comes back here.
    ///
    /// Before OpenSSL 3.5 CMS initialises every signature with the digest of the content. Messages are signed with SHA-512,
    /// which RFC 9882 section 3.3 has everybody support, and verified with every digest that it finds strong enough.
    ///
    /// # Errors
    /// There is no key yet; any other digest.
    pub(crate) fn accept_digest(&self, name: Option<&str>) -> Result<(), Problem> {
        /// OpenSSL's names, and bits.
        const DIGESTS: [(&[&str], u32); 6] = [
            (&["SHA512", "SHA2-512", "SHA-512", "2.16.840.1.101.3.4.2.3"], 512),
            (&["SHA384", "SHA2-384", "SHA-384", "2.16.840.1.101.3.4.2.2"], 384),
            (&["SHA256", "SHA2-256", "SHA-256", "2.16.840.1.101.3.4.2.1"], 256),
            (&["SHA3-512", "2.16.840.1.101.3.4.2.10"], 512),
            (&["SHA3-384", "2.16.840.1.101.3.4.2.9"], 384),
            (&["SHA3-256", "2.16.840.1.101.3.4.2.8"], 256),
        ];
        let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(()) };
        let known = |(names, _): &&(&[&str], u32)| names.iter().any(|known| known.eq_ignore_ascii_case(name));
        let accepted = match &self.role {
            None => return Err(no_key()),
            Some(Role::Sign(_)) => DIGESTS.first().is_some_and(|sha512| known(&sha512)),
            Some(Role::Verify(key)) => {
                DIGESTS.iter().find(known).is_some_and(|(_, bits)| *bits >= 2 * key.algorithm().security_bits)
            }
        };
        if accepted && self.provider.hears_needless_digests() {
            return Ok(());
        }
        Err(Problem::argument(format!(
            "the digest {name} was asked for, but ML-DSA and composite keys sign the message itself: leave the digest out \
             (in an openssl.cnf for `openssl ca`: default_md = default; for `openssl cms` before OpenSSL 3.5: -md sha512)"
        )))
    }

    pub(crate) fn settings_mut(&mut self) -> &mut Settings {
        &mut self.settings
    }

    /// Takes the signature that [`Self::finish_verifying`] will check, where it is not given there.
    pub(crate) fn set_signature(&mut self, signature: &[u8]) {
        self.to_verify = Some(signature.to_vec());
    }

    /// The algorithm of the key.
    ///
    /// # Errors
    /// There is no key yet.
    pub(crate) fn algorithm(&self) -> Result<&'static SignatureAlgorithm, Problem> {
        self.role.as_ref().map(Role::algorithm).ok_or_else(no_key)
    }

    /// Takes in the next piece of the message.
    ///
    /// # Errors
    /// There is no key yet, settings that the algorithm does not have.
    pub(crate) fn update(&mut self, piece: &[u8]) -> Result<(), Problem> {
        if self.begun.is_none() {
            self.begun = Some(self.begin_message()?);
        }
        match &mut self.begun {
            Some(Begun::Message(hash)) => hash.update(piece)?,
            Some(Begun::Mu(mu)) => {
                // One byte more than there may be is enough to be refused at the end.
                let room = MlDsa::MU_BYTES + 1 - mu.len();
                mu.extend_from_slice(&piece[..piece.len().min(room)]);
            }
            Some(Begun::Whole(message)) => {
                if piece.len() > MAX_PIECES_BYTES - message.len() {
                    return Err(Problem::argument(format!(
                        "a message of more than {} MiB in pieces is not signed by a key in a token, which has to be handed it \
                         whole; sign a digest of it",
                        MAX_PIECES_BYTES >> 20
                    )));
                }
                message.extend_from_slice(piece);
            }
            None => {}
        }
        Ok(())
    }

    /// The signature of what was taken in.
    ///
    /// # Errors
    /// There is no key to sign with; the machine failed.
    pub(crate) fn finish_signing(&mut self) -> Result<Vec<u8>, Problem> {
        if let Some(Role::Sign(Signer::Token(key, _))) = &self.role {
            let key = key.clone();
            return match self.begun.take() {
                Some(Begun::Whole(message)) => self.sign_in_token(&key, &message),
                _ => self.sign_in_token(&key, &[]),
            };
        }
        let representative = self.finish_message()?;
        self.sign_representative(&representative)
    }

    /// Whether this, or the signature given before, is one of what was taken in.
    ///
    /// # Errors
    /// It is not; there is none, or no key to verify with.
    pub(crate) fn finish_verifying(&mut self, signature: Option<&[u8]>) -> Result<(), Problem> {
        let representative = self.finish_message()?;
        match (signature, self.to_verify.take()) {
            (Some(signature), _) => self.verify_representative(&representative, signature),
            (None, Some(signature)) => self.verify_representative(&representative, &signature),
            (None, None) => Err(Problem::argument(
                "no signature was given to verify (the parameter 'signature', EVP_PKEY_CTX_set_signature)",
            )),
        }
    }

    /// The signature of a whole message.
    ///
    /// # Errors
    /// As [`Self::finish_signing`]; a handshake for a key that TLS is offered no scheme for.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Problem> {
        self.refuse_foreign_handshake(message)?;
        match &self.role {
            Some(Role::Sign(Signer::Token(key, _))) => self.sign_in_token(key, message),
            _ => self.sign_representative(&self.representative(message)?),
        }
    }

    /// Whether a signature is one of a whole message.
    ///
    /// # Errors
    /// As [`Self::finish_verifying`]; a handshake for a key that TLS is offered no scheme for.
    pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), Problem> {
        self.refuse_foreign_handshake(message)?;
        self.verify_representative(&self.representative(message)?, signature)
    }

    /// A second operation in the same state.
    ///
    /// # Errors
    /// The machine failed.
    pub(crate) fn duplicate(&self) -> Result<Self, Problem> {
        Ok(Self {
            provider: self.provider.clone(),
            role: self.role.clone(),
            settings: self.settings.clone(),
            begun: match &self.begun {
                None => None,
                Some(Begun::Message(hash)) => Some(Begun::Message(hash.try_clone()?)),
                Some(Begun::Mu(mu)) => Some(Begun::Mu(mu.clone())),
                Some(Begun::Whole(message)) => Some(Begun::Whole(message.clone())),
            },
            to_verify: self.to_verify.clone(),
        })
    }

    /// libssl lets a provider's key of any type sign under, and verify, whatever provider's scheme the peer names
    /// (`tls12_check_peer_sigalg`). TLS has no scheme for composite keys, and none for what `signatures` leaves out: what they
    /// sign would pass for `mldsa65`.
    fn refuse_foreign_handshake(&self, message: &[u8]) -> Result<(), Problem> {
        // RFC 8446 section 4.4.3: 64 spaces, then the context string.
        const SPACES: usize = 64;
        const CONTEXT: &[u8] = b"TLS 1.3, ";
        let algorithm = self.algorithm()?;
        let is_handshake = message.split_at_checked(SPACES).is_some_and(|(spaces, rest)| {
            spaces.iter().all(|byte| *byte == b' ') && rest.starts_with(CONTEXT)
        });
        if is_handshake && !self.provider.offers_signature(algorithm) {
            let why = if algorithm.tls_scheme.is_none() {
                "TLS 1.3 has no signature scheme for this type of key, which signs certificates; give the server or client a \
                 certificate with an ML-DSA or classical key, issued by this one"
            } else {
                "the option 'signatures' in the provider's section of openssl.cnf does not offer this type of key to TLS; add \
                 its scheme there, or use a certificate with a key that is offered"
            };
            return Err(Problem::argument(format!("{}: {why}", algorithm.name)));
        }
        Ok(())
    }

    fn begin_message(&self) -> Result<Begun, Problem> {
        let role = self.role.as_ref().ok_or_else(no_key)?;
        if self.settings.mu && !matches!(role, Role::Sign(Signer::Token(..))) {
            return Ok(Begun::Mu(Vec::new()));
        }
        let encoding = self.encoding();
        Ok(match role {
            Role::Sign(Signer::Token(..)) => Begun::Whole(Vec::new()),
            Role::Sign(Signer::Here(key)) => Begun::Message(key.message_hash(encoding)?),
            Role::Verify(key) => Begun::Message(key.message_hash(encoding)?),
        })
    }

    fn finish_message(&mut self) -> Result<MessageRepresentative, Problem> {
        let begun = match self.begun.take() {
            Some(begun) => begun,
            None => self.begin_message()?,
        };
        self.finish(begun)
    }

    fn representative(&self, message: &[u8]) -> Result<MessageRepresentative, Problem> {
        let mut begun = self.begin_message()?;
        match &mut begun {
            Begun::Message(hash) => hash.update(message)?,
            Begun::Mu(bytes) | Begun::Whole(bytes) => bytes.extend_from_slice(message),
        }
        self.finish(begun)
    }

    fn finish(&self, begun: Begun) -> Result<MessageRepresentative, Problem> {
        Ok(match begun {
            Begun::Message(hash) => hash.finish()?,
            // Never `Whole`: that is for tokens, which make no representative here.
            Begun::Mu(mu) | Begun::Whole(mu) => MessageRepresentative::from_mu(self.algorithm()?, &mu)?,
        })
    }

    fn sign_representative(&self, representative: &MessageRepresentative) -> Result<Vec<u8>, Problem> {
        let Some(Role::Sign(Signer::Here(key))) = &self.role else {
            return Err(Problem::argument(
                "signing was not initialised (EVP_DigestSignInit, EVP_PKEY_sign_init)",
            ));
        };
        let randomness = match (&self.settings.test_entropy, self.settings.deterministic) {
            (Some(given), _) => SigningRandomness::Given(given),
            (None, true) => SigningRandomness::Deterministic,
            (None, false) => SigningRandomness::Hedged,
        };
        Ok(key.sign_representative(representative, randomness)?)
    }

    /// PKCS#11 3.2 has ML-DSA of messages (CKM_ML_DSA) with a context and hedged or not; what else OpenSSL's own has is refused.
    fn sign_in_token(&self, key: &Arc<TokenKey>, message: &[u8]) -> Result<Vec<u8>, Problem> {
        let Settings { context, raw, mu, deterministic, test_entropy } = &self.settings;
        for (asked, what) in [
            (*raw, "a message that was encoded before ('message-encoding' 0)"),
            (*mu, "a representative µ ('mu')"),
            (test_entropy.is_some(), "randomness that is given ('test-entropy')"),
        ] {
            if asked {
                return Err(Problem::argument(format!(
                    "{}: a token does not sign {what}; leave that setting out",
                    key.uri()
                )));
            }
        }
        let mechanism = Mechanism::MlDsa { context, deterministic: *deterministic };
        self.provider.with_tokens(|_| key.sign(mechanism, message))
    }

    fn verify_representative(
        &self,
        representative: &MessageRepresentative,
        signature: &[u8],
    ) -> Result<(), Problem> {
        let Some(Role::Verify(key)) = &self.role else {
            return Err(Problem::argument(
                "verification was not initialised (EVP_DigestVerifyInit, EVP_PKEY_verify_init)",
            ));
        };
        Ok(key.verify_representative(representative, signature)?)
    }

    fn encoding(&self) -> MessageEncoding<'_> {
        if self.settings.raw {
            MessageEncoding::Raw
        } else {
            MessageEncoding::Pure { context: &self.settings.context }
        }
    }
}

impl Role {
    fn algorithm(&self) -> &'static SignatureAlgorithm {
        match self {
            Self::Sign(Signer::Here(key)) => key.algorithm(),
            Self::Sign(Signer::Token(_, algorithm)) => algorithm,
            Self::Verify(key) => key.algorithm(),
        }
    }
}

fn no_key() -> Problem {
    Problem::new(
        Reason::MissingKey,
        "no key was given for the signature (EVP_DigestSignInit and its siblings)",
    )
}

/// The `AlgorithmIdentifier` of signatures and keys of an algorithm.
pub(crate) fn algorithm_identifier(algorithm: &'static SignatureAlgorithm) -> Option<Vec<u8>> {
    qtls_crypto::algorithm_identifier_der(KeyAlgorithm::Signature(algorithm))
}
