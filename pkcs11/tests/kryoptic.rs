//! Keys in Kryoptic, which has ML-DSA.

mod common;

use common::process::in_child;
use common::*;
use qtls_crypto::HashFunction;
use qtls_pkcs11::{EcCurve, GenerateType, Hsm, KeyType, Mechanism, PublicKey, Uri};

#[test]
fn ml_dsa_keys_are_generated_and_sign_with_and_without_context() {
    isolated("ml_dsa_keys_are_generated_and_sign_with_and_without_context", |tokens| {
        for config in both_ways(tokens.kryoptic(), tokens.directory()) {
            let way = if config.timeout.is_some() { "timed" } else { "direct" };
            let hsm = Hsm::new(config);
            for name in ["ML-DSA-44", "ML-DSA-65", "ML-DSA-87"] {
                let algorithm = qtls_crypto::signature_by_name(name).unwrap();
                let uri = Uri::parse(&format!("pkcs11:token=one;object={name}-{way}")).unwrap();
                let generated = hsm.generate(&uri, GenerateType::MlDsa(algorithm)).unwrap();
                let key = hsm.key(&uri, None).unwrap();
                assert_eq!(generated.public(), key.public());
                assert_eq!(key.public().key_type(), KeyType::MlDsa(algorithm));
                for (context, deterministic) in
                    [(&b""[..], false), (b"", true), (b"a context", false), (&[7; 255], true)]
                {
                    let mechanism = Mechanism::MlDsa { context, deterministic };
                    for message in [&b""[..], b"message", &[9; 100_000]] {
                        let signature = key.sign(mechanism, message).unwrap();
                        assert_eq!(signature.len(), key.max_signature_bytes());
                        verify(key.public(), mechanism, HashFunction::Sha256, message, &signature);
                        let again = key.sign(mechanism, message).unwrap();
                        assert_eq!(signature == again, deterministic);
                    }
                }
                assert!(
                    key.sign(Mechanism::MlDsa { context: &[0; 256], deterministic: false }, b"").is_err()
                );
            }
            let uri = Uri::parse(&format!("pkcs11:token=one;object=ML-DSA-65-{way}")).unwrap();
            let objects = hsm.objects(0, &uri).unwrap();
            assert_eq!(objects.iter().filter(|object| object.description == "ML-DSA-65").count(), 2);
        }
    });
}

#[test]
fn classical_keys_sign_as_in_other_tokens() {
    isolated("classical_keys_sign_as_in_other_tokens", |tokens| {
        let hsm = Hsm::new(config(tokens.kryoptic(), tokens.directory()));
        let hash = HashFunction::Sha384;
        let digest = <qtls_crypto::Digest>::of(hash, b"message").unwrap();
        for (kind, mechanisms) in [
            (GenerateType::Ec(EcCurve::P256), vec![Mechanism::Ecdsa]),
            (GenerateType::Ec(EcCurve::P384), vec![Mechanism::Ecdsa]),
            (
                GenerateType::Rsa(2048),
                vec![Mechanism::RsaPkcs1 { hash }, Mechanism::RsaPss { hash, mgf1: hash, salt: 48 }],
            ),
        ] {
            let uri =
                Uri::parse(&format!("pkcs11:token=one;object={kind:?}").replace(['(', ')'], "-")).unwrap();
            let key = hsm.generate(&uri, kind).unwrap();
            for mechanism in mechanisms {
                let signature = key.sign(mechanism, &digest).unwrap();
                verify(key.public(), mechanism, hash, &digest, &signature);
            }
        }
    });
}

#[test]
fn forked_processes_sign_with_a_module_that_knows_nothing_of_forks() {
    isolated("forked_processes_sign_with_a_module_that_knows_nothing_of_forks", |tokens| {
        let module = tokens.kryoptic();
        let algorithm = qtls_crypto::signature_by_name("ML-DSA-65").unwrap();
        let uri = Uri::parse("pkcs11:token=one;object=key").unwrap();
        Hsm::new(config(&module, tokens.directory())).generate(&uri, GenerateType::MlDsa(algorithm)).unwrap();
        for config in both_ways(&module, tokens.directory()) {
            let (_hsm, key) = key(config, &uri);
            assert!(matches!(key.public(), PublicKey::MlDsa { .. }));
            assert!(in_child(|| sign_and_verify(&key).unwrap()), "nothing is open");
            sign_and_verify(&key).unwrap();
            assert!(in_child(|| sign_and_verify(&key).unwrap()), "the parent's connection is open");
            sign_and_verify(&key).unwrap();
        }
    });
}
