//! What signature keys must hold: every operation of one backend against the same of the other, bad input, self-tests.

use crate::common::{Recorder, bytes, signature};
use qtls_crypto::{
    AwsLc, Backend, Error, Fault, KnownAnswerStep, MessageEncoding, MessageRepresentative, MlDsa, RustCrypto,
    SIGNATURE_ALGORITHMS, SignatureAlgorithm, SignaturePrivateKey, SignaturePublicKey, SigningRandomness,
    compute_signature_known_answer, run_signature_known_answer, run_signature_known_answer_on,
};

const SEEDS: u64 = 6;

fn pure_rows() -> impl Iterator<Item = &'static SignatureAlgorithm> {
    SIGNATURE_ALGORITHMS.iter().filter(|row| row.composite.is_none())
}

#[test]
fn one_seed_gives_the_same_keys_and_the_same_randomness_the_same_signature() {
    for algorithm in pure_rows() {
        for stream in 0..SEEDS {
            let seed = bytes(stream, algorithm.seed_bytes());
            let fast = SignaturePrivateKey::<AwsLc>::from_seed(algorithm, &seed).unwrap();
            let oracle = SignaturePrivateKey::<RustCrypto>::from_seed(algorithm, &seed).unwrap();
            assert_eq!(fast.public_key(), oracle.public_key(), "{}", algorithm.name);
            assert_eq!(*fast.to_bytes().unwrap(), *oracle.to_bytes().unwrap(), "{}", algorithm.name);
            assert_eq!(fast.seed(), Some(&seed[..]));
            assert_eq!(oracle.seed(), Some(&seed[..]));

            let given = bytes(!stream, MlDsa::RANDOMNESS_BYTES).try_into().unwrap();
            let message = bytes(stream + 100, 40 * stream as usize);
            let context = bytes(stream + 200, 51 * stream as usize);
            for randomness in [SigningRandomness::Given(&given), SigningRandomness::Deterministic] {
                for encoding in [MessageEncoding::Pure { context: &context }, MessageEncoding::Raw] {
                    let signature = fast.sign(&message, encoding, randomness).unwrap();
                    assert_eq!(signature, oracle.sign(&message, encoding, randomness).unwrap());
                    assert_eq!(signature.len(), algorithm.max_signature_bytes());
                }
            }
        }
    }
}

#[test]
fn each_backend_verifies_what_the_other_signed() {
    fn check<Signer: Backend, Verifier: Backend>() {
        for algorithm in &SIGNATURE_ALGORITHMS {
            let key = SignaturePrivateKey::<Signer>::generate(algorithm).unwrap();
            let public = SignaturePublicKey::<Verifier>::from_bytes(algorithm, key.public_key()).unwrap();
            assert_eq!(public.as_bytes(), key.public_key());
            for context in [&[][..], b"context", &[7; 255]] {
                let encoding = MessageEncoding::Pure { context };
                let signature = key.sign(b"message", encoding, SigningRandomness::Hedged).unwrap();
                assert!(signature.len() <= algorithm.max_signature_bytes());
                public.verify(b"message", encoding, &signature).expect(algorithm.name);
                let invalid = Error::SignatureInvalid { algorithm: algorithm.name };
                assert_eq!(public.verify(b"massage", encoding, &signature), Err(invalid));
                let other = MessageEncoding::Pure { context: b"other" };
                assert_eq!(public.verify(b"message", other, &signature), Err(invalid));
                assert_eq!(invalid.fault(), Fault::Peer);
            }
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
        for algorithm in &SIGNATURE_ALGORITHMS {
            let key = SignaturePrivateKey::<From>::generate(algorithm).unwrap();
            let restored = SignaturePrivateKey::<To>::from_seed(algorithm, key.seed().unwrap()).unwrap();
            assert_eq!(restored.public_key(), key.public_key(), "{}", algorithm.name);
            assert_eq!(restored.seed(), key.seed());
            if algorithm.composite.is_some() {
                let error = Error::Unsupported { algorithm: algorithm.name, what: "an expanded private key" };
                assert_eq!(key.to_bytes(), Err(error));
                assert_eq!(SignaturePrivateKey::<To>::from_bytes(algorithm, &[0; 4032]).unwrap_err(), error);
                continue;
            }
            let expanded = key.to_bytes().unwrap();
            let from_bytes = SignaturePrivateKey::<To>::from_bytes(algorithm, &expanded).unwrap();
            assert_eq!(from_bytes.seed(), None);
            assert_eq!(from_bytes.public_key(), key.public_key());
            assert_eq!(*from_bytes.to_bytes().unwrap(), *expanded);
            let sign = SigningRandomness::Deterministic;
            assert_eq!(
                from_bytes.sign(b"m", MessageEncoding::PURE, sign).unwrap(),
                key.sign(b"m", MessageEncoding::PURE, sign).unwrap()
            );
        }
    }
    check::<AwsLc, RustCrypto>();
    check::<RustCrypto, AwsLc>();
}

#[test]
fn a_message_in_pieces_is_the_message_whole() {
    fn check<B: Backend>() {
        let message = bytes(1, 1000);
        for algorithm in &SIGNATURE_ALGORITHMS {
            let key = SignaturePrivateKey::<B>::generate(algorithm).unwrap();
            let public = SignaturePublicKey::<B>::from_bytes(algorithm, key.public_key()).unwrap();
            let encoding = MessageEncoding::Pure { context: b"pieces" };
            let mut hash = key.message_hash(encoding).unwrap();
            hash.update(&message[..1]).unwrap();
            hash.update(&[]).unwrap();
            hash.update(&message[1..500]).unwrap();
            let mut copy = hash.try_clone().unwrap();
            hash.update(&message[500..]).unwrap();
            copy.update(b"something else").unwrap();
            let (whole, other) = (hash.finish().unwrap(), copy.finish().unwrap());
            assert_ne!(whole, other);

            let signature = key.sign_representative(&whole, SigningRandomness::Hedged).unwrap();
            public.verify(&message, encoding, &signature).expect(algorithm.name);
            public.verify_representative(&whole, &signature).expect(algorithm.name);
            assert!(public.verify_representative(&other, &signature).is_err());
        }
    }
    check::<AwsLc>();
    check::<RustCrypto>();
}

#[test]
fn an_external_mu_has_64_bytes_and_no_composite() {
    for algorithm in &SIGNATURE_ALGORITHMS {
        for length in [0, 63, 64, 65] {
            let made = MessageRepresentative::from_mu(algorithm, &vec![5; length]);
            match (algorithm.composite, length) {
                (Some(_), _) => {
                    let error = Error::Unsupported { algorithm: algorithm.name, what: "an external mu" };
                    assert_eq!(made, Err(error));
                }
                (None, 64) => {
                    let mu = made.unwrap();
                    assert_eq!(mu.mu(), Some(&[5; 64]));
                    let key = SignaturePrivateKey::<AwsLc>::generate(algorithm).unwrap();
                    let public =
                        SignaturePublicKey::<RustCrypto>::from_bytes(algorithm, key.public_key()).unwrap();
                    let signature = key.sign_representative(&mu, SigningRandomness::Hedged).unwrap();
                    public.verify_representative(&mu, &signature).unwrap();
                }
                (None, got) => {
                    assert_eq!(made, Err(Error::MuLength { algorithm: algorithm.name, got }));
                }
            }
        }
    }
    let hash = |name| {
        let key = SignaturePrivateKey::<AwsLc>::generate(signature(name)).unwrap();
        key.message_hash(MessageEncoding::PURE).unwrap().finish().unwrap()
    };
    assert!(hash("ML-DSA-44").mu().is_some());
    assert!(hash("id-MLDSA44-ECDSA-P256-SHA256").mu().is_none(), "a half never stands alone");
}

#[test]
fn a_representative_of_another_algorithm_is_refused() {
    let key = SignaturePrivateKey::<AwsLc>::generate(signature("ML-DSA-44")).unwrap();
    let public = SignaturePublicKey::<AwsLc>::from_bytes(key.algorithm(), key.public_key()).unwrap();
    let other = MessageRepresentative::from_mu(signature("ML-DSA-65"), &[1; 64]).unwrap();
    assert!(matches!(
        key.sign_representative(&other, SigningRandomness::Hedged),
        Err(Error::Unsupported { algorithm: "ML-DSA-44", .. })
    ));
    let own = MessageRepresentative::from_mu(signature("ML-DSA-44"), &[1; 64]).unwrap();
    let made = key.sign_representative(&own, SigningRandomness::Hedged).unwrap();
    public.verify_representative(&own, &made).unwrap();
    assert!(public.verify_representative(&other, &made).is_err());
}

#[test]
fn hedged_signatures_differ_and_deterministic_ones_do_not() {
    fn check<B: Backend>() {
        for algorithm in &SIGNATURE_ALGORITHMS {
            let key = SignaturePrivateKey::<B>::generate(algorithm).unwrap();
            let other = SignaturePrivateKey::<B>::generate(algorithm).unwrap();
            assert_ne!(key.seed(), other.seed());
            assert_ne!(key.public_key(), other.public_key());
            let sign = |randomness| key.sign(b"m", MessageEncoding::PURE, randomness);
            let hedged = SigningRandomness::default();
            let split = algorithm.ml_dsa.signature_bytes();
            assert_ne!(sign(hedged).unwrap()[..split], sign(hedged).unwrap()[..split], "{}", algorithm.name);
            for fixed in [SigningRandomness::Deterministic, SigningRandomness::Given(&[3; 32])] {
                if algorithm.composite.is_some() {
                    let error =
                        Error::Unsupported { algorithm: algorithm.name, what: "deterministic signatures" };
                    assert_eq!(sign(fixed), Err(error));
                } else {
                    assert_eq!(sign(fixed).unwrap(), sign(fixed).unwrap(), "{}", algorithm.name);
                }
            }
        }
    }
    check::<AwsLc>();
    check::<RustCrypto>();
}

#[test]
fn a_context_of_256_bytes_is_refused_and_a_composite_has_no_raw_messages() {
    fn check<B: Backend>() {
        for algorithm in &SIGNATURE_ALGORITHMS {
            let key = SignaturePrivateKey::<B>::generate(algorithm).unwrap();
            let public = SignaturePublicKey::<B>::from_bytes(algorithm, key.public_key()).unwrap();
            let refused = |encoding| {
                let error = key.sign(b"m", encoding, SigningRandomness::Hedged).unwrap_err();
                assert_eq!(public.verify(b"m", encoding, b"").unwrap_err(), error);
                assert_eq!(key.message_hash(encoding).unwrap_err(), error);
                assert_eq!(error.fault(), Fault::Caller);
                error
            };
            let error = refused(MessageEncoding::Pure { context: &[0; 256] });
            assert_eq!(error, Error::ContextLength { algorithm: algorithm.name, got: 256 });
            if algorithm.composite.is_some() {
                let error = refused(MessageEncoding::Raw);
                assert!(matches!(error, Error::Unsupported { .. }), "{error}");
            }
        }
    }
    check::<AwsLc>();
    check::<RustCrypto>();
}

#[test]
fn keys_of_any_other_length_are_refused() {
    fn check<B: Backend>() {
        for algorithm in &SIGNATURE_ALGORITHMS {
            let name = algorithm.name;
            let others = |expected: usize| [0, 1, expected - 1, expected + 1, 2 * expected];
            let expected = algorithm.public_key_bytes();
            for got in others(expected) {
                let error = SignaturePublicKey::<B>::from_bytes(algorithm, &vec![4; got]).unwrap_err();
                assert_eq!(error, Error::PublicKeyLength { algorithm: name, expected, got });
            }
            let expected = algorithm.seed_bytes();
            for got in others(expected) {
                let error = SignaturePrivateKey::<B>::from_seed(algorithm, &vec![4; got]).unwrap_err();
                assert_eq!(error, Error::SeedLength { algorithm: name, expected, got });
            }
            if let Some(expected) = algorithm.private_key_bytes() {
                for got in others(expected) {
                    let error = SignaturePrivateKey::<B>::from_bytes(algorithm, &vec![0; got]).unwrap_err();
                    assert_eq!(error, Error::PrivateKeyLength { algorithm: name, expected, got });
                }
            }
        }
    }
    check::<AwsLc>();
    check::<RustCrypto>();
}

/// ρ, tr, s1, s2 and t0 are each bound to the rest; K is not, it only makes randomness.
#[test]
fn an_expanded_key_with_a_wrong_bit_is_refused() {
    fn check<B: Backend>() {
        for algorithm in pure_rows() {
            let good = SignaturePrivateKey::<B>::generate(algorithm).unwrap().to_bytes().unwrap();
            let s2_begins = match algorithm.ml_dsa {
                MlDsa::MlDsa44 => 128 + 4 * 96,
                MlDsa::MlDsa65 => 128 + 5 * 128,
                MlDsa::MlDsa87 => 128 + 7 * 96,
                other => panic!("{other:?}"),
            };
            let last = good.len() - 1;
            for position in [0, 31, 64, 127, 128, s2_begins - 1, s2_begins, last - 2000, last - 416, last] {
                for bit in [0x01, 0x08, 0x80] {
                    let mut wrong = good.clone();
                    wrong[position] ^= bit;
                    let error = SignaturePrivateKey::<B>::from_bytes(algorithm, &wrong).unwrap_err();
                    assert!(
                        matches!(error, Error::PrivateKeyPair { .. } | Error::PrivateKeyRange { .. }),
                        "{} byte {position}: {error}",
                        algorithm.name
                    );
                    assert_eq!(error.fault(), Fault::Caller);
                }
            }
        }
    }
    check::<AwsLc>();
    check::<RustCrypto>();
}

#[test]
fn a_secret_coefficient_out_of_range_is_named_as_such() {
    fn check<B: Backend>() {
        for algorithm in pure_rows() {
            let mut wrong = SignaturePrivateKey::<B>::generate(algorithm).unwrap().to_bytes().unwrap();
            // s1 begins here (FIPS 204 algorithm 24); all ones is above 2 eta in three bits and in four.
            wrong[128] = 0xFF;
            assert_eq!(
                SignaturePrivateKey::<B>::from_bytes(algorithm, &wrong).unwrap_err(),
                Error::PrivateKeyRange { algorithm: algorithm.name }
            );
        }
    }
    check::<AwsLc>();
    check::<RustCrypto>();
}

#[test]
fn a_signature_with_a_wrong_bit_or_length_is_refused() {
    fn check<B: Backend>() {
        for algorithm in &SIGNATURE_ALGORITHMS {
            let key = SignaturePrivateKey::<B>::generate(algorithm).unwrap();
            let public = SignaturePublicKey::<B>::from_bytes(algorithm, key.public_key()).unwrap();
            let good = key.sign(b"m", MessageEncoding::PURE, SigningRandomness::Hedged).unwrap();
            let invalid = Err(Error::SignatureInvalid { algorithm: algorithm.name });
            for position in (0..good.len()).step_by(211).chain([good.len() - 1]) {
                let mut wrong = good.clone();
                wrong[position] ^= 0x10;
                assert_eq!(
                    public.verify(b"m", MessageEncoding::PURE, &wrong),
                    invalid,
                    "{} byte {position}",
                    algorithm.name
                );
            }
            for length in [0, 1, good.len() - 1, good.len() + 1, 2 * good.len()] {
                let mut wrong = good.clone();
                wrong.resize(length, 0);
                assert_eq!(public.verify(b"m", MessageEncoding::PURE, &wrong), invalid, "{}", algorithm.name);
            }
        }
    }
    check::<AwsLc>();
    check::<RustCrypto>();
}

#[test]
fn clones_work_from_many_threads_at_once() {
    fn check<B: Backend>() {
        for algorithm in &SIGNATURE_ALGORITHMS {
            let private = SignaturePrivateKey::<B>::generate(algorithm).unwrap();
            let public = SignaturePublicKey::<B>::from_bytes(algorithm, private.public_key()).unwrap();
            std::thread::scope(|scope| {
                for thread in 0..4 {
                    let (private, public) = (private.clone(), public.clone());
                    scope.spawn(move || {
                        for _ in 0..4 {
                            let made =
                                private.sign(&[thread], MessageEncoding::PURE, SigningRandomness::Hedged);
                            public.verify(&[thread], MessageEncoding::PURE, &made.unwrap()).unwrap();
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
    for algorithm in &SIGNATURE_ALGORITHMS {
        let private = SignaturePrivateKey::<AwsLc>::generate(algorithm).unwrap();
        let public = SignaturePublicKey::<AwsLc>::from_bytes(algorithm, private.public_key()).unwrap();
        let rest = format!("{{ algorithm: \"{}\", backend: \"aws-lc\", .. }}", algorithm.name);
        assert_eq!(format!("{private:?}"), format!("SignaturePrivateKey {rest}"));
        assert_eq!(format!("{public:?}"), format!("SignaturePublicKey {rest}"));
    }
}

#[test]
fn both_backends_pass_their_self_test_and_report_each_step() {
    let all: Vec<String> = KnownAnswerStep::SIGNATURE
        .iter()
        .flat_map(|step| [format!("begin {step}"), format!("end {step} true")])
        .collect();
    for algorithm in &SIGNATURE_ALGORITHMS {
        for run in [run_signature_known_answer_on::<AwsLc>, run_signature_known_answer_on::<RustCrypto>] {
            let mut recorder = Recorder::default();
            run(algorithm, &mut recorder).unwrap();
            assert_eq!(recorder.events, all, "{}", algorithm.name);
        }
        run_signature_known_answer(algorithm, &mut ()).unwrap();
    }
}

#[test]
fn a_self_test_step_whose_output_is_wrong_fails_and_ends_the_test() {
    for algorithm in &SIGNATURE_ALGORITHMS {
        for step in KnownAnswerStep::SIGNATURE {
            let mut recorder = Recorder { spoil: Some(step), events: Vec::new() };
            let error = run_signature_known_answer(algorithm, &mut recorder).unwrap_err();
            assert_eq!(error, Error::KnownAnswerMismatch { algorithm: algorithm.name, step });
            assert_eq!(recorder.events.last(), Some(&format!("end {step} false")));
        }
    }
}

/// All of a file but a composite's signature, which is new each time; that it verifies is in the self-test.
#[test]
fn the_vectors_in_the_source_are_what_both_backends_compute() {
    fn check<B: Backend>() {
        for algorithm in &SIGNATURE_ALGORITHMS {
            let file = format!("{}/src/known_answer/{}.bin", env!("CARGO_MANIFEST_DIR"), algorithm.name);
            let known = std::fs::read(file).unwrap();
            let computed = compute_signature_known_answer::<B>(algorithm).unwrap();
            let compared = match algorithm.composite {
                None => known.len(),
                Some(_) => algorithm.seed_bytes() + MlDsa::RANDOMNESS_BYTES + algorithm.public_key_bytes(),
            };
            assert_eq!(computed[..compared], known[..compared], "{}", algorithm.name);
        }
    }
    check::<AwsLc>();
    check::<RustCrypto>();
}
