//! Chains of certificates: ML-DSA's and composites' are verified, and each rule of RFC 5280 can make one fail.

mod common;

use std::time::Duration;

use common::composite::CompositeKey;
use qtls_cli::probe::chain::{is_signed_by, verify_chain};
use qtls_crypto::{SIGNATURE_ALGORITHMS, signature_by_name};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, GeneralSubtree,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PKCS_ML_DSA_44, PKCS_ML_DSA_65, PKCS_ML_DSA_87,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::anchor_from_trusted_cert;

/// Parameters of an authority.
fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn leaf() -> CertificateParams {
    let mut params = CertificateParams::new(vec!["shop.example".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "shop");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}

fn verify(root: &[u8], intermediates: &[&[u8]], end_entity: &[u8], name: &str) -> Result<(), String> {
    let root = CertificateDer::from(root);
    let roots = [anchor_from_trusted_cert(&root).unwrap()];
    let intermediates: Vec<_> = intermediates.iter().map(|der| CertificateDer::from(*der)).collect();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    verify_chain(&CertificateDer::from(end_entity), &intermediates, &roots, &name, UnixTime::now())
}

#[test]
fn a_chain_of_each_ml_dsa_and_each_composite_verifies_and_a_changed_one_does_not() {
    for algorithm in &SIGNATURE_ALGORITHMS {
        // A root of the algorithm, an ECDSA intermediate under it, and a leaf: what a composite CA is for.
        let (root_key, middle_key, leaf_key) = (
            match algorithm.name {
                "ML-DSA-44" => KeyPair::generate_for(&PKCS_ML_DSA_44),
                "ML-DSA-65" => KeyPair::generate_for(&PKCS_ML_DSA_65),
                "ML-DSA-87" => KeyPair::generate_for(&PKCS_ML_DSA_87),
                _ => KeyPair::generate(),
            }
            .unwrap(),
            KeyPair::generate().unwrap(),
            KeyPair::generate_for(&PKCS_ML_DSA_44).unwrap(),
        );
        let mut root = authority("root").self_signed(&root_key).unwrap().der().to_vec();
        let root_issuer = Issuer::new(authority("root"), &root_key);
        let mut middle = authority("middle").signed_by(&middle_key, &root_issuer).unwrap().der().to_vec();
        let middle_issuer = Issuer::new(authority("middle"), &middle_key);
        let end = leaf().signed_by(&leaf_key, &middle_issuer).unwrap().der().to_vec();
        if algorithm.composite.is_some() {
            let key = CompositeKey::generate(algorithm);
            root = key.self_sign(&root);
            middle = key.sign(&middle);
        }
        assert_eq!(verify(&root, &[&middle], &end, "shop.example"), Ok(()), "{}", algorithm.name);
        let (root_der, middle_der) =
            (CertificateDer::from(root.as_slice()), CertificateDer::from(middle.as_slice()));
        assert_eq!(is_signed_by(&middle_der, &root_der), Some(true), "{}", algorithm.name);
        assert_eq!(is_signed_by(&root_der, &root_der), Some(true), "{}", algorithm.name);
        // Its last byte belongs to the classical half of a composite, one of the first to ML-DSA's.
        let signature_bytes = algorithm.max_signature_bytes() - 8;
        for position in [middle.len() - 1, middle.len() - signature_bytes] {
            let mut changed = middle.clone();
            changed[position] ^= 1;
            let told = verify(&root, &[&changed], &end, "shop.example").unwrap_err();
            assert!(told.contains("does not verify"), "{}: {told}", algorithm.name);
            let changed = CertificateDer::from(changed);
            assert_eq!(is_signed_by(&changed, &root_der), Some(false), "{}", algorithm.name);
        }
    }
}

#[test]
fn each_rule_of_a_path_makes_a_post_quantum_chain_fail_with_its_reason() {
    type Change = fn(&mut CertificateParams);
    let nothing: Change = |_| {};
    let cases: [(&str, Change, Change); 8] = [
        ("expired", nothing, |leaf| leaf.not_after = rcgen::date_time_ymd(2021, 1, 1)),
        ("not valid yet", nothing, |leaf| leaf.not_before = rcgen::date_time_ymd(4000, 1, 1)),
        ("serverAuth", nothing, |leaf| leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
        ("critical extension", nothing, |leaf| {
            let mut unknown = CustomExtension::from_oid_content(&[2, 999, 1], vec![5, 0]);
            unknown.set_criticality(true);
            leaf.custom_extensions.push(unknown);
        }),
        ("keyCertSign", |middle| middle.key_usages = vec![KeyUsagePurpose::DigitalSignature], nothing),
        ("CA:FALSE", |middle| middle.is_ca = IsCa::ExplicitNoCa, nothing),
        (
            "name constraints",
            |middle| {
                let excluded_subtrees = vec![GeneralSubtree::DnsName("example".to_owned())];
                middle.name_constraints =
                    Some(NameConstraints { permitted_subtrees: Vec::new(), excluded_subtrees });
            },
            nothing,
        ),
        ("", nothing, nothing),
    ];
    let root_key = KeyPair::generate_for(&PKCS_ML_DSA_44).unwrap();
    let root = authority("root").self_signed(&root_key).unwrap();
    let root_issuer = Issuer::new(authority("root"), &root_key);
    for (reason, change_middle, change_leaf) in cases {
        let mut middle = authority("middle");
        change_middle(&mut middle);
        let middle_key = KeyPair::generate_for(&PKCS_ML_DSA_44).unwrap();
        let middle_der = middle.signed_by(&middle_key, &root_issuer).unwrap();
        let mut end = leaf();
        change_leaf(&mut end);
        let middle_issuer = Issuer::from_params(&middle, &middle_key);
        let end = end.signed_by(&KeyPair::generate().unwrap(), &middle_issuer).unwrap();
        let told = verify(root.der(), &[middle_der.der()], end.der(), "shop.example");
        match reason {
            "" => assert_eq!(told, Ok(())),
            _ => assert!(told.clone().is_err_and(|told| told.contains(reason)), "{reason}: {told:?}"),
        }
    }
}

#[test]
fn a_path_length_a_missing_intermediate_and_another_name_are_told_apart() {
    let keys: Vec<_> = (0..3).map(|_| KeyPair::generate_for(&PKCS_ML_DSA_44).unwrap()).collect();
    let mut short = authority("root");
    short.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let outer = authority("outer");
    let outer_issuer = Issuer::from_params(&outer, &keys[0]);
    // Path length 0: an authority under it may not have a leaf.
    let upper = short.signed_by(&keys[1], &outer_issuer).unwrap();
    let lower = authority("lower").signed_by(&keys[2], &Issuer::from_params(&short, &keys[1])).unwrap();
    let end =
        leaf().signed_by(&KeyPair::generate().unwrap(), &Issuer::new(authority("lower"), &keys[2])).unwrap();
    let outer = outer.self_signed(&keys[0]).unwrap();
    let told = verify(outer.der(), &[lower.der(), upper.der()], end.der(), "shop.example").unwrap_err();
    assert!(told.contains("path length"), "{told}");
    let told = verify(upper.der(), &[], end.der(), "shop.example").unwrap_err();
    assert!(told.contains("not trusted here"), "{told}");
    assert_eq!(verify(lower.der(), &[], end.der(), "shop.example"), Ok(()));
    let told = verify(lower.der(), &[], end.der(), "other.example").unwrap_err();
    assert!(told.contains("not made out to this name"), "{told}");
}

#[test]
fn bytes_that_are_no_chain_are_an_error_and_never_a_panic() {
    let algorithm = signature_by_name("id-MLDSA44-ECDSA-P256-SHA256").unwrap();
    let key = CompositeKey::generate(algorithm);
    let placeholder = KeyPair::generate().unwrap();
    let root = key.self_sign(authority("root").self_signed(&placeholder).unwrap().der());
    let issuer = Issuer::new(authority("root"), &placeholder);
    let end = key.sign(leaf().signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().der());
    assert_eq!(verify(&root, &[], &end, "shop.example"), Ok(()));
    for length in (0..end.len()).step_by(7) {
        assert!(verify(&root, &[&root], &end[..length], "shop.example").is_err(), "{length} bytes");
    }
    for position in (0..end.len()).step_by(11) {
        let mut changed = end.clone();
        changed[position] ^= 0x40;
        assert!(verify(&root, &[&changed], &changed, "shop.example").is_err(), "byte {position}");
        let _ = is_signed_by(&CertificateDer::from(changed), &CertificateDer::from(root.as_slice()));
    }
}

#[test]
fn the_validity_of_the_moment_counts() {
    let key = KeyPair::generate_for(&PKCS_ML_DSA_44).unwrap();
    let root = authority("root").self_signed(&key).unwrap();
    let root = CertificateDer::from(root.der().to_vec());
    let roots = [anchor_from_trusted_cert(&root).unwrap()];
    let mut params = leaf();
    params.not_after = rcgen::date_time_ymd(2035, 1, 1);
    let issuer = Issuer::new(authority("root"), &key);
    let end = params.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap();
    let name = ServerName::try_from("shop.example").unwrap();
    // The years 2030 and 2040.
    for (moment, valid) in [(1_893_456_000, true), (2_208_988_800, false)] {
        let now = UnixTime::since_unix_epoch(Duration::from_secs(moment));
        assert_eq!(verify_chain(end.der(), &[], &roots, &name, now).is_ok(), valid, "{moment}");
    }
}
