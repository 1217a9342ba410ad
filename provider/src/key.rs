//! Keys as libcrypto holds them: empty, public or private, of one row of the table.

use crate::problem::{Problem, Reason};
use crate::provider::Provider;
use qtls_crypto::{KEM_ALGORITHMS, KemAlgorithm, KemPrivateKey, KemPublicKey};
use std::sync::{Arc, OnceLock};
use zeroize::Zeroizing;

/// A key object. It starts empty, as libcrypto makes it, and is filled once.
pub(crate) struct Key {
    pub(crate) provider: Arc<Provider>,
    row: usize,
    material: OnceLock<Material>,
}

#[derive(Clone)]
enum Material {
    Public(KemPublicKey),
    Private(KemPrivateKey),
}

/// The parts of a key that a program hands in; each as `OSSL_PARAM`s carry it.
#[derive(Default)]
pub(crate) struct Parts<'a> {
    pub(crate) public: Option<&'a [u8]>,
    pub(crate) private: Option<&'a [u8]>,
    pub(crate) seed: Option<&'a [u8]>,
}

impl Key {
    /// An empty key.
    ///
    /// # Errors
    /// A failed self-test of the algorithm.
    pub(crate) fn empty(provider: Arc<Provider>, row: usize) -> Result<Self, Problem> {
        provider.require_self_test(row)?;
        Ok(Self { provider, row, material: OnceLock::new() })
    }

    /// Makes a key pair, from a seed where one is given.
    ///
    /// # Errors
    /// A failed self-test, a seed of the wrong length, no randomness.
    pub(crate) fn generate(
        provider: Arc<Provider>,
        row: usize,
        seed: Option<&[u8]>,
    ) -> Result<Self, Problem> {
        let key = Self::empty(provider, row)?;
        let algorithm = key.algorithm();
        key.fill(Material::Private(match seed {
            Some(seed) => KemPrivateKey::from_seed(algorithm, seed)?,
            None => KemPrivateKey::generate(algorithm)?,
        }))?;
        Ok(key)
    }

    pub(crate) fn algorithm(&self) -> &'static KemAlgorithm {
        &KEM_ALGORITHMS[self.row]
    }

    /// Fills an empty key from its parts. Parts that say the same twice must agree.
    ///
    /// # Errors
    /// A part of the wrong length or content, parts that do not belong together, no part at all, a key that is not
    /// empty.
    pub(crate) fn import(&self, parts: &Parts<'_>) -> Result<(), Problem> {
        let algorithm = self.algorithm();
        let private = match (parts.seed, parts.private) {
            (Some(seed), _) => Some(KemPrivateKey::from_seed(algorithm, seed)?),
            (None, Some(private)) => Some(KemPrivateKey::from_bytes(algorithm, private)?),
            (None, None) => None,
        };
        if let (Some(key), Some(_), Some(expanded)) = (&private, parts.seed, parts.private)
            && !equal_in_constant_time(&key.to_bytes()?, expanded)
        {
            return Err(self.mismatch("the seed and the expanded private key"));
        }
        match (private, parts.public) {
            (Some(private), Some(public)) if private.public_key() != public => {
                Err(self.mismatch("the private and the public key"))
            }
            (Some(private), _) => self.fill(Material::Private(private)),
            (None, Some(public)) => self.fill(Material::Public(KemPublicKey::from_bytes(algorithm, public)?)),
            (None, None) => Err(Problem::new(
                Reason::MissingKey,
                format!(
                    "{}: neither 'pub' nor 'priv' nor 'seed' was given to make a key from",
                    algorithm.name
                ),
            )),
        }
    }

    pub(crate) fn has_public(&self) -> bool {
        self.material.get().is_some()
    }

    pub(crate) fn has_private(&self) -> bool {
        matches!(self.material.get(), Some(Material::Private(_)))
    }

    /// The encoded public key, which is also the key share.
    pub(crate) fn public_bytes(&self) -> Option<&[u8]> {
        self.material.get().map(Material::public_bytes)
    }

    /// The seed, where the algorithm's key format has one (FIPS 203) and the key was made from it.
    pub(crate) fn seed(&self) -> Option<&[u8]> {
        match self.material.get() {
            Some(Material::Private(private)) if self.algorithm().curve.is_none() => private.seed(),
            _ => None,
        }
    }

    /// The expanded private key.
    ///
    /// # Errors
    /// The backend failed.
    pub(crate) fn private_bytes(&self) -> Result<Option<Zeroizing<Vec<u8>>>, Problem> {
        match self.material.get() {
            Some(Material::Private(private)) => Ok(Some(private.to_bytes()?)),
            _ => Ok(None),
        }
    }

    /// The key for encapsulating to it.
    ///
    /// # Errors
    /// The key is empty.
    pub(crate) fn to_public(&self) -> Result<KemPublicKey, Problem> {
        match self.material.get() {
            Some(Material::Public(public)) => Ok(public.clone()),
            Some(Material::Private(private)) => {
                Ok(KemPublicKey::from_bytes(self.algorithm(), private.public_key())?)
            }
            None => Err(self.missing("encapsulation needs a public key, and this key object is empty")),
        }
    }

    /// The key for decapsulating.
    ///
    /// # Errors
    /// The key has no private part.
    pub(crate) fn to_private(&self) -> Result<KemPrivateKey, Problem> {
        match self.material.get() {
            Some(Material::Private(private)) => Ok(private.clone()),
            _ => Err(self.missing("decapsulation needs a private key, and this key object has none")),
        }
    }

    /// Whether two keys are of one algorithm and, where `compare_keys`, have the same public key.
    pub(crate) fn matches(&self, other: &Self, compare_keys: bool) -> bool {
        self.row == other.row && (!compare_keys || self.public_bytes() == other.public_bytes())
    }

    /// Whether the private key opens what is encapsulated to the public key.
    ///
    /// # Errors
    /// The key has no private part, or the pair does not belong together.
    pub(crate) fn check_pair(&self) -> Result<(), Problem> {
        let algorithm = self.algorithm();
        let mut ciphertext = vec![0; algorithm.ciphertext_bytes()];
        let mut sent = Zeroizing::new(vec![0; algorithm.shared_secret_bytes()]);
        let mut received = sent.clone();
        let private = self.to_private()?;
        self.to_public()?.encapsulate(&mut ciphertext, &mut sent)?;
        private.decapsulate(&ciphertext, &mut received)?;
        if equal_in_constant_time(&sent, &received) {
            Ok(())
        } else {
            Err(self.mismatch("the private and the public key"))
        }
    }

    /// A second key object with the same contents, or with the public part alone.
    ///
    /// # Errors
    /// The backend failed.
    pub(crate) fn duplicate(&self, with_private: bool) -> Result<Self, Problem> {
        let copy = Self::empty(self.provider.clone(), self.row)?;
        match self.material.get() {
            Some(Material::Private(_)) if !with_private => copy.fill(Material::Public(self.to_public()?))?,
            Some(material) => copy.fill(material.clone())?,
            None => {}
        }
        Ok(copy)
    }

    fn fill(&self, material: Material) -> Result<(), Problem> {
        self.material.set(material).map_err(|_| {
            Problem::argument(format!(
                "{}: this key object already holds a key, and keys are not changed; make a new one",
                self.algorithm().name
            ))
        })
    }

    fn missing(&self, text: &str) -> Problem {
        Problem::new(Reason::MissingKey, format!("{}: {text}", self.algorithm().name))
    }

    fn mismatch(&self, what: &str) -> Problem {
        Problem::new(
            Reason::InvalidPrivateKey,
            format!("{}: {what} do not belong together", self.algorithm().name),
        )
    }
}

impl Material {
    fn public_bytes(&self) -> &[u8] {
        match self {
            Self::Public(public) => public.as_bytes(),
            Self::Private(private) => private.public_key(),
        }
    }
}

/// A key that is being generated.
pub(crate) struct Generation {
    pub(crate) provider: Arc<Provider>,
    pub(crate) row: usize,
    /// False when libssl wants an empty key, to put a peer's share into.
    pub(crate) key_pair: bool,
    pub(crate) seed: Option<Zeroizing<Vec<u8>>>,
}

impl Generation {
    /// # Errors
    /// Those of [`Key::generate`].
    pub(crate) fn run(&self) -> Result<Key, Problem> {
        if self.key_pair {
            Key::generate(self.provider.clone(), self.row, self.seed.as_ref().map(|seed| seed.as_slice()))
        } else {
            Key::empty(self.provider.clone(), self.row)
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

fn equal_in_constant_time(a: &[u8], b: &[u8]) -> bool {
    use subtle::ConstantTimeEq;
    a.ct_eq(b).into()
}
