//! The provider's section in openssl.cnf, as libcrypto hands it over.

mod common;

use common::openssl::Context;
use common::{configure, with_provider};
use qtls_crypto::{KEM_ALGORITHMS, KeyAlgorithm};

/// OpenSSL passes over a provider that it cannot load, so a provider with a wrong option is loaded all the same, and
/// stops TLS instead.
#[test]
fn a_wrong_option_stops_every_tls_server_and_client_and_says_which_value_of_which_option() {
    for (line, parts) in [
        ("native = force", &["native", "force", "yield, prefer"][..]),
        ("self-test = onload", &["self-test", "onload", "on-load, on-demand, off"]),
        ("log = verbose", &["log", "verbose", "error, warn, info, debug"]),
        ("groups = X25519MLKEM786", &["groups", "'X25519MLKEM786' is not a group", "X25519MLKEM768"]),
        ("groups = X25519MLKEM768:X25519", &["groups", "'X25519' is not a group", "ssl_conf"]),
        ("groups = MLKEM768:ML-KEM-768", &["groups", "twice"]),
        ("groups = 100%s", &["groups", "100%s"]),
        ("signatures = mldsa66", &["signatures", "'mldsa66' is not a signature scheme", "mldsa65"]),
        (
            "signatures = id-MLDSA65-ECDSA-P256-SHA512",
            &["signatures", "id-MLDSA65-ECDSA-P256-SHA512", "not handshakes"],
        ),
        ("signatures = mldsa65:ML-DSA-65", &["signatures", "twice"]),
        ("unguarded-signatures = yes", &["unguarded-signatures", "yes", "withhold, offer"]),
    ] {
        let context = Context::new();
        configure(&context, line).unwrap_or_else(|errors| panic!("{line}: {errors}"));
        let errors = context.make_tls_context().expect_err(line);
        assert!(
            errors.says("invalid option in openssl.cnf", parts),
            "{line}: expected {parts:?}, the queue holds: {errors}"
        );
        assert_eq!(context.load("qtls").unwrap().integer(c"status").unwrap(), 0, "{line}");
        for algorithm in KeyAlgorithm::all() {
            assert!(context.generate(algorithm.name()).is_err(), "{line}: {} is offered", algorithm.name());
        }
    }
    let context = with_provider("native = yield");
    context.make_tls_context().unwrap_or_else(|errors| panic!("without a mistake: {errors}"));
}

#[test]
fn every_documented_value_loads_and_shows_in_the_provider_s_parameters() {
    for (line, native, self_tests) in [
        ("", "yield", "not-run"),
        ("native = yield", "yield", "not-run"),
        ("native = prefer", "prefer", "not-run"),
        ("self-test = on-load", "yield", "passed"),
        ("self-test = on-demand", "yield", "not-run"),
        ("self-test = off", "yield", "off"),
        ("log = error", "yield", "not-run"),
        ("log = warn", "yield", "not-run"),
        ("groups = mlkem768 , X25519MLKEM768", "yield", "not-run"),
        ("signatures = mldsa87, DILITHIUM3", "yield", "not-run"),
        ("signatures = none", "yield", "not-run"),
        ("unguarded-signatures = withhold", "yield", "not-run"),
        ("unguarded-signatures = offer", "yield", "not-run"),
    ] {
        let context = with_provider(line);
        let provider = context.load("qtls").unwrap();
        assert_eq!(provider.text(c"qtls-native").unwrap(), native, "{line}");
        let expected: Vec<_> = KeyAlgorithm::all()
            .map(|algorithm| match algorithm {
                KeyAlgorithm::Kem(row) => format!("{}={self_tests}", row.group_name),
                KeyAlgorithm::Signature(row) => format!("{}={self_tests}", row.name),
            })
            .collect();
        assert_eq!(provider.text(c"qtls-self-tests").unwrap(), expected.join(" "), "{line}");
    }
}

#[test]
fn the_provider_tells_its_name_version_build_and_status() {
    let context = with_provider("");
    let provider = context.load("qtls").unwrap();
    assert_eq!(provider.static_text(c"name").unwrap(), "Q-TLS post-quantum provider");
    assert_eq!(provider.static_text(c"version").unwrap(), env!("CARGO_PKG_VERSION"));
    let build = provider.static_text(c"buildinfo").unwrap();
    assert!(build.contains(env!("CARGO_PKG_VERSION")) && build.contains("backend"), "{build}");
    assert_eq!(provider.integer(c"status").unwrap(), 1);
    // `openssl list -providers` asks by pointer, doctor by copy.
    assert_eq!(provider.text(c"version").unwrap(), env!("CARGO_PKG_VERSION"));
}

#[test]
fn libssl_takes_exactly_the_groups_that_are_offered() {
    let context = with_provider("");
    for algorithm in &KEM_ALGORITHMS {
        assert!(context.accepts_groups(algorithm.group_name), "{}", algorithm.group_name);
    }
    assert!(context.accepts_groups("X25519MLKEM768:X25519"));
    assert!(!context.accepts_groups("X25519MLKEM786"));

    let context = with_provider("groups = SecP256r1MLKEM768:MLKEM512");
    for algorithm in &KEM_ALGORITHMS {
        let offered = ["SecP256r1MLKEM768", "MLKEM512"].contains(&algorithm.group_name);
        assert_eq!(context.accepts_groups(algorithm.group_name), offered, "{}", algorithm.group_name);
        context.generate(algorithm.name).expect("an algorithm is there for EVP, whatever groups are offered");
    }
    assert_eq!(context.load("qtls").unwrap().text(c"qtls-groups").unwrap(), "SecP256r1MLKEM768:MLKEM512");
}

#[test]
fn an_unknown_capability_is_no_error_and_a_callback_s_refusal_is_one() {
    let context = with_provider("");
    let provider = context.load("qtls").unwrap();
    assert_eq!(provider.capabilities("TLS-GROUP", true).unwrap(), KEM_ALGORITHMS.len());
    assert_eq!(provider.capabilities("tls-group", true).unwrap(), KEM_ALGORITHMS.len());
    // This host's libssl, 3.0, asks for none; `tests/versions.rs` has one that does.
    assert_eq!(provider.capabilities("TLS-SIGALG", true).unwrap(), 0);
    assert_eq!(provider.text(c"qtls-signatures").unwrap(), "none");
    assert_eq!(provider.capabilities("SOMETHING-OF-OPENSSL-5", true).unwrap(), 0);
    assert!(provider.capabilities("TLS-GROUP", false).is_err());
}

#[test]
fn two_library_contexts_have_their_own_options() {
    let one = with_provider("groups = MLKEM512");
    let other = with_provider("groups = MLKEM1024\nself-test = off");
    assert!(one.accepts_groups("MLKEM512") && !one.accepts_groups("MLKEM1024"));
    assert!(other.accepts_groups("MLKEM1024") && !other.accepts_groups("MLKEM512"));
}
