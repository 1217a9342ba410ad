//! The example keys of RFC 9935, read in place from `../shared/vectors` or `QTLS_VECTORS`.

use crate::common::{last_bytes, pure};
use crate::vectors::vectors;
use qtls_crypto::{AwsLc, Backend, Error, KemPrivateKey, RustCrypto};

#[test]
fn seed_and_expanded_form_of_the_examples_are_one_key() {
    fn check<B: Backend>(folder: &std::path::Path, parameter_set: &str) {
        let algorithm = pure(parameter_set);
        let file = |kind: &str| folder.join(format!("{parameter_set}{kind}"));
        let seed = last_bytes(file("-seed.priv"), algorithm.seed_bytes());
        let expanded = last_bytes(file("-expanded.priv"), algorithm.private_key_bytes());
        let public = last_bytes(file(".pub"), algorithm.public_key_bytes());
        let from_seed = KemPrivateKey::<B>::from_seed(algorithm, &seed).unwrap();
        assert_eq!(*from_seed.to_bytes().unwrap(), expanded);
        assert_eq!(from_seed.public_key(), public);
        let from_bytes = KemPrivateKey::<B>::from_bytes(algorithm, &expanded).unwrap();
        assert_eq!(from_bytes.public_key(), public);
    }
    let Some(folder) = vectors("rfc9935") else { return };
    for parameter_set in ["ML-KEM-512", "ML-KEM-768", "ML-KEM-1024"] {
        check::<AwsLc>(&folder, parameter_set);
        check::<RustCrypto>(&folder, parameter_set);
    }
}

#[test]
fn the_damaged_examples_are_refused() {
    fn check<B: Backend>(folder: &std::path::Path) {
        let algorithm = pure("ML-KEM-512");
        let expanded = |number: u8| {
            let file = folder.join(format!("bad-ML-KEM-512-{number}.priv"));
            last_bytes(file, algorithm.private_key_bytes())
        };
        // 1: seed and expanded key of two keys; each alone is good, so only the pair shows it.
        KemPrivateKey::<B>::from_bytes(algorithm, &expanded(1)).unwrap();
        // 2: the secret vector was altered; 3: the hash was.
        let refused = |number| KemPrivateKey::<B>::from_bytes(algorithm, &expanded(number)).unwrap_err();
        assert_eq!(refused(2), Error::PrivateKeyPair { algorithm: algorithm.name });
        assert_eq!(refused(3), Error::PrivateKeyHash { algorithm: algorithm.name });
    }
    let Some(folder) = vectors("rfc9935") else { return };
    check::<AwsLc>(&folder);
    check::<RustCrypto>(&folder);
}
