//! A certificate described for a person: names, key and signature algorithm (post-quantum ones by name), validity.

use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use x509_parser::prelude::*;
use x509_parser::public_key::PublicKey;

/// What a report says about one certificate of the chain.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Certificate {
    /// Subject, as `CN=…, O=…`.
    pub subject: String,
    /// Issuer.
    pub issuer: String,
    /// DNS names and addresses it is for.
    pub names: Vec<String>,
    /// `ECDSA P-256`, `RSA-2048`, `ML-DSA-65`, a composite's name, or the dotted OID of an unknown one.
    pub key: String,
    /// Whether that key resists a quantum computer, a composite's by its ML-DSA half.
    pub key_post_quantum: bool,
    /// The algorithm of the issuer's signature.
    pub signature: String,
    /// Whether that signature resists a quantum computer.
    pub signature_post_quantum: bool,
    /// Start of validity, RFC 3339.
    pub not_before: String,
    /// End of validity, RFC 3339.
    pub not_after: String,
    /// Whole days until `not_after`; negative once it is past.
    pub days_left: i64,
    /// Whether `not_before` is past.
    pub started: bool,
    /// Size of the DER encoding.
    pub bytes: usize,
    /// Whether subject and issuer are the same.
    pub self_issued: bool,
}

impl Certificate {
    /// Describes a DER certificate.
    ///
    /// # Errors
    /// What is wrong with its encoding.
    pub fn describe(der: &CertificateDer<'_>) -> Result<Self, String> {
        let (_, certificate) = X509Certificate::from_der(der)
            .map_err(|error| format!("the certificate cannot be parsed: {error}"))?;
        let validity = certificate.validity();
        let seconds_left = validity.not_after.timestamp() - ASN1Time::now().timestamp();
        let names = match certificate.subject_alternative_name() {
            Ok(Some(extension)) => extension.value.general_names.iter().filter_map(general_name).collect(),
            _ => Vec::new(),
        };
        let key = certificate.public_key();
        let signature = certificate.signature_algorithm.algorithm.to_id_string();
        Ok(Self {
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            names,
            key: key_name(key),
            key_post_quantum: is_post_quantum(&key.algorithm.algorithm.to_id_string()),
            signature: algorithm_name(&signature),
            signature_post_quantum: is_post_quantum(&signature),
            not_before: rfc3339(validity.not_before),
            not_after: rfc3339(validity.not_after),
            days_left: seconds_left.div_euclid(86_400),
            started: validity.not_before <= ASN1Time::now(),
            bytes: der.len(),
            self_issued: certificate.subject() == certificate.issuer(),
        })
    }
}

fn general_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|octets| std::net::Ipv4Addr::from(octets).to_string()),
            16 => {
                <[u8; 16]>::try_from(*bytes).ok().map(|octets| std::net::Ipv6Addr::from(octets).to_string())
            }
            _ => None,
        },
        _ => None,
    }
}

fn rfc3339(time: ASN1Time) -> String {
    let time = time.to_datetime();
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        time.year(),
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second()
    )
}

fn key_name(key: &SubjectPublicKeyInfo<'_>) -> String {
    let oid = key.algorithm.algorithm.to_id_string();
    match key.parsed() {
        Ok(PublicKey::RSA(rsa)) => {
            let kind = if oid == RSASSA_PSS { "RSA-PSS" } else { "RSA" };
            format!("{kind}-{}", rsa.key_size())
        }
        Ok(PublicKey::EC(_)) => {
            let curve = key.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
            format!(
                "ECDSA {}",
                curve.map_or_else(|| "?".to_owned(), |curve| curve_name(&curve.to_id_string()))
            )
        }
        _ => algorithm_name(&oid),
    }
}

fn curve_name(oid: &str) -> String {
    match oid {
        "1.2.840.10045.3.1.7" => "P-256",
        "1.3.132.0.34" => "P-384",
        "1.3.132.0.35" => "P-521",
        "1.3.132.0.10" => "secp256k1",
        "1.3.36.3.3.2.8.1.1.7" => "brainpoolP256r1",
        "1.3.36.3.3.2.8.1.1.11" => "brainpoolP384r1",
        "1.3.36.3.3.2.8.1.1.13" => "brainpoolP512r1",
        "1.2.156.10197.1.301" => "SM2",
        other => other,
    }
    .to_owned()
}

const RSASSA_PSS: &str = "1.2.840.113549.1.1.10";

/// Whether a key or signature algorithm is one of NIST's post-quantum signatures (2.16.840.1.101.3.4.3.17 to 46, with those that hash first) or KEMs
/// (….4.1 to 3), or a composite of one (sources as for [`algorithm_name`]).
pub fn is_post_quantum(oid: &str) -> bool {
    [("2.16.840.1.101.3.4.3.", 17..=46), ("2.16.840.1.101.3.4.4.", 1..=3), ("1.3.6.1.5.5.7.6.", 37..=54)]
        .into_iter()
        .any(|(arc, range)| {
            oid.strip_prefix(arc)
                .and_then(|last| last.parse().ok())
                .is_some_and(|last: u32| range.contains(&last))
        })
}

/// The name of a key or signature algorithm, or the dotted OID of one that is not known.
///
/// Sources: RFC 9881 (ML-DSA), RFC 9935 (ML-KEM), RFC 9909 (SLH-DSA), draft-ietf-lamps-pq-composite-sigs (composite),
/// RFC 8410 (EdDSA), RFC 5758 and 4055 (ECDSA, RSA).
pub fn algorithm_name(oid: &str) -> String {
    match oid {
        "2.16.840.1.101.3.4.3.17" => "ML-DSA-44",
        "2.16.840.1.101.3.4.3.18" => "ML-DSA-65",
        "2.16.840.1.101.3.4.3.19" => "ML-DSA-87",
        "2.16.840.1.101.3.4.4.1" => "ML-KEM-512",
        "2.16.840.1.101.3.4.4.2" => "ML-KEM-768",
        "2.16.840.1.101.3.4.4.3" => "ML-KEM-1024",
        "2.16.840.1.101.3.4.3.20" => "SLH-DSA-SHA2-128s",
        "2.16.840.1.101.3.4.3.21" => "SLH-DSA-SHA2-128f",
        "2.16.840.1.101.3.4.3.22" => "SLH-DSA-SHA2-192s",
        "2.16.840.1.101.3.4.3.23" => "SLH-DSA-SHA2-192f",
        "2.16.840.1.101.3.4.3.24" => "SLH-DSA-SHA2-256s",
        "2.16.840.1.101.3.4.3.25" => "SLH-DSA-SHA2-256f",
        "2.16.840.1.101.3.4.3.26" => "SLH-DSA-SHAKE-128s",
        "2.16.840.1.101.3.4.3.27" => "SLH-DSA-SHAKE-128f",
        "2.16.840.1.101.3.4.3.28" => "SLH-DSA-SHAKE-192s",
        "2.16.840.1.101.3.4.3.29" => "SLH-DSA-SHAKE-192f",
        "2.16.840.1.101.3.4.3.30" => "SLH-DSA-SHAKE-256s",
        "2.16.840.1.101.3.4.3.31" => "SLH-DSA-SHAKE-256f",
        "1.3.6.1.5.5.7.6.37" => "MLDSA44-RSA2048-PSS-SHA256",
        "1.3.6.1.5.5.7.6.38" => "MLDSA44-RSA2048-PKCS15-SHA256",
        "1.3.6.1.5.5.7.6.39" => "MLDSA44-Ed25519-SHA512",
        "1.3.6.1.5.5.7.6.40" => "MLDSA44-ECDSA-P256-SHA256",
        "1.3.6.1.5.5.7.6.41" => "MLDSA65-RSA3072-PSS-SHA512",
        "1.3.6.1.5.5.7.6.42" => "MLDSA65-RSA3072-PKCS15-SHA512",
        "1.3.6.1.5.5.7.6.43" => "MLDSA65-RSA4096-PSS-SHA512",
        "1.3.6.1.5.5.7.6.44" => "MLDSA65-RSA4096-PKCS15-SHA512",
        "1.3.6.1.5.5.7.6.45" => "MLDSA65-ECDSA-P256-SHA512",
        "1.3.6.1.5.5.7.6.46" => "MLDSA65-ECDSA-P384-SHA512",
        "1.3.6.1.5.5.7.6.47" => "MLDSA65-ECDSA-brainpoolP256r1-SHA512",
        "1.3.6.1.5.5.7.6.48" => "MLDSA65-Ed25519-SHA512",
        "1.3.6.1.5.5.7.6.49" => "MLDSA87-ECDSA-P384-SHA512",
        "1.3.6.1.5.5.7.6.50" => "MLDSA87-ECDSA-brainpoolP384r1-SHA512",
        "1.3.6.1.5.5.7.6.51" => "MLDSA87-Ed448-SHAKE256",
        "1.3.6.1.5.5.7.6.52" => "MLDSA87-RSA3072-PSS-SHA512",
        "1.3.6.1.5.5.7.6.53" => "MLDSA87-RSA4096-PSS-SHA512",
        "1.3.6.1.5.5.7.6.54" => "MLDSA87-ECDSA-P521-SHA512",
        "1.3.101.112" => "Ed25519",
        "1.3.101.113" => "Ed448",
        "1.2.840.10045.4.3.2" => "ecdsa-with-SHA256",
        "1.2.840.10045.4.3.3" => "ecdsa-with-SHA384",
        "1.2.840.10045.4.3.4" => "ecdsa-with-SHA512",
        "1.2.840.113549.1.1.1" => "RSA",
        "1.2.840.113549.1.1.5" => "sha1WithRSA",
        "1.2.840.113549.1.1.11" => "sha256WithRSA",
        "1.2.840.113549.1.1.12" => "sha384WithRSA",
        "1.2.840.113549.1.1.13" => "sha512WithRSA",
        RSASSA_PSS => "RSASSA-PSS",
        other => other,
    }
    .to_owned()
}
