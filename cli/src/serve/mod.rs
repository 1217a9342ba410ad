//! `qtls serve`: a small TLS server that tells each client what was negotiated, and echoes what is sent to it.

mod http;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, anyhow};
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{HandshakeKind, RootCertStore, ServerConfig, ServerConnection};
use serde::Serialize;

use crate::groups::{self, Group, Kind};
use crate::net::Connection;
use crate::probe::certificate::Certificate;
use crate::probe::{GroupList, parse_groups};
use crate::tls;
use http::{Failure, Incoming, Request};

/// A client has this long for its handshake.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);
/// A connection may be silent for this long.
const IDLE_PATIENCE: Duration = Duration::from_secs(30);
/// Connections in progress have this long to end when the server is stopped.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// A certificate made at start outlives any try-out, and no longer.
const SELF_SIGNED_VALIDITY: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Command line of `qtls serve`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  qtls serve                                         # then: qtls probe localhost:8443
  qtls serve --listen 0.0.0.0:443 --cert chain.pem --key key.pem
  qtls serve --groups SecP384r1MLKEM1024,MLKEM1024   # nothing else is accepted
  qtls serve --client-ca clients.pem                 # clients must show a certificate

GET answers what was negotiated (JSON for `Accept: application/json`), POST echoes the body, and what is not \
HTTP is echoed as it is: openssl s_client -connect localhost:8443

Exit code: 0 stopped by Ctrl-C or SIGTERM, 2 error.")]
pub struct Arguments {
    /// Where to listen; port 0 takes a free one and prints it
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8443")]
    listen: String,
    /// Certificate chain, PEM, leaf first; without it a self-signed one is made and its fingerprint printed
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Accept only these groups, in this order; without it all six post-quantum and three classical ones
    #[arg(long, value_name = "LIST", value_parser = parse_groups)]
    groups: Option<GroupList>,
    /// Demand a client certificate issued by one of these, PEM
    #[arg(long, value_name = "FILE")]
    client_ca: Option<PathBuf>,
    /// Connections served at once; more wait
    #[arg(long, value_name = "N", default_value = "128", value_parser = clap::value_parser!(u32).range(1..=4096))]
    max_connections: u32,
}

/// Runs the command until it is stopped.
///
/// # Errors
/// When the address or a file cannot be used.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let offer = match &arguments.groups {
        Some(GroupList(groups)) => groups.clone(),
        None => groups::default_offer(),
    };
    let (config, fingerprint) = server_config(arguments, &offer)?;
    let addresses: Vec<SocketAddr> = arguments
        .listen
        .to_socket_addrs()
        .with_context(|| {
            format!("\"{}\" is no address; write ADDR:PORT, such as 127.0.0.1:8443", arguments.listen)
        })?
        .collect();
    let listener = TcpListener::bind(addresses.as_slice()).map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => "another program listens there; choose another port with --listen",
            io::ErrorKind::PermissionDenied => {
                "ports below 1024 need privileges; choose another with --listen"
            }
            _ => "is it an address of this machine?",
        };
        anyhow!(error).context(format!("cannot listen on {}; {hint}", arguments.listen))
    })?;
    let local = listener.local_addr().context("cannot read the address listened on")?;

    let names = offer.iter().map(|group| group.name).collect::<Vec<_>>().join(" ");
    println!("listening on https://{local}");
    println!("groups {names}");
    if let Some(fingerprint) = fingerprint {
        println!("self-signed certificate, SHA-256 {fingerprint}");
    }
    let server = Arc::new(Server::new(config, arguments.max_connections));
    server.stop_on_signal(local)?;
    server.accept_until_stopped(&listener);
    println!("stopped after {} connections", server.accepted.load(Ordering::Relaxed));
    Ok(ExitCode::SUCCESS)
}

/// The configuration, and the fingerprint of a certificate that was made for it.
fn server_config(arguments: &Arguments, offer: &[Group]) -> anyhow::Result<(ServerConfig, Option<String>)> {
    let provider = tls::provider_with(offer);
    let (chain, key, fingerprint) = match (&arguments.cert, &arguments.key) {
        (Some(cert), Some(key)) => (tls::read_certificates(cert)?, tls::read_private_key(key)?, None),
        _ => {
            let (certificate, key) = self_signed()?;
            let fingerprint = fingerprint(&certificate)?;
            (vec![certificate], key, Some(fingerprint))
        }
    };
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .context("the groups fit no protocol version")?;
    let builder = match &arguments.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in tls::read_certificates(path)? {
                roots
                    .add(certificate)
                    .with_context(|| format!("a certificate in {} cannot be a root", path.display()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .with_context(|| format!("clients cannot be verified by {}", path.display()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .context("certificate and key cannot be used; do they belong together?")?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.ticketer = aws_lc_rs::Ticketer::new().context("no ticket keys can be made")?;
    Ok((config, fingerprint))
}

/// A fresh ECDSA P-256 certificate for this machine's loopback names.
fn self_signed() -> anyhow::Result<(CertificateDer<'static>, PrivateKeyDer<'static>)> {
    let key = KeyPair::generate().context("no key can be made")?;
    let loopback = [Ipv4Addr::LOCALHOST.to_string(), Ipv6Addr::LOCALHOST.to_string(), "localhost".to_owned()];
    let mut params = CertificateParams::new(loopback).context("no certificate can be made")?;
    params.distinguished_name.push(DnType::CommonName, "qtls serve");
    params.not_before = SystemTime::now().into();
    params.not_after = (SystemTime::now() + SELF_SIGNED_VALIDITY).into();
    let certificate = params.self_signed(&key).context("no certificate can be made")?;
    let key = PrivateKeyDer::try_from(key.serialize_der())
        .map_err(|error| anyhow!("no key can be made: {error}"))?;
    Ok((certificate.der().clone(), key))
}

/// SHA-256 in the notation of `openssl x509 -fingerprint`.
fn fingerprint(certificate: &CertificateDer<'_>) -> anyhow::Result<String> {
    // rustls hands out no hash by name; the one of this suite is SHA-256.
    let suite = aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
    let hash = suite.tls13().context("TLS_AES_128_GCM_SHA256 is no TLS 1.3 suite")?.common.hash_provider;
    let octets: Vec<_> = hash.hash(certificate).as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    Ok(octets.join(":"))
}

struct Server {
    config: Arc<ServerConfig>,
    max_connections: usize,
    accepted: AtomicU64,
    stopping: AtomicBool,
    /// Connections being served, so that stopping can end them.
    active: Mutex<HashMap<u64, TcpStream>>,
    one_ended: Condvar,
}

impl Server {
    fn new(config: ServerConfig, max_connections: u32) -> Self {
        Self {
            config: Arc::new(config),
            max_connections: max_connections as usize,
            accepted: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            active: Mutex::default(),
            one_ended: Condvar::new(),
        }
    }

    fn stop_on_signal(self: &Arc<Self>, local: SocketAddr) -> anyhow::Result<()> {
        let server = Arc::clone(self);
        let mut wake = local;
        if wake.ip().is_unspecified() {
            wake.set_ip(if wake.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
        }
        ctrlc::set_handler(move || {
            if server.stopping.swap(true, Ordering::SeqCst) {
                // Asked twice: whoever asks does not want to wait.
                std::process::exit(130);
            }
            // accept() blocks; a connection of our own ends the wait.
            let _ = TcpStream::connect_timeout(&wake, STOP_PATIENCE);
        })
        .context("Ctrl-C cannot be caught")
    }

    fn accept_until_stopped(self: &Arc<Self>, listener: &TcpListener) {
        for incoming in listener.incoming() {
            if self.stopping.load(Ordering::SeqCst) {
                break;
            }
            // The peer may be gone already, or descriptors may be short for a moment; neither ends a server.
            let Ok(stream) = incoming else { continue };
            self.serve_in_thread(stream);
        }
        self.end_connections();
    }

    fn serve_in_thread(self: &Arc<Self>, stream: TcpStream) {
        let (Ok(peer), Ok(handle)) = (stream.peer_addr(), stream.try_clone()) else { return };
        let number = self.accepted.fetch_add(1, Ordering::Relaxed);
        let mut active = self.lock();
        while active.len() >= self.max_connections {
            active = self.one_ended.wait(active).unwrap_or_else(PoisonError::into_inner);
        }
        active.insert(number, handle);
        drop(active);
        let server = Arc::clone(self);
        let spawned = thread::Builder::new().spawn(move || {
            let line = serve_connection(server.config.clone(), stream, peer);
            println!("{peer} {line}");
            server.ended(number);
        });
        if let Err(error) = spawned {
            eprintln!("qtls: no thread for {peer}: {error}");
            self.ended(number);
        }
    }

    fn ended(&self, number: u64) {
        self.lock().remove(&number);
        self.one_ended.notify_all();
    }

    fn end_connections(&self) {
        let deadline = Instant::now() + STOP_PATIENCE;
        let mut active = self.lock();
        for stream in active.values() {
            // A reader that waits gets end-of-file, an answer in progress is still written.
            let _ = stream.shutdown(Shutdown::Read);
        }
        while !active.is_empty() && Instant::now() < deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            active = self.one_ended.wait_timeout(active, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, TcpStream>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a handshake came to, as the client is told.
#[derive(Debug, Serialize)]
struct Negotiated {
    protocol: String,
    group: Option<String>,
    group_code_point: Option<u16>,
    post_quantum: bool,
    cipher: String,
    resumed: bool,
    hello_retry_request: bool,
    server_name: Option<String>,
    alpn: Option<String>,
    client_certificate: Option<String>,
    client_address: String,
}

impl Negotiated {
    fn of(tls: &ServerConnection, peer: SocketAddr) -> Self {
        let code_point = tls.negotiated_key_exchange_group().map(|group| u16::from(group.name()));
        let kind = code_point.and_then(groups::by_code_point).map(|group| group.kind);
        let client = tls.peer_certificates().and_then(<[_]>::first);
        Self {
            protocol: tls.protocol_version().map(tls::version_name).unwrap_or_default(),
            group: code_point.map(groups::name_of),
            group_code_point: code_point,
            post_quantum: kind.is_some_and(Kind::is_post_quantum),
            cipher: tls
                .negotiated_cipher_suite()
                .map(|suite| tls::cipher_name(suite.suite()))
                .unwrap_or_default(),
            resumed: tls.handshake_kind() == Some(HandshakeKind::Resumed),
            hello_retry_request: tls.handshake_kind() == Some(HandshakeKind::FullWithHelloRetryRequest),
            server_name: tls.server_name().map(str::to_owned),
            alpn: tls.alpn_protocol().map(|protocol| String::from_utf8_lossy(protocol).into_owned()),
            client_certificate: client.map(|der| match Certificate::describe(der) {
                Ok(certificate) => certificate.subject,
                Err(problem) => problem,
            }),
            client_address: peer.to_string(),
        }
    }

    fn to_text(&self) -> String {
        let mut text = String::new();
        let mut row = |name: &str, value: &str| {
            let _ = writeln!(text, "{name:<20} {value}");
        };
        let or_none = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
        let yes_no = |value: bool| if value { "yes" } else { "no" };
        row("protocol", &self.protocol);
        row("group", &or_none(&self.group));
        row("post-quantum", yes_no(self.post_quantum));
        row("cipher", &self.cipher);
        row("resumed", yes_no(self.resumed));
        row("hello retry request", yes_no(self.hello_retry_request));
        row("server name", &or_none(&self.server_name));
        row("alpn", &or_none(&self.alpn));
        row("client certificate", &or_none(&self.client_certificate));
        row("client address", &self.client_address);
        text
    }
}

/// Serves one connection to its end and returns the line to log.
fn serve_connection(config: Arc<ServerConfig>, stream: TcpStream, peer: SocketAddr) -> String {
    let started = Instant::now();
    let shake_hands = || -> io::Result<(ServerConnection, Connection)> {
        let mut connection = Connection::accepted(stream, HANDSHAKE_PATIENCE)?;
        let mut tls = ServerConnection::new(config).map_err(io::Error::other)?;
        while tls.is_handshaking() {
            if let Err(error) = tls.complete_io(&mut connection) {
                // The alert that says why is still to be written; the peer may be gone, then nobody misses it.
                let _ = tls.write_tls(&mut connection);
                return Err(error);
            }
        }
        Ok((tls, connection))
    };
    let (mut tls, mut connection) = match shake_hands() {
        Ok(both) => both,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return "left before the handshake was done".to_owned();
        }
        Err(error) => return format!("handshake failed: {error}"),
    };
    let took = started.elapsed();
    let negotiated = Negotiated::of(&tls, peer);
    let mut line = format!(
        "{} {} {} {} {:.1} ms",
        negotiated.protocol,
        negotiated.group.as_deref().unwrap_or("-"),
        negotiated.cipher,
        if negotiated.resumed { "resumed" } else { "full" },
        took.as_secs_f64() * 1000.0
    );
    if let Some(subject) = &negotiated.client_certificate {
        let _ = write!(line, " client \"{subject}\"");
    }
    match answer_requests(&mut tls, &mut connection, &negotiated) {
        Ok(requests) => {
            let _ = write!(line, " {requests} requests");
        }
        Err(error) => {
            let _ = write!(line, " ended: {error}");
        }
    }
    tls.send_close_notify();
    let _ = tls.complete_io(&mut connection);
    line
}

fn answer_requests(
    tls: &mut ServerConnection,
    connection: &mut Connection,
    negotiated: &Negotiated,
) -> io::Result<u32> {
    let mut requests = 0;
    let mut buffer = Vec::new();
    loop {
        connection.extend(IDLE_PATIENCE);
        let mut stream = rustls::Stream::new(tls, connection);
        match http::read_incoming(&mut stream, &mut buffer) {
            Ok(Incoming::End) => return Ok(requests),
            Ok(Incoming::Request(request)) => {
                requests += 1;
                stream.write_all(&answer(&request, negotiated))?;
                if !request.keep_alive {
                    return Ok(requests);
                }
            }
            Ok(Incoming::Raw(bytes)) => {
                stream.write_all(&bytes)?;
                echo(tls, connection)?;
                return Ok(requests);
            }
            Err(Failure::Status(status, reason)) => {
                stream.write_all(&http::response(status, reason, "text/plain", b"", false, false))?;
                return Ok(requests);
            }
            Err(Failure::Io(error)) => return Err(error),
        }
    }
}

fn answer(request: &Request, negotiated: &Negotiated) -> Vec<u8> {
    let body = match request.method.as_str() {
        "GET" | "HEAD" if request.wants_json => {
            // A struct of strings and numbers always serializes.
            let json = serde_json::to_vec_pretty(negotiated).unwrap_or_default();
            return http::response(
                200,
                "OK",
                "application/json",
                &json,
                request.keep_alive,
                request.method == "HEAD",
            );
        }
        "GET" | "HEAD" => negotiated.to_text(),
        "POST" | "PUT" => {
            return http::response(
                200,
                "OK",
                "application/octet-stream",
                &request.body,
                request.keep_alive,
                false,
            );
        }
        _ => {
            let hint = b"GET tells what was negotiated, POST echoes\n";
            return http::response(405, "Method Not Allowed", "text/plain", hint, request.keep_alive, false);
        }
    };
    let head_only = request.method == "HEAD";
    http::response(200, "OK", "text/plain; charset=utf-8", body.as_bytes(), request.keep_alive, head_only)
}

/// Sends back whatever comes, until the client is done.
fn echo(tls: &mut ServerConnection, connection: &mut Connection) -> io::Result<()> {
    let mut chunk = [0; 4096];
    loop {
        connection.extend(IDLE_PATIENCE);
        let mut stream = rustls::Stream::new(tls, connection);
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(count) => stream.write_all(&chunk[..count])?,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}
