//! Tokens of Debian's SoftHSM, each in a temporary folder.

use std::fs::{self, Permissions};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// What no output may ever hold.
pub(crate) const PIN: &str = "4711-kept-secret";
const SO_PIN: &str = "0815-so-secret";
pub(crate) const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
/// Of the module's own configuration.
pub(crate) const VARIABLE: &str = "SOFTHSM2_CONF";

/// A folder with tokens, SoftHSM's configuration and a PIN file of 0600.
pub(crate) struct SoftHsm {
    folder: TempDir,
}

impl SoftHsm {
    /// One with tokens of these labels.
    pub(crate) fn with_tokens(labels: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let hsm = Self { folder };
        fs::create_dir(hsm.path("tokens")).unwrap();
        let tokens = hsm.path("tokens").display().to_string();
        fs::write(hsm.conf(), format!("directories.tokendir = {tokens}\nlog.level = ERROR\n")).unwrap();
        hsm.write_pin(PIN);
        for label in labels {
            let arguments = ["--init-token", "--free", "--label", label, "--so-pin", SO_PIN, "--pin", PIN];
            hsm.run(Command::new("softhsm2-util").args(arguments));
        }
        hsm
    }

    /// One with the token `gateway`.
    pub(crate) fn new() -> Self {
        Self::with_tokens(&["gateway"])
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn conf(&self) -> PathBuf {
        self.path("softhsm2.conf")
    }

    pub(crate) fn pin_file(&self) -> PathBuf {
        self.path("pin")
    }

    pub(crate) fn pin_source(&self) -> String {
        format!("file:{}", self.pin_file().display())
    }

    pub(crate) fn write_pin(&self, pin: &str) {
        fs::write(self.pin_file(), format!("{pin}\n")).unwrap();
        fs::set_permissions(self.pin_file(), Permissions::from_mode(0o600)).unwrap();
    }

    /// The options for a provider's section.
    pub(crate) fn options(&self, token: &str) -> String {
        let status = self.path("status").display().to_string();
        format!(
            "pkcs11-module = {MODULE}\npkcs11-token = {token}\npkcs11-pin-source = {}\npkcs11-status-dir = {status}\n",
            self.pin_source()
        )
    }

    /// Runs `qtls` where the module finds its tokens; neither output may hold the PIN.
    pub(crate) fn qtls(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qtls"));
        command.args(arguments).env(VARIABLE, self.conf()).env_remove("OPENSSL_CONF");
        let output = command.output().expect("qtls can be run");
        for stream in [&output.stdout, &output.stderr] {
            assert!(
                !String::from_utf8_lossy(stream).contains(PIN),
                "the PIN is in an output of {arguments:?}"
            );
        }
        output
    }

    /// What `qtls` with the options of the token `gateway` writes.
    #[track_caller]
    pub(crate) fn succeeds(&self, arguments: &[&str]) -> String {
        let pin_source = self.pin_source();
        let token = ["--module", MODULE, "--token", "gateway", "--pin-source", &pin_source];
        let output = self.qtls(&[arguments, &token].concat());
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// What it complains of, in one line with exit code 2.
    #[track_caller]
    pub(crate) fn fails(&self, arguments: &[&str]) -> String {
        let output = self.qtls(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(output.stdout.is_empty(), "an error leaves standard output alone");
        assert_eq!(said.lines().count(), 1, "one line: {said}");
        said
    }

    /// Makes the tokens another user's.
    pub(crate) fn belongs_to(&self, user: u32) {
        fn hand_over(path: &Path, user: u32) {
            chown(path, Some(user), Some(user)).unwrap();
            if path.is_dir() {
                fs::read_dir(path).unwrap().for_each(|entry| hand_over(&entry.unwrap().path(), user));
            }
        }
        hand_over(&self.path("tokens"), user);
    }

    #[track_caller]
    pub(crate) fn run(&self, command: &mut Command) -> String {
        let output = command
            .env(VARIABLE, self.conf())
            .output()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let said = [&*output.stdout, &*output.stderr].concat();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&said));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// A status file of a server that lives, with one token; written here without the code under test.
pub(crate) struct StatusFile {
    file: fs::File,
}

impl StatusFile {
    const TOKEN: u64 = 8;
    const WORDS_OF_A_TOKEN: u64 = 48;
    const NAME: u64 = Self::TOKEN + 16;

    /// One of this process.
    pub(crate) fn new(directory: &Path) -> Self {
        let path = directory.join(format!("{}.status", std::process::id()));
        let file = fs::File::options().read(true).write(true).create_new(true).open(path).unwrap();
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
        file.set_len((Self::TOKEN + Self::WORDS_OF_A_TOKEN) * 8).unwrap();
        let mut status = Self { file };
        let magic = u64::from_be_bytes(*b"QTLSHSM\x01");
        let header = [magic, std::process::id().into(), 1, 3, 4];
        (0..).zip(header).for_each(|(word, value)| status.set(word, value));
        status.file.write_all_at(b"the token", Self::NAME * 8).unwrap();
        status
    }

    /// In their order: signatures, failures, microseconds, retries, reconnects, breaker, time-outs, connected, PIN refused.
    pub(crate) fn set_counters(&mut self, counters: [u64; 9]) {
        (Self::TOKEN..).zip(counters).for_each(|(word, value)| self.set(word, value));
    }

    fn set(&mut self, word: u64, value: u64) {
        self.file.write_all_at(&value.to_ne_bytes(), word * 8).unwrap();
    }
}
