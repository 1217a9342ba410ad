//! The options in the provider's section of `openssl.cnf`.

use crate::{Error, PinSource, Uri};
use std::path::PathBuf;
use std::time::Duration;

/// One token to try.
#[derive(Clone, Debug)]
pub struct TokenConfig {
    /// `pkcs11-module`: the file.
    pub module: PathBuf,
    /// `pkcs11-token`: a label, or a `pkcs11:` URI with token or slot attributes. For the first token the key's URI comes
    /// before it; for the others (`pkcs11-token-2` …) it replaces the token and slot attributes of the key's URI.
    pub token: Option<Uri>,
    /// `pkcs11-pin-source`; the key's URI comes before it, for the first token.
    pub pin_source: Option<PinSource>,
}

/// All options of tokens.
#[derive(Clone, Debug)]
pub struct Config {
    /// In order of failover: `pkcs11-module`, `pkcs11-module-2`, … Where a number lacks its module, it is the first's.
    pub tokens: Vec<TokenConfig>,
    /// `pkcs11-sessions`: at most so many a token and process. 8.
    pub sessions: usize,
    /// `pkcs11-wait-ms`: how long to wait for a free session. 1,000.
    pub wait: Duration,
    /// `pkcs11-timeout-ms`: how long a module may take for one call; none (0) calls directly. 5,000.
    pub timeout: Option<Duration>,
    /// `pkcs11-retry-ms`: the first pause after a failed attempt to reach a token; each further one is twice as long, up to
    /// 30 s. 100.
    pub retry: Duration,
    /// `pkcs11-breaker-ms`: how long an open circuit breaker lets nothing through. 60,000.
    pub breaker: Duration,
    /// `pkcs11-software-key`, `-2`, …: PEM files with private keys to sign with when every token fails.
    pub software_keys: Vec<PathBuf>,
    /// `pkcs11-status-dir`: where the counters lie. `/run/qtls`.
    pub status_directory: PathBuf,
}

impl Config {
    /// Reads the options through `get`; none where there is no `pkcs11-module`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Configuration`], which names the option, its value (never a PIN) and what is allowed.
    pub fn parse<'a>(_get: impl Fn(&str) -> Option<&'a str>) -> Result<Option<Self>, Error> {
        unimplemented!()
    }
}
