//! Headless Chromium, driven over its DevTools protocol.

use std::{fs, io::ErrorKind, net::TcpStream, process::Command, time::Duration};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use crate::process::{Process, wait_for};

/// A running Chromium with a page; ended when this is dropped.
pub struct Browser {
    socket: WebSocket<TcpStream>,
    session: Option<String>,
    last_id: u64,
    process: Process,
    profile: tempfile::TempDir,
}

/// What the browser says of the connection that a page came over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visit {
    /// HTTP status.
    pub status: u64,
    /// `h2`, `http/1.1`.
    pub http: String,
    /// `TLS 1.3`.
    pub protocol: String,
    /// `X25519MLKEM768`, `X25519`, …
    pub group: String,
    /// `AES_128_GCM`, …
    pub cipher: String,
}

impl Browser {
    /// Starts Debian's Chromium with an empty profile.
    ///
    /// # Errors
    /// When it is not installed, or does not open its DevTools port; the error holds its output.
    pub fn start() -> Result<Browser> {
        let profile = tempfile::Builder::new().prefix("qtls-chromium-").tempdir()?;
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "chromium"])
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .args(["--disable-dev-shm-usage", "--ignore-certificate-errors", "--remote-debugging-port=0"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank");
        let mut process = Process::spawn("chromium", command, profile.path().join("output"))?;
        let file = profile.path().join("DevToolsActivePort");
        let outcome = wait_for("Chromium's DevTools port", || {
            if !process.is_alive()? {
                bail!("chromium ended at once");
            }
            let text = fs::read_to_string(&file).unwrap_or_default();
            let found = text.split_once('\n').map(|(port, path)| (port.to_owned(), path.trim().to_owned()));
            Ok(found.filter(|(_, path)| !path.is_empty()))
        });
        let (port, path) = outcome.with_context(|| format!("its output:\n{}", process.output()))?;
        let stream = TcpStream::connect(("127.0.0.1", port.parse::<u16>()?))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let (socket, _) = tungstenite::client(format!("ws://127.0.0.1:{port}{path}"), stream)
            .map_err(|error| anyhow::anyhow!("DevTools handshake: {error}"))?;
        let mut browser = Browser { socket, session: None, last_id: 0, process, profile };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}))?;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let session = browser.call("Target.attachToTarget", attach)?;
        browser.session = Some(session["sessionId"].as_str().context("no DevTools session")?.to_owned());
        browser.call("Network.enable", json!({}))?;
        browser.call("Page.enable", json!({}))?;
        Ok(browser)
    }

    /// Opens a page.
    ///
    /// # Errors
    /// When it can't be loaded, or came without TLS.
    pub fn visit(&mut self, url: &str) -> Result<Visit> {
        let id = self.send("Page.navigate", json!({"url": url}))?;
        loop {
            let message = self.receive()?;
            if message["id"] == id {
                if let Some(error) = message["result"]["errorText"].as_str() {
                    bail!("{url}: {error}");
                }
                continue;
            }
            let response = &message["params"]["response"];
            if message["method"] != "Network.responseReceived" || response["url"] != url {
                continue;
            }
            let details = &response["securityDetails"];
            let text = |value: &Value, name: &str| -> Result<String> {
                Ok(value[name].as_str().with_context(|| format!("{url}: no {name} in {value}"))?.to_owned())
            };
            return Ok(Visit {
                status: response["status"].as_u64().context("no status")?,
                http: text(response, "protocol")?,
                protocol: text(details, "protocol")?,
                group: text(details, "keyExchangeGroup")?,
                cipher: text(details, "cipher")?,
            });
        }
    }

    /// The browser's process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    fn call(&mut self, method: &str, params: Value) -> Result<Value> {
        let id = self.send(method, params)?;
        loop {
            let message = self.receive()?;
            if message["id"] == id {
                if let Some(error) = message.get("error") {
                    bail!("{method}: {error}");
                }
                return Ok(message["result"].clone());
            }
        }
    }

    fn send(&mut self, method: &str, params: Value) -> Result<u64> {
        self.last_id += 1;
        let mut message = json!({"id": self.last_id, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.socket.send(Message::text(message.to_string()))?;
        Ok(self.last_id)
    }

    fn receive(&mut self) -> Result<Value> {
        loop {
            if let Message::Text(text) = self.socket.read().context("waiting for Chromium")? {
                return Ok(serde_json::from_str(text.as_str())?);
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        drop(self.process.stop(Signal::TERM));
        // Its helper processes may still write there when it has ended.
        let removed = wait_for("the removal of Chromium's profile", || {
            Ok(match fs::remove_dir_all(self.profile.path()) {
                Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => None,
                outcome => Some(outcome),
            })
        });
        if let Err(error) | Ok(Err(error)) = removed.map(|outcome| outcome.map_err(Into::into)) {
            eprintln!("{}: {error:#}", self.profile.path().display());
        }
    }
}
