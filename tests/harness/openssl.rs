//! OpenSSL's own programs as server and client.

use std::{
    io::Write,
    process::{ExitStatus, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;

use crate::{
    groups::canonical_name,
    nginx::Answer,
    openssl_conf::OpensslConf,
    platform::{Platform, WorkDir},
    process::{Process, free_port},
};

/// A running `openssl s_server -www` with the provider; ended when this is dropped.
pub struct OpensslServer {
    process: Process,
    /// Its files.
    pub directory: WorkDir,
    /// Where it listens.
    pub port: u16,
}

impl OpensslServer {
    /// Starts one with these groups, `more` further arguments.
    pub fn start(
        platform: &Platform,
        conf: &OpensslConf,
        groups: &str,
        more: &[&str],
    ) -> Result<OpensslServer> {
        OpensslServer::start_in(platform, WorkDir::new(platform)?, conf, groups, more)
    }

    /// The same in a directory that holds what the arguments name; they may name another certificate.
    pub fn start_in(
        platform: &Platform,
        directory: WorkDir,
        conf: &OpensslConf,
        groups: &str,
        more: &[&str],
    ) -> Result<OpensslServer> {
        let openssl_conf = directory.write_openssl_conf("openssl.cnf", conf)?;
        let port = free_port()?;
        let mut command = platform.openssl()?;
        command
            .env("OPENSSL_CONF", openssl_conf)
            .args(["s_server", "-accept", &format!("127.0.0.1:{port}"), "-groups", groups, "-www"])
            .args(["-cert", &directory.inside("server.pem"), "-key", &directory.inside("server.key")])
            .args(more);
        let mut process = Process::spawn("s_server", command, directory.outside("s_server.output"))?;
        process.wait_for_port(port).with_context(|| platform.name)?;
        Ok(OpensslServer { process, directory, port })
    }

    /// What it has written.
    pub fn output(&self) -> String {
        self.process.output()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Whether it runs.
    pub fn is_alive(&mut self) -> Result<bool> {
        self.process.is_alive()
    }

    /// Waits until it ends by itself (`-naccept`).
    pub fn wait(&mut self) -> Result<ExitStatus> {
        self.process.wait()
    }

    /// Ends it.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.process.stop(Signal::TERM)
    }
}

/// `openssl s_client` of a platform, with or without the provider.
pub struct OpensslClient {
    platform: &'static Platform,
    directory: WorkDir,
    openssl_conf: Option<String>,
}

/// What a run of `s_client` told.
#[derive(Clone, Debug)]
pub struct ClientRun {
    /// Whether the handshake was completed and the server's certificate verified.
    pub connected: bool,
    /// The group, where this OpenSSL prints it (3.2 on; hybrids by name from 3.5 on).
    pub group: Option<String>,
    /// The application protocol.
    pub alpn: Option<String>,
    /// The type of the server's signature, where this OpenSSL prints it: `ECDSA`, `mldsa65`.
    pub signature: Option<String>,
    /// Everything it wrote, the server's answer included.
    pub text: String,
}

impl ClientRun {
    /// nginx's view of the connection.
    pub fn answer(&self) -> Result<Answer> {
        ensure!(self.connected, "no connection:\n{}", excerpt(&self.text));
        Answer::parse(&self.text)
    }
}

impl OpensslClient {
    /// The platform's `s_client` as it is, without the provider.
    pub fn native(platform: &'static Platform) -> Result<OpensslClient> {
        Ok(OpensslClient { platform, directory: WorkDir::new(platform)?, openssl_conf: None })
    }

    /// The platform's `s_client` with the provider.
    pub fn with_provider(platform: &'static Platform, conf: &OpensslConf) -> Result<OpensslClient> {
        let directory = WorkDir::new(platform)?;
        let openssl_conf = Some(directory.write_openssl_conf("openssl.cnf", conf)?);
        Ok(OpensslClient { platform, directory, openssl_conf })
    }

    /// Which it is, for messages.
    pub fn name(&self) -> String {
        let with = if self.openssl_conf.is_some() { " with qtls" } else { "" };
        format!("s_client of {}{with}", self.platform.name)
    }

    /// Its files, for `-sess_out` and the like.
    pub fn directory(&self) -> &WorkDir {
        &self.directory
    }

    /// Connects with these groups and asks for `/` over HTTP/1.1.
    pub fn get(&self, port: u16, groups: &str, more: &[&str]) -> Result<ClientRun> {
        let mut command = self.platform.openssl()?;
        if let Some(conf) = &self.openssl_conf {
            command.env("OPENSSL_CONF", conf);
        }
        command
            .args(["s_client", "-connect", &format!("127.0.0.1:{port}"), "-servername", "localhost"])
            .args(["-CAfile", &self.directory.inside("ca.pem"), "-verify_return_error"])
            .args(["-ign_eof", "-groups", groups])
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().context("starting s_client")?;
        let mut input = child.stdin.take().context("s_client's standard input")?;
        // It may have ended already, after a failed handshake.
        drop(input.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
        drop(input);
        let output = child.wait_with_output()?;
        let text = format!(
            "{}\n{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        if text.contains("Error with command") || text.contains("Call to SSL_CONF_cmd") {
            bail!("s_client does not take its arguments, groups {groups}:\n{}", excerpt(&text));
        }
        let value = |prefix: &str| text.lines().find_map(|line| line.strip_prefix(prefix)).map(str::trim);
        let group = value("Negotiated TLS1.3 group: ").map(canonical_name).or_else(|| {
            let key = value("Server Temp Key: ").or_else(|| value("Peer Temp Key: "))?;
            key.split(", ").find_map(|part| {
                Some(canonical_name(part)).filter(|name| name.starts_with(['X', 'P', 'S', 'M']))
            })
        });
        let connected = text.contains("Verify return code: 0 (ok)")
            && (text.contains("New, TLSv1") || text.contains("Reused, TLSv1"));
        // A crash at exit, after all went well, is a failure too.
        ensure!(
            output.status.success() || !connected,
            "s_client ended with {}:\n{}",
            output.status,
            excerpt(&text)
        );
        let alpn = value("ALPN protocol: ").map(str::to_owned);
        let signature = value("Peer signature type: ").map(str::to_owned);
        Ok(ClientRun { connected, group, alpn, signature, text })
    }
}

/// The start and the end of a long text.
fn excerpt(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    if lines.len() <= 30 {
        return lines.join("\n");
    }
    format!("{}\n…\n{}", lines[..10].join("\n"), lines[lines.len() - 20..].join("\n"))
}
