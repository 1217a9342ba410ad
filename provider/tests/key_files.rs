//! Key files through the encoders and decoders of the host's libcrypto, as programs read and write them.

mod common;
#[path = "../../crypto/tests/primitives/vectors.rs"]
mod vectors;

use common::openssl::{Context, Errors, File, KEY_PAIR, Key, PUBLIC, Param, from_pem};
use common::with_provider;
use qtls_crypto::{
    KEM_ALGORITHMS, KeyAlgorithm, PrivateKey, PrivateKeyForm, PublicKey, algorithm_identifier_der, to_pem,
};
use std::path::PathBuf;
use vectors::vectors;

const ARGUMENT: &str = "invalid argument";
const FILE: &str = "invalid key file";
const MISSING: &str = "the key lacks the part that this operation needs";
const PRIVATE_KEY: &str = "invalid private key";

const MESSAGE: &[u8] = b"message";

/// Runs `rule` for each algorithm that has key files, in one context.
fn for_each_algorithm(rule: impl Fn(&Context, KeyAlgorithm)) {
    let context = with_provider("");
    for algorithm in KeyAlgorithm::all().filter(|algorithm| algorithm.oid().is_some()) {
        rule(&context, algorithm);
    }
}

/// The published examples that are right: folder and algorithm.
const EXAMPLES: [(&str, &str); 6] = [
    ("rfc9881", "ML-DSA-44"),
    ("rfc9881", "ML-DSA-65"),
    ("rfc9881", "ML-DSA-87"),
    ("rfc9935", "ML-KEM-512"),
    ("rfc9935", "ML-KEM-768"),
    ("rfc9935", "ML-KEM-1024"),
];

fn read(file: PathBuf) -> Vec<u8> {
    std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// Holds that exactly one error of ours says why.
#[track_caller]
fn refused<T>(case: &str, result: Result<T, Errors>, reasons: &[&str], parts: &[&str]) {
    match result {
        Ok(_) => panic!("{case}: accepted, though {reasons:?} ({parts:?}) was expected"),
        Err(errors) => assert!(
            reasons.iter().any(|reason| errors.says(reason, parts)) && errors.ours().len() == 1,
            "{case}: expected {reasons:?} with {parts:?} and nothing else of ours, the queue holds: {errors}"
        ),
    }
}

/// What a program may do to read a private key, in PEM and in DER. `d2i_AutoPrivateKey` is another: it asks each decoder
/// several times.
fn private_readers<'a>(context: &'a Context, der: &[u8]) -> [Result<Key<'a>, Errors>; 4] {
    let pem = to_pem("PRIVATE KEY", der);
    [
        context.decode(der, None),
        context.decode(pem.as_bytes(), None),
        context.decode_as(der, Some(c"DER"), KEY_PAIR, None),
        context.read_private_pem(pem.as_bytes()),
    ]
}

/// Holds that every way to read a private key ends in one error of ours, or in the same one several times.
#[track_caller]
fn refused_by_all(case: &str, context: &Context, der: &[u8], parts: &[&str]) {
    for result in private_readers(context, der) {
        refused(case, result, &[FILE, PRIVATE_KEY], parts);
    }
    let errors = context.read_private_der(der).err().unwrap_or_else(|| panic!("{case}: accepted"));
    let ours = errors.ours();
    assert!(!ours.is_empty() && ours.iter().all(|error| error.data == ours[0].data), "{case}: {errors}");
}

/// What a program may do to read a public key whose reason for a refusal reaches the error queue.
fn public_readers<'a>(context: &'a Context, der: &[u8]) -> [Result<Key<'a>, Errors>; 3] {
    let pem = to_pem("PUBLIC KEY", der);
    [
        context.decode(der, None),
        context.decode(pem.as_bytes(), None),
        context.decode_as(der, Some(c"DER"), PUBLIC, None),
    ]
}

/// A pair of ours, known to the test.
fn new_key(algorithm: KeyAlgorithm) -> PrivateKey {
    PrivateKey::generate(algorithm).unwrap()
}

#[test]
fn every_form_of_the_rfcs_examples_is_read_as_the_same_key() {
    let context = with_provider("");
    for (folder, name) in EXAMPLES {
        let Some(folder) = vectors(folder) else { return };
        let public = read(folder.join(format!("{name}.pub")));
        let public = context.read_public_pem(&public).unwrap_or_else(|errors| panic!("{name}: {errors}"));
        assert!(public.is_a(name) && public.provider() == "qtls", "{name}");
        for form in ["seed", "expanded", "both"] {
            let pem = read(folder.join(format!("{name}-{form}.priv")));
            let (label, der) = from_pem(&pem);
            assert_eq!(label, "PRIVATE KEY");
            for key in private_readers(&context, &der).into_iter().chain([context.read_private_der(&der)]) {
                let key = key.unwrap_or_else(|errors| panic!("{name}-{form}: {errors}"));
                assert_eq!(key.equals(&public), 1, "{name}-{form}");
                assert!(key.is_a(name) && key.provider() == "qtls", "{name}-{form}");
                assert_eq!(key.octets(c"seed", 64).is_ok(), form != "expanded", "{name}-{form}");
            }
        }
    }
}

#[test]
fn the_rfcs_certificates_hold_the_keys_of_their_examples_and_verify() {
    let context = with_provider("");
    let (Some(signatures), Some(kems)) = (vectors("rfc9881"), vectors("rfc9935")) else { return };
    for (index, (folder, name)) in EXAMPLES.into_iter().enumerate() {
        let folder = if folder == "rfc9935" { &kems } else { &signatures };
        let public = context.read_public_pem(&read(folder.join(format!("{name}.pub")))).unwrap();
        // RFC 9935's are issued by RFC 9881's keys of the same strength, and those by themselves.
        let issuer = read(signatures.join(format!("{}.pub", EXAMPLES[index % 3].1)));
        let issuer = context.read_public_pem(&issuer).unwrap();
        let certificate = read(folder.join(format!("{name}.crt")));
        let key = context.certified(&certificate, &issuer);
        let key = key.unwrap_or_else(|errors| panic!("{name}: {errors}"));
        assert_eq!((key.equals(&public), key.provider().as_str()), (1, "qtls"), "{name}");
    }
    let other = context.generate("ML-DSA-65").unwrap();
    let certificate = read(signatures.join("ML-DSA-65.crt"));
    assert!(context.certified(&certificate, &other).is_err(), "another key verifies nothing");
}

#[test]
fn the_rfcs_bad_examples_are_refused_each_with_one_error() {
    let context = with_provider("");
    for (folder, prefix) in [("rfc9881", "bad-ML-DSA-44"), ("rfc9935", "bad-ML-KEM-512")] {
        let Some(folder) = vectors(folder) else { return };
        let mut seen = 0;
        for number in 1..10 {
            let file = folder.join(format!("{prefix}-{number}.priv"));
            if !file.exists() {
                continue;
            }
            seen += 1;
            let (_, der) = from_pem(&read(file));
            let name = prefix.strip_prefix("bad-").unwrap();
            refused_by_all(&format!("{prefix}-{number}"), &context, &der, &[name]);
        }
        assert!(seen >= 3, "{prefix}");
    }
}

fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = u16::try_from(content.len()).unwrap();
    let header = match length {
        0..=0x7F => vec![tag, length as u8],
        0x80..=0xFF => vec![tag, 0x81, length as u8],
        _ => [&[tag, 0x82], &length.to_be_bytes()[..]].concat(),
    };
    [header, content].concat()
}

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const UTF8_STRING: u8 = 0x0C;
const NULL: &[u8] = &[0x05, 0x00];
const SEQUENCE: u8 = 0x30;
const SEED: u8 = 0x80;

/// The identifier with something behind the object identifier.
fn with_parameters(algorithm: KeyAlgorithm, parameters: &[u8]) -> Vec<u8> {
    let identifier = algorithm_identifier_der(algorithm).unwrap();
    tlv(SEQUENCE, &[&identifier[2..], parameters])
}

fn private_key_info(version: u8, identifier: &[u8], content: &[u8], more: &[u8]) -> Vec<u8> {
    tlv(SEQUENCE, &[&tlv(INTEGER, &[&[version]]), identifier, &tlv(OCTET_STRING, &[content]), more])
}

/// A private key's `privateKey` as the algorithm has it.
fn content_of(key: &PrivateKey) -> Vec<u8> {
    let seed = key.seed().unwrap();
    if key.algorithm().private_key_bytes().is_some() { tlv(SEED, &[seed]) } else { seed.to_vec() }
}

#[test]
fn a_private_key_file_that_is_not_as_its_standard_says_is_refused_with_one_error() {
    for_each_algorithm(|context, algorithm| {
        let name = algorithm.name();
        let (key, other) = (new_key(algorithm), new_key(algorithm));
        let identifier = algorithm_identifier_der(algorithm).unwrap();
        let content = content_of(&key);
        let right = private_key_info(0, &identifier, &content, &[]);
        for read in private_readers(context, &right) {
            let read = read.unwrap_or_else(|errors| panic!("{name}: {errors}"));
            assert_eq!(read.octets(c"pub", 4096).unwrap(), key.public_key(), "{name}");
        }

        let bit_string = |key: &PrivateKey| tlv(0x81, &[&[0], key.public_key()]);
        let mut wrong = vec![
            ("NULL parameters", private_key_info(0, &with_parameters(algorithm, NULL), &content, &[])),
            ("parameters", private_key_info(0, &with_parameters(algorithm, &[0x30, 0]), &content, &[])),
            ("version 2", private_key_info(2, &identifier, &content, &[])),
            ("a public key in version 0", private_key_info(0, &identifier, &content, &bit_string(&key))),
            ("another's public key", private_key_info(1, &identifier, &content, &bit_string(&other))),
            ("something behind the key", private_key_info(0, &identifier, &content, NULL)),
            ("an empty key", private_key_info(0, &identifier, &[], &[])),
            ("a key that is cut short", private_key_info(0, &identifier, &content[..content.len() - 1], &[])),
            ("a key with a byte more", private_key_info(0, &identifier, &[&content[..], &[0]].concat(), &[])),
        ];
        if let (Some(_), Some(expanded)) = (algorithm.private_key_bytes(), key.to_bytes().unwrap()) {
            let seed = key.seed().unwrap();
            let both = |seed: &[u8], expanded: &[u8]| {
                let parts = [tlv(OCTET_STRING, &[seed]), tlv(OCTET_STRING, &[expanded])];
                private_key_info(0, &identifier, &tlv(SEQUENCE, &[&parts[0], &parts[1]]), &[])
            };
            let one = |tag, bytes: &[u8]| private_key_info(0, &identifier, &tlv(tag, &[bytes]), &[]);
            for right in [both(seed, &expanded), one(OCTET_STRING, &expanded)] {
                context.decode(&right, None).unwrap_or_else(|errors| panic!("{name}: {errors}"));
            }
            wrong.extend([
                ("the wrong tag", one(0x81, seed)),
                ("a seed where the expanded key belongs", one(OCTET_STRING, seed)),
                ("an expanded key where the seed belongs", one(SEED, &expanded)),
                ("a seed without its tag", private_key_info(0, &identifier, seed, &[])),
                ("a seed that is too short", one(SEED, &seed[1..])),
                ("a seed that is too long", one(SEED, &[seed, &[0]].concat())),
                ("an expanded key that is too short", one(OCTET_STRING, &expanded[1..])),
                ("the seed of another key", both(other.seed().unwrap(), &expanded)),
                ("the expanded form of another key", both(seed, &other.to_bytes().unwrap().unwrap())),
                ("a seed alone in a sequence", {
                    private_key_info(0, &identifier, &tlv(SEQUENCE, &[&tlv(OCTET_STRING, &[seed])]), &[])
                }),
            ]);
        }
        for (case, der) in wrong {
            refused_by_all(&format!("{name}, {case}"), context, &der, &[]);
        }
    });
}

#[test]
fn a_public_key_file_that_is_not_as_its_standard_says_is_refused_with_one_error() {
    for_each_algorithm(|context, algorithm| {
        let name = algorithm.name();
        let key = new_key(algorithm);
        let identifier = algorithm_identifier_der(algorithm).unwrap();
        let public = key.public_key();
        let info = |identifier: &[u8], tag, unused: u8, key: &[u8], more: &[u8]| {
            tlv(SEQUENCE, &[identifier, &tlv(tag, &[&[unused], key]), more])
        };
        let right = info(&identifier, BIT_STRING, 0, public, &[]);
        let pem = to_pem("PUBLIC KEY", &right);
        for read in public_readers(context, &right)
            .into_iter()
            .chain([context.read_public_der(&right), context.read_public_pem(pem.as_bytes())])
        {
            let read = read.unwrap_or_else(|errors| panic!("{name}: {errors}"));
            assert_eq!(read.octets(c"pub", 4096).unwrap(), public, "{name}");
        }
        let wrong = [
            ("NULL parameters", info(&with_parameters(algorithm, NULL), BIT_STRING, 0, public, &[])),
            // An OCTET STRING would make it an EncryptedPrivateKeyInfo to OpenSSL.
            ("another tag", info(&identifier, UTF8_STRING, 0, public, &[])),
            ("unused bits", info(&identifier, BIT_STRING, 1, public, &[])),
            ("too short", info(&identifier, BIT_STRING, 0, &public[1..], &[])),
            ("too long", info(&identifier, BIT_STRING, 0, &[public, &[0]].concat(), &[])),
            ("empty", info(&identifier, BIT_STRING, 0, &[], &[])),
            ("something behind the key", info(&identifier, BIT_STRING, 0, public, NULL)),
        ];
        for (case, der) in wrong {
            for result in public_readers(context, &der) {
                let reasons = [FILE, "invalid key share or ciphertext from the peer"];
                refused(&format!("{name}, {case}"), result, &reasons, &[]);
            }
            assert!(context.read_public_der(&der).is_err(), "{name}, {case}");
            assert!(
                context.read_public_pem(to_pem("PUBLIC KEY", &der).as_bytes()).is_err(),
                "{name}, {case}"
            );
        }
    });
}

#[test]
fn a_file_that_ends_early_is_refused_wherever_it_ends() {
    for_each_algorithm(|context, algorithm| {
        let key = new_key(algorithm);
        let private = key.to_pkcs8_der(PrivateKeyForm::Preferred).unwrap();
        let public = PublicKey::<qtls_crypto::DefaultBackend>::from_bytes(algorithm, key.public_key());
        let public = public.unwrap().to_spki_der().unwrap();
        for der in [&private[..], &public] {
            // Every place in the headers, and some in the key.
            for length in (0..40).chain([der.len() / 2, der.len() - 1]) {
                let result = context.decode(&der[..length.min(der.len() - 1)], None);
                let errors = result.err().unwrap_or_else(|| panic!("{}: {length}", algorithm.name()));
                assert!(!errors.0.is_empty() && errors.ours().len() <= 1, "{}: {errors}", algorithm.name());
                // From where it says whose key it is, it is ours to refuse.
                if length >= 30 {
                    let says = errors.says(FILE, &["cut short"]) && errors.ours().len() == 1;
                    assert!(says, "{}, {length} bytes: {errors}", algorithm.name());
                }
            }
        }
    });
}

#[test]
fn what_is_written_is_what_the_crypto_crate_writes_and_is_read_again() {
    for_each_algorithm(|context, algorithm| {
        let name = algorithm.name();
        let inside = new_key(algorithm);
        let seed = Param::Octets(c"seed", inside.seed().unwrap());
        let key = context.generate_with(name, &[seed]).unwrap();
        let private = inside.to_pkcs8_der(PrivateKeyForm::Preferred).unwrap();
        assert_eq!(key.encode(File::private(c"DER")).unwrap(), *private, "{name}");
        assert_eq!(key.encode(File::private(c"PEM")).unwrap(), to_pem("PRIVATE KEY", &private).as_bytes());

        let public = PublicKey::<qtls_crypto::DefaultBackend>::from_bytes(algorithm, inside.public_key());
        let public = public.unwrap().to_spki_der().unwrap();
        assert_eq!(key.encode(File::public(c"DER")).unwrap(), public, "{name}");
        let pem = key.encode(File::public(c"PEM")).unwrap();
        assert_eq!(pem, to_pem("PUBLIC KEY", &public).as_bytes(), "{name}");

        for file in [File::private(c"DER"), File::private(c"PEM"), File::public(c"DER"), File::public(c"PEM")]
        {
            let again = context.decode(&key.encode(file).unwrap(), None).unwrap();
            assert_eq!((again.equals(&key), again.provider().as_str()), (1, "qtls"), "{name}");
            let has_private = again.octets(c"priv", 8192).is_ok();
            assert_eq!(has_private, file.selection == KEY_PAIR, "{name}");
        }
    });
}

#[test]
fn a_key_without_its_seed_is_written_in_its_expanded_form() {
    for_each_algorithm(|context, algorithm| {
        let key = new_key(algorithm);
        let Some(expanded) = key.to_bytes().unwrap() else { return };
        let part = Param::Octets(c"priv", &expanded);
        let imported = context.import(algorithm.name(), KEY_PAIR, &[part]).unwrap();
        let written = imported.encode(File::private(c"DER")).unwrap();
        let expected = key.to_pkcs8_der(PrivateKeyForm::Expanded).unwrap();
        assert_eq!(written, *expected, "{}", algorithm.name());
    });
}

#[test]
fn a_public_or_empty_key_has_no_private_file() {
    for_each_algorithm(|context, algorithm| {
        let name = algorithm.name();
        let key = new_key(algorithm);
        let part = Param::Octets(c"pub", key.public_key());
        let public = context.import(name, PUBLIC, &[part]).unwrap();
        public.encode(File::public(c"PEM")).unwrap();
        let empty = context.empty(name).unwrap();
        for (key, file) in [(&public, File::private(c"DER")), (&empty, File::private(c"PEM"))] {
            refused(name, key.encode(file), &[MISSING], &[name]);
        }
        refused(name, empty.encode(File::public(c"DER")), &[MISSING], &[name]);
    });
}

#[test]
fn a_private_key_is_encrypted_with_aes_and_nothing_else() {
    let context = with_provider("");
    let passphrase = Some(&b"a passphrase"[..]);
    let names = ["ML-DSA-44", "id-MLDSA44-ECDSA-P256-SHA256", "ML-KEM-512"];
    for (name, cipher, form) in [
        (names[0], Some(c"AES-128-CBC"), c"PEM"),
        (names[1], Some(c"aes-192-cbc"), c"DER"),
        (names[2], Some(c"AES-256-CBC"), c"PEM"),
        // An EncryptedPrivateKeyInfo is never written in the clear.
        (names[0], None, c"PEM"),
    ] {
        let key = context.generate(name).unwrap();
        let structure = if cipher.is_some() { c"PrivateKeyInfo" } else { c"EncryptedPrivateKeyInfo" };
        let file = File { structure: Some(structure), cipher, passphrase, ..File::private(form) };
        let written = key.encode(file).unwrap_or_else(|errors| panic!("{name}, {cipher:?}: {errors}"));
        if form == c"PEM" {
            assert_eq!(from_pem(&written).0, "ENCRYPTED PRIVATE KEY", "{name}");
        }
        let again = context.decode(&written, passphrase).unwrap();
        assert_eq!((again.equals(&key), again.octets(c"priv", 8192).is_ok()), (1, true), "{name}");
        assert!(context.decode(&written, Some(b"another passphrase")).is_err(), "{name}, {cipher:?}");
    }
    let key = context.generate(names[0]).unwrap();
    let public = File { cipher: Some(c"DES-EDE3-CBC"), ..File::public(c"PEM") };
    key.encode(public).expect("a public key is not encrypted");
    for cipher in [c"DES-EDE3-CBC", c"CAMELLIA-256-CBC", c"AES-256-GCM", c"no such cipher"] {
        let file = File { cipher: Some(cipher), passphrase, ..File::private(c"PEM") };
        let cipher = cipher.to_str().unwrap();
        refused(cipher, key.encode(file), &[ARGUMENT], &[cipher, "AES-256-CBC"]);
    }
}

#[test]
fn without_a_passphrase_nothing_is_encrypted_and_nothing_written() {
    let context = with_provider("");
    let key = context.generate("ML-DSA-44").unwrap();
    for structure in [c"PrivateKeyInfo", c"EncryptedPrivateKeyInfo"] {
        let cipher = Some(c"AES-256-CBC");
        let file = File { structure: Some(structure), cipher, ..File::private(c"PEM") };
        refused("no passphrase", key.encode(file), &[ARGUMENT], &["no passphrase was given"]);
    }
}

/// What OpenSSL 3.5 prints: 15 bytes a line, separated by colons.
fn printed(label: &str, bytes: &[u8]) -> String {
    let lines: Vec<_> = bytes
        .chunks(15)
        .map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":"))
        .collect();
    format!("{label}:\n    {}\n", lines.join(":\n    "))
}

#[test]
fn the_text_of_a_key_is_that_of_openssl_3_5() {
    for_each_algorithm(|context, algorithm| {
        let name = algorithm.name();
        let inside = new_key(algorithm);
        let seed = Param::Octets(c"seed", inside.seed().unwrap());
        let key = context.generate_with(name, &[seed]).unwrap();
        let text = |selection| {
            let file = File { selection, form: c"TEXT", structure: None, cipher: None, passphrase: None };
            String::from_utf8(key.encode(file).unwrap()).unwrap()
        };
        let [private_label, public_label] =
            if matches!(algorithm, KeyAlgorithm::Kem(_)) { ["dk", "ek"] } else { ["priv", "pub"] };
        let public = printed(public_label, inside.public_key());
        assert_eq!(text(PUBLIC), format!("{name} Public-Key:\n{public}"));
        // A composite's short form is its only one.
        let private = match inside.to_bytes().unwrap() {
            Some(expanded) => printed("seed", inside.seed().unwrap()) + &printed(private_label, &expanded),
            None => printed(private_label, inside.seed().unwrap()),
        };
        assert_eq!(text(KEY_PAIR), format!("{name} Private-Key:\n{private}{public}"));
    });
}

#[test]
fn a_key_that_was_read_signs_and_decapsulates_as_the_one_that_was_written() {
    for_each_algorithm(|context, algorithm| {
        let key = context.generate(algorithm.name()).unwrap();
        let private = context.decode(&key.encode(File::private(c"PEM")).unwrap(), None).unwrap();
        let public = context.decode(&key.encode(File::public(c"PEM")).unwrap(), None).unwrap();
        drop(key);
        match algorithm {
            KeyAlgorithm::Kem(_) => {
                let (ciphertext, secret) = public.encapsulate().unwrap();
                assert_eq!(private.decapsulate(&ciphertext).unwrap(), secret, "{}", algorithm.name());
            }
            KeyAlgorithm::Signature(_) => {
                public.verify(MESSAGE, &private.sign(MESSAGE).unwrap()).unwrap();
            }
        }
    });
}

#[test]
fn a_hybrid_key_has_no_file_form_and_says_so() {
    let context = with_provider("");
    for algorithm in KEM_ALGORITHMS.iter().filter(|row| row.curve.is_some()) {
        let key = context.generate(algorithm.name).unwrap();
        for file in [File::private(c"PEM"), File::private(c"DER"), File::public(c"PEM"), File::public(c"DER")]
        {
            let parts = [algorithm.name, "key file format", "no standard"];
            refused(algorithm.name, key.encode(file), &[ARGUMENT], &parts);
        }
    }
}

#[test]
fn what_is_no_key_of_ours_is_left_to_others() {
    let context = with_provider("");
    for nothing in
        [&b""[..], b"0", b"-----BEGIN PRIVATE KEY-----\n", &[0x30, 0x80, 0, 0], &[0x30, 0x82, 0xff, 0xff, 1]]
    {
        let errors = context.decode(nothing, None).err().expect("there is no key");
        assert!(errors.ours().is_empty(), "{nothing:x?}: {errors}");
    }
    // An Ed25519 key (RFC 8410 section 10.3).
    let pem = b"-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
    assert_eq!(context.read_private_pem(pem).unwrap().provider(), "default");
    assert!(Errors::take().0.is_empty());
}
