//! A TLS server that shares no code with OpenSSL, and presents whatever it is told to.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result};
use rustls::{
    ServerConfig, ServerConnection,
    crypto::aws_lc_rs,
    server::ResolvesServerCert,
    version::{TLS12, TLS13},
};

/// A running server, which answers every request by `200`; ended when this is dropped.
pub struct RustlsServer {
    /// Where it listens.
    pub port: u16,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl RustlsServer {
    /// Starts one for TLS 1.3 and 1.2.
    pub fn start(certificate: Arc<dyn ResolvesServerCert>) -> Result<RustlsServer> {
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(certificate);
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").context("a port to listen on")?;
        let port = listener.local_addr()?.port();
        let end = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&end);
        let thread = thread::spawn(move || {
            for socket in listener.incoming() {
                if ends.load(Ordering::SeqCst) {
                    return;
                }
                // A peer that refuses the certificate hangs up; what the peer says of it is what the tests look at.
                drop(socket.map_err(Into::into).and_then(|socket| answer(socket, &config)));
            }
        });
        Ok(RustlsServer { port, end, thread: Some(thread) })
    }
}

impl Drop for RustlsServer {
    fn drop(&mut self) {
        self.end.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn answer(mut socket: TcpStream, config: &Arc<ServerConfig>) -> Result<()> {
    socket.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut connection = ServerConnection::new(Arc::clone(config))?;
    let mut stream = rustls::Stream::new(&mut connection, &mut socket);
    let mut request = [0; 4096];
    // The whole request of any client of the tests is in its first record.
    let length = stream.read(&mut request)?;
    anyhow::ensure!(length > 0, "the client hung up");
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n")?;
    stream.conn.send_close_notify();
    stream.flush()?;
    Ok(())
}
