//! A real handshake, watched: what was negotiated, who the server says it is, how long it took and how big it was.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue,
    Tls13ClientSessionValue,
};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind, NamedGroup, RootCertStore,
    SignatureScheme,
};
use serde::Serialize;

use super::certificate::Certificate;
use super::chain::{CA_AS_SERVER, UNKNOWN_ISSUER, verify_chain, verify_name};
use crate::groups::{self, Group, Kind};
use crate::net::Connection;
use crate::tls;

/// How long to wait, beyond the time of the handshake itself, for a ticket that may never come.
const TICKET_PATIENCE: Duration = Duration::from_millis(500);

/// What a handshake showed.
#[derive(Clone, Debug, Serialize)]
pub struct Handshake {
    /// `TLS 1.3`.
    pub protocol: String,
    /// The group; none when TLS 1.2 exchanged keys without one.
    pub group: Option<NegotiatedGroup>,
    /// IANA name of the cipher suite.
    pub cipher: String,
    /// IANA name of the scheme in CertificateVerify (TLS 1.2: ServerKeyExchange).
    pub signature_scheme: Option<String>,
    /// Whether that scheme resists a quantum computer.
    pub signature_post_quantum: bool,
    /// Why that signature does not verify; none when it does.
    pub signature_problem: Option<String>,
    /// Protocol chosen by ALPN.
    pub alpn: Option<String>,
    /// Whether the server asked for another share first, which costs a round trip.
    pub hello_retry_request: bool,
    /// Bytes written until the handshake was done, TCP and IP not counted.
    pub bytes_sent: u64,
    /// Bytes read until the handshake was done.
    pub bytes_received: u64,
    /// From ClientHello to the server's first byte, microseconds.
    pub first_byte_us: u64,
    /// From ClientHello to our Finished, microseconds.
    pub handshake_us: u64,
    /// Session tickets (TLS 1.3) or sessions (TLS 1.2) received.
    pub tickets: u32,
    /// Bytes of 0-RTT data the first ticket allows.
    pub max_early_data: u32,
    /// Whether a second handshake with that ticket was resumed; none when there was nothing to resume.
    pub resumed: Option<bool>,
    /// Whether the chain was verified, and if not why.
    pub trust: Trust,
    /// The server's chain, leaf first.
    pub chain: Vec<Certificate>,
    /// Certificates of the chain that could not be parsed.
    pub unreadable_certificates: Vec<String>,
}

/// The group as a report shows it.
#[derive(Clone, Debug, Serialize)]
pub struct NegotiatedGroup {
    /// Name, or hexadecimal code point of an unknown one.
    pub name: String,
    /// `NamedGroup` code point.
    pub code_point: u16,
    /// What it protects against; none when unknown.
    pub kind: Option<Kind>,
}

impl NegotiatedGroup {
    /// The group of this code point.
    pub fn new(code_point: u16) -> Self {
        Self {
            name: groups::name_of(code_point),
            code_point,
            kind: groups::by_code_point(code_point).map(|group| group.kind),
        }
    }

    /// Whether it resists a quantum computer.
    pub fn is_post_quantum(&self) -> bool {
        self.kind.is_some_and(Kind::is_post_quantum)
    }
}

/// Outcome of the chain's verification, which is reported and never enforced.
#[derive(Clone, Debug, Serialize)]
pub struct Trust {
    /// Whether the chain leads to a trusted root and the name fits.
    pub verified: bool,
    /// For people: `verified`, or `self-signed`, ….
    pub detail: String,
}

/// Which signature schemes a client offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schemes {
    /// ML-DSA first, then the classical ones.
    All,
    /// None of ML-DSA: as a client that does not know it yet.
    Classical,
}

/// What a client without ML-DSA meets at a server that has shown an ML-DSA certificate to one with it.
#[derive(Clone, Debug, Serialize)]
pub struct ClassicalClient {
    /// The scheme the server signs with then; none when the handshake fails.
    pub signature_scheme: Option<String>,
    /// The certificate it shows then; none when the handshake fails.
    pub certificate: Option<Certificate>,
    /// Why the handshake fails.
    pub refused: Option<String>,
}

/// What to offer and to whom.
#[derive(Debug)]
pub struct Client {
    config: Arc<ClientConfig>,
    observer: Arc<Observer>,
    sessions: Arc<CountingSessions>,
    server_name: ServerName<'static>,
    address: SocketAddr,
    timeout: Duration,
}

impl Client {
    /// A client that offers these groups; trust comes from `ca`, else from the system.
    ///
    /// # Errors
    /// When `ca` cannot be read.
    pub fn new(
        address: SocketAddr,
        server_name: ServerName<'static>,
        offer: &[Group],
        schemes: Schemes,
        alpn: &[String],
        ca: Option<&Path>,
        timeout: Duration,
    ) -> anyhow::Result<Self> {
        let provider = tls::provider_with(offer);
        let observer = Arc::new(Observer::new(provider.clone(), schemes, ca)?);
        let sessions = Arc::new(CountingSessions::default());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("the groups offered fit no protocol version")?
            .dangerous()
            .with_custom_certificate_verifier(observer.clone())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        config.resumption = Resumption::store(sessions.clone());
        Ok(Self { config: Arc::new(config), observer, sessions, server_name, address, timeout })
    }

    /// Does one full handshake, waits a moment for a ticket, and tries that ticket in a second one.
    ///
    /// # Errors
    /// When the first handshake fails; a failing second one only means "not resumed".
    pub fn probe(&self) -> Result<Handshake, io::Error> {
        let (mut tls, mut connection) = self.start()?;
        let started = Instant::now();
        tls.complete_io(&mut connection).map_err(explain)?;
        let took = started.elapsed();
        let (bytes_sent, bytes_received) = (connection.sent, connection.received);
        let first_byte_at = connection.first_byte_at.unwrap_or(started);

        self.wait_for_ticket(&mut tls, &mut connection, took);
        let tickets = self.sessions.received.load(Ordering::Relaxed);
        let resumed = (tickets > 0).then(|| self.resumes());

        let seen = self.observer.seen();
        let (mut chain, mut unreadable_certificates) = (Vec::new(), Vec::new());
        for der in tls.peer_certificates().unwrap_or_default() {
            match Certificate::describe(der) {
                Ok(certificate) => chain.push(certificate),
                Err(problem) => unreadable_certificates.push(problem),
            }
        }
        let group =
            tls.negotiated_key_exchange_group().map(|group| NegotiatedGroup::new(u16::from(group.name())));
        Ok(Handshake {
            protocol: tls.protocol_version().map(tls::version_name).unwrap_or_default(),
            group,
            cipher: tls
                .negotiated_cipher_suite()
                .map(|suite| tls::cipher_name(suite.suite()))
                .unwrap_or_default(),
            signature_scheme: seen.scheme.map(tls::scheme_name),
            signature_post_quantum: seen.scheme.is_some_and(tls::is_ml_dsa),
            signature_problem: seen.signature_problem,
            alpn: tls.alpn_protocol().map(|protocol| String::from_utf8_lossy(protocol).into_owned()),
            hello_retry_request: tls.handshake_kind() == Some(HandshakeKind::FullWithHelloRetryRequest),
            bytes_sent,
            bytes_received,
            first_byte_us: micros(first_byte_at - started),
            handshake_us: micros(took),
            tickets,
            max_early_data: self.sessions.max_early_data.load(Ordering::Relaxed),
            resumed,
            trust: trust(seen.chain_problem.as_deref(), &chain),
            chain,
            unreadable_certificates,
        })
    }

    /// Does one handshake, only to see which certificate the server chooses.
    pub fn shown_certificate(&self) -> ClassicalClient {
        let shown = || -> io::Result<Option<Certificate>> {
            let (mut tls, mut connection) = self.start()?;
            tls.complete_io(&mut connection).map_err(explain)?;
            tls.send_close_notify();
            // Manners only, as above.
            let _ = tls.write_tls(&mut connection);
            let leaf = tls.peer_certificates().and_then(<[_]>::first);
            Ok(leaf.and_then(|leaf| Certificate::describe(leaf).ok()))
        };
        match shown() {
            Ok(certificate) => ClassicalClient {
                signature_scheme: self.observer.seen().scheme.map(tls::scheme_name),
                certificate,
                refused: None,
            },
            Err(error) => ClassicalClient {
                signature_scheme: None,
                certificate: None,
                refused: Some(error.to_string()),
            },
        }
    }

    fn start(&self) -> io::Result<(ClientConnection, Connection)> {
        let connection = Connection::open(self.address, self.timeout)?;
        let tls =
            ClientConnection::new(self.config.clone(), self.server_name.clone()).map_err(io::Error::other)?;
        Ok((tls, connection))
    }

    /// TLS 1.3 tickets come after the handshake, whenever the server likes; a server without them is waited for in vain.
    fn wait_for_ticket(&self, tls: &mut ClientConnection, connection: &mut Connection, round_trip: Duration) {
        connection.extend(round_trip + TICKET_PATIENCE);
        while self.sessions.received.load(Ordering::Relaxed) == 0 {
            match tls.read_tls(connection) {
                Ok(count) if count > 0 && tls.process_new_packets().is_ok() => {}
                _ => break,
            }
        }
        // Manners only: the answers are in, so a server that is gone already changes nothing.
        tls.send_close_notify();
        let _ = tls.write_tls(connection);
    }

    fn resumes(&self) -> bool {
        let second = || -> io::Result<bool> {
            let (mut tls, mut connection) = self.start()?;
            tls.complete_io(&mut connection)?;
            let resumed = tls.handshake_kind() == Some(HandshakeKind::Resumed);
            tls.send_close_notify();
            let _ = tls.write_tls(&mut connection);
            Ok(resumed)
        };
        second().unwrap_or(false)
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// rustls' errors in words that say what the server did.
fn explain(error: io::Error) -> io::Error {
    let Some(tls_error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                io::Error::new(error.kind(), "the server closed the connection during the handshake")
            }
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                io::Error::new(error.kind(), "the server reset the connection during the handshake")
            }
            _ => error,
        };
    };
    let text = match tls_error {
        rustls::Error::AlertReceived(alert) => {
            let number = u8::from(*alert);
            format!("the server refuses with the alert {} ({number})", super::wire::alert_name(number))
        }
        rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => {
            "what answers there does not speak TLS; is it the TLS port?".to_owned()
        }
        other => format!("TLS failed: {other}"),
    };
    io::Error::new(error.kind(), text)
}

fn trust(problem: Option<&str>, chain: &[Certificate]) -> Trust {
    match (problem, chain) {
        (None, _) => Trust { verified: true, detail: "verified".to_owned() },
        (Some(UNKNOWN_ISSUER | CA_AS_SERVER), [only]) if only.self_issued => {
            Trust { verified: false, detail: "self-signed".to_owned() }
        }
        (Some(problem), _) => Trust { verified: false, detail: problem.to_owned() },
    }
}

/// Lets every certificate pass and notes what a strict client would have said.
#[derive(Debug)]
struct Observer {
    provider: Arc<CryptoProvider>,
    /// Who is trusted; nobody on a system without roots.
    roots: RootCertStore,
    schemes: Schemes,
    /// The certificates of `--ca`: a server's own certificate among them is trusted as it is.
    pinned: Vec<CertificateDer<'static>>,
    seen: Mutex<Seen>,
}

#[derive(Clone, Debug, Default)]
struct Seen {
    scheme: Option<SignatureScheme>,
    signature_problem: Option<String>,
    chain_problem: Option<String>,
}

impl Observer {
    fn new(provider: Arc<CryptoProvider>, schemes: Schemes, ca: Option<&Path>) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        let mut pinned = Vec::new();
        match ca {
            Some(path) => {
                pinned = tls::read_certificates(path)?;
                for certificate in &pinned {
                    roots
                        .add(certificate.clone())
                        .with_context(|| format!("a certificate in {} cannot be a root", path.display()))?;
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        Ok(Self { provider, roots, schemes, pinned, seen: Mutex::default() })
    }

    /// What a strict client would say to the chain.
    fn chain_problem(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        now: UnixTime,
    ) -> Option<String> {
        if self.pinned.iter().any(|certificate| certificate == end_entity) {
            self.pinned_problem(end_entity, server_name)
        } else if self.roots.is_empty() {
            Some("this system has no trusted roots (install ca-certificates, or pass --ca FILE)".to_owned())
        } else {
            verify_chain(end_entity, intermediates, &self.roots.roots, server_name, now).err()
        }
    }

    /// What is wrong with a certificate that `--ca` names itself; webpki takes no server certificate for a root.
    fn pinned_problem(
        &self,
        end_entity: &CertificateDer<'_>,
        server_name: &ServerName<'_>,
    ) -> Option<String> {
        match (verify_name(end_entity, server_name), Certificate::describe(end_entity)) {
            (Err(problem), _) | (_, Err(problem)) => Some(problem),
            (Ok(()), Ok(certificate)) if certificate.days_left < 0 => Some("expired".to_owned()),
            (Ok(()), Ok(certificate)) if !certificate.started => Some("not valid yet".to_owned()),
            (Ok(()), Ok(_)) => None,
        }
    }

    fn seen(&self) -> Seen {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_signature(
        &self,
        scheme: SignatureScheme,
        outcome: Result<HandshakeSignatureValid, rustls::Error>,
    ) -> HandshakeSignatureValid {
        let mut seen = self.lock();
        seen.scheme = Some(scheme);
        seen.signature_problem = outcome.err().map(|error| error.to_string());
        HandshakeSignatureValid::assertion()
    }
}

impl ServerCertVerifier for Observer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.lock().chain_problem = self.chain_problem(end_entity, intermediates, server_name, now);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        Ok(self
            .note_signature(signed.scheme, verify_tls12_signature(message, certificate, signed, algorithms)))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        Ok(self
            .note_signature(signed.scheme, verify_tls13_signature(message, certificate, signed, algorithms)))
    }

    /// ML-DSA first: the question is what the server does at its best.
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let (post_quantum, classical): (Vec<_>, Vec<_>) = self
            .provider
            .signature_verification_algorithms
            .supported_schemes()
            .into_iter()
            .partition(|scheme| tls::is_ml_dsa(*scheme));
        match self.schemes {
            Schemes::All => post_quantum.into_iter().chain(classical).collect(),
            Schemes::Classical => classical,
        }
    }
}

/// Counts the tickets that come in and keeps them for the second handshake.
#[derive(Debug)]
struct CountingSessions {
    cache: ClientSessionMemoryCache,
    received: AtomicU32,
    max_early_data: AtomicU32,
}

impl Default for CountingSessions {
    fn default() -> Self {
        Self {
            cache: ClientSessionMemoryCache::new(8),
            received: AtomicU32::new(0),
            max_early_data: AtomicU32::new(0),
        }
    }
}

impl ClientSessionStore for CountingSessions {
    fn set_kx_hint(&self, server_name: ServerName<'static>, group: NamedGroup) {
        self.cache.set_kx_hint(server_name, group);
    }

    fn kx_hint(&self, server_name: &ServerName<'_>) -> Option<NamedGroup> {
        self.cache.kx_hint(server_name)
    }

    fn set_tls12_session(&self, server_name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.received.fetch_add(1, Ordering::Relaxed);
        self.cache.set_tls12_session(server_name, value);
    }

    fn tls12_session(&self, server_name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.cache.tls12_session(server_name)
    }

    fn remove_tls12_session(&self, server_name: &ServerName<'static>) {
        self.cache.remove_tls12_session(server_name);
    }

    fn insert_tls13_ticket(&self, server_name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.received.fetch_add(1, Ordering::Relaxed);
        self.max_early_data.fetch_max(value.max_early_data_size(), Ordering::Relaxed);
        self.cache.insert_tls13_ticket(server_name, value);
    }

    fn take_tls13_ticket(&self, server_name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.cache.take_tls13_ticket(server_name)
    }
}
