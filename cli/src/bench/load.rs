//! The load: handshakes as fast as a few connections make them, each checked for what it negotiated.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use indicatif::ProgressBar;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind, SignatureScheme};
use serde::{Deserialize, Serialize};

use crate::groups::{self, Group};
use crate::net::Connection;
use crate::tls;

/// One handshake may take this long before the run is given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which handshakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// With certificate and signature.
    Full,
    /// With a session ticket, and a key exchange all the same (psk_dhe_ke).
    Resumed,
}

/// What one round brought.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    pub(crate) took: Duration,
    /// Of each handshake, from ClientHello to the moment the server's Finished is verified.
    pub(crate) latencies: Vec<Duration>,
    /// What the server sent in each.
    pub(crate) bytes: Vec<u64>,
}

/// Clients for one server and one group.
pub(crate) struct Load {
    address: SocketAddr,
    server_name: ServerName<'static>,
    group: Group,
    full: Arc<ClientConfig>,
    verifier: Arc<AnyCertificate>,
    /// One for each connection, so that none takes another's ticket.
    resuming: Vec<Arc<ClientConfig>>,
}

impl Load {
    pub(crate) fn new(
        address: SocketAddr,
        server_name: ServerName<'static>,
        group: Group,
        connections: usize,
        compress: bool,
    ) -> anyhow::Result<Self> {
        let verifier = Arc::new(AnyCertificate::default());
        let config = |resumption: Resumption| -> anyhow::Result<Arc<ClientConfig>> {
            let mut config = ClientConfig::builder_with_provider(tls::provider_with(&[group]))
                .with_safe_default_protocol_versions()
                .with_context(|| format!("{} fits no protocol version", group.name))?
                .dangerous()
                .with_custom_certificate_verifier(verifier.clone())
                .with_no_client_auth();
            if !compress {
                config.cert_decompressors.clear();
            }
            config.resumption = resumption;
            Ok(Arc::new(config))
        };
        Ok(Self {
            address,
            server_name,
            group,
            full: config(Resumption::disabled())?,
            verifier: verifier.clone(),
            resuming: (0..connections)
                .map(|_| config(Resumption::in_memory_sessions(8)))
                .collect::<Result<_, _>>()?,
        })
    }

    /// One handshake, to see that the server does what is asked.
    ///
    /// # Errors
    /// When the server does not take the group.
    pub(crate) fn check(&self) -> anyhow::Result<Checked> {
        let done = self.handshake(&self.full, Kind::Full)?;
        let scheme = self.verifier.scheme.load(Ordering::Relaxed);
        Ok(Checked { cipher: done.cipher, signature: tls::scheme_name(SignatureScheme::from(scheme)) })
    }

    /// Gets every connection a ticket, before a round of resumed handshakes is measured.
    pub(crate) fn prime(&self) -> anyhow::Result<()> {
        for config in &self.resuming {
            self.connect(config)?;
        }
        Ok(())
    }

    /// `count` handshakes over as many connections at once as there are clients.
    pub(crate) fn round(
        &self,
        kind: Kind,
        count: usize,
        progress: &ProgressBar,
        stop: &AtomicBool,
    ) -> anyhow::Result<Round> {
        let started_handshakes = AtomicUsize::new(0);
        let failed = AtomicBool::new(false);
        let work = |config: &Arc<ClientConfig>| -> anyhow::Result<Vec<(Duration, u64)>> {
            let mut handshakes = Vec::with_capacity(count / self.resuming.len() + 1);
            while started_handshakes.fetch_add(1, Ordering::Relaxed) < count {
                if failed.load(Ordering::Relaxed) {
                    break;
                }
                if stop.load(Ordering::Relaxed) {
                    bail!("interrupted");
                }
                match self.handshake(config, kind) {
                    Ok(done) => handshakes.push((done.latency, done.bytes)),
                    Err(error) => {
                        failed.store(true, Ordering::Relaxed);
                        return Err(error);
                    }
                }
                progress.inc(1);
            }
            Ok(handshakes)
        };
        let started = Instant::now();
        let outcomes = thread::scope(|scope| {
            let threads: Vec<_> = self
                .resuming
                .iter()
                .map(|resuming| {
                    let config = if kind == Kind::Resumed { resuming } else { &self.full };
                    scope.spawn(|| work(config))
                })
                .collect();
            threads.into_iter().map(|thread| thread.join()).collect::<Vec<_>>()
        });
        let took = started.elapsed();
        let mut handshakes = Vec::with_capacity(count);
        for outcome in outcomes {
            match outcome {
                Ok(part) => handshakes.extend(part?),
                Err(_) => bail!("a client thread panicked"),
            }
        }
        let (latencies, bytes) = handshakes.into_iter().unzip();
        Ok(Round { took, latencies, bytes })
    }

    /// A handshake that must be of this kind and with this group.
    fn handshake(&self, config: &Arc<ClientConfig>, kind: Kind) -> anyhow::Result<Done> {
        let done = self.connect(config)?;
        if done.code_point != Some(self.group.code_point) {
            let found = done.code_point.map_or_else(|| "no group".to_owned(), groups::name_of);
            bail!("{found} was negotiated, not {}", self.group.name);
        }
        if kind == Kind::Resumed && !done.resumed {
            bail!(
                "a session was not resumed; does the server give tickets (nginx: ssl_session_tickets on)? \
                 --only full leaves resumption out"
            );
        }
        Ok(done)
    }

    fn connect(&self, config: &Arc<ClientConfig>) -> anyhow::Result<Done> {
        self.exchange(config).map_err(|error| self.explain(error))
    }

    fn exchange(&self, config: &Arc<ClientConfig>) -> io::Result<Done> {
        let mut connection = Connection::open(self.address, PATIENCE)?;
        let started = Instant::now();
        let mut tls =
            ClientConnection::new(config.clone(), self.server_name.clone()).map_err(io::Error::other)?;
        loop {
            // What is left to write at the end, our Finished, goes out together with the close_notify below: one
            // packet, so that the server's work does not depend on how the two happen to arrive.
            if !tls.is_handshaking() {
                break;
            }
            while tls.wants_write() {
                tls.write_tls(&mut connection)?;
            }
            if tls.read_tls(&mut connection)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            tls.process_new_packets().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
        let (latency, bytes) = (started.elapsed(), connection.received);
        tls.send_close_notify();
        while tls.wants_write() {
            tls.write_tls(&mut connection)?;
        }
        // To the end: tickets come now, and the server is done with us when it closes.
        while tls.read_tls(&mut connection)? > 0 {
            tls.process_new_packets().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
        Ok(Done {
            latency,
            bytes,
            code_point: tls.negotiated_key_exchange_group().map(|group| u16::from(group.name())),
            resumed: tls.handshake_kind() == Some(HandshakeKind::Resumed),
            cipher: tls
                .negotiated_cipher_suite()
                .map(|suite| tls::cipher_name(suite.suite()))
                .unwrap_or_default(),
        })
    }

    fn explain(&self, error: io::Error) -> anyhow::Error {
        let refused = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>())
            .is_some_and(|error| matches!(error, rustls::Error::AlertReceived(_)));
        let context = if refused {
            format!(
                "{} does not take {}; was its configuration read? (`qtls doctor` tells)",
                self.address, self.group.name
            )
        } else {
            format!("a handshake with {} failed", self.address)
        };
        anyhow::Error::new(error).context(context)
    }
}

/// What a server does when it is asked.
pub(crate) struct Checked {
    pub(crate) cipher: String,
    /// `mldsa65`.
    pub(crate) signature: String,
}

struct Done {
    latency: Duration,
    /// Received until the handshake was done.
    bytes: u64,
    code_point: Option<u16>,
    resumed: bool,
    cipher: String,
}

/// Takes any certificate: the server's work is what is measured here, and the server is one we chose.
#[derive(Debug, Default)]
struct AnyCertificate {
    /// The scheme that the server signed with last.
    scheme: AtomicU16,
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.scheme.store(u16::from(signed.scheme), Ordering::Relaxed);
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
