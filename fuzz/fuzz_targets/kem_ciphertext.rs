//! A server's share: both backends must find the same secret or give the same reason.
#![no_main]

mod edits;

use libfuzzer_sys::fuzz_target;
use qtls_crypto::{
    AwsLc, Backend, Error, KEM_ALGORITHMS, KemAlgorithm, KemPrivateKey, KemPublicKey, RustCrypto,
};
use std::sync::LazyLock;

struct Prepared {
    fast: KemPrivateKey<AwsLc>,
    oracle: KemPrivateKey<RustCrypto>,
    ciphertext: Vec<u8>,
}

static PREPARED: LazyLock<Vec<Prepared>> = LazyLock::new(|| KEM_ALGORITHMS.iter().map(prepare).collect());

fn prepare(algorithm: &'static KemAlgorithm) -> Prepared {
    let seed = edits::seed(algorithm);
    let fast = KemPrivateKey::<AwsLc>::from_seed(algorithm, &seed).unwrap();
    let mut ciphertext = vec![0; algorithm.ciphertext_bytes()];
    let mut secret = vec![0; algorithm.shared_secret_bytes()];
    KemPublicKey::<AwsLc>::from_bytes(algorithm, fast.public_key())
        .and_then(|public| {
            public.encapsulate_deterministic(&edits::randomness(algorithm), &mut ciphertext, &mut secret)
        })
        .unwrap();
    Prepared { fast, oracle: KemPrivateKey::from_seed(algorithm, &seed).unwrap(), ciphertext }
}

fuzz_target!(|data: &[u8]| {
    let prepared =
        |algorithm: &KemAlgorithm| &PREPARED[KEM_ALGORITHMS.iter().position(|row| row == algorithm).unwrap()];
    if let Some((algorithm, share)) = edits::share(data, |algorithm| &prepared(algorithm).ciphertext) {
        let Prepared { fast, oracle, .. } = prepared(algorithm);
        assert_eq!(answer(fast, &share), answer(oracle, &share));
    }
});

fn answer<B: Backend>(key: &KemPrivateKey<B>, share: &[u8]) -> Result<Vec<u8>, Error> {
    let mut secret = vec![0; key.algorithm().shared_secret_bytes()];
    key.decapsulate(share, &mut secret)?;
    Ok(secret)
}
