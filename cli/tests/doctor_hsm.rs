//! `qtls doctor --hsm` with SoftHSM: a set-up that is right, and one that is wrong for each check.
//!
//! nginx is the stand-in of doctor's other tests; root starts it, and its workers are `nobody`.

mod common;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use common::doctor::{Doctor, Outcome, Place, pair, stand_in};
use common::softhsm::{MODULE, PIN, SoftHsm, StatusFile, VARIABLE};
use common::{Authority, Identity};
use qtls_pkcs11::Uri;

/// The workers' user without the directive `user`.
const NOBODY: u32 = 65_534;

/// A gateway whose only key is in a token.
struct Gateway {
    place: Place,
    hsm: SoftHsm,
    authority: Authority,
    /// The key's file names it.
    identity: Identity,
    /// In place of the module, options of the provider's section, and what stands in nginx's server.
    options: String,
    server: String,
}

impl Gateway {
    fn new() -> Self {
        Self::with_tokens(&["gateway"])
    }

    fn with_tokens(labels: &[&str]) -> Self {
        let (place, hsm, authority) = (Place::new(), SoftHsm::with_tokens(labels), Authority::new());
        let identity = authority.issue("shop", &["shop.example"], |_| {});
        import(&hsm, "gateway", "shop", "01", identity.key());
        write_reference(&hsm, &identity, "pkcs11:token=gateway;object=shop");
        hsm.belongs_to(NOBODY);
        let (options, server) = (hsm.options("gateway"), pair(&identity));
        Self { place, hsm, authority, identity, options, server }
    }

    fn conf(&self) -> PathBuf {
        let text = self.place.right_text();
        let text = text.replace("[qtls_sect]\n", &format!("[qtls_sect]\n{}", self.options));
        self.place.write("openssl.cnf", &text)
    }

    fn doctor(&self) -> Doctor {
        let program = stand_in(&self.place, "nginx/1.26.0", "");
        self.place.write(
            "nginx.conf",
            &format!("http {{ server {{ listen 443 ssl; server_name shop.example; {} }} }}", self.server),
        );
        Doctor::of(program.to_str().unwrap()).conf(&self.conf()).env(VARIABLE, self.hsm.conf())
    }

    /// What it says; never the PIN.
    #[track_caller]
    fn examine(&self) -> Outcome {
        let outcome = self.doctor().args(&["--hsm"]).run();
        let said = format!("{}{}", outcome.report, outcome.stderr);
        assert!(!said.contains(PIN), "the PIN is in the report: {said}");
        outcome
    }

    /// The same after the options were changed.
    #[track_caller]
    fn examine_with(&mut self, right: &str, wrong: &str) -> Outcome {
        assert!(self.options.contains(right), "{right} is not in {}", self.options);
        self.options = self.options.replace(right, wrong);
        self.examine()
    }
}

/// Puts a key into a token, with its public half.
fn import(hsm: &SoftHsm, token: &str, label: &str, id: &str, key: &str) {
    let arguments =
        ["--import", key, "--token", token, "--label", label, "--id", id, "--pin", PIN, "--force"];
    hsm.run(Command::new("softhsm2-util").args(arguments));
}

/// Writes over the key's file what names the key in the token, without asking that.
fn write_reference(hsm: &SoftHsm, identity: &Identity, uri: &str) {
    let output = hsm.qtls(&["key-ref", uri, "--public", identity.certificate()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::write(&identity.key, output.stdout).unwrap();
    fs::set_permissions(&identity.key, Permissions::from_mode(0o644)).unwrap();
}

#[test]
fn a_right_token_is_right_from_the_module_to_the_workers_signature() {
    let gateway = Gateway::new();
    let outcome = gateway.examine();
    outcome
        .says("hsm-options", "ok", "names 1 token and 0 software keys", "")
        .says("hsm-module", "ok", "libsofthsm2.so loads and shows 1 token", "")
        .says("hsm-token", "ok", "gateway (SoftHSM v2", "")
        .says("hsm-pin", "ok", "there is a PIN from file:", "")
        .says("hsm-login", "ok", "2 objects can be seen", "")
        .says("hsm-key", "ok", "shop.key: EC P-256, pkcs11:token=gateway;object=shop", "")
        .says("hsm-certificate", "ok", "is the key of", "")
        .says("hsm-signature", "ok", "signs as nobody", "")
        .says("hsm-failover", "skipped", "no second token", "")
        .says("hsm-running", "skipped", "no server with keys in a token runs", "")
        // It names a key and is none.
        .says("certificate-files", "ok", "shop.key can be read", "");
}

#[test]
fn without_being_asked_no_token_is_looked_at() {
    let gateway = Gateway::new();
    let outcome = gateway.doctor().run();
    outcome.says("hsm-options", "ok", "names 1 token", "").says("hsm-login", "skipped", "--hsm", "");
}

#[test]
fn a_key_in_a_store_is_looked_at_like_one_in_a_file() {
    let mut gateway = Gateway::new();
    let certificate = gateway.identity.certificate();
    gateway.server =
        format!("ssl_certificate {certificate}; ssl_certificate_key store:pkcs11:token=gateway%3Bx;");
    gateway.server = gateway.server.replace("%3Bx", "\\;object=shop");
    let outcome = gateway.examine();
    outcome
        .says("hsm-key", "ok", "store:pkcs11:token=gateway;object=shop: EC P-256", "")
        .says("hsm-certificate", "ok", "is the key of", "")
        .says("hsm-signature", "ok", "signs as nobody", "");
}

#[test]
fn options_that_are_missing_misspelt_or_without_effect_are_found() {
    let mut gateway = Gateway::new();
    let right = gateway.options.clone();
    gateway.options = String::new();
    gateway.examine().says("hsm-options", "fail", "has no pkcs11-module", "add `pkcs11-module =");
    gateway.options = right.replace("pkcs11-pin-source", "pkcs11-pin-sauce");
    gateway.examine().says(
        "hsm-options",
        "fail",
        "`pkcs11-pin-sauce`, which is no option",
        "did you mean `pkcs11-pin-source`",
    );
    gateway.options = format!("{right}pkcs11-sessions = many\n");
    gateway.examine().says("hsm-options", "fail", "'pkcs11-sessions = many'", "correct it in [qtls_sect]");
    gateway.options = format!("{right}pkcs11-token-2 = spare\n");
    gateway.examine().says(
        "hsm-options",
        "warn",
        "token 2 has no pkcs11-pin-source-2",
        "add `pkcs11-pin-source-2 =",
    );
    gateway.options = right;
    let text = fs::read_to_string(gateway.conf()).unwrap();
    let text = text.replace(
        "[providers]\ndefault = default_sect\nqtls = qtls_sect",
        "[providers]\nqtls = qtls_sect\ndefault = default_sect",
    );
    let doctor = gateway.doctor().args(&["--hsm"]);
    fs::write(gateway.place.path("openssl.cnf"), text).unwrap();
    doctor.run().says("hsm-options", "fail", "not listed behind default", "list default first");
}

#[test]
fn a_module_that_is_missing_or_open_to_others_is_found() {
    let mut gateway = Gateway::new();
    let module = gateway.place.path("module.so");
    let outcome = gateway.examine_with(MODULE, module.to_str().unwrap());
    outcome.says("hsm-module", "fail", "module.so", "correct pkcs11-module");
    outcome.says("hsm-login", "skipped", "what comes before it is wrong", "");
    fs::copy(MODULE, &module).unwrap();
    fs::set_permissions(&module, Permissions::from_mode(0o666)).unwrap();
    gateway.examine().says("hsm-module", "fail", "is writable by everybody", "chmod o-w");
    fs::set_permissions(&module, Permissions::from_mode(0o600)).unwrap();
    gateway.examine().says("hsm-module", "warn", "nobody may not read", "chmod o+r");
}

#[test]
fn a_module_that_crashes_or_hangs_takes_nobody_along() {
    let mut gateway = Gateway::new();
    let crash = "#include <stdlib.h>\n__attribute__((constructor)) static void start(void) { abort(); }\n";
    let module = gateway.place.library("module.so", crash);
    let outcome = gateway.examine_with(MODULE, module.to_str().unwrap());
    outcome.says("hsm-module", "fail", "killed by SIGABRT while loading", "pkcs11-tool --module");
    let hang =
        "#include <unistd.h>\n__attribute__((constructor)) static void start(void) { for (;;) pause(); }\n";
    gateway.place.library("module.so", hang);
    // Enough for everything else on a busy machine.
    let outcome = gateway.doctor().args(&["--hsm", "--time-limit", "10"]).run();
    outcome.says("hsm-module", "fail", "found no end in 10 seconds while loading", "pkcs11-tool --module");
}

#[test]
fn a_token_that_is_not_there_or_one_of_several_is_found() {
    let mut gateway = Gateway::with_tokens(&["gateway", "spare"]);
    write_reference(&gateway.hsm, &gateway.identity, "pkcs11:object=shop");
    let outcome = gateway.examine_with("pkcs11-token = gateway", "pkcs11-token = gatevay");
    outcome.says("hsm-token", "fail", "no token that fits pkcs11:token=gatevay", "correct pkcs11-token");
    outcome.says("hsm-token", "fail", "gateway, spare", "");
    let outcome = gateway.examine_with("pkcs11-token = gatevay\n", "");
    outcome.says("hsm-token", "fail", "2 tokens fit any token", "name one: pkcs11-token = LABEL");
}

#[test]
fn a_pin_that_is_missing_open_to_others_or_none_is_found() {
    let mut gateway = Gateway::new();
    fs::set_permissions(gateway.hsm.pin_file(), Permissions::from_mode(0o644)).unwrap();
    gateway.examine().says("hsm-pin", "warn", "can be read by everybody", "chmod 600");
    fs::remove_file(gateway.hsm.pin_file()).unwrap();
    gateway.examine().says("hsm-pin", "fail", "No such file", "");
    let source = gateway.hsm.pin_source();
    let outcome = gateway.examine_with(&source, &format!("value:{PIN}"));
    outcome.says("hsm-pin", "warn", "the PIN stands in openssl.cnf", "file with mode 0600");
    outcome.says("hsm-signature", "ok", "signs as nobody", "");
    let outcome = gateway.examine_with(&format!("pkcs11-pin-source = value:{PIN}\n"), "");
    outcome.says("hsm-pin", "warn", "no source of the PIN is configured", "pkcs11-pin-source = file:PATH");
}

#[test]
fn a_pin_that_the_token_refuses_is_found() {
    let gateway = Gateway::new();
    gateway.hsm.write_pin("1111");
    let outcome = gateway.examine();
    outcome.says("hsm-login", "fail", "PIN", "before it is tried again");
    assert_eq!(outcome.finding("hsm-key")["status"], "skipped");
}

#[test]
fn a_key_that_is_missing_or_not_the_only_one_or_another_is_found() {
    let gateway = Gateway::new();
    write_reference(&gateway.hsm, &gateway.identity, "pkcs11:token=gateway;object=ship");
    gateway.examine().says("hsm-key", "fail", "ship", "qtls hsm list");

    let other = gateway.authority.issue("other", &["shop.example"], |_| {});
    write_reference(&gateway.hsm, &gateway.identity, "pkcs11:token=gateway;object=other");
    import(&gateway.hsm, "gateway", "other", "02", other.key());
    gateway.hsm.belongs_to(NOBODY);
    let outcome = gateway.examine();
    outcome
        .says("hsm-key", "fail", "is not the one whose public key stands in the file", "write the file again")
        .says("hsm-certificate", "fail", "is not the key of", "openssl req -new -key");

    let twin = gateway.authority.issue("twin", &["shop.example"], |_| {});
    import(&gateway.hsm, "gateway", "shop", "03", twin.key());
    gateway.hsm.belongs_to(NOBODY);
    write_reference(&gateway.hsm, &gateway.identity, "pkcs11:token=gateway;object=shop");
    gateway.examine().says("hsm-key", "fail", "shop", "correct the one in the file");

    let foreign = "pkcs11:token=gateway;object=shop?module-path=/opt/other.so";
    write_reference(&gateway.hsm, &gateway.identity, foreign);
    gateway.examine().says("hsm-key", "fail", "names a module that is not configured", "take module-path");

    let damaged = pem::encode(&pem::Pem::new("PKCS#11 PROVIDER URI", Uri::to_pem_der("pkcs11:objekt=shop")));
    fs::write(&gateway.identity.key, damaged).unwrap();
    gateway.examine().says("hsm-key", "fail", "'objekt' is no attribute", "qtls hsm list");
}

#[test]
fn a_token_that_the_workers_cannot_use_is_found() {
    let gateway = Gateway::new();
    gateway.hsm.belongs_to(0);
    let outcome = gateway.examine();
    outcome.says("hsm-key", "ok", "EC P-256", "").says(
        "hsm-signature",
        "fail",
        "no signature as nobody",
        "usermod -aG GROUP nobody",
    );
}

#[test]
fn a_second_token_and_a_software_key_that_could_not_take_over_are_found() {
    let mut gateway = Gateway::with_tokens(&["gateway", "spare"]);
    let right = gateway.options.clone();
    let source = gateway.hsm.pin_source();
    gateway.options = format!("{right}pkcs11-token-2 = spare\npkcs11-pin-source-2 = {source}\n");
    let outcome = gateway.examine();
    outcome.says("hsm-failover", "fail", "token 2:", "qtls hsm generate");
    outcome.says("hsm-signature", "ok", "signs as nobody", "");

    let key = gateway.authority.issue("again", &["shop.example"], |_| {});
    import(&gateway.hsm, "spare", "shop", "01", key.key());
    gateway.hsm.belongs_to(NOBODY);
    gateway.examine().says("hsm-failover", "fail", "token 2:", "write the file again");

    gateway.options =
        format!("{right}pkcs11-software-key = {}\n", gateway.place.path("absent.key").display());
    gateway.examine().says("hsm-failover", "fail", "absent.key can't be read", "put it there");
    fs::set_permissions(&key.key, Permissions::from_mode(0o644)).unwrap();
    gateway.options = format!("{right}pkcs11-software-key = {}\n", key.key());
    gateway.examine().says("hsm-failover", "warn", "can be read by everybody", "chmod 600");
}

#[test]
fn a_running_server_whose_token_is_away_is_found() {
    let gateway = Gateway::new();
    fs::create_dir(gateway.hsm.path("status")).unwrap();
    let mut file = StatusFile::new(&gateway.hsm.path("status"));
    file.set_counters([10, 1, 1000, 1, 0, 0, 0, 2, 0]);
    let outcome = gateway.doctor().run();
    outcome.says("hsm-running", "fail", "the token: 10 signatures, 1 failed", "bring the HSM back");
    file.set_counters([10, 1, 1000, 1, 0, 0, 0, 1, 1]);
    gateway.doctor().run().says("hsm-running", "fail", "refused the PIN", "reload the server");
    file.set_counters([10, 1, 1000, 1, 0, 2, 1, 1, 0]);
    gateway.doctor().run().says("hsm-running", "warn", "breaker opened 2 times", "its own log");
}
