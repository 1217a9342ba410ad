//! Secrets do not stay in memory: the process reads its own, from the outside, after its keys are gone.
//!
//! Through `/proc/self/mem` and not through pointers, so that looking at freed memory is an ordinary read of a file.
//! What is looked for is held inverted, so that the search does not find itself.
#![cfg(target_os = "linux")]

use qtls_crypto::{
    AwsLc, Backend, KEM_ALGORITHMS, KemAlgorithm, KemPrivateKey, KemPublicKey, KeyAlgorithm, MessageEncoding,
    PbesCipher, PrivateKey, PrivateKeyForm, RustCrypto, SIGNATURE_ALGORITHMS, SignatureAlgorithm,
    SignaturePrivateKey, SigningRandomness, encrypt_pkcs8, to_pem,
};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use zeroize::{Zeroize, Zeroizing};

/// One test and not several: they would find each other's secrets.
#[test]
fn after_the_last_clone_is_dropped_no_secret_is_left_in_memory() {
    the_search_finds_what_is_there();
    for algorithm in &KEM_ALGORITHMS {
        nothing_is_left::<AwsLc>(algorithm, Where::Anywhere);
        // The RustCrypto crates wipe what they own, but copies of what they return stay on the stack until the next call
        // writes over them.
        nothing_is_left::<RustCrypto>(algorithm, Where::OffTheStack);
    }
    for algorithm in &SIGNATURE_ALGORITHMS {
        nothing_of_a_signature_key_is_left::<AwsLc>(algorithm, Where::Anywhere);
        nothing_of_a_signature_key_is_left::<RustCrypto>(algorithm, Where::OffTheStack);
    }
    for algorithm in KeyAlgorithm::all().filter(|algorithm| algorithm.oid().is_some()) {
        nothing_of_a_key_file_is_left::<AwsLc>(algorithm, Where::Anywhere);
        nothing_of_a_key_file_is_left::<RustCrypto>(algorithm, Where::OffTheStack);
    }
}

fn the_search_finds_what_is_there() {
    let mut secret = vec![0; 64];
    AwsLc::random(&mut secret).unwrap();
    let wanted = [Wanted::new("planted", &secret)];
    assert_eq!(found(&wanted, Where::Anywhere), ["planted"]);
    assert_eq!(found(&wanted, Where::OffTheStack), ["planted"]);
    secret.zeroize();
    assert!(found(&wanted, Where::Anywhere).is_empty());

    let mut secret = [0; 64];
    AwsLc::random(&mut secret).unwrap();
    let wanted = [Wanted::new("planted", &secret)];
    assert_eq!(found(&wanted, Where::Anywhere), ["planted"]);
    assert!(found(&wanted, Where::OffTheStack).is_empty());
    secret.zeroize();
}

#[derive(Clone, Copy)]
enum Where {
    Anywhere,
    OffTheStack,
}

fn nothing_is_left<B: Backend>(algorithm: &'static KemAlgorithm, place: Where) {
    let wanted = {
        let generated = KemPrivateKey::<B>::generate(algorithm).unwrap();
        let expanded = generated.to_bytes().unwrap();
        let imported = KemPrivateKey::<B>::from_bytes(algorithm, &expanded).unwrap();
        let public = KemPublicKey::<B>::from_bytes(algorithm, generated.public_key()).unwrap();
        let mut ciphertext = vec![0; algorithm.ciphertext_bytes()];
        let mut secret = Zeroizing::new(vec![0; algorithm.shared_secret_bytes()]);
        public.encapsulate(&mut ciphertext, &mut secret).unwrap();
        imported.clone().decapsulate(&ciphertext, &mut secret).unwrap();
        generated.clone().decapsulate(&ciphertext, &mut secret).unwrap();

        let seed = generated.seed().unwrap();
        let vector_begins = ml_kem_begins(algorithm);
        let mut wanted = vec![
            Wanted::new("d", &seed[..32]),
            Wanted::new("z", &seed[32..64]),
            Wanted::new("secret vector", &expanded[vector_begins..][..32]),
            Wanted::new("shared secret", &secret[..32]),
            Wanted::new("end of the shared secret", &secret[secret.len() - 32..]),
        ];
        if algorithm.curve.is_some() {
            wanted.push(Wanted::new("scalar", &seed[64..][..32]));
        }
        wanted
    };
    let found = found(&wanted, place);
    assert!(found.is_empty(), "{} {}: {found:?}", B::NAME, algorithm.name);
}

fn nothing_of_a_signature_key_is_left<B: Backend>(algorithm: &'static SignatureAlgorithm, place: Where) {
    let wanted = {
        let generated = SignaturePrivateKey::<B>::generate(algorithm).unwrap();
        let seed = Zeroizing::new(generated.seed().unwrap().to_vec());
        let imported = SignaturePrivateKey::<B>::from_seed(algorithm, &seed).unwrap();
        let sign = |key: SignaturePrivateKey<B>| {
            key.sign(b"message", MessageEncoding::PURE, SigningRandomness::Hedged).unwrap()
        };
        sign(imported);
        sign(generated.clone());
        let mut wanted = vec![Wanted::new("seed", &seed[..32])];
        match algorithm.composite {
            // The scalar, whatever stands around it.
            Some(composite) => {
                let begins = if composite.classical.scalar_bytes() + 32 == seed.len() { 32 } else { 39 };
                wanted.push(Wanted::new("scalar", &seed[begins..]));
            }
            None => {
                let expanded = generated.to_bytes().unwrap();
                sign(SignaturePrivateKey::<B>::from_bytes(algorithm, &expanded).unwrap());
                // rho ‖ K ‖ tr ‖ s1 … (FIPS 204 algorithm 24)
                wanted.push(Wanted::new("K", &expanded[32..64]));
                wanted.push(Wanted::new("s1", &expanded[128..]));
            }
        }
        wanted
    };
    let found = found(&wanted, place);
    assert!(found.is_empty(), "{} {}: {found:?}", B::NAME, algorithm.name);
}

fn nothing_of_a_key_file_is_left<B: Backend>(algorithm: KeyAlgorithm, place: Where) {
    let wanted = {
        let generated = PrivateKey::<B>::generate(algorithm).unwrap();
        let other = PrivateKey::<B>::generate(algorithm).unwrap();
        let seed = generated.seed().unwrap();
        let preferred = generated.to_pkcs8_der(PrivateKeyForm::Preferred).unwrap();
        let pem = to_pem("PRIVATE KEY", &preferred);
        let first_line = pem.lines().nth(1).unwrap().as_bytes();
        let mut wanted = vec![
            Wanted::new("seed", seed),
            Wanted::new("end of the seed", &seed[seed.len() - 32..]),
            // Headers of at most 24 bytes stand before the secret, in at most 32 characters.
            Wanted::new("seed in PEM", &first_line[40..]),
        ];
        if let Some(expanded) = generated.to_bytes().unwrap() {
            // K of ML-DSA (FIPS 204 algorithm 24), or some of ML-KEM's secret vector.
            wanted.push(Wanted::new("expanded key", &expanded[32..]));
        }
        for form in [PrivateKeyForm::Seed, PrivateKeyForm::Expanded, PrivateKeyForm::Both] {
            let Ok(mut file) = generated.to_pkcs8_der(form) else { continue };
            PrivateKey::<B>::from_pkcs8_der(&file).unwrap();
            // An error is no reason to leave anything behind: two keys put together, and a file that was cut.
            if form == PrivateKeyForm::Both {
                let begins = file.len() - algorithm.private_key_bytes().unwrap();
                file[begins..].copy_from_slice(&other.to_bytes().unwrap().unwrap());
                PrivateKey::<B>::from_pkcs8_der(&file).unwrap_err();
            }
            PrivateKey::<B>::from_pkcs8_der(&file[..file.len() - 1]).unwrap_err();
        }
        // Once is enough for what is the same for all, and slow on purpose.
        if algorithm.index() == KeyAlgorithm::COUNT - 1 {
            encrypt_pkcs8(&preferred, b"passphrase", PbesCipher::Aes256Cbc).unwrap();
        }
        wanted
    };
    let found = found(&wanted, place);
    assert!(found.is_empty(), "{} {}: {found:?}", B::NAME, algorithm.name());
}

/// Where ML-KEM's half begins in an expanded private key.
fn ml_kem_begins(algorithm: &KemAlgorithm) -> usize {
    match algorithm.curve {
        Some((curve, qtls_crypto::Order::CurveFirst)) => curve.scalar_bytes(),
        _ => 0,
    }
}

/// The first bytes of something secret, inverted.
struct Wanted {
    name: &'static str,
    inverted: [u8; 24],
}

impl Wanted {
    fn new(name: &'static str, secret: &[u8]) -> Self {
        let mut inverted = [0; 24];
        inverted.iter_mut().zip(secret).for_each(|(out, byte)| *out = !byte);
        Self { name, inverted }
    }

    fn is_in(&self, memory: &[u8]) -> bool {
        let first = !self.inverted[0];
        memory.windows(self.inverted.len()).any(|window| {
            window[0] == first && window.iter().zip(&self.inverted).all(|(byte, inverted)| *byte == !inverted)
        })
    }
}

/// The names of those that lie somewhere in the writable memory of this process.
fn found(wanted: &[Wanted], place: Where) -> Vec<&'static str> {
    let on_the_stack = std::ptr::from_ref(&place).addr();
    let memory = File::open("/proc/self/mem").unwrap();
    let mut found = Vec::new();
    for range in writable_mappings() {
        if matches!(place, Where::OffTheStack) && range.contains(&on_the_stack) {
            continue;
        }
        let mut content = Zeroizing::new(vec![0; range.end - range.start]);
        if memory.read_exact_at(&mut content, range.start as u64).is_ok() {
            found.extend(wanted.iter().filter(|wanted| wanted.is_in(&content)).map(|wanted| wanted.name));
        }
    }
    found
}

fn writable_mappings() -> Vec<Range<usize>> {
    std::fs::read_to_string("/proc/self/maps")
        .unwrap()
        .lines()
        .filter_map(|line| {
            let (range, rest) = line.split_once(' ')?;
            let (begin, end) = range.split_once('-')?;
            let address = |digits| usize::from_str_radix(digits, 16).ok();
            rest.starts_with("rw").then_some(address(begin)?..address(end)?)
        })
        .collect()
}
