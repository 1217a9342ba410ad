//! The options in the provider's section of `openssl.cnf`.

use crate::{Error, ErrorKind, PinSource, Uri};
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// The prefix of all options of tokens.
const PREFIX: &str = "pkcs11-";

/// Options that may come again with a number behind, for failover.
const NUMBERED: [&str; 4] = [MODULE, TOKEN, PIN_SOURCE, SOFTWARE_KEY];
const MODULE: &str = "pkcs11-module";
const TOKEN: &str = "pkcs11-token";
const PIN_SOURCE: &str = "pkcs11-pin-source";
const SOFTWARE_KEY: &str = "pkcs11-software-key";

/// Options that come once.
const SINGLE: [&str; 6] = [SESSIONS, WAIT, TIMEOUT, RETRY, BREAKER, STATUS_DIRECTORY];
const SESSIONS: &str = "pkcs11-sessions";
const WAIT: &str = "pkcs11-wait-ms";
const TIMEOUT: &str = "pkcs11-timeout-ms";
const RETRY: &str = "pkcs11-retry-ms";
const BREAKER: &str = "pkcs11-breaker-ms";
const STATUS_DIRECTORY: &str = "pkcs11-status-dir";

/// The highest number behind an option.
const MOST: usize = 9;
/// Numbers up to here are looked for, so that one that is too high is told and not passed over.
const HIGHEST_LOOKED_FOR: usize = 99;
/// What PKCS#11 gives a token's label, in bytes.
const LABEL_BYTES: usize = 32;

const DEFAULT_SESSIONS: u64 = 8;
const DEFAULT_WAIT_MS: u64 = 1_000;
const DEFAULT_TIMEOUT_MS: u64 = 5_000;
const DEFAULT_RETRY_MS: u64 = 100;
const DEFAULT_BREAKER_MS: u64 = 60_000;

/// One token to try.
#[derive(Clone, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// Where the counters lie unless `pkcs11-status-dir` says otherwise.
    pub const DEFAULT_STATUS_DIRECTORY: &str = "/run/qtls";

    /// Reads the options through `get`, which answers a name with the section's value for it; none where there is no option
    /// of tokens at all.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Configuration`], which names the option, its value (never a PIN) and what is allowed.
    pub fn parse<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Result<Option<Self>, Error> {
        let get = |name: &str| get(name).map(str::trim);
        let Some(module) = get(MODULE) else {
            let all = SINGLE.iter().map(|name| (*name).to_owned());
            let numbered = NUMBERED
                .iter()
                .flat_map(|name| (1..=HIGHEST_LOOKED_FOR).map(|number| numbered(name, number)));
            return match all.chain(numbered).find(|name| get(name).is_some()) {
                Some(name) => Err(Error::new(
                    ErrorKind::Configuration,
                    format!(
                        "{IN_SECTION} '{name}' is set and '{MODULE}' is not: name the module's file, or take it out"
                    ),
                )),
                None => Ok(None),
            };
        };
        refuse_numbers(&get)?;
        let module = absolute(MODULE, module)?;
        let mut tokens = vec![TokenConfig {
            module: module.clone(),
            token: get(TOKEN).map(|value| token(TOKEN, value)).transpose()?,
            pin_source: get(PIN_SOURCE).map(|value| pin_source(PIN_SOURCE, value)).transpose()?,
        }];
        for number in 2..=count(&get, &[MODULE, TOKEN, PIN_SOURCE])? {
            let named = |option: &str| {
                let name = numbered(option, number);
                get(&name).map(|value| (name, value))
            };
            let next = TokenConfig {
                module: named(MODULE).map_or(Ok(module.clone()), |(name, value)| absolute(&name, value))?,
                token: named(TOKEN).map(|(name, value)| token(&name, value)).transpose()?,
                pin_source: named(PIN_SOURCE).map(|(name, value)| pin_source(&name, value)).transpose()?,
            };
            if let Some(same) =
                tokens.iter().position(|other| (&other.module, &other.token) == (&next.module, &next.token))
            {
                return Err(Error::new(
                    ErrorKind::Configuration,
                    format!(
                        "{IN_SECTION} number {number} of the tokens is number {} again: give it another \
                         '{MODULE}-{number}' or '{TOKEN}-{number}'",
                        same + 1
                    ),
                ));
            }
            tokens.push(next);
        }
        let software_keys = (1..=count(&get, &[SOFTWARE_KEY])?)
            .filter_map(|number| {
                let name = numbered(SOFTWARE_KEY, number);
                get(&name).map(|value| absolute(&name, value))
            })
            .collect::<Result<_, _>>()?;
        let number = |name, default, allowed| number(name, get(name), default, allowed);
        let milliseconds = |name, default, allowed| number(name, default, allowed).map(Duration::from_millis);
        let timeout = match number(TIMEOUT, DEFAULT_TIMEOUT_MS, 0..=600_000)? {
            0 => None,
            milliseconds => Some(Duration::from_millis(milliseconds)),
        };
        let sessions = number(SESSIONS, DEFAULT_SESSIONS, 1..=10_000)?;
        Ok(Some(Self {
            tokens,
            sessions: usize::try_from(sessions).unwrap_or(usize::MAX),
            wait: milliseconds(WAIT, DEFAULT_WAIT_MS, 0..=600_000)?,
            timeout,
            retry: milliseconds(RETRY, DEFAULT_RETRY_MS, 1..=30_000)?,
            breaker: milliseconds(BREAKER, DEFAULT_BREAKER_MS, 1..=3_600_000)?,
            software_keys,
            status_directory: absolute(
                STATUS_DIRECTORY,
                get(STATUS_DIRECTORY).unwrap_or(Self::DEFAULT_STATUS_DIRECTORY),
            )?,
        }))
    }

    /// Whether the section may have an option of this name, for whoever looks for misspelt ones: OpenSSL asks for options
    /// by name, so that nobody else finds those that are never asked for.
    pub fn is_option(name: &str) -> bool {
        let number_behind = |option: &str| {
            let number = name.strip_prefix(option)?.strip_prefix('-')?;
            number
                .parse()
                .ok()
                .filter(|parsed: &usize| (2..=MOST).contains(parsed) && number == parsed.to_string())
        };
        SINGLE.contains(&name)
            || NUMBERED.iter().any(|option| *option == name || number_behind(option).is_some())
    }

    /// Whether a name is meant for this crate, rightly spelt or not.
    pub fn claims(name: &str) -> bool {
        name.starts_with(PREFIX)
    }
}

const IN_SECTION: &str = "in the provider's section of openssl.cnf";

fn numbered(option: &str, number: usize) -> String {
    if number == 1 { option.to_owned() } else { format!("{option}-{number}") }
}

/// Refuses options with a number that none has.
fn refuse_numbers<'a>(get: &impl Fn(&str) -> Option<&'a str>) -> Result<(), Error> {
    for option in NUMBERED {
        for number in (0..=1).chain(MOST + 1..=HIGHEST_LOOKED_FOR) {
            if get(&format!("{option}-{number}")).is_some() {
                return Err(Error::new(
                    ErrorKind::Configuration,
                    format!(
                        "{IN_SECTION} '{option}-{number}' is no option: the first is '{option}', the next are \
                         '{option}-2' to '{option}-{MOST}'"
                    ),
                ));
            }
        }
    }
    Ok(())
}

/// How many there are of what these options number, from 1 on without a gap.
fn count<'a>(get: &impl Fn(&str) -> Option<&'a str>, options: &[&str]) -> Result<usize, Error> {
    let is_there = |number| options.iter().any(|option| get(&numbered(option, number)).is_some());
    let count = (1..=MOST).take_while(|number| is_there(*number)).count();
    match (count + 1..=MOST).find(|number| is_there(*number)) {
        Some(number) => {
            let name = options.iter().map(|option| numbered(option, number)).find(|name| get(name).is_some());
            let missing: Vec<String> = options.iter().map(|option| numbered(option, count + 1)).collect();
            Err(Error::new(
                ErrorKind::Configuration,
                format!(
                    "{IN_SECTION} '{}' has a number too high: there is no {}; number them without a gap",
                    name.unwrap_or_default(),
                    missing.join(" or ")
                ),
            ))
        }
        None => Ok(count),
    }
}

fn absolute(option: &str, value: &str) -> Result<PathBuf, Error> {
    let path = PathBuf::from(value);
    // A name alone would be looked for by the loader, in places that the environment names.
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(invalid(option, value, "an absolute path has to stand there"))
    }
}

fn token(option: &str, value: &str) -> Result<Uri, Error> {
    if !Uri::is_one(value) {
        let fits = (1..=LABEL_BYTES).contains(&value.len());
        let why = "a token's label has 1 to 32 bytes; or write a URI, as pkcs11:serial=…";
        return if fits {
            Ok(Uri { token: Some(value.to_owned()), ..Uri::default() })
        } else {
            Err(invalid(option, value, why))
        };
    }
    // Without the value: it may hold a PIN.
    let wrong =
        |why: &dyn Display| Error::new(ErrorKind::Configuration, format!("{IN_SECTION} '{option}': {why}"));
    let uri = Uri::parse(value).map_err(|error| wrong(&error))?;
    let token_alone = Uri { module_path: None, module_name: None, ..uri.clone() };
    if uri.pin_value.is_some() || uri.pin_source.is_some() {
        return Err(wrong(&format!("a PIN belongs into '{PIN_SOURCE}', not into this URI")));
    }
    if uri != token_alone {
        return Err(wrong(&format!("the module belongs into '{MODULE}', not into this URI")));
    }
    if uri.names_object() {
        return Err(wrong(&"the URI may name a token or slot alone: take object, id and type out"));
    }
    if !uri.names_token() {
        return Err(wrong(&"the URI names no token and no slot"));
    }
    Ok(uri)
}

fn pin_source(option: &str, value: &str) -> Result<PinSource, Error> {
    PinSource::parse(value)
        .map_err(|error| Error::new(ErrorKind::Configuration, format!("{IN_SECTION} '{option}': {error}")))
}

fn number(
    option: &str,
    value: Option<&str>,
    default: u64,
    allowed: RangeInclusive<u64>,
) -> Result<u64, Error> {
    let Some(value) = value else { return Ok(default) };
    let digits = Some(value).filter(|value| value.bytes().all(|byte| byte.is_ascii_digit()));
    let number = digits.and_then(|digits| digits.parse().ok()).filter(|number| allowed.contains(number));
    let (first, last) = allowed.into_inner();
    number.ok_or_else(|| {
        invalid(option, value, &format!("a whole number from {first} to {last} has to stand there"))
    })
}

fn invalid(option: &str, value: &str, help: &str) -> Error {
    Error::new(ErrorKind::Configuration, format!("{IN_SECTION} '{option} = {value}': {help}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn parse(pairs: &[(&str, &str)]) -> Result<Option<Config>, Error> {
        let pairs: HashMap<_, _> = pairs.iter().copied().collect();
        Config::parse(|name| pairs.get(name).copied())
    }

    #[track_caller]
    fn refused(pairs: &[(&str, &str)]) -> String {
        let error = parse(pairs).expect_err("it is wrong");
        assert_eq!(error.kind(), ErrorKind::Configuration);
        error.to_string()
    }

    const SOFTHSM: (&str, &str) = ("pkcs11-module", "/usr/lib/softhsm/libsofthsm2.so");

    #[test]
    fn without_an_option_of_tokens_there_is_nothing() {
        assert_eq!(parse(&[("native", "yield"), ("groups", "MLKEM768")]).unwrap(), None);
    }

    #[test]
    fn a_module_alone_means_the_documented_defaults() {
        let config = parse(&[SOFTHSM]).unwrap().unwrap();
        let expected = Config {
            tokens: vec![TokenConfig { module: SOFTHSM.1.into(), token: None, pin_source: None }],
            sessions: 8,
            wait: Duration::from_secs(1),
            timeout: Some(Duration::from_secs(5)),
            retry: Duration::from_millis(100),
            breaker: Duration::from_secs(60),
            software_keys: Vec::new(),
            status_directory: "/run/qtls".into(),
        };
        assert_eq!(config, expected);
    }

    #[test]
    fn every_option_is_read() {
        let config = parse(&[
            SOFTHSM,
            ("pkcs11-token", " gateway "),
            ("pkcs11-pin-source", "file:/etc/pin"),
            ("pkcs11-token-2", "pkcs11:serial=42"),
            ("pkcs11-module-3", "/opt/other.so"),
            ("pkcs11-pin-source-3", "env:PIN"),
            ("pkcs11-sessions", "2"),
            ("pkcs11-wait-ms", "0"),
            ("pkcs11-timeout-ms", "0"),
            ("pkcs11-retry-ms", "10"),
            ("pkcs11-breaker-ms", "1000"),
            ("pkcs11-software-key", "/etc/a.pem"),
            ("pkcs11-software-key-2", "/etc/b.pem"),
            ("pkcs11-status-dir", "/tmp/status"),
        ]);
        let config = config.unwrap().unwrap();
        let label = |text: &str| Some(Uri { token: Some(text.into()), ..Uri::default() });
        let module = |path: &str| PathBuf::from(path);
        assert_eq!(
            config.tokens,
            [
                TokenConfig {
                    module: module(SOFTHSM.1),
                    token: label("gateway"),
                    pin_source: Some(PinSource::File("/etc/pin".into())),
                },
                TokenConfig {
                    module: module(SOFTHSM.1),
                    token: Some(Uri { serial: Some("42".into()), ..Uri::default() }),
                    pin_source: None,
                },
                TokenConfig {
                    module: module("/opt/other.so"),
                    token: None,
                    pin_source: Some(PinSource::Environment("PIN".into())),
                },
            ]
        );
        assert_eq!((config.sessions, config.wait, config.timeout), (2, Duration::ZERO, None));
        assert_eq!((config.retry, config.breaker), (Duration::from_millis(10), Duration::from_secs(1)));
        assert_eq!(config.software_keys, [module("/etc/a.pem"), module("/etc/b.pem")]);
        assert_eq!(config.status_directory, module("/tmp/status"));
    }

    #[test]
    fn a_wrong_value_is_an_error_that_names_option_value_and_way_out() {
        for (option, value, help) in [
            ("pkcs11-module", "libsofthsm2.so", "absolute path"),
            ("pkcs11-module", "", "absolute path"),
            ("pkcs11-module-2", "other.so", "absolute path"),
            ("pkcs11-token", "", "1 to 32 bytes"),
            ("pkcs11-token", "123456789012345678901234567890123", "1 to 32 bytes"),
            ("pkcs11-sessions", "0", "from 1 to 10000"),
            ("pkcs11-sessions", "eight", "whole number"),
            ("pkcs11-sessions", "", "whole number"),
            ("pkcs11-wait-ms", "1s", "whole number"),
            ("pkcs11-wait-ms", "-1", "whole number"),
            ("pkcs11-timeout-ms", "+5", "whole number"),
            ("pkcs11-timeout-ms", "99999999999999999999", "from 0 to 600000"),
            ("pkcs11-retry-ms", "0", "from 1 to 30000"),
            ("pkcs11-breaker-ms", "0", "from 1 to"),
            ("pkcs11-software-key", "key.pem", "absolute path"),
            ("pkcs11-status-dir", "run", "absolute path"),
        ] {
            let pairs = if option == "pkcs11-module" {
                vec![(option, value)]
            } else {
                vec![SOFTHSM, (option, value)]
            };
            let said = refused(&pairs);
            for part in [option, value, help] {
                assert!(said.contains(part), "{said} lacks {part}");
            }
        }
    }

    #[test]
    fn numbers_have_no_gap_and_no_token_comes_twice() {
        for (pairs, help) in [
            (
                &[SOFTHSM, ("pkcs11-token-3", "c")][..],
                "no pkcs11-module-2 or pkcs11-token-2 or pkcs11-pin-source-2",
            ),
            (&[SOFTHSM, ("pkcs11-software-key-2", "/k")], "there is no pkcs11-software-key;"),
            (&[SOFTHSM, ("pkcs11-token-1", "a")], "the first is 'pkcs11-token'"),
            (&[SOFTHSM, ("pkcs11-module-10", "/m")], "'pkcs11-module-2' to 'pkcs11-module-9'"),
            (&[SOFTHSM, ("pkcs11-pin-source-2", "env:X")], "number 2 of the tokens is number 1 again"),
            (
                &[SOFTHSM, ("pkcs11-token-2", "b"), ("pkcs11-token-3", "b")],
                "number 3 of the tokens is number 2 again",
            ),
            (&[("pkcs11-token", "a")], "'pkcs11-token' is set and 'pkcs11-module' is not"),
            (&[("pkcs11-module-2", "/m")], "'pkcs11-module-2' is set and 'pkcs11-module' is not"),
            (&[("pkcs11-sessions", "8")], "'pkcs11-sessions' is set and 'pkcs11-module' is not"),
        ] {
            let said = refused(pairs);
            assert!(said.contains(help), "{said} lacks {help}");
        }
    }

    #[test]
    fn the_uri_of_a_token_names_a_token_and_no_more() {
        for (value, help) in [
            ("pkcs11:serial=1;object=k", "take object, id and type out"),
            ("pkcs11:", "names no token"),
            ("pkcs11:serial=1?pin-value=4711", "a PIN belongs into 'pkcs11-pin-source'"),
            ("pkcs11:serial=1?pin-value=4711&", "or nothing"),
            ("pkcs11:serial=1?module-path=/m.so", "the module belongs into"),
        ] {
            let said = refused(&[SOFTHSM, ("pkcs11-token", value)]);
            assert!(said.contains(help) && said.contains("pkcs11-token"), "{said} lacks {help}");
            assert!(!said.contains("4711"), "{said}");
        }
    }

    #[test]
    fn no_error_shows_a_pin() {
        for value in ["4711", "value:", "pin:4711", "file:4711"] {
            let said = refused(&[SOFTHSM, ("pkcs11-pin-source", value)]);
            assert!(!said.contains("4711") && said.contains("pkcs11-pin-source"), "{said}");
        }
        let config = parse(&[SOFTHSM, ("pkcs11-pin-source", "value:4711")]).unwrap();
        assert!(!format!("{config:?}").contains("4711"));
    }

    #[test]
    fn misspelt_names_can_be_told_from_options() {
        for name in ["pkcs11-module", "pkcs11-module-2", "pkcs11-software-key-9", "pkcs11-wait-ms"] {
            assert!(Config::is_option(name) && Config::claims(name), "{name}");
        }
        for name in
            ["pkcs11-modul", "pkcs11-module-1", "pkcs11-module-10", "pkcs11-module-02", "pkcs11-wait-ms-2"]
        {
            assert!(!Config::is_option(name) && Config::claims(name), "{name}");
        }
        assert!(!Config::claims("native"));
    }
}
