//! A PKCS#8 private key: both backends must say the same of it and, if they take it, write the same files again, which
//! give the same key.
#![no_main]

mod file_edits;

use libfuzzer_sys::fuzz_target;
use qtls_crypto::{
    AwsLc, Backend, Error, KeyAlgorithm, PrivateKey, PrivateKeyForm, RustCrypto, pkcs8_algorithm,
};
use std::sync::LazyLock;

const FORMS: [PrivateKeyForm; 4] =
    [PrivateKeyForm::Preferred, PrivateKeyForm::Seed, PrivateKeyForm::Expanded, PrivateKeyForm::Both];

static GOOD: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let files = |key: PrivateKey<AwsLc>| {
        FORMS[1..].iter().filter_map(move |form| key.to_pkcs8_der(*form).ok()).map(|file| file.to_vec())
    };
    file_edits::keys().into_iter().flat_map(files).chain([with_everything()]).collect()
});

/// Version 1, with an attribute and the public key.
fn with_everything() -> Vec<u8> {
    const ATTRIBUTES: &[u8] = &[0xA0, 9, 0x30, 7, 6, 1, 0x2A, 0x31, 2, 5, 0];
    let key = file_edits::keys().into_iter().find(|key| key.algorithm().name() == "ML-KEM-512").unwrap();
    let file = key.to_pkcs8_der(PrivateKeyForm::Seed).unwrap();
    let public_key = key.public_key();
    let length = |bytes: usize| (bytes as u16).to_be_bytes();
    // What stands behind the SEQUENCE and the version 0 of the file.
    let rest = &file[5..];
    let content = 3 + rest.len() + ATTRIBUTES.len() + 5 + public_key.len();
    [
        &[0x30, 0x82],
        &length(content)[..],
        &[2, 1, 1],
        rest,
        ATTRIBUTES,
        &[0x81, 0x82],
        &length(1 + public_key.len()),
        &[0],
        public_key,
    ]
    .concat()
}

fuzz_target!(init: assert!(PrivateKey::<AwsLc>::from_pkcs8_der(&with_everything()).is_ok()), |data: &[u8]| {
    if let Some(file) = file_edits::edited(data, &GOOD) {
        assert_eq!(answer::<AwsLc>(&file), answer::<RustCrypto>(&file));
    }
});

type Answer = (KeyAlgorithm, Vec<u8>, Vec<Result<Vec<u8>, Error>>);

fn answer<B: Backend>(file: &[u8]) -> Result<Answer, Error> {
    let key = PrivateKey::<B>::from_pkcs8_der(file)?;
    assert_eq!(pkcs8_algorithm(file), Some(key.algorithm()));
    let written = FORMS.map(|form| key.to_pkcs8_der(form));
    for (form, written) in FORMS.into_iter().zip(&written) {
        let Ok(written) = written else { continue };
        let read = PrivateKey::<B>::from_pkcs8_der(written).expect("what was written is read");
        assert_eq!(read.public_key(), key.public_key());
        assert_eq!(read.to_pkcs8_der(form).as_ref(), Ok(written));
    }
    let written = written.map(|written| written.map(|file| file.to_vec()));
    Ok((key.algorithm(), key.public_key().to_vec(), written.to_vec()))
}
