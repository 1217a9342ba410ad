//! The provider's section in `openssl.cnf`.

use crate::log::Level;
use crate::problem::{Problem, Reason};
use qtls_crypto::{KEM_ALGORITHMS, KemAlgorithm, kem_by_name};

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

/// The options, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) native: Native,
    pub(crate) groups: Vec<&'static KemAlgorithm>,
    pub(crate) self_test: SelfTest,
    pub(crate) log: Level,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            native: Native::Yield,
            groups: KEM_ALGORITHMS.iter().collect(),
            self_test: SelfTest::OnDemand,
            log: Level::Error,
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
    let mut groups: Vec<&'static KemAlgorithm> = Vec::new();
    for name in value.split([':', ',']).map(str::trim) {
        let group = kem_by_name(name).ok_or_else(|| {
            let known: Vec<_> = KEM_ALGORITHMS.iter().map(|algorithm| algorithm.group_name).collect();
            invalid(
                "groups",
                value,
                &format!(
                    "'{name}' is not a group of this provider, which has {}; classical groups belong into 'Groups' of \
                     the ssl_conf section, not here",
                    known.join(", ")
                ),
            )
        })?;
        if groups.contains(&group) {
            return Err(invalid("groups", value, &format!("'{name}' names {} twice", group.group_name)));
        }
        groups.push(group);
    }
    Ok(groups)
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
            (Native::Yield, SelfTest::OnDemand, Level::Error)
        );
    }

    #[test]
    fn groups_keep_their_order_and_take_old_names() {
        let options = parse(&[("groups", "kyber768 : X25519MLKEM768")]).unwrap();
        let names: Vec<_> = options.groups.iter().map(|group| group.group_name).collect();
        assert_eq!(names, ["MLKEM768", "X25519MLKEM768"]);
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
        ] {
            let problem = parse(&[(option, value)]).unwrap_err();
            assert_eq!(problem.reason, Reason::InvalidOption);
            for part in [option, value, help] {
                assert!(problem.text.contains(part), "{} lacks {part}", problem.text);
            }
        }
    }
}
