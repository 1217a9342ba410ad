//! Key files: what the published ones give, what comes out again, and what is refused with which words.

use crate::common::base64;
use crate::vectors::vectors;
use der::{Reader, SliceReader};
use qtls_crypto::{
    AwsLc, Backend, EncodingProblem, Error, Fault, KeyAlgorithm, PrivateKey, PrivateKeyForm, PublicKey,
    RustCrypto, algorithm_identifier_der, pkcs8_algorithm, spki_algorithm, to_pem,
};
use serde_json::Value;
use std::path::Path;

const FOLDERS: [(&str, [&str; 3]); 2] = [
    ("rfc9881", ["ML-DSA-44", "ML-DSA-65", "ML-DSA-87"]),
    ("rfc9935", ["ML-KEM-512", "ML-KEM-768", "ML-KEM-1024"]),
];

const FORMS: [(&str, PrivateKeyForm); 3] =
    [("seed", PrivateKeyForm::Seed), ("expanded", PrivateKeyForm::Expanded), ("both", PrivateKeyForm::Both)];

const SPKI: &str = "SubjectPublicKeyInfo";
const PKCS8: &str = "PKCS#8 private key";
/// Ed25519's, of no table of ours.
const FOREIGN: [u8; 7] = [0x30, 5, 6, 3, 0x2B, 0x65, 0x70];

fn named(name: &str) -> KeyAlgorithm {
    KeyAlgorithm::by_name(name).expect(name)
}

/// The rows that have key files.
fn with_files() -> impl Iterator<Item = KeyAlgorithm> {
    KeyAlgorithm::all().filter(|algorithm| algorithm.oid().is_some())
}

fn pem_file(file: &Path) -> Vec<u8> {
    let pem = std::fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let (label, der) = pem_rfc7468::decode_vec(&pem).unwrap();
    if label != "CERTIFICATE" {
        // Some of them end without a line feed.
        assert!(to_pem(label, &der).trim_end().as_bytes() == pem.trim_ascii_end(), "{}", file.display());
    }
    der
}

/// The `SubjectPublicKeyInfo` of a certificate (RFC 5280 section 4.1).
fn spki_of(certificate: &[u8]) -> Vec<u8> {
    fn fields(sequence: &[u8]) -> Vec<&[u8]> {
        let mut reader = SliceReader::new(sequence).unwrap();
        let mut inside = SliceReader::new(reader.decode::<der::asn1::AnyRef<'_>>().unwrap().value()).unwrap();
        std::iter::from_fn(|| (!inside.is_finished()).then(|| inside.tlv_bytes().unwrap())).collect()
    }
    // [0] version, serialNumber, signature, issuer, validity, subject.
    fields(fields(certificate)[0])[6].to_vec()
}

/// A DER value, made by other means than the crate's.
fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = match content.len() {
        short @ ..0x80 => vec![short as u8],
        long @ ..0x100 => vec![0x81, long as u8],
        long => vec![0x82, (long >> 8) as u8, long as u8],
    };
    [&[tag][..], &length, &content].concat()
}

fn private<B: Backend>(der: &[u8]) -> Error {
    PrivateKey::<B>::from_pkcs8_der(der).unwrap_err()
}

fn public<B: Backend>(der: &[u8]) -> Error {
    PublicKey::<B>::from_spki_der(der).unwrap_err()
}

fn broken(structure: &'static str, field: &'static str, problem: EncodingProblem) -> Error {
    Error::KeyEncoding { structure, field, problem }
}

#[test]
fn the_examples_of_the_rfcs_give_their_public_key_and_come_out_again_byte_for_byte() {
    fn check<B: Backend>(folder: &Path, name: &str) {
        let spki = pem_file(&folder.join(format!("{name}.pub")));
        assert_eq!(spki_algorithm(&spki), Some(named(name)));
        let public = PublicKey::<B>::from_spki_der(&spki).unwrap();
        assert_eq!(public.to_spki_der().unwrap(), spki);
        for (kind, form) in FORMS {
            let pkcs8 = pem_file(&folder.join(format!("{name}-{kind}.priv")));
            assert_eq!(pkcs8_algorithm(&pkcs8), Some(named(name)));
            let private = PrivateKey::<B>::from_pkcs8_der(&pkcs8).unwrap();
            assert_eq!(private.algorithm(), named(name));
            assert_eq!(private.public_key(), public.as_bytes());
            assert_eq!(*private.to_pkcs8_der(form).unwrap(), pkcs8);
            let preferred = if kind == "expanded" { PrivateKeyForm::Expanded } else { PrivateKeyForm::Seed };
            assert_eq!(
                private.to_pkcs8_der(PrivateKeyForm::Preferred).unwrap(),
                private.to_pkcs8_der(preferred).unwrap()
            );
        }
        let certificate = pem_file(&folder.join(format!("{name}.crt")));
        let certified = PublicKey::<B>::from_spki_der(&spki_of(&certificate)).unwrap();
        assert_eq!(certified.as_bytes(), public.as_bytes());
    }
    for (folder, names) in FOLDERS {
        let Some(folder) = vectors(folder) else { return };
        for name in names {
            check::<AwsLc>(&folder, name);
            check::<RustCrypto>(&folder, name);
        }
    }
}

#[test]
fn the_damaged_examples_of_the_rfcs_are_refused() {
    fn check<B: Backend>(folder: &Path, algorithm: &'static str, expected: &[Error]) {
        for (index, expected) in expected.iter().enumerate() {
            let file = folder.join(format!("bad-{algorithm}-{}.priv", index + 1));
            let der = pem_file(&file);
            assert_eq!(pkcs8_algorithm(&der), Some(named(algorithm)));
            assert_eq!(private::<B>(&der), *expected, "{}", file.display());
        }
    }
    let algorithm = "ML-DSA-44";
    let pair = Error::PrivateKeyPair { algorithm };
    let ml_dsa = [Error::PrivateKeySeedMismatch { algorithm }, pair, pair];
    if let Some(folder) = vectors("rfc9881") {
        check::<AwsLc>(&folder, algorithm, &ml_dsa);
        check::<RustCrypto>(&folder, algorithm, &ml_dsa);
    }
    let algorithm = "ML-KEM-512";
    let mismatch = Error::PrivateKeySeedMismatch { algorithm };
    let ml_kem =
        [mismatch, Error::PrivateKeyPair { algorithm }, Error::PrivateKeyHash { algorithm }, mismatch];
    if let Some(folder) = vectors("rfc9935") {
        check::<AwsLc>(&folder, algorithm, &ml_kem);
        check::<RustCrypto>(&folder, algorithm, &ml_kem);
    }
}

#[test]
fn the_key_files_and_certificates_of_the_composite_draft_are_read_and_written() {
    fn check<B: Backend>(algorithm: KeyAlgorithm, test: &Value) {
        let name = algorithm.name();
        let pkcs8 = base64(test, "sk_pkcs8");
        assert_eq!(pkcs8_algorithm(&pkcs8), Some(algorithm));
        let private = PrivateKey::<B>::from_pkcs8_der(&pkcs8).expect(name);
        assert_eq!(private.public_key(), base64(test, "pk"), "{name}");
        assert_eq!(*private.to_pkcs8_der(PrivateKeyForm::Preferred).unwrap(), pkcs8, "{name}");
        assert_eq!(*private.to_pkcs8_der(PrivateKeyForm::Seed).unwrap(), pkcs8, "{name}");
        let spki = spki_of(&base64(test, "x5c"));
        assert_eq!(spki_algorithm(&spki), Some(algorithm));
        let public = PublicKey::<B>::from_spki_der(&spki).expect(name);
        assert_eq!(public.as_bytes(), private.public_key(), "{name}");
        assert_eq!(public.to_spki_der().unwrap(), spki, "{name}");
    }
    let Some(folder) = vectors("composite") else { return };
    let text = std::fs::read_to_string(folder.join("testvectors.json")).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    let mut found = 0;
    for test in file["tests"].as_array().unwrap() {
        let name = test["tcId"].as_str().unwrap().replace("id-ML-DSA", "ML-DSA");
        if let Some(algorithm) = KeyAlgorithm::all().find(|algorithm| algorithm.name() == name) {
            check::<AwsLc>(algorithm, test);
            check::<RustCrypto>(algorithm, test);
            found += 1;
        }
    }
    assert_eq!(found, qtls_crypto::SIGNATURE_ALGORITHMS.len(), "every signature algorithm has its vectors");
}

#[test]
fn every_key_that_one_backend_writes_the_other_reads_in_every_form() {
    fn check<From: Backend, To: Backend>(algorithm: KeyAlgorithm) {
        let name = algorithm.name();
        let key = PrivateKey::<From>::generate(algorithm).unwrap();
        let public = PublicKey::<From>::from_bytes(algorithm, key.public_key()).unwrap();
        let spki = public.to_spki_der().expect(name);
        let read = PublicKey::<To>::from_spki_der(&spki).expect(name);
        assert_eq!((read.algorithm(), read.as_bytes()), (algorithm, key.public_key()));
        assert_eq!(read.to_spki_der().unwrap(), spki);
        let has_expanded_form = algorithm.private_key_bytes().is_some();
        for (kind, form) in FORMS.into_iter().chain([("preferred", PrivateKeyForm::Preferred)]) {
            let written = key.to_pkcs8_der(form);
            if !has_expanded_form && matches!(form, PrivateKeyForm::Expanded | PrivateKeyForm::Both) {
                let unsupported = Error::Unsupported { algorithm: name, what: "an expanded private key" };
                assert_eq!(written, Err(unsupported));
                continue;
            }
            let written = written.expect(name);
            let read = PrivateKey::<To>::from_pkcs8_der(&written).expect(name);
            assert_eq!((read.algorithm(), read.public_key()), (algorithm, key.public_key()));
            assert_eq!(read.to_pkcs8_der(form).unwrap(), written, "{name} {kind}");
            if form == PrivateKeyForm::Expanded {
                assert_eq!(read.seed(), None);
                let unknown = Err(Error::SeedUnknown { algorithm: name });
                assert_eq!(read.to_pkcs8_der(PrivateKeyForm::Seed), unknown);
                assert_eq!(read.to_pkcs8_der(PrivateKeyForm::Both), unknown);
                assert_eq!(read.to_pkcs8_der(PrivateKeyForm::Preferred).unwrap(), written);
            } else {
                assert_eq!(read.seed(), key.seed());
            }
        }
    }
    for algorithm in with_files() {
        check::<AwsLc, RustCrypto>(algorithm);
        check::<RustCrypto, AwsLc>(algorithm);
    }
    assert_eq!(with_files().count(), 11);
}

#[test]
fn a_hybrid_kem_has_no_key_files_and_the_error_says_why() {
    for algorithm in KeyAlgorithm::all().filter(|algorithm| algorithm.oid().is_none()) {
        let key = <PrivateKey>::generate(algorithm).unwrap();
        let error = key.to_pkcs8_der(PrivateKeyForm::Preferred).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }));
        assert!(error.to_string().contains("no standard gives it an object identifier"), "{error}");
        let public = <PublicKey>::from_bytes(algorithm, key.public_key()).unwrap();
        assert_eq!(public.to_spki_der(), Err(error));
        assert_eq!(algorithm_identifier_der(algorithm), None);
    }
}

#[test]
fn an_algorithm_identifier_is_the_object_identifier_alone() {
    // RFC 9881 section 2 and the composite draft's section 6: 2.16.840.1.101.3.4.3.18, 1.3.6.1.5.5.7.6.45.
    let ml_dsa_65 = [0x30, 0x0B, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, 0x12];
    assert_eq!(algorithm_identifier_der(named("ML-DSA-65")).unwrap(), ml_dsa_65);
    let composite = [0x30, 0x0A, 0x06, 0x08, 0x2B, 0x06, 0x01, 0x05, 0x05, 0x07, 0x06, 0x2D];
    assert_eq!(algorithm_identifier_der(named("id-MLDSA65-ECDSA-P256-SHA512")).unwrap(), composite);
}

#[test]
fn every_truncation_and_every_byte_more_is_refused() {
    fn check<B: Backend>(algorithm: KeyAlgorithm) {
        let key = PrivateKey::<B>::generate(algorithm).unwrap();
        let spki = PublicKey::<B>::from_bytes(algorithm, key.public_key()).unwrap().to_spki_der().unwrap();
        let cut = |structure| broken(structure, "SEQUENCE", EncodingProblem::Truncated);
        let more = |structure| broken(structure, "SEQUENCE", EncodingProblem::TrailingBytes);
        for length in 0..spki.len() {
            assert_eq!(public::<B>(&spki[..length]), cut(SPKI), "{length}");
        }
        for byte in 0..=0xFF {
            assert_eq!(public::<B>(&[&spki[..], &[byte]].concat()), more(SPKI));
        }
        for (_, form) in FORMS {
            let Ok(pkcs8) = key.to_pkcs8_der(form) else { continue };
            for length in 0..pkcs8.len() {
                assert_eq!(private::<B>(&pkcs8[..length]), cut(PKCS8), "{length}");
            }
            for byte in 0..=0xFF {
                assert_eq!(private::<B>(&[&pkcs8[..], &[byte]].concat()), more(PKCS8));
            }
        }
    }
    for algorithm in with_files() {
        check::<AwsLc>(algorithm);
        check::<RustCrypto>(algorithm);
    }
}

#[test]
fn a_public_key_in_any_other_encoding_is_refused_with_the_reason() {
    fn check<B: Backend>(algorithm: KeyAlgorithm) {
        let name = algorithm.name();
        let key = PrivateKey::<B>::generate(algorithm).unwrap();
        let key = key.public_key();
        let id = algorithm_identifier_der(algorithm).unwrap();
        let oid = &id[2..];
        let bits = |unused: u8, bytes: &[u8]| tlv(3, &[&[unused], bytes]);
        let good = tlv(0x30, &[&id, &bits(0, key)]);
        assert_eq!(PublicKey::<B>::from_spki_der(&good).unwrap().to_spki_der().unwrap(), good);
        let refused = |parts: &[&[u8]]| {
            let der = tlv(0x30, parts);
            assert_eq!(spki_algorithm(&der), Some(algorithm), "ours, so that the error is told");
            public::<B>(&der)
        };
        let null = Error::KeyParameters { algorithm: name, null: true };
        assert_eq!(refused(&[&tlv(0x30, &[oid, &[5, 0]]), &bits(0, key)]), null);
        assert!(null.to_string().contains("NULL"));
        let other = Error::KeyParameters { algorithm: name, null: false };
        assert_eq!(refused(&[&tlv(0x30, &[oid, &[4, 0]]), &bits(0, key)]), other);

        let subject = |problem| broken(SPKI, "subjectPublicKey", problem);
        let last_bits = [&key[..key.len() - 1], &[key[key.len() - 1] & 0xFE]].concat();
        assert_eq!(refused(&[&id, &bits(1, &last_bits)]), subject(EncodingProblem::UnusedBits));
        assert_eq!(refused(&[&id, &bits(8, key)]), subject(EncodingProblem::NotDer));
        assert_eq!(refused(&[&id, &tlv(3, &[])]), subject(EncodingProblem::NotDer));
        assert_eq!(refused(&[&id]), subject(EncodingProblem::Truncated));
        assert_eq!(refused(&[&id, &tlv(4, &[key])]), subject(EncodingProblem::Tag));
        // BIT STRING in BER's constructed form (X.690 section 8.6.3).
        assert_eq!(refused(&[&id, &tlv(0x23, &[&bits(0, key)])]), subject(EncodingProblem::Tag));
        let tail = subject(EncodingProblem::TrailingBytes);
        assert_eq!(refused(&[&id, &bits(0, key), &[5, 0]]), tail);
        // A length in more bytes than it needs (X.690 section 10.1), and an indefinite one.
        let content = [&[0], key].concat();
        let long = [&[3, 0x83, 0], &(content.len() as u16).to_be_bytes()[..], &content].concat();
        assert_eq!(refused(&[&id, &long]), subject(EncodingProblem::NotDer));
        let indefinite = [&[3, 0x80], &content[..], &[0, 0]].concat();
        assert_eq!(refused(&[&id, &indefinite]), subject(EncodingProblem::NotDer));
        // A length that reaches out of the SEQUENCE.
        let mut out = bits(0, key);
        out.pop();
        assert_eq!(refused(&[&id, &out]), subject(EncodingProblem::Truncated));

        let expected = algorithm.public_key_bytes();
        for (wrong, got) in [(&key[1..], expected - 1), (&[key, &[0]].concat()[..], expected + 1), (&[], 0)] {
            let length = Error::PublicKeyLength { algorithm: name, expected, got };
            assert_eq!(refused(&[&id, &bits(0, wrong)]), length);
        }
        let sequence = broken(SPKI, "SEQUENCE", EncodingProblem::Tag);
        assert_eq!(public::<B>(&tlv(0x31, &[&id, &bits(0, key)])), sequence);
        let foreign = Error::KeyAlgorithmUnknown { structure: SPKI };
        assert_eq!(public::<B>(&tlv(0x30, &[&FOREIGN, &bits(0, key)])), foreign);
        let identifier = |problem| broken(SPKI, "algorithm", problem);
        assert_eq!(
            public::<B>(&tlv(0x30, &[oid, &bits(0, key)])),
            identifier(EncodingProblem::Tag),
            "no SEQUENCE around the object identifier"
        );
        assert_eq!(
            public::<B>(&tlv(0x30, &[&tlv(0x30, &[]), &bits(0, key)])),
            identifier(EncodingProblem::Truncated)
        );
    }
    for algorithm in with_files() {
        check::<AwsLc>(algorithm);
        check::<RustCrypto>(algorithm);
    }
}

#[test]
fn a_private_key_in_any_other_encoding_is_refused_with_the_reason() {
    fn check<B: Backend>(algorithm: KeyAlgorithm) {
        let name = algorithm.name();
        let key = PrivateKey::<B>::generate(algorithm).unwrap();
        let good = key.to_pkcs8_der(PrivateKeyForm::Preferred).unwrap();
        let id = &algorithm_identifier_der(algorithm).unwrap()[..];
        let oid = &id[2..];
        let (zero, one) = (&[2, 1, 0][..], &[2, 1, 1][..]);
        let composite = algorithm.private_key_bytes().is_none();
        let seed = key.seed().unwrap();
        let content = if composite { seed.to_vec() } else { tlv(0x80, &[seed]) };
        let octets = &tlv(4, &[&content])[..];
        assert_eq!(*good, tlv(0x30, &[zero, id, octets]));

        let accepted = |parts: &[&[u8]]| {
            let read = PrivateKey::<B>::from_pkcs8_der(&tlv(0x30, parts)).unwrap();
            // What is written is always the same, whatever stood beside the key.
            assert_eq!(read.to_pkcs8_der(PrivateKeyForm::Preferred).unwrap(), good);
        };
        let refused = |parts: &[&[u8]]| {
            let der = tlv(0x30, parts);
            assert_eq!(pkcs8_algorithm(&der), Some(algorithm), "ours, so that the error is told");
            private::<B>(&der)
        };

        // RFC 5958: attributes with either version, a public key with version 1.
        let friendly_name = [
            0x30, 0x13, 0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x09, 0x14, 0x31, 0x06, 0x1E,
            4, 0, b'm', 0, b'e',
        ];
        let attributes = &tlv(0xA0, &[&friendly_name])[..];
        let public_key = &tlv(0x81, &[&[0], key.public_key()])[..];
        accepted(&[one, id, octets]);
        accepted(&[zero, id, octets, attributes]);
        accepted(&[zero, id, octets, &tlv(0xA0, &[])]);
        accepted(&[one, id, octets, attributes]);
        accepted(&[one, id, octets, public_key]);
        accepted(&[one, id, octets, attributes, public_key]);
        let version = Error::KeyVersion { algorithm: name };
        assert_eq!(refused(&[zero, id, octets, public_key]), version);
        assert_eq!(refused(&[&[2, 1, 2], id, octets]), version);
        assert_eq!(refused(&[&[2, 1, 0xFF], id, octets]), version);
        let tail = broken(PKCS8, "privateKey", EncodingProblem::TrailingBytes);
        assert_eq!(refused(&[one, id, octets, public_key, attributes]), tail);
        assert_eq!(refused(&[one, id, octets, public_key, public_key]), tail);
        assert_eq!(refused(&[zero, id, octets, &[5, 0]]), tail);
        assert_eq!(refused(&[one, id, octets, &tlv(0xA1, &[&tlv(3, &[&[0], key.public_key()])])]), tail);

        let other = PrivateKey::<B>::generate(algorithm).unwrap();
        let mismatch = Error::PublicKeyMismatch { algorithm: name };
        assert_eq!(refused(&[one, id, octets, &tlv(0x81, &[&[0], other.public_key()])]), mismatch);
        assert_eq!(refused(&[one, id, octets, &tlv(0x81, &[&[0], &key.public_key()[1..]])]), mismatch);
        let unused = broken(PKCS8, "publicKey", EncodingProblem::UnusedBits);
        assert_eq!(refused(&[one, id, octets, &tlv(0x81, &[&[1], key.public_key()])]), unused);
        let empty = broken(PKCS8, "publicKey", EncodingProblem::NotDer);
        assert_eq!(refused(&[one, id, octets, &tlv(0x81, &[])]), empty);
        let attribute = |problem| broken(PKCS8, "attributes", problem);
        let damaged = [
            (&friendly_name[..20], EncodingProblem::Truncated),
            (&[5, 0][..], EncodingProblem::Tag),
            (&[0x30, 0][..], EncodingProblem::Truncated),
        ];
        for (wrong, problem) in damaged {
            assert_eq!(refused(&[zero, id, octets, &tlv(0xA0, &[wrong])]), attribute(problem));
        }

        let null = Error::KeyParameters { algorithm: name, null: true };
        assert_eq!(refused(&[zero, &tlv(0x30, &[oid, &[5, 0]]), octets]), null);
        let parameters = Error::KeyParameters { algorithm: name, null: false };
        assert_eq!(refused(&[zero, &tlv(0x30, &[oid, oid]), octets]), parameters);
        let field = |problem| broken(PKCS8, "privateKey", problem);
        assert_eq!(refused(&[zero, id]), field(EncodingProblem::Truncated));
        assert_eq!(refused(&[zero, id, &tlv(3, &[&[0], &content])]), field(EncodingProblem::Tag));
        // OCTET STRING in BER's constructed form (X.690 section 8.7.3).
        assert_eq!(refused(&[zero, id, &tlv(0x24, &[octets])]), field(EncodingProblem::Tag));
        let long = [&[4, 0x83, 0], &(content.len() as u16).to_be_bytes()[..], &content].concat();
        assert_eq!(refused(&[zero, id, &long]), field(EncodingProblem::NotDer));

        let sequence = broken(PKCS8, "SEQUENCE", EncodingProblem::Tag);
        assert_eq!(private::<B>(&tlv(0x31, &[zero, id, octets])), sequence);
        let version = broken(PKCS8, "version", EncodingProblem::Tag);
        assert_eq!(private::<B>(&tlv(0x30, &[id, octets])), version);
        let foreign = Error::KeyAlgorithmUnknown { structure: PKCS8 };
        assert_eq!(private::<B>(&tlv(0x30, &[zero, &FOREIGN, octets])), foreign);
        let long_version = Error::KeyVersion { algorithm: name };
        assert_eq!(private::<B>(&tlv(0x30, &[&[2, 2, 0, 0], id, octets])), long_version);
    }
    for algorithm in with_files() {
        check::<AwsLc>(algorithm);
        check::<RustCrypto>(algorithm);
    }
}

#[test]
fn the_form_of_a_private_key_is_told_by_its_tag_and_never_by_its_length() {
    fn check<B: Backend>(algorithm: KeyAlgorithm) {
        let name = algorithm.name();
        let Some(expanded_bytes) = algorithm.private_key_bytes() else { return };
        let key = PrivateKey::<B>::generate(algorithm).unwrap();
        let (seed, expanded) = (key.seed().unwrap(), key.to_bytes().unwrap().unwrap());
        let id = algorithm_identifier_der(algorithm).unwrap();
        let refused = |content: &[u8]| private::<B>(&tlv(0x30, &[&[2, 1, 0], &id, &tlv(4, &[content])]));
        let both = |seed: &[u8], expanded: &[u8]| tlv(0x30, &[&tlv(4, &[seed]), &tlv(4, &[expanded])]);

        let seed_length = |got| Error::SeedLength { algorithm: name, expected: algorithm.seed_bytes(), got };
        let expanded_length =
            |got| Error::PrivateKeyLength { algorithm: name, expected: expanded_bytes, got };
        assert_eq!(refused(&tlv(0x80, &[&expanded])), seed_length(expanded_bytes));
        assert_eq!(refused(&tlv(4, &[seed])), expanded_length(seed.len()));
        assert_eq!(refused(&tlv(0x80, &[&seed[1..]])), seed_length(seed.len() - 1));
        assert_eq!(refused(&tlv(0x80, &[seed, &[0]])), seed_length(seed.len() + 1));
        assert_eq!(refused(&tlv(0x80, &[])), seed_length(0));
        assert_eq!(refused(&tlv(4, &[&expanded[1..]])), expanded_length(expanded_bytes - 1));
        assert_eq!(refused(&both(&seed[1..], &expanded)), seed_length(seed.len() - 1));
        assert_eq!(refused(&both(seed, &expanded[1..])), expanded_length(expanded_bytes - 1));
        // OpenSSL's `bare-seed` and `bare-priv`: no tag at all; here one that is none of the three.
        let choice = Error::PrivateKeyChoice { algorithm: name };
        for first in (0..=0xFF).filter(|tag| ![0x80, 4, 0x30].contains(tag)) {
            assert_eq!(refused(&[&[first], &seed[1..]].concat()), choice, "{first}");
            assert_eq!(refused(&[&[first], &expanded[1..]].concat()), choice, "{first}");
        }
        assert_eq!(refused(&[]), choice);
        // The key pair that oqs-provider writes, OpenSSL's `oqskeypair`.
        assert_eq!(refused(&tlv(4, &[&expanded, key.public_key()])), choice);
        // [0] EXPLICIT in place of IMPLICIT.
        assert_eq!(refused(&tlv(0xA0, &[&tlv(4, &[seed])])), choice);

        let content = |problem| broken(PKCS8, "content of privateKey", problem);
        for good in [tlv(0x80, &[seed]), tlv(4, &[&expanded]), both(seed, &expanded)] {
            let more = [&good[..], &[0]].concat();
            assert_eq!(refused(&more), content(EncodingProblem::TrailingBytes));
            let less = &good[..good.len() - 1];
            assert_eq!(refused(less), content(EncodingProblem::Truncated));
        }
        let part = |field, problem| broken(PKCS8, field, problem);
        let (seed_octets, expanded_octets) = (&tlv(4, &[seed])[..], &tlv(4, &[&expanded])[..]);
        assert_eq!(
            refused(&tlv(0x30, &[&tlv(0x80, &[seed]), expanded_octets])),
            part("seed", EncodingProblem::Tag)
        );
        assert_eq!(refused(&tlv(0x30, &[])), part("seed", EncodingProblem::Truncated));
        assert_eq!(refused(&tlv(0x30, &[seed_octets])), part("expandedKey", EncodingProblem::Truncated));
        assert_eq!(
            refused(&tlv(0x30, &[seed_octets, &tlv(0x24, &[expanded_octets])])),
            part("expandedKey", EncodingProblem::Tag)
        );
        assert_eq!(
            refused(&tlv(0x30, &[seed_octets, expanded_octets, &[5, 0]])),
            part("expandedKey", EncodingProblem::TrailingBytes)
        );
        assert_eq!(refused(&tlv(0x30, &[expanded_octets, seed_octets])), expanded_length(seed.len()));

        // Two good keys, and one bit anywhere.
        let mismatch = Error::PrivateKeySeedMismatch { algorithm: name };
        let other = PrivateKey::<B>::generate(algorithm).unwrap();
        assert_eq!(refused(&both(other.seed().unwrap(), &expanded)), mismatch);
        for position in [0, 32, 64, expanded_bytes / 2, expanded_bytes - 1] {
            let mut altered = expanded.to_vec();
            altered[position] ^= 1;
            assert_eq!(refused(&both(seed, &altered)), mismatch, "{position}");
        }
    }
    for algorithm in with_files() {
        check::<AwsLc>(algorithm);
        check::<RustCrypto>(algorithm);
    }
}

#[test]
fn a_composite_private_key_stands_without_asn1_around_it() {
    fn check<B: Backend>(algorithm: KeyAlgorithm) {
        let name = algorithm.name();
        let key = PrivateKey::<B>::generate(algorithm).unwrap();
        let seed = key.seed().unwrap();
        let id = algorithm_identifier_der(algorithm).unwrap();
        let refused = |content: &[u8]| private::<B>(&tlv(0x30, &[&[2, 1, 0], &id, &tlv(4, &[content])]));
        for wrong in [
            tlv(0x80, &[seed]),
            tlv(4, &[seed]),
            tlv(0x30, &[&tlv(4, &[&seed[..32]]), &tlv(4, &[&seed[32..]])]),
            seed[..32].to_vec(),
            seed[1..].to_vec(),
        ] {
            let length =
                Error::SeedLength { algorithm: name, expected: algorithm.seed_bytes(), got: wrong.len() };
            assert_eq!(refused(&wrong), length);
        }
    }
    for algorithm in with_files().filter(|algorithm| algorithm.private_key_bytes().is_none()) {
        check::<AwsLc>(algorithm);
        check::<RustCrypto>(algorithm);
    }
}

#[test]
fn the_keys_of_others_are_passed_over() {
    let foreign_spki = tlv(0x30, &[&FOREIGN, &tlv(3, &[&[0; 33]])]);
    let foreign_pkcs8 = tlv(0x30, &[&[2, 1, 0], &FOREIGN, &tlv(4, &[&[0; 34]])]);
    let key = <PrivateKey>::generate(named("ML-DSA-44")).unwrap();
    let pkcs8 = key.to_pkcs8_der(PrivateKeyForm::Preferred).unwrap();
    let spki = <PublicKey>::from_bytes(key.algorithm(), key.public_key()).unwrap().to_spki_der().unwrap();
    // Something that holds a key of ours further in, as a certificate does.
    let around = tlv(0x30, &[&tlv(0x30, &[&[0xA0, 3, 2, 1, 2], &[2, 1, 1], &spki])]);
    for der in [&foreign_spki, &foreign_pkcs8, &around, &b"-----BEGIN".to_vec(), &vec![], &vec![0x30; 9]] {
        assert_eq!(spki_algorithm(der), None);
        assert_eq!(pkcs8_algorithm(der), None);
    }
    assert_eq!(spki_algorithm(&pkcs8), None);
    assert_eq!(pkcs8_algorithm(&spki), None);
    for length in 0..22 {
        spki_algorithm(&spki[..length]);
        pkcs8_algorithm(&pkcs8[..length]);
    }
}

#[test]
fn an_encoding_is_the_callers_fault_and_the_error_says_what_and_where() {
    let error = broken(PKCS8, "version", EncodingProblem::Tag);
    assert_eq!(error.fault(), Fault::Caller);
    assert_eq!(
        error.to_string(),
        "the PKCS#8 private key cannot be read: its version has another ASN.1 type than the standard gives it: the data \
         are damaged or something else"
    );
    let algorithm = "ML-DSA-44";
    for error in [
        Error::KeyAlgorithmUnknown { structure: PKCS8 },
        Error::KeyParameters { algorithm, null: true },
        Error::KeyVersion { algorithm },
        Error::PrivateKeyChoice { algorithm },
        Error::PrivateKeySeedMismatch { algorithm },
        Error::PublicKeyMismatch { algorithm },
        Error::SeedUnknown { algorithm },
        Error::CipherUnknown,
    ] {
        assert_eq!(error.fault(), Fault::Caller, "{error}");
    }
}

#[test]
fn pem_has_lines_of_64_characters() {
    assert_eq!(*to_pem("X", &[]), "-----BEGIN X-----\n-----END X-----\n");
    for length in [1, 2, 3, 47, 48, 49, 95, 96, 97, 5000] {
        let der: Vec<u8> = (0..length).map(|position| position as u8).collect();
        let pem = to_pem("PRIVATE KEY", &der);
        let expected = pem_rfc7468::encode_string("PRIVATE KEY", pem_rfc7468::LineEnding::LF, &der).unwrap();
        assert_eq!(*pem, expected);
    }
}
