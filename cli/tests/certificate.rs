//! Certificates described: post-quantum ones by name, broken ones without harm.

use std::path::PathBuf;

use qtls_cli::probe::certificate::Certificate;
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;

/// Published vectors, read in place; none when this machine does not have them.
fn vectors() -> Option<PathBuf> {
    let root = std::env::var_os("QTLS_VECTORS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors")),
        PathBuf::from,
    );
    if root.is_dir() {
        return Some(root);
    }
    println!("skipped: no published vectors in {} (set QTLS_VECTORS)", root.display());
    None
}

#[test]
fn the_certificates_of_the_rfcs_have_their_algorithms_names() {
    let Some(root) = vectors() else { return };
    for (file, key) in [
        ("rfc9881/ML-DSA-44.crt", "ML-DSA-44"),
        ("rfc9881/ML-DSA-65.crt", "ML-DSA-65"),
        ("rfc9881/ML-DSA-87.crt", "ML-DSA-87"),
        ("rfc9935/ML-KEM-512.crt", "ML-KEM-512"),
        ("rfc9935/ML-KEM-1024.crt", "ML-KEM-1024"),
    ] {
        let certificate =
            Certificate::describe(&CertificateDer::from_pem_file(root.join(file)).unwrap()).unwrap();
        assert_eq!(certificate.key, key);
        assert!(certificate.signature.starts_with("ML-DSA-"), "{file}: {}", certificate.signature);
        assert!(certificate.key_post_quantum && certificate.signature_post_quantum, "{file}");
    }
}

#[test]
fn composite_certificates_have_the_drafts_names() {
    let Some(root) = vectors() else { return };
    let text = std::fs::read(root.join("composite/testvectors.json")).unwrap();
    let vectors: Value = serde_json::from_slice(&text).unwrap();
    let mut seen = 0;
    for vector in vectors["tests"].as_array().unwrap() {
        let name = vector["tcId"].as_str().unwrap();
        let pem = format!(
            "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
            vector["x5c"].as_str().unwrap()
        );
        let certificate =
            Certificate::describe(&CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
        // The list also has plain ML-DSA, which this project writes as RFC 9881 does.
        assert_eq!(certificate.key, name.trim_start_matches("id-"));
        assert_eq!(certificate.signature, certificate.key);
        assert!(certificate.key_post_quantum && certificate.signature_post_quantum, "{name}");
        seen += 1;
    }
    assert!(seen >= 18, "{seen}");
}

fn example() -> Vec<u8> {
    let mut params = CertificateParams::new(vec!["shop.example".to_owned(), "::1".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "example");
    params.not_before = rcgen::date_time_ymd(2020, 1, 2);
    params.not_after = rcgen::date_time_ymd(2021, 3, 4);
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

#[test]
fn a_classical_certificate_is_described_completely() {
    let der = example();
    let certificate = Certificate::describe(&CertificateDer::from(der.as_slice())).unwrap();
    assert_eq!(certificate.subject, "CN=example");
    assert_eq!(certificate.names, ["shop.example", "::1"]);
    assert_eq!(certificate.key, "ECDSA P-256");
    assert_eq!(certificate.signature, "ecdsa-with-SHA256");
    assert!(!certificate.key_post_quantum && !certificate.signature_post_quantum);
    assert_eq!(certificate.not_before, "2020-01-02T00:00:00Z");
    assert_eq!(certificate.not_after, "2021-03-04T00:00:00Z");
    assert!(certificate.days_left < -1000 && certificate.started && certificate.self_issued);
    assert_eq!(certificate.bytes, der.len());
}

#[test]
fn a_broken_certificate_is_an_error_or_described_and_never_a_panic() {
    let der = example();
    for length in 0..der.len() {
        assert!(Certificate::describe(&CertificateDer::from(&der[..length])).is_err(), "{length} bytes");
    }
    for position in 0..der.len() {
        for value in [0x00, 0x7f, 0x80, 0xff, der[position] ^ 1] {
            let mut changed = der.clone();
            changed[position] = value;
            let _ = Certificate::describe(&CertificateDer::from(changed.as_slice()));
        }
    }
}
