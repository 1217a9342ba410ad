//! Keys in tokens, through this host's libcrypto and SoftHSM. Other versions and ML-DSA: `tests/tests/hsm.rs`.

mod common;

use common::openssl::{
    CERTIFICATES, Context, Errors, File, KEY_PAIR, Key, PRIVATE_KEYS, PUBLIC, PUBLIC_KEYS, Param, Stored,
};
use common::{configure, with_provider};
use qtls_pkcs11::Uri;
use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::process::Command;

const SOFTHSM: &str = "/usr/lib/softhsm/libsofthsm2.so";
const PIN: &str = "1234";
const MESSAGE: &[u8] = b"a message";

/// The labels of the token's keys; each is in a file as well.
const KEYS: [&str; 3] = ["rsa", "p256", "p384"];

/// Runs a test in a process of its own, because SoftHSM reads its configuration once a process: with a token that holds each of
/// [`KEYS`], and a certificate of the first. `name` is that of the test.
fn with_token(name: &str, test: impl FnOnce(&Token)) {
    const DIRECTORY: &str = "QTLS_TEST_DIRECTORY";
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        return test(&Token { directory: directory.into() });
    }
    let directory = tempfile::tempdir().unwrap();
    let token = Token { directory: directory.path().to_owned() };
    std::fs::create_dir(token.path("token")).unwrap();
    let conf = format!("directories.tokendir = {}\nlog.level = ERROR\n", token.path("token").display());
    std::fs::write(token.path("softhsm2.conf"), conf).unwrap();
    token.fill();
    let output = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(DIRECTORY, directory.path())
        .env("SOFTHSM2_CONF", token.path("softhsm2.conf"))
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(out.contains("1 passed"), "{name} in a process of its own: {}\n{out}{err}", output.status);
    assert!(!err.contains(PIN), "a PIN in the log: {err}");
}

struct Token {
    directory: PathBuf,
}

impl Token {
    fn path(&self, file: &str) -> PathBuf {
        self.directory.join(file)
    }

    fn read(&self, file: &str) -> Vec<u8> {
        std::fs::read(self.path(file)).unwrap()
    }

    /// A context with `default` and the built qtls.so, which knows the token.
    fn context(&self) -> Context {
        with_provider(&self.options()).with_any_provider()
    }

    fn options(&self) -> String {
        format!(
            "pkcs11-module = {SOFTHSM}\npkcs11-token = test\npkcs11-pin-source = value:{PIN}\npkcs11-status-dir = {}",
            self.path("status").display()
        )
    }

    fn uri(key: &str) -> String {
        format!("pkcs11:object={key}")
    }

    /// The key from the token, and from its file.
    fn pair<'a>(&self, context: &'a Context, key: &str) -> (Key<'a>, Key<'a>) {
        let Ok([Stored::Private(in_token)]) = context
            .stored(&Self::uri(key), PRIVATE_KEYS)
            .map(|found| <[_; 1]>::try_from(found).ok().unwrap())
        else {
            panic!("{key} in the token: {}", Errors::take());
        };
        assert_eq!(in_token.provider(), "qtls");
        let in_file = context.read_private_pem(&self.read(&format!("{key}.pem"))).unwrap();
        assert_eq!(in_file.provider(), "default");
        (in_token, in_file)
    }

    fn fill(&self) {
        let run = |program: &str, arguments: &[&str]| {
            let output = Command::new(program)
                .args(arguments)
                .env("SOFTHSM2_CONF", self.path("softhsm2.conf"))
                .env("OPENSSL_CONF", "/dev/null")
                .current_dir(&self.directory)
                .output()
                .unwrap_or_else(|error| panic!("{program} (tests/setup/install-host-packages.sh): {error}"));
            assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
        };
        let softhsm = |arguments: &[&str]| run("softhsm2-util", arguments);
        let pkcs8 = |kind: &[&str], file| run("openssl", &[&["genpkey", "-out", file], kind].concat());
        pkcs8(&["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"], "rsa.pem");
        pkcs8(&["-algorithm", "EC", "-pkeyopt", "group:P-256"], "p256.pem");
        pkcs8(&["-algorithm", "EC", "-pkeyopt", "group:P-384"], "p384.pem");
        pkcs8(&["-algorithm", "EC", "-pkeyopt", "group:P-256"], "other.pem");
        softhsm(&["--init-token", "--free", "--label", "test", "--pin", PIN, "--so-pin", "5678"]);
        for (number, key) in KEYS.iter().enumerate() {
            let (file, id) = (format!("{key}.pem"), format!("0{number}"));
            softhsm(&["--import", &file, "--token", "test", "--label", key, "--id", &id, "--pin", PIN]);
            run("openssl", &["pkey", "-in", &file, "-pubout", "-out", &format!("{key}.pub")]);
        }
        run(
            "openssl",
            &["ec", "-in", "p256.pem", "-pubout", "-conv_form", "compressed", "-out", "p256.short"],
        );
        run("openssl", &["req", "-new", "-x509", "-key", "rsa.pem", "-subj", "/CN=test", "-out", "rsa.crt"]);
        run("openssl", &["x509", "-in", "rsa.crt", "-outform", "DER", "-out", "rsa.der"]);
        let object = ["--write-object", "rsa.der", "--type", "cert", "--label", "rsa", "--id", "00"];
        run(
            "pkcs11-tool",
            &[&["--module", SOFTHSM, "--token-label", "test", "--login", "--pin", PIN], &object[..]].concat(),
        );
    }
}

/// A file that names a key, as `qtls key-ref` writes it.
fn uri_block(uri: &str) -> Vec<u8> {
    qtls_crypto::to_pem("PKCS#11 PROVIDER URI", &Uri::to_pem_der(uri)).as_bytes().to_vec()
}

#[track_caller]
fn no_errors_are_left() {
    let errors = Errors::take();
    assert!(errors.0.is_empty(), "{errors}");
}

#[test]
fn every_way_to_a_key_leads_to_it_and_what_it_signs_verifies_and_no_error_is_left() {
    with_token("every_way_to_a_key_leads_to_it_and_what_it_signs_verifies_and_no_error_is_left", |token| {
        let context = token.context();
        for name in KEYS {
            let (from_store, in_file) = token.pair(&context, name);
            let from_block = context.read_private_pem(&uri_block(&Token::uri(name))).unwrap();
            let reference = [uri_block(&Token::uri(name)), token.read(&format!("{name}.pub"))].concat();
            let from_reference = context.read_private_pem(&reference).unwrap();
            let public = context.read_public_pem(&reference).unwrap();
            assert_eq!(public.provider(), "default");
            std::fs::write(token.path("reference.pem"), &reference).unwrap();
            let path = token.path("reference.pem");
            let stored = context.stored(path.to_str().unwrap(), 0).unwrap();
            let [Stored::Private(from_file), Stored::Public(behind)] = &stored[..] else {
                panic!("{name}: the store finds both blocks");
            };
            assert_eq!((from_file.provider(), behind.provider()), ("qtls".into(), "default".into()));
            for key in [&from_store, &from_block, &from_reference, from_file] {
                assert_eq!((key.provider().as_str(), key.equals(&in_file)), ("qtls", 1), "{name}");
                no_errors_are_left();
                let signature = key.sign(MESSAGE).unwrap();
                no_errors_are_left();
                in_file.verify(MESSAGE, &signature).unwrap();
                public.verify(MESSAGE, &signature).unwrap();
                key.verify(MESSAGE, &signature).unwrap();
                no_errors_are_left();
                key.verify(b"another message", &signature).unwrap_err();
            }
        }
    });
}

#[test]
fn a_key_tells_of_itself_what_default_s_tells_of_the_same() {
    with_token("a_key_tells_of_itself_what_default_s_tells_of_the_same", |token| {
        let context = token.context();
        for name in KEYS {
            let (one, other) = token.pair(&context, name);
            for of in [Key::bits, Key::security_bits, Key::size] {
                assert_eq!(of(&one), of(&other), "{name}");
            }
            assert_eq!(one.default_digest(), other.default_digest());
            let is_rsa = name == "rsa";
            let (names, numbers, texts): (&[_], &[&CStr], &[&CStr]) = if is_rsa {
                (&["RSA", "rsaEncryption"], &[c"n", c"e"], &[])
            } else {
                let texts = &[c"group", c"field-type", c"encoding", c"point-format"];
                (&["EC", "id-ecPublicKey"], &[c"qx", c"qy"], texts)
            };
            for is in names {
                assert!(one.is_a(is) && other.is_a(is));
            }
            for number in numbers {
                assert_eq!(
                    one.natural(number).unwrap(),
                    other.natural(number).unwrap(),
                    "{name}: {number:?}"
                );
            }
            for text in texts {
                assert_eq!(one.text(text).unwrap(), other.text(text).unwrap(), "{name}: {text:?}");
            }
            if !is_rsa {
                assert_eq!(one.octets(c"pub", 128).unwrap(), other.octets(c"pub", 128).unwrap());
                assert_eq!(one.encoded().unwrap(), other.encoded().unwrap());
            }
            assert!(!one.lacks_parameters());
            let file = |key: &Key<'_>| key.encode(File::public(c"DER")).unwrap();
            assert_eq!(file(&one), file(&other));
            no_errors_are_left();
        }
    });
}

#[test]
fn the_private_half_is_given_to_nobody_and_who_wants_to_write_it_hears_why() {
    with_token("the_private_half_is_given_to_nobody_and_who_wants_to_write_it_hears_why", |token| {
        let context = token.context();
        for name in KEYS {
            let (key, in_file) = token.pair(&context, name);
            let errors = key.export(KEY_PAIR).unwrap_err();
            assert!(errors.0.is_empty(), "libcrypto tries this before each signature: {errors}");
            let public = key.export(PUBLIC).unwrap();
            let of_file = in_file.export(PUBLIC).unwrap();
            assert!(!public.is_empty() && public.iter().all(|part| of_file.contains(part)), "{public:?}");
            for (form, structure) in [
                (c"PEM", c"PrivateKeyInfo"),
                (c"DER", c"PrivateKeyInfo"),
                (c"PEM", c"EncryptedPrivateKeyInfo"),
                (c"PEM", c"type-specific"),
            ] {
                let file = File { structure: Some(structure), ..File::private(form) };
                let errors = key.encode(file).unwrap_err();
                let parts = [&Token::uri(name)[..], "qtls key-ref"];
                assert!(errors.says("the private key stays in its token", &parts), "{errors}");
            }
            let text = key.encode(File { structure: None, ..File::private(c"TEXT") }).unwrap();
            let text = String::from_utf8(text).unwrap();
            for part in ["Private-Key in a token", &Token::uri(name)] {
                assert!(text.contains(part), "{text}");
            }
        }
    });
}

#[test]
fn keys_are_compared_with_those_of_certificates_in_either_direction_and_form() {
    with_token("keys_are_compared_with_those_of_certificates_in_either_direction_and_form", |token| {
        let context = token.context();
        let other = context.read_private_pem(&token.read("other.pem")).unwrap();
        for name in KEYS {
            let (key, in_file) = token.pair(&context, name);
            let public = context.read_public_pem(&token.read(&format!("{name}.pub"))).unwrap();
            for same in [&in_file, &public, &key.duplicate().unwrap()] {
                assert_eq!((key.equals(same), same.equals(&key)), (1, 1), "{name}");
                no_errors_are_left();
            }
            assert!(key.equals(&other) != 1 && other.equals(&key) != 1, "{name}");
            Errors::take();
        }
        let (key, _) = token.pair(&context, "p256");
        let short = context.read_public_pem(&token.read("p256.short")).unwrap();
        assert_eq!((key.equals(&short), short.equals(&key)), (1, 1), "a compressed point");
    });
}

#[test]
fn every_digest_and_padding_signs_as_default_s_says_it_does_and_what_is_not_there_is_refused() {
    with_token(
        "every_digest_and_padding_signs_as_default_s_says_it_does_and_what_is_not_there_is_refused",
        |token| {
            let context = token.context();
            let (pss, any, seven) = ([Param::Text(c"pad-mode", c"pss")], c"auto", c"7");
            let pkcs1 = [Param::Integer(c"pad-mode", &1)];
            let pss_of = |salt| [Param::Text(c"pad-mode", c"pss"), Param::Text(c"saltlen", salt)];
            let numbers = [Param::Integer(c"pad-mode", &6), Param::Integer(c"saltlen", &-1)];
            let paddings: [&[Param<'_>]; 7] =
                [&[], &pkcs1, &pss, &pss_of(c"digest"), &pss_of(c"max"), &pss_of(seven), &numbers];
            for name in KEYS {
                let (key, in_file) = token.pair(&context, name);
                for digest in [c"SHA224", c"SHA2-256", c"sha384", c"2.16.840.1.101.3.4.2.3"] {
                    for padding in &paddings[..if name == "rsa" { paddings.len() } else { 1 }] {
                        let signer = key.signer(Some(digest), padding).unwrap();
                        let signature = signer.sign(MESSAGE).unwrap();
                        let verifier = in_file.verifier(Some(digest), padding);
                        verifier.unwrap().verify(MESSAGE, &signature).unwrap();
                        key.verifier(Some(digest), padding).unwrap().verify(MESSAGE, &signature).unwrap();
                        let other_signer = in_file.signer(Some(digest), padding).unwrap();
                        // The salt that OpenSSL 3.0 takes where none is said is the longest; ours is as long as the digest.
                        if !std::ptr::eq(*padding, &pss[..]) {
                            let identifier = c"algorithm-id";
                            assert_eq!(
                                signer.octets(identifier).unwrap(),
                                other_signer.octets(identifier).unwrap(),
                                "{name} {digest:?}"
                            );
                        }
                        let pieces = key.signer(Some(digest), padding).unwrap();
                        pieces.update(&MESSAGE[..3]).unwrap();
                        let copy = pieces.duplicate().unwrap();
                        pieces.update(b"something else").unwrap();
                        copy.update(&MESSAGE[3..]).unwrap();
                        let verifier = in_file.verifier(Some(digest), padding).unwrap();
                        verifier.verify(MESSAGE, &copy.finish().unwrap()).unwrap();
                        no_errors_are_left();
                    }
                }
                for digest in [c"SHA1", c"MD5-SHA1", c"SHA3-256"] {
                    let errors = key.signer(Some(digest), &[]).err().expect("a digest that is not there");
                    assert!(
                        errors.says("invalid argument", &[digest.to_str().unwrap(), "SHA-256"]),
                        "{errors}"
                    );
                }
            }
            let (key, _) = token.pair(&context, "rsa");
            let wide = [Param::Text(c"pad-mode", c"pss"), Param::Text(c"saltlen", c"many")];
            for (params, part) in [
                (&[Param::Text(c"pad-mode", c"oaep")][..], "oaep"),
                (&[Param::Integer(c"pad-mode", &3)], "number 3"),
                (&[Param::Text(c"pad-mode", c"x931")], "x931"),
                (&wide, "many"),
            ] {
                let errors = key.signer(Some(c"SHA256"), params).err().expect("a setting that is not there");
                assert!(errors.says("invalid argument", &[part]), "{errors}");
            }
            let long = [Param::Text(c"pad-mode", c"pss"), Param::Integer(c"saltlen", &300)];
            let errors = key.signer(Some(c"SHA256"), &long).unwrap().sign(MESSAGE).unwrap_err();
            assert!(errors.says("invalid argument", &["300", "room for 222"]), "{errors}");
            let mask = [Param::Text(c"pad-mode", c"pss"), Param::Text(c"mgf1-digest", c"SHA2-512")];
            let signature = key.signer(Some(c"SHA512"), &mask).unwrap().sign(MESSAGE).unwrap();
            key.verifier(Some(c"SHA512"), &pss_of(any)).unwrap().verify(MESSAGE, &signature).unwrap();
            // SoftHSM has no other mask than of the digest.
            let errors = key.signer(Some(c"SHA256"), &mask).unwrap().sign(MESSAGE).unwrap_err();
            assert!(errors.says("the token or its key cannot do this", &["object=rsa"]), "{errors}");
        },
    );
}

#[test]
fn a_digest_is_signed_as_it_is_and_what_is_none_is_refused() {
    with_token("a_digest_is_signed_as_it_is_and_what_is_none_is_refused", |token| {
        let context = token.context();
        for name in KEYS {
            let (key, in_file) = token.pair(&context, name);
            let digest = [7; 32];
            let operation = key.operation().unwrap();
            operation.sign_init().unwrap();
            operation.set(&[Param::Text(c"digest", c"SHA256")]).unwrap();
            let signature = operation.sign(&digest).unwrap();
            let verifying = in_file.operation().unwrap();
            verifying.verify_init().unwrap();
            verifying.set(&[Param::Text(c"digest", c"SHA256")]).unwrap();
            verifying.verify(&digest, &signature).unwrap();
            let errors = operation.sign(&digest[1..]).unwrap_err();
            assert!(errors.says("invalid argument", &["31 bytes", "SHA256 has 32"]), "{errors}");
            let unsaid = key.operation().unwrap();
            unsaid.sign_init().unwrap();
            let errors = unsaid.sign(b"no digest").unwrap_err();
            assert!(errors.says("invalid argument", &["digest"]), "{errors}");
        }
        let (key, _) = token.pair(&context, "rsa");
        let errors = key.operation().unwrap().decrypt_init().unwrap_err();
        assert!(errors.says("the token or its key cannot do this", &["ECDHE"]), "{errors}");
    });
}

/// Whether `keys` come from these providers, in order.
#[track_caller]
fn assert_providers(keys: &[Key<'_>], expected: &[&str]) {
    let providers: Vec<_> = keys.iter().map(Key::provider).collect();
    assert_eq!(providers, expected);
}

#[test]
fn blocks_of_other_kinds_before_between_and_behind_are_read_as_without_us() {
    with_token("blocks_of_other_kinds_before_between_and_behind_are_read_as_without_us", |token| {
        let context = token.context();
        let [key, certificate, public] = ["p256.pem", "rsa.crt", "p256.pub"].map(|file| token.read(file));
        let block = uri_block(&Token::uri("p256"));
        let unknown = qtls_crypto::to_pem("SOMETHING ELSE", b"what it holds").as_bytes().to_vec();
        let long_line = [&[b'x'; 1000][..], b"\n"].concat();
        for (parts, expected) in [
            (&[&certificate, &key][..], &["default"][..]),
            (&[&certificate, &block], &["qtls"]),
            (&[&block, &certificate], &["qtls"]),
            (&[&block, &public, &certificate, &key], &["qtls", "default"]),
            (&[&key, &block, &key, &block], &["default", "qtls", "default", "qtls"]),
            (&[&unknown, &block, &unknown, &key], &["qtls", "default"]),
            (&[&long_line, &block, &long_line, &key], &["qtls", "default"]),
        ] {
            let file: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
            assert_providers(&context.read_all_private_pem(&file), expected);
            let windows: Vec<u8> =
                String::from_utf8(file.clone()).unwrap().replace('\n', "\r\n").into_bytes();
            assert_providers(&context.read_all_private_pem(&windows), expected);
            if file.windows(20).any(|part| part == &certificate[..20]) {
                std::fs::write(token.path("mixed.pem"), &file).unwrap();
                let path = token.path("mixed.pem");
                let found = context.stored(path.to_str().unwrap(), CERTIFICATES);
                assert_eq!(found.unwrap().len(), 1, "the certificate is found, and no token is asked");
            }
        }
        assert_providers(&[context.read_public_pem(&[block, public].concat()).unwrap()], &["default"]);
    });
}

#[test]
fn a_store_gives_what_the_uri_and_the_program_ask_for() {
    with_token("a_store_gives_what_the_uri_and_the_program_ask_for", |token| {
        let context = token.context();
        for (uri, kind, expected) in [
            ("pkcs11:object=rsa", 0, "private certificate"),
            ("pkcs11:object=rsa;type=private", 0, "private"),
            ("pkcs11:object=rsa;type=public", 0, "public"),
            ("pkcs11:object=rsa;type=cert", 0, "certificate"),
            ("pkcs11:object=rsa", PRIVATE_KEYS, "private"),
            ("pkcs11:object=rsa", PUBLIC_KEYS, "public"),
            ("pkcs11:object=rsa", CERTIFICATES, "certificate"),
            ("pkcs11:type=cert", CERTIFICATES, "certificate"),
            ("pkcs11:id=%01", PRIVATE_KEYS, "private"),
        ] {
            let found = context.stored(uri, kind).unwrap_or_else(|errors| panic!("{uri} {kind}: {errors}"));
            let words: Vec<_> = found
                .iter()
                .map(|object| match object {
                    Stored::Private(key) => ("private", key, "qtls"),
                    Stored::Public(key) => ("public", key, "default"),
                    Stored::Certificate(key) => ("certificate", key, "default"),
                })
                .map(|(word, key, provider)| {
                    assert_eq!(key.provider(), provider, "{uri} {kind}: {word}");
                    word
                })
                .collect();
            assert_eq!(words.join(" "), expected, "{uri} {kind}");
        }
        for (uri, kind, reason, parts) in [
            ("pkcs11:object=none", PRIVATE_KEYS, "no such object", &["object=none", "'rsa'"][..]),
            ("pkcs11:type=private", PRIVATE_KEYS, "no such object", &["3 private keys", "'p256'"]),
            ("pkcs11:object=p256", CERTIFICATES, "no such object", &["object=p256"]),
            ("pkcs11:objekt=rsa", PRIVATE_KEYS, "invalid PKCS#11 URI", &["objekt"]),
        ] {
            let errors = context.stored(uri, kind).err().expect(uri);
            let found = errors.ours().iter().any(|error| {
                error.reason.contains(reason) && parts.iter().all(|part| error.data.contains(part))
            });
            assert!(found, "{uri}: {errors}");
        }
    });
}

#[test]
fn what_is_wrong_with_a_key_file_stands_in_the_error_queue_however_it_is_read() {
    with_token("what_is_wrong_with_a_key_file_stands_in_the_error_queue_however_it_is_read", |token| {
        let context = token.context();
        let block = String::from_utf8(uri_block(&Token::uri("p256"))).unwrap();
        let cut = block.replace("-----END", "-----ENDE");
        for (file, reason, part) in [
            (uri_block("pkcs11:object=none"), "no such object in the token", "object=none"),
            (uri_block("pkcs11:objekt=p256"), "invalid PKCS#11 URI", "objekt"),
            (cut.into_bytes(), "invalid key file", "END"),
            ([block.as_bytes(), &token.read("rsa.pub")[..40]].concat(), "invalid key file", "PUBLIC KEY"),
        ] {
            let path = token.path("wrong.pem");
            std::fs::write(&path, &file).unwrap();
            let read = context.read_private_pem(&file).map(drop);
            let stored = context.stored(path.to_str().unwrap(), PRIVATE_KEYS).map(drop);
            for errors in [read, stored].map(|result| result.expect_err(part)) {
                let found = errors
                    .ours()
                    .iter()
                    .any(|error| error.reason.contains(reason) && error.data.contains(part));
                assert!(found, "{part}: {errors}");
            }
        }
    });
}

#[test]
fn a_mistake_in_the_options_of_tokens_stops_tls_and_without_any_there_are_no_tokens() {
    for (line, parts) in [
        ("pkcs11-module = softhsm.so", &["pkcs11-module", "softhsm.so"][..]),
        ("pkcs11-token = test", &["pkcs11-token", "pkcs11-module"]),
        ("pkcs11-module = /a.so\npkcs11-sessions = none", &["pkcs11-sessions", "none"]),
    ] {
        let context = Context::new();
        configure(&context, line).unwrap();
        let errors = context.make_tls_context().expect_err(line);
        assert!(errors.says("invalid option in openssl.cnf", parts), "{line}: {errors}");
        assert_eq!(context.load("qtls").unwrap().text(c"qtls-pkcs11").unwrap(), "off");
    }
    let context = with_provider("").with_any_provider();
    assert_eq!(context.load("qtls").unwrap().text(c"qtls-pkcs11").unwrap(), "off");
    for read in [
        context.stored("pkcs11:object=key", PRIVATE_KEYS).map(drop),
        context.read_private_pem(&uri_block("pkcs11:object=key")).map(drop),
    ] {
        let errors = read.unwrap_err();
        assert!(errors.ours().is_empty(), "{errors}");
    }
    let context = with_provider("pkcs11-module = /nonexistent.so").with_any_provider();
    assert_eq!(context.load("qtls").unwrap().text(c"qtls-pkcs11").unwrap(), "/nonexistent.so");
    let errors = context.stored("pkcs11:object=key", PRIVATE_KEYS).map(drop).unwrap_err();
    assert!(errors.says("the PKCS#11 module cannot be used", &["/nonexistent.so"]), "{errors}");
}

#[test]
fn where_openssl_s_own_provider_does_not_come_first_no_keys_in_tokens_are_offered() {
    let module = common::module();
    for (order, name) in [(["qtls", "default"], "qtls"), (["default", "Qtls"], "Qtls")] {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("openssl.cnf");
        let text = format!(
            "openssl_conf = init\n[init]\nproviders = list\n[list]\n{} = {}_sect\n{} = {}_sect\n\
             [default_sect]\nactivate = 1\n\
             [{name}_sect]\nmodule = {}\nactivate = 1\npkcs11-module = /nonexistent.so\n",
            order[0],
            order[0],
            order[1],
            order[1],
            module.display()
        );
        std::fs::write(&file, text).unwrap();
        let context = Context::new().with_any_provider();
        context.configure(Path::new(&file)).unwrap();
        assert_eq!(context.load(name).unwrap().text(c"qtls-pkcs11").unwrap(), "refused");
        let errors = context.stored("pkcs11:object=key", PRIVATE_KEYS).map(drop).unwrap_err();
        assert!(errors.ours().is_empty(), "there is no such scheme: {errors}");
    }
}
