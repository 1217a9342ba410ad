//! PKCS#11 tokens in software: SoftHSM (RSA, EC) and Kryoptic (ML-DSA too), as a service finds them: the token belongs to
//! the workers' user, the file with its PIN to root alone.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
    process::{Command, Output},
};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::{
    openssl_conf::OpensslConf,
    pki::{ECDSA, KeyType, ML_DSA_44, ML_DSA_65, ML_DSA_87, RSA},
    platform::{Platform, WorkDir, module, setup, workspace},
    process::{Process, children, send, wait_for},
};

/// The PIN of every token here. Nothing that a test can read afterwards may hold it.
pub const PIN: &str = "4711-kept-secret-0815";
/// The security officer's PIN.
const SO_PIN: &str = "security-officer-1234";
/// Who nginx's workers are: www-data, on every Debian.
pub const WORKERS: u32 = 33;

/// A software token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Debian's SoftHSM: RSA and EC.
    SoftHsm,
    /// Kryoptic: ML-DSA, EC, RSA; made by `tests/setup/kryoptic.sh`.
    Kryoptic,
}

/// One initialised token on a platform; removed when this is dropped.
pub struct Token {
    /// Where it is.
    pub platform: &'static Platform,
    /// Which it is.
    pub kind: Kind,
    /// Its label.
    pub label: &'static str,
    directory: WorkDir,
}

impl Token {
    /// Makes an empty one, with the label `gateway`.
    pub fn new(platform: &'static Platform, kind: Kind) -> Result<Token> {
        Token::with_label(platform, kind, "gateway")
    }

    /// Makes one with this label.
    pub fn with_label(platform: &'static Platform, kind: Kind, label: &'static str) -> Result<Token> {
        let token = Token { platform, kind, label, directory: WorkDir::new(platform)? };
        fs::create_dir(token.objects())?;
        fs::create_dir(token.directory.outside("status"))?;
        token.directory.write("pin", &format!("{PIN}\n"))?;
        fs::set_permissions(token.directory.outside("pin"), fs::Permissions::from_mode(0o600))?;
        match kind {
            Kind::SoftHsm => {
                let conf = format!(
                    "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
                    token.directory.inside("token")
                );
                token.directory.write("token.conf", &conf)?;
            }
            Kind::Kryoptic => {
                let kind = if platform.version >= (3, 5) { "shared" } else { "static" };
                let library = setup("kryoptic.sh", kind)?.join("libkryoptic_pkcs11.so");
                fs::copy(library, token.directory.outside("kryoptic.so"))?;
                let conf = format!(
                    "[[slots]]\nslot = 0\ndbtype = \"sqlite\"\ndbargs = \"{}\"\n",
                    token.directory.inside("token/kryoptic.sql")
                );
                token.directory.write("token.conf", &conf)?;
            }
        }
        let slot: &[&str] = if kind == Kind::SoftHsm { &["--free"] } else { &["--slot", "0"] };
        let arguments = ["--init-token", "--label", label, "--so-pin", SO_PIN, "--pin", PIN];
        token.softhsm_util(&[&arguments, slot].concat())?;
        Ok(token)
    }

    /// The module's file, as the platform's programs see it.
    pub fn module(&self) -> String {
        match self.kind {
            Kind::SoftHsm => "/usr/lib/softhsm/libsofthsm2.so".to_owned(),
            Kind::Kryoptic => self.directory.inside("kryoptic.so"),
        }
    }

    /// The variable that the module is configured by.
    pub fn environment(&self) -> (String, String) {
        let name = if self.kind == Kind::SoftHsm { "SOFTHSM2_CONF" } else { "KRYOPTIC_CONF" };
        (name.to_owned(), self.directory.inside("token.conf"))
    }

    /// Its directory.
    pub fn directory(&self) -> &WorkDir {
        &self.directory
    }

    /// An openssl.cnf with the provider and this token, the PIN from a file of root's.
    pub fn openssl_conf(&self) -> OpensslConf {
        self.openssl_conf_without_pin().provider_line(&format!("pkcs11-pin-source = {}", self.pin_source()))
    }

    /// The same without PIN.
    pub fn openssl_conf_without_pin(&self) -> OpensslConf {
        self.openssl_conf_of_module(&self.module())
    }

    /// An openssl.cnf with the provider and this token, reached through another module; without PIN.
    pub fn openssl_conf_of_module(&self, module: &str) -> OpensslConf {
        OpensslConf::new()
            .provider_line(&format!("pkcs11-module = {module}"))
            .provider_line(&format!("pkcs11-token = {}", self.label))
            .provider_line(&format!("pkcs11-status-dir = {}", self.directory.inside("status")))
    }

    /// Where the PIN is, as the option has it.
    pub fn pin_source(&self) -> String {
        format!("file:{}", self.directory.inside("pin"))
    }

    /// The URI of the private key with this label.
    pub fn uri(&self, object: &str) -> String {
        format!("pkcs11:token={};object={object};type=private", self.label)
    }

    /// The URI of both halves of a key pair.
    pub fn pair(&self, object: &str) -> String {
        format!("pkcs11:token={};object={object}", self.label)
    }

    /// Puts a key pair into the token, with a public object beside the private one.
    pub fn import(&self, object: &str, id: &str, key: &str) -> Result<()> {
        self.import_with(object, id, key, &[])
    }

    /// Puts a private key into the token, and no public object.
    pub fn import_private(&self, object: &str, id: &str, key: &str) -> Result<()> {
        self.import_with(object, id, key, &["--no-public-key"])
    }

    fn import_with(&self, object: &str, id: &str, key: &str, more: &[&str]) -> Result<()> {
        let file = self.directory.write("import.key", key)?;
        let token = ["--token", self.label, "--pin", PIN, "--label", object, "--id", id, "--force"];
        let outcome = self.softhsm_util(&[&["--import", &file][..], &token, more].concat());
        fs::remove_file(self.directory.outside("import.key"))?;
        outcome.map(drop)
    }

    /// Makes a key pair in the token by OpenSC's `pkcs11-tool`, as an operator does who does not have `qtls`.
    pub fn generate_by_pkcs11_tool(&self, object: &str, id: &str, key: KeyType) -> Result<()> {
        let kind = match key {
            RSA => "rsa:2048",
            ECDSA => "EC:prime256v1",
            other => anyhow::bail!("pkcs11-tool makes no {}", other.name),
        };
        let arguments = ["--keypairgen", "--key-type", kind, "--label", object, "--id", id, "--usage-sign"];
        self.pkcs11_tool(&arguments).map(drop)
    }

    /// Makes a key pair in the token by `qtls hsm generate`, and returns its public key, PEM.
    pub fn generate(&self, object: &str, key: KeyType) -> Result<String> {
        let kind = match key {
            RSA => "rsa-2048",
            ECDSA => "ec-p256",
            ML_DSA_44 => "ml-dsa-44",
            ML_DSA_65 => "ml-dsa-65",
            ML_DSA_87 => "ml-dsa-87",
            other => anyhow::bail!("qtls makes no {} in a token", other.name),
        };
        self.qtls(&["hsm", "generate", "--type", kind, &self.pair(object)])?;
        self.public_key(object)
    }

    /// The public key of a private one, PEM.
    pub fn public_key(&self, object: &str) -> Result<String> {
        let key_ref = self.key_ref(object)?;
        let begin = key_ref.find("-----BEGIN PUBLIC KEY-----");
        Ok(key_ref[begin.context("qtls key-ref wrote no public key")?..].to_owned())
    }

    /// What `qtls key-ref` writes for a key.
    pub fn key_ref(&self, object: &str) -> Result<String> {
        self.qtls(&["key-ref", &self.uri(object)])
    }

    /// Runs the `qtls` program beside the provider under test with this token, and returns what it wrote.
    pub fn qtls(&self, arguments: &[&str]) -> Result<String> {
        let output = self.qtls_output(arguments)?;
        succeeded("qtls", arguments, output)
    }

    /// The same, however it ends.
    pub fn qtls_output(&self, arguments: &[&str]) -> Result<Output> {
        let program = self.directory.outside("qtls");
        if !program.exists() {
            let source = module()?.with_file_name("qtls");
            fs::copy(&source, &program).with_context(|| format!("copying {}", source.display()))?;
        }
        let conf = self.directory.write_openssl_conf("openssl.cnf", &self.openssl_conf())?;
        let mut command = self.command(&self.directory.inside("qtls"))?;
        let output = command.env("OPENSSL_CONF", conf).args(arguments).output()?;
        self.hand_over()?;
        Ok(output)
    }

    /// Runs `pkcs11-tool`, logged in, and returns what it wrote.
    pub fn pkcs11_tool(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.command("/usr/bin/pkcs11-tool")?;
        command.args(["--module", &self.module(), "--token-label", self.label, "--login", "--pin", PIN]);
        let output = command.args(arguments).output()?;
        self.hand_over()?;
        succeeded("pkcs11-tool", arguments, output)
    }

    fn softhsm_util(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.command("/usr/bin/softhsm2-util")?;
        let output = command.args(["--module", &self.module()]).args(arguments).output()?;
        self.hand_over()?;
        succeeded("softhsm2-util", &[], output)
    }

    /// A program of the platform in whose environment the module finds the token.
    pub fn command(&self, program: &str) -> Result<Command> {
        let mut command = self.platform.command(program)?;
        command.envs([self.environment()]);
        Ok(command)
    }

    /// Takes the token's files away.
    pub fn take_away(&self) -> Result<()> {
        Ok(fs::rename(self.objects(), self.directory.outside("token.away"))?)
    }

    /// Gives them back.
    pub fn give_back(&self) -> Result<()> {
        Ok(fs::rename(self.directory.outside("token.away"), self.objects())?)
    }

    /// Writes another PIN into the file.
    pub fn write_pin(&self, pin: &str) -> Result<()> {
        self.directory.write("pin", &format!("{pin}\n")).map(drop)
    }

    fn objects(&self) -> std::path::PathBuf {
        self.directory.outside("token")
    }

    /// What root's programs made belongs to the workers' user again.
    fn hand_over(&self) -> Result<()> {
        hand_over(&self.objects())
    }
}

fn hand_over(path: &Path) -> Result<()> {
    chown(path, Some(WORKERS), Some(WORKERS)).with_context(|| format!("chown of {}", path.display()))?;
    if path.is_dir() {
        fs::read_dir(path)?.try_for_each(|entry| hand_over(&entry?.path()))?;
    }
    Ok(())
}

fn succeeded(program: &str, arguments: &[&str], output: Output) -> Result<String> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{program} {}: {}\n{text}{}",
        arguments.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(text)
}

/// A module in front of a token's own, with faults that can be turned on and off while servers run
/// (`tests/setup/faulty.c`).
pub struct Faulty<'a> {
    token: &'a Token,
}

impl<'a> Faulty<'a> {
    /// Compiles one in front of this token's module.
    pub fn new(token: &'a Token) -> Result<Faulty<'a>> {
        let directory = token.directory();
        let source = workspace().join("tests/setup/faulty.c");
        let output = Command::new("gcc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror"])
            .arg(format!("-DREAL=\"{}\"", token.module()))
            .arg(format!("-DCONTROL=\"{}\"", directory.inside("faults")))
            .arg("-o")
            .args([directory.outside("faulty.so"), source])
            .output()?;
        ensure!(output.status.success(), "gcc: {}", String::from_utf8_lossy(&output.stderr));
        let faulty = Faulty { token };
        faulty.set("")?;
        faulty.forget_calls()?;
        Ok(faulty)
    }

    /// The module's file, as the platform's programs see it.
    pub fn module(&self) -> String {
        self.token.directory().inside("faulty.so")
    }

    /// An openssl.cnf with the provider and the token behind this module, the PIN from a file of root's.
    pub fn openssl_conf(&self) -> OpensslConf {
        let conf = self.token.openssl_conf_of_module(&self.module());
        conf.provider_line(&format!("pkcs11-pin-source = {}", self.token.pin_source()))
    }

    /// Sets the faults, one a line: `C_Sign fail 48`, `C_Sign hang 30`, `C_OpenSession limit 2`, `C_GetTokenInfo flags 131072`.
    pub fn set(&self, faults: &str) -> Result<()> {
        // Never half written: the module reads it at every call.
        let directory = self.token.directory();
        directory.write("faults.new", &format!("{faults}\n"))?;
        Ok(fs::rename(directory.outside("faults.new"), directory.outside("faults"))?)
    }

    /// How often this function was called, by all processes together.
    pub fn calls(&self, function: &str) -> Result<usize> {
        let calls = fs::read_to_string(self.token.directory().outside("faults.calls"))?;
        Ok(calls.lines().filter(|line| line.split(' ').next() == Some(function)).count())
    }

    /// Begins to count anew.
    pub fn forget_calls(&self) -> Result<()> {
        let file = self.token.directory().outside("faults.calls");
        fs::write(&file, "")?;
        // Workers write too.
        Ok(fs::set_permissions(file, fs::Permissions::from_mode(0o666))?)
    }
}

/// A SoftHSM token that is a process of its own, reached through a socket: p11-kit's server.
pub struct TokenServer<'a> {
    token: &'a Token,
    process: Option<Process>,
}

impl<'a> TokenServer<'a> {
    /// Starts one for this token.
    pub fn start(token: &'a Token) -> Result<TokenServer<'a>> {
        let mut server = TokenServer { token, process: None };
        server.start_again()?;
        Ok(server)
    }

    /// Starts it after [`Self::kill`].
    pub fn start_again(&mut self) -> Result<()> {
        let directory = self.token.directory();
        let socket = directory.outside("socket");
        drop(fs::remove_file(&socket));
        let mut command = self.token.command("/usr/libexec/p11-kit/p11-kit-server")?;
        command
            .args(["--foreground", "--name", &directory.inside("socket"), "--provider", &self.token.module()])
            .arg(format!("pkcs11:token={}", self.token.label));
        let process = Process::spawn("p11-kit-server", command, directory.outside("p11-kit-server.output"))?;
        wait_for("p11-kit-server's socket", || Ok(socket.exists().then_some(())))
            .with_context(|| process.output())?;
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o666))?;
        self.process = Some(process);
        Ok(())
    }

    /// Ends the process at once, and with it every session.
    pub fn kill(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        // It has a child for each connection, which would go on without it.
        let connections = children(process.pid())?;
        process.stop(Signal::KILL)?;
        for connection in connections {
            // It may have ended in between.
            drop(send(connection, Signal::KILL));
        }
        Ok(())
    }

    /// The variable by which the module on our side finds it.
    pub fn environment(&self) -> (String, String) {
        let socket = self.token.directory().inside("socket");
        ("P11_KIT_SERVER_ADDRESS".to_owned(), format!("unix:path={socket}"))
    }

    /// The module on our side.
    pub fn module(&self) -> &'static str {
        "/usr/lib/x86_64-linux-gnu/pkcs11/p11-kit-client.so"
    }
}

impl Drop for TokenServer<'_> {
    fn drop(&mut self) {
        drop(self.kill());
    }
}

/// A PEM block with a URI, as nginx, HAProxy and others read it in place of a key: label `PKCS#11 PROVIDER URI`, in it
/// `SEQUENCE { VisibleString "PKCS#11 Provider URI v1.0", UTF8String uri }`. Written here without the code under test.
pub fn uri_pem(uri: &str) -> String {
    let title = "PKCS#11 Provider URI v1.0";
    let content = [element(0x1a, title.as_bytes()), element(0x0c, uri.as_bytes())].concat();
    let text = base64(&element(0x30, &content));
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("base64 is ASCII")).collect();
    format!(
        "-----BEGIN PKCS#11 PROVIDER URI-----\n{}\n-----END PKCS#11 PROVIDER URI-----\n",
        lines.join("\n")
    )
}

/// DER of up to 65,535 bytes.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("a short URI").to_be_bytes();
    let head = match length {
        [0, short @ 0..=127] => vec![tag, short],
        [0, long] => vec![tag, 0x81, long],
        [high, low] => vec![tag, 0x82, high, low],
    };
    [head, content.to_vec()].concat()
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().enumerate().fold(0_u32, |word, (i, byte)| word | u32::from(*byte) << (16 - 8 * i));
        for i in 0..4 {
            let digit = ALPHABET[(word >> (18 - 6 * i)) as usize & 63];
            text.push(if i <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}
