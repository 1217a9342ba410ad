//! The example keys of RFC 9881.

use crate::common::{last_bytes, signature};
use crate::vectors::vectors;
use qtls_crypto::{AwsLc, Backend, Error, RustCrypto, SignaturePrivateKey};
use std::path::Path;

#[test]
fn seed_and_expanded_form_of_the_examples_are_one_key() {
    fn check<B: Backend>(folder: &Path, parameter_set: &str) {
        let algorithm = signature(parameter_set);
        let file = |kind: &str| folder.join(format!("{parameter_set}{kind}"));
        let seed = last_bytes(file("-seed.priv"), algorithm.seed_bytes());
        let expanded = last_bytes(file("-expanded.priv"), algorithm.private_key_bytes().unwrap());
        let public = last_bytes(file(".pub"), algorithm.public_key_bytes());
        let from_seed = SignaturePrivateKey::<B>::from_seed(algorithm, &seed).unwrap();
        assert_eq!(*from_seed.to_bytes().unwrap(), expanded);
        assert_eq!(from_seed.public_key(), public);
        let from_bytes = SignaturePrivateKey::<B>::from_bytes(algorithm, &expanded).unwrap();
        assert_eq!(from_bytes.public_key(), public);
    }
    let Some(folder) = vectors("rfc9881") else { return };
    for parameter_set in ["ML-DSA-44", "ML-DSA-65", "ML-DSA-87"] {
        check::<AwsLc>(&folder, parameter_set);
        check::<RustCrypto>(&folder, parameter_set);
    }
}

#[test]
fn the_damaged_examples_are_refused() {
    fn check<B: Backend>(folder: &Path) {
        let algorithm = signature("ML-DSA-44");
        let expanded = |number: u8| {
            let file = folder.join(format!("bad-ML-DSA-44-{number}.priv"));
            last_bytes(file, algorithm.private_key_bytes().unwrap())
        };
        // 1: seed and expanded key of two keys; each alone is good, so only the pair shows it.
        SignaturePrivateKey::<B>::from_bytes(algorithm, &expanded(1)).unwrap();
        // 2: the hash of the public key was altered by a bit; 3: t0 was.
        let refused =
            |number| SignaturePrivateKey::<B>::from_bytes(algorithm, &expanded(number)).unwrap_err();
        assert_eq!(refused(2), Error::PrivateKeyPair { algorithm: algorithm.name });
        assert_eq!(refused(3), Error::PrivateKeyPair { algorithm: algorithm.name });
    }
    let Some(folder) = vectors("rfc9881") else { return };
    check::<AwsLc>(&folder);
    check::<RustCrypto>(&folder);
}
