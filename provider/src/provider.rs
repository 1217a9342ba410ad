//! One loaded provider: its options, what it offers, and its state.

use crate::ffi::algorithms::{AlgorithmArrays, Property};
use crate::ffi::core::{AnnouncedProvider, Core};
use crate::log::{self, Level};
use crate::options::{self, Native, Options, SelfTest, UnguardedSignatures};
use crate::problem::{Problem, Reason};
use crate::self_test::{SelfTests, State};
use qtls_crypto::{KemAlgorithm, KeyAlgorithm, KnownAnswerObserver, SignatureAlgorithm};
use qtls_pkcs11::Hsm;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// The property that every algorithm of ours carries, whatever the section in `openssl.cnf` is called.
pub(crate) const PROPERTY: &str = "provider=qtls";

/// What those carry instead that are for keys in tokens alone: `default` has the same algorithms, and neither its keys nor
/// those of programs that prefer us are to come to them.
pub(crate) const TOKEN_PROPERTY: &str = "provider=qtls-token";

/// Providers whose algorithms count as libcrypto's own. Others are not asked: a token's provider may open its token
/// when it is asked what it can do, which must not happen before a server forks.
const NATIVE_PROVIDERS: [&str; 2] = ["default", "fips"];

/// Further providers of OpenSSL itself: they have no types of keys that `default` has not.
const PROVIDERS_WITHOUT_KEYS: [&str; 3] = ["base", "legacy", "null"];

/// The first libssl that asks providers for signature schemes, and the first libcrypto that asks a key for the strength of
/// its signatures.
const FIRST_WITH_SIGNATURE_SCHEMES: (u32, u32) = (3, 2);

/// The first whose CMS knows signatures without a digest.
const FIRST_WITH_CMS_WITHOUT_DIGEST: (u32, u32) = (3, 5);

/// No process has this id.
const NOBODY: u32 = 0;

/// One loaded provider, in one library context.
pub(crate) struct Provider {
    pub(crate) core: Core,
    options: Options,
    /// Why nothing is offered.
    refusal: Option<Problem>,
    self_tests: SelfTests,
    surroundings: Mutex<Surroundings>,
    /// The tokens that the section names.
    hsm: Option<Arc<Hsm>>,
    /// Whether OpenSSL's own provider comes before us, and why not.
    precedence: OnceLock<Result<(), &'static str>>,
    offer: OnceLock<Offer>,
    /// The process that made a TLS context and has made no handshake yet.
    sets_up_tls: AtomicU32,
    /// A TLS context was made in this process, or in the one that it was forked from.
    serves_tls: AtomicBool,
    told_of_unusable_keys: AtomicBool,
    told_of_withheld_schemes: AtomicBool,
    told_of_bad_key: Mutex<Option<(String, Instant)>>,
}

/// What the core tells us of the library context around us.
#[derive(Default)]
struct Surroundings {
    native_providers: Vec<AnnouncedProvider>,
    unknown_providers: Vec<AnnouncedProvider>,
    default_properties: String,
}

/// What this provider answers, decided once.
pub(crate) struct Offer {
    pub(crate) algorithms: AlgorithmArrays,
    /// Those announced to TLS.
    pub(crate) groups: Vec<&'static KemAlgorithm>,
    /// Those whose schemes are announced to TLS.
    signatures: Vec<&'static SignatureAlgorithm>,
    /// Signature algorithms that are left to libcrypto, which has their schemes for TLS itself.
    native_signatures: Vec<&'static SignatureAlgorithm>,
    /// Whether keys in tokens are offered.
    tokens: bool,
}

impl Provider {
    /// Reads the options and, where they say so, runs the self-tests.
    ///
    /// A mistake there does not keep the provider from being loaded, because OpenSSL passes over a provider that it
    /// cannot load ("non-fatal activation failure" in its provider_conf.c) and goes on classically. Instead the provider
    /// is loaded, offers nothing, and makes `SSL_CTX_new` fail with the reason: see [`Self::require_valid_section`].
    pub(crate) fn new(core: Core) -> Self {
        let (options, mut refusal) = match Options::parse(|name| core.option(name)) {
            Ok(options) => (options, None),
            Err(problem) => (Options::default(), Some(problem)),
        };
        let hsm = match options::parse_tokens(|name| core.option(name)) {
            Ok(config) => config.map(Hsm::new),
            Err(problem) => {
                refusal.get_or_insert(problem);
                None
            }
        };
        let mut provider = Self {
            core,
            options,
            refusal: None,
            self_tests: SelfTests::default(),
            surroundings: Mutex::default(),
            hsm,
            precedence: OnceLock::new(),
            offer: OnceLock::new(),
            sets_up_tls: AtomicU32::new(NOBODY),
            serves_tls: AtomicBool::new(false),
            told_of_unusable_keys: AtomicBool::new(false),
            told_of_withheld_schemes: AtomicBool::new(false),
            told_of_bad_key: Mutex::default(),
        };
        if refusal.is_none() && provider.options.self_test == SelfTest::OnLoad {
            refusal = provider.run_self_tests().err();
        }
        if let Some(problem) = &refusal {
            provider.log(
                Level::Error,
                &format!(
                    "nothing is offered, and no TLS server or client starts, until this is mended: {}",
                    problem.text
                ),
            );
        }
        provider.refusal = refusal;
        provider
    }

    /// Whether the section in `openssl.cnf` is right, and with it what was asked for at load.
    ///
    /// # Errors
    /// The wrong option, or the self-test that failed on load.
    pub(crate) fn require_valid_section(&self) -> Result<(), Problem> {
        self.refusal.clone().map_or(Ok(()), Err)
    }

    /// A provider was activated beside us. Runs under the core's lock: it only takes note.
    pub(crate) fn provider_appeared(&self, provider: AnnouncedProvider) {
        if NATIVE_PROVIDERS.contains(&provider.name()) {
            self.surroundings().native_providers.push(provider);
        } else if !self.core.is_self(&provider) && !PROVIDERS_WITHOUT_KEYS.contains(&provider.name()) {
            self.surroundings().unknown_providers.push(provider);
        }
    }

    /// A provider beside us is about to go. Runs under the core's lock.
    pub(crate) fn provider_vanishes(&self, gone: &AnnouncedProvider) {
        let mut surroundings = self.surroundings();
        surroundings.native_providers.retain(|provider| provider != gone);
        surroundings.unknown_providers.retain(|provider| provider != gone);
    }

    /// `default_properties` of the library context changed. Runs under the core's lock.
    pub(crate) fn default_properties_changed(&self, properties: &str) {
        properties.clone_into(&mut self.surroundings().default_properties);
    }

    /// The core has told of every provider that was active before us.
    pub(crate) fn predecessors_are_known(&self) {
        let surroundings = self.surroundings();
        let names: Vec<_> = surroundings.native_providers.iter().map(AnnouncedProvider::name).collect();
        let _ = self.precedence.set(precedence(self.core.own_name(), &names));
    }

    /// The provider is unloaded: tokens are closed.
    pub(crate) fn end(&self) {
        if let Some(hsm) = &self.hsm {
            self.core.with_clean_errors(|| hsm.close());
        }
    }

    /// Asks the tokens for something. Nothing of what a module leaves in OpenSSL's error queue stays there.
    ///
    /// # Errors
    /// The tokens' own; tokens are not offered; a token's module asks.
    pub(crate) fn with_tokens<T>(
        &self,
        ask: impl FnOnce(&Arc<Hsm>) -> Result<T, qtls_pkcs11::Error>,
    ) -> Result<T, Problem> {
        refuse_inside_token()?;
        let hsm = self.hsm.as_ref().filter(|_| self.offer().tokens).ok_or_else(|| {
            Problem::new(
                Reason::TokenRequest,
                "a key in a token was asked for, and no token is configured: add 'pkcs11-module' with the path of its PKCS#11 \
                 module to the provider's section of openssl.cnf, where [default] is listed before it",
            )
        })?;
        Ok(self.core.with_clean_errors(|| ask(hsm))?)
    }

    /// What is offered. Decided at the first question and not when the provider is loaded: then `default` may not be
    /// active yet.
    pub(crate) fn offer(&self) -> &Offer {
        self.offer.get_or_init(|| {
            let native = self.native_algorithms();
            if self.refusal.is_some() {
                return Offer {
                    algorithms: AlgorithmArrays::new(std::iter::empty(), false),
                    groups: Vec::new(),
                    signatures: Vec::new(),
                    native_signatures: Vec::new(),
                    tokens: false,
                };
            }
            let tokens = self.hsm.is_some() && self.may_offer_tokens();
            let ours = |algorithm: KeyAlgorithm| {
                self.options.native == Native::Prefer || !native.contains(&algorithm)
            };
            let property = |algorithm: KeyAlgorithm| match algorithm {
                _ if ours(algorithm) => Some(Property::Ours),
                KeyAlgorithm::Signature(row) if tokens && row.composite.is_none() => Some(Property::Token),
                _ => None,
            };
            let offered = KeyAlgorithm::all()
                .filter_map(|algorithm| property(algorithm).map(|property| (algorithm, property)));
            let offer = Offer {
                algorithms: AlgorithmArrays::new(offered, tokens),
                groups: keep(&self.options.groups, |row| ours(KeyAlgorithm::Kem(row))),
                signatures: keep(&self.options.signatures, |row| ours(KeyAlgorithm::Signature(row))),
                native_signatures: KeyAlgorithm::all()
                    .filter_map(|algorithm| match algorithm {
                        KeyAlgorithm::Signature(row) if !ours(algorithm) => Some(row),
                        _ => None,
                    })
                    .collect(),
                tokens,
            };
            self.log_offer(&offer, &native);
            offer
        })
    }

    /// Whether TLS may be signed by keys of this algorithm.
    pub(crate) fn offers_signature(&self, algorithm: &SignatureAlgorithm) -> bool {
        let offer = self.offer();
        let mut offered = offer.signatures.iter().chain(&offer.native_signatures);
        offered.any(|row| std::ptr::eq(*row, algorithm))
    }

    /// The algorithms whose signature schemes are for TLS.
    pub(crate) fn offered_signatures(&self) -> Vec<&'static SignatureAlgorithm> {
        self.offer().signatures.clone()
    }

    pub(crate) fn unguarded_signatures(&self) -> UnguardedSignatures {
        self.options.unguarded_signatures
    }

    /// Providers whose types of keys we do not know.
    pub(crate) fn unknown_providers(&self) -> Vec<String> {
        let surroundings = self.surroundings();
        surroundings.unknown_providers.iter().map(|provider| provider.name().to_owned()).collect()
    }

    /// Whether signatures are registered with a digest that they do not have (see `SignatureOperation::accept_digest`).
    pub(crate) fn registers_digest(&self) -> bool {
        self.core.openssl_release() < FIRST_WITH_SIGNATURE_SCHEMES
    }

    /// Whether libcrypto names digests to signatures that have none (see `SignatureOperation::accept_digest`).
    pub(crate) fn hears_needless_digests(&self) -> bool {
        self.core.openssl_release() < FIRST_WITH_CMS_WITHOUT_DIGEST
    }

    /// Makes the object identifiers known that libcrypto lacks: without them no file and no certificate is recognised.
    ///
    /// # Errors
    /// OpenSSL refused.
    pub(crate) fn register_objects(&self) -> Result<(), Problem> {
        // libcrypto has one table of objects for the whole process. OpenSSL 3.0 changes it without a lock, and later versions
        // refuse whoever loses the race between looking and adding.
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _turn = ONE_AT_A_TIME.lock();
        let digest = if self.registers_digest() { "SHA512" } else { "" };
        for algorithm in KeyAlgorithm::all() {
            let Some(oid) = algorithm.oid() else { continue };
            self.core.register_object(oid, algorithm.object_name(), algorithm.name())?;
            if matches!(algorithm, KeyAlgorithm::Signature(_)) {
                self.core.register_signature(oid, digest)?;
            }
        }
        Ok(())
    }

    /// A TLS context is being made: what is read now may be the program's own certificates.
    pub(crate) fn tls_begins(&self) {
        self.serves_tls.store(true, Ordering::Relaxed);
        self.sets_up_tls.store(std::process::id(), Ordering::Relaxed);
    }

    /// A key exchange takes place: certificates that are read from now on may be a peer's.
    pub(crate) fn handshakes_begin(&self) {
        self.sets_up_tls.store(NOBODY, Ordering::Relaxed);
    }

    /// A key was read from a file or a certificate. Where TLS has no signature for it, libssl only says "unknown certificate
    /// type", or nothing before the handshake; whose key it is cannot be seen from here.
    pub(crate) fn key_was_read(&self, algorithm: KeyAlgorithm) {
        let KeyAlgorithm::Signature(row) = algorithm else { return };
        let too_old = self.core.openssl_release() < FIRST_WITH_SIGNATURE_SCHEMES;
        if (!too_old && row.tls_scheme.is_some())
            // Not in a worker, which has no certificate to read but its clients'.
            || self.sets_up_tls.load(Ordering::Relaxed) != std::process::id()
            || self.told_of_unusable_keys.swap(true, Ordering::Relaxed)
        {
            return;
        }
        let instead = if too_old {
            "an ECDSA or RSA certificate, which an ML-DSA or composite authority may have issued, or OpenSSL 3.2 or newer \
             for an ML-DSA one"
        } else {
            "an ML-DSA, ECDSA or RSA certificate, which this authority may have issued"
        };
        self.log(
            Level::Warn,
            &format!(
                "a key of type {} was read. It may be that of an authority; if it is that of this program's own \
                 certificate, TLS on OpenSSL {} has no signature for it (\"unknown certificate type\", or a failure in each \
                 handshake). Use {instead}",
                row.name,
                self.core.openssl_version()
            ),
        );
    }

    /// A key in a file is wrong. That stands in the error queue, but OpenSSL's store, by which its programs read keys, throws
    /// it away and says "unsupported". A public key may be a peer's where there is TLS: peers do not write into our log.
    pub(crate) fn tell_of_bad_key(&self, is_private: bool, problem: &Problem) {
        /// The store tries a file as one thing after another, and asks us several times.
        const SAME_FILE: Duration = Duration::from_secs(1);
        let may_be_a_peers = !is_private && self.serves_tls.load(Ordering::Relaxed);
        if problem.is_ours() || may_be_a_peers {
            return;
        }
        let mut told = self.told_of_bad_key.lock().unwrap_or_else(PoisonError::into_inner);
        if told.as_ref().is_none_or(|(text, when)| *text != problem.text || when.elapsed() > SAME_FILE) {
            self.log(Level::Error, &problem.text);
            *told = Some((problem.text.to_string(), Instant::now()));
        }
    }

    /// Signature schemes are kept back because of a defect of libssl.
    pub(crate) fn tell_of_withheld_schemes(&self, because_of: &[String]) {
        if !self.told_of_withheld_schemes.swap(true, Ordering::Relaxed) {
            self.log(
                Level::Error,
                &format!(
                    "no ML-DSA in TLS: libssl {} dies of a peer's certificate whose type of key belongs to another provider, \
                     as soon as any signature scheme is offered, and [{}] may have such types. Update to OpenSSL 3.5, or \
                     remove that provider, or write 'unguarded-signatures = offer' if it decodes no other public keys than \
                     OpenSSL does",
                    self.core.openssl_version(),
                    because_of.join(", ")
                ),
            );
        }
    }

    /// Whether an algorithm may be used: its self-test passed, was run now and passed, or is switched off.
    ///
    /// # Errors
    /// A failed self-test.
    pub(crate) fn require_self_test(&self, algorithm: KeyAlgorithm) -> Result<(), Problem> {
        match self.options.self_test {
            SelfTest::Off => Ok(()),
            SelfTest::OnDemand | SelfTest::OnLoad => {
                self.self_tests.require(algorithm, || self.observer(algorithm))
            }
        }
    }

    /// Runs every self-test, whatever is known of them.
    ///
    /// # Errors
    /// The first failure; the others were run too.
    pub(crate) fn run_self_tests(&self) -> Result<(), Problem> {
        let results: Vec<_> = KeyAlgorithm::all()
            .map(|algorithm| self.self_tests.run(algorithm, || self.observer(algorithm)))
            .collect();
        results.into_iter().collect()
    }

    /// False once a self-test failed, and where the section is wrong: what `OSSL_PROVIDER` calls the status.
    pub(crate) fn is_running(&self) -> bool {
        self.refusal.is_none() && !self.self_tests.any_failed()
    }

    /// The option `native`, as the configuration spells it.
    pub(crate) fn describe_native(&self) -> &'static str {
        match self.options.native {
            Native::Yield => "yield",
            Native::Prefer => "prefer",
        }
    }

    /// The modules of tokens in order of failover; `off` without, `refused` where the order of providers is wrong.
    pub(crate) fn describe_tokens(&self) -> String {
        match &self.hsm {
            None => "off".to_owned(),
            Some(_) if !self.offer().tokens => "refused".to_owned(),
            Some(hsm) => {
                let modules: Vec<_> =
                    hsm.config().tokens.iter().map(|token| token.module.display().to_string()).collect();
                modules.join(" ")
            }
        }
    }

    /// The groups offered, separated by colons.
    pub(crate) fn describe_groups(&self) -> String {
        names(&self.offer().groups)
    }

    /// The signature schemes offered in TLS, separated by colons; `none` without.
    pub(crate) fn describe_signatures(&self) -> String {
        let rows = self.signature_schemes().unwrap_or_default();
        let names: Vec<_> =
            rows.iter().filter(|row| row.key_type.is_none()).map(|row| row.iana_name.as_str()).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(":") }
    }

    /// Each algorithm and its self-test's state: `X25519MLKEM768=passed …`.
    pub(crate) fn describe_self_tests(&self) -> String {
        let word = |algorithm| match (self.self_tests.state(algorithm), self.options.self_test) {
            (State::Failed, _) => "failed",
            (_, SelfTest::Off) => "off",
            (State::Passed, _) => "passed",
            (State::NotRun, _) => "not-run",
        };
        let words: Vec<_> = KeyAlgorithm::all()
            .map(|algorithm| match algorithm {
                KeyAlgorithm::Kem(row) => format!("{}={}", row.group_name, word(algorithm)),
                KeyAlgorithm::Signature(row) => format!("{}={}", row.name, word(algorithm)),
            })
            .collect();
        words.join(" ")
    }

    pub(crate) fn log(&self, level: Level, text: &str) {
        log::write(self.options.log, level, text);
    }

    fn observer(&self, algorithm: KeyAlgorithm) -> Box<dyn KnownAnswerObserver> {
        self.core.self_test_observer(algorithm)
    }

    /// Whether OpenSSL's own RSA and EC come before ours. If not, its fetches of EC would lead to us, who have no key exchange:
    /// group P-256 would be lost.
    fn may_offer_tokens(&self) -> bool {
        match self.precedence.get() {
            Some(Ok(())) => true,
            Some(Err(what)) => {
                self.log(Level::Error, &format!("no keys in tokens: {what}"));
                false
            }
            None => false,
        }
    }

    fn native_algorithms(&self) -> Vec<KeyAlgorithm> {
        let surroundings = self.surroundings();
        let names =
            surroundings.native_providers.iter().flat_map(|provider| self.core.key_types_of(provider));
        let mut algorithms: Vec<_> = names.filter_map(|name| KeyAlgorithm::by_name(&name)).collect();
        algorithms.sort_unstable_by_key(|algorithm| algorithm.index());
        algorithms.dedup();
        algorithms
    }

    fn log_offer(&self, offer: &Offer, native: &[KeyAlgorithm]) {
        let openssl = self.core.openssl_version();
        if self.options.native == Native::Prefer
            && !native.is_empty()
            && !prefer_us(&self.surroundings().default_properties)
        {
            self.log(
                Level::Error,
                &format!(
                    "native = prefer lacks its other half: OpenSSL {openssl} has these algorithms itself and takes those \
                     of the provider that is listed first unless openssl.cnf says otherwise. Add 'alg_section = \
                     algorithm_section' to the section that openssl_conf names, and a section [algorithm_section] with \
                     'default_properties = ?{PROPERTY}'"
                ),
            );
        }
        self.log(
            Level::Info,
            &format!(
                "OpenSSL {openssl}: native = {}, offers groups [{}], signatures of [{}], keys in tokens: {}; libcrypto has \
                 itself [{}]",
                self.describe_native(),
                names(&offer.groups),
                offer.signatures.iter().map(|row| row.name).collect::<Vec<_>>().join(":"),
                if offer.tokens { "yes" } else { "no" },
                native.iter().map(|algorithm| algorithm.name()).collect::<Vec<_>>().join(":")
            ),
        );
    }

    fn surroundings(&self) -> std::sync::MutexGuard<'_, Surroundings> {
        // Each change is a single push, retain or assignment: a panic in between leaves nothing half done.
        self.surroundings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the algorithms of a provider of OpenSSL's own come before those of one with our name. That they are active first is not
/// enough: from the third provider on OpenSSL sorts the list by their names (`ossl_provider_find`).
///
/// # Errors
/// What is wrong, and what to do.
fn precedence(own_name: &str, active_before: &[&str]) -> Result<(), &'static str> {
    if active_before.is_empty() {
        Err(
            "OpenSSL's own provider has to be active before this one. In the section of openssl.cnf that 'providers' names, list \
             'default' (or 'fips') first, and this one after it",
        )
    } else if active_before.iter().all(|name| own_name < *name) {
        Err(
            "OpenSSL sorts providers by their names, and this one's comes before that of OpenSSL's own, which would lose its group \
             P-256. In the section of openssl.cnf that 'providers' names, call this one 'qtls'",
        )
    } else {
        Ok(())
    }
}

/// A software token uses the libcrypto of its process: what it asks for there may come to us, who would ask the token.
///
/// # Errors
/// The calling thread is inside a token's module.
pub(crate) fn refuse_inside_token() -> Result<(), Problem> {
    if qtls_pkcs11::inside_token() {
        return Err(Problem::new(
            Reason::InsideToken,
            "a token's module asked OpenSSL for something that led back to keys in tokens; it was refused",
        ));
    }
    Ok(())
}

fn keep<T>(rows: &[&'static T], condition: impl Fn(&'static T) -> bool) -> Vec<&'static T> {
    rows.iter().copied().filter(|row| condition(row)).collect()
}

fn names(groups: &[&KemAlgorithm]) -> String {
    let names: Vec<_> = groups.iter().map(|group| group.group_name).collect();
    names.join(":")
}

/// Whether these `default_properties` make OpenSSL choose us where others have the same algorithm.
fn prefer_us(properties: &str) -> bool {
    let properties: String = properties
        .chars()
        .filter(|character| !character.is_whitespace() && !"'\"".contains(*character))
        .collect();
    properties.split(',').any(|property| property.trim_start_matches('?') == PROPERTY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_in_tokens_are_offered_where_openssl_s_own_provider_comes_first_by_order_and_by_name() {
        for (own, before) in [("qtls", &["default"][..]), ("qtls", &["fips"]), ("ex", &["fips", "default"])] {
            assert_eq!(precedence(own, before), Ok(()));
        }
        assert!(precedence("qtls", &[]).unwrap_err().contains("list 'default'"));
        for (own, before) in [("Qtls", &["default"][..]), ("aqtls", &["default"]), ("ex", &["fips"])] {
            assert!(precedence(own, before).unwrap_err().contains("call this one 'qtls'"));
        }
    }

    #[test]
    fn default_properties_prefer_us_when_a_clause_names_us_as_openssl_may_write_it() {
        for properties in [
            "?provider=qtls",
            "provider=qtls",
            " ? provider = qtls ",
            "?provider='qtls'",
            "fips=yes,?provider=qtls",
            "?provider=qtls,?fips=yes",
        ] {
            assert!(prefer_us(properties), "{properties}");
        }
        for properties in
            ["", "?provider=default", "-provider=qtls", "?provider!=qtls", "?provider=qtls-token"]
        {
            assert!(!prefer_us(properties), "{properties}");
        }
    }
}
