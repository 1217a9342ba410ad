//! `qtls hsm` and `qtls key-ref` with Debian's SoftHSM.

mod common;

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::Command;

use common::Authority;
use common::softhsm::{MODULE, PIN, SoftHsm, StatusFile};
use qtls_pkcs11::{PublicKey, Uri};
use serde_json::Value;

/// The blocks of a PEM text, by their labels.
fn blocks(text: &str) -> Vec<(String, Vec<u8>)> {
    let blocks = pem::parse_many(text).unwrap();
    blocks.into_iter().map(|block| (block.tag().to_owned(), block.into_contents())).collect()
}

fn list(hsm: &SoftHsm, arguments: &[&str]) -> Value {
    serde_json::from_str(&hsm.succeeds(&[&["hsm", "list", "--json"], arguments].concat())).unwrap()
}

#[test]
fn a_key_that_is_generated_is_listed_and_a_file_names_it() {
    let hsm = SoftHsm::new();
    let kinds = [("ec-p256", "EC P-256", 1), ("ec-p384", "EC P-384", 2), ("rsa-2048", "RSA 2048", 3)];
    for (kind, description, id) in kinds {
        let hex = format!("0a{id:02}");
        let uri = hsm.succeeds(&["hsm", "generate", "--type", kind, "--label", kind, "--id", &hex]);
        let uri = uri.strip_suffix('\n').unwrap();
        let parsed = Uri::parse(uri).unwrap();
        assert_eq!((parsed.object.as_deref(), parsed.id.as_deref()), (Some(kind), Some(&[10, id][..])));

        let listed = list(&hsm, &[]);
        let objects = listed["tokens"][0]["objects"].as_array().unwrap();
        let of_class = |class: &str| {
            let mut found =
                objects.iter().filter(|object| object["class"] == class && object["label"] == kind);
            found.next().unwrap_or_else(|| panic!("no {class} in {listed:#}"))
        };
        assert_eq!(of_class("private key")["description"], description);
        assert_eq!(of_class("public key")["id"], hex);

        let file = hsm.succeeds(&["key-ref", of_class("private key")["uri"].as_str().unwrap()]);
        let blocks = blocks(&file);
        assert_eq!(blocks.len(), 2, "{file}");
        assert_eq!((blocks[0].0.as_str(), blocks[1].0.as_str()), ("PKCS#11 PROVIDER URI", "PUBLIC KEY"));
        let named = Uri::from_pem_der(&blocks[0].1).unwrap().unwrap();
        assert_eq!(named.object.as_deref(), Some(kind));
        // Another implementation agrees what the public key is; OpenSC 0.23 reads none of P-384.
        if kind == "ec-p384" {
            continue;
        }
        let token = ["--module", MODULE, "--token-label", "gateway", "--read-object", "--type", "pubkey"];
        let out = hsm.path("public.der").display().to_string();
        hsm.run(Command::new("pkcs11-tool").args(token).args(["--label", kind, "-o", &out]));
        assert_eq!(blocks[1].1, fs::read(&out).unwrap());
    }
}

#[test]
fn a_key_file_is_new_and_for_its_owner_alone_and_keeps_where_the_pin_comes_from() {
    let hsm = SoftHsm::new();
    hsm.succeeds(&["hsm", "generate", "--type", "ec-p256", "pkcs11:object=shop"]);
    let file = hsm.path("shop.key").display().to_string();
    let uri = format!("pkcs11:object=shop?pin-source={}", hsm.pin_source());
    assert_eq!(hsm.succeeds(&["key-ref", &uri, "--out", &file]), "");
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    let named = Uri::from_pem_der(&blocks(&text)[0].1).unwrap().unwrap();
    assert_eq!(named.with_pin_source(), uri);
    let again = hsm.fails(&["key-ref", &uri, "--module", MODULE, "--token", "gateway", "--out", &file]);
    assert!(again.contains("is not written over"), "{again}");
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
}

#[test]
fn with_the_public_key_no_token_is_asked() {
    let hsm = SoftHsm::with_tokens(&[]);
    let authority = Authority::new();
    let identity = authority.issue("shop", &["shop.example"], |_| {});
    let public = hsm.run(Command::new("openssl").args(["pkey", "-pubout", "-in", identity.key()]));
    let public_file = hsm.path("public.pem");
    fs::write(&public_file, &public).unwrap();
    for file in [public_file.to_str().unwrap(), identity.certificate()] {
        let output = hsm.qtls(&["key-ref", "pkcs11:object=shop", "--public", file]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(blocks(&text)[1].1, blocks(&public)[0].1);
    }
    let said = hsm.fails(&["key-ref", "pkcs11:object=shop", "--public", identity.key()]);
    assert!(said.contains("neither a PUBLIC KEY block nor a CERTIFICATE"), "{said}");
}

#[test]
fn a_pin_is_taken_neither_into_a_key_file_nor_from_the_command_line() {
    let hsm = SoftHsm::new();
    let uri = format!("pkcs11:object=shop?pin-value={PIN}");
    let said = hsm.fails(&["key-ref", &uri]);
    assert!(said.contains("pin-source=file:PATH"), "{said}");
    let source = format!("value:{PIN}");
    let said = hsm.fails(&["hsm", "list", "--module", MODULE, "--pin-source", &source]);
    assert!(said.contains("lists processes"), "{said}");
}

#[test]
fn only_the_token_that_is_meant_is_logged_in_to() {
    let hsm = SoftHsm::with_tokens(&["gateway", "spare"]);
    hsm.succeeds(&["hsm", "generate", "--type", "ec-p256", "--label", "shop"]);
    let text = hsm.succeeds(&["hsm", "list"]);
    assert!(text.contains("private key EC P-256"), "{text}");
    assert!(text.contains("not logged in; its objects: qtls hsm list 'pkcs11:token=spare;serial="), "{text}");
    let listed = list(&hsm, &["pkcs11:token=spare"]);
    let tokens = listed["tokens"].as_array().unwrap();
    let of = |label: &str| tokens.iter().find(|token| token["label"] == label).unwrap();
    assert_eq!(of("spare")["objects"].as_array().map(Vec::len), Some(0), "{listed:#}");
    assert!(of("gateway")["objects"].is_null());
    let private = list(&hsm, &["pkcs11:type=private"]);
    let objects: Vec<&Value> = private["tokens"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|token| token["objects"].as_array())
        .flatten()
        .collect();
    assert_eq!(objects.len(), 1);
}

#[test]
fn options_come_from_the_provider_s_section_and_the_command_line_goes_before() {
    let hsm = SoftHsm::new();
    let conf = hsm.path("openssl.cnf");
    let text = |options: &str| {
        format!(
            "openssl_conf = init\n[init]\nproviders = list\n[list]\ndefault = default\nqtls = q\n[default]\nactivate = 1\n\
             [q]\nmodule = /none.so\nactivate = 1\n{options}"
        )
    };
    fs::write(&conf, text(&hsm.options("gateway"))).unwrap();
    let shown = conf.to_str().unwrap();
    let output = hsm.qtls(&["hsm", "generate", "--conf", shown, "--type", "ec-p256", "--label", "shop"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    for part in [
        &format!("OPENSSL_CONF={shown} openssl req -new -key 'pkcs11:"),
        &format!("--conf {shown} --out"),
        "qtls doctor --hsm",
    ] {
        assert!(said.contains(part), "{said} lacks {part}");
    }
    fs::write(&conf, text("")).unwrap();
    let said = hsm.fails(&["hsm", "list", "--conf", shown]);
    assert!(said.contains(&format!("[q] of {shown} has no pkcs11-module")), "{said}");
    fs::write(&conf, text("pkcs11-module = softhsm.so\n")).unwrap();
    let said = hsm.fails(&["hsm", "list", "--conf", shown]);
    assert!(said.contains("absolute path"), "{said}");
    fs::write(&conf, "openssl_conf = init\n[init\n").unwrap();
    let said = hsm.fails(&["hsm", "list", "--conf", shown]);
    assert!(said.contains("is wrong in line 2"), "{said}");
    let said = hsm.fails(&["hsm", "list", "--conf", "/none/openssl.cnf"]);
    assert!(said.contains("/none/openssl.cnf"), "{said}");
}

#[test]
fn what_cannot_be_generated_is_said_in_one_line() {
    let hsm = SoftHsm::new();
    let source = hsm.pin_source();
    let generate = |arguments: &[&str]| {
        let token = ["--module", MODULE, "--token", "gateway", "--pin-source", &source];
        hsm.fails(&[&["hsm", "generate"], arguments, &token].concat())
    };
    hsm.succeeds(&["hsm", "generate", "--type", "ec-p256", "--label", "shop"]);
    for (arguments, said) in [
        (&["--type", "ec-p256", "--label", "shop"][..], "shop"),
        (&["--type", "ec-p256"], "has no name"),
        (&["--type", "ec-p256", "--label", "a", "pkcs11:object=b"], "differ"),
        (&["--type", "ec-p256", "--id", "01", "pkcs11:object=b;id=%02"], "differ"),
        (&["--type", "ec-p256", "pkcs11:object=b;type=private"], "take type out"),
        // Debian's SoftHSM has no ML-DSA.
        (&["--type", "ml-dsa-65", "--label", "pq"], "no ml-dsa-65 key was made"),
    ] {
        let error = generate(arguments);
        assert!(error.contains(said), "{arguments:?}: {error} lacks {said}");
    }
}

#[test]
fn each_wrong_thing_on_the_way_to_a_key_has_its_error() {
    let hsm = SoftHsm::new();
    for id in ["01", "02"] {
        hsm.succeeds(&["hsm", "generate", "--type", "ec-p256", "--label", &format!("key-{id}"), "--id", id]);
    }
    let source = hsm.pin_source();
    let absent = format!("file:{}", hsm.path("absent").display());
    let key_ref = |uri: &str, module: &str, token: &str, source: &str| {
        hsm.fails(&["key-ref", uri, "--module", module, "--token", token, "--pin-source", source])
    };
    let said = key_ref("pkcs11:object=none", MODULE, "gateway", &source);
    assert!(said.contains("pkcs11:object=none") && said.contains("key-01"), "it lists what is there: {said}");
    let said = key_ref("pkcs11:object=key-01", MODULE, "none", &source);
    assert!(said.contains("none") && said.contains("gateway"), "{said}");
    let said = key_ref("pkcs11:object=key-01", "/none/module.so", "gateway", &source);
    assert!(said.contains("/none/module.so"), "{said}");
    let said = key_ref("pkcs11:object=key-01", MODULE, "gateway", &absent);
    assert!(said.contains("absent") && said.contains("No such file"), "{said}");
    let said = key_ref("pkcs11:", MODULE, "gateway", &source);
    assert!(said.contains("names no key"), "{said}");
    let said = key_ref("pkcs11:objekt=a", MODULE, "gateway", &source);
    assert!(said.contains("'objekt' is no attribute"), "{said}");
    hsm.write_pin("1111");
    let said = key_ref("pkcs11:object=key-01", MODULE, "gateway", &source);
    assert!(said.to_lowercase().contains("pin") && !said.contains("1111"), "{said}");
}

#[test]
fn without_servers_the_status_says_so() {
    let hsm = SoftHsm::with_tokens(&[]);
    let directory = hsm.path("status").display().to_string();
    let output = hsm.qtls(&["hsm", "status", "--dir", &directory]);
    assert!(output.status.success());
    assert!(String::from_utf8(output.stdout).unwrap().contains("no server with keys in a token runs"));
    let output = hsm.qtls(&["hsm", "status", "--json", "--dir", &directory]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["format"], report["servers"].as_array().map(Vec::len)), (&Value::from(1), Some(0)));
}

#[test]
fn the_counters_of_a_server_are_shown_and_a_token_that_is_away_is_exit_code_1() {
    let hsm = SoftHsm::with_tokens(&[]);
    fs::create_dir(hsm.path("status")).unwrap();
    let directory = hsm.path("status").display().to_string();
    let mut file = StatusFile::new(&hsm.path("status"));
    // Signatures, failures, microseconds, retries, reconnects, breaker, time-outs, connected, PIN.
    file.set_counters([1234, 5, 1_234_000, 6, 7, 8, 9, 1, 0]);
    let status = || hsm.qtls(&["hsm", "status", "--dir", &directory]);
    let output = status();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    for part in ["the token", "connected", "1,234", "1.000 ms", "opened 8 times"] {
        assert!(text.contains(part), "{text} lacks {part}");
    }
    let output = hsm.qtls(&["hsm", "status", "--json", "--dir", &directory]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let server = &report["servers"][0];
    assert_eq!((&server["pid"], &server["failovers"]), (&Value::from(std::process::id()), &Value::from(3)));
    assert_eq!(
        (&server["tokens"][0]["mean_latency_us"], &server["tokens"][0]["timeouts"]),
        (&Value::from(1000), &Value::from(9))
    );

    file.set_counters([0, 5, 0, 0, 0, 0, 0, 2, 0]);
    let output = status();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stdout).unwrap().contains("not connected"));
    file.set_counters([0, 1, 0, 0, 0, 0, 0, 1, 99]);
    let output = status();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stdout).unwrap().contains("refused, and not tried again"));
    drop(file);
    assert!(status().status.success(), "a file that nobody locks is no server's");
}

#[test]
fn a_public_key_of_no_type_that_a_token_has_is_refused() {
    let hsm = SoftHsm::with_tokens(&[]);
    let key = hsm.path("ed25519.pem").display().to_string();
    let public = hsm.path("public.pem").display().to_string();
    hsm.run(Command::new("openssl").args(["genpkey", "-algorithm", "ed25519", "-out", &key]));
    hsm.run(Command::new("openssl").args(["pkey", "-pubout", "-in", &key, "-out", &public]));
    fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    let said = hsm.fails(&["key-ref", "pkcs11:object=a", "--public", &public]);
    assert!(said.contains("no type that a token can have here"), "{said}");
    let der = pem::parse(fs::read(&public).unwrap()).unwrap();
    assert!(PublicKey::from_spki_der(der.contents()).is_err());
}
