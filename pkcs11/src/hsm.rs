//! The tokens of one configuration.

use crate::key::{Place, PublicKey, TokenKey};
use crate::ledger::Ledger;
use crate::module::Environment;
use crate::object::{self, Wanted};
use crate::raw::{PushList, Slot};
use crate::software::SoftwareKey;
use crate::status::SharedStatus;
use crate::token::{Common, Purpose, Session, Token, Trouble};
use crate::{Config, EcCurve, Error, ErrorKind, ObjectClass, PinSource, Uri};
use cryptoki_sys::{CKF_TOKEN_INITIALIZED, CKF_USER_PIN_FINAL_TRY, CKF_USER_PIN_LOCKED};
use qtls_crypto::SignatureAlgorithm;
use std::sync::{Arc, OnceLock};

/// The tokens of one configuration. Making it does no more than take note of the environment that modules may need.
pub struct Hsm {
    common: Arc<Common>,
    tokens: PushList<Arc<Token>>,
    keys: PushList<Arc<TokenKey>>,
    software: OnceLock<Result<Vec<Arc<SoftwareKey>>, Error>>,
    status_problem: OnceLock<String>,
}

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

/// Environment variables that modules in use read: SoftHSM, Kryoptic, Thales Luna, p11-kit, nCipher, Utimaco, YubiHSM; and what
/// they look for their files by. A server's workers often lack them.
const MODULE_VARIABLES: [&str; 11] = [
    "SOFTHSM2_CONF",
    "KRYOPTIC_CONF",
    "ChrystokiConfigurationPath",
    "P11_KIT_SERVER_ADDRESS",
    "XDG_RUNTIME_DIR",
    "XDG_CONFIG_HOME",
    "HOME",
    "CREDENTIALS_DIRECTORY",
    "CS_PKCS11_R3_CFG",
    "CS_PKCS11_R2_CFG",
    "YUBIHSM_PKCS11_CONF",
];
const MODULE_VARIABLE_PREFIXES: [&str; 2] = ["CKNFAST_", "NFAST_"];

impl Hsm {
    /// Takes note; no module is loaded.
    pub fn new(config: Config) -> Arc<Self> {
        let ledger = Ledger::new(config.tokens.len());
        let common = Common { environment: environment(), status: OnceLock::new(), ledger, config };
        Arc::new(Self {
            common: Arc::new(common),
            tokens: PushList::new(),
            keys: PushList::new(),
            software: OnceLock::new(),
            status_problem: OnceLock::new(),
        })
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.common.config
    }

    /// Why other processes cannot read the counters, once a key was asked for; none if they can.
    pub fn status_problem(&self) -> Option<&str> {
        self.status_problem.get().map(String::as_str)
    }

    /// The key that a URI names. A URI asked for before is answered without a token call. With `public`, its public key, no
    /// token is needed now: the PIN is read, and that is all.
    ///
    /// # Errors
    /// Each names the URI, the cause, and what to do.
    pub fn key(self: &Arc<Self>, uri: &Uri, public: Option<PublicKey>) -> Result<Arc<TokenKey>, Error> {
        self.find_key(uri, public).map_err(|error| about(uri, &error))
    }

    /// The certificates that a URI names (none is no error).
    ///
    /// # Errors
    /// Each names the URI, the cause, and what to do.
    pub fn certificates(&self, uri: &Uri) -> Result<Vec<Certificate>, Error> {
        let wanted = Wanted::of(uri);
        self.look_for_public(uri, |session| object::certificates(session, &wanted))
    }

    /// Public keys that a URI names, by public objects.
    ///
    /// # Errors
    /// Each names the URI, the cause, and what to do.
    pub fn public_keys(&self, uri: &Uri) -> Result<Vec<PublicKey>, Error> {
        let wanted = Wanted::of(uri);
        self.look_for_public(uri, |session| object::public_keys(session, &wanted))
    }

    /// What a token of the configuration (0 is the first) holds, after a login where a PIN is configured.
    ///
    /// # Errors
    /// As above.
    pub fn objects(&self, token: usize, uri: &Uri) -> Result<Vec<ObjectInfo>, Error> {
        let token = self.token_at(token, uri).map_err(|error| about(uri, &error))?;
        let listed = token.resolve_pin().and_then(|()| {
            token.operate(Purpose::Look, None, |session| {
                let slot = session.slot()?;
                let listed = object::list(session, &Wanted::of(uri), uri.class)?;
                Ok(listed.into_iter().map(|listed| info_of(listed, &slot)).collect())
            })
        });
        token.release();
        listed.map_err(|error| about(uri, &error))
    }

    /// The tokens that the module of a configured token (0 is the first) shows.
    ///
    /// # Errors
    /// The module does not load or answer.
    pub fn tokens(&self, token: usize) -> Result<Vec<TokenInfo>, Error> {
        self.begin();
        let token = self.token(self.index(token)?, Uri::default(), None);
        let slots = token.slots();
        token.release();
        Ok(slots?.into_iter().map(TokenInfo::of).collect())
    }

    /// Makes a key pair in the token that the URI names, with its `object` and `id` (a random one without), private and not
    /// extractable, and answers with it.
    ///
    /// # Errors
    /// The URI names an object that exists already; the token cannot do it, or is full.
    pub fn generate(self: &Arc<Self>, uri: &Uri, kind: GenerateType) -> Result<Arc<TokenKey>, Error> {
        let generated = self.generate_in_token(uri, kind).map_err(|error| about(uri, &error))?;
        self.key(&generated, None)
    }

    /// Closes and finalises what this process opened. Called when the provider is unloaded.
    pub fn close(&self) {
        self.tokens.iter().for_each(|token| token.close());
    }

    fn find_key(self: &Arc<Self>, uri: &Uri, public: Option<PublicKey>) -> Result<Arc<TokenKey>, Error> {
        if uri.class.is_some_and(|class| class != ObjectClass::Private) {
            let text = "it names a public key or a certificate by 'type', where a private key is needed";
            return Err(Error::new(ErrorKind::Configuration, text));
        }
        self.begin();
        let tokens = self.tokens_for(uri)?;
        let wanted = Wanted::of(uri);
        let known = self.keys.iter().find(|key| {
            let places = key.places();
            places.len() == tokens.len()
                && places
                    .iter()
                    .zip(&tokens)
                    .all(|(place, token)| Arc::ptr_eq(&place.token, token) && place.wanted == wanted)
                && public.as_ref().is_none_or(|public| public == key.public())
        });
        for token in &tokens {
            token.resolve_pin()?;
            // A worker may be confined to where the library cannot be read.
            token.preload();
        }
        if let Some(known) = known {
            return Ok(Arc::clone(known));
        }
        let software = self.software_keys()?;
        let public = match public {
            Some(public) => public,
            None => self.read_public(&tokens, &wanted)?,
        };
        let place =
            |token: Arc<Token>| Place { number: token.number_for_key(), token, wanted: wanted.clone() };
        let places = tokens.into_iter().map(place).collect();
        let software = software.iter().find(|software| *software.public() == public).cloned();
        let key = TokenKey::new(uri.to_string(), public, places, software, Arc::clone(&self.common));
        Ok(Arc::clone(self.keys.find_or_push(|_| false, || Arc::new(key))))
    }

    /// Reads the public half from the first token that answers.
    fn read_public(&self, tokens: &[Arc<Token>], wanted: &Wanted) -> Result<PublicKey, Error> {
        let mut first_error = None;
        for token in tokens {
            let read = token.operate(Purpose::Look, None, |session| {
                let private = object::one_private_key(session, wanted, true)?;
                object::public_key_of(session, &private)?.ok_or_else(|| no_public_key(session))
            });
            token.release();
            match read {
                Ok(public) => return Ok(public),
                // A key that is not there, or a wrong PIN, is no reason to go on with another token.
                Err(error) if !is_away(error.kind()) => return Err(first_error.unwrap_or(error)),
                Err(error) => drop(first_error.get_or_insert(error)),
            }
        }
        Err(first_error.unwrap_or_else(|| Error::new(ErrorKind::Configuration, "no token is configured")))
    }

    /// What is looked for is public: a login is only made where nothing is found without.
    fn look_for_public<R>(
        &self,
        uri: &Uri,
        look: impl Fn(&mut Session<'_>) -> Result<Vec<R>, Trouble>,
    ) -> Result<Vec<R>, Error> {
        let token = self.token_at(0, uri).map_err(|error| about(uri, &error))?;
        let found = (|| {
            let found = token.operate(Purpose::LookAtPublic, None, &look)?;
            if !found.is_empty() || !token.has_pin() {
                return Ok(found);
            }
            token.resolve_pin()?;
            token.operate(Purpose::Look, None, &look)
        })();
        token.release();
        found.map_err(|error| about(uri, &error))
    }

    /// The answer is the URI of what was made.
    fn generate_in_token(&self, uri: &Uri, kind: GenerateType) -> Result<Uri, Error> {
        if uri.class.is_some() {
            let text = "a key pair has a private and a public half: take 'type' out of the URI";
            return Err(Error::new(ErrorKind::Configuration, text));
        }
        if uri.object.is_none() && uri.id.is_none() {
            let text = "name the new key by 'object' (and 'id') in the URI";
            return Err(Error::new(ErrorKind::Configuration, text));
        }
        let id = match &uri.id {
            Some(id) => id.clone(),
            None => object::random_id()?,
        };
        let token = self.token_at(0, uri)?;
        token.resolve_pin()?;
        let made = token.operate(Purpose::Write, None, |session| {
            object::generate(session, kind, uri.object.as_deref(), &id)
        });
        token.release();
        made?;
        Ok(Uri { id: Some(id), ..uri.clone() })
    }

    /// The tokens in which a URI's key is looked for, in order.
    fn tokens_for(&self, uri: &Uri) -> Result<Vec<Arc<Token>>, Error> {
        let configured = &self.config().tokens;
        let first = configured.iter().position(|token| uri.fits_module(&token.module)).ok_or_else(|| {
            let modules: Vec<String> =
                configured.iter().map(|token| format!("'{}'", token.module.display())).collect();
            let text = format!(
                "its 'module-path' or 'module-name' is none of the configured modules ({}), and a key file loads no other",
                modules.join(", ")
            );
            Error::new(ErrorKind::Configuration, text)
        })?;
        let others = (0..configured.len()).filter(|index| *index != first);
        Ok([first].into_iter().chain(others).map(|index| self.named(uri, index, index == first)).collect())
    }

    fn token_at(&self, index: usize, uri: &Uri) -> Result<Arc<Token>, Error> {
        self.begin();
        if index == 0 {
            return self.tokens_for(uri).map(|mut tokens| tokens.swap_remove(0));
        }
        Ok(self.named(uri, self.index(index)?, false))
    }

    /// A configured token as a URI names it: the first one's own attributes come before the configuration's.
    fn named(&self, uri: &Uri, index: usize, is_first: bool) -> Arc<Token> {
        let configured = &self.config().tokens[index];
        let by_uri = is_first && uri.names_token();
        let naming = if by_uri { Some(uri) } else { configured.token.as_ref() };
        let selection = naming.map(selection_of).unwrap_or_default();
        let own_pin = uri.pin_value.clone().map(PinSource::Value).or_else(|| uri.pin_source.clone());
        let pin_source = own_pin.filter(|_| is_first).or_else(|| configured.pin_source.clone());
        self.token(index, selection, pin_source)
    }

    fn token(&self, index: usize, selection: Uri, pin_source: Option<PinSource>) -> Arc<Token> {
        let found = self.tokens.find_or_push(
            |token| token.is(index, &selection, pin_source.as_ref()),
            || Arc::new(Token::new(&self.common, index, selection.clone(), pin_source.clone())),
        );
        Arc::clone(found)
    }

    fn index(&self, index: usize) -> Result<usize, Error> {
        if index < self.config().tokens.len() {
            return Ok(index);
        }
        let text = format!("token {} is not configured (pkcs11-module-{0})", index + 1);
        Err(Error::new(ErrorKind::Configuration, text))
    }

    fn software_keys(&self) -> Result<&[Arc<SoftwareKey>], Error> {
        let read = self.software.get_or_init(|| {
            self.config().software_keys.iter().map(|file| SoftwareKey::read(file).map(Arc::new)).collect()
        });
        read.as_ref().map(Vec::as_slice).map_err(Error::clone)
    }

    /// Makes the counters, which processes forked from now on share.
    fn begin(&self) {
        self.common.status.get_or_init(|| {
            let Config { tokens, status_directory, .. } = self.config();
            let name = |token: &crate::TokenConfig| match &token.token {
                Some(uri) => format!("{} {uri}", token.module.display()),
                None => token.module.display().to_string(),
            };
            let names: Vec<String> = tokens.iter().map(name).collect();
            let (status, problem) = SharedStatus::create(status_directory, &names);
            if let Some(problem) = problem {
                let directory = status_directory.display();
                let text = format!(
                    "no counters for `qtls hsm status` in '{directory}' (pkcs11-status-dir): {problem}; they are kept in memory"
                );
                let _ = self.status_problem.set(text);
            }
            status
        });
    }
}

impl Drop for Hsm {
    fn drop(&mut self) {
        self.close();
    }
}

impl std::fmt::Debug for Hsm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Hsm({:?})", self.config())
    }
}

impl TokenInfo {
    fn of(slot: Slot) -> Self {
        let has = |flag| slot.flags & flag != 0;
        Self {
            slot_id: slot.id,
            initialized: has(CKF_TOKEN_INITIALIZED),
            pin_locked: has(CKF_USER_PIN_LOCKED),
            pin_final_try: has(CKF_USER_PIN_FINAL_TRY),
            label: slot.label,
            manufacturer: slot.manufacturer,
            model: slot.model,
            serial: slot.serial,
        }
    }
}

fn environment() -> Environment {
    let is_of_modules = |name: &str| {
        MODULE_VARIABLES.contains(&name)
            || MODULE_VARIABLE_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    };
    std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_of_modules)).collect()
}

/// The attributes of tokens and slots.
fn selection_of(uri: &Uri) -> Uri {
    Uri {
        token: uri.token.clone(),
        manufacturer: uri.manufacturer.clone(),
        model: uri.model.clone(),
        serial: uri.serial.clone(),
        slot_id: uri.slot_id,
        slot_description: uri.slot_description.clone(),
        slot_manufacturer: uri.slot_manufacturer.clone(),
        ..Uri::default()
    }
}

fn info_of(listed: object::Listed, slot: &Slot) -> ObjectInfo {
    let uri = Uri {
        token: Some(slot.label.clone()),
        serial: Some(slot.serial.clone()).filter(|serial| !serial.is_empty()),
        object: Some(listed.label.clone()).filter(|label| !label.is_empty()),
        id: Some(listed.id.clone()).filter(|id| !id.is_empty()),
        class: Some(listed.class),
        ..Uri::default()
    };
    ObjectInfo {
        class: listed.class,
        label: listed.label,
        id: listed.id,
        uri: uri.to_string(),
        description: listed.description,
    }
}

/// Whether the token, and not what is asked of it, is the problem.
fn is_away(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Module
            | ErrorKind::TokenAbsent
            | ErrorKind::Sessions
            | ErrorKind::Timeout
            | ErrorKind::Unavailable
            | ErrorKind::Token
    )
}

fn no_public_key(session: &Session<'_>) -> Trouble {
    let text = format!(
        "{} has the private key and shows its public key nowhere: put a public key object or the certificate with the same CKA_ID \
         into it, or write the key file by qtls key-ref with the public key",
        session.token().name()
    );
    Trouble::last(ErrorKind::Object, text)
}

fn about(uri: &Uri, error: &Error) -> Error {
    Error::new(error.kind(), format!("{uri}: {error}"))
}
