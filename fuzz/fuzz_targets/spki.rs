//! A `SubjectPublicKeyInfo`: both backends must say the same of it and, if they take it, write the same bytes again.
#![no_main]

mod file_edits;

use libfuzzer_sys::fuzz_target;
use qtls_crypto::{AwsLc, Backend, Error, KeyAlgorithm, PrivateKey, PublicKey, RustCrypto, spki_algorithm};
use std::sync::LazyLock;

static GOOD: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let file = |key: PrivateKey<AwsLc>| {
        PublicKey::<AwsLc>::from_bytes(key.algorithm(), key.public_key()).unwrap().to_spki_der().unwrap()
    };
    file_edits::keys().into_iter().map(file).collect()
});

fuzz_target!(|data: &[u8]| {
    if let Some(file) = file_edits::edited(data, &GOOD) {
        assert_eq!(answer::<AwsLc>(&file), answer::<RustCrypto>(&file));
    }
});

fn answer<B: Backend>(file: &[u8]) -> Result<(KeyAlgorithm, Vec<u8>), Error> {
    let key = PublicKey::<B>::from_spki_der(file)?;
    assert_eq!(spki_algorithm(file), Some(key.algorithm()));
    assert_eq!(key.to_spki_der().as_deref(), Ok(file), "there is one encoding");
    Ok((key.algorithm(), key.as_bytes().to_vec()))
}
