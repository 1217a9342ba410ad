//! `qtls serve`: what it answers, whom it lets in, how it ends.

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use common::{Authority, Identity, Serve, qtls_error};
use nix::sys::signal::Signal;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

type Stream = StreamOwned<ClientConnection, TcpStream>;

fn client(address: SocketAddr, authority: &Authority, identity: Option<&Identity>) -> Stream {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&authority.certificate).unwrap()).unwrap();
    let builder = ClientConfig::builder().with_root_certificates(roots);
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_file(&identity.certificate).unwrap()],
                PrivateKeyDer::from_pem_file(&identity.key).unwrap(),
            )
            .unwrap(),
    };
    let tcp = TcpStream::connect(address).unwrap();
    tcp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    StreamOwned::new(
        ClientConnection::new(Arc::new(config), ServerName::try_from("127.0.0.1").unwrap()).unwrap(),
        tcp,
    )
}

fn server(authority: &Authority, arguments: &[&str]) -> Serve {
    let identity = authority.issue("server", &["127.0.0.1"], |_| {});
    Serve::start(&[&["--cert", identity.certificate(), "--key", identity.key()], arguments].concat())
}

/// Sends a request that ends the connection, and returns head and body.
fn request(stream: &mut Stream, request: &str) -> (String, String) {
    stream.write_all(request.as_bytes()).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    let (head, body) = response.split_once("\r\n\r\n").expect("a whole response");
    (head.to_owned(), body.to_owned())
}

const GET_JSON: &str = "GET / HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\nConnection: close\r\n\r\n";

#[test]
fn get_tells_what_was_negotiated() {
    let authority = Authority::new();
    let server = server(&authority, &["--groups", "MLKEM1024,X25519"]);
    let (head, body) = request(&mut client(server.address, &authority, None), GET_JSON);
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("application/json"), "{head}");
    let told: Value = serde_json::from_str(&body).unwrap();
    // rustls' defaults offer X25519 and not MLKEM1024.
    assert_eq!(told["group"], "X25519");
    assert_eq!(told["post_quantum"], false);
    assert_eq!(told["protocol"], "TLS 1.3");
    assert!(told["client_certificate"].is_null());

    let (head, body) =
        request(&mut client(server.address, &authority, None), "GET / HTTP/1.1\r\nConnection: close\r\n\r\n");
    assert!(head.contains("text/plain") && body.contains("group                X25519\n"), "{head}\n{body}");
}

#[test]
fn post_echoes_and_the_connection_is_kept() {
    let authority = Authority::new();
    let server = server(&authority, &[]);
    let mut stream = client(server.address, &authority, None);
    stream.write_all(b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\none").unwrap();
    let mut first = vec![0; 1024];
    let count = stream.read(&mut first).unwrap();
    assert!(first[..count].ends_with(b"\r\n\r\none"), "{}", String::from_utf8_lossy(&first[..count]));
    let (_, body) =
        request(&mut stream, "POST / HTTP/1.1\r\nContent-Length: 3\r\nConnection: close\r\n\r\ntwo");
    assert_eq!(body, "two");
}

#[test]
fn what_is_not_http_is_echoed() {
    let authority = Authority::new();
    let server = server(&authority, &[]);
    let mut stream = client(server.address, &authority, None);
    for line in ["hello\n", "GET lost\n"] {
        stream.write_all(line.as_bytes()).unwrap();
        let mut echo = vec![0; line.len()];
        stream.read_exact(&mut echo).unwrap();
        assert_eq!(echo, line.as_bytes());
    }
}

#[test]
fn a_client_certificate_is_demanded_and_named() {
    let authority = Authority::new();
    let server = server(&authority, &["--client-ca", authority.certificate()]);
    let alice = authority.issue("alice", &["alice.example"], |_| {});
    let (_, body) = request(&mut client(server.address, &authority, Some(&alice)), GET_JSON);
    let told: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(told["client_certificate"], "CN=alice");

    let mut nobody = client(server.address, &authority, None);
    let refused =
        nobody.write_all(GET_JSON.as_bytes()).and_then(|()| nobody.read_to_string(&mut String::new()));
    assert!(refused.unwrap_err().to_string().contains("CertificateRequired"));

    let elsewhere = Authority::new();
    let stranger = elsewhere.issue("mallory", &["mallory.example"], |_| {});
    let mut mallory = client(server.address, &authority, Some(&stranger));
    let refused =
        mallory.write_all(GET_JSON.as_bytes()).and_then(|()| mallory.read_to_string(&mut String::new()));
    assert!(refused.is_err());
}

#[test]
fn connections_beyond_the_bound_wait_their_turn() {
    let authority = Authority::new();
    let server = server(&authority, &["--max-connections", "1"]);
    let mut first = client(server.address, &authority, None);
    first.write_all(b"here\n").unwrap();
    first.read_exact(&mut [0; 5]).unwrap();

    let mut second = client(server.address, &authority, None);
    second.sock.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let waiting = second.conn.complete_io(&mut second.sock).unwrap_err();
    assert_eq!(waiting.kind(), ErrorKind::WouldBlock);

    drop(first);
    second.sock.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    second.conn.complete_io(&mut second.sock).unwrap();
    assert!(!second.conn.is_handshaking());
}

#[test]
fn signals_end_it_cleanly_with_connections_open() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let authority = Authority::new();
        let server = server(&authority, &[]);
        let mut stream = client(server.address, &authority, None);
        stream.write_all(b"here\n").unwrap();
        stream.read_exact(&mut [0; 5]).unwrap();
        let (code, said) = server.stop(signal);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("TLS 1.3") && said.ends_with("stopped after 1 connections\n"), "{said}");
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0, "the client is told");
    }
}

#[test]
fn a_client_that_talks_nonsense_harms_nobody() {
    let authority = Authority::new();
    let server = server(&authority, &[]);
    let mut nonsense = TcpStream::connect(server.address).unwrap();
    nonsense.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    nonsense.read_to_end(&mut answer).unwrap();
    assert_eq!(answer.first(), Some(&21), "an alert");
    let (head, _) = request(&mut client(server.address, &authority, None), GET_JSON);
    assert!(head.starts_with("HTTP/1.1 200"));
    let (code, said) = server.stop(Signal::SIGTERM);
    assert_eq!(code, Some(0));
    assert!(said.contains("handshake failed"), "{said}");
}

#[test]
fn errors_are_one_line_with_the_way_out() {
    let authority = Authority::new();
    let server = server(&authority, &[]);
    let taken = qtls_error(&["serve", "--listen", &server.target()]);
    assert!(taken.contains("another program listens there"), "{taken}");
    let (one, other) = (authority.issue("one", &["x"], |_| {}), authority.issue("other", &["x"], |_| {}));
    let mismatch =
        qtls_error(&["serve", "--listen", "127.0.0.1:0", "--cert", one.certificate(), "--key", other.key()]);
    assert!(mismatch.contains("do they belong together"), "{mismatch}");
    let no_key = qtls_error(&["serve", "--cert", one.certificate(), "--key", one.certificate()]);
    assert!(no_key.contains("no private key"), "{no_key}");
}
