//! A TLS client that shares no code with OpenSSL.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, SignatureScheme, SupportedProtocolVersion,
    client::ResolvesClientCert,
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
    sign::{CertifiedKey, SingleCertAndKey},
    version::{TLS12, TLS13},
};

use crate::{
    groups::{name_of, rustls_group},
    identity::identity,
    nginx::Answer,
};

/// A client; connections made with the same one share their sessions.
#[derive(Clone)]
pub struct RustlsClient {
    config: Arc<ClientConfig>,
}

/// What came of one connection.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// The group of this handshake.
    pub group: String,
    /// Full, full with HelloRetryRequest, or resumed.
    pub kind: HandshakeKind,
    /// The application protocol.
    pub alpn: Option<String>,
    /// Whether the server took the request as 0-RTT data.
    pub early: bool,
    /// The server's chain of certificates; of a resumed session, that of its first handshake.
    pub chain: Vec<CertificateDer<'static>>,
    /// The server's answer, headers included; empty with [`RustlsClient::handshake`].
    pub text: String,
}

impl Exchange {
    /// nginx's view of the connection.
    pub fn answer(&self) -> Result<Answer> {
        Answer::parse(&self.text)
    }
}

impl RustlsClient {
    /// A TLS 1.3 client that offers these groups, colon-separated, with a share of the first.
    ///
    /// rustls also sends a share of a hybrid's classical half when that is among the groups.
    pub fn new(groups: &str) -> Result<RustlsClient> {
        RustlsClient::with(groups, &[&TLS13], |_| {})
    }

    /// One that also speaks TLS 1.2.
    pub fn with_tls12(groups: &str) -> Result<RustlsClient> {
        RustlsClient::with(groups, &[&TLS13, &TLS12], |_| {})
    }

    /// One that offers these application protocols.
    pub fn with_alpn(groups: &str, protocols: &[&str]) -> Result<RustlsClient> {
        RustlsClient::with(groups, &[&TLS13], |config| {
            config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        })
    }

    /// One that sends its request as 0-RTT data where it may.
    pub fn with_early_data(groups: &str) -> Result<RustlsClient> {
        RustlsClient::with(groups, &[&TLS13], |config| config.enable_early_data = true)
    }

    /// A TLS 1.3 client that trusts these roots, offers these signature schemes in this order (none for all that rustls
    /// has), and answers a request for a certificate with `certificate`.
    pub fn with_certificates(
        groups: &str,
        roots: &[CertificateDer<'static>],
        schemes: Option<&[SignatureScheme]>,
        certificate: Option<Arc<dyn ResolvesClientCert>>,
    ) -> Result<RustlsClient> {
        RustlsClient::with_version(&TLS13, groups, roots, schemes, certificate)
    }

    /// The same with another version of TLS, or with this one.
    pub fn with_version(
        version: &'static SupportedProtocolVersion,
        groups: &str,
        roots: &[CertificateDer<'static>],
        schemes: Option<&[SignatureScheme]>,
        certificate: Option<Arc<dyn ResolvesClientCert>>,
    ) -> Result<RustlsClient> {
        let kx_groups = groups.split(':').map(rustls_group).collect::<Result<Vec<_>>>()?;
        let mut provider = CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() };
        if let Some(schemes) = schemes {
            provider.signature_verification_algorithms = only(schemes);
        }
        let mut store = RootCertStore::empty();
        for root in roots {
            store.add(root.clone())?;
        }
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[version])?
            .with_root_certificates(store);
        let config = match certificate {
            Some(certificate) => config.with_client_cert_resolver(certificate),
            None => config.with_no_client_auth(),
        };
        Ok(RustlsClient { config: Arc::new(config) })
    }

    fn with(
        groups: &str,
        versions: &[&'static SupportedProtocolVersion],
        adjust: impl FnOnce(&mut ClientConfig),
    ) -> Result<RustlsClient> {
        let kx_groups = groups.split(':').map(rustls_group).collect::<Result<Vec<_>>>()?;
        let provider = CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() };
        let mut roots = RootCertStore::empty();
        roots.add(identity().authority_der.clone())?;
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(versions)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        adjust(&mut config);
        Ok(RustlsClient { config: Arc::new(config) })
    }

    /// Connects, asks for `/` over HTTP/1.1 and reads the answer to its end.
    pub fn get(&self, port: u16) -> Result<Exchange> {
        self.get_as(port, "localhost")
    }

    /// The same with another server name.
    pub fn get_as(&self, port: u16, name: &str) -> Result<Exchange> {
        self.request(port, name, "/")
    }

    /// The same with another path.
    pub fn get_path(&self, port: u16, path: &str) -> Result<Exchange> {
        self.request(port, "localhost", path)
    }

    fn request(&self, port: u16, name: &str, path: &str) -> Result<Exchange> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
        let (mut connection, mut socket) = (self.connection(name)?, connect(port)?);
        let mut text = Vec::new();
        let early = send_early(&mut connection, &mut socket, request.as_bytes(), &mut text)?;
        if !early {
            complete(&mut connection, &mut socket)?;
            connection.writer().write_all(request.as_bytes())?;
            match rustls::Stream::new(&mut connection, &mut socket).read_to_end(&mut text) {
                // A server that closes without close_notify has still answered.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {}
                outcome => drop(outcome.context("reading the answer")?),
            }
        }
        let mut exchange = describe(&connection)?;
        exchange.early = early;
        exchange.text = String::from_utf8_lossy(&text).into_owned();
        Ok(exchange)
    }

    /// Connects and hangs up after the handshake.
    pub fn handshake(&self, port: u16) -> Result<Exchange> {
        self.handshake_on(connect(port)?)
    }

    /// Makes a handshake on a socket that something else was said on before.
    pub fn handshake_on(&self, mut socket: TcpStream) -> Result<Exchange> {
        let mut connection = self.connection("localhost")?;
        complete(&mut connection, &mut socket)?;
        connection.send_close_notify();
        while connection.wants_write() {
            connection.write_tls(&mut socket)?;
        }
        describe(&connection)
    }

    fn connection(&self, name: &str) -> Result<ClientConnection> {
        Ok(ClientConnection::new(Arc::clone(&self.config), ServerName::try_from(name.to_owned())?)?)
    }
}

/// What presents this chain and signs with that key, whether they belong together or not; for a client and for a server.
///
/// # Errors
/// When rustls can't sign with such a key.
pub fn presents(
    chain: &[CertificateDer<'static>],
    key: PrivateKeyDer<'static>,
) -> Result<Arc<SingleCertAndKey>> {
    let key = aws_lc_rs::sign::any_supported_type(&key)?;
    Ok(Arc::new(CertifiedKey::new(chain.to_vec(), key).into()))
}

/// These schemes and no other, in this order. rustls wants a list that lives for ever; a test has few.
fn only(schemes: &[SignatureScheme]) -> WebPkiSupportedAlgorithms {
    let all = aws_lc_rs::default_provider().signature_verification_algorithms;
    let mapping = schemes
        .iter()
        .map(|scheme| {
            let found = all.mapping.iter().find(|(known, _)| known == scheme);
            // One that rustls does not have is only named: what is signed by it is refused.
            found.copied().unwrap_or((*scheme, &[]))
        })
        .collect::<Vec<_>>();
    WebPkiSupportedAlgorithms { all: all.all, mapping: mapping.leak() }
}

/// A socket to a server on this host that gives up after 20 s.
pub fn connect(port: u16) -> Result<TcpStream> {
    let socket = TcpStream::connect(("127.0.0.1", port)).context("connecting")?;
    socket.set_read_timeout(Some(Duration::from_secs(20)))?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// Sends the request as 0-RTT data where that may be done, and says whether the server took it.
///
/// The answer is read before our Finished is sent: afterwards nginx no longer says that a request came early.
fn send_early(
    connection: &mut ClientConnection,
    socket: &mut TcpStream,
    request: &[u8],
    text: &mut Vec<u8>,
) -> Result<bool> {
    let Some(mut early) = connection.early_data() else { return Ok(false) };
    early.write_all(request).context("writing 0-RTT data")?;
    while connection.wants_write() {
        connection.write_tls(socket)?;
    }
    while connection.is_handshaking() {
        receive(connection, socket)?;
    }
    if !connection.is_early_data_accepted() {
        return Ok(false);
    }
    while !text.ends_with(b"\n")
        || !text.windows(4).any(|end| end == b"\r\n\r\n")
        || text.ends_with(b"\r\n\r\n")
    {
        match connection.reader().read_to_end(text) {
            Ok(_) => return Ok(true),
            Err(error) if error.kind() == ErrorKind::WouldBlock => receive(connection, socket)?,
            Err(error) => return Err(error).context("reading the answer to 0-RTT data"),
        }
    }
    Ok(true)
}

fn receive(connection: &mut ClientConnection, socket: &mut TcpStream) -> Result<()> {
    ensure!(connection.read_tls(socket)? > 0, "the server hung up");
    connection.process_new_packets()?;
    Ok(())
}

fn complete(connection: &mut ClientConnection, socket: &mut TcpStream) -> Result<()> {
    while connection.is_handshaking() {
        let (read, written) = connection.complete_io(socket).context("handshake")?;
        ensure!(read + written > 0 || !connection.is_handshaking(), "the server hung up in the handshake");
    }
    Ok(())
}

fn describe(connection: &ClientConnection) -> Result<Exchange> {
    let group = connection.negotiated_key_exchange_group().context("no group was negotiated")?;
    Ok(Exchange {
        group: name_of(group.name().into()),
        kind: connection.handshake_kind().context("no handshake was made")?,
        alpn: connection.alpn_protocol().map(|protocol| String::from_utf8_lossy(protocol).into_owned()),
        early: false,
        chain: connection.peer_certificates().unwrap_or_default().to_vec(),
        text: String::new(),
    })
}
