//! The test vectors of the composite draft, on both backends.

use crate::common::{base64, bytes, signature};
use crate::vectors::vectors;
use qtls_crypto::{
    AwsLc, Backend, Error, MessageEncoding, RustCrypto, SIGNATURE_ALGORITHMS, SignatureAlgorithm,
    SignaturePrivateKey, SignaturePublicKey, SigningRandomness,
};
use serde_json::Value;

#[test]
fn keys_and_signatures_are_those_of_the_draft() {
    fn check<B: Backend>(algorithm: &'static SignatureAlgorithm, file: &Value, test: &Value) {
        let name = algorithm.name;
        let (message, context) = (base64(file, "m"), base64(file, "ctx"));
        let with_context = MessageEncoding::Pure { context: &context };
        let private = SignaturePrivateKey::<B>::from_seed(algorithm, &base64(test, "sk")).expect(name);
        assert_eq!(private.public_key(), base64(test, "pk"), "{name}");
        let public = SignaturePublicKey::<B>::from_bytes(algorithm, &base64(test, "pk")).expect(name);
        let (plain, contextual) = (base64(test, "s"), base64(test, "sWithContext"));
        public.verify(&message, MessageEncoding::PURE, &plain).expect(name);
        public.verify(&message, with_context, &contextual).expect(name);
        let invalid = Err(Error::SignatureInvalid { algorithm: name });
        assert_eq!(public.verify(&message, with_context, &plain), invalid);
        assert_eq!(public.verify(&message, MessageEncoding::PURE, &contextual), invalid);

        let made = private.sign(&message, with_context, SigningRandomness::Hedged).expect(name);
        public.verify(&message, with_context, &made).expect(name);
    }
    let Some(folder) = vectors("composite") else { return };
    let text = std::fs::read_to_string(folder.join("testvectors.json")).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    let mut found = 0;
    for test in file["tests"].as_array().unwrap() {
        let name = test["tcId"].as_str().unwrap().replace("id-ML-DSA", "ML-DSA");
        if let Some(algorithm) = SIGNATURE_ALGORITHMS.iter().find(|row| row.name == name) {
            check::<AwsLc>(algorithm, &file, test);
            check::<RustCrypto>(algorithm, &file, test);
            found += 1;
        }
    }
    assert_eq!(found, SIGNATURE_ALGORITHMS.len(), "every row has its vectors");
}

#[test]
fn both_halves_must_verify() {
    fn check<Signer: Backend, Verifier: Backend>() {
        for algorithm in SIGNATURE_ALGORITHMS.iter().filter(|row| row.composite.is_some()) {
            let split = algorithm.ml_dsa.signature_bytes();
            let sign = |key: &SignaturePrivateKey<Signer>, message: &[u8]| {
                key.sign(message, MessageEncoding::PURE, SigningRandomness::Hedged).unwrap()
            };
            let key = SignaturePrivateKey::<Signer>::generate(algorithm).unwrap();
            let public = SignaturePublicKey::<Verifier>::from_bytes(algorithm, key.public_key()).unwrap();
            let (one, other) = (sign(&key, b"one"), sign(&key, b"other"));
            let verify =
                |message: &[u8], signature: &[u8]| public.verify(message, MessageEncoding::PURE, signature);
            verify(b"one", &one).unwrap();
            let invalid = Err(Error::SignatureInvalid { algorithm: algorithm.name });
            for mixed in
                [[&one[..split], &other[split..]].concat(), [&other[..split], &one[split..]].concat()]
            {
                assert_eq!(verify(b"one", &mixed), invalid, "{}", algorithm.name);
                assert_eq!(verify(b"other", &mixed), invalid, "{}", algorithm.name);
            }
            // A half of a plain ML-DSA signature is none of a composite's, and the other way round.
            let pure = SIGNATURE_ALGORITHMS
                .iter()
                .find(|row| row.composite.is_none() && row.ml_dsa == algorithm.ml_dsa)
                .unwrap();
            let ml_dsa = SignaturePrivateKey::<Signer>::from_seed(pure, &key.seed().unwrap()[..32]).unwrap();
            let stripped = sign(&ml_dsa, b"one");
            assert_eq!(verify(b"one", &[&stripped, &one[split..]].concat()), invalid);
            let alone = SignaturePublicKey::<Verifier>::from_bytes(pure, ml_dsa.public_key()).unwrap();
            let refused = Err(Error::SignatureInvalid { algorithm: pure.name });
            assert_eq!(alone.verify(b"one", MessageEncoding::PURE, &one[..split]), refused);
            for length in [0, split - 1, split, one.len() - 1] {
                assert_eq!(verify(b"one", &one[..length]), invalid, "{} {length}", algorithm.name);
            }
            assert_eq!(verify(b"one", &[&one[..], &[0]].concat()), invalid, "{}", algorithm.name);
        }
    }
    check::<AwsLc, RustCrypto>();
    check::<RustCrypto, AwsLc>();
    check::<AwsLc, AwsLc>();
    check::<RustCrypto, RustCrypto>();
}

#[test]
fn a_private_key_has_one_encoding() {
    fn check<B: Backend>() {
        for name in
            ["id-MLDSA44-ECDSA-P256-SHA256", "id-MLDSA65-ECDSA-P384-SHA512", "id-MLDSA87-ECDSA-P384-SHA512"]
        {
            let algorithm = signature(name);
            let good = SignaturePrivateKey::<B>::generate(algorithm).unwrap().seed().unwrap().to_vec();
            let scalar = 39..39 + if name.contains("P256") { 32 } else { 48 };
            for position in (32..good.len()).filter(|position| !scalar.contains(position)) {
                let mut wrong = good.clone();
                wrong[position] ^= 1;
                let error = SignaturePrivateKey::<B>::from_seed(algorithm, &wrong).unwrap_err();
                assert!(matches!(error, Error::PrivateKeyEncoding { .. }), "{name} {position}: {error}");
            }
            for value in [0, 0xFF] {
                let mut wrong = good.clone();
                wrong[scalar.clone()].fill(value);
                let error = SignaturePrivateKey::<B>::from_seed(algorithm, &wrong).unwrap_err();
                assert!(matches!(error, Error::Scalar { .. }), "{name}: {error}");
            }
        }
    }
    check::<AwsLc>();
    check::<RustCrypto>();
}

#[test]
fn a_public_key_with_a_point_off_the_curve_or_in_another_form_is_refused() {
    fn check<B: Backend>() {
        for algorithm in SIGNATURE_ALGORITHMS.iter().filter(|row| row.composite.is_some()) {
            let good = SignaturePrivateKey::<B>::generate(algorithm).unwrap().public_key().to_vec();
            let begins = algorithm.ml_dsa.public_key_bytes();
            let refused = |bytes: &[u8]| SignaturePublicKey::<B>::from_bytes(algorithm, bytes).unwrap_err();
            let is_point = |error: Error| matches!(error, Error::PublicKeyPoint { .. });
            if algorithm.name.contains("ECDSA") {
                let mut off = good.clone();
                *off.last_mut().unwrap() ^= 1;
                assert!(is_point(refused(&off)), "{}", algorithm.name);
                for form in [0, 2, 3, 5, 6, 7] {
                    let mut wrong = good.clone();
                    wrong[begins] = form;
                    assert!(is_point(refused(&wrong)), "{} {form}", algorithm.name);
                }
            } else {
                let mut not_canonical = good.clone();
                not_canonical[begins..].fill(0xFF);
                assert!(is_point(refused(&not_canonical)), "{}", algorithm.name);
                // Not on the curve: taken or not, nothing verifies.
                let mut off = good.clone();
                off[begins..].copy_from_slice(&bytes(3, 32));
                off[begins + 31] &= 0x3F;
                for first in 0..16 {
                    off[begins] = first;
                    let key = SignaturePublicKey::<B>::from_bytes(algorithm, &off).unwrap();
                    let nothing = vec![0; algorithm.max_signature_bytes()];
                    key.verify(b"", MessageEncoding::PURE, &nothing).unwrap_err();
                }
            }
        }
    }
    check::<AwsLc>();
    check::<RustCrypto>();
}
