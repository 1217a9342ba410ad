//! Whatever a peer or a key file brings: it is refused with a reason, the same on both backends.

use crate::common::{
    curve_in_ciphertext, curve_in_public_key, decapsulate, encapsulate, ml_kem_begins, randomness, seed,
};
use qtls_crypto::{
    AwsLc, Backend, Curve, Error, Fault, KEM_ALGORITHMS, KemAlgorithm, KemPrivateKey, KemPublicKey, MlKem,
    RustCrypto, kem_by_name,
};

#[test]
fn a_public_key_of_any_other_length_is_refused() {
    fn check<B: Backend>() {
        for algorithm in &KEM_ALGORITHMS {
            let expected = algorithm.public_key_bytes();
            let public = KemPrivateKey::<B>::from_seed(algorithm, &seed(algorithm, 1)).unwrap();
            for got in other_lengths(expected) {
                let mut bytes = public.public_key().to_vec();
                bytes.resize(got, 0);
                let error = KemPublicKey::<B>::from_bytes(algorithm, &bytes).unwrap_err();
                assert_eq!(error, Error::PublicKeyLength { algorithm: algorithm.name, expected, got });
                assert_eq!(error.fault(), Fault::Peer);
            }
        }
    }
    check::<AwsLc>();
    check::<RustCrypto>();
}

#[test]
fn a_ciphertext_of_any_other_length_is_refused_and_nothing_is_written() {
    fn check<B: Backend>() {
        for algorithm in &KEM_ALGORITHMS {
            let expected = algorithm.ciphertext_bytes();
            let key = KemPrivateKey::<B>::from_seed(algorithm, &seed(algorithm, 1)).unwrap();
            let (ciphertext, _) = encapsulate::<B>(algorithm, key.public_key()).unwrap();
            for got in other_lengths(expected) {
                let mut bytes = ciphertext.clone();
                bytes.resize(got, 0);
                let mut secret = vec![0; algorithm.shared_secret_bytes()];
                let error = key.decapsulate(&bytes, &mut secret).unwrap_err();
                assert_eq!(error, Error::CiphertextLength { algorithm: algorithm.name, expected, got });
                assert_eq!(error.fault(), Fault::Peer);
                assert!(secret.iter().all(|byte| *byte == 0));
            }
        }
    }
    check::<AwsLc>();
    check::<RustCrypto>();
}

#[test]
fn seeds_randomness_expanded_keys_and_buffers_of_any_other_length_are_refused() {
    fn check<B: Backend>() {
        for algorithm in &KEM_ALGORITHMS {
            let name = algorithm.name;
            let key = KemPrivateKey::<B>::from_seed(algorithm, &seed(algorithm, 1)).unwrap();
            let public = KemPublicKey::<B>::from_bytes(algorithm, key.public_key()).unwrap();
            let mut ciphertext = vec![0; algorithm.ciphertext_bytes()];
            let mut secret = vec![0; algorithm.shared_secret_bytes()];
            public.encapsulate(&mut ciphertext, &mut secret).unwrap();

            let expected = algorithm.seed_bytes();
            for got in other_lengths(expected) {
                let error = KemPrivateKey::<B>::from_seed(algorithm, &vec![1; got]).unwrap_err();
                assert_eq!(error, Error::SeedLength { algorithm: name, expected, got });
            }
            let expected = algorithm.private_key_bytes();
            for got in other_lengths(expected) {
                let mut expanded = key.to_bytes().unwrap();
                expanded.resize(got, 0);
                let error = KemPrivateKey::<B>::from_bytes(algorithm, &expanded).unwrap_err();
                assert_eq!(error, Error::PrivateKeyLength { algorithm: name, expected, got });
            }
            let expected = algorithm.randomness_bytes();
            for got in other_lengths(expected) {
                let error = public
                    .encapsulate_deterministic(&vec![1; got], &mut ciphertext, &mut secret)
                    .unwrap_err();
                assert_eq!(error, Error::RandomnessLength { algorithm: name, expected, got });
            }
            let expected = algorithm.ciphertext_bytes();
            for got in other_lengths(expected) {
                let error = public.encapsulate(&mut vec![0; got], &mut secret).unwrap_err();
                assert_eq!(error, Error::BufferLength { what: "ciphertext", expected, got });
                assert_eq!(error.fault(), Fault::Caller);
            }
            let expected = algorithm.shared_secret_bytes();
            for got in other_lengths(expected) {
                let error = Error::BufferLength { what: "shared secret", expected, got };
                assert_eq!(public.encapsulate(&mut ciphertext, &mut vec![0; got]), Err(error));
                assert_eq!(key.decapsulate(&ciphertext, &mut vec![0; got]), Err(error));
            }
        }
    }
    check::<AwsLc>();
    check::<RustCrypto>();
}

#[test]
fn a_coefficient_out_of_range_is_refused_wherever_it_stands() {
    fn check<B: Backend>(algorithm: &'static KemAlgorithm) {
        let key = KemPrivateKey::<B>::from_seed(algorithm, &seed(algorithm, 1)).unwrap();
        let vector = ml_kem_begins(algorithm)..;
        let coefficients = (algorithm.ml_kem.encapsulation_key_bytes() - 32) / 3 * 2;
        // Both halves of a 3-byte group, all four lanes of a 6-byte group, the ends of each polynomial.
        let positions = (0..20).chain((0..coefficients).step_by(256)).chain((255..coefficients).step_by(256));
        for position in positions {
            for value in [3329, 3330, 4095] {
                let mut public = key.public_key().to_vec();
                set_coefficient(&mut public[vector.clone()], position, value);
                assert_eq!(
                    KemPublicKey::<B>::from_bytes(algorithm, &public).unwrap_err(),
                    Error::PublicKeyModulus { algorithm: algorithm.name },
                    "coefficient {position} = {value}"
                );
            }
            let mut public = key.public_key().to_vec();
            set_coefficient(&mut public[vector.clone()], position, 3328);
            KemPublicKey::<B>::from_bytes(algorithm, &public).unwrap();
        }
    }
    for algorithm in &KEM_ALGORITHMS {
        check::<AwsLc>(algorithm);
        check::<RustCrypto>(algorithm);
    }
}

#[test]
fn only_uncompressed_points_on_the_curve_are_taken() {
    fn check<B: Backend>(algorithm: &'static KemAlgorithm, curve: Curve) {
        let key = KemPrivateKey::<B>::from_seed(algorithm, &seed(algorithm, 1)).unwrap();
        let (ciphertext, _) = encapsulate::<B>(algorithm, key.public_key()).unwrap();
        let wrong_points = wrong_points(&key.public_key()[curve_in_public_key(algorithm)]);
        for (what, point) in wrong_points {
            let mut public = key.public_key().to_vec();
            public[curve_in_public_key(algorithm)].copy_from_slice(&point);
            let error = KemPublicKey::<B>::from_bytes(algorithm, &public).unwrap_err();
            assert_eq!(
                error,
                Error::PublicKeyPoint { algorithm: algorithm.name, curve: curve.name() },
                "{what}"
            );
            assert_eq!(error.fault(), Fault::Peer);

            let mut wrong = ciphertext.clone();
            wrong[curve_in_ciphertext(algorithm)].copy_from_slice(&point);
            let mut secret = vec![0; algorithm.shared_secret_bytes()];
            let error = key.decapsulate(&wrong, &mut secret).unwrap_err();
            assert_eq!(
                error,
                Error::CiphertextPoint { algorithm: algorithm.name, curve: curve.name() },
                "{what}"
            );
            assert!(secret.iter().all(|byte| *byte == 0), "{what}");
        }
    }
    for algorithm in &KEM_ALGORITHMS {
        if let Some((curve @ (Curve::P256 | Curve::P384), _)) = algorithm.curve {
            check::<AwsLc>(algorithm, curve);
            check::<RustCrypto>(algorithm, curve);
        }
    }
}

/// Encodings with the right length that are no uncompressed point on the curve, made from a good one.
fn wrong_points(good: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let coordinate = (good.len() - 1) / 2;
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut point = good.to_vec();
        change(&mut point);
        point
    };
    vec![
        ("y changed: off the curve", with(&|p| p[2 * coordinate] ^= 1)),
        ("x changed: off the curve", with(&|p| p[coordinate] ^= 1)),
        ("coordinates not below p", with(&|p| p[1..].fill(0xFF))),
        ("the point (0, 0)", with(&|p| p[1..].fill(0))),
        ("infinity, padded", with(&|p| p.fill(0))),
        (
            "compressed, padded",
            with(&|p| {
                p[0] = 2 + (p[2 * coordinate] & 1);
                p[1 + coordinate..].fill(0);
            }),
        ),
        ("hybrid form of X9.62", with(&|p| p[0] = 6 + (p[2 * coordinate] & 1))),
        ("form byte 5", with(&|p| p[0] = 5)),
    ]
}

#[test]
fn x25519_values_of_small_order_are_refused_on_both_sides() {
    fn check<B: Backend>(algorithm: &'static KemAlgorithm) {
        let refusal = Error::AllZeroSharedSecret { algorithm: algorithm.name };
        let key = KemPrivateKey::<B>::from_seed(algorithm, &seed(algorithm, 1)).unwrap();
        let (ciphertext, _) = encapsulate::<B>(algorithm, key.public_key()).unwrap();
        for value in small_order_values() {
            // Each of them does give zero: the list holds nothing that a peer could rightly send.
            assert_eq!(x25519_dalek::x25519([0x55; 32], value), [0; 32], "{value:02x?}");

            let mut public = key.public_key().to_vec();
            public[curve_in_public_key(algorithm)].copy_from_slice(&value);
            let error = KemPublicKey::<B>::from_bytes(algorithm, &public).unwrap_err();
            assert_eq!(error, refusal, "{value:02x?}");
            assert_eq!(error.fault(), Fault::Peer);

            let mut wrong = ciphertext.clone();
            wrong[curve_in_ciphertext(algorithm)].copy_from_slice(&value);
            let mut secret = vec![0; algorithm.shared_secret_bytes()];
            assert_eq!(key.decapsulate(&wrong, &mut secret), Err(refusal), "{value:02x?}");
            assert!(secret.iter().all(|byte| *byte == 0));
        }
    }
    let algorithm = kem_by_name("X25519MLKEM768").unwrap();
    check::<AwsLc>(algorithm);
    check::<RustCrypto>(algorithm);
}

/// As <https://cr.yp.to/ecdh.html#validate> lists them, in every encoding: the top bit does not count.
fn small_order_values() -> Vec<[u8; 32]> {
    [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ]
    .into_iter()
    .flat_map(|digits| {
        let low: [u8; 32] = hex::decode(digits).unwrap().try_into().unwrap();
        let mut high = low;
        high[31] |= 0x80;
        [low, high]
    })
    .collect()
}

#[test]
fn scalars_out_of_range_are_refused_and_the_largest_one_is_taken() {
    const P256_ORDER: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    const P384_ORDER: &str =
        "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973";
    fn check<B: Backend>(algorithm: &'static KemAlgorithm, order: &str) {
        let order = hex::decode(order).unwrap();
        let curve = algorithm.curve.unwrap().0.name();
        let refusal = Error::Scalar { algorithm: algorithm.name, curve };
        let public = KemPrivateKey::<B>::from_seed(algorithm, &seed(algorithm, 1)).unwrap();
        let public = public.public_key();
        let mut largest = order.clone();
        *largest.last_mut().unwrap() -= 1;
        for wrong in [vec![0; order.len()], order.clone(), vec![0xFF; order.len()]] {
            let seed = [&[1; MlKem::SEED_BYTES], &wrong[..]].concat();
            assert_eq!(KemPrivateKey::<B>::from_seed(algorithm, &seed).unwrap_err(), refusal);
            let randomness = [&[1; MlKem::RANDOMNESS_BYTES], &wrong[..]].concat();
            let made = crate::common::encapsulate_with::<B>(algorithm, public, &randomness);
            assert_eq!(made, Err(refusal));
        }
        let seed = [&[1; MlKem::SEED_BYTES], &largest[..]].concat();
        KemPrivateKey::<B>::from_seed(algorithm, &seed).unwrap();
    }
    for (name, order) in [("SecP256r1MLKEM768", P256_ORDER), ("SecP384r1MLKEM1024", P384_ORDER)] {
        let algorithm = kem_by_name(name).unwrap();
        check::<AwsLc>(algorithm, order);
        check::<RustCrypto>(algorithm, order);
    }
}

#[test]
fn damage_anywhere_in_an_expanded_key_that_can_be_seen_is_seen() {
    fn check<B: Backend>(algorithm: &'static KemAlgorithm) {
        let ml_kem = algorithm.ml_kem;
        let key = KemPrivateKey::<B>::from_seed(algorithm, &seed(algorithm, 1)).unwrap();
        let good = key.to_bytes().unwrap();
        let begins = crate::common::curve_range(algorithm, good.len(), ml_kem.decapsulation_key_bytes());
        let begins = if begins.start == 0 { begins.end } else { 0 };
        let vector = ml_kem.encapsulation_key_bytes() - 32;
        let refusal = |change: &dyn Fn(&mut [u8])| {
            let mut damaged = good.to_vec();
            change(&mut damaged[begins..][..ml_kem.decapsulation_key_bytes()]);
            KemPrivateKey::<B>::from_bytes(algorithm, &damaged).unwrap_err()
        };
        let (modulus, hash, pair) = (
            Error::PrivateKeyModulus { algorithm: algorithm.name },
            Error::PrivateKeyHash { algorithm: algorithm.name },
            Error::PrivateKeyPair { algorithm: algorithm.name },
        );
        assert_eq!(refusal(&|dk| set_coefficient(dk, 0, 3329)), modulus, "secret vector");
        assert_eq!(refusal(&|dk| set_coefficient(&mut dk[vector..], 1, 4095)), modulus, "public vector");
        let rho = 2 * vector;
        assert_eq!(refusal(&|dk| dk[rho] ^= 1), hash, "matrix seed");
        assert_eq!(refusal(&|dk| dk[rho + 32] ^= 1), hash, "hash of the public key");
        assert_eq!(refusal(&|dk| dk[rho + 63] ^= 0x80), hash, "hash of the public key");
        // Valid coefficients, but another key's.
        let other = KemPrivateKey::<B>::from_seed(algorithm, &seed(algorithm, 2)).unwrap();
        let other = other.to_bytes().unwrap();
        assert_eq!(refusal(&|dk| dk[..vector].copy_from_slice(&other[begins..][..vector])), pair);
        assert_eq!(pair.fault(), Fault::Caller);
    }
    for algorithm in &KEM_ALGORITHMS {
        check::<AwsLc>(algorithm);
        check::<RustCrypto>(algorithm);
    }
}

#[test]
fn after_a_failed_encapsulation_the_buffer_holds_no_secret() {
    fn check<B: Backend>() {
        // The scalar is looked at after ML-KEM's half of the secret was written.
        let algorithm = kem_by_name("SecP256r1MLKEM768").unwrap();
        let key = KemPrivateKey::<B>::from_seed(algorithm, &seed(algorithm, 1)).unwrap();
        let public = KemPublicKey::<B>::from_bytes(algorithm, key.public_key()).unwrap();
        let mut randomness = randomness(algorithm, 1);
        randomness[MlKem::RANDOMNESS_BYTES..].fill(0);
        let mut ciphertext = vec![0; algorithm.ciphertext_bytes()];
        let mut secret = vec![0xAA; algorithm.shared_secret_bytes()];
        public.encapsulate_deterministic(&randomness, &mut ciphertext, &mut secret).unwrap_err();
        assert!(secret.iter().all(|byte| *byte == 0));
    }
    check::<AwsLc>();
    check::<RustCrypto>();
}

#[test]
fn the_backends_agree_on_whether_altered_shares_are_good() {
    for algorithm in &KEM_ALGORITHMS {
        let key = KemPrivateKey::<AwsLc>::from_seed(algorithm, &seed(algorithm, 5)).unwrap();
        let oracle = KemPrivateKey::<RustCrypto>::from_seed(algorithm, &seed(algorithm, 5)).unwrap();
        let (ciphertext, _) = encapsulate::<AwsLc>(algorithm, key.public_key()).unwrap();
        for stream in 0..200 {
            let change = crate::common::bytes(stream, 4);
            let at = usize::from(u16::from_le_bytes([change[0], change[1]]));

            let mut public = key.public_key().to_vec();
            let at_public = at % public.len();
            public[at_public] = change[2];
            assert_eq!(
                KemPublicKey::<AwsLc>::from_bytes(algorithm, &public).err(),
                KemPublicKey::<RustCrypto>::from_bytes(algorithm, &public).err(),
                "{} byte {at_public}",
                algorithm.name
            );

            let mut altered = ciphertext.clone();
            let at_ciphertext = at % altered.len();
            altered[at_ciphertext] = change[3];
            assert_eq!(decapsulate(&key, &altered), decapsulate(&oracle, &altered));
        }
    }
}

fn other_lengths(right: usize) -> [usize; 5] {
    [0, 1, right - 1, right + 1, 2 * right]
}

/// Sets a 12-bit coefficient of an encoded vector.
fn set_coefficient(vector: &mut [u8], position: usize, value: u16) {
    let pair = &mut vector[position / 2 * 3..][..3];
    let [low, high] = value.to_le_bytes();
    if position.is_multiple_of(2) {
        pair[0] = low;
        pair[1] = (pair[1] & 0xF0) | high;
    } else {
        pair[1] = (pair[1] & 0x0F) | (low << 4);
        pair[2] = (low >> 4) | (high << 4);
    }
}
