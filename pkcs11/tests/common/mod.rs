//! Tokens for the component tests: SoftHSM's, alone or behind the module that does what it should not.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod process;

use qtls_crypto::{Digest, HashFunction};
use qtls_pkcs11::{Config, Hsm, Mechanism, Pin, PinSource, PublicKey, TokenConfig, TokenKey, Uri};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub(crate) const SOFTHSM: &str = "/usr/lib/softhsm/libsofthsm2.so";
pub(crate) const PIN: &str = "1234";
const SO_PIN: &str = "5678";
/// For what has to come, and comes soon unless something is wrong.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a test in a process of its own: modules read their configuration once a process. `name` is that of the test.
pub(crate) fn isolated(name: &str, test: impl FnOnce(&Softhsm)) {
    const DIRECTORY: &str = "QTLS_TEST_DIRECTORY";
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        return test(&Softhsm { directory: directory.into() });
    }
    let directory = TempDir::new().unwrap();
    let softhsm = Softhsm { directory: directory.path().to_owned() };
    std::fs::create_dir(softhsm.tokens()).unwrap();
    std::fs::write(softhsm.configuration(), softhsm.configuration_for(&softhsm.tokens())).unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(DIRECTORY, directory.path())
        .env("SOFTHSM2_CONF", softhsm.configuration())
        .env("KRYOPTIC_CONF", softhsm.directory.join("kryoptic.conf"))
        .env("FAULTY_CONTROL", softhsm.control())
        .env("FAULTY_LOG", softhsm.log())
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(out.contains("1 passed"), "{name} in a process of its own: {}\n{out}{err}", output.status);
}

/// SoftHSM with a directory of its own.
pub(crate) struct Softhsm {
    directory: PathBuf,
}

impl Softhsm {
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn tokens(&self) -> PathBuf {
        self.directory.join("tokens")
    }

    pub(crate) fn configuration(&self) -> PathBuf {
        self.directory.join("softhsm2.conf")
    }

    fn configuration_for(&self, tokens: &Path) -> String {
        format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            tokens.display()
        )
    }

    fn control(&self) -> PathBuf {
        self.directory.join("control")
    }

    fn log(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// What the faulty module is to do from now on.
    pub(crate) fn faults(&self, lines: &str) {
        let new = self.directory.join("control.new");
        std::fs::write(&new, lines).unwrap();
        std::fs::rename(new, self.control()).unwrap();
    }

    /// The faulty module's lines about a function, from all processes.
    pub(crate) fn calls(&self, function: &str) -> usize {
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        log.lines().filter(|line| line.split_once(' ').is_some_and(|(_, called)| called == function)).count()
    }

    /// Lines about what no caller of a module may do.
    pub(crate) fn misuse(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        log.lines().filter(|line| line.split(' ').count() > 2).map(str::to_owned).collect()
    }

    /// The module that does wrong on demand.
    pub(crate) fn faulty_module(&self) -> PathBuf {
        let module = self.directory.join("faulty.so");
        if !module.exists() {
            let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/c/faulty.c");
            run(Command::new("cc")
                .args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden", "-o"])
                .args([module.as_os_str(), source.as_ref()])
                .args(["-ldl", "-lpthread"]));
        }
        module
    }

    /// SoftHSM a second time in one process, with the same tokens and a state of its own.
    pub(crate) fn second_module(&self) -> PathBuf {
        let module = self.directory.join("second.so");
        if !module.exists() {
            std::fs::copy(SOFTHSM, &module).unwrap();
        }
        module
    }

    /// Kryoptic, which knows ML-DSA, with a token `one`.
    pub(crate) fn kryoptic(&self) -> PathBuf {
        let setup = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/setup/kryoptic.sh");
        let module = Path::new(run(Command::new(setup).arg("static")).trim()).join("libkryoptic_pkcs11.so");
        let token = self.directory.join("kryoptic.sql");
        let configuration =
            format!("[[slots]]\nslot = 0\ndbtype = \"sqlite\"\ndbargs = \"{}\"\n", token.display());
        std::fs::write(self.directory.join("kryoptic.conf"), configuration).unwrap();
        run(Command::new("softhsm2-util").arg("--module").arg(&module).args([
            "--init-token",
            "--slot",
            "0",
            "--label",
            "one",
            "--pin",
            PIN,
            "--so-pin",
            SO_PIN,
        ]));
        module
    }

    pub(crate) fn init_token(&self, label: &str) {
        run(Command::new("softhsm2-util").args([
            "--init-token",
            "--free",
            "--label",
            label,
            "--pin",
            PIN,
            "--so-pin",
            SO_PIN,
        ]));
    }

    pub(crate) fn pkcs11_tool(&self, token: &str, arguments: &[&str]) {
        run(Command::new("pkcs11-tool")
            .args(["--module", SOFTHSM, "--token-label", token, "--login", "--pin", PIN])
            .args(arguments));
    }

    /// `EC:prime256v1`, `EC:secp384r1`, `rsa:2048`
    pub(crate) fn generate(&self, token: &str, kind: &str, label: &str, id: &str) {
        self.pkcs11_tool(token, &["--keypairgen", "--key-type", kind, "--label", label, "--id", id]);
    }

    /// Puts a private key in PKCS#8, and its public half, into a token.
    pub(crate) fn import(&self, token: &str, pem: &Path, label: &str, id: &str) {
        run(Command::new("softhsm2-util").args([
            "--import",
            pem.to_str().unwrap(),
            "--token",
            token,
            "--label",
            label,
            "--id",
            id,
            "--pin",
            PIN,
        ]));
    }

    pub(crate) fn uri(&self, token: &str, object: &str) -> Uri {
        Uri::parse(&format!("pkcs11:token={token};object={object}")).unwrap()
    }
}

/// A configuration with one token by `module`; the rest as short as tests want it.
pub(crate) fn config(module: impl Into<PathBuf>, directory: &Path) -> Config {
    Config {
        tokens: vec![token_config(module, None)],
        sessions: 8,
        wait: Duration::from_millis(1000),
        timeout: Some(Duration::from_secs(20)),
        retry: Duration::from_millis(20),
        breaker: Duration::from_millis(300),
        software_keys: Vec::new(),
        status_directory: directory.join("status"),
    }
}

pub(crate) fn token_config(module: impl Into<PathBuf>, token: Option<&str>) -> TokenConfig {
    TokenConfig {
        module: module.into(),
        token: token.map(|label| Uri::parse(&format!("pkcs11:token={label}")).unwrap()),
        pin_source: Some(PinSource::Value(pin(PIN))),
    }
}

pub(crate) fn pin(text: &str) -> Pin {
    Pin::new(text.as_bytes().to_vec().into()).unwrap()
}

/// As a server calls it: with direct calls, and with a thread for each session.
pub(crate) fn both_ways(module: impl Into<PathBuf>, directory: &Path) -> [Config; 2] {
    let timed = config(module, directory);
    let direct = Config { timeout: None, ..timed.clone() };
    [direct, timed]
}

pub(crate) fn key(config: Config, uri: &Uri) -> (Arc<Hsm>, Arc<TokenKey>) {
    let hsm = Hsm::new(config);
    let key = hsm.key(uri, None).unwrap_or_else(|error| panic!("{error}"));
    (hsm, key)
}

/// Signs with what the key's type usually takes, and verifies.
pub(crate) fn sign_and_verify(key: &TokenKey) -> Result<(), qtls_pkcs11::Error> {
    let mechanism = match key.public() {
        PublicKey::Rsa { .. } => {
            Mechanism::RsaPss { hash: HashFunction::Sha256, mgf1: HashFunction::Sha256, salt: 32 }
        }
        PublicKey::Ec { .. } => Mechanism::Ecdsa,
        PublicKey::MlDsa { .. } => Mechanism::MlDsa { context: b"", deterministic: false },
    };
    let message = b"a message to sign";
    let digest = <Digest>::of(HashFunction::Sha256, message).unwrap();
    let input = if matches!(mechanism, Mechanism::MlDsa { .. }) { &message[..] } else { &digest };
    let signature = key.sign(mechanism, input)?;
    verify(key.public(), mechanism, HashFunction::Sha256, input, &signature);
    Ok(())
}

/// Verifies a signature of a digest by OpenSSL, and of ML-DSA by ourselves.
pub(crate) fn verify(
    public: &PublicKey,
    mechanism: Mechanism<'_>,
    hash: HashFunction,
    input: &[u8],
    signature: &[u8],
) {
    if let (PublicKey::MlDsa { algorithm, key }, Mechanism::MlDsa { context, .. }) = (public, mechanism) {
        let key = <qtls_crypto::SignaturePublicKey>::from_bytes(algorithm, key).unwrap();
        key.verify(input, qtls_crypto::MessageEncoding::Pure { context }, signature).unwrap();
        return;
    }
    let directory = TempDir::new().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let (spki, digest, signature) =
        (file("spki", &public.to_spki_der()), file("digest", input), file("signature", signature));
    let mut openssl = Command::new("openssl");
    openssl.args(["pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey"]).arg(spki);
    openssl.arg("-in").arg(digest).arg("-sigfile").arg(signature);
    let name = format!("{hash:?}").to_lowercase();
    match mechanism {
        Mechanism::RsaPkcs1 { .. } => {
            openssl.args(["-pkeyopt", &format!("digest:{name}")]);
        }
        Mechanism::RsaPss { mgf1, salt, .. } => {
            openssl.args(["-pkeyopt", &format!("digest:{name}"), "-pkeyopt", "rsa_padding_mode:pss"]);
            openssl.args(["-pkeyopt", &format!("rsa_pss_saltlen:{salt}")]);
            openssl.args(["-pkeyopt", &format!("rsa_mgf1_md:{}", format!("{mgf1:?}").to_lowercase())]);
        }
        _ => {}
    }
    openssl.env_remove("OPENSSL_CONF");
    run(&mut openssl);
}

/// A private key in PKCS#8 (PEM) by OpenSSL.
pub(crate) fn openssl_key(directory: &Path, name: &str, arguments: &[&str]) -> PathBuf {
    let path = directory.join(name);
    run(Command::new("openssl").arg("genpkey").args(arguments).arg("-out").arg(&path));
    path
}

pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}{err}", output.status);
    out.into_owned()
}

/// Asks again until the answer is there.
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(error) if Instant::now() >= until => panic!("{what}: {error}"),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}
