//! Every operation of one backend against the same operation of the other.

use crate::common::{decapsulate, encapsulate, encapsulate_with, ml_kem_begins, randomness, seed};
use qtls_crypto::{AwsLc, Backend, KEM_ALGORITHMS, KemPrivateKey, KemPublicKey, RustCrypto};

const SEEDS: u64 = 12;

#[test]
fn one_seed_gives_the_same_keys() {
    for algorithm in &KEM_ALGORITHMS {
        for stream in 0..SEEDS {
            let seed = seed(algorithm, stream);
            let fast = KemPrivateKey::<AwsLc>::from_seed(algorithm, &seed).unwrap();
            let oracle = KemPrivateKey::<RustCrypto>::from_seed(algorithm, &seed).unwrap();
            assert_eq!(fast.public_key(), oracle.public_key(), "{}", algorithm.name);
            assert_eq!(*fast.to_bytes().unwrap(), *oracle.to_bytes().unwrap(), "{}", algorithm.name);
            assert_eq!(fast.seed(), Some(&seed[..]));
            assert_eq!(oracle.seed(), Some(&seed[..]));
        }
    }
}

#[test]
fn the_same_randomness_gives_the_same_ciphertext_and_secret() {
    for algorithm in &KEM_ALGORITHMS {
        for stream in 0..SEEDS {
            let key = KemPrivateKey::<AwsLc>::from_seed(algorithm, &seed(algorithm, stream)).unwrap();
            let randomness = randomness(algorithm, stream);
            let fast = encapsulate_with::<AwsLc>(algorithm, key.public_key(), &randomness).unwrap();
            let oracle = encapsulate_with::<RustCrypto>(algorithm, key.public_key(), &randomness).unwrap();
            assert_eq!(fast, oracle, "{}", algorithm.name);
        }
    }
}

#[test]
fn each_backend_finds_the_secret_that_the_other_made() {
    fn check<Client: Backend, Server: Backend>() {
        for algorithm in &KEM_ALGORITHMS {
            let key = KemPrivateKey::<Client>::generate(algorithm).unwrap();
            let (ciphertext, secret) = encapsulate::<Server>(algorithm, key.public_key()).unwrap();
            assert_eq!(decapsulate(&key, &ciphertext).unwrap(), secret, "{}", algorithm.name);
            assert!(secret.iter().any(|byte| *byte != 0));
        }
    }
    check::<AwsLc, RustCrypto>();
    check::<RustCrypto, AwsLc>();
    check::<AwsLc, AwsLc>();
    check::<RustCrypto, RustCrypto>();
}

#[test]
fn a_generated_key_comes_back_from_its_seed_and_from_its_expanded_form_on_either_backend() {
    fn check<From: Backend, To: Backend>() {
        for algorithm in &KEM_ALGORITHMS {
            let key = KemPrivateKey::<From>::generate(algorithm).unwrap();
            let (ciphertext, secret) = encapsulate::<From>(algorithm, key.public_key()).unwrap();
            let expanded = key.to_bytes().unwrap();

            let from_seed = KemPrivateKey::<To>::from_seed(algorithm, key.seed().unwrap()).unwrap();
            let from_bytes = KemPrivateKey::<To>::from_bytes(algorithm, &expanded).unwrap();
            assert_eq!(from_bytes.seed(), None);
            for restored in [from_seed, from_bytes] {
                assert_eq!(restored.public_key(), key.public_key());
                assert_eq!(*restored.to_bytes().unwrap(), *expanded);
                assert_eq!(decapsulate(&restored, &ciphertext).unwrap(), secret);
            }
        }
    }
    check::<AwsLc, RustCrypto>();
    check::<RustCrypto, AwsLc>();
}

#[test]
fn implicit_rejection_gives_the_same_secret_and_not_the_sent_one() {
    for algorithm in &KEM_ALGORITHMS {
        let seed = seed(algorithm, 99);
        let fast = KemPrivateKey::<AwsLc>::from_seed(algorithm, &seed).unwrap();
        let oracle = KemPrivateKey::<RustCrypto>::from_seed(algorithm, &seed).unwrap();
        let (ciphertext, sent) =
            encapsulate_with::<AwsLc>(algorithm, fast.public_key(), &randomness(algorithm, 99)).unwrap();
        let begins = ml_kem_begins(algorithm);
        let ends = begins + algorithm.ml_kem.ciphertext_bytes();
        for position in [begins, begins + 1, (begins + ends) / 2, ends - 33, ends - 1] {
            for bit in [0x01, 0x80] {
                let mut wrong = ciphertext.clone();
                wrong[position] ^= bit;
                let found = decapsulate(&fast, &wrong).unwrap();
                assert_eq!(
                    found,
                    decapsulate(&oracle, &wrong).unwrap(),
                    "{} byte {position}",
                    algorithm.name
                );
                assert_ne!(found, sent, "{} byte {position}", algorithm.name);
            }
        }
    }
}

#[test]
fn two_keys_and_two_encapsulations_are_never_the_same() {
    fn check<B: Backend>() {
        for algorithm in &KEM_ALGORITHMS {
            let one = KemPrivateKey::<B>::generate(algorithm).unwrap();
            let other = KemPrivateKey::<B>::generate(algorithm).unwrap();
            assert_ne!(one.seed(), other.seed());
            assert_ne!(one.public_key(), other.public_key());
            let first = encapsulate::<B>(algorithm, one.public_key()).unwrap();
            let second = encapsulate::<B>(algorithm, one.public_key()).unwrap();
            // Each half on its own: a hybrid with one half fixed would still look fresh as a whole.
            let split = crate::common::curve_in_secret(algorithm);
            for half in
                [split.clone(), if split.start == 0 { split.end..first.1.len() } else { 0..split.start }]
            {
                if !half.is_empty() {
                    assert_ne!(first.1[half.clone()], second.1[half]);
                }
            }
        }
    }
    check::<AwsLc>();
    check::<RustCrypto>();
}

#[test]
fn clones_work_from_many_threads_at_once() {
    fn check<B: Backend>() {
        for algorithm in &KEM_ALGORITHMS {
            let private = KemPrivateKey::<B>::generate(algorithm).unwrap();
            let public = KemPublicKey::<B>::from_bytes(algorithm, private.public_key()).unwrap();
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    let (private, public) = (private.clone(), public.clone());
                    scope.spawn(move || {
                        for _ in 0..8 {
                            let mut ciphertext = vec![0; algorithm.ciphertext_bytes()];
                            let mut secret = vec![0; algorithm.shared_secret_bytes()];
                            public.encapsulate(&mut ciphertext, &mut secret).unwrap();
                            assert_eq!(decapsulate(&private, &ciphertext).unwrap(), secret);
                        }
                    });
                }
            });
        }
    }
    check::<AwsLc>();
    check::<RustCrypto>();
}

#[test]
fn debug_output_names_the_algorithm_and_shows_no_key() {
    for algorithm in &KEM_ALGORITHMS {
        let private = KemPrivateKey::<AwsLc>::generate(algorithm).unwrap();
        let public = KemPublicKey::<AwsLc>::from_bytes(algorithm, private.public_key()).unwrap();
        assert_eq!(
            format!("{private:?}"),
            format!("KemPrivateKey {{ algorithm: \"{}\", backend: \"aws-lc\", .. }}", algorithm.name)
        );
        assert_eq!(
            format!("{public:?}"),
            format!("KemPublicKey {{ algorithm: \"{}\", backend: \"aws-lc\", .. }}", algorithm.name)
        );
    }
}
