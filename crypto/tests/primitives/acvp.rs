//! NIST's ACVP vectors for ML-KEM and ML-DSA, on both backends. The crates `fips203` and `fips204` ship them; they are read
//! from their sources.

use crate::common::{decapsulate, encapsulate_with, pure, signature};
use qtls_crypto::{
    AwsLc, Backend, KemPrivateKey, MessageEncoding, RustCrypto, SignaturePrivateKey, SignaturePublicKey,
    SigningRandomness,
};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;

#[test]
fn key_generation_gives_the_published_keys() {
    let cases = for_each_case("ML-KEM-keyGen-FIPS203", |group, case| {
        let algorithm = pure(group["parameterSet"].as_str().unwrap());
        let seed = [hex(case, "d"), hex(case, "z")].concat();
        fn check<B: Backend>(algorithm: &'static qtls_crypto::KemAlgorithm, seed: &[u8], case: &Value) {
            let key = KemPrivateKey::<B>::from_seed(algorithm, seed).unwrap();
            assert_eq!(key.public_key(), hex(case, "ek"), "{} tcId {}", algorithm.name, case["tcId"]);
            assert_eq!(*key.to_bytes().unwrap(), hex(case, "dk"), "{} tcId {}", algorithm.name, case["tcId"]);
        }
        check::<AwsLc>(algorithm, &seed, case);
        check::<RustCrypto>(algorithm, &seed, case);
    });
    assert_eq!(cases, 75, "25 a parameter set");
}

#[test]
fn encapsulation_and_decapsulation_give_the_published_secrets() {
    fn check<B: Backend>(group: &Value, case: &Value) {
        let algorithm = pure(group["parameterSet"].as_str().unwrap());
        // A decapsulation group has one key for all its cases.
        let expanded = if case.get("dk").is_some() { hex(case, "dk") } else { hex(group, "dk") };
        let key = KemPrivateKey::<B>::from_bytes(algorithm, &expanded).unwrap();
        if group["function"] == "encapsulation" {
            let (ciphertext, secret) =
                encapsulate_with::<B>(algorithm, &hex(case, "ek"), &hex(case, "m")).unwrap();
            assert_eq!(ciphertext, hex(case, "c"), "{} tcId {}", algorithm.name, case["tcId"]);
            assert_eq!(secret, hex(case, "k"), "{} tcId {}", algorithm.name, case["tcId"]);
        }
        assert_eq!(
            decapsulate(&key, &hex(case, "c")).unwrap(),
            hex(case, "k"),
            "{} tcId {}, {}",
            algorithm.name,
            case["tcId"],
            case["reason"]
        );
    }
    let mut rejected = 0;
    let cases = for_each_case("ML-KEM-encapDecap-FIPS203", |group, case| {
        rejected += usize::from(case["reason"] == "modify ciphertext");
        check::<AwsLc>(group, case);
        check::<RustCrypto>(group, case);
    });
    assert_eq!(cases, 105, "25 encapsulations and 10 decapsulations a parameter set");
    assert!(rejected > 0, "implicit rejection is among them");
}

#[test]
fn ml_dsa_key_generation_gives_the_published_keys() {
    fn check<B: Backend>(group: &Value, case: &Value) {
        let algorithm = signature(group["parameterSet"].as_str().unwrap());
        let key = SignaturePrivateKey::<B>::from_seed(algorithm, &hex(case, "seed")).unwrap();
        assert_eq!(key.public_key(), hex(case, "pk"), "{} tcId {}", algorithm.name, case["tcId"]);
        assert_eq!(*key.to_bytes().unwrap(), hex(case, "sk"), "{} tcId {}", algorithm.name, case["tcId"]);
        let imported = SignaturePrivateKey::<B>::from_bytes(algorithm, &hex(case, "sk")).unwrap();
        assert_eq!(imported.public_key(), key.public_key(), "{} tcId {}", algorithm.name, case["tcId"]);
    }
    let cases = for_each_case("ML-DSA-keyGen-FIPS204", |group, case| {
        check::<AwsLc>(group, case);
        check::<RustCrypto>(group, case);
    });
    assert_eq!(cases, 75, "25 a parameter set");
}

#[test]
fn ml_dsa_signing_gives_the_published_signatures() {
    fn check<B: Backend>(group: &Value, case: &Value) {
        let algorithm = signature(group["parameterSet"].as_str().unwrap());
        let key = SignaturePrivateKey::<B>::from_bytes(algorithm, &hex(case, "sk")).unwrap();
        let given;
        let randomness = if group["deterministic"] == true {
            SigningRandomness::Deterministic
        } else {
            given = hex(case, "rnd").try_into().unwrap();
            SigningRandomness::Given(&given)
        };
        // These vectors are of ML-DSA.Sign_internal.
        let message = hex(case, "message");
        let signature = key.sign(&message, MessageEncoding::Raw, randomness).unwrap();
        assert_eq!(signature, hex(case, "signature"), "{} tcId {}", algorithm.name, case["tcId"]);
        let public = SignaturePublicKey::<B>::from_bytes(algorithm, key.public_key()).unwrap();
        public.verify(&message, MessageEncoding::Raw, &signature).unwrap();
    }
    let cases = for_each_case("ML-DSA-sigGen-FIPS204", |group, case| {
        check::<AwsLc>(group, case);
        check::<RustCrypto>(group, case);
    });
    assert_eq!(cases, 60, "10 deterministic and 10 hedged a parameter set");
}

#[test]
fn ml_dsa_verification_takes_and_refuses_the_published_signatures() {
    fn check<B: Backend>(group: &Value, case: &Value) -> bool {
        let algorithm = signature(group["parameterSet"].as_str().unwrap());
        let public = SignaturePublicKey::<B>::from_bytes(algorithm, &hex(group, "pk")).unwrap();
        let verified = public.verify(&hex(case, "message"), MessageEncoding::Raw, &hex(case, "signature"));
        assert_eq!(
            verified.is_ok(),
            case["testPassed"] == true,
            "{} tcId {}, {}",
            algorithm.name,
            case["tcId"],
            case["reason"]
        );
        verified.is_ok()
    }
    let mut refused = 0;
    let cases = for_each_case("ML-DSA-sigVer-FIPS204", |group, case| {
        refused += usize::from(!check::<AwsLc>(group, case));
        check::<RustCrypto>(group, case);
    });
    assert_eq!(cases, 45, "15 a parameter set");
    assert!(refused >= 12, "four kinds of wrong signature a parameter set, {refused}");
}

fn for_each_case(vectors: &str, mut check: impl FnMut(&Value, &Value)) -> usize {
    let source = source_of(if vectors.contains("FIPS203") { "fips203" } else { "fips204" });
    let file = source.join("tests/nist_vectors").join(vectors).join("internalProjection.json");
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let vectors: Value = serde_json::from_str(&text).unwrap();
    let mut cases = 0;
    for group in vectors["testGroups"].as_array().unwrap() {
        for case in group["tests"].as_array().unwrap() {
            check(group, case);
            cases += 1;
        }
    }
    cases
}

fn source_of(package: &str) -> PathBuf {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .output()
        .unwrap();
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let found = packages.iter().find(|candidate| candidate["name"] == package).unwrap();
    PathBuf::from(found["manifest_path"].as_str().unwrap()).parent().unwrap().to_owned()
}

fn hex(object: &Value, field: &str) -> Vec<u8> {
    let text = object[field].as_str().unwrap_or_else(|| panic!("no {field} in {object}"));
    hex::decode(text).unwrap()
}
