//! One loaded provider: its options, what it offers, and its state.

use crate::ffi::algorithms::AlgorithmArrays;
use crate::ffi::core::{AnnouncedProvider, Core};
use crate::log::{self, Level};
use crate::options::{Native, Options, SelfTest};
use crate::problem::Problem;
use crate::self_test::{SelfTests, State};
use qtls_crypto::{KEM_ALGORITHMS, KemAlgorithm, KnownAnswerObserver, kem_by_name};
use std::sync::{Mutex, OnceLock, PoisonError};

/// The property that every algorithm of ours carries, whatever the section in `openssl.cnf` is called.
pub(crate) const PROPERTY: &str = "provider=qtls";

/// Providers whose algorithms count as libcrypto's own. Others are not asked: a token's provider may open its token
/// when it is asked what it can do, which must not happen before a server forks.
const NATIVE_PROVIDERS: [&str; 2] = ["default", "fips"];

/// One loaded provider, in one library context.
pub(crate) struct Provider {
    pub(crate) core: Core,
    options: Options,
    /// Why nothing is offered.
    refusal: Option<Problem>,
    self_tests: SelfTests,
    surroundings: Mutex<Surroundings>,
    offer: OnceLock<Offer>,
}

/// What the core tells us of the library context around us.
#[derive(Default)]
struct Surroundings {
    native_providers: Vec<AnnouncedProvider>,
    default_properties: String,
}

/// What this provider answers, decided once.
pub(crate) struct Offer {
    pub(crate) algorithms: AlgorithmArrays,
    /// Rows of [`KEM_ALGORITHMS`].
    pub(crate) groups: Vec<usize>,
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
        let mut provider = Self {
            core,
            options,
            refusal: None,
            self_tests: SelfTests::default(),
            surroundings: Mutex::default(),
            offer: OnceLock::new(),
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
        }
    }

    /// A provider beside us is about to go. Runs under the core's lock.
    pub(crate) fn provider_vanishes(&self, gone: &AnnouncedProvider) {
        self.surroundings().native_providers.retain(|provider| provider != gone);
    }

    /// `default_properties` of the library context changed. Runs under the core's lock.
    pub(crate) fn default_properties_changed(&self, properties: &str) {
        properties.clone_into(&mut self.surroundings().default_properties);
    }

    /// What is offered. Decided at the first question and not when the provider is loaded: then `default` may not be
    /// active yet.
    pub(crate) fn offer(&self) -> &Offer {
        self.offer.get_or_init(|| {
            let native = self.native_rows();
            if self.refusal.is_some() {
                return Offer { algorithms: AlgorithmArrays::new(std::iter::empty()), groups: Vec::new() };
            }
            let yielded = |row: &usize| self.options.native == Native::Yield && native.contains(row);
            let offer = Offer {
                algorithms: AlgorithmArrays::new((0..KEM_ALGORITHMS.len()).filter(|row| !yielded(row))),
                groups: self
                    .options
                    .groups
                    .iter()
                    .map(|group| row_of(group))
                    .filter(|row| !yielded(row))
                    .collect(),
            };
            self.log_offer(&offer, &native);
            offer
        })
    }

    /// Whether an algorithm may be used: its self-test passed, was run now and passed, or is switched off.
    ///
    /// # Errors
    /// A failed self-test.
    pub(crate) fn require_self_test(&self, row: usize) -> Result<(), Problem> {
        match self.options.self_test {
            SelfTest::Off => Ok(()),
            SelfTest::OnDemand | SelfTest::OnLoad => self.self_tests.require(row, || self.observer(row)),
        }
    }

    /// Runs every self-test, whatever is known of them.
    ///
    /// # Errors
    /// The first failure; the others were run too.
    pub(crate) fn run_self_tests(&self) -> Result<(), Problem> {
        let results: Vec<_> =
            (0..KEM_ALGORITHMS.len()).map(|row| self.self_tests.run(row, || self.observer(row))).collect();
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

    /// The groups offered, separated by colons.
    pub(crate) fn describe_groups(&self) -> String {
        names(&self.offer().groups)
    }

    /// Each algorithm and its self-test's state: `X25519MLKEM768=passed …`.
    pub(crate) fn describe_self_tests(&self) -> String {
        let word = |row| match (self.self_tests.state(row), self.options.self_test) {
            (State::Failed, _) => "failed",
            (_, SelfTest::Off) => "off",
            (State::Passed, _) => "passed",
            (State::NotRun, _) => "not-run",
        };
        let words: Vec<_> = KEM_ALGORITHMS
            .iter()
            .enumerate()
            .map(|(row, algorithm)| format!("{}={}", algorithm.group_name, word(row)))
            .collect();
        words.join(" ")
    }

    pub(crate) fn log(&self, level: Level, text: &str) {
        log::write(self.options.log, level, text);
    }

    fn observer(&self, row: usize) -> Box<dyn KnownAnswerObserver> {
        self.core.self_test_observer(&KEM_ALGORITHMS[row])
    }

    fn native_rows(&self) -> Vec<usize> {
        let surroundings = self.surroundings();
        let names =
            surroundings.native_providers.iter().flat_map(|provider| self.core.key_types_of(provider));
        let mut rows: Vec<usize> = names.filter_map(|name| kem_by_name(&name)).map(row_of).collect();
        rows.sort_unstable();
        rows.dedup();
        rows
    }

    fn log_offer(&self, offer: &Offer, native: &[usize]) {
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
                "OpenSSL {openssl}: native = {}, offers groups [{}]; libcrypto has itself [{}]",
                self.describe_native(),
                names(&offer.groups),
                names(native)
            ),
        );
    }

    fn surroundings(&self) -> std::sync::MutexGuard<'_, Surroundings> {
        // Each change is a single push, retain or assignment: a panic in between leaves nothing half done.
        self.surroundings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn row_of(algorithm: &KemAlgorithm) -> usize {
    KEM_ALGORITHMS
        .iter()
        .position(|row| row == algorithm)
        .expect("every KemAlgorithm is a row of the table: the type cannot be made elsewhere")
}

fn names(rows: &[usize]) -> String {
    let names: Vec<_> = rows.iter().map(|&row| KEM_ALGORITHMS[row].group_name).collect();
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
