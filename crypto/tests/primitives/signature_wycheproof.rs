//! Project Wycheproof's vectors for ML-DSA on both backends.

use crate::common::signature;
use qtls_crypto::{
    AwsLc, Backend, Error, MessageEncoding, MessageRepresentative, RustCrypto, SignatureAlgorithm,
    SignaturePrivateKey, SignaturePublicKey, SigningRandomness,
};
use wycheproof::{TestResult, mldsa_sign, mldsa_verify};

#[test]
fn signatures_from_a_seed_and_from_an_expanded_key() {
    fn check<B: Backend>(
        algorithm: &'static SignatureAlgorithm,
        group: &mldsa_sign::TestGroup,
        test: &mldsa_sign::Test,
    ) -> Result<Vec<u8>, Error> {
        let key = match (&group.privseed, &group.privkey) {
            (Some(seed), _) => SignaturePrivateKey::<B>::from_seed(algorithm, seed)?,
            (None, Some(expanded)) => SignaturePrivateKey::<B>::from_bytes(algorithm, expanded)?,
            (None, None) => panic!("a group without a private key"),
        };
        if let Some(public) = &group.pubkey {
            assert_eq!(key.public_key(), &public[..], "{} tcId {}", algorithm.name, test.tc_id);
        }
        let given;
        let randomness = match &test.rnd {
            None => SigningRandomness::Deterministic,
            Some(rnd) => {
                given = rnd[..].try_into().unwrap();
                SigningRandomness::Given(&given)
            }
        };
        let Some(message) = &test.msg else {
            let mu = test.mu.as_ref().expect("a message or its mu");
            return key.sign_representative(&MessageRepresentative::from_mu(algorithm, mu)?, randomness);
        };
        let context = test.ctx.as_deref().map_or(&[][..], |context| context);
        let encoding = MessageEncoding::Pure { context };
        let mut hash = key.message_hash(encoding)?;
        hash.update(message)?;
        let representative = hash.finish()?;
        if let Some(mu) = &test.mu {
            assert_eq!(&representative.mu().unwrap()[..], &mu[..], "{} tcId {}", algorithm.name, test.tc_id);
        }
        key.sign_representative(&representative, randomness)
    }
    let mut tests = 0;
    for (set, name) in [
        (mldsa_sign::TestName::MlDsa44SignSeed, "ML-DSA-44"),
        (mldsa_sign::TestName::MlDsa65SignSeed, "ML-DSA-65"),
        (mldsa_sign::TestName::MlDsa87SignSeed, "ML-DSA-87"),
        (mldsa_sign::TestName::MlDsa44SignNoSeed, "ML-DSA-44"),
        (mldsa_sign::TestName::MlDsa65SignNoSeed, "ML-DSA-65"),
        (mldsa_sign::TestName::MlDsa87SignNoSeed, "ML-DSA-87"),
    ] {
        for group in mldsa_sign::TestSet::load(set).unwrap().test_groups {
            for test in &group.tests {
                let context = format!("{name} tcId {} {}", test.tc_id, test.comment);
                let algorithm = signature(name);
                let fast = check::<AwsLc>(algorithm, &group, test);
                let oracle = check::<RustCrypto>(algorithm, &group, test);
                assert_eq!(fast, oracle, "{context}");
                match test.result {
                    TestResult::Valid => assert_eq!(fast.expect(&context), test.sig[..], "{context}"),
                    _ => assert!(
                        matches!(
                            fast,
                            Err(Error::SeedLength { .. }
                                | Error::PrivateKeyLength { .. }
                                | Error::PrivateKeyRange { .. }
                                | Error::ContextLength { .. })
                        ),
                        "{context}: {fast:?}"
                    ),
                }
                tests += 1;
            }
        }
    }
    assert!(tests > 400, "{tests}");
}

#[test]
fn verification() {
    fn check<B: Backend>(
        algorithm: &'static SignatureAlgorithm,
        group: &mldsa_verify::TestGroup,
        test: &mldsa_verify::Test,
    ) -> Result<(), Error> {
        let context = test.ctx.as_deref().map_or(&[][..], |context| context);
        SignaturePublicKey::<B>::from_bytes(algorithm, &group.pubkey)?.verify(
            &test.msg,
            MessageEncoding::Pure { context },
            &test.sig,
        )
    }
    let mut tests = 0;
    for (set, name) in [
        (mldsa_verify::TestName::MlDsa44Verify, "ML-DSA-44"),
        (mldsa_verify::TestName::MlDsa65Verify, "ML-DSA-65"),
        (mldsa_verify::TestName::MlDsa87Verify, "ML-DSA-87"),
    ] {
        for group in mldsa_verify::TestSet::load(set).unwrap().test_groups {
            for test in &group.tests {
                let context = format!("{name} tcId {} {}", test.tc_id, test.comment);
                let fast = check::<AwsLc>(signature(name), &group, test);
                assert_eq!(fast, check::<RustCrypto>(signature(name), &group, test), "{context}");
                assert_eq!(fast.is_ok(), test.result == TestResult::Valid, "{context}: {fast:?}");
                tests += 1;
            }
        }
    }
    assert!(tests > 400, "{tests}");
}
