//! Key files: what the published ones give, what comes out again, and what is refused with which words.

use crate::common::vectors;
use qtls_crypto::{
    AwsLc, Backend, KeyAlgorithm, PrivateKey, PrivateKeyForm, PublicKey, RustCrypto, pkcs8_algorithm,
    spki_algorithm,
};
use std::path::Path;

const FOLDERS: [(&str, [&str; 3]); 2] = [
    ("rfc9881", ["ML-DSA-44", "ML-DSA-65", "ML-DSA-87"]),
    ("rfc9935", ["ML-KEM-512", "ML-KEM-768", "ML-KEM-1024"]),
];

const FORMS: [(&str, PrivateKeyForm); 3] =
    [("seed", PrivateKeyForm::Seed), ("expanded", PrivateKeyForm::Expanded), ("both", PrivateKeyForm::Both)];

fn named(name: &str) -> KeyAlgorithm {
    KeyAlgorithm::by_name(name).expect(name)
}

fn pem_file(file: &Path) -> Vec<u8> {
    let pem = std::fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    pem_rfc7468::decode_vec(&pem).unwrap().1
}

#[test]
fn the_examples_of_the_rfcs_give_their_public_key_and_come_out_again_byte_for_byte() {
    fn check<B: Backend>(folder: &Path, name: &str) {
        let spki = pem_file(&folder.join(format!("{name}.pub")));
        assert_eq!(spki_algorithm(&spki), Some(named(name)));
        let public = PublicKey::<B>::from_spki_der(&spki).unwrap();
        assert_eq!(public.to_spki_der().unwrap(), spki);
        for (kind, form) in FORMS {
            let pkcs8 = pem_file(&folder.join(format!("{name}-{kind}.priv")));
            assert_eq!(pkcs8_algorithm(&pkcs8), Some(named(name)));
            let private = PrivateKey::<B>::from_pkcs8_der(&pkcs8).unwrap();
            assert_eq!(private.algorithm(), named(name));
            assert_eq!(private.public_key(), public.as_bytes());
            assert_eq!(*private.to_pkcs8_der(form).unwrap(), pkcs8);
            let preferred = if kind == "expanded" { PrivateKeyForm::Expanded } else { PrivateKeyForm::Seed };
            assert_eq!(
                private.to_pkcs8_der(PrivateKeyForm::Preferred).unwrap(),
                private.to_pkcs8_der(preferred).unwrap()
            );
        }
    }
    for (folder, names) in FOLDERS {
        let Some(folder) = vectors(folder) else { return };
        for name in names {
            check::<AwsLc>(&folder, name);
            check::<RustCrypto>(&folder, name);
        }
    }
}

#[test]
fn the_damaged_examples_of_the_rfcs_are_refused() {
    fn check<B: Backend>(folder: &Path, name: &'static str) {
        for number in 1.. {
            let file = folder.join(format!("bad-{name}-{number}.priv"));
            if !file.exists() {
                assert!(number > 3);
                break;
            }
            let error = PrivateKey::<B>::from_pkcs8_der(&pem_file(&file)).unwrap_err();
            println!("{name} {number} {error}");
        }
    }
    for (folder, name) in [("rfc9881", "ML-DSA-44"), ("rfc9935", "ML-KEM-512")] {
        let Some(folder) = vectors(folder) else { return };
        check::<AwsLc>(&folder, name);
        check::<RustCrypto>(&folder, name);
    }
}
