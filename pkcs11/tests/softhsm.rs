//! Keys in SoftHSM: found in every way, signed with by every mechanism, before and after a fork.

mod common;

use common::process::in_child;
use common::*;
use qtls_crypto::{Digest, HashFunction};
use qtls_pkcs11::{EcCurve, ErrorKind, GenerateType, Hsm, KeyType, Mechanism, ObjectClass, PublicKey, Uri};

const HASHES: [HashFunction; 4] =
    [HashFunction::Sha224, HashFunction::Sha256, HashFunction::Sha384, HashFunction::Sha512];

#[test]
fn every_mechanism_makes_signatures_that_openssl_verifies() {
    isolated("every_mechanism_makes_signatures_that_openssl_verifies", |softhsm| {
        softhsm.init_token("one");
        for (kind, label, id) in
            [("rsa:2048", "rsa", "01"), ("EC:prime256v1", "p256", "02"), ("EC:secp384r1", "p384", "03")]
        {
            softhsm.generate("one", kind, label, id);
        }
        for config in both_ways(SOFTHSM, softhsm.directory()) {
            let hsm = Hsm::new(config);
            for (label, kind) in [
                ("rsa", KeyType::Rsa { bits: 2048 }),
                ("p256", KeyType::Ec(EcCurve::P256)),
                ("p384", KeyType::Ec(EcCurve::P384)),
            ] {
                let key = hsm.key(&softhsm.uri("one", label), None).unwrap();
                assert_eq!(key.public().key_type(), kind);
                for hash in HASHES {
                    let digest = <Digest>::of(hash, b"message").unwrap();
                    let mechanisms = match kind {
                        KeyType::Rsa { .. } => vec![
                            Mechanism::RsaPkcs1 { hash },
                            Mechanism::RsaPss { hash, mgf1: hash, salt: hash.output_bytes() },
                            Mechanism::RsaPss { hash, mgf1: hash, salt: 20 },
                        ],
                        _ => vec![Mechanism::Ecdsa],
                    };
                    for mechanism in mechanisms {
                        let signature = key.sign(mechanism, &digest).unwrap();
                        assert!(signature.len() <= key.max_signature_bytes());
                        verify(key.public(), mechanism, hash, &digest, &signature);
                    }
                }
            }
        }
    });
}

#[test]
fn a_public_key_comes_from_its_object_its_certificate_or_the_private_key() {
    isolated("a_public_key_comes_from_its_object_its_certificate_or_the_private_key", |softhsm| {
        softhsm.init_token("one");
        let key_file = openssl_key(
            softhsm.directory(),
            "ec.pem",
            &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
        );
        softhsm.import("one", &key_file, "ec", "01");
        let expected =
            key(config(SOFTHSM, softhsm.directory()), &softhsm.uri("one", "ec")).1.public().clone();

        softhsm.pkcs11_tool("one", &["--delete-object", "--type", "pubkey", "--id", "01"]);
        let error = Hsm::new(config(SOFTHSM, softhsm.directory())).key(&softhsm.uri("one", "ec"), None);
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Object);
        assert!(error.to_string().contains("shows its public key nowhere"), "{error}");

        let certificate = softhsm.directory().join("certificate.der");
        run(std::process::Command::new("openssl")
            .args(["req", "-x509", "-new", "-subj", "/CN=test", "-outform", "DER", "-key"])
            .arg(&key_file)
            .arg("-out")
            .arg(&certificate));
        let path = certificate.to_str().unwrap();
        // The label is another: the identifier binds them.
        softhsm.pkcs11_tool(
            "one",
            &["--write-object", path, "--type", "cert", "--id", "01", "--label", "other"],
        );
        let (hsm, from_certificate) = key(config(SOFTHSM, softhsm.directory()), &softhsm.uri("one", "ec"));
        assert_eq!(*from_certificate.public(), expected);
        sign_and_verify(&from_certificate).unwrap();
        let certificates = hsm.certificates(&Uri::parse("pkcs11:token=one;id=%01").unwrap()).unwrap();
        assert_eq!(certificates.len(), 1);
        assert_eq!(certificates[0].der, std::fs::read(certificate).unwrap());
        assert_eq!(certificates[0].label, "other");

        softhsm.generate("one", "rsa:2048", "rsa", "02");
        softhsm.pkcs11_tool("one", &["--delete-object", "--type", "pubkey", "--id", "02"]);
        let (_hsm, from_private) = key(config(SOFTHSM, softhsm.directory()), &softhsm.uri("one", "rsa"));
        sign_and_verify(&from_private).unwrap();
    });
}

#[test]
fn forked_processes_sign_whether_the_parent_had_signed_or_not() {
    isolated("forked_processes_sign_whether_the_parent_had_signed_or_not", |softhsm| {
        softhsm.init_token("one");
        softhsm.generate("one", "EC:prime256v1", "ec", "01");
        for module in [SOFTHSM.into(), softhsm.faulty_module()] {
            for config in both_ways(module, softhsm.directory()) {
                let (_hsm, key) = key(config, &softhsm.uri("one", "ec"));
                let sign_twice = || {
                    sign_and_verify(&key).unwrap();
                    sign_and_verify(&key).unwrap();
                };
                assert!(in_child(sign_twice), "nothing is open");
                assert!(in_child(|| assert!(in_child(sign_twice))), "a grandchild");
                sign_and_verify(&key).unwrap();
                assert!(in_child(sign_twice), "the parent's connection is open");
                sign_and_verify(&key).unwrap();
                assert!(in_child(|| {
                    sign_twice();
                    assert!(in_child(sign_twice));
                    sign_twice();
                }));
                sign_and_verify(&key).unwrap();
            }
        }
        assert_eq!(softhsm.misuse(), Vec::<String>::new());
    });
}

#[test]
fn a_key_that_is_not_there_is_told_with_what_is() {
    isolated("a_key_that_is_not_there_is_told_with_what_is", |softhsm| {
        softhsm.init_token("one");
        softhsm.generate("one", "EC:prime256v1", "ec", "0a");
        softhsm.generate("one", "rsa:2048", "rsa", "0b");
        let hsm = Hsm::new(config(SOFTHSM, softhsm.directory()));
        let error = hsm.key(&softhsm.uri("one", "missing"), None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Object);
        for part in [
            "pkcs11:token=one;object=missing",
            "private key 'ec' (id 0a, EC P-256)",
            "'rsa' (id 0b, RSA 2048)",
        ] {
            assert!(error.to_string().contains(part), "{part}: {error}");
        }
        let error = hsm.key(&Uri::parse("pkcs11:token=one").unwrap(), None).unwrap_err();
        assert!(
            error.to_string().contains("2 private keys in") && error.to_string().contains("'ec'"),
            "{error}"
        );
        let error = hsm.key(&softhsm.uri("two", "ec"), None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TokenAbsent);
        assert!(error.to_string().contains("'one' (serial "), "{error}");
        assert!(hsm.key(&Uri::parse("pkcs11:token=one;id=%0A").unwrap(), None).is_ok());
    });
}

#[test]
fn a_token_may_be_named_by_the_configuration_alone() {
    isolated("a_token_may_be_named_by_the_configuration_alone", |softhsm| {
        softhsm.init_token("one");
        softhsm.init_token("two");
        softhsm.generate("one", "EC:prime256v1", "ec", "01");
        softhsm.generate("two", "EC:prime256v1", "ec", "01");
        let mut config = config(SOFTHSM, softhsm.directory());
        let by_object = Uri::parse("pkcs11:object=ec").unwrap();
        let error = Hsm::new(config.clone()).key(&by_object, None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(error.to_string().contains("several tokens"), "{error}");
        config.tokens = vec![token_config(SOFTHSM, Some("two"))];
        let hsm = Hsm::new(config);
        let by_configuration = hsm.key(&by_object, None).unwrap();
        let by_uri = hsm.key(&softhsm.uri("two", "ec"), None).unwrap();
        let other = hsm.key(&softhsm.uri("one", "ec"), None).unwrap();
        assert_eq!(by_configuration.public(), by_uri.public());
        assert_ne!(by_uri.public(), other.public());
        sign_and_verify(&other).unwrap();
        sign_and_verify(&by_uri).unwrap();
    });
}

#[test]
fn generated_keys_sign_and_are_not_generated_twice() {
    isolated("generated_keys_sign_and_are_not_generated_twice", |softhsm| {
        softhsm.init_token("one");
        let hsm = Hsm::new(config(SOFTHSM, softhsm.directory()));
        for (kind, label) in [
            (GenerateType::Rsa(2048), "rsa"),
            (GenerateType::Ec(EcCurve::P256), "p256"),
            (GenerateType::Ec(EcCurve::P384), "p384"),
        ] {
            let key = hsm.generate(&softhsm.uri("one", label), kind).unwrap();
            sign_and_verify(&key).unwrap();
            let error = hsm.generate(&softhsm.uri("one", label), kind).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Object);
            assert!(error.to_string().contains("already"), "{error}");
        }
        let ml_dsa = qtls_crypto::signature_by_name("ML-DSA-65").unwrap();
        let error = hsm.generate(&softhsm.uri("one", "new"), GenerateType::MlDsa(ml_dsa)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");

        let objects = hsm.objects(0, &Uri::parse("pkcs11:token=one").unwrap()).unwrap();
        assert_eq!(objects.len(), 6);
        for object in objects {
            let uri = Uri::parse(&object.uri).unwrap();
            let same = hsm.objects(0, &uri).unwrap();
            assert_eq!(same.len(), 1, "{} names one object alone", object.uri);
            if object.class == ObjectClass::Private {
                sign_and_verify(&hsm.key(&uri, None).unwrap()).unwrap();
            }
        }
        let public = hsm.public_keys(&softhsm.uri("one", "p384")).unwrap();
        assert!(matches!(public[..], [PublicKey::Ec { curve: EcCurve::P384, .. }]), "{public:?}");
        let tokens = hsm.tokens(0).unwrap();
        let one = tokens.iter().find(|token| token.label == "one").unwrap();
        assert!(one.initialized && !one.pin_locked && !one.pin_final_try);
        assert!(hsm.tokens(1).is_err());
    });
}

#[test]
fn what_a_key_cannot_do_is_refused_without_asking_the_token() {
    isolated("what_a_key_cannot_do_is_refused_without_asking_the_token", |softhsm| {
        softhsm.init_token("one");
        softhsm.generate("one", "EC:prime256v1", "ec", "01");
        softhsm.generate("one", "rsa:2048", "rsa", "02");
        let hsm = Hsm::new(config(softhsm.faulty_module(), softhsm.directory()));
        let ec = hsm.key(&softhsm.uri("one", "ec"), None).unwrap();
        let rsa = hsm.key(&softhsm.uri("one", "rsa"), None).unwrap();
        let hash = HashFunction::Sha512;
        for (key, mechanism, bytes) in [
            (&ec, Mechanism::RsaPkcs1 { hash }, 64),
            (&ec, Mechanism::MlDsa { context: b"", deterministic: false }, 64),
            (&ec, Mechanism::Ecdsa, 0),
            (&rsa, Mechanism::Ecdsa, 64),
            (&rsa, Mechanism::RsaPkcs1 { hash }, 63),
            (&rsa, Mechanism::RsaPss { hash, mgf1: hash, salt: 191 }, 64),
            (&rsa, Mechanism::RsaPss { hash, mgf1: hash, salt: 20 }, 32),
            (&rsa, Mechanism::RsaPkcs1 { hash: HashFunction::Shake256 }, 64),
        ] {
            let error = key.sign(mechanism, &vec![1; bytes]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{mechanism:?}: {error}");
        }
        assert_eq!(softhsm.calls("C_SignInit"), 0);
        // The longest salt that there is room for.
        let mechanism = Mechanism::RsaPss { hash, mgf1: hash, salt: 190 };
        let signature = rsa.sign(mechanism, &[1; 64]).unwrap();
        verify(rsa.public(), mechanism, hash, &[1; 64], &signature);
    });
}
