//! NIST's ACVP vectors for ML-KEM, on both backends. The crate `fips203` ships them; they are read from its source.

use crate::common::{decapsulate, encapsulate_with, pure};
use qtls_crypto::{AwsLc, Backend, KemPrivateKey, RustCrypto};
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

fn for_each_case(vectors: &str, mut check: impl FnMut(&Value, &Value)) -> usize {
    let file = fips203_source().join("tests/nist_vectors").join(vectors).join("internalProjection.json");
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

fn fips203_source() -> PathBuf {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .output()
        .unwrap();
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let fips203 = packages.iter().find(|package| package["name"] == "fips203").unwrap();
    PathBuf::from(fips203["manifest_path"].as_str().unwrap()).parent().unwrap().to_owned()
}

fn hex(object: &Value, field: &str) -> Vec<u8> {
    let text = object[field].as_str().unwrap_or_else(|| panic!("no {field} in {object}"));
    hex::decode(text).unwrap()
}
