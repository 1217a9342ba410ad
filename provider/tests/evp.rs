//! The six algorithms through plain EVP calls of the host's libcrypto, which have to behave as its own algorithms do.

mod common;

use common::openssl::{Context, Errors, KEY_PAIR, Key, PUBLIC, Param};
use common::with_provider;
use qtls_crypto::{Curve, KEM_ALGORITHMS, KemAlgorithm, KemPrivateKey, MlKem, Order};

const SHARE: &str = "invalid key share or ciphertext from the peer";
const ARGUMENT: &str = "invalid argument";
const PRIVATE_KEY: &str = "invalid private key";
const MISSING: &str = "the key lacks the part that this operation needs";

/// Runs `rule` for each algorithm, in one context.
fn for_each_algorithm(rule: impl Fn(&Context, &'static KemAlgorithm)) {
    let context = with_provider("");
    for algorithm in &KEM_ALGORITHMS {
        rule(&context, algorithm);
    }
}

/// A key pair from a fixed seed, the same every time.
fn seeded(context: &Context, algorithm: &'static KemAlgorithm) -> (Vec<u8>, KemPrivateKey) {
    assert!(context.is_available("qtls"));
    let seed: Vec<u8> = (1..=algorithm.seed_bytes() as u8).collect();
    let key = KemPrivateKey::from_seed(algorithm, &seed).unwrap();
    (seed, key)
}

#[track_caller]
fn refused<T>(result: Result<T, Errors>, reason: &str, parts: &[&str]) {
    match result {
        Ok(_) => panic!("accepted, though {reason} ({parts:?}) was expected"),
        Err(errors) => {
            assert!(
                errors.says(reason, parts),
                "expected '{reason}' with {parts:?}, the queue holds: {errors}"
            );
        }
    }
}

/// Where the ML-KEM half of a share begins, and where the curve's does.
fn halves(algorithm: &KemAlgorithm) -> (usize, Option<usize>) {
    match algorithm.curve {
        None => (0, None),
        Some((_, Order::MlKemFirst)) => (0, Some(algorithm.ml_kem.encapsulation_key_bytes())),
        Some((curve, Order::CurveFirst)) => (curve.share_bytes(), Some(0)),
    }
}

#[test]
fn both_sides_find_the_same_secret_and_each_encapsulation_a_new_one() {
    for_each_algorithm(|context, algorithm| {
        let key = context.generate(algorithm.name).unwrap();
        let peer = context.empty(algorithm.name).unwrap();
        peer.set_encoded(&key.encoded().unwrap()).unwrap();
        let (ciphertext, secret) = peer.encapsulate().unwrap();
        assert_eq!(key.decapsulate(&ciphertext).unwrap(), secret, "{}", algorithm.name);
        let (other_ciphertext, other_secret) = peer.encapsulate().unwrap();
        assert_ne!(ciphertext, other_ciphertext, "{}", algorithm.name);
        assert_ne!(secret, other_secret, "{}", algorithm.name);
        assert_ne!(key.encoded().unwrap(), context.generate(algorithm.name).unwrap().encoded().unwrap());
    });
}

#[test]
fn every_name_that_openssl_3_5_registers_makes_a_key_of_ours() {
    for_each_algorithm(|context, algorithm| {
        for name in algorithm.openssl_names.split(':') {
            let key = context.generate(name).unwrap_or_else(|errors| panic!("{name}: {errors}"));
            assert_eq!(key.encoded().unwrap().len(), algorithm.public_key_bytes(), "{name}");
        }
    });
}

#[test]
fn a_seed_gives_the_key_pair_that_the_crypto_crate_makes_of_it() {
    for_each_algorithm(|context, algorithm| {
        let (seed, expected) = seeded(context, algorithm);
        let key = context.generate_with(algorithm.name, &[Param::Octets(c"seed", &seed)]).unwrap();
        assert_eq!(key.encoded().unwrap(), expected.public_key(), "{}", algorithm.name);
        assert_eq!(key.octets(c"priv", 4096).unwrap(), *expected.to_bytes().unwrap(), "{}", algorithm.name);
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
fn a_key_type_takes_its_own_group_name_and_an_empty_one_and_no_other() {
    for_each_algorithm(|context, algorithm| {
        for name in ["", algorithm.name, algorithm.group_name] {
            let name = std::ffi::CString::new(name).unwrap();
            context.generate_with(algorithm.name, &[Param::Text(c"group", &name)]).unwrap();
        }
        let other = if algorithm.name == "ML-KEM-512" { c"ML-KEM-768" } else { c"ML-KEM-512" };
        for wrong in [other, c"X25519", c"nonsense"] {
            let result = context.generate_with(algorithm.name, &[Param::Text(c"group", wrong)]);
            refused(result, ARGUMENT, &[algorithm.name, wrong.to_str().unwrap()]);
        }
        let wrong_type = context.generate_with(algorithm.name, &[Param::Integer(c"group", &1)]);
        assert!(wrong_type.is_err(), "{}: a number is no group name", algorithm.name);
    });
}

#[test]
fn sizes_can_be_asked_for_first() {
    for_each_algorithm(|context, algorithm| {
        let key = context.generate(algorithm.name).unwrap();
        let operation = key.operation().unwrap();
        operation.encapsulate_init().unwrap();
        let sizes = (algorithm.ciphertext_bytes(), algorithm.shared_secret_bytes());
        assert_eq!(operation.encapsulated_sizes().unwrap(), sizes, "{}", algorithm.name);
        operation.decapsulate_init().unwrap();
        assert_eq!(operation.decapsulated_size(&vec![0; sizes.0]).unwrap(), sizes.1, "{}", algorithm.name);
    });
}

#[test]
fn a_buffer_that_is_too_small_is_refused_with_the_sizes_and_a_larger_one_is_filled_as_far_as_needed() {
    for_each_algorithm(|context, algorithm| {
        let key = context.generate(algorithm.name).unwrap();
        let (ciphertext_bytes, secret_bytes) =
            (algorithm.ciphertext_bytes(), algorithm.shared_secret_bytes());
        let operation = key.operation().unwrap();
        operation.encapsulate_init().unwrap();
        for (ciphertext, secret, what, needed) in [
            (ciphertext_bytes - 1, secret_bytes, "ciphertext", ciphertext_bytes),
            (ciphertext_bytes, secret_bytes - 1, "shared secret", secret_bytes),
        ] {
            let result = operation.encapsulate_into(&mut vec![0; ciphertext], &mut vec![0; secret]);
            refused(result, ARGUMENT, &[what, &(needed - 1).to_string(), &needed.to_string()]);
        }

        let (mut ciphertext, mut secret) = (vec![0xaa; ciphertext_bytes + 3], vec![0xaa; secret_bytes + 3]);
        let filled = operation.encapsulate_into(&mut ciphertext, &mut secret).unwrap();
        assert_eq!(filled, (ciphertext_bytes, secret_bytes));
        assert_eq!(
            (&ciphertext[ciphertext_bytes..], &secret[secret_bytes..]),
            (&[0xaa; 3][..], &[0xaa; 3][..])
        );

        operation.decapsulate_init().unwrap();
        let result =
            operation.decapsulate_into(&ciphertext[..ciphertext_bytes], &mut vec![0; secret_bytes - 1]);
        refused(
            result,
            ARGUMENT,
            &["shared secret", &(secret_bytes - 1).to_string(), &secret_bytes.to_string()],
        );
        assert_eq!(key.decapsulate(&ciphertext[..ciphertext_bytes]).unwrap(), secret[..secret_bytes]);
    });
}

#[test]
fn a_share_of_another_length_is_refused_when_it_is_set() {
    for_each_algorithm(|context, algorithm| {
        let share = context.generate(algorithm.name).unwrap().encoded().unwrap();
        let long = [&share[..], &[0]].concat();
        for wrong in [&share[..share.len() - 1], &long, &share[..1]] {
            let result = context.empty(algorithm.name).unwrap().set_encoded(wrong);
            let (got, needed) = (wrong.len().to_string(), share.len().to_string());
            refused(result, SHARE, &[algorithm.name, &got, &needed]);
        }
        let nothing = context.empty(algorithm.name).unwrap().set_encoded(&[]);
        assert!(nothing.is_err(), "{}: an empty share is none", algorithm.name);
    });
}

#[test]
fn a_share_with_a_coefficient_out_of_range_is_refused_when_it_is_set() {
    for_each_algorithm(|context, algorithm| {
        let share = context.generate(algorithm.name).unwrap().encoded().unwrap();
        let (ml_kem, _) = halves(algorithm);
        let vector = algorithm.ml_kem.encapsulation_key_bytes() - 32;
        // Two coefficients of 12 bits in three bytes; all ones is above q = 3329.
        for at in [ml_kem, ml_kem + vector - 3] {
            let mut wrong = share.clone();
            wrong[at..at + 3].fill(0xff);
            let result = context.empty(algorithm.name).unwrap().set_encoded(&wrong);
            refused(result, SHARE, &[algorithm.name, "3329"]);
        }
    });
}

#[test]
fn a_hybrid_share_whose_curve_half_is_no_point_is_refused_when_it_is_set() {
    for_each_algorithm(|context, algorithm| {
        let (Some((curve, _)), (_, Some(begins))) = (algorithm.curve, halves(algorithm)) else { return };
        let share = context.generate(algorithm.name).unwrap().encoded().unwrap();
        let half = begins..begins + curve.share_bytes();
        let set = |change: &dyn Fn(&mut [u8])| {
            let mut wrong = share.clone();
            change(&mut wrong[half.clone()]);
            context.empty(algorithm.name).unwrap().set_encoded(&wrong)
        };
        refused(set(&|half| half.fill(0)), SHARE, &[algorithm.name, curve.name()]);
        if curve != Curve::X25519 {
            refused(set(&|half| *half.last_mut().unwrap() ^= 1), SHARE, &[curve.name(), "point"]);
            refused(set(&|half| half[0] = 2), SHARE, &[curve.name(), "uncompressed"]);
        }
    });
}

#[test]
fn a_key_that_a_refused_share_was_set_on_is_still_empty() {
    for_each_algorithm(|context, algorithm| {
        let peer = context.empty(algorithm.name).unwrap();
        peer.set_encoded(&[1, 2, 3]).unwrap_err();
        refused(peer.encapsulate(), MISSING, &[algorithm.name, "empty"]);
        let share = context.generate(algorithm.name).unwrap().encoded().unwrap();
        peer.set_encoded(&share).unwrap();
        assert_eq!(peer.encoded().unwrap(), share);
    });
}

#[test]
fn a_key_object_is_filled_once() {
    for_each_algorithm(|context, algorithm| {
        let share = context.generate(algorithm.name).unwrap().encoded().unwrap();
        let key = context.generate(algorithm.name).unwrap();
        let own = key.encoded().unwrap();
        refused(key.set_encoded(&share), ARGUMENT, &[algorithm.name, "already holds a key"]);
        assert_eq!(key.encoded().unwrap(), own);
        let peer = context.empty(algorithm.name).unwrap();
        peer.set_encoded(&share).unwrap();
        refused(peer.set_encoded(&own), ARGUMENT, &["already holds a key"]);
        assert_eq!(peer.encoded().unwrap(), share);
    });
}

#[test]
fn a_ciphertext_of_another_length_is_refused_and_a_wrong_one_gives_an_unrelated_secret() {
    for_each_algorithm(|context, algorithm| {
        let key = context.generate(algorithm.name).unwrap();
        let (mut ciphertext, secret) = key.encapsulate().unwrap();
        for length in [1, ciphertext.len() - 1] {
            let operation = key.operation().unwrap();
            operation.decapsulate_init().unwrap();
            let wrong = operation.decapsulate_into(&ciphertext[..length], &mut vec![0; secret.len()]);
            refused(wrong, SHARE, &[algorithm.name, &length.to_string(), &ciphertext.len().to_string()]);
        }
        // Implicit rejection (FIPS 203 section 6.3): no error tells the sender anything.
        ciphertext[halves(algorithm).0] ^= 1;
        let rejected = key.decapsulate(&ciphertext).unwrap();
        assert_eq!(rejected, key.decapsulate(&ciphertext).unwrap(), "{}", algorithm.name);
        assert_ne!(rejected, secret, "{}", algorithm.name);
    });
}

#[test]
fn a_hybrid_ciphertext_whose_curve_half_is_no_point_is_refused() {
    for_each_algorithm(|context, algorithm| {
        let Some((curve, order)) = algorithm.curve else { return };
        let key = context.generate(algorithm.name).unwrap();
        let (mut ciphertext, _) = key.encapsulate().unwrap();
        let begins = if order == Order::CurveFirst { 0 } else { algorithm.ml_kem.ciphertext_bytes() };
        ciphertext[begins..begins + curve.share_bytes()].fill(0);
        refused(key.decapsulate(&ciphertext), SHARE, &[algorithm.name, curve.name()]);
    });
}

#[test]
fn a_key_without_the_part_that_an_operation_needs_is_refused() {
    for_each_algorithm(|context, algorithm| {
        let empty = context.empty(algorithm.name).unwrap();
        refused(empty.encapsulate(), MISSING, &[algorithm.name]);
        refused(empty.decapsulate(&vec![0; algorithm.ciphertext_bytes()]), MISSING, &[algorithm.name]);
        assert!(empty.encoded().is_err(), "{}", algorithm.name);
        let public = context.empty(algorithm.name).unwrap();
        public.set_encoded(&context.generate(algorithm.name).unwrap().encoded().unwrap()).unwrap();
        refused(public.decapsulate(&vec![0; algorithm.ciphertext_bytes()]), MISSING, &[algorithm.name]);
        assert!(public.octets(c"priv", 4096).is_err(), "{}", algorithm.name);
    });
}

#[test]
fn a_key_can_be_imported_from_each_of_its_parts() {
    for_each_algorithm(|context, algorithm| {
        let (seed, expected) = seeded(context, algorithm);
        let expanded = expected.to_bytes().unwrap();
        let (public, private) =
            (Param::Octets(c"pub", expected.public_key()), Param::Octets(c"priv", &expanded));
        let seed = Param::Octets(c"seed", &seed);
        let reference = context.generate(algorithm.name).unwrap();

        let only_public = context.import(algorithm.name, PUBLIC, &[public]).unwrap();
        assert!(only_public.decapsulate(&vec![0; algorithm.ciphertext_bytes()]).is_err());
        let (ciphertext, secret) = only_public.encapsulate().unwrap();
        for parts in [vec![private], vec![seed]] {
            let key = context.import(algorithm.name, KEY_PAIR, &parts).unwrap();
            assert_eq!(key.decapsulate(&ciphertext).unwrap(), secret, "{}", algorithm.name);
            assert_eq!((key.equals(&only_public), key.equals(&reference)), (1, 0), "{}", algorithm.name);
        }
    });
}

#[test]
fn an_import_whose_parts_do_not_belong_together_is_refused() {
    for_each_algorithm(|context, algorithm| {
        let (seed, key) = seeded(context, algorithm);
        let other = KemPrivateKey::<qtls_crypto::DefaultBackend>::generate(algorithm).unwrap();
        let (own, others) = (key.to_bytes().unwrap(), other.to_bytes().unwrap());
        let import = |parts: &[Param<'_>]| context.import(algorithm.name, KEY_PAIR, parts);
        let seed = || Param::Octets(c"seed", &seed);

        import(&[seed(), Param::Octets(c"priv", &own), Param::Octets(c"pub", key.public_key())]).unwrap();
        let public = Param::Octets(c"pub", other.public_key());
        refused(import(&[seed(), public]), PRIVATE_KEY, &[algorithm.name, "do not belong together"]);
        let private = Param::Octets(c"priv", &others);
        refused(import(&[seed(), private]), PRIVATE_KEY, &[algorithm.name, "do not belong together"]);
        let pair = [Param::Octets(c"priv", &own), Param::Octets(c"pub", other.public_key())];
        refused(import(&pair), PRIVATE_KEY, &[algorithm.name, "do not belong together"]);
        refused(import(&[]), MISSING, &[algorithm.name, "'seed'"]);
    });
}

#[test]
fn an_import_of_the_public_part_leaves_the_private_one_out() {
    for_each_algorithm(|context, algorithm| {
        let (seed, key) = seeded(context, algorithm);
        let parts = [Param::Octets(c"pub", key.public_key()), Param::Octets(c"seed", &seed)];
        let public = context.import(algorithm.name, PUBLIC, &parts).unwrap();
        refused(public.decapsulate(&vec![0; algorithm.ciphertext_bytes()]), MISSING, &[algorithm.name]);
    });
}

#[test]
fn a_damaged_private_key_is_refused() {
    for_each_algorithm(|context, algorithm| {
        let (_, key) = seeded(context, algorithm);
        let expanded = key.to_bytes().unwrap();
        let import =
            |private: &[u8]| context.import(algorithm.name, KEY_PAIR, &[Param::Octets(c"priv", private)]);
        refused(import(&expanded[1..]), PRIVATE_KEY, &[algorithm.name, &(expanded.len() - 1).to_string()]);
        // The last byte before z is one of the hash of the public key (FIPS 203 algorithm 16).
        let dk_begins = match algorithm.curve {
            Some((curve, Order::CurveFirst)) => curve.scalar_bytes(),
            _ => 0,
        };
        let mut damaged = expanded.to_vec();
        damaged[dk_begins + algorithm.ml_kem.decapsulation_key_bytes() - 33] ^= 1;
        refused(import(&damaged), PRIVATE_KEY, &[algorithm.name, "hash"]);
    });
}

#[test]
fn an_export_holds_what_was_selected_and_can_be_imported_again() {
    for_each_algorithm(|context, algorithm| {
        let (seed, expected) = seeded(context, algorithm);
        let key = context.generate_with(algorithm.name, &[Param::Octets(c"seed", &seed)]).unwrap();
        let public = ("pub".to_owned(), expected.public_key().to_vec());
        assert_eq!(key.export(PUBLIC).unwrap(), std::slice::from_ref(&public), "{}", algorithm.name);

        let all = key.export(KEY_PAIR).unwrap();
        let mut parts = vec![public, ("priv".to_owned(), expected.to_bytes().unwrap().to_vec())];
        // Hybrids have no seed format of their own in OpenSSL.
        if algorithm.curve.is_none() {
            parts.push(("seed".to_owned(), seed));
        }
        assert_eq!(all, parts, "{}", algorithm.name);

        let params: Vec<_> = [c"pub", c"priv", c"seed"]
            .into_iter()
            .zip(&all)
            .map(|(name, (exported, bytes))| {
                assert_eq!(exported, name.to_str().unwrap());
                Param::Octets(name, bytes)
            })
            .collect();
        let again = context.import(algorithm.name, KEY_PAIR, &params).unwrap();
        assert_eq!(again.equals(&key), 1, "{}", algorithm.name);
        assert!(context.empty(algorithm.name).unwrap().export(PUBLIC).is_err(), "{}", algorithm.name);
    });
}

#[test]
fn a_duplicate_outlives_its_original_and_does_the_same() {
    for_each_algorithm(|context, algorithm| {
        let key = context.generate(algorithm.name).unwrap();
        let (ciphertext, secret) = key.encapsulate().unwrap();
        let copy = key.duplicate().unwrap();
        assert_eq!(copy.equals(&key), 1, "{}", algorithm.name);
        drop(key);
        assert_eq!(copy.decapsulate(&ciphertext).unwrap(), secret, "{}", algorithm.name);
        let empty = context.empty(algorithm.name).unwrap().duplicate().unwrap();
        refused(empty.encapsulate(), MISSING, &[algorithm.name]);
    });
}

#[test]
fn an_operation_s_duplicate_goes_on_where_the_original_stood() {
    for_each_algorithm(|context, algorithm| {
        let key = context.generate(algorithm.name).unwrap();
        let (ciphertext, secret) = key.encapsulate().unwrap();
        let operation = key.operation().unwrap();
        operation.decapsulate_init().unwrap();
        let copy = operation.duplicate().unwrap();
        drop(operation);
        let mut found = vec![0; secret.len()];
        copy.decapsulate_into(&ciphertext, &mut found).unwrap();
        assert_eq!(found, secret, "{}", algorithm.name);
    });
}

#[test]
fn keys_are_equal_when_their_public_keys_are() {
    let context = with_provider("");
    let keys: Vec<Key<'_>> =
        KEM_ALGORITHMS.iter().map(|algorithm| context.generate(algorithm.name).unwrap()).collect();
    for (row, key) in keys.iter().enumerate() {
        for (other_row, other) in keys.iter().enumerate() {
            // EVP_PKEY_eq(3): 1 equal, 0 different, -1 different types.
            assert_eq!(key.equals(other), if row == other_row { 1 } else { -1 });
        }
        let public = context.empty(KEM_ALGORITHMS[row].name).unwrap();
        public.set_encoded(&key.encoded().unwrap()).unwrap();
        assert_eq!(key.equals(&public), 1);
        assert_eq!(key.equals(&context.generate(KEM_ALGORITHMS[row].name).unwrap()), 0);
    }
}

#[test]
fn a_whole_key_passes_the_checks_and_a_part_fails_those_of_the_whole() {
    for_each_algorithm(|context, algorithm| {
        let key = context.generate(algorithm.name).unwrap();
        key.check().unwrap();
        key.pairwise_check().unwrap();
        key.public_check().unwrap();
        let public = context.empty(algorithm.name).unwrap();
        assert!(public.public_check().is_err(), "{}: an empty key is no public key", algorithm.name);
        public.set_encoded(&key.encoded().unwrap()).unwrap();
        public.public_check().unwrap();
        refused(public.pairwise_check(), MISSING, &[algorithm.name]);
        assert!(public.check().is_err(), "{}", algorithm.name);
    });
}

#[test]
fn figures_are_those_that_openssl_3_5_states() {
    for_each_algorithm(|context, algorithm| {
        let key = context.generate(algorithm.name).unwrap();
        let (bits, security_bits, category) = match algorithm.ml_kem {
            MlKem::MlKem512 => (512, 128, 1),
            MlKem::MlKem768 => (768, 192, 3),
            _ => (1024, 256, 5),
        };
        assert_eq!((key.bits(), key.security_bits()), (bits, security_bits), "{}", algorithm.name);
        assert_eq!(key.size() as usize, algorithm.ciphertext_bytes(), "{}", algorithm.name);
        assert_eq!(key.integer(c"security-category").unwrap(), category, "{}", algorithm.name);
    });
}

#[test]
fn a_parameter_that_does_not_fit_its_buffer_is_refused_with_the_size() {
    for_each_algorithm(|context, algorithm| {
        let key = context.generate(algorithm.name).unwrap();
        let needed = algorithm.public_key_bytes();
        let too_small = key.octets(c"encoded-pub-key", needed - 1);
        refused(too_small, ARGUMENT, &["encoded-pub-key", &needed.to_string()]);
        assert_eq!(key.octets(c"encoded-pub-key", needed).unwrap(), key.octets(c"pub", needed + 9).unwrap());
        assert!(key.octets(c"no-such-parameter", 32).is_err());
    });
}
