//! The provider's section in `openssl.cnf`.

use crate::log::Level;
use crate::problem::{Problem, Reason};
use qtls_crypto::{
    KEM_ALGORITHMS, KemAlgorithm, SIGNATURE_ALGORITHMS, SignatureAlgorithm, kem_by_name, signature_by_name,
};

/// What to do where libcrypto has an algorithm itself (3.5 on).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Native {
    /// Leave it to libcrypto, and add what it lacks.
    Yield,
    /// Offer ours as well; `default_properties = ?provider=qtls` in `openssl.cnf` makes OpenSSL choose it.
    Prefer,
}

/// When the known answers are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SelfTest {
    /// All of them when the provider is loaded; one that fails stops TLS (see `Provider::new`).
    OnLoad,
    /// Each algorithm's before its first use.
    OnDemand,
    Off,
}

/// What to do about TLS signature schemes where libssl has a defect that not every key type can be guarded against (see
/// `crate::signature_schemes`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnguardedSignatures {
    /// Offer none, so that the defect is not reached.
    Withhold,
    /// Offer them all the same.
    Offer,
}

/// The options, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) native: Native,
    pub(crate) groups: Vec<&'static KemAlgorithm>,
    /// Those with a TLS signature scheme that are offered in TLS.
    pub(crate) signatures: Vec<&'static SignatureAlgorithm>,
    pub(crate) unguarded_signatures: UnguardedSignatures,
    pub(crate) self_test: SelfTest,
    pub(crate) log: Level,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            native: Native::Yield,
            groups: KEM_ALGORITHMS.iter().collect(),
            signatures: with_tls_scheme().collect(),
            unguarded_signatures: UnguardedSignatures::Withhold,
            self_test: SelfTest::OnDemand,
            log: Level::Warn,
        }
    }
}

impl Options {
    /// Reads the options through `get`, which answers a name with the section's value for it.
    ///
    /// # Errors
    /// [`Reason::InvalidOption`], with a text that names the option, its value and what is allowed.
    pub(crate) fn parse<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Result<Self, Problem> {
        let defaults = Self::default();
        Ok(Self {
            native: choose(
                "native",
                get("native"),
                &[("yield", Native::Yield), ("prefer", Native::Prefer)],
                defaults.native,
            )?,
            groups: get("groups").map_or(Ok(defaults.groups), parse_groups)?,
            signatures: get("signatures").map_or(Ok(defaults.signatures), parse_signatures)?,
            unguarded_signatures: choose(
                "unguarded-signatures",
                get("unguarded-signatures"),
                &[("withhold", UnguardedSignatures::Withhold), ("offer", UnguardedSignatures::Offer)],
                defaults.unguarded_signatures,
            )?,
            self_test: choose(
                "self-test",
                get("self-test"),
                &[("on-load", SelfTest::OnLoad), ("on-demand", SelfTest::OnDemand), ("off", SelfTest::Off)],
                defaults.self_test,
            )?,
            log: choose("log", get("log"), &Level::ALL, defaults.log)?,
        })
    }
}

/// Reads the options of tokens through `get`; none where there is no `pkcs11-module`.
///
/// # Errors
/// As [`Options::parse`].
pub(crate) fn parse_tokens<'a>(
    get: impl Fn(&str) -> Option<&'a str>,
) -> Result<Option<qtls_pkcs11::Config>, Problem> {
    qtls_pkcs11::Config::parse(get).map_err(|error| Problem::new(Reason::InvalidOption, error.to_string()))
}

fn choose<T: Copy>(
    option: &str,
    value: Option<&str>,
    allowed: &[(&str, T)],
    default: T,
) -> Result<T, Problem> {
    let Some(value) = value.map(str::trim) else { return Ok(default) };
    allowed.iter().find(|(name, _)| *name == value).map(|&(_, choice)| choice).ok_or_else(|| {
        let names: Vec<_> = allowed.iter().map(|&(name, _)| name).collect();
        invalid(option, value, &format!("use one of: {}", names.join(", ")))
    })
}

fn parse_groups(value: &str) -> Result<Vec<&'static KemAlgorithm>, Problem> {
    parse_list("groups", value, |name| {
        kem_by_name(name).map(|group| (group, group.group_name)).ok_or_else(|| {
            let known: Vec<_> = KEM_ALGORITHMS.iter().map(|algorithm| algorithm.group_name).collect();
            format!(
                "'{name}' is not a group of this provider, which has {}; classical groups belong into 'Groups' of the \
                 ssl_conf section, not here",
                known.join(", ")
            )
        })
    })
}

fn parse_signatures(value: &str) -> Result<Vec<&'static SignatureAlgorithm>, Problem> {
    if value.trim() == "none" {
        return Ok(Vec::new());
    }
    parse_list("signatures", value, |name| {
        let found = signature_by_name(name);
        match found.and_then(|row| row.tls_scheme.map(|scheme| (row, scheme.name))) {
            Some(row) => Ok(row),
            None => {
                let known: Vec<_> =
                    with_tls_scheme().filter_map(|row| row.tls_scheme).map(|scheme| scheme.name).collect();
                let why = if found.is_some() {
                    "has no TLS signature scheme: its keys sign certificates, not handshakes"
                } else {
                    "is not a signature scheme of this provider"
                };
                Err(format!(
                    "'{name}' {why}. There are {}, or the one word 'none'; classical schemes belong into \
                     'SignatureAlgorithms' of the ssl_conf section, not here",
                    known.join(", ")
                ))
            }
        }
    })
}

/// The algorithms that TLS has a signature scheme for.
fn with_tls_scheme() -> impl Iterator<Item = &'static SignatureAlgorithm> {
    SIGNATURE_ALGORITHMS.iter().filter(|row| row.tls_scheme.is_some())
}

/// Reads a list of names, each of which `find` turns into a row and its own name, or into what is wrong with it.
fn parse_list<T: PartialEq>(
    option: &str,
    value: &str,
    find: impl Fn(&str) -> Result<(&'static T, &'static str), String>,
) -> Result<Vec<&'static T>, Problem> {
    let mut rows: Vec<&'static T> = Vec::new();
    for name in value.split([':', ',']).map(str::trim) {
        let (row, own_name) = find(name).map_err(|help| invalid(option, value, &help))?;
        if rows.contains(&row) {
            return Err(invalid(option, value, &format!("'{name}' names {own_name} twice")));
        }
        rows.push(row);
    }
    Ok(rows)
}

fn invalid(option: &str, value: &str, help: &str) -> Problem {
    Problem::new(
        Reason::InvalidOption,
        format!("option '{option} = {value}' in the provider's section of openssl.cnf: {help}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Options, Problem> {
        let pairs: std::collections::HashMap<String, String> =
            pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        Options::parse(|name| pairs.get(name).map(String::as_str))
    }

    #[test]
    fn an_empty_section_means_the_documented_defaults() {
        let options = parse(&[]).unwrap();
        assert_eq!(options, Options::default());
        assert_eq!(options.groups.len(), 6);
        assert_eq!(
            (options.native, options.self_test, options.log),
            (Native::Yield, SelfTest::OnDemand, Level::Warn)
        );
    }

    #[test]
    fn groups_keep_their_order_and_take_old_names() {
        let options = parse(&[("groups", "kyber768 : X25519MLKEM768")]).unwrap();
        let names: Vec<_> = options.groups.iter().map(|group| group.group_name).collect();
        assert_eq!(names, ["MLKEM768", "X25519MLKEM768"]);
    }

    #[test]
    fn signatures_keep_their_order_take_old_names_and_may_be_none() {
        let names = |value| -> Vec<_> {
            let options = parse(&[("signatures", value)]).unwrap();
            options.signatures.iter().map(|row| row.name).collect()
        };
        assert_eq!(names("DILITHIUM5, mldsa65"), ["ML-DSA-87", "ML-DSA-65"]);
        assert_eq!(names("none"), [""; 0]);
        assert_eq!(Options::default().signatures.len(), 3);
    }

    #[test]
    fn a_wrong_value_is_an_error_that_names_option_value_and_way_out() {
        for (option, value, help) in [
            ("native", "force", "yield, prefer"),
            ("self-test", "onload", "on-load, on-demand, off"),
            ("log", "verbose", "error, warn, info, debug"),
            ("groups", "X25519MLKEM786", "X25519MLKEM768, SecP256r1MLKEM768"),
            ("groups", "X25519", "ssl_conf"),
            ("groups", "MLKEM768:ML-KEM-768", "twice"),
            ("groups", "", "is not a group"),
            ("signatures", "mldsa66", "mldsa44, mldsa65, mldsa87, or the one word 'none'"),
            ("signatures", "ed25519", "SignatureAlgorithms"),
            ("signatures", "id-MLDSA65-ECDSA-P256-SHA512", "certificates, not handshakes"),
            ("signatures", "mldsa65:ML-DSA-65", "twice"),
            ("signatures", "none:mldsa65", "'none' is not"),
            ("unguarded-signatures", "yes", "withhold, offer"),
        ] {
            let problem = parse(&[(option, value)]).unwrap_err();
            assert_eq!(problem.reason, Reason::InvalidOption);
            for part in [option, value, help] {
                assert!(problem.text.contains(part), "{} lacks {part}", problem.text);
            }
        }
    }
}
