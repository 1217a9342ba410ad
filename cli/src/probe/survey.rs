//! What else a server accepts: one raw ClientHello a question, several questions at a time, no cryptography.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustls::CipherSuite;
use rustls::crypto::aws_lc_rs;
use serde::Serialize;

use super::wire::{self, ClientHello, FlightError, ServerAnswer, TLS_1_2, TLS_1_3};
use crate::groups::{self, Group, Kind};
use crate::net::Connection;
use crate::tls;

/// Connections open at once: enough to be quick, few enough not to look like an attack.
const CONCURRENT_QUESTIONS: usize = 4;
/// Tries of one question, for servers that reset a connection when several come at once.
const TRIES: u32 = 2;
/// A server's first flight is read no further than this.
const MAX_ANSWER_BYTES: usize = 32 * 1024;
/// X25519, the share that every client of the last years has.
const X25519: u16 = 0x001D;

/// Everything asked and answered.
#[derive(Clone, Debug, Serialize)]
pub struct Survey {
    /// Each known group, asked for alone.
    pub groups: Vec<GroupAnswer>,
    /// Whether TLS 1.2 is accepted.
    pub tls_1_2: Tls12Answer,
    /// What becomes of a client that could do post-quantum but first sends an X25519 share alone.
    pub x25519_share_only: ShareAnswer,
}

impl Survey {
    /// The groups accepted.
    pub fn accepted(&self) -> impl Iterator<Item = &GroupAnswer> {
        self.groups.iter().filter(|group| group.acceptance == Acceptance::Accepted)
    }

    /// Names of the groups accepted that `filter` lets through.
    pub fn accepted_names(&self, filter: impl Fn(Kind) -> bool) -> Vec<&'static str> {
        self.accepted().filter(|group| filter(group.kind)).map(|group| group.name).collect()
    }
}

/// The answer for one group.
#[derive(Clone, Debug, Serialize)]
pub struct GroupAnswer {
    /// Name as libssl writes it.
    pub name: &'static str,
    /// `NamedGroup` code point.
    pub code_point: u16,
    /// What it protects against.
    pub kind: Kind,
    /// What the server said.
    #[serde(flatten)]
    pub acceptance: Acceptance,
}

/// Whether a group is accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "answer", content = "reason", rename_all = "kebab-case")]
pub enum Acceptance {
    /// The server asked for a share of it.
    Accepted,
    /// The server will not.
    Refused(String),
    /// No sensible answer.
    Unclear(String),
}

/// Whether TLS 1.2 is accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "answer", content = "detail", rename_all = "kebab-case")]
pub enum Tls12Answer {
    /// With this cipher suite.
    Accepted(String),
    /// The server will not.
    Refused(String),
    /// No sensible answer.
    Unclear(String),
}

/// What becomes of a client that offers X25519 and post-quantum groups and sends an X25519 share alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "answer", content = "detail", rename_all = "kebab-case")]
pub enum ShareAnswer {
    /// The server asks for a share of this post-quantum group.
    AsksForPostQuantum(String),
    /// The server takes the share it has; the connection is classical.
    StaysClassical,
    /// The server lacks X25519 or post-quantum groups, so the question does not arise.
    NotApplicable,
    /// No sensible answer.
    Unclear(String),
}

/// Whom to ask.
#[derive(Clone, Debug)]
pub struct Questioner<'a> {
    /// The server.
    pub address: SocketAddr,
    /// Name for SNI; none for an address.
    pub server_name: Option<&'a str>,
    /// Protocols for ALPN.
    pub alpn: &'a [String],
    /// For each question.
    pub timeout: Duration,
}

impl Questioner<'_> {
    /// Asks everything.
    pub fn survey(&self) -> Survey {
        let groups = groups::known_groups();
        let answers = Mutex::new(vec![None; groups.len()]);
        let tls_1_2 = Mutex::new(None);
        let next = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..CONCURRENT_QUESTIONS {
                scope.spawn(|| {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        if let Some(group) = groups.get(index) {
                            let answer = self.accepts_group(group.code_point);
                            answers.lock().unwrap_or_else(PoisonError::into_inner)[index] = Some(answer);
                        } else if index == groups.len() {
                            *tls_1_2.lock().unwrap_or_else(PoisonError::into_inner) =
                                Some(self.accepts_tls_1_2());
                        } else {
                            break;
                        }
                    }
                });
            }
        });
        let unasked = || "not asked".to_owned();
        let groups: Vec<_> = groups
            .into_iter()
            .zip(answers.into_inner().unwrap_or_else(PoisonError::into_inner))
            .map(|(Group { name, code_point, kind }, answer)| GroupAnswer {
                name,
                code_point,
                kind,
                acceptance: answer.unwrap_or_else(|| Acceptance::Unclear(unasked())),
            })
            .collect();
        let tls_1_2 = tls_1_2
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
            .unwrap_or_else(|| Tls12Answer::Unclear(unasked()));
        let x25519_share_only = self.x25519_share_only(&groups);
        Survey { groups, tls_1_2, x25519_share_only }
    }

    fn accepts_group(&self, code_point: u16) -> Acceptance {
        match self.ask(TLS_1_3, &[code_point], &[]) {
            Ok(ServerAnswer::HelloRetryRequest { group: Some(group), .. }) if group == code_point => {
                Acceptance::Accepted
            }
            Ok(ServerAnswer::HelloRetryRequest { group, .. }) => Acceptance::Unclear(format!(
                "asks for {} though only {} was offered",
                group.map_or_else(|| "no group".to_owned(), groups::name_of),
                groups::name_of(code_point)
            )),
            Ok(ServerAnswer::ServerHello { version: TLS_1_3, .. }) => {
                Acceptance::Unclear("goes on without a key share".to_owned())
            }
            Ok(ServerAnswer::ServerHello { version, .. }) => {
                Acceptance::Refused(format!("answers with {}", tls::version_number_name(version)))
            }
            Ok(ServerAnswer::Alert { description, .. }) => Acceptance::Refused(alert(description)),
            Err(problem) => Acceptance::Unclear(problem),
        }
    }

    fn accepts_tls_1_2(&self) -> Tls12Answer {
        let classical: Vec<u16> = groups::known_groups()
            .iter()
            .filter(|group| group.kind == Kind::Classical)
            .map(|group| group.code_point)
            .collect();
        match self.ask(TLS_1_2, &classical, &[]) {
            Ok(ServerAnswer::ServerHello { version: TLS_1_2, cipher_suite, .. }) => {
                Tls12Answer::Accepted(tls::cipher_name(CipherSuite::from(cipher_suite)))
            }
            Ok(ServerAnswer::ServerHello { version, .. }) => {
                Tls12Answer::Refused(format!("answers with {}", tls::version_number_name(version)))
            }
            Ok(ServerAnswer::HelloRetryRequest { .. }) => {
                Tls12Answer::Unclear("answers with a HelloRetryRequest of TLS 1.3".to_owned())
            }
            Ok(ServerAnswer::Alert { description, .. }) => Tls12Answer::Refused(alert(description)),
            Err(problem) => Tls12Answer::Unclear(problem),
        }
    }

    fn x25519_share_only(&self, answers: &[GroupAnswer]) -> ShareAnswer {
        let accepted = || answers.iter().filter(|answer| answer.acceptance == Acceptance::Accepted);
        let mut offer: Vec<u16> = accepted()
            .filter(|answer| answer.kind.is_post_quantum())
            .map(|answer| answer.code_point)
            .collect();
        if offer.is_empty() || !accepted().any(|answer| answer.code_point == X25519) {
            return ShareAnswer::NotApplicable;
        }
        offer.push(X25519);
        // Any 32 bytes are a valid X25519 public value (RFC 7748 section 5); nobody needs the private one.
        let answer = randomness::<32>().and_then(|share| self.ask(TLS_1_3, &offer, &[(X25519, &share)]));
        match answer {
            Ok(ServerAnswer::HelloRetryRequest { group: Some(group), .. }) if group != X25519 => {
                ShareAnswer::AsksForPostQuantum(groups::name_of(group))
            }
            Ok(ServerAnswer::ServerHello { group: Some(X25519), .. }) => ShareAnswer::StaysClassical,
            Ok(ServerAnswer::Alert { description, .. }) => ShareAnswer::Unclear(alert(description)),
            Ok(other) => ShareAnswer::Unclear(format!("unexpected answer: {other:?}")),
            Err(problem) => ShareAnswer::Unclear(problem),
        }
    }

    /// Sends one ClientHello and reads the first thing the server says.
    fn ask(&self, version: u16, groups: &[u16], key_shares: &[(u16, &[u8])]) -> Result<ServerAnswer, String> {
        let mut outcome = Err("not asked".to_owned());
        for _ in 0..TRIES {
            let hello = ClientHello {
                version,
                server_name: self.server_name,
                alpn: self.alpn,
                groups,
                key_shares,
                randomness: &randomness()?,
            };
            outcome = exchange(self.address, &hello.encode(), self.timeout);
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }
}

fn exchange(address: SocketAddr, hello: &[u8], timeout: Duration) -> Result<ServerAnswer, String> {
    let mut connection =
        Connection::open(address, timeout).map_err(|error| format!("cannot connect: {}", reason(&error)))?;
    connection.write_all(hello).map_err(|error| reason(&error))?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match connection.read(&mut buffer) {
            Ok(0) => return Err("closes the connection without an answer".to_owned()),
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
            Err(error) => return Err(reason(&error)),
        }
        match wire::parse_server_flight(&answer) {
            Err(FlightError::Incomplete) if answer.len() < MAX_ANSWER_BYTES => {}
            outcome => return outcome.map_err(|error| error.to_string()),
        }
    }
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "resets the connection".to_owned(),
        io::ErrorKind::TimedOut => "no answer in time".to_owned(),
        _ => error.to_string(),
    }
}

fn alert(description: u8) -> String {
    format!("{} ({description})", wire::alert_name(description))
}

fn randomness<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    let generator = aws_lc_rs::default_provider().secure_random;
    generator.fill(&mut bytes).map_err(|_| "this system's random generator fails".to_owned())?;
    Ok(bytes)
}
