//! Programs started for a test, and certificates made for one.

// Each test file uses its own part of this.
#![allow(dead_code)]

pub(crate) mod composite;
pub(crate) mod doctor;
pub(crate) mod softhsm;

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::Value;
use tempfile::TempDir;

/// Longest wait for a program to become ready.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs `qtls` to its end.
pub(crate) fn qtls(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_qtls")).args(arguments).output().expect("qtls can be run")
}

/// Runs `qtls … --json` and returns exit code and report.
pub(crate) fn qtls_json(arguments: &[&str]) -> (i32, Value) {
    let output = qtls(&[arguments, &["--json"]].concat());
    let report = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().expect("qtls ends by itself"), report)
}

/// What `qtls` complains of; it must be one line and the exit code 2.
pub(crate) fn qtls_error(arguments: &[&str]) -> String {
    let output = qtls(arguments);
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(output.stdout.is_empty(), "an error leaves standard output alone");
    assert_eq!(said.lines().count(), 1, "one line: {said}");
    said
}

/// A running `qtls serve`.
pub(crate) struct Serve {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
    stdout: BufReader<ChildStdout>,
}

impl Serve {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_qtls"))
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("qtls can be run");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("a first line");
        let address = line
            .trim()
            .strip_prefix("listening on https://")
            .and_then(|address| address.parse().ok())
            .unwrap_or_else(|| panic!("unexpected first line: {line}"));
        Self { child, address, stdout }
    }

    pub(crate) fn target(&self) -> String {
        self.address.to_string()
    }

    /// Sends a signal and returns exit code and what was printed since the first line.
    pub(crate) fn stop(mut self, signal: Signal) -> (Option<i32>, String) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).expect("it runs");
        let mut said = String::new();
        self.stdout.read_to_string(&mut said).expect("UTF-8");
        (self.child.wait().expect("it ends").code(), said)
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A running `openssl s_server`, an implementation that shares no code with ours.
pub(crate) struct SServer {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl SServer {
    pub(crate) fn start(identity: &Identity, arguments: &[&str]) -> Self {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let mut child = Command::new("openssl")
            .args(["s_server", "-www", "-quiet", "-accept", &format!("127.0.0.1:{port}"), "-cert"])
            .arg(&identity.certificate)
            .arg("-key")
            .arg(&identity.key)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl is installed");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert_eq!(child.try_wait().unwrap(), None, "openssl s_server {arguments:?} ended");
            assert!(started.elapsed() < PATIENCE, "openssl s_server does not listen");
            thread::sleep(Duration::from_millis(10));
        }
        Self { child, address }
    }

    pub(crate) fn target(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for SServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// PEM files of a certificate and its key.
pub(crate) struct Identity {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Identity {
    pub(crate) fn certificate(&self) -> &str {
        text(&self.certificate)
    }

    pub(crate) fn key(&self) -> &str {
        text(&self.key)
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// A certificate authority in a temporary folder.
pub(crate) struct Authority {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
    pub(crate) certificate: PathBuf,
}

impl Authority {
    pub(crate) fn new() -> Self {
        Self::with_key(KeyPair::generate().unwrap())
    }

    pub(crate) fn with_key(key: KeyPair) -> Self {
        let folder = TempDir::new().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test authority");
        let certificate = folder.path().join("authority.pem");
        std::fs::write(&certificate, params.self_signed(&key).unwrap().pem()).unwrap();
        Self { folder, issuer: Issuer::new(params, key), certificate }
    }

    /// One whose certificate is elsewhere.
    pub(crate) fn of(issuer: Issuer<'static, KeyPair>) -> Self {
        let folder = TempDir::new().unwrap();
        Self { certificate: folder.path().join("none.pem"), folder, issuer }
    }

    pub(crate) fn certificate(&self) -> &str {
        text(&self.certificate)
    }

    /// The certificate of these parameters for a key, PEM.
    pub(crate) fn sign(&self, params: &CertificateParams, key: &KeyPair) -> String {
        params.signed_by(key, &self.issuer).unwrap().pem()
    }

    /// Issues a certificate for these names; `change` sees its parameters first.
    pub(crate) fn issue(
        &self,
        common_name: &str,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Identity {
        self.issue_for(KeyPair::generate().unwrap(), common_name, names, change)
    }

    /// The same for a given key.
    pub(crate) fn issue_for(
        &self,
        key: KeyPair,
        common_name: &str,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Identity {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, common_name);
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        self.write(common_name, &certificate.pem(), &key.serialize_pem())
    }

    /// A certificate that is its own issuer.
    pub(crate) fn self_signed(&self, common_name: &str) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params =
            CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, common_name);
        let certificate = params.self_signed(&key).unwrap();
        self.write(common_name, &certificate.pem(), &key.serialize_pem())
    }

    fn write(&self, name: &str, certificate_pem: &str, key_pem: &str) -> Identity {
        let certificate = self.folder.path().join(format!("{name}.pem"));
        let key = self.folder.path().join(format!("{name}.key"));
        std::fs::write(&certificate, certificate_pem).unwrap();
        std::fs::write(&key, key_pem).unwrap();
        Identity { certificate, key }
    }
}

/// The names of the groups that a report says are accepted.
pub(crate) fn accepted(report: &Value) -> Vec<&str> {
    report["survey"]["groups"]
        .as_array()
        .expect("a survey")
        .iter()
        .filter(|group| group["answer"] == "accepted")
        .map(|group| group["name"].as_str().unwrap())
        .collect()
}
