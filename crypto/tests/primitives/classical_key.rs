//! RSA and ECDSA keys from files.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _,
    ParsedPublicKey, RsaParameters,
};
use qtls_crypto::{ClassicalPrivateKey, ClassicalPublicKey, Digest, Error, HashFunction, RsaPadding};

const MESSAGE: &[u8] = b"message";

fn digest(function: HashFunction) -> Vec<u8> {
    <Digest>::of(function, MESSAGE).unwrap()
}

fn rsa() -> Vec<u8> {
    KeyPair::generate(KeySize::Rsa2048).unwrap().as_der().unwrap().as_ref().to_vec()
}

#[test]
fn rsa_signs_in_both_paddings_with_every_sha_2_that_tls_has() {
    let key = ClassicalPrivateKey::from_pkcs8_der(&rsa()).unwrap();
    let cases: [(HashFunction, &'static RsaParameters, &'static RsaParameters); 3] = [
        (HashFunction::Sha256, &signature::RSA_PKCS1_2048_8192_SHA256, &signature::RSA_PSS_2048_8192_SHA256),
        (HashFunction::Sha384, &signature::RSA_PKCS1_2048_8192_SHA384, &signature::RSA_PSS_2048_8192_SHA384),
        (HashFunction::Sha512, &signature::RSA_PKCS1_2048_8192_SHA512, &signature::RSA_PSS_2048_8192_SHA512),
    ];
    for (hash, pkcs1, pss) in cases {
        let salt_bytes = hash.output_bytes();
        let paddings =
            [(RsaPadding::Pkcs1 { hash }, pkcs1), (RsaPadding::Pss { hash, mgf1: hash, salt_bytes }, pss)];
        for (padding, algorithm) in paddings {
            let made = key.sign(Some(padding), &digest(hash)).unwrap();
            let public = ParsedPublicKey::new(algorithm, key.public_key_der()).unwrap();
            public.verify_sig(MESSAGE, &made).unwrap();
            assert!(public.verify_sig(b"another", &made).is_err());
            let public = ClassicalPublicKey::from_spki_der(key.public_key_der()).unwrap();
            let verifies = |padding, made: &[u8]| public.verify(Some(padding), &digest(hash), made).unwrap();
            assert!(verifies(padding, &made));
            let [any, other] = [RsaPadding::ANY_SALT, salt_bytes - 1].map(|salt_bytes| match padding {
                RsaPadding::Pss { hash, mgf1, .. } => RsaPadding::Pss { hash, mgf1, salt_bytes },
                pkcs1 => pkcs1,
            });
            assert!(verifies(any, &made));
            assert_eq!(verifies(other, &made), other == padding);
            assert!(!verifies(padding, &made[1..]));
            assert!(
                key.sign(Some(any), &digest(hash)).is_err() || any == padding,
                "nobody signs with any salt"
            );
        }
    }
}

#[test]
fn ecdsa_signs_on_both_curves_and_its_public_key_is_that_of_the_file() {
    let cases = [
        (&ECDSA_P256_SHA256_ASN1_SIGNING, &signature::ECDSA_P256_SHA256_ASN1, HashFunction::Sha256),
        (&ECDSA_P384_SHA384_ASN1_SIGNING, &signature::ECDSA_P384_SHA384_ASN1, HashFunction::Sha384),
    ];
    for (signing, verifying, hash) in cases {
        let pair = EcdsaKeyPair::generate(signing).unwrap();
        let key = ClassicalPrivateKey::from_pkcs8_der(pair.to_pkcs8v1().unwrap().as_ref()).unwrap();
        assert!(key.public_key_der().ends_with(pair.public_key().as_ref()));
        let made = key.sign(None, &digest(hash)).unwrap();
        ParsedPublicKey::new(verifying, key.public_key_der()).unwrap().verify_sig(MESSAGE, &made).unwrap();
        let public = ClassicalPublicKey::from_spki_der(key.public_key_der()).unwrap();
        assert!(public.verify(None, &digest(hash), &made).unwrap());
        assert!(!public.verify(None, &digest(HashFunction::Sha512), &made).unwrap());
        assert!(matches!(
            public.verify(Some(RsaPadding::Pkcs1 { hash }), &digest(hash), &made),
            Err(Error::Unsupported { .. })
        ));
    }
}

#[test]
fn a_key_is_not_asked_for_the_other_kinds_signature() {
    let rsa = ClassicalPrivateKey::from_pkcs8_der(&rsa()).unwrap();
    let ec = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    let ec = ClassicalPrivateKey::from_pkcs8_der(ec.to_pkcs8v1().unwrap().as_ref()).unwrap();
    let (digest, hash) = (digest(HashFunction::Sha256), HashFunction::Sha256);
    assert!(matches!(rsa.sign(None, &digest), Err(Error::Unsupported { .. })));
    assert!(matches!(ec.sign(Some(RsaPadding::Pkcs1 { hash }), &digest), Err(Error::Unsupported { .. })));
    let too_long = RsaPadding::Pss { hash, mgf1: hash, salt_bytes: 256 };
    assert!(matches!(rsa.sign(Some(too_long), &digest), Err(Error::Backend(_))));
    assert!(matches!(rsa.sign(Some(RsaPadding::Pkcs1 { hash }), b"short"), Err(Error::Backend(_))));
}

#[test]
fn what_is_no_such_key_is_refused() {
    let good = rsa();
    let mut cases = vec![Vec::new(), b"nonsense".to_vec(), good[..good.len() - 1].to_vec()];
    cases.push([&good[..], &[0]].concat());
    let mut damaged = good.clone();
    damaged[good.len() / 2] ^= 1;
    cases.push(damaged);
    for der in cases {
        assert!(matches!(ClassicalPrivateKey::from_pkcs8_der(&der), Err(Error::ClassicalKey)));
        assert!(matches!(ClassicalPublicKey::from_spki_der(&der), Err(Error::ClassicalKey)));
    }
}
