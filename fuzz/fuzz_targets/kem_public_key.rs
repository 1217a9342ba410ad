//! A client's share: both backends must say the same of it and, if they take it, make the same of it.
#![no_main]

mod edits;

use libfuzzer_sys::fuzz_target;
use qtls_crypto::{
    AwsLc, Backend, Error, KEM_ALGORITHMS, KemAlgorithm, KemPrivateKey, KemPublicKey, RustCrypto,
};
use std::sync::LazyLock;

static GOOD: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let key = |algorithm| KemPrivateKey::<AwsLc>::from_seed(algorithm, &edits::seed(algorithm)).unwrap();
    KEM_ALGORITHMS.iter().map(|algorithm| key(algorithm).public_key().to_vec()).collect()
});

fuzz_target!(|data: &[u8]| {
    let good =
        |algorithm: &KemAlgorithm| &GOOD[KEM_ALGORITHMS.iter().position(|row| row == algorithm).unwrap()][..];
    if let Some((algorithm, share)) = edits::share(data, good) {
        assert_eq!(answer::<AwsLc>(algorithm, &share), answer::<RustCrypto>(algorithm, &share));
    }
});

fn answer<B: Backend>(algorithm: &'static KemAlgorithm, share: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let public = KemPublicKey::<B>::from_bytes(algorithm, share)?;
    assert_eq!(public.as_bytes(), share);
    let mut ciphertext = vec![0; algorithm.ciphertext_bytes()];
    let mut secret = vec![0; algorithm.shared_secret_bytes()];
    public
        .encapsulate_deterministic(&edits::randomness(algorithm), &mut ciphertext, &mut secret)
        .expect("a share that was taken can be encapsulated to");
    Ok((ciphertext, secret))
}
