//! Keys as libcrypto holds them: empty, public or private, of one row of the tables.

use crate::problem::{Problem, Reason};
use crate::provider::Provider;
use qtls_crypto::{
    KemPrivateKey, KemPublicKey, KeyAlgorithm, MessageEncoding, PrivateKey, PublicKey, SignatureAlgorithm,
    SignaturePrivateKey, SignaturePublicKey, SigningRandomness,
};
use qtls_pkcs11::{Mechanism, TokenKey};
use std::sync::{Arc, OnceLock};
use zeroize::Zeroizing;

/// A key object. It starts empty, as libcrypto makes it, and is filled once.
pub(crate) struct Key {
    pub(crate) provider: Arc<Provider>,
    algorithm: KeyAlgorithm,
    material: OnceLock<Material>,
    /// The public key of a private one, made when it is first asked for.
    public: OnceLock<PublicKey>,
}

#[derive(Clone)]
enum Material {
    Public(PublicKey),
    Private(PrivateKey),
    /// The private half is in a token.
    Token(Arc<TokenKey>, PublicKey),
}

/// What signs.
#[derive(Clone)]
pub(crate) enum Signer {
    Here(SignaturePrivateKey),
    Token(Arc<TokenKey>, &'static SignatureAlgorithm),
}

/// The parts of a key that a program hands in; each as `OSSL_PARAM`s carry it.
#[derive(Default)]
pub(crate) struct Parts<'a> {
    pub(crate) public: Option<&'a [u8]>,
    /// The expanded private key; a composite signature's only form.
    pub(crate) private: Option<&'a [u8]>,
    pub(crate) seed: Option<&'a [u8]>,
}

impl Key {
    /// An empty key.
    ///
    /// # Errors
    /// A failed self-test of the algorithm.
    pub(crate) fn empty(provider: Arc<Provider>, algorithm: KeyAlgorithm) -> Result<Self, Problem> {
        provider.require_self_test(algorithm)?;
        Ok(Self { provider, algorithm, material: OnceLock::new(), public: OnceLock::new() })
    }

    /// A key with a public part.
    ///
    /// # Errors
    /// A failed self-test of the algorithm.
    pub(crate) fn of_public(provider: Arc<Provider>, key: PublicKey) -> Result<Self, Problem> {
        let made = Self::empty(provider, key.algorithm())?;
        made.fill(Material::Public(key))?;
        Ok(made)
    }

    /// A key with both parts.
    ///
    /// # Errors
    /// A failed self-test of the algorithm.
    pub(crate) fn of_private(provider: Arc<Provider>, key: PrivateKey) -> Result<Self, Problem> {
        let made = Self::empty(provider, key.algorithm())?;
        made.fill(Material::Private(key))?;
        Ok(made)
    }

    /// An ML-DSA key whose private half is in a token.
    ///
    /// # Errors
    /// A failed self-test of the algorithm; the token's public key is not one of this algorithm.
    pub(crate) fn of_token(
        provider: Arc<Provider>,
        algorithm: &'static SignatureAlgorithm,
        key: Arc<TokenKey>,
        public: &[u8],
    ) -> Result<Self, Problem> {
        let algorithm = KeyAlgorithm::Signature(algorithm);
        let made = Self::empty(provider, algorithm)?;
        made.fill(Material::Token(key, PublicKey::from_bytes(algorithm, public)?))?;
        Ok(made)
    }

    /// Makes a key pair, from a seed where one is given.
    ///
    /// # Errors
    /// A failed self-test, a seed of the wrong length or content, no randomness.
    pub(crate) fn generate(
        provider: Arc<Provider>,
        algorithm: KeyAlgorithm,
        seed: Option<&[u8]>,
    ) -> Result<Self, Problem> {
        let key = Self::empty(provider, algorithm)?;
        key.fill(Material::Private(match seed {
            Some(seed) => PrivateKey::from_seed(algorithm, seed)?,
            None => PrivateKey::generate(algorithm)?,
        }))?;
        Ok(key)
    }

    pub(crate) fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// Fills an empty key from its parts. Parts that say the same twice must agree.
    ///
    /// # Errors
    /// A part of the wrong length or content, parts that do not belong together, no part at all, a key that is not
    /// empty.
    pub(crate) fn import(&self, parts: &Parts<'_>) -> Result<(), Problem> {
        let algorithm = self.algorithm;
        let private = match (parts.seed, parts.private) {
            (Some(seed), _) => Some(PrivateKey::from_seed(algorithm, seed)?),
            (None, Some(private)) if algorithm.private_key_bytes().is_none() => {
                Some(PrivateKey::from_seed(algorithm, private)?)
            }
            (None, Some(private)) => Some(PrivateKey::from_bytes(algorithm, private)?),
            (None, None) => None,
        };
        if let (Some(key), Some(_), Some(private)) = (&private, parts.seed, parts.private)
            && !written(key)?.is_some_and(|derived| equal_in_constant_time(&derived, private))
        {
            return Err(self.mismatch("the seed and the private key"));
        }
        match (private, parts.public) {
            (Some(private), Some(public)) if private.public_key() != public => {
                Err(self.mismatch("the private and the public key"))
            }
            (Some(private), _) => self.fill(Material::Private(private)),
            (None, Some(public)) => self.fill(Material::Public(PublicKey::from_bytes(algorithm, public)?)),
            (None, None) => Err(Problem::new(
                Reason::MissingKey,
                format!(
                    "{}: neither 'pub' nor 'priv' nor 'seed' was given to make a key from",
                    algorithm.name()
                ),
            )),
        }
    }

    pub(crate) fn has_public(&self) -> bool {
        self.material.get().is_some()
    }

    pub(crate) fn has_private(&self) -> bool {
        matches!(self.material.get(), Some(Material::Private(_) | Material::Token(..)))
    }

    /// The key in a token that this one stands for.
    pub(crate) fn token(&self) -> Option<&Arc<TokenKey>> {
        match self.material.get() {
            Some(Material::Token(key, _)) => Some(key),
            _ => None,
        }
    }

    /// The encoded public key, which is also a KEM's key share.
    pub(crate) fn public_bytes(&self) -> Option<&[u8]> {
        self.material.get().map(Material::public_bytes)
    }

    /// The seed, where the algorithm's key format has one (FIPS 203, FIPS 204) and the key was made from it.
    pub(crate) fn seed(&self) -> Option<&[u8]> {
        let has_one = match self.algorithm {
            KeyAlgorithm::Kem(row) => row.curve.is_none(),
            KeyAlgorithm::Signature(row) => row.composite.is_none(),
        };
        self.private().filter(|_| has_one).and_then(PrivateKey::seed)
    }

    /// The expanded private key; of a composite signature the short form, its only one.
    ///
    /// # Errors
    /// The backend failed.
    pub(crate) fn private_bytes(&self) -> Result<Option<Zeroizing<Vec<u8>>>, Problem> {
        self.private().map_or(Ok(None), written)
    }

    /// The private key, where there is one.
    pub(crate) fn private(&self) -> Option<&PrivateKey> {
        match self.material.get() {
            Some(Material::Private(private)) => Some(private),
            _ => None,
        }
    }

    /// The public key.
    ///
    /// # Errors
    /// The key is empty; the backend failed.
    pub(crate) fn to_public(&self) -> Result<PublicKey, Problem> {
        match self.material.get() {
            Some(Material::Public(public) | Material::Token(_, public)) => Ok(public.clone()),
            Some(Material::Private(private)) => match self.public.get() {
                Some(public) => Ok(public.clone()),
                None => {
                    let public = PublicKey::from_bytes(self.algorithm, private.public_key())?;
                    Ok(self.public.get_or_init(|| public).clone())
                }
            },
            None => Err(self.missing("a public key is needed, and this key object is empty")),
        }
    }

    /// The key for encapsulating to it.
    ///
    /// # Errors
    /// The key is empty, or for signatures.
    pub(crate) fn to_kem_public(&self) -> Result<KemPublicKey, Problem> {
        match self.to_public()? {
            PublicKey::Kem(public) => Ok(public),
            PublicKey::Signature(_) => Err(self.wrong_operation("encapsulate to")),
        }
    }

    /// The key for decapsulating.
    ///
    /// # Errors
    /// The key has no private part, or is for signatures.
    pub(crate) fn to_kem_private(&self) -> Result<KemPrivateKey, Problem> {
        match self.private() {
            Some(PrivateKey::Kem(private)) => Ok(private.clone()),
            Some(PrivateKey::Signature(_)) => Err(self.wrong_operation("decapsulate with")),
            None => Err(self.missing("decapsulation needs a private key, and this key object has none")),
        }
    }

    /// The key for verifying.
    ///
    /// # Errors
    /// The key is empty, or a KEM's.
    pub(crate) fn to_verifying(&self) -> Result<SignaturePublicKey, Problem> {
        match self.to_public()? {
            PublicKey::Signature(public) => Ok(public),
            PublicKey::Kem(_) => Err(self.wrong_operation("verify with")),
        }
    }

    /// The key for signing.
    ///
    /// # Errors
    /// The key has no private part, or is a KEM's.
    pub(crate) fn to_signing(&self) -> Result<Signer, Problem> {
        match (self.material.get(), self.algorithm) {
            (Some(Material::Private(PrivateKey::Signature(private))), _) => Ok(Signer::Here(private.clone())),
            (Some(Material::Token(key, _)), KeyAlgorithm::Signature(row)) => {
                Ok(Signer::Token(key.clone(), row))
            }
            (Some(Material::Private(PrivateKey::Kem(_))), _) => Err(self.wrong_operation("sign with")),
            _ => Err(self.missing("signing needs a private key, and this key object has none")),
        }
    }

    /// Whether two keys are of one algorithm and, where `compare_keys`, have the same public key.
    pub(crate) fn matches(&self, other: &Self, compare_keys: bool) -> bool {
        self.algorithm == other.algorithm && (!compare_keys || self.public_bytes() == other.public_bytes())
    }

    /// Whether the private key does what the public key says: opens what is encapsulated to it, or signs what it verifies.
    ///
    /// # Errors
    /// The key has no private part, or the pair does not belong together.
    pub(crate) fn check_pair(&self) -> Result<(), Problem> {
        let fits = match self.algorithm {
            KeyAlgorithm::Kem(row) => {
                let mut ciphertext = vec![0; row.ciphertext_bytes()];
                let mut sent = Zeroizing::new(vec![0; row.shared_secret_bytes()]);
                let mut received = sent.clone();
                let private = self.to_kem_private()?;
                self.to_kem_public()?.encapsulate(&mut ciphertext, &mut sent)?;
                private.decapsulate(&ciphertext, &mut received)?;
                equal_in_constant_time(&sent, &received)
            }
            KeyAlgorithm::Signature(_) => {
                const MESSAGE: &[u8] = b"pairwise consistency";
                let signature = match self.to_signing()? {
                    Signer::Here(private) => {
                        private.sign(MESSAGE, MessageEncoding::PURE, SigningRandomness::Hedged)?
                    }
                    Signer::Token(key, _) => {
                        let mechanism = Mechanism::MlDsa { context: &[], deterministic: false };
                        self.provider.with_tokens(|_| key.sign(mechanism, MESSAGE))?
                    }
                };
                self.to_verifying()?.verify(MESSAGE, MessageEncoding::PURE, &signature).is_ok()
            }
        };
        if fits { Ok(()) } else { Err(self.mismatch("the private and the public key")) }
    }

    /// A second key object with the same contents, or with the public part alone.
    ///
    /// # Errors
    /// The backend failed.
    pub(crate) fn duplicate(&self, with_private: bool) -> Result<Self, Problem> {
        let copy = Self::empty(self.provider.clone(), self.algorithm)?;
        match self.material.get() {
            Some(Material::Private(_) | Material::Token(..)) if !with_private => {
                copy.fill(Material::Public(self.to_public()?))?
            }
            Some(material) => copy.fill(material.clone())?,
            None => {}
        }
        Ok(copy)
    }

    fn fill(&self, material: Material) -> Result<(), Problem> {
        self.material.set(material).map_err(|_| {
            Problem::argument(format!(
                "{}: this key object already holds a key, and keys are not changed; make a new one",
                self.algorithm.name()
            ))
        })
    }

    fn missing(&self, text: &str) -> Problem {
        Problem::new(Reason::MissingKey, format!("{}: {text}", self.algorithm.name()))
    }

    fn mismatch(&self, what: &str) -> Problem {
        Problem::new(
            Reason::InvalidPrivateKey,
            format!("{}: {what} do not belong together", self.algorithm.name()),
        )
    }

    fn wrong_operation(&self, what: &str) -> Problem {
        Problem::argument(format!("a key of type {} is not one to {what}", self.algorithm.name()))
    }
}

impl Material {
    fn public_bytes(&self) -> &[u8] {
        match self {
            Self::Public(public) | Self::Token(_, public) => public.as_bytes(),
            Self::Private(private) => private.public_key(),
        }
    }
}

/// A key that is being generated.
pub(crate) struct Generation {
    pub(crate) provider: Arc<Provider>,
    pub(crate) algorithm: KeyAlgorithm,
    /// False when libssl wants an empty key, to put a peer's share into.
    pub(crate) key_pair: bool,
    pub(crate) seed: Option<Zeroizing<Vec<u8>>>,
}

impl Generation {
    /// # Errors
    /// Those of [`Key::generate`].
    pub(crate) fn run(&self) -> Result<Key, Problem> {
        // libssl generates a key for every key exchange: a server an empty one, for the client's share.
        if matches!(self.algorithm, KeyAlgorithm::Kem(_)) {
            self.provider.handshakes_begin();
        }
        if self.key_pair {
            let seed = self.seed.as_ref().map(|seed| seed.as_slice());
            Key::generate(self.provider.clone(), self.algorithm, seed)
        } else {
            Key::empty(self.provider.clone(), self.algorithm)
        }
    }
}

/// An encapsulation or decapsulation in progress.
#[derive(Clone)]
pub(crate) struct KemOperation {
    pub(crate) provider: Arc<Provider>,
    pub(crate) role: Option<KemRole>,
}

#[derive(Clone)]
pub(crate) enum KemRole {
    Encapsulate(KemPublicKey),
    Decapsulate(KemPrivateKey),
}

/// The expanded private key; of a composite signature the short form.
fn written(key: &PrivateKey) -> Result<Option<Zeroizing<Vec<u8>>>, Problem> {
    let expanded = key.to_bytes()?;
    Ok(expanded.or_else(|| key.seed().map(|short| Zeroizing::new(short.to_vec()))))
}

fn equal_in_constant_time(a: &[u8], b: &[u8]) -> bool {
    use subtle::ConstantTimeEq;
    a.ct_eq(b).into()
}
