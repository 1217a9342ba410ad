//! The signature schemes that libssl is told of (`provider-base(7)`, "TLS-SIGALG"), and the guard against a defect of it.
//!
//! libssl 3.2 to 3.4 looks a peer's key up in the table of the schemes that providers offer, and its loop has no end
//! (`for (i = 0; ctx->sigalg_list_len; i++)` in `ssl_cert_lookup_by_pkey`): a certificate with a key of any other type ends
//! the process, before its chain is judged. So every type of key that the process can decode gets a row there: a scheme
//! with the object name of that type, at which the walk ends and the handshake in an alert. Its strength of one bit keeps
//! it from being sent at any security level but 0. Corrected in 3.5.0.

use crate::options::UnguardedSignatures;
use crate::provider::Provider;
use qtls_crypto::{KeyAlgorithm, SIGNATURE_ALGORITHMS, SignatureAlgorithm};

/// One row of the capability.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SignatureScheme {
    pub(crate) iana_name: String,
    pub(crate) code_point: u16,
    /// The name of the signature, and in libssl's table of the type of key.
    pub(crate) name: &'static str,
    pub(crate) oid: Option<&'static str>,
    /// The key management whose provider counts, where it is not that of `name`.
    pub(crate) key_type: Option<&'static str>,
    pub(crate) security_bits: u32,
}

/// Keys that `default` decodes and libssl has no row of its own for, by the names that OpenSSL's object table has: DH and
/// DHX (X9.42) under those of their object identifiers.
const DEFAULT_PROVIDERS_TYPES: [&str; 5] = ["X25519", "X448", "dhKeyAgreement", "dhpublicnumber", "SM2"];

/// The first of the code points for private use (RFC 8446 section 4.2.3).
const PRIVATE_USE: u16 = 0xFE00;

/// What libssl does with a provider's signature schemes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Libssl {
    /// 3.0 and 3.1: it asks for none.
    Deaf,
    /// 3.2 to 3.4: its walk has no end.
    Endless,
    Sound,
}

impl Libssl {
    fn of(release: (u32, u32)) -> Self {
        match release {
            (3, 0..2) => Self::Deaf,
            (3, 2..5) => Self::Endless,
            _ => Self::Sound,
        }
    }
}

/// Why nothing is offered where something would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Withheld {
    /// The providers whose types of keys cannot be guarded.
    pub(crate) because_of: Vec<String>,
}

/// The rows for these algorithms.
///
/// # Errors
/// [`Withheld`] where libssl has the defect and a provider is active whose types of keys we do not know.
pub(crate) fn signature_schemes(
    release: (u32, u32),
    offered: &[&'static SignatureAlgorithm],
    unknown_providers: Vec<String>,
    unguarded: UnguardedSignatures,
) -> Result<Vec<SignatureScheme>, Withheld> {
    let libssl = Libssl::of(release);
    if offered.is_empty() || libssl == Libssl::Deaf {
        return Ok(Vec::new());
    }
    let mut rows: Vec<_> = offered.iter().filter_map(|algorithm| offer(algorithm)).collect();
    if libssl == Libssl::Endless {
        if !unknown_providers.is_empty() && unguarded == UnguardedSignatures::Withhold {
            return Err(Withheld { because_of: unknown_providers });
        }
        rows.extend(guards(offered));
    }
    Ok(rows)
}

fn offer(algorithm: &'static SignatureAlgorithm) -> Option<SignatureScheme> {
    algorithm.tls_scheme.map(|scheme| SignatureScheme {
        iana_name: scheme.name.to_owned(),
        code_point: scheme.code_point,
        name: algorithm.name,
        oid: Some(algorithm.oid),
        key_type: None,
        security_bits: algorithm.security_bits,
    })
}

/// A row for every type of key but those that are offered and those that libssl knows itself.
fn guards(offered: &[&'static SignatureAlgorithm]) -> impl Iterator<Item = SignatureScheme> {
    // Any type of ours: libssl takes a row only from the provider that has its key type. All names are short names of
    // OpenSSL's object table: of any other libssl makes a new object without an identifier, which then hides the true one.
    let one_of_ours = KeyAlgorithm::Signature(&SIGNATURE_ALGORITHMS[0]).object_name();
    // A KEM without an object identifier has no certificates.
    let ours = KeyAlgorithm::all()
        .filter(|algorithm| match algorithm {
            KeyAlgorithm::Signature(row) => !offered.contains(row),
            KeyAlgorithm::Kem(row) => row.oid.is_some(),
        })
        .map(KeyAlgorithm::object_name);
    DEFAULT_PROVIDERS_TYPES.into_iter().chain(ours).zip(PRIVATE_USE..).map(move |(name, code_point)| {
        SignatureScheme {
            iana_name: format!("qtls_guard_{name}"),
            code_point,
            name,
            oid: None,
            key_type: Some(one_of_ours),
            security_bits: 1,
        }
    })
}

impl Provider {
    /// The rows that libssl is told of now.
    ///
    /// # Errors
    /// As [`signature_schemes`].
    pub(crate) fn signature_schemes(&self) -> Result<Vec<SignatureScheme>, Withheld> {
        let (offered, unguarded) = (self.offered_signatures(), self.unguarded_signatures());
        signature_schemes(self.core.openssl_release(), &offered, self.unknown_providers(), unguarded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHERS: fn() -> Vec<String> = || vec!["pkcs11".to_owned()];

    fn all() -> Vec<&'static SignatureAlgorithm> {
        SIGNATURE_ALGORITHMS.iter().filter(|row| row.tls_scheme.is_some()).collect()
    }

    fn rows(release: (u32, u32), offered: &[&'static SignatureAlgorithm]) -> Vec<SignatureScheme> {
        signature_schemes(release, offered, Vec::new(), UnguardedSignatures::Withhold).unwrap()
    }

    #[test]
    fn a_libssl_that_asks_for_none_gets_none_and_a_sound_one_no_guard() {
        for release in [(3, 0), (3, 1)] {
            assert_eq!(rows(release, &all()), []);
        }
        for release in [(3, 5), (3, 6), (4, 0)] {
            let names: Vec<_> = rows(release, &all()).into_iter().map(|row| row.iana_name).collect();
            assert_eq!(names, ["mldsa44", "mldsa65", "mldsa87"]);
        }
    }

    #[test]
    fn where_the_walk_has_no_end_every_type_of_key_that_can_be_decoded_has_a_row() {
        for release in [(3, 2), (3, 3), (3, 4)] {
            for offered in [all(), vec![all()[1]]] {
                let rows = rows(release, &offered);
                let has = |name: &str| rows.iter().filter(|row| row.name == name).count();
                for name in DEFAULT_PROVIDERS_TYPES {
                    assert_eq!(has(name), 1, "{name}");
                }
                for algorithm in KeyAlgorithm::all() {
                    let is_offered = offered.iter().any(|row| KeyAlgorithm::Signature(row) == algorithm);
                    let name = if is_offered { algorithm.name() } else { algorithm.object_name() };
                    assert_eq!(has(name), usize::from(algorithm.oid().is_some()), "{name}");
                }
                let offered_at = rows.iter().position(|row| row.key_type.is_some());
                assert_eq!(offered_at, Some(offered.len()), "what is offered comes first");
                let guards = &rows[offered.len()..];
                assert!(guards.iter().all(|row| row.security_bits == 1 && row.code_point >= PRIVATE_USE));
                let mut points: Vec<_> = rows.iter().map(|row| row.code_point).collect();
                points.sort_unstable();
                points.dedup();
                assert_eq!(points.len(), rows.len(), "code points are unique");
            }
        }
    }

    #[test]
    fn without_a_scheme_the_walk_does_not_begin_and_needs_no_guard() {
        assert_eq!(rows((3, 4), &[]), []);
    }

    #[test]
    fn beside_a_provider_with_unknown_types_nothing_is_offered_unless_the_operator_says_so() {
        let offered = |release, unguarded| signature_schemes(release, &all(), OTHERS(), unguarded);
        let withheld = offered((3, 4), UnguardedSignatures::Withhold).unwrap_err();
        assert_eq!(withheld.because_of, OTHERS());
        let told = offered((3, 4), UnguardedSignatures::Offer).unwrap();
        assert_eq!(told, rows((3, 4), &all()));
        for release in [(3, 0), (3, 5)] {
            assert!(offered(release, UnguardedSignatures::Withhold).is_ok());
        }
    }
}
