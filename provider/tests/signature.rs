//! The signature algorithms through plain EVP calls of the host's libcrypto, which have to behave as OpenSSL 3.5's own do.

mod common;

use common::openssl::{Context, Errors, KEY_PAIR, Key, Message, PUBLIC, Param};
use common::with_provider;
use qtls_crypto::{
    KEM_ALGORITHMS, KeyAlgorithm, MessageEncoding, SIGNATURE_ALGORITHMS, SignatureAlgorithm,
    SignaturePrivateKey, SigningRandomness, algorithm_identifier_der,
};

const ARGUMENT: &str = "invalid argument";
const PEER: &str = "invalid key share or ciphertext from the peer";
const PRIVATE_KEY: &str = "invalid private key";
const MISSING: &str = "the key lacks the part that this operation needs";
const SIGNATURE: &str = "the signature does not verify";

const MESSAGE: &[u8] = b"a message that is taken as it is, whatever its length";

/// Runs `rule` for each algorithm, in one context.
fn for_each_algorithm(rule: impl Fn(&Context, &'static SignatureAlgorithm)) {
    let context = with_provider("");
    for algorithm in &SIGNATURE_ALGORITHMS {
        rule(&context, algorithm);
    }
}

fn for_each_ml_dsa(rule: impl Fn(&Context, &'static SignatureAlgorithm)) {
    for_each_algorithm(|context, algorithm| {
        if algorithm.composite.is_none() {
            rule(context, algorithm);
        }
    });
}

fn for_each_composite(rule: impl Fn(&Context, &'static SignatureAlgorithm)) {
    for_each_algorithm(|context, algorithm| {
        if algorithm.composite.is_some() {
            rule(context, algorithm);
        }
    });
}

/// A private key of the crypto crate, and the same in libcrypto.
fn twins<'a>(context: &'a Context, algorithm: &'static SignatureAlgorithm) -> (SignaturePrivateKey, Key<'a>) {
    let inside = SignaturePrivateKey::generate(algorithm).unwrap();
    let seed = Param::Octets(c"seed", inside.seed().unwrap());
    let outside = context.generate_with(algorithm.name, &[seed]).unwrap();
    assert_eq!(outside.octets(c"pub", 4096).unwrap(), inside.public_key(), "{}", algorithm.name);
    (inside, outside)
}

/// Holds that exactly one error of ours says why.
#[track_caller]
fn refused<T>(result: Result<T, Errors>, reason: &str, parts: &[&str]) {
    match result {
        Ok(_) => panic!("accepted, though {reason} ({parts:?}) was expected"),
        Err(errors) => assert!(
            errors.says(reason, parts) && errors.ours().len() == 1,
            "expected '{reason}' with {parts:?} and nothing else of ours, the queue holds: {errors}"
        ),
    }
}

fn text<'a>(context: &'a [u8]) -> Param<'a> {
    Param::Octets(c"context-string", context)
}

const DETERMINISTIC: Param<'static> = Param::Integer(c"deterministic", &1);
const RAW: Param<'static> = Param::Integer(c"message-encoding", &0);
const MU: Param<'static> = Param::Integer(c"mu", &1);

fn sign_with(key: &Key<'_>, params: &[Param<'_>], message: &[u8]) -> Result<Vec<u8>, Errors> {
    key.signer(None, params)?.sign(message)
}

fn verify_with(key: &Key<'_>, params: &[Param<'_>], message: &[u8], signature: &[u8]) -> Result<(), Errors> {
    key.verifier(None, params)?.verify(message, signature)
}

fn in_pieces(message: &Message<'_>, bytes: &[u8]) {
    for piece in [&bytes[..1], &bytes[1..1], &bytes[1..]] {
        message.update(piece).unwrap();
    }
}

#[test]
fn every_name_that_openssl_registers_or_would_makes_a_key_of_ours() {
    for_each_algorithm(|context, algorithm| {
        for name in algorithm.openssl_names.split(':') {
            let key = context.generate(name).unwrap_or_else(|errors| panic!("{name}: {errors}"));
            assert!(key.is_a(algorithm.name) && key.is_a(algorithm.oid), "{name}");
            assert_eq!(key.octets(c"pub", 4096).unwrap().len(), algorithm.public_key_bytes(), "{name}");
        }
    });
}

#[test]
fn figures_are_those_that_openssl_3_5_states() {
    for_each_algorithm(|context, algorithm| {
        let key = context.generate(algorithm.name).unwrap();
        let (security_bits, category) = match algorithm.ml_dsa.public_key_bytes() {
            1312 => (128, 2),
            1952 => (192, 3),
            _ => (256, 5),
        };
        assert_eq!(key.bits() as usize, 8 * algorithm.public_key_bytes(), "{}", algorithm.name);
        assert_eq!(key.security_bits(), security_bits, "{}", algorithm.name);
        assert_eq!(key.integer(c"security-category").unwrap(), category, "{}", algorithm.name);
        assert_eq!(key.size() as usize, algorithm.max_signature_bytes(), "{}", algorithm.name);
        assert_eq!(
            key.default_digest(),
            (2, "UNDEF".to_owned()),
            "{}: no digest may be asked for",
            algorithm.name
        );
    });
}

#[test]
fn a_seed_gives_the_key_pair_that_the_crypto_crate_makes_of_it() {
    for_each_algorithm(|context, algorithm| {
        let (inside, outside) = twins(context, algorithm);
        let private = match algorithm.composite {
            None => inside.to_bytes().unwrap().to_vec(),
            Some(_) => inside.seed().unwrap().to_vec(),
        };
        assert_eq!(outside.octets(c"priv", 8192).unwrap(), private, "{}", algorithm.name);
        match algorithm.composite {
            None => assert_eq!(outside.octets(c"seed", 64).unwrap(), inside.seed().unwrap()),
            Some(_) => assert!(outside.octets(c"seed", 512).is_err(), "{}", algorithm.name),
        }
        let other = context.generate(algorithm.name).unwrap();
        assert_eq!(outside.equals(&other), 0, "{}: without a seed, every key is new", algorithm.name);
    });
}

#[test]
fn a_seed_of_another_length_is_refused() {
    for_each_algorithm(|context, algorithm| {
        let seed = vec![1; algorithm.seed_bytes() + 1];
        let wrong = context.generate_with(algorithm.name, &[Param::Octets(c"seed", &seed)]);
        let (got, needed) = (seed.len().to_string(), algorithm.seed_bytes().to_string());
        refused(wrong, PRIVATE_KEY, &[algorithm.name, &got, &needed]);
    });
}

#[test]
fn a_key_can_be_imported_from_each_of_its_parts() {
    for_each_algorithm(|context, algorithm| {
        let (inside, outside) = twins(context, algorithm);
        let private = outside.octets(c"priv", 8192).unwrap();
        let public = Param::Octets(c"pub", inside.public_key());
        let only_public = context.import(algorithm.name, PUBLIC, &[public]).unwrap();
        refused(only_public.sign(MESSAGE), MISSING, &[algorithm.name, "private"]);
        for part in [Param::Octets(c"priv", &private), Param::Octets(c"seed", inside.seed().unwrap())] {
            let key = context.import(algorithm.name, KEY_PAIR, &[part]).unwrap();
            assert_eq!((key.equals(&only_public), key.equals(&outside)), (1, 1), "{}", algorithm.name);
            only_public.verify(MESSAGE, &key.sign(MESSAGE).unwrap()).unwrap();
        }
    });
}

#[test]
fn an_import_whose_parts_are_missing_damaged_or_of_two_keys_is_refused() {
    for_each_algorithm(|context, algorithm| {
        let ((inside, own), (other, others)) = (twins(context, algorithm), twins(context, algorithm));
        let (own, others) = (own.octets(c"priv", 8192).unwrap(), others.octets(c"priv", 8192).unwrap());
        let import = |parts: &[Param<'_>]| context.import(algorithm.name, KEY_PAIR, parts);
        let seed = || Param::Octets(c"seed", inside.seed().unwrap());
        let private = || Param::Octets(c"priv", &own);

        refused(import(&[]), MISSING, &[algorithm.name, "'seed'"]);
        let public = Param::Octets(c"pub", inside.public_key());
        import(&[private(), public]).unwrap();
        let foreign = || Param::Octets(c"pub", other.public_key());
        for parts in [[private(), foreign()], [seed(), foreign()]] {
            refused(import(&parts), PRIVATE_KEY, &[algorithm.name, "do not belong together"]);
        }
        let short = import(&[Param::Octets(c"priv", &own[1..])]);
        refused(short, PRIVATE_KEY, &[algorithm.name, &(own.len() - 1).to_string()]);
        let long = context.import(
            algorithm.name,
            PUBLIC,
            &[Param::Octets(c"pub", &vec![4; algorithm.public_key_bytes() + 1])],
        );
        refused(long, PEER, &[algorithm.name, &algorithm.public_key_bytes().to_string()]);
        import(&[seed(), private()]).unwrap();
        let mixed = import(&[seed(), Param::Octets(c"priv", &others)]);
        refused(mixed, PRIVATE_KEY, &[algorithm.name, "do not belong together"]);
        if algorithm.composite.is_none() {
            // The last byte of t0, which the seed's other parts give (FIPS 204 algorithm 6).
            let mut damaged = own.clone();
            *damaged.last_mut().unwrap() ^= 1;
            refused(import(&[Param::Octets(c"priv", &damaged)]), PRIVATE_KEY, &[algorithm.name]);
        }
    });
}

#[test]
fn an_export_holds_what_was_selected() {
    for_each_algorithm(|context, algorithm| {
        let (inside, key) = twins(context, algorithm);
        let public = ("pub".to_owned(), inside.public_key().to_vec());
        assert_eq!(key.export(PUBLIC).unwrap(), std::slice::from_ref(&public), "{}", algorithm.name);
        let mut parts = vec![public, ("priv".to_owned(), key.octets(c"priv", 8192).unwrap())];
        // A composite's short form is its only one.
        if algorithm.composite.is_none() {
            parts.push(("seed".to_owned(), inside.seed().unwrap().to_vec()));
        }
        assert_eq!(key.export(KEY_PAIR).unwrap(), parts, "{}", algorithm.name);
        assert!(context.empty(algorithm.name).unwrap().export(PUBLIC).is_err(), "{}", algorithm.name);
    });
}

#[test]
fn keys_are_equal_when_their_public_keys_are_and_a_duplicate_outlives_its_original() {
    let context = with_provider("");
    let keys: Vec<_> = SIGNATURE_ALGORITHMS.iter().map(|row| context.generate(row.name).unwrap()).collect();
    for (row, key) in keys.iter().enumerate() {
        for (other_row, other) in keys.iter().enumerate() {
            // EVP_PKEY_eq(3): 1 equal, 0 different, -1 different types.
            assert_eq!(key.equals(other), if row == other_row { 1 } else { -1 });
        }
        assert_eq!(key.equals(&context.generate(SIGNATURE_ALGORITHMS[row].name).unwrap()), 0);
    }
    for key in keys {
        let copy = key.duplicate().unwrap();
        assert_eq!(copy.equals(&key), 1);
        let signature = key.sign(MESSAGE).unwrap();
        drop(key);
        copy.verify(MESSAGE, &signature).unwrap();
        copy.verify(MESSAGE, &copy.sign(MESSAGE).unwrap()).unwrap();
    }
}

#[test]
fn a_whole_key_passes_the_checks_and_a_part_fails_those_of_the_whole() {
    for_each_algorithm(|context, algorithm| {
        let key = context.generate(algorithm.name).unwrap();
        key.check().unwrap();
        key.pairwise_check().unwrap();
        key.public_check().unwrap();
        let empty = context.empty(algorithm.name).unwrap();
        assert!(empty.public_check().is_err(), "{}: an empty key is no public key", algorithm.name);
        let share = key.octets(c"pub", 4096).unwrap();
        let public = context.import(algorithm.name, PUBLIC, &[Param::Octets(c"pub", &share)]).unwrap();
        public.public_check().unwrap();
        refused(public.pairwise_check(), MISSING, &[algorithm.name]);
    });
}

#[test]
fn what_is_signed_at_once_in_pieces_or_without_a_digest_context_verifies_in_each_way() {
    for_each_algorithm(|context, algorithm| {
        let key = context.generate(algorithm.name).unwrap();
        let operation = key.operation().unwrap();
        operation.sign_init().unwrap();
        let signer = key.signer(None, &[]).unwrap();
        in_pieces(&signer, MESSAGE);
        for signature in
            [key.sign(MESSAGE).unwrap(), signer.finish().unwrap(), operation.sign(MESSAGE).unwrap()]
        {
            key.verify(MESSAGE, &signature).unwrap();
            let verifier = key.verifier(None, &[]).unwrap();
            in_pieces(&verifier, MESSAGE);
            verifier.finish_verifying(&signature).unwrap();
            let operation = key.operation().unwrap();
            operation.verify_init().unwrap();
            operation.verify(MESSAGE, &signature).unwrap();
        }
        // The empty message is one, whether it comes as nothing or not at all.
        let nothing = key.signer(None, &[]).unwrap().finish().unwrap();
        key.verify(b"", &nothing).unwrap();
        key.verifier(None, &[]).unwrap().finish_verifying(&key.sign(b"").unwrap()).unwrap();
    });
}

#[test]
fn the_size_can_be_asked_for_first_and_that_uses_nothing_up() {
    for_each_algorithm(|context, algorithm| {
        let key = context.generate(algorithm.name).unwrap();
        let signer = key.signer(None, &[]).unwrap();
        let longest = algorithm.max_signature_bytes();
        assert_eq!(signer.signature_size().unwrap(), longest, "{}", algorithm.name);
        signer.update(&MESSAGE[..7]).unwrap();
        assert_eq!(signer.signature_size().unwrap(), longest, "{}", algorithm.name);
        signer.update(&MESSAGE[7..]).unwrap();
        assert_eq!(signer.signature_size().unwrap(), longest, "{}", algorithm.name);
        let (small, needed) = ((longest - 1).to_string(), longest.to_string());
        refused(signer.finish_in(longest - 1), ARGUMENT, &[&small, &needed]);
        key.verify(MESSAGE, &signer.finish_in(longest + 5).unwrap()).unwrap();
        refused(key.signer(None, &[]).unwrap().sign_in(longest - 1, MESSAGE), ARGUMENT, &[&small, &needed]);
    });
}

#[test]
fn a_signature_that_is_cut_lengthened_altered_or_of_another_message_or_key_is_refused_with_one_error() {
    for_each_algorithm(|context, algorithm| {
        let key = context.generate(algorithm.name).unwrap();
        let signature = key.sign(MESSAGE).unwrap();
        let other = context.generate(algorithm.name).unwrap();
        refused(key.verify(b"another message", &signature), SIGNATURE, &[algorithm.name]);
        refused(key.verify(b"", &signature), SIGNATURE, &[algorithm.name]);
        refused(other.verify(MESSAGE, &signature), SIGNATURE, &[algorithm.name]);
        let (half, end) = (algorithm.ml_dsa.signature_bytes(), signature.len());
        for length in [0, 1, half - 1, half, half + 1, end - 1] {
            if length < end {
                refused(key.verify(MESSAGE, &signature[..length]), SIGNATURE, &[algorithm.name]);
            }
        }
        for more in [1, 7, 5000] {
            let long = [&signature[..], &vec![0; more]].concat();
            refused(key.verify(MESSAGE, &long), SIGNATURE, &[algorithm.name]);
        }
        for at in [0, half / 2, half - 1, end - 1] {
            let mut altered = signature.clone();
            altered[at] ^= 1;
            refused(key.verify(MESSAGE, &altered), SIGNATURE, &[algorithm.name]);
            let verifier = key.verifier(None, &[]).unwrap();
            in_pieces(&verifier, MESSAGE);
            refused(verifier.finish_verifying(&altered), SIGNATURE, &[algorithm.name]);
            let operation = key.operation().unwrap();
            operation.verify_init().unwrap();
            refused(operation.verify(MESSAGE, &altered), SIGNATURE, &[algorithm.name]);
        }
    });
}

#[test]
fn neither_half_of_a_composite_signature_stands_in_for_the_other() {
    for_each_composite(|context, algorithm| {
        let key = context.generate(algorithm.name).unwrap();
        let (one, two) = (key.sign(MESSAGE).unwrap(), key.sign(b"another message").unwrap());
        let half = algorithm.ml_dsa.signature_bytes();
        // Each half is right, but for another message.
        for mixed in [[&one[..half], &two[half..]].concat(), [&two[..half], &one[half..]].concat()] {
            refused(key.verify(MESSAGE, &mixed), SIGNATURE, &[algorithm.name]);
        }
        // The same message signed twice: halves of two signatures of one key are both right.
        let again = key.sign(MESSAGE).unwrap();
        key.verify(MESSAGE, &[&one[..half], &again[half..]].concat()).unwrap();
    });
}

#[test]
fn a_context_string_is_part_of_what_is_signed_and_has_at_most_255_bytes() {
    for_each_algorithm(|context, algorithm| {
        let key = context.generate(algorithm.name).unwrap();
        let longest = [7; 255];
        for string in [&b"a"[..], &longest] {
            let signature = sign_with(&key, &[text(string)], MESSAGE).unwrap();
            verify_with(&key, &[text(string)], MESSAGE, &signature).unwrap();
            refused(key.verify(MESSAGE, &signature), SIGNATURE, &[algorithm.name]);
            refused(verify_with(&key, &[text(b"b")], MESSAGE, &signature), SIGNATURE, &[algorithm.name]);
            let verifier = key.verifier(None, &[]).unwrap();
            verifier.set(&[text(string)]).unwrap();
            in_pieces(&verifier, MESSAGE);
            verifier.finish_verifying(&signature).unwrap();
        }
        verify_with(&key, &[text(b"")], MESSAGE, &key.sign(MESSAGE).unwrap()).unwrap();

        refused(key.signer(None, &[text(&[7; 256])]), ARGUMENT, &["256", "255"]);
        let signer = key.signer(None, &[text(b"a")]).unwrap();
        refused(signer.set(&[text(&[7; 256])]), ARGUMENT, &["256", "255"]);
        let signature = signer.sign(MESSAGE).unwrap();
        verify_with(&key, &[text(b"a")], MESSAGE, &signature).expect("what was refused changes nothing");
    });
}

#[test]
fn signatures_are_hedged_unless_they_are_asked_to_be_deterministic() {
    for_each_ml_dsa(|context, algorithm| {
        let (inside, key) = twins(context, algorithm);
        assert_ne!(key.sign(MESSAGE).unwrap(), key.sign(MESSAGE).unwrap(), "{}", algorithm.name);
        let expected = inside.sign(MESSAGE, MessageEncoding::PURE, SigningRandomness::Deterministic).unwrap();
        for _ in 0..2 {
            assert_eq!(sign_with(&key, &[DETERMINISTIC], MESSAGE).unwrap(), expected, "{}", algorithm.name);
        }
        let signer = key.signer(None, &[DETERMINISTIC]).unwrap();
        in_pieces(&signer, MESSAGE);
        assert_eq!(signer.finish().unwrap(), expected, "{}", algorithm.name);
        let hedged = key.signer(None, &[DETERMINISTIC]).unwrap();
        hedged.set(&[Param::Integer(c"deterministic", &0)]).unwrap();
        assert_ne!(hedged.sign(MESSAGE).unwrap(), expected, "{}", algorithm.name);
    });
}

#[test]
fn test_entropy_is_the_randomness_of_the_signature_and_has_32_bytes() {
    for_each_ml_dsa(|context, algorithm| {
        let (inside, key) = twins(context, algorithm);
        let entropy: [u8; 32] = std::array::from_fn(|index| index as u8);
        let expected =
            inside.sign(MESSAGE, MessageEncoding::PURE, SigningRandomness::Given(&entropy)).unwrap();
        let given = |bytes| sign_with(&key, &[Param::Octets(c"test-entropy", bytes)], MESSAGE);
        assert_eq!(given(&entropy).unwrap(), expected, "{}", algorithm.name);
        refused(given(&entropy[..31]), ARGUMENT, &["31", "32"]);
    });
}

#[test]
fn a_raw_message_is_one_that_the_caller_encoded() {
    for_each_ml_dsa(|context, algorithm| {
        let key = context.generate(algorithm.name).unwrap();
        // FIPS 204 algorithm 2: M' = 0 ‖ |ctx| ‖ ctx ‖ M.
        let encoded = [&[0, 3], &b"ctx"[..], MESSAGE].concat();
        let raw = sign_with(&key, &[RAW, DETERMINISTIC], &encoded).unwrap();
        let pure = sign_with(&key, &[text(b"ctx"), DETERMINISTIC], MESSAGE).unwrap();
        assert_eq!(raw, pure, "{}", algorithm.name);
        verify_with(&key, &[RAW], &encoded, &pure).unwrap();
        refused(verify_with(&key, &[RAW], MESSAGE, &pure), SIGNATURE, &[algorithm.name]);
    });
}

#[test]
fn mu_is_taken_in_place_of_the_message_and_has_64_bytes() {
    for_each_ml_dsa(|context, algorithm| {
        let (inside, key) = twins(context, algorithm);
        let mut hash = inside.message_hash(MessageEncoding::PURE).unwrap();
        hash.update(MESSAGE).unwrap();
        let representative = hash.finish().unwrap();
        let mu = representative.mu().unwrap();
        let signature = sign_with(&key, &[MU], mu).unwrap();
        key.verify(MESSAGE, &signature).unwrap();
        verify_with(&key, &[MU], mu, &key.sign(MESSAGE).unwrap()).unwrap();
        let signer = key.signer(None, &[MU]).unwrap();
        in_pieces(&signer, mu);
        key.verify(MESSAGE, &signer.finish().unwrap()).unwrap();
        for length in [0, 63, 65, 100] {
            let wrong = vec![1; length];
            refused(sign_with(&key, &[MU], &wrong), ARGUMENT, &[algorithm.name, &length.to_string(), "64"]);
            let signer = key.signer(None, &[MU]).unwrap();
            signer.update(&wrong).unwrap();
            refused(signer.finish(), ARGUMENT, &[algorithm.name, "64"]);
            refused(verify_with(&key, &[MU], &wrong, &signature), ARGUMENT, &[algorithm.name, "64"]);
        }
    });
}

#[test]
fn a_composite_refuses_what_only_ml_dsa_has() {
    for_each_composite(|context, algorithm| {
        let key = context.generate(algorithm.name).unwrap();
        let entropy = Param::Octets(c"test-entropy", &[1; 32]);
        for params in [DETERMINISTIC, RAW, MU, entropy] {
            refused(sign_with(&key, &[params], &[1; 64]), ARGUMENT, &[algorithm.name, "does not have"]);
        }
    });
}

#[test]
fn the_algorithm_identifier_is_the_object_identifier_without_parameters() {
    for_each_algorithm(|context, algorithm| {
        let key = context.generate(algorithm.name).unwrap();
        let expected = algorithm_identifier_der(KeyAlgorithm::Signature(algorithm)).unwrap();
        // SEQUENCE { OBJECT IDENTIFIER } and nothing behind it (RFC 9881 section 2).
        assert_eq!(expected[..3], [0x30, expected.len() as u8 - 2, 0x06]);
        assert_eq!(usize::from(expected[3]), expected.len() - 4);
        for message in [key.signer(None, &[]).unwrap(), key.verifier(None, &[]).unwrap()] {
            assert_eq!(message.octets(c"algorithm-id").unwrap(), expected, "{}", algorithm.name);
        }
    });
}

#[test]
fn on_openssl_3_0_sha_512_s_names_and_to_verify_those_of_strong_digests_change_nothing_and_others_are_refused()
 {
    for_each_algorithm(|context, algorithm| {
        let key = context.generate(algorithm.name).unwrap();
        for name in [c"SHA512", c"sha512", c"SHA2-512", c"SHA-512", c"2.16.840.1.101.3.4.2.3"] {
            let signature = key.signer(Some(name), &[]).unwrap().sign(MESSAGE).unwrap();
            key.verify(MESSAGE, &signature).unwrap();
            key.verifier(Some(name), &[]).unwrap().verify(MESSAGE, &signature).unwrap();
        }
        // CMS names the digest of the content to a verifier too; it counts where it is as strong as the key.
        let signature = key.sign(MESSAGE).unwrap();
        for (name, bits) in [(c"SHA256", 256), (c"SHA2-384", 384), (c"SHA512-256", 0), (c"SHAKE256", 0)] {
            let parts = [name.to_str().unwrap(), "leave the digest out"];
            refused(key.signer(Some(name), &[]), ARGUMENT, &parts);
            let verifier = key.verifier(Some(name), &[]);
            if bits >= 2 * algorithm.security_bits {
                verifier.unwrap().verify(MESSAGE, &signature).unwrap();
            } else {
                refused(verifier, ARGUMENT, &parts);
            }
        }
    });
}

#[test]
fn a_composite_key_signs_and_verifies_no_tls_handshake_and_ml_dsa_does() {
    for_each_algorithm(|context, algorithm| {
        let key = context.generate(algorithm.name).unwrap();
        for side in ["server", "client"] {
            // RFC 8446 section 4.4.3, as libssl builds it.
            let mut handshake = vec![b' '; 64];
            handshake.extend(format!("TLS 1.3, {side} CertificateVerify\0").bytes());
            handshake.extend([0xa5; 48]);
            if algorithm.composite.is_none() {
                key.verify(&handshake, &key.sign(&handshake).unwrap()).unwrap();
            } else {
                let parts = [algorithm.name, "TLS 1.3", "certificates"];
                refused(key.sign(&handshake), ARGUMENT, &parts);
                let signature = key.sign(MESSAGE).unwrap();
                refused(key.verify(&handshake, &signature), ARGUMENT, &parts);
                let operation = key.operation().unwrap();
                operation.sign_init().unwrap();
                refused(operation.sign(&handshake), ARGUMENT, &parts);
            }
        }
        // 63 spaces are no handshake, nor is a text that begins otherwise.
        for other in
            [[&[b' '; 63][..], b"TLS 1.3, server"].concat(), [&[b' '; 64][..], b"TLS 1.2, "].concat()]
        {
            key.verify(&other, &key.sign(&other).unwrap()).unwrap();
        }
    });
}

#[test]
fn a_key_of_a_kem_signs_nothing_and_one_of_a_signature_encapsulates_nothing() {
    let context = with_provider("");
    for algorithm in &KEM_ALGORITHMS {
        let key = context.generate(algorithm.name).unwrap();
        assert!(key.signer(None, &[]).is_err() && key.verifier(None, &[]).is_err(), "{}", algorithm.name);
        assert!(key.operation().unwrap().sign_init().is_err(), "{}", algorithm.name);
    }
    for algorithm in &SIGNATURE_ALGORITHMS {
        let key = context.generate(algorithm.name).unwrap();
        assert!(key.encapsulate().is_err() && key.decapsulate(&[0; 1088]).is_err(), "{}", algorithm.name);
    }
}

#[test]
fn a_copy_made_in_mid_message_goes_its_own_way() {
    for_each_algorithm(|context, algorithm| {
        let key = context.generate(algorithm.name).unwrap();
        for (begin, ends) in [(&b"begin"[..], [&b"ning"[..], b"s"]), (b"", [b"a", b"b"])] {
            let signer = key.signer(None, &[text(b"ctx")]).unwrap();
            signer.update(begin).unwrap();
            let copy = signer.duplicate().unwrap();
            signer.update(ends[0]).unwrap();
            copy.update(ends[1]).unwrap();
            let signatures = [signer.finish().unwrap(), copy.finish().unwrap()];
            for (end, signature) in ends.iter().zip(&signatures) {
                let whole = [begin, end].concat();
                verify_with(&key, &[text(b"ctx")], &whole, signature).unwrap();
            }
            let verifier = key.verifier(None, &[text(b"ctx")]).unwrap();
            verifier.update(begin).unwrap();
            let copy = verifier.duplicate().unwrap();
            drop(signer);
            verifier.update(ends[0]).unwrap();
            copy.update(ends[1]).unwrap();
            verifier.finish_verifying(&signatures[0]).unwrap();
            drop(verifier);
            copy.finish_verifying(&signatures[1]).unwrap();
        }
    });
}

#[test]
fn a_context_can_be_begun_again_with_the_settings_it_had() {
    for_each_ml_dsa(|context, algorithm| {
        let key = context.generate(algorithm.name).unwrap();
        let operation = key.operation().unwrap();
        operation.sign_init().unwrap();
        operation.set(&[text(b"ctx"), DETERMINISTIC]).unwrap();
        let first = operation.sign(MESSAGE).unwrap();
        assert_eq!(operation.sign(MESSAGE).unwrap(), first, "{}: one key, many messages", algorithm.name);
        operation.verify_init().unwrap();
        operation.set(&[text(b"ctx")]).unwrap();
        operation.verify(MESSAGE, &first).unwrap();
        refused(operation.verify(b"another", &first), SIGNATURE, &[algorithm.name]);
    });
}
