//! Keys in PKCS#11 tokens, looked at by the inner process: with the service's environment, as the user that starts it; and
//! signed with as its workers, who do so in the end.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::unistd::{Gid, Uid, initgroups, setresgid, setresuid};
use qtls_pkcs11::{
    Config, EcCurve, Error, ErrorKind, Hsm, KeyType, PinSource, PublicKey, TokenInfo, TokenKey, Uri,
};
use serde::{Deserialize, Serialize};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::inner::step;
use super::nginx::Identity;
use super::report::count;
use crate::hsm::{NO_STATUS_DIRECTORY, URI_LABEL, fits, parse_options, trial};

const READABLE_BY_ALL: u32 = 0o004;

/// What is to be looked at.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct TokenRequest {
    /// The provider's section.
    pub(super) settings: Vec<(String, String)>,
    /// What nginx's configuration names.
    pub(super) identities: Vec<Identity>,
    /// Whom the workers become, when root starts the service.
    pub(super) worker: Option<Worker>,
}

/// A user whose process signs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Worker {
    pub(super) name: String,
    pub(super) user: u32,
    pub(super) group: u32,
}

/// What was found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct TokenReport {
    /// In order of failover.
    pub(super) tokens: Vec<TokenFacts>,
    pub(super) software_keys: Vec<SoftwareKeyFacts>,
    /// How many keys of the configuration are in a token.
    pub(super) keys: usize,
}

impl TokenReport {
    /// Whether whoever goes the same way again may hang, or try a wrong PIN once more.
    pub(super) fn better_not_again(&self) -> bool {
        let is_it = |found: &Found| {
            found.verdict == Verdict::Fail && [Check::Module, Check::Login].contains(&found.check)
        };
        self.tokens.iter().any(|token| token.found.iter().any(is_it))
    }
}

/// One configured token and everything on the way to its keys.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct TokenFacts {
    /// From 1.
    pub(super) number: usize,
    pub(super) module: PathBuf,
    /// What is right and what is wrong, by the check that it belongs to.
    pub(super) found: Vec<Found>,
}

/// Something about a token or a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Found {
    pub(super) check: Check,
    pub(super) verdict: Verdict,
    pub(super) text: String,
    /// What to do.
    pub(super) mend: String,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Verdict {
    Ok,
    Warn,
    Fail,
}

/// The stations of the way to a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Check {
    Module,
    Token,
    Pin,
    Login,
    Key,
    Certificate,
    Signature,
}

impl Check {
    /// In the order of the way.
    pub(super) const ALL: [Self; 7] =
        [Self::Module, Self::Token, Self::Pin, Self::Login, Self::Key, Self::Certificate, Self::Signature];

    /// The row of the table.
    pub(super) fn id(self) -> &'static str {
        match self {
            Self::Module => "hsm-module",
            Self::Token => "hsm-token",
            Self::Pin => "hsm-pin",
            Self::Login => "hsm-login",
            Self::Key => "hsm-key",
            Self::Certificate => "hsm-certificate",
            Self::Signature => "hsm-signature",
        }
    }

    /// Which station an error belongs to that occurred at this one.
    fn of_error(self, kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Module => Self::Module,
            ErrorKind::TokenAbsent => Self::Token,
            ErrorKind::Pin => Self::Login,
            ErrorKind::Object => Self::Key,
            _ => self,
        }
    }
}

/// A key that signs when no token does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct SoftwareKeyFacts {
    pub(super) path: PathBuf,
    pub(super) error: Option<String>,
    /// Everybody can read it.
    pub(super) exposed: bool,
}

/// A key that the server's configuration names by a URI.
struct Named {
    /// The file of the key, or what stands for one.
    place: String,
    uri: Uri,
    /// The public key beside the URI in the file.
    public: Option<PublicKey>,
    certificate: PathBuf,
}

/// Looks at every token. The process becomes the worker on the way, and stays it.
pub(super) fn examine(request: &TokenRequest) -> TokenReport {
    // A wrong option is told from outside, where there is no module to be feared.
    let Ok(Some(config)) = parse_options(&request.settings) else { return TokenReport::default() };
    let mut wrong = Vec::new();
    let mut named = named_keys(&request.identities, &mut wrong);
    named.retain(|named| {
        let fits = first_for(&named.uri, &config).is_some();
        if !fits {
            wrong.push(Found {
                check: Check::Key,
                verdict: Verdict::Fail,
                text: format!("{}: {} names a module that is not configured", named.place, named.uri),
                mend: "take module-path and module-name out, or set pkcs11-module to it: a key file loads no code".to_owned(),
            });
        }
        fits
    });
    let mut looks: Vec<Look<'_>> =
        (0..config.tokens.len()).map(|index| Look::new(&config, index, request.worker.as_ref())).collect();
    if let Some(first) = looks.first_mut() {
        first.facts.found.append(&mut wrong);
    }
    for look in &mut looks {
        look.way_to_the_keys(&named);
    }
    let software_keys = config.software_keys.iter().map(|path| SoftwareKeyFacts::of(path)).collect();
    let become_worker = request.worker.as_ref().map(|worker| (worker, worker.become_it()));
    for look in &mut looks {
        if let Some((worker, Err(error))) = &become_worker {
            look.add(
                Check::Signature,
                Verdict::Warn,
                format!("doctor cannot become {}, nginx's worker user: {error}", worker.name),
                "run doctor as root, outside of a sandbox",
            );
        }
        look.trial_signatures();
    }
    let tokens = looks.into_iter().map(|look| look.facts).collect();
    TokenReport { tokens, software_keys, keys: named.len() }
}

/// The URI in a key file; none where it is another kind of key.
pub(super) fn uri_in_key_file(text: &[u8]) -> Option<Result<Uri, Error>> {
    let blocks = pem::parse_many(text).ok()?;
    let block = blocks.into_iter().find(|block| block.tag() == URI_LABEL)?;
    Uri::from_pem_der(block.contents()).transpose().or_else(|| {
        let text = "its 'PKCS#11 PROVIDER URI' block is damaged; write the file again by qtls key-ref";
        Some(Err(Error::new(ErrorKind::Configuration, text)))
    })
}

/// The token keys of the configuration; those that are wrong already are told.
fn named_keys(identities: &[Identity], wrong: &mut Vec<Found>) -> Vec<Named> {
    let mut named: Vec<Named> = Vec::new();
    let mut add =
        |place: String, uri: Result<Uri, Error>, public: Option<PublicKey>, certificate: &Path| match uri {
            Ok(uri) => {
                let same = |known: &Named| known.place == place && known.certificate == certificate;
                if !named.iter().any(same) {
                    named.push(Named { place, uri, public, certificate: certificate.to_path_buf() });
                }
            }
            Err(error) => wrong.push(Found {
                check: Check::Key,
                verdict: Verdict::Fail,
                text: format!("{place}: {error}"),
                mend: "qtls hsm list shows the URI of each key".to_owned(),
            }),
        };
    for identity in identities {
        for pair in &identity.pairs {
            // One that cannot be read is told by certificate-files.
            let Ok(text) = std::fs::read(&pair.key) else { continue };
            let Some(uri) = uri_in_key_file(&text) else { continue };
            let blocks = pem::parse_many(&text).unwrap_or_default();
            let public = blocks.iter().find(|block| block.tag() == "PUBLIC KEY");
            let public = public.and_then(|block| PublicKey::from_spki_der(block.contents()).ok());
            add(pair.key.display().to_string(), uri, public, &pair.certificate);
        }
        for pair in &identity.token_pairs {
            let uri = Uri::parse(&pair.uri);
            let place =
                uri.as_ref().map_or_else(|_| "store:pkcs11:…".to_owned(), |uri| format!("store:{uri}"));
            add(place, uri, None, &pair.certificate);
        }
    }
    named
}

/// Which of the configured tokens a key's URI means: the first, unless it names another's module.
fn first_for(uri: &Uri, config: &Config) -> Option<usize> {
    config.tokens.iter().position(|token| uri.fits_module(&token.module))
}

/// One token that is being looked at.
struct Look<'a> {
    hsm: Arc<Hsm>,
    config: &'a Config,
    index: usize,
    worker: Option<&'a Worker>,
    facts: TokenFacts,
    keys: Vec<Arc<TokenKey>>,
}

impl<'a> Look<'a> {
    fn new(config: &'a Config, index: usize, worker: Option<&'a Worker>) -> Self {
        // Each token by itself: a failover would hide what is wrong with the first.
        let alone = Config {
            tokens: vec![config.tokens[index].clone()],
            software_keys: Vec::new(),
            status_directory: NO_STATUS_DIRECTORY.into(),
            ..config.clone()
        };
        let facts =
            TokenFacts { number: index + 1, module: config.tokens[index].module.clone(), found: Vec::new() };
        Self { hsm: Hsm::new(alone), config, index, worker, facts, keys: Vec::new() }
    }

    fn add(&mut self, check: Check, verdict: Verdict, text: impl Into<String>, mend: impl Into<String>) {
        let found = Found { check, verdict, text: text.into(), mend: mend.into() };
        if !self.facts.found.contains(&found) {
            self.facts.found.push(found);
        }
    }

    fn ok(&mut self, check: Check, text: impl Into<String>) {
        self.add(check, Verdict::Ok, text, "");
    }

    fn failed(&mut self, at: Check, error: &Error, prefix: &str) {
        let check = at.of_error(error.kind());
        let mend = match (check, error.kind()) {
            (_, ErrorKind::Timeout) => {
                "see whether the HSM answers its own tools; pkcs11-timeout-ms says how long it may take"
            }
            (Check::Module, _) => {
                "correct pkcs11-module; the vendor's documentation names the file, and what it needs to be configured"
            }
            (Check::Token, _) => {
                "qtls hsm list shows the tokens there are; correct pkcs11-token or token= in the URI"
            }
            (Check::Login | Check::Pin, _) => {
                "correct the PIN where it comes from, before it is tried again: a token locks itself after a few wrong ones"
            }
            (Check::Key, ErrorKind::Unsupported) => {
                "make a key that can sign without asking each time: qtls hsm generate"
            }
            (Check::Key | Check::Certificate, _) => {
                "qtls hsm list shows the URI of each key; correct the one in the file, or make the key by qtls hsm generate"
            }
            (Check::Signature, _) => "the workers sign: let their user use the module and what it reads",
        };
        self.add(check, Verdict::Fail, format!("{prefix}{error}"), mend);
    }

    /// From the module to the public keys.
    fn way_to_the_keys(&mut self, named: &[Named]) {
        let module = self.facts.module.clone();
        let shown = module.display();
        step_of(Check::Module, &format!("loading {shown}"));
        let tokens = match self.hsm.tokens(0) {
            Ok(tokens) => tokens,
            Err(error) => {
                self.failed(Check::Module, &error, "");
                return;
            }
        };
        let shows = count(tokens.iter().filter(|token| token.initialized).count(), "token");
        self.ok(Check::Module, format!("{shown} loads and shows {shows}"));

        let keys: Vec<(&Named, Uri)> = named.iter().map(|named| (named, self.uri_here(&named.uri))).collect();
        // Each token and PIN once, however many keys it has.
        let mut wanted: BTreeMap<String, Uri> = BTreeMap::new();
        for (_, uri) in &keys {
            let of_token = Uri { object: None, id: None, class: None, ..uri.clone() };
            wanted.entry(of_token.with_pin_source()).or_insert(of_token);
        }
        if keys.is_empty() {
            let of_token = self.config.tokens[self.index].token.clone().unwrap_or_default();
            wanted.insert(String::new(), of_token);
        }
        let mut usable = Vec::new();
        for (name, of_token) in &wanted {
            if self.token_is_there(of_token, &tokens)
                && self.pin_is_there(of_token)
                && self.login_works(of_token)
            {
                usable.push(name.clone());
            }
        }
        for (named, uri) in &keys {
            let of_token = Uri { object: None, id: None, class: None, ..uri.clone() };
            if usable.contains(&of_token.with_pin_source()) {
                self.key_is_there(named, uri);
            }
        }
    }

    /// The URI of a key in this token: as the key names it in the first one, in the others as the configuration does.
    fn uri_here(&self, uri: &Uri) -> Uri {
        let is_first = first_for(uri, self.config) == Some(self.index);
        let configured = self.config.tokens[self.index].token.clone().unwrap_or_default();
        let base = if is_first && uri.names_token() { uri.clone() } else { configured };
        Uri {
            object: uri.object.clone(),
            id: uri.id.clone(),
            class: uri.class,
            module_path: None,
            module_name: None,
            pin_source: uri.pin_source.clone().filter(|_| is_first),
            pin_value: uri.pin_value.clone().filter(|_| is_first),
            ..base
        }
    }

    fn token_is_there(&mut self, wanted: &Uri, tokens: &[TokenInfo]) -> bool {
        let fitting: Vec<&TokenInfo> =
            tokens.iter().filter(|info| info.initialized && fits(wanted, info)).collect();
        let shown = if wanted.names_token() { wanted.to_string() } else { "any token".to_owned() };
        match fitting[..] {
            [] => {
                let there = tokens.iter().filter(|info| info.initialized);
                let mut there: Vec<&str> = there.map(|info| info.label.as_str()).collect();
                there.sort_unstable();
                let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
                self.add(
                    Check::Token,
                    Verdict::Fail,
                    format!("the module shows no token that fits {shown}; there is {there}"),
                    "connect the HSM, correct pkcs11-token or token= in the URI, or let this user see the token (group, files, the \
                     module's own configuration)",
                );
                false
            }
            [info] => {
                let TokenInfo { label, model, serial, slot_id, .. } = info;
                self.ok(Check::Token, format!("{label} ({model}, serial {serial}) in slot {slot_id}"));
                if info.pin_locked {
                    self.add(
                        Check::Login,
                        Verdict::Fail,
                        format!("{label}: its PIN is locked after too many wrong ones"),
                        "let the security officer set a new PIN, and put it where the PIN comes from",
                    );
                } else if info.pin_final_try {
                    self.add(
                        Check::Login,
                        Verdict::Fail,
                        format!("{label}: one more wrong PIN locks it, so that no login is tried"),
                        "log in once with the right PIN by the token's own tool, which takes the mark away",
                    );
                }
                !(info.pin_locked || info.pin_final_try)
            }
            _ => {
                let there: Vec<&str> = fitting.iter().map(|info| info.label.as_str()).collect();
                self.add(
                    Check::Token,
                    Verdict::Fail,
                    format!("{} tokens fit {shown}: {}", there.len(), there.join(", ")),
                    "name one: pkcs11-token = LABEL, or token= and serial= in the URI",
                );
                false
            }
        }
    }

    /// Can the PIN be had, and by whom else?
    fn pin_is_there(&mut self, wanted: &Uri) -> bool {
        if wanted.pin_value.is_some() {
            self.add(
                Check::Pin,
                Verdict::Warn,
                "the PIN stands in a URI, for everybody who can read the file around it",
                "put it into a file with mode 0600: pin-source=file:PATH in the URI, or pkcs11-pin-source in openssl.cnf",
            );
            return true;
        }
        let configured = self.config.tokens[self.index].pin_source.clone();
        let Some(source) = wanted.pin_source.clone().or(configured) else {
            self.add(
                Check::Pin,
                Verdict::Warn,
                "no source of the PIN is configured: without a login most tokens show no private key",
                format!("set pkcs11-pin-source{} = file:PATH in the provider's section", self.suffix()),
            );
            return true;
        };
        step_of(Check::Pin, &format!("getting the PIN from {source}"));
        match source.resolve() {
            Err(error) => {
                self.add(Check::Pin, Verdict::Fail, error.to_string(), "");
                return false;
            }
            Ok(_) => self.ok(Check::Pin, format!("there is a PIN from {source}")),
        }
        match &source {
            PinSource::File(path) => {
                let mode = std::fs::metadata(path).map_or(0, |data| data.mode());
                if mode & READABLE_BY_ALL != 0 {
                    let shown = path.display();
                    self.add(
                        Check::Pin,
                        Verdict::Warn,
                        format!("{shown} can be read by everybody (mode {:o})", mode & 0o7777),
                        format!("chmod 600 {shown}; only the user that starts the server reads it, never its workers"),
                    );
                }
            }
            PinSource::Value(_) => self.add(
                Check::Pin,
                Verdict::Warn,
                "the PIN stands in openssl.cnf, for everybody who can read it",
                format!(
                    "put it into a file with mode 0600, and write pkcs11-pin-source{} = file:PATH",
                    self.suffix()
                ),
            ),
            _ => {}
        }
        true
    }

    /// What numbers the options of this token.
    fn suffix(&self) -> String {
        if self.index == 0 { String::new() } else { format!("-{}", self.index + 1) }
    }

    fn login_works(&mut self, wanted: &Uri) -> bool {
        step_of(Check::Login, &format!("logging in to {wanted}"));
        match self.hsm.objects(0, wanted) {
            Ok(objects) => {
                self.ok(Check::Login, format!("{} can be seen", count(objects.len(), "object")));
                true
            }
            Err(error) => {
                self.failed(Check::Login, &error, "");
                false
            }
        }
    }

    fn key_is_there(&mut self, named: &Named, uri: &Uri) {
        step_of(Check::Key, &format!("looking for {uri}"));
        let key = match self.hsm.key(uri, None) {
            Ok(key) => key,
            Err(error) => {
                self.failed(Check::Key, &error, &format!("{}: ", named.place));
                return;
            }
        };
        let kind = describe(key.public().key_type());
        self.ok(Check::Key, format!("{}: {kind}, {}", named.place, key.uri()));
        if named.public.as_ref().is_some_and(|public| public != key.public()) {
            self.add(
                Check::Key,
                Verdict::Fail,
                format!(
                    "{}: the key in the token is not the one whose public key stands in the file",
                    named.place
                ),
                format!("write the file again: qtls key-ref '{uri}' --out FILE"),
            );
        }
        let certificate = named.certificate.display();
        match public_key_of(&named.certificate) {
            Ok(der) if der == key.public().to_spki_der() => {
                self.ok(Check::Certificate, format!("{} is the key of {certificate}", named.place));
            }
            Ok(_) => self.add(
                Check::Certificate,
                Verdict::Fail,
                format!("{} is not the key of {certificate}", named.place),
                format!("name the certificate that was issued for it, or ask for one: openssl req -new -key '{uri}'"),
            ),
            Err(why) => self.add(
                Check::Certificate,
                Verdict::Fail,
                format!("{certificate}: {why}"),
                "write the chain there in PEM, the server's own certificate first",
            ),
        }
        self.keys.push(key);
    }

    fn trial_signatures(&mut self) {
        let whom = self.worker.map(|worker| format!(" as {}", worker.name)).unwrap_or_default();
        for key in std::mem::take(&mut self.keys) {
            let uri = key.uri();
            step_of(Check::Signature, &format!("signing with {uri}{whom}"));
            match trial::sign_and_verify(&key) {
                Ok(()) => {
                    self.ok(Check::Signature, format!("{uri} signs{whom}, and its public key verifies that"))
                }
                Err(error) => {
                    let mend = match self.worker {
                        Some(worker) => format!(
                            "nginx's workers sign as {}: let that user read the module, its configuration and the token (a group \
                             such as softhsm: usermod -aG GROUP {})",
                            worker.name, worker.name
                        ),
                        None => "see what the HSM says; qtls hsm list shows the key".to_owned(),
                    };
                    self.add(Check::Signature, Verdict::Fail, format!("no signature{whom}: {error}"), mend);
                }
            }
        }
    }
}

impl Worker {
    /// Becomes the user as nginx's workers do.
    fn become_it(&self) -> nix::Result<()> {
        let (user, group) = (Uid::from_raw(self.user), Gid::from_raw(self.group));
        let name = std::ffi::CString::new(self.name.as_str()).map_err(|_| nix::Error::EINVAL)?;
        initgroups(&name, group)?;
        setresgid(group, group, group)?;
        setresuid(user, user, user)
    }
}

impl SoftwareKeyFacts {
    fn of(path: &Path) -> Self {
        let read = std::fs::read(path).map(zeroize::Zeroizing::new);
        let mode = std::fs::metadata(path).map_or(0, |data| data.mode());
        Self {
            path: path.to_path_buf(),
            error: read.err().map(|error| error.to_string()),
            exposed: mode & READABLE_BY_ALL != 0,
        }
    }
}

/// Names what is done, with the check to blame when the module never comes back from it.
fn step_of(check: Check, what: &str) {
    step(&format!("{}: {what}", check.id()));
}

/// The public key of the first certificate in a file.
fn public_key_of(file: &Path) -> Result<Vec<u8>, String> {
    let text = std::fs::read(file).map_err(|error| error.to_string())?;
    let blocks = pem::parse_many(&text).map_err(|error| error.to_string())?;
    let block = blocks.iter().find(|block| ["CERTIFICATE", "X509 CERTIFICATE"].contains(&block.tag()));
    let block = block.ok_or("it holds no certificate")?;
    let (_, certificate) = X509Certificate::from_der(block.contents()).map_err(|error| error.to_string())?;
    Ok(certificate.public_key().raw.to_vec())
}

fn describe(kind: KeyType) -> String {
    match kind {
        KeyType::Rsa { bits } => format!("RSA {bits}"),
        KeyType::Ec(EcCurve::P256) => "EC P-256".to_owned(),
        KeyType::Ec(EcCurve::P384) => "EC P-384".to_owned(),
        KeyType::MlDsa(algorithm) => algorithm.name.to_owned(),
    }
}
