//! `qtls probe` against servers of every kind: our own, OpenSSL's, broken ones.

mod common;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use common::composite::CompositeKey;
use common::{Authority, Identity, SServer, Serve, accepted, qtls, qtls_error, qtls_json};
use qtls_cli::probe::survey::{Acceptance, Questioner, ShareAnswer, Tls12Answer};
use qtls_cli::tls;
use qtls_crypto::{KEM_ALGORITHMS, SIGNATURE_ALGORITHMS};
use rcgen::{KeyPair, PKCS_ML_DSA_44, PKCS_ML_DSA_65, PKCS_ML_DSA_87};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{ServerConfig, ServerConnection, SignatureAlgorithm, SignatureScheme, StreamOwned};

const CLASSICAL: [&str; 3] = ["X25519", "secp256r1", "secp384r1"];

#[test]
fn each_post_quantum_group_is_negotiated_and_found_to_be_the_only_one() {
    for algorithm in &KEM_ALGORITHMS {
        let group = algorithm.group_name;
        let server = Serve::start(&["--groups", group]);
        let (code, report) = qtls_json(&["probe", &server.target()]);
        assert_eq!(code, 0, "{group}: {report}");
        assert_eq!(report["handshake"]["group"]["name"], group);
        assert_eq!(report["handshake"]["group"]["code_point"], algorithm.group_id);
        assert_eq!(report["handshake"]["protocol"], "TLS 1.3");
        assert_eq!(accepted(&report), [group]);
        assert_eq!(report["survey"]["tls_1_2"]["answer"], "refused", "{group}");
        let summary = report["verdict"]["summary"].as_str().unwrap();
        assert!(summary.contains(group) && summary.contains("classical clients are refused"), "{summary}");
    }
}

#[test]
fn a_server_with_everything_is_described_completely() {
    let server = Serve::start(&[]);
    let (code, report) = qtls_json(&["probe", &server.target(), "--alpn", "http/1.1"]);
    assert_eq!(code, 0);
    let handshake = &report["handshake"];
    assert_eq!(handshake["group"]["name"], "X25519MLKEM768");
    assert_eq!(handshake["group"]["kind"], "hybrid");
    assert_eq!(handshake["signature_scheme"], "ecdsa_secp256r1_sha256");
    assert!(handshake["signature_problem"].is_null());
    assert_eq!(handshake["alpn"], "http/1.1");
    assert_eq!(handshake["hello_retry_request"], false);
    assert_eq!(handshake["resumed"], true);
    assert_eq!(handshake["trust"]["detail"], "self-signed");
    // An X25519MLKEM768 share is 1,216 bytes from the client and 1,120 from the server.
    assert!(handshake["bytes_sent"].as_u64().unwrap() > 1216, "{handshake}");
    assert!(handshake["bytes_received"].as_u64().unwrap() > 1120, "{handshake}");
    assert!(handshake["first_byte_us"].as_u64() <= handshake["handshake_us"].as_u64());
    assert_eq!(handshake["chain"][0]["key"], "ECDSA P-256");

    let all: Vec<_> = KEM_ALGORITHMS.iter().map(|algorithm| algorithm.group_name).chain(CLASSICAL).collect();
    assert_eq!(accepted(&report), all);
    assert_eq!(report["survey"]["tls_1_2"]["answer"], "accepted");
    assert_eq!(report["survey"]["x25519_share_only"]["answer"], "asks-for-post-quantum");
    assert_eq!(report["survey"]["x25519_share_only"]["detail"], "X25519MLKEM768");
}

#[test]
fn as_a_classical_client_the_exit_code_is_1_and_the_way_out_is_said() {
    let server = Serve::start(&[]);
    let (code, report) = qtls_json(&["probe", &server.target(), "--groups", "X25519"]);
    assert_eq!(code, 1);
    assert_eq!(report["handshake"]["group"]["name"], "X25519");
    assert_eq!(report["verdict"]["post_quantum"], false);
    let summary = report["verdict"]["summary"].as_str().unwrap();
    assert!(summary.contains("although the server accepts X25519MLKEM768"), "{summary}");
}

#[test]
fn a_group_beyond_the_first_share_costs_a_retry_and_is_said_to() {
    let server = Serve::start(&["--groups", "SecP384r1MLKEM1024"]);
    let (_, report) = qtls_json(&["probe", &server.target(), "--quick"]);
    assert_eq!(report["handshake"]["hello_retry_request"], true);
    assert_eq!(report["handshake"]["group"]["name"], "SecP384r1MLKEM1024");
    assert!(report["survey"].is_null());
}

#[test]
fn openssl_with_classical_groups_is_classical_only() {
    let authority = Authority::new();
    let server = SServer::start(&authority.self_signed("classical"), &["-groups", "X25519:P-256"]);
    let (code, report) = qtls_json(&["probe", &server.target()]);
    assert_eq!(code, 1, "{report}");
    assert_eq!(report["handshake"]["group"]["name"], "X25519");
    assert_eq!(report["handshake"]["resumed"], true);
    assert_eq!(accepted(&report), ["X25519", "secp256r1"]);
    assert_eq!(report["survey"]["groups"][0]["reason"], "handshake_failure (40)");
    assert_eq!(report["survey"]["x25519_share_only"]["answer"], "not-applicable");
    assert!(report["verdict"]["summary"].as_str().unwrap().starts_with("classical only: X25519"));
    assert!(report["verdict"]["advice"][0].as_str().unwrap().contains("OPENSSL_CONF"));
}

#[test]
fn openssl_without_tls_1_3_is_told_that_this_is_what_is_missing() {
    let authority = Authority::new();
    let server = SServer::start(&authority.self_signed("old"), &["-no_tls1_3"]);
    let (code, report) = qtls_json(&["probe", &server.target()]);
    assert_eq!(code, 1, "{report}");
    assert_eq!(report["handshake"]["protocol"], "TLS 1.2");
    assert!(report["handshake"]["signature_scheme"].as_str().unwrap().starts_with("ecdsa_"), "{report}");
    assert_eq!(report["survey"]["groups"][0]["reason"], "protocol_version (70)");
    assert_eq!(report["survey"]["tls_1_2"]["answer"], "accepted");
    assert!(report["verdict"]["advice"][0].as_str().unwrap().contains("needs TLS 1.3"));
}

#[test]
fn trust_is_reported_and_never_enforced() {
    let authority = Authority::new();
    let good = authority.issue("good", &["127.0.0.1"], |_| {});
    let other_name = authority.issue("other", &["shop.example"], |_| {});
    let expired = authority.issue("expired", &["127.0.0.1"], |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    let self_signed = authority.self_signed("alone");
    let detail = |identity: &common::Identity, arguments: &[&str]| {
        let server = Serve::start(&["--cert", identity.certificate(), "--key", identity.key()]);
        let (code, report) = qtls_json(&[&["probe", &server.target(), "--quick"], arguments].concat());
        assert_eq!(code, 0, "the key exchange is post-quantum whatever the certificate is");
        let trust = &report["handshake"]["trust"];
        (trust["verified"].as_bool().unwrap(), trust["detail"].as_str().unwrap().to_owned())
    };
    let ca = authority.certificate();
    assert_eq!(detail(&good, &["--ca", ca]), (true, "verified".to_owned()));
    assert_eq!(detail(&other_name, &["--ca", ca, "--sni", "shop.example"]), (true, "verified".to_owned()));
    assert_eq!(detail(&other_name, &["--ca", ca]), (false, "not made out to this name".to_owned()));
    assert_eq!(detail(&expired, &["--ca", ca]), (false, "expired".to_owned()));
    assert_eq!(detail(&self_signed, &["--ca", ca]), (false, "self-signed".to_owned()));
    assert_eq!(detail(&self_signed, &["--ca", self_signed.certificate()]), (true, "verified".to_owned()));
    let other = (false, "not made out to this name".to_owned());
    assert_eq!(detail(&self_signed, &["--ca", self_signed.certificate(), "--sni", "shop.example"]), other);
}

#[test]
fn each_ml_dsa_scheme_is_offered_shown_and_verified() {
    for (algorithm, scheme, name) in [
        (&PKCS_ML_DSA_44, "mldsa44", "ML-DSA-44"),
        (&PKCS_ML_DSA_65, "mldsa65", "ML-DSA-65"),
        (&PKCS_ML_DSA_87, "mldsa87", "ML-DSA-87"),
    ] {
        let authority = Authority::with_key(KeyPair::generate_for(algorithm).unwrap());
        let key = KeyPair::generate_for(algorithm).unwrap();
        let identity = authority.issue_for(key, "server", &["127.0.0.1"], |_| {});
        let server = Serve::start(&["--cert", identity.certificate(), "--key", identity.key()]);
        let (code, report) =
            qtls_json(&["probe", &server.target(), "--quick", "--ca", authority.certificate()]);
        assert_eq!(code, 0);
        let handshake = &report["handshake"];
        assert_eq!(handshake["signature_scheme"], scheme);
        assert_eq!(handshake["signature_post_quantum"], true);
        assert!(handshake["signature_problem"].is_null(), "{handshake}");
        assert_eq!(handshake["trust"]["detail"], "verified");
        let leaf = &handshake["chain"][0];
        assert_eq!((leaf["key"].as_str(), leaf["signature"].as_str()), (Some(name), Some(name)));
        assert_eq!(
            (&leaf["key_post_quantum"], &leaf["signature_post_quantum"]),
            (&true.into(), &true.into())
        );
        // Nothing else is there for a client without ML-DSA.
        let refused = report["classical_client"]["refused"].as_str().unwrap();
        assert!(refused.contains("during the handshake"), "{refused}");
    }
}

#[test]
fn a_classical_leaf_under_a_composite_authority_is_verified_and_its_parts_are_named() {
    for algorithm in SIGNATURE_ALGORITHMS.iter().filter(|algorithm| algorithm.composite.is_some()) {
        let (authority, key) = (Authority::new(), CompositeKey::generate(algorithm));
        let resign = |identity: &std::path::Path, signed: &dyn Fn(&[u8]) -> Vec<u8>| {
            let der = tls::read_certificates(identity).unwrap().remove(0);
            std::fs::write(identity, pem::encode(&pem::Pem::new("CERTIFICATE", signed(&der)))).unwrap();
        };
        resign(&authority.certificate, &|der| key.self_sign(der));
        let identity = authority.issue("server", &["127.0.0.1"], |_| {});
        resign(&identity.certificate, &|der| key.sign(der));
        let server = Serve::start(&["--cert", identity.certificate(), "--key", identity.key()]);
        let probe = |more: &[&str]| qtls_json(&[&["probe", &server.target(), "--quick"], more].concat()).1;
        let report = probe(&["--ca", authority.certificate()]);
        assert_eq!(report["handshake"]["trust"]["detail"], "verified", "{}", algorithm.name);
        let leaf = &report["handshake"]["chain"][0];
        assert_eq!(leaf["signature"], algorithm.name.trim_start_matches("id-"));
        assert_eq!(
            (&leaf["key_post_quantum"], &leaf["signature_post_quantum"]),
            (&false.into(), &true.into())
        );
        // The same name, another key.
        let other = Authority::new();
        resign(&other.certificate, &|der| CompositeKey::generate(algorithm).self_sign(der));
        let report = probe(&["--ca", other.certificate()]);
        assert_eq!(report["handshake"]["trust"]["detail"], "a signature of the chain does not verify");
    }
}

#[test]
fn a_false_ml_dsa_handshake_signature_is_found() {
    let authority = Authority::new();
    let key = KeyPair::generate_for(&PKCS_ML_DSA_65).unwrap();
    let identity = authority.issue_for(key, "server", &["127.0.0.1"], |_| {});
    for (falsify, verifies) in [(false, true), (true, false)] {
        let address = server_that_chooses(vec![certified(&identity, falsify)]);
        let (_, report) = qtls_json(&["probe", &address.to_string(), "--quick"]);
        assert_eq!(report["handshake"]["signature_scheme"], "mldsa65");
        assert_eq!(report["handshake"]["signature_problem"].is_null(), verifies, "{report}");
    }
}

#[test]
fn a_server_with_two_certificates_is_asked_as_both_kinds_of_client() {
    let authority = Authority::new();
    let modern = KeyPair::generate_for(&PKCS_ML_DSA_65).unwrap();
    let modern = authority.issue_for(modern, "modern", &["127.0.0.1"], |_| {});
    let classical = authority.issue("classical", &["127.0.0.1"], |_| {});
    let address = server_that_chooses(vec![certified(&modern, false), certified(&classical, false)]);
    let (_, report) = qtls_json(&["probe", &address.to_string(), "--quick"]);
    assert_eq!(report["handshake"]["signature_scheme"], "mldsa65");
    let client = &report["classical_client"];
    assert_eq!(client["certificate"]["key"], "ECDSA P-256");
    assert_eq!(client["signature_scheme"], "ecdsa_secp256r1_sha256");
    let text = String::from_utf8(qtls(&["probe", &address.to_string(), "--quick"]).stdout).unwrap();
    for part in [
        "mldsa65 (post-quantum)",
        "ML-DSA-65 (post-quantum)",
        "a client without ML-DSA gets the ECDSA P-256 certificate, signed with ecdsa_secp256r1_sha256",
    ] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
}

/// A certificate with its key, which signs wrongly if so wished.
fn certified(identity: &Identity, falsify: bool) -> Arc<CertifiedKey> {
    let key = any_supported_type(&tls::read_private_key(&identity.key).unwrap()).unwrap();
    let key: Arc<dyn SigningKey> = if falsify { Arc::new(Forger(key)) } else { key };
    Arc::new(CertifiedKey::new(tls::read_certificates(&identity.certificate).unwrap(), key))
}

/// Signs, and then changes a byte.
#[derive(Debug)]
struct Forger(Arc<dyn SigningKey>);

#[derive(Debug)]
struct ForgingSigner(Box<dyn Signer>);

impl SigningKey for Forger {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        Some(Box::new(ForgingSigner(self.0.choose_scheme(offered)?)))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.0.algorithm()
    }
}

impl Signer for ForgingSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        let mut signature = self.0.sign(message)?;
        signature[100] ^= 1;
        Ok(signature)
    }

    fn scheme(&self) -> SignatureScheme {
        self.0.scheme()
    }
}

/// The first of these that the client can verify.
#[derive(Debug)]
struct Choice(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for Choice {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.iter().find(|choice| choice.key.choose_scheme(hello.signature_schemes()).is_some()).cloned()
    }
}

/// A server that chooses its certificate by what the client offers, as nginx does with several.
fn server_that_chooses(certificates: Vec<Arc<CertifiedKey>>) -> SocketAddr {
    let config =
        ServerConfig::builder().with_no_client_auth().with_cert_resolver(Arc::new(Choice(certificates)));
    let config = Arc::new(config);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let tls = ServerConnection::new(config.clone()).unwrap();
            // Until the client closes; one that does not like what it sees is part of the test.
            let _ = StreamOwned::new(tls, client).read_to_end(&mut Vec::new());
        }
    });
    address
}

#[test]
fn the_table_for_people_has_no_colour_when_it_is_not_a_terminal() {
    let server = Serve::start(&[]);
    let output = qtls(&["probe", &server.target()]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains('\u{1b}'), "{text:?}");
    for part in ["X25519MLKEM768 (0x11EC, hybrid)", "ECDSA P-256", "self-signed", "TLS 1.2", "0x6399"] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
}

#[test]
fn errors_are_one_line_with_the_way_out() {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let refused = qtls_error(&["probe", &free.to_string()]);
    assert!(refused.contains("nothing listens there") && refused.contains(&free.to_string()), "{refused}");

    let plain = scripted_server(|_hello| b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec());
    let not_tls = qtls_error(&["probe", &plain.to_string(), "--timeout", "5"]);
    assert!(not_tls.contains("does not speak TLS"), "{not_tls}");

    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let too_slow =
        qtls_error(&["probe", &silent.local_addr().unwrap().to_string(), "--quick", "--timeout", "0.2"]);
    assert!(too_slow.contains("no answer in time"), "{too_slow}");

    let missing = qtls_error(&["probe", &plain.to_string(), "--ca", "/nonexistent/ca.pem"]);
    assert!(missing.contains("/nonexistent/ca.pem"), "{missing}");
}

#[test]
fn a_server_that_accepts_none_of_our_handshakes_is_still_asked_what_it_accepts() {
    let authority = Authority::new();
    let server = SServer::start(&authority.self_signed("odd"), &["-groups", "P-521", "-tls1_3"]);
    let said = qtls_error(&["probe", &server.target()]);
    assert!(said.contains("handshake_failure") && said.contains("accepts secp521r1"), "{said}");
}

#[test]
fn a_middlebox_that_drops_large_client_hellos_is_found_out() {
    let server = Serve::start(&[]);
    let behind = server.address;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let middlebox = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            thread::spawn(move || forward_small_hellos(client, behind));
        }
    });
    let (code, report) = qtls_json(&["probe", &middlebox.to_string(), "--quick"]);
    assert_eq!(code, 1);
    assert_eq!(report["handshake"]["group"]["name"], "X25519");
    assert!(!report["post_quantum_offer_fails"].is_null());
    assert!(report["verdict"]["advice"][0].as_str().unwrap().contains("middlebox"), "{report}");
}

/// Forwards a connection unless its first record is larger than one Ethernet frame.
fn forward_small_hellos(mut client: TcpStream, server: SocketAddr) {
    let mut header = [0; 5];
    if client.read_exact(&mut header).is_err() || u16::from_be_bytes([header[3], header[4]]) > 1400 {
        return;
    }
    let mut server = TcpStream::connect(server).unwrap();
    server.write_all(&header).unwrap();
    let (mut client_reader, mut server_writer) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    thread::spawn(move || std::io::copy(&mut client_reader, &mut server_writer));
    let _ = std::io::copy(&mut server, &mut client);
    let _ = client.shutdown(std::net::Shutdown::Both);
}

/// A server that answers each ClientHello with the bytes that `answer` makes of it.
fn scripted_server(answer: impl Fn(&[u8]) -> Vec<u8> + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let mut hello = vec![0; 5];
            if client.read_exact(&mut hello).is_err() {
                continue;
            }
            let length = usize::from(u16::from_be_bytes([hello[3], hello[4]]));
            hello.resize(5 + length, 0);
            if client.read_exact(&mut hello[5..]).is_ok() {
                let _ = client.write_all(&answer(&hello));
            }
        }
    });
    address
}

/// A ServerHello, or a HelloRetryRequest, of TLS 1.3 for this group.
fn server_hello(group: u16, retry: bool) -> Vec<u8> {
    const RETRY: [u8; 32] = [
        0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2,
        0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
    ];
    let mut key_share = group.to_be_bytes().to_vec();
    if !retry {
        key_share.extend([0, 32]);
        key_share.extend([5; 32]);
    }
    let mut extensions = vec![0, 43, 0, 2, 3, 4, 0, 51, 0, key_share.len() as u8];
    extensions.extend(key_share);
    let mut message = vec![3, 3];
    message.extend(if retry { RETRY } else { [9; 32] });
    message.extend([0, 0x13, 0x01, 0, 0, extensions.len() as u8]);
    message.extend(extensions);
    let mut record = vec![22, 3, 3, 0, message.len() as u8 + 4, 2, 0, 0, message.len() as u8];
    record.extend(message);
    record
}

/// Takes X25519MLKEM768 and X25519, and a share that is there rather than a better group, as OpenSSL 3.4 does.
fn like_openssl_3_4(hello: &[u8]) -> Vec<u8> {
    let tail = &hello[hello.len() - 6..];
    let offers = |group: [u8; 2]| hello.windows(2).any(|window| window == group);
    // The key_share extension comes last and is [0, 51, 0, 2, 0, 0] when it holds no share.
    if tail != [0, 51, 0, 2, 0, 0] {
        return server_hello(0x001d, false);
    }
    for (group, bytes) in [(0x11ec, [0x11, 0xec]), (0x001d, [0, 0x1d])] {
        // supported_groups with this group alone: type 10, length 4, list length 2.
        let alone = [&[0, 10, 0, 4, 0, 2], &bytes[..]].concat();
        if offers(bytes) && hello.windows(alone.len()).any(|window| window == alone) {
            return server_hello(group, true);
        }
    }
    vec![21, 3, 3, 0, 2, 2, 40]
}

#[test]
fn a_server_that_takes_the_share_it_is_given_is_found_to_stay_classical() {
    let address = scripted_server(like_openssl_3_4);
    let questioner = Questioner { address, server_name: None, alpn: &[], timeout: Duration::from_secs(5) };
    let survey = questioner.survey();
    assert_eq!(survey.accepted_names(|_| true), ["X25519MLKEM768", "X25519"]);
    assert_eq!(survey.x25519_share_only, ShareAnswer::StaysClassical);
}

#[test]
fn nonsense_is_unclear_and_never_taken_for_acceptance() {
    // Asks for a group that was not offered, whatever was.
    let address = scripted_server(|_hello| server_hello(0x0a0a, true));
    let questioner = Questioner { address, server_name: None, alpn: &[], timeout: Duration::from_secs(5) };
    let survey = questioner.survey();
    assert_eq!(survey.accepted().count(), 0);
    assert!(survey.groups.iter().all(|group| matches!(group.acceptance, Acceptance::Unclear(_))));
    assert!(matches!(survey.tls_1_2, Tls12Answer::Unclear(_)));
    assert_eq!(survey.x25519_share_only, ShareAnswer::NotApplicable);
}
