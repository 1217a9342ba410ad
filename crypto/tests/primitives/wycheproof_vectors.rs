//! Project Wycheproof's vectors on both backends: ML-KEM as it is, the curves as the halves of the hybrids.

use crate::common::{
    curve_in_ciphertext, curve_in_public_key, curve_in_secret, decapsulate, encapsulate_with, pure, seed,
};
use qtls_crypto::{
    AwsLc, Backend, Error, KEM_ALGORITHMS, KemAlgorithm, KemPrivateKey, MlKem, RustCrypto, kem_by_name,
};
use wycheproof::TestResult;
use wycheproof::ecdh::{self, TestFlag as EcdhFlag};
use wycheproof::mlkem::{self, MlKemParameterSet, TestFlag as MlKemFlag, TestName};
use wycheproof::xdh::{self, TestFlag as XdhFlag};

#[test]
fn ml_kem_key_generation() {
    fn check<B: Backend>(algorithm: &'static KemAlgorithm, test: &mlkem::Test) {
        let key = KemPrivateKey::<B>::from_seed(algorithm, bytes(&test.seed)).unwrap();
        assert_eq!(key.public_key(), bytes(&test.encaps_key), "{} tcId {}", algorithm.name, test.tc_id);
        assert_eq!(
            *key.to_bytes().unwrap(),
            bytes(&test.decaps_key),
            "{} tcId {}",
            algorithm.name,
            test.tc_id
        );
    }
    let sets = [TestName::MlKem512KeyGenSeed, TestName::MlKem768KeyGenSeed, TestName::MlKem1024KeyGenSeed];
    for_each_ml_kem_test(sets, |algorithm, test| {
        assert_eq!(test.result, TestResult::Valid);
        check::<AwsLc>(algorithm, test);
        check::<RustCrypto>(algorithm, test);
    });
}

#[test]
fn ml_kem_encapsulation_refuses_wrong_lengths_and_coefficients_out_of_range() {
    fn check<B: Backend>(algorithm: &'static KemAlgorithm, test: &mlkem::Test) {
        let made = encapsulate_with::<B>(algorithm, bytes(&test.encaps_key), bytes(&test.msg));
        let context = format!("{} tcId {} {}", algorithm.name, test.tc_id, test.comment);
        match test.result {
            TestResult::Valid => {
                let (ciphertext, secret) = made.expect(&context);
                assert_eq!(ciphertext, bytes(&test.ct), "{context}");
                assert_eq!(secret, bytes(&test.shared_secret), "{context}");
            }
            _ if test.flags.contains(&MlKemFlag::ModulusOverflow) => {
                assert_eq!(made, Err(Error::PublicKeyModulus { algorithm: algorithm.name }), "{context}");
            }
            _ => assert!(
                matches!(made, Err(Error::PublicKeyModulus { .. } | Error::PublicKeyLength { .. })),
                "{context}: {made:?}"
            ),
        }
    }
    let sets = [TestName::MlKem512Encaps, TestName::MlKem768Encaps, TestName::MlKem1024Encaps];
    for_each_ml_kem_test(sets, |algorithm, test| {
        check::<AwsLc>(algorithm, test);
        check::<RustCrypto>(algorithm, test);
    });
}

#[test]
fn ml_kem_decapsulation_from_a_seed() {
    fn check<B: Backend>(algorithm: &'static KemAlgorithm, test: &mlkem::Test) {
        let context = format!("{} tcId {} {}", algorithm.name, test.tc_id, test.comment);
        let found = KemPrivateKey::<B>::from_seed(algorithm, bytes(&test.seed)).and_then(|key| {
            assert_eq!(key.public_key(), bytes(&test.encaps_key), "{context}");
            decapsulate(&key, bytes(&test.ct))
        });
        match test.result {
            TestResult::Valid => assert_eq!(found.expect(&context), bytes(&test.shared_secret), "{context}"),
            _ => assert!(
                matches!(found, Err(Error::SeedLength { .. } | Error::CiphertextLength { .. })),
                "{context}: {found:?}"
            ),
        }
    }
    for_each_ml_kem_test([TestName::MlKem512, TestName::MlKem768, TestName::MlKem1024], |algorithm, test| {
        check::<AwsLc>(algorithm, test);
        check::<RustCrypto>(algorithm, test);
    });
}

#[test]
fn ml_kem_decapsulation_from_an_expanded_key_refuses_damaged_keys() {
    fn check<B: Backend>(algorithm: &'static KemAlgorithm, test: &mlkem::Test) {
        let context = format!("{} tcId {} {}", algorithm.name, test.tc_id, test.comment);
        let found = KemPrivateKey::<B>::from_bytes(algorithm, bytes(&test.decaps_key))
            .and_then(|key| decapsulate(&key, bytes(&test.ct)));
        let flag = |flag| test.flags.contains(&flag);
        match test.result {
            TestResult::Valid => assert_eq!(found.expect(&context), bytes(&test.shared_secret), "{context}"),
            _ if flag(MlKemFlag::IncorrectDecapsulationKeyLength) => {
                assert!(matches!(found, Err(Error::PrivateKeyLength { .. })), "{context}: {found:?}");
            }
            _ if flag(MlKemFlag::IncorrectCiphertextLength) => {
                assert!(matches!(found, Err(Error::CiphertextLength { .. })), "{context}: {found:?}");
            }
            _ => assert!(
                matches!(found, Err(Error::PrivateKeyHash { .. } | Error::PrivateKeyModulus { .. })),
                "{context}: {found:?}"
            ),
        }
    }
    let sets = [
        TestName::MlKem512SemiExpandedDecaps,
        TestName::MlKem768SemiExpandedDecaps,
        TestName::MlKem1024SemiExpandedDecaps,
    ];
    for_each_ml_kem_test(sets, |algorithm, test| {
        check::<AwsLc>(algorithm, test);
        check::<RustCrypto>(algorithm, test);
    });
}

#[test]
fn x25519_halves_give_the_published_secrets_and_refuse_small_order() {
    let algorithm = kem_by_name("X25519MLKEM768").unwrap();
    let hybrid = HybridFrame::new(algorithm);
    let refusal = Error::AllZeroSharedSecret { algorithm: algorithm.name };
    let mut refused = 0;
    for group in xdh::TestSet::load(xdh::TestName::X25519).unwrap().test_groups {
        for test in group.tests {
            let context = format!("tcId {} {}", test.tc_id, test.comment);
            let expected = if test.flags.contains(&XdhFlag::ZeroSharedSecret) {
                refused += 1;
                Err(refusal)
            } else {
                Ok(&test.shared_secret[..])
            };
            for found in hybrid.curve_secrets(&test.private_key, &test.public_key) {
                assert_eq!(found.as_deref(), expected.as_ref().copied(), "{context}");
            }
        }
    }
    assert!(refused > 10);
}

#[test]
fn p256_halves_give_the_published_secrets_and_refuse_everything_but_uncompressed_points() {
    nist_halves("SecP256r1MLKEM768", ecdh::TestName::EcdhSecp256r1Ecpoint);
}

#[test]
fn p384_halves_give_the_published_secrets_and_refuse_everything_but_uncompressed_points() {
    nist_halves("SecP384r1MLKEM1024", ecdh::TestName::EcdhSecp384r1Ecpoint);
}

fn nist_halves(name: &str, set: ecdh::TestName) {
    let algorithm = kem_by_name(name).unwrap();
    let (curve, _) = algorithm.curve.unwrap();
    let hybrid = HybridFrame::new(algorithm);
    let mut refused_points = 0;
    for group in ecdh::TestSet::load(set).unwrap().test_groups {
        for test in group.tests {
            let context = format!("tcId {} {}", test.tc_id, test.comment);
            // The files write the scalar as an ASN.1 integer: without leading zeros, or with one for the sign.
            let digits = &test.private_key[test.private_key.iter().take_while(|byte| **byte == 0).count()..];
            let mut scalar = vec![0; curve.scalar_bytes() - digits.len()];
            scalar.extend_from_slice(digits);
            let compressed = test.flags.contains(&EcdhFlag::CompressedPoint);
            for (side, found) in hybrid.curve_secrets(&scalar, &test.public_key).into_iter().enumerate() {
                match (test.result, found) {
                    (TestResult::Valid, found) => {
                        assert_eq!(found.as_deref(), Ok(&test.shared_secret[..]), "{context}");
                    }
                    (_, Err(Error::PublicKeyPoint { .. } | Error::CiphertextPoint { .. })) if !compressed => {
                        refused_points += 1;
                    }
                    (_, Err(Error::PublicKeyLength { .. } | Error::CiphertextLength { .. })) => {
                        assert_ne!(test.public_key.len(), curve.share_bytes(), "{context}");
                    }
                    (_, other) => panic!("{context}, {side}: {other:?}"),
                }
            }
        }
    }
    assert!(refused_points > 10);
}

/// A hybrid whose ML-KEM half is fixed, so that its curve half can be looked at alone.
struct HybridFrame {
    algorithm: &'static KemAlgorithm,
    public_key: Vec<u8>,
    ciphertext: Vec<u8>,
}

impl HybridFrame {
    fn new(algorithm: &'static KemAlgorithm) -> Self {
        let key = KemPrivateKey::<AwsLc>::from_seed(algorithm, &seed(algorithm, 1)).unwrap();
        let (ciphertext, _) = crate::common::encapsulate::<AwsLc>(algorithm, key.public_key()).unwrap();
        Self { algorithm, public_key: key.public_key().to_vec(), ciphertext }
    }

    /// The curve's secret for our scalar and the peer's value: as server and as client, on both backends.
    fn curve_secrets(&self, scalar: &[u8], peer: &[u8]) -> [Result<Vec<u8>, Error>; 4] {
        [
            self.as_server::<AwsLc>(scalar, peer),
            self.as_server::<RustCrypto>(scalar, peer),
            self.as_client::<AwsLc>(scalar, peer),
            self.as_client::<RustCrypto>(scalar, peer),
        ]
    }

    fn as_server<B: Backend>(&self, scalar: &[u8], peer: &[u8]) -> Result<Vec<u8>, Error> {
        let mut public_key = self.public_key.clone();
        public_key.splice(curve_in_public_key(self.algorithm), peer.iter().copied());
        let randomness = [&[7; MlKem::RANDOMNESS_BYTES], scalar].concat();
        let (_, secret) = encapsulate_with::<B>(self.algorithm, &public_key, &randomness)?;
        Ok(secret[curve_in_secret(self.algorithm)].to_vec())
    }

    fn as_client<B: Backend>(&self, scalar: &[u8], peer: &[u8]) -> Result<Vec<u8>, Error> {
        let mut ciphertext = self.ciphertext.clone();
        ciphertext.splice(curve_in_ciphertext(self.algorithm), peer.iter().copied());
        let seed = [&[9; MlKem::SEED_BYTES], scalar].concat();
        let secret = decapsulate(&KemPrivateKey::<B>::from_seed(self.algorithm, &seed)?, &ciphertext)?;
        Ok(secret[curve_in_secret(self.algorithm)].to_vec())
    }
}

fn for_each_ml_kem_test(sets: [TestName; 3], mut check: impl FnMut(&'static KemAlgorithm, &mlkem::Test)) {
    let mut parameter_sets = Vec::new();
    for set in sets {
        for group in mlkem::TestSet::load(set).unwrap().test_groups {
            let algorithm = pure(match group.parameter_set {
                MlKemParameterSet::MlKem512 => "ML-KEM-512",
                MlKemParameterSet::MlKem768 => "ML-KEM-768",
                MlKemParameterSet::MlKem1024 => "ML-KEM-1024",
            });
            group.tests.iter().for_each(|test| check(algorithm, test));
            parameter_sets.push(algorithm.name);
        }
    }
    parameter_sets.dedup();
    let pure_rows = KEM_ALGORITHMS.iter().filter(|algorithm| algorithm.curve.is_none());
    assert!(parameter_sets.into_iter().eq(pure_rows.map(|algorithm| algorithm.name)));
}

fn bytes(field: &Option<wycheproof::ByteString>) -> &[u8] {
    field.as_deref().map_or(&[], |bytes| bytes)
}
