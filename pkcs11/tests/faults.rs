//! What goes wrong with tokens: each fault is an error that says what to do, or none at all, and is over when its cause is.

mod common;

use common::process::{clear_environment, fork, in_child, wait_for};
use common::*;
use qtls_pkcs11::{Config, Error, ErrorKind, Hsm, PinSource, TokenKey, TokenStatus, Uri, read_status};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

/// A token with an EC key, behind the module that fails on demand.
fn ec_token(softhsm: &Softhsm) {
    softhsm.init_token("one");
    softhsm.generate("one", "EC:prime256v1", "ec", "01");
}

/// The same key in the tokens `one` and `two`, and as a file.
fn same_key_twice(softhsm: &Softhsm) -> std::path::PathBuf {
    softhsm.init_token("one");
    softhsm.init_token("two");
    let arguments = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
    let file = openssl_key(softhsm.directory(), "ec.pem", &arguments);
    softhsm.import("one", &file, "ec", "01");
    softhsm.import("two", &file, "ec", "01");
    file
}

fn status(config: &Config) -> qtls_pkcs11::Status {
    read_status(&config.status_directory).unwrap().pop().unwrap()
}

fn first_token(config: &Config) -> TokenStatus {
    status(config).tokens.swap_remove(0)
}

fn refused(key: &TokenKey) -> Error {
    sign_and_verify(key).expect_err("it must not sign")
}

#[test]
fn a_wrong_pin_is_tried_once_by_all_processes_together() {
    isolated("a_wrong_pin_is_tried_once_by_all_processes_together", |softhsm| {
        ec_token(softhsm);
        let uri = softhsm.uri("one", "ec");
        let good = config(softhsm.faulty_module(), softhsm.directory());
        let public = key(good.clone(), &uri).1.public().clone();
        let logins = softhsm.calls("C_Login");
        // It takes so long that all are there before the first one knows.
        softhsm.faults("C_Login slow=200");

        let mut bad = good;
        bad.tokens[0].pin_source = Some(PinSource::Value(pin("wrong-pin")));
        let hsm = Hsm::new(bad.clone());
        let key = hsm.key(&uri, Some(public)).unwrap();
        let sign = || {
            for _ in 0..3 {
                let error = refused(&key);
                assert!(matches!(error.kind(), ErrorKind::Pin | ErrorKind::Unavailable), "{error}");
                assert!(!format!("{error} {error:?}").contains("wrong-pin"));
                std::thread::sleep(Duration::from_millis(60));
            }
        };
        let workers: Vec<_> = (0..4).map(|_| fork(sign)).collect();
        assert!(workers.into_iter().all(wait_for));
        assert_eq!(softhsm.calls("C_Login") - logins, 1);
        let error = refused(&key);
        assert_eq!(error.kind(), ErrorKind::Pin);
        assert!(error.to_string().contains("refused this PIN before"), "{error}");
        assert_eq!(softhsm.calls("C_Login") - logins, 1);
        let token = first_token(&bad);
        assert!(token.pin_refused && token.connected == Some(false), "{token:?}");
    });
}

#[test]
fn a_corrected_pin_file_is_read_again() {
    isolated("a_corrected_pin_file_is_read_again", |softhsm| {
        ec_token(softhsm);
        let uri = softhsm.uri("one", "ec");
        let file = softhsm.directory().join("pin");
        std::fs::write(&file, "4321\n").unwrap();
        let mut config = config(softhsm.faulty_module(), softhsm.directory());
        config.tokens[0].pin_source = Some(PinSource::File(file.clone()));
        let hsm = Hsm::new(config.clone());
        for _ in 0..3 {
            let error = hsm.key(&uri, None).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Pin, "{error}");
        }
        assert_eq!(softhsm.calls("C_Login"), 1);
        std::fs::write(&file, PIN).unwrap();
        let key = hsm.key(&uri, None).unwrap();
        sign_and_verify(&key).unwrap();
        assert!(!first_token(&config).pin_refused);

        // A worker cannot read the file, and has no need to.
        std::fs::remove_file(&file).unwrap();
        assert!(Arc::ptr_eq(&key, &hsm.key(&uri, None).unwrap()));
        assert!(in_child(|| sign_and_verify(&key).unwrap()));
    });
}

#[test]
fn no_pin_is_tried_that_could_lock_the_token() {
    isolated("no_pin_is_tried_that_could_lock_the_token", |softhsm| {
        ec_token(softhsm);
        for (flag, word) in [(0x20000, "one more wrong PIN locks it"), (0x40000, "its PIN is locked")] {
            softhsm.faults(&format!("token-flags {flag}"));
            let hsm = Hsm::new(config(softhsm.faulty_module(), softhsm.directory()));
            let error = hsm.key(&softhsm.uri("one", "ec"), None).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Pin);
            assert!(error.to_string().contains(word), "{error}");
        }
        assert_eq!(softhsm.calls("C_Login"), 0);
    });
}

#[test]
fn no_pin_is_no_login_and_the_error_says_so() {
    isolated("no_pin_is_no_login_and_the_error_says_so", |softhsm| {
        ec_token(softhsm);
        let mut config = config(SOFTHSM, softhsm.directory());
        config.tokens[0].pin_source = None;
        let error = Hsm::new(config).key(&softhsm.uri("one", "ec"), None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Object);
        assert!(error.to_string().contains("no PIN is configured"), "{error}");
    });
}

#[test]
fn a_known_public_key_needs_no_token_until_it_signs() {
    isolated("a_known_public_key_needs_no_token_until_it_signs", |softhsm| {
        ec_token(softhsm);
        let uri = softhsm.uri("one", "ec");
        let config = config(softhsm.faulty_module(), softhsm.directory());
        let public = key(config.clone(), &uri).1.public().clone();
        let initialized = softhsm.calls("C_Initialize");
        assert_eq!(initialized, softhsm.calls("C_Finalize"), "what was opened to read the key is closed");
        softhsm.faults("absent");
        let hsm = Hsm::new(config);
        let key = hsm.key(&uri, Some(public)).unwrap();
        assert_eq!(softhsm.calls("C_Initialize"), initialized);
        assert_eq!(refused(&key).kind(), ErrorKind::TokenAbsent);
        softhsm.faults("");
        eventually("the token is back", || sign_and_verify(&key).map_err(|error| error.to_string()));
    });
}

#[test]
fn a_key_that_is_another_one_now_does_not_sign() {
    isolated("a_key_that_is_another_one_now_does_not_sign", |softhsm| {
        ec_token(softhsm);
        let uri = softhsm.uri("one", "ec");
        let public = key(config(SOFTHSM, softhsm.directory()), &uri).1.public().clone();
        for class in ["privkey", "pubkey"] {
            softhsm.pkcs11_tool("one", &["--delete-object", "--type", class, "--id", "01"]);
        }
        softhsm.generate("one", "EC:prime256v1", "ec", "01");
        let hsm = Hsm::new(config(SOFTHSM, softhsm.directory()));
        let error = refused(&hsm.key(&uri, Some(public)).unwrap());
        assert_eq!(error.kind(), ErrorKind::Object);
        assert!(error.to_string().contains("is another one"), "{error}");
    });
}

#[test]
fn an_answer_that_a_new_session_or_start_heals_fails_no_signature() {
    isolated("an_answer_that_a_new_session_or_start_heals_fails_no_signature", |softhsm| {
        ec_token(softhsm);
        let answers = [
            ("CKR_SESSION_HANDLE_INVALID", 0xB3, 0),
            ("CKR_SESSION_CLOSED", 0xB0, 0),
            ("CKR_OBJECT_HANDLE_INVALID", 0x82, 0),
            ("CKR_KEY_HANDLE_INVALID", 0x60, 0),
            ("CKR_USER_NOT_LOGGED_IN", 0x101, 0),
            ("CKR_OPERATION_ACTIVE", 0x90, 0),
            ("CKR_DEVICE_ERROR", 0x30, 1),
            ("CKR_DEVICE_REMOVED", 0x32, 1),
            ("CKR_TOKEN_NOT_PRESENT", 0xE0, 1),
            ("CKR_GENERAL_ERROR", 0x5, 1),
            ("CKR_FUNCTION_FAILED", 0x6, 1),
            ("CKR_CRYPTOKI_NOT_INITIALIZED", 0x190, 1),
            ("a vendor's", 0x8000_0001_u32, 1),
        ];
        for config in both_ways(softhsm.faulty_module(), softhsm.directory()) {
            let (_hsm, key) = key(config.clone(), &softhsm.uri("one", "ec"));
            sign_and_verify(&key).unwrap();
            for function in ["C_SignInit", "C_Sign"] {
                for (name, answer, reconnects) in answers {
                    let before = first_token(&config);
                    softhsm.faults(&format!("{function} rv={answer:#x} times=1"));
                    sign_and_verify(&key).unwrap_or_else(|error| panic!("{function} {name}: {error}"));
                    let after = first_token(&config);
                    assert_eq!(after.retries - before.retries, 1, "{function} {name}");
                    assert_eq!(after.reconnects - before.reconnects, reconnects, "{function} {name}");
                    assert_eq!(after.failures, 0);
                    softhsm.faults("");
                }
            }
            // In the middle of a first connection.
            for function in
                ["C_OpenSession", "C_Login", "C_FindObjectsInit", "C_FindObjects", "C_GetSlotList"]
            {
                for answer in [0x5, 0x32, 0xB3] {
                    softhsm.faults(&format!("{function} rv={answer:#x} times=1"));
                    assert!(in_child(|| sign_and_verify(&key).unwrap()), "{function} {answer:#x}");
                }
            }
            softhsm.faults("");
        }
        assert_eq!(softhsm.misuse(), Vec::<String>::new());
    });
}

#[test]
fn a_tokens_service_may_restart_at_any_time() {
    isolated("a_tokens_service_may_restart_at_any_time", |softhsm| {
        ec_token(softhsm);
        for config in both_ways(softhsm.faulty_module(), softhsm.directory()) {
            let (_hsm, key) = key(config.clone(), &softhsm.uri("one", "ec"));
            for restart in 0..5 {
                sign_and_verify(&key).unwrap();
                softhsm.faults(&format!("restart {restart}"));
                sign_and_verify(&key).unwrap();
            }
            assert_eq!(first_token(&config).failures, 0);
        }
        assert_eq!(softhsm.misuse(), Vec::<String>::new());
    });
}

#[test]
fn a_fault_that_stays_is_an_error_with_cause_and_remedy_and_ends_with_its_cause() {
    isolated("a_fault_that_stays_is_an_error_with_cause_and_remedy_and_ends_with_its_cause", |softhsm| {
        ec_token(softhsm);
        for config in both_ways(softhsm.faulty_module(), softhsm.directory()) {
            let (_hsm, key) = key(config.clone(), &softhsm.uri("one", "ec"));
            for (faults, kind, word) in [
                ("C_Sign rv=0x30", ErrorKind::Token, "CKR_DEVICE_ERROR"),
                ("C_SignInit rv=0xb3", ErrorKind::Token, "CKR_SESSION_HANDLE_INVALID"),
                ("C_SignInit rv=0x70", ErrorKind::Unsupported, "CKR_MECHANISM_INVALID"),
                ("C_SignInit rv=0x68", ErrorKind::Unsupported, "CKR_KEY_FUNCTION_NOT_PERMITTED"),
                ("C_Sign rv=0x31", ErrorKind::Full, "CKR_DEVICE_MEMORY"),
                ("C_Sign truncate", ErrorKind::Token, "63 bytes"),
                ("absent", ErrorKind::TokenAbsent, "CKR_DEVICE_REMOVED"),
            ] {
                sign_and_verify(&key).unwrap();
                softhsm.faults(faults);
                let error = refused(&key);
                assert_eq!(error.kind(), kind, "{faults}: {error}");
                for part in [word, "pkcs11:token=one;object=ec"] {
                    let is_there = error.to_string().contains(part);
                    assert!(is_there || kind == ErrorKind::TokenAbsent, "{faults}: {error}");
                }
                softhsm.faults("");
                eventually(faults, || sign_and_verify(&key).map_err(|error| error.to_string()));
            }
        }
        assert_eq!(softhsm.misuse(), Vec::<String>::new());
    });
}

#[test]
fn a_module_that_does_not_start_is_told_and_started_later() {
    isolated("a_module_that_does_not_start_is_told_and_started_later", |softhsm| {
        ec_token(softhsm);
        let hsm = Hsm::new(config(softhsm.faulty_module(), softhsm.directory()));
        softhsm.faults("C_Initialize rv=0x30");
        let error = hsm.key(&softhsm.uri("one", "ec"), None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Module);
        assert!(error.to_string().contains("C_Initialize answered CKR_DEVICE_ERROR"), "{error}");
        softhsm.faults("");
        let key = hsm.key(&softhsm.uri("one", "ec"), None).unwrap();
        softhsm.faults("C_Initialize rv=0x30");
        assert!(in_child(|| {
            assert_eq!(refused(&key).kind(), ErrorKind::Module);
            softhsm.faults("");
            eventually("the module starts", || sign_and_verify(&key).map_err(|error| error.to_string()));
        }));
    });
}

#[test]
fn files_that_are_no_modules_are_told() {
    isolated("files_that_are_no_modules_are_told", |softhsm| {
        let text = softhsm.directory().join("text.so");
        std::fs::write(&text, "no library").unwrap();
        let no_module = "/usr/lib/x86_64-linux-gnu/libc.so.6";
        for (module, word) in [
            ("/nowhere/module.so", "No such file"),
            (text.to_str().unwrap(), "text.so"),
            (no_module, "no C_GetFunctionList"),
        ] {
            if module == no_module && !Path::new(no_module).exists() {
                continue;
            }
            let hsm = Hsm::new(config(module, softhsm.directory()));
            let error = hsm.key(&softhsm.uri("one", "ec"), None).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Module);
            let text = error.to_string();
            assert!(text.contains(word) && text.contains(module) && text.contains("object=ec"), "{text}");
        }
    });
}

#[test]
fn a_uri_loads_no_module_that_is_not_configured() {
    isolated("a_uri_loads_no_module_that_is_not_configured", |softhsm| {
        ec_token(softhsm);
        let hsm = Hsm::new(config(SOFTHSM, softhsm.directory()));
        let uri = Uri::parse("pkcs11:token=one;object=ec?module-path=/tmp/evil.so").unwrap();
        let error = hsm.key(&uri, None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        let uri = Uri::parse(&format!("pkcs11:token=one;object=ec?module-path={SOFTHSM}")).unwrap();
        hsm.key(&uri, None).unwrap();
    });
}

#[test]
fn keys_that_a_server_cannot_use_are_refused() {
    isolated("keys_that_a_server_cannot_use_are_refused", |softhsm| {
        ec_token(softhsm);
        softhsm.generate("one", "EC:secp521r1", "p521", "02");
        softhsm.generate("one", "rsa:1024", "short", "03");
        for (faults, object, word) in [
            ("always-authenticate", "ec", "CKA_ALWAYS_AUTHENTICATE"),
            ("no-sign", "ec", "CKA_SIGN"),
            ("", "p521", "another curve"),
            ("", "short", "2,048"),
        ] {
            softhsm.faults(faults);
            let hsm = Hsm::new(config(softhsm.faulty_module(), softhsm.directory()));
            let error = hsm.key(&softhsm.uri("one", object), None).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            assert!(error.to_string().contains(word), "{error}");
        }
    });
}

#[test]
fn threads_share_a_bounded_pool() {
    isolated("threads_share_a_bounded_pool", |softhsm| {
        ec_token(softhsm);
        for mut config in both_ways(softhsm.faulty_module(), softhsm.directory()) {
            config.sessions = 3;
            let (_hsm, key) = key(config.clone(), &softhsm.uri("one", "ec"));
            let opened = softhsm.calls("C_OpenSession");
            sign_in_threads(&key, 8, 20);
            assert!(softhsm.calls("C_OpenSession") - opened <= 3);
            let token = first_token(&config);
            assert_eq!((token.signatures, token.failures, token.connected), (160, 0, Some(true)));
            assert!(token.latency_us > 0);
        }
        assert_eq!(softhsm.misuse(), Vec::<String>::new());
    });
}

#[test]
fn a_tokens_session_limit_bounds_the_pool() {
    isolated("a_tokens_session_limit_bounds_the_pool", |softhsm| {
        ec_token(softhsm);
        softhsm.faults("sessions 2\nC_Sign slow=2");
        for config in both_ways(softhsm.faulty_module(), softhsm.directory()) {
            let (_hsm, key) = key(config.clone(), &softhsm.uri("one", "ec"));
            sign_in_threads(&key, 6, 20);
            assert_eq!(first_token(&config).failures, 0);
        }
        softhsm.faults("sessions 0");
        for config in both_ways(softhsm.faulty_module(), softhsm.directory()) {
            let error = Hsm::new(config).key(&softhsm.uri("one", "ec"), None).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Sessions);
            assert!(error.to_string().contains("no session left"), "{error}");
        }
        assert_eq!(softhsm.misuse(), Vec::<String>::new());
    });
}

#[test]
fn whoever_gets_no_session_in_time_is_told_how_to_get_more() {
    isolated("whoever_gets_no_session_in_time_is_told_how_to_get_more", |softhsm| {
        ec_token(softhsm);
        let mut config = config(softhsm.faulty_module(), softhsm.directory());
        (config.sessions, config.wait) = (1, Duration::from_millis(20));
        let (_hsm, key) = key(config.clone(), &softhsm.uri("one", "ec"));
        sign_and_verify(&key).unwrap();
        // Longer than anybody waits, and shorter than a call may take.
        softhsm.faults("C_Sign slow=1000");
        let at_once = Barrier::new(2);
        let sign = || {
            at_once.wait();
            key.sign(qtls_pkcs11::Mechanism::Ecdsa, &[7; 32]).err()
        };
        let errors = std::thread::scope(|scope| {
            let (one, other) = (scope.spawn(sign), scope.spawn(sign));
            [one.join().unwrap(), other.join().unwrap()]
        });
        let [error] = &errors.into_iter().flatten().collect::<Vec<_>>()[..] else {
            panic!("one of them had to wait in vain");
        };
        assert_eq!(error.kind(), ErrorKind::Sessions);
        assert!(error.to_string().contains("pkcs11-sessions"), "{error}");
        softhsm.faults("");
        sign_and_verify(&key).unwrap();
    });
}

#[test]
fn token_files_taken_away_and_given_back() {
    isolated("token_files_taken_away_and_given_back", |softhsm| {
        ec_token(softhsm);
        let away = softhsm.directory().join("away");
        for config in both_ways(SOFTHSM, softhsm.directory()) {
            let (_hsm, key) = key(config, &softhsm.uri("one", "ec"));
            sign_and_verify(&key).unwrap();
            std::fs::rename(softhsm.tokens(), &away).unwrap();
            // SoftHSM signs from its memory until it looks at its files.
            let error = eventually("the token is gone", || match sign_and_verify(&key) {
                Ok(()) => Err("it signs".to_owned()),
                Err(error) => Ok(error),
            });
            let kinds = [ErrorKind::TokenAbsent, ErrorKind::Token, ErrorKind::Module, ErrorKind::Object];
            assert!(kinds.contains(&error.kind()), "{error}");
            for _ in 0..20 {
                refused(&key);
                std::thread::sleep(Duration::from_millis(10));
            }
            std::fs::rename(&away, softhsm.tokens()).unwrap();
            let back = Instant::now();
            eventually("the token is back", || sign_and_verify(&key).map_err(|error| error.to_string()));
            assert!(back.elapsed() < Duration::from_secs(3), "{:?}", back.elapsed());
        }
    });
}

#[test]
fn the_next_token_signs_while_the_first_one_fails() {
    isolated("the_next_token_signs_while_the_first_one_fails", |softhsm| {
        same_key_twice(softhsm);
        let mut config = config(softhsm.faulty_module(), softhsm.directory());
        config.tokens[0].token = token_config("", Some("one")).token;
        config.tokens.push(token_config(softhsm.second_module(), Some("two")));
        let (_hsm, key) = key(config.clone(), &Uri::parse("pkcs11:object=ec").unwrap());
        let serve = |first: bool| {
            let before = status(&config);
            sign_and_verify(&key).unwrap();
            let after = status(&config);
            let grew = |token: usize| after.tokens[token].signatures - before.tokens[token].signatures;
            assert_eq!((grew(0), grew(1)), if first { (1, 0) } else { (0, 1) });
            assert_eq!(after.failovers - before.failovers, u64::from(!first));
        };
        for faults in
            ["absent", "C_Sign rv=0x30", "C_Initialize rv=0x6\nC_SignInit rv=0x190", "C_SignInit rv=0x70"]
        {
            serve(true);
            softhsm.faults(faults);
            (0..5).for_each(|_| serve(false));
            softhsm.faults("");
            eventually("the first token signs again", || {
                sign_and_verify(&key).unwrap();
                let before = status(&config).tokens[0].signatures;
                sign_and_verify(&key).unwrap();
                if status(&config).tokens[0].signatures > before {
                    Ok(())
                } else {
                    Err("the second signs".into())
                }
            });
        }
        assert!(in_child(|| serve(true)));
        softhsm.faults("absent");
        assert!(in_child(|| serve(false)));
    });
}

#[test]
fn a_start_succeeds_with_the_next_token() {
    isolated("a_start_succeeds_with_the_next_token", |softhsm| {
        same_key_twice(softhsm);
        softhsm.faults("absent");
        let mut config = config(softhsm.faulty_module(), softhsm.directory());
        config.tokens.push(token_config(softhsm.second_module(), Some("two")));
        let (_hsm, key) = key(config.clone(), &softhsm.uri("one", "ec"));
        sign_and_verify(&key).unwrap();
        assert_eq!(status(&config).failovers, 1);
    });
}

#[test]
fn another_key_in_the_next_token_does_not_sign() {
    isolated("another_key_in_the_next_token_does_not_sign", |softhsm| {
        ec_token(softhsm);
        softhsm.init_token("two");
        softhsm.generate("two", "EC:prime256v1", "ec", "01");
        let mut config = config(softhsm.faulty_module(), softhsm.directory());
        config.tokens.push(token_config(softhsm.second_module(), Some("two")));
        let (_hsm, key) = key(config, &softhsm.uri("one", "ec"));
        softhsm.faults("C_Sign rv=0x30");
        let error = refused(&key);
        assert_eq!(error.kind(), ErrorKind::Token, "the first one's");
        for part in ["CKR_DEVICE_ERROR", "; then: ", "is another one", "second.so"] {
            assert!(error.to_string().contains(part), "{part}: {error}");
        }
    });
}

#[test]
fn a_declared_software_key_is_the_last_resort() {
    isolated("a_declared_software_key_is_the_last_resort", |softhsm| {
        let file = same_key_twice(softhsm);
        softhsm.generate("one", "EC:prime256v1", "other", "02");
        let rsa = openssl_key(softhsm.directory(), "rsa.pem", &["-algorithm", "RSA"]);
        softhsm.import("one", &rsa, "rsa", "03");
        let mut config = config(softhsm.faulty_module(), softhsm.directory());
        config.software_keys = vec![rsa, file];
        let hsm = Hsm::new(config.clone());
        let [ec, rsa, other] =
            ["ec", "rsa", "other"].map(|object| hsm.key(&softhsm.uri("one", object), None).unwrap());
        sign_and_verify(&ec).unwrap();
        assert_eq!(status(&config).software_signatures, 0);
        softhsm.faults("absent");
        sign_and_verify(&ec).unwrap();
        sign_and_verify(&rsa).unwrap();
        assert!(in_child(|| sign_and_verify(&ec).unwrap()));
        refused(&other);
        assert_eq!(status(&config).software_signatures, 3);
        softhsm.faults("");
        eventually("the token is back", || {
            let before = first_token(&config).signatures;
            sign_and_verify(&ec).unwrap();
            if first_token(&config).signatures > before { Ok(()) } else { Err("the software signs".into()) }
        });

        config.software_keys = vec![softhsm.directory().join("missing.pem")];
        let error = Hsm::new(config).key(&softhsm.uri("one", "ec"), None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(error.to_string().contains("missing.pem"), "{error}");
    });
}

#[test]
fn a_module_that_hangs_is_given_up_in_time_and_used_again_when_it_answers() {
    isolated("a_module_that_hangs_is_given_up_in_time_and_used_again_when_it_answers", |softhsm| {
        ec_token(softhsm);
        let mut config = config(softhsm.faulty_module(), softhsm.directory());
        config.timeout = Some(Duration::from_millis(250));
        let (_hsm, key) = key(config.clone(), &softhsm.uri("one", "ec"));
        for function in ["C_Sign", "C_SignInit"] {
            sign_and_verify(&key).unwrap();
            let before = first_token(&config);
            softhsm.faults(&format!("{function} hang"));
            let began = Instant::now();
            let error = refused(&key);
            assert_eq!(error.kind(), ErrorKind::Timeout);
            assert!(error.to_string().contains("pkcs11-timeout-ms"), "{error}");
            assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
            // The breaker lets nobody wait as long again.
            let began = Instant::now();
            let error = refused(&key);
            assert_eq!(error.kind(), ErrorKind::Unavailable);
            assert!(
                error.to_string().contains("circuit breaker") && error.to_string().contains("250 ms"),
                "{error}"
            );
            assert!(began.elapsed() < Duration::from_millis(100), "{:?}", began.elapsed());
            // It is tried now and then, and still hangs.
            std::thread::sleep(config.breaker);
            assert_eq!(refused(&key).kind(), ErrorKind::Timeout);
            let after = first_token(&config);
            assert_eq!(after.timeouts - before.timeouts, 2);
            assert_eq!(after.breaker_opened - before.breaker_opened, 2);
            softhsm.faults("");
            eventually("it answers again", || sign_and_verify(&key).map_err(|error| error.to_string()));
        }
        // While a call hangs, others are not finalised under it.
        softhsm.faults("C_Sign hang");
        assert_eq!(refused(&key).kind(), ErrorKind::Timeout);
        softhsm.faults("C_Sign hang\nC_SignInit rv=0x30");
        std::thread::sleep(config.breaker);
        refused(&key);
        assert_eq!(softhsm.misuse(), Vec::<String>::new());
        // The process can end all the same, as this test will.
    });
}

#[test]
fn a_module_that_hangs_while_a_key_is_read_is_given_up_too() {
    isolated("a_module_that_hangs_while_a_key_is_read_is_given_up_too", |softhsm| {
        ec_token(softhsm);
        let mut config = config(softhsm.faulty_module(), softhsm.directory());
        config.timeout = Some(Duration::from_millis(200));
        for function in ["C_Initialize", "C_GetSlotList", "C_OpenSession", "C_Login", "C_FindObjectsInit"] {
            softhsm.faults(&format!("{function} hang"));
            assert!(
                in_child(|| {
                    let hsm = Hsm::new(config.clone());
                    let error = hsm.key(&softhsm.uri("one", "ec"), None).unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::Timeout, "{function}: {error}");
                }),
                "{function}"
            );
        }
    });
}

#[test]
fn the_circuit_breaker_opens_when_most_fail_and_closes_when_they_succeed() {
    isolated("the_circuit_breaker_opens_when_most_fail_and_closes_when_they_succeed", |softhsm| {
        ec_token(softhsm);
        let mut config = config(softhsm.faulty_module(), softhsm.directory());
        config.retry = Duration::from_millis(1);
        let (_hsm, key) = key(config.clone(), &softhsm.uri("one", "ec"));
        softhsm.faults("C_Sign rv=0x30");
        eventually("it opens", || {
            refused(&key);
            if first_token(&config).breaker_opened == 1 { Ok(()) } else { Err("closed".into()) }
        });
        let calls = softhsm.calls("C_Sign");
        for _ in 0..10 {
            assert_eq!(refused(&key).kind(), ErrorKind::Unavailable);
        }
        assert_eq!(softhsm.calls("C_Sign"), calls, "nothing is asked of the token");
        softhsm.faults("");
        std::thread::sleep(config.breaker);
        eventually("it is half open", || sign_and_verify(&key).map_err(|error| error.to_string()));
        (0..10).for_each(|_| sign_and_verify(&key).unwrap());
    });
}

#[test]
fn a_signature_takes_two_calls_and_leaves_nothing_behind() {
    isolated("a_signature_takes_two_calls_and_leaves_nothing_behind", |softhsm| {
        ec_token(softhsm);
        for config in both_ways(softhsm.faulty_module(), softhsm.directory()) {
            let (_hsm, key) = key(config, &softhsm.uri("one", "ec"));
            let sign = |times: usize| {
                (0..times).for_each(|_| drop(key.sign(qtls_pkcs11::Mechanism::Ecdsa, &[7; 32]).unwrap()));
            };
            sign(1000);
            let log = || std::fs::read_to_string(softhsm.directory().join("log")).unwrap().lines().count();
            let (lines, memory) = (log(), resident_kilobytes());
            sign(5000);
            assert_eq!(log() - lines, 2 * 5000);
            assert!(resident_kilobytes() < memory + 1024, "{memory} kB grew to {}", resident_kilobytes());
        }
    });
}

#[test]
fn a_confined_worker_with_an_empty_environment_signs() {
    isolated("a_confined_worker_with_an_empty_environment_signs", |softhsm| {
        ec_token(softhsm);
        for config in both_ways(SOFTHSM, softhsm.directory()) {
            let (_hsm, key) = key(config, &softhsm.uri("one", "ec"));
            assert!(in_child(|| {
                clear_environment();
                sign_and_verify_with_path(&key);
            }));
        }
    });
}

#[test]
fn a_module_that_somebody_else_initialised_is_left_to_them() {
    isolated("a_module_that_somebody_else_initialised_is_left_to_them", |softhsm| {
        ec_token(softhsm);
        // The faulty module initialises SoftHSM, which is then used directly.
        let (_owner, owners_key) =
            key(config(softhsm.faulty_module(), softhsm.directory()), &softhsm.uri("one", "ec"));
        sign_and_verify(&owners_key).unwrap();
        let (guest, guests_key) = key(config(SOFTHSM, softhsm.directory()), &softhsm.uri("one", "ec"));
        sign_and_verify(&guests_key).unwrap();
        let finalized = softhsm.calls("C_Finalize");
        guest.close();
        assert_eq!(first_token(&config("", softhsm.directory())).retries, 0);
        sign_and_verify(&owners_key).unwrap();
        sign_and_verify(&guests_key).unwrap();
        assert_eq!(softhsm.calls("C_Finalize"), finalized);
        // When its owner finalises it, the guest becomes the owner.
        _owner.close();
        sign_and_verify(&guests_key).unwrap();
        sign_and_verify(&guests_key).unwrap();
        sign_and_verify(&owners_key).unwrap();
    });
}

#[test]
fn two_configurations_share_one_module() {
    isolated("two_configurations_share_one_module", |softhsm| {
        ec_token(softhsm);
        for config in both_ways(softhsm.faulty_module(), softhsm.directory()) {
            let (one, first) = key(config.clone(), &softhsm.uri("one", "ec"));
            let (_two, second) = key(config, &softhsm.uri("one", "ec"));
            for _ in 0..3 {
                sign_and_verify(&first).unwrap();
                sign_and_verify(&second).unwrap();
                one.close();
                sign_and_verify(&second).unwrap();
            }
        }
        assert_eq!(softhsm.misuse(), Vec::<String>::new());
    });
}

#[test]
fn what_was_opened_is_closed_at_the_end() {
    isolated("what_was_opened_is_closed_at_the_end", |softhsm| {
        ec_token(softhsm);
        let open = || softhsm.calls("C_Initialize") - softhsm.calls("C_Finalize");
        for config in both_ways(softhsm.faulty_module(), softhsm.directory()) {
            assert!(in_child(|| {
                let (hsm, key) = key(config.clone(), &softhsm.uri("one", "ec"));
                assert_eq!(open(), 0, "the key is read");
                sign_and_verify(&key).unwrap();
                assert_eq!(open(), 1);
                hsm.close();
                assert_eq!(open(), 0, "closed");
                sign_and_verify(&key).unwrap();
                assert_eq!(open(), 1, "a key that is still in use opens again");
                std::mem::forget(hsm);
            }));
            assert_eq!(open(), 0, "a process that exits finalises");
        }
        assert_eq!(softhsm.misuse(), Vec::<String>::new());
    });
}

/// Some signatures in each of some threads, of which none may fail.
fn sign_in_threads(key: &TokenKey, threads: usize, times: usize) {
    let failed = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                for _ in 0..times {
                    if let Err(error) = key.sign(qtls_pkcs11::Mechanism::Ecdsa, &[7; 32]) {
                        eprintln!("{error}");
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(failed.into_inner(), 0);
}

/// Where there is no PATH to find OpenSSL by.
fn sign_and_verify_with_path(key: &TokenKey) {
    sign_and_verify(key).unwrap();
}

fn resident_kilobytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
