//! What happens in a handshake beside the exchange itself, on nginx of every version.

use std::{fs, process::Command};

use anyhow::{Context, Result, ensure};
use qtls_tests::{
    Native, OpensslConf, Platform,
    client_hello::{Reply, send},
    identity::identity,
    nginx::{Nginx, Server, Setup, answer_location},
    openssl::{ClientRun, OpensslClient},
    platform::{DEBIAN_12, DEBIAN_13, DEBIAN_SID, NGINX_ON_3_4_1},
    report::Report,
    rustls_client::RustlsClient,
};
use rustls::HandshakeKind;

const HYBRID: &str = "X25519MLKEM768";
/// `handshake_failure` (RFC 8446, section 6).
const HANDSHAKE_FAILURE: u8 = 40;
const X25519: u16 = 0x001d;

/// Runs `check` against nginx with `servers` on every version, and with either value of `native` where they
/// differ; then nginx must end well.
fn on_every_nginx(servers: &[Server], check: impl Fn(&Nginx, &'static Platform) -> Result<()>) {
    let mut report = Report::new();
    for platform in [&DEBIAN_12, &NGINX_ON_3_4_1, &DEBIAN_13, &DEBIAN_SID] {
        for native in platform.native_modes() {
            let conf =
                OpensslConf::new().native(*native).groups("X25519MLKEM768:SecP256r1MLKEM768:X25519:P-256");
            let setup = Setup { workers: 2, ..Setup::new(conf, servers.to_vec()) };
            let outcome = Nginx::start(platform, &setup).and_then(|nginx| {
                check(&nginx, platform).with_context(|| {
                    let log = nginx.error_log().unwrap_or_default();
                    let lines: Vec<&str> = log.lines().filter(|line| line.contains("SSL")).collect();
                    format!("nginx logged {lines:?}")
                })?;
                nginx.quit()
            });
            report.check(&format!("{} {native:?}", platform.name), outcome);
        }
    }
    report.finish();
}

fn hybrid_only() -> Server {
    Server::groups(HYBRID).lines("ssl_protocols TLSv1.3;").lines(&answer_location())
}

fn hybrid_or_classical() -> Server {
    Server::groups("X25519MLKEM768:X25519:P-256").lines(&answer_location())
}

/// Our provider as the client, on OpenSSL 3.0.
fn our_client() -> OpensslClient {
    OpensslClient::with_provider(&DEBIAN_12, &OpensslConf::new()).unwrap_or_else(|error| panic!("{error:#}"))
}

#[test]
fn http_1_1_and_h2_are_spoken_over_a_hybrid_group() {
    on_every_nginx(&[hybrid_only()], |nginx, _| {
        for (protocol, expected) in [("http/1.1", "HTTP/1.1"), ("h2", "HTTP/2.0")] {
            let client = RustlsClient::with_alpn(HYBRID, &[protocol])?;
            let exchange = client.handshake(nginx.port(0))?;
            ensure!(exchange.alpn.as_deref() == Some(protocol), "ALPN chose {:?}", exchange.alpn);
            let answer = curl(nginx.port(0), if protocol == "h2" { "--http2" } else { "--http1.1" })?;
            ensure!(answer.contains(&format!("http={expected}")), "curl got: {answer}");
        }
        Ok(())
    });
}

/// curl on OpenSSL 3.6's own groups.
fn curl(port: u16, version: &str) -> Result<String> {
    let authority = DEBIAN_SID.home()?.join(format!("tmp/qtls-ca-{}-{port}.pem", std::process::id()));
    fs::write(&authority, &identity().authority)?;
    let mut command: Command = DEBIAN_SID.command("curl")?;
    let output = command
        .args(["--silent", "--show-error", "--max-time", "20", "--curves", HYBRID, version, "--cacert"])
        .arg(format!("/tmp/{}", authority.file_name().context("a file name")?.display()))
        .arg(format!("https://localhost:{port}/"))
        .output();
    fs::remove_file(&authority)?;
    let output = output?;
    ensure!(output.status.success(), "curl: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn sessions_resume_by_stateless_tickets_with_a_fresh_hybrid_exchange() {
    let server = hybrid_only().lines("ssl_session_tickets on; ssl_session_cache off;");
    on_every_nginx(&[server], |nginx, _| {
        resumes(nginx, HYBRID)?;
        let ticket = ticket_length(&resumes_with_s_client(nginx)?);
        // The session itself, encrypted.
        ensure!(ticket > 64, "a ticket of {ticket} bytes is not stateless");
        Ok(())
    });
}

#[test]
fn sessions_resume_by_stateful_tickets_with_a_fresh_hybrid_exchange() {
    let server = hybrid_only().lines("ssl_session_tickets off; ssl_session_cache shared:sessions:1m;");
    on_every_nginx(&[server], |nginx, _| {
        resumes(nginx, HYBRID)?;
        let ticket = ticket_length(&resumes_with_s_client(nginx)?);
        // An identifier of a session in the cache.
        ensure!(ticket == 32, "a ticket of {ticket} bytes is not stateful");
        Ok(())
    });
}

fn resumes(nginx: &Nginx, groups: &str) -> Result<()> {
    let client = RustlsClient::new(groups)?;
    for round in 0..4 {
        let exchange = client.get(nginx.port(0))?;
        let answer = exchange.answer()?;
        let expected = if round == 0 { HandshakeKind::Full } else { HandshakeKind::Resumed };
        ensure!(exchange.kind == expected, "connection {round} is {:?}", exchange.kind);
        ensure!(answer.reused == (round > 0), "nginx says of connection {round}: {answer:?}");
        ensure!(answer.group == HYBRID && exchange.group == HYBRID, "connection {round}: {answer:?}");
    }
    Ok(())
}

/// The same with our provider as the client; returns the run that was resumed.
fn resumes_with_s_client(nginx: &Nginx) -> Result<ClientRun> {
    let client = our_client();
    let session = client.directory().inside("session.pem");
    let first = client.get(nginx.port(0), HYBRID, &["-sess_out", &session])?;
    ensure!(!first.answer()?.reused, "the first connection is resumed");
    let second = client.get(nginx.port(0), HYBRID, &["-sess_in", &session])?;
    let answer = second.answer()?;
    ensure!(answer.reused && answer.group == HYBRID, "the second connection of our client: {answer:?}");
    Ok(second)
}

/// Bytes of the last ticket that s_client printed, 16 a line.
fn ticket_length(run: &ClientRun) -> usize {
    let Some((_, after)) = run.text.rsplit_once("TLS session ticket:") else { return 0 };
    after.lines().skip(1).take_while(|line| line.contains(" - ")).count() * 16
}

#[test]
fn early_data_is_taken_on_a_resumed_hybrid_session() {
    let server = hybrid_only().lines("ssl_early_data on; ssl_session_cache shared:early:1m;");
    on_every_nginx(&[server], |nginx, _| {
        let client = RustlsClient::with_early_data(HYBRID)?;
        let first = client.get(nginx.port(0))?;
        ensure!(!first.early && first.kind == HandshakeKind::Full, "{first:?}");
        let second = client.get(nginx.port(0))?;
        let answer = second.answer()?;
        ensure!(second.early && answer.early && answer.reused, "{second:?}");
        ensure!(answer.group == HYBRID, "{answer:?}");
        Ok(())
    });
}

#[test]
fn a_hybrid_only_server_asks_a_client_with_an_x25519_share_to_retry() {
    on_every_nginx(&[hybrid_only()], |nginx, _| {
        let exchange = RustlsClient::new("X25519:X25519MLKEM768")?.get(nginx.port(0))?;
        ensure!(exchange.kind == HandshakeKind::FullWithHelloRetryRequest, "{:?}", exchange.kind);
        ensure!(exchange.answer()?.group == HYBRID, "{exchange:?}");
        let reply = send(nginx.port(0), &[X25519, 0x11ec], &[(X25519, &[9; 32])])?;
        ensure!(reply == Reply::Retry(0x11ec), "a raw ClientHello is answered by {reply:?}");
        Ok(())
    });
}

#[test]
fn our_client_follows_a_retry_to_its_second_group() {
    let second = Server::groups("SecP256r1MLKEM768").lines(&answer_location());
    on_every_nginx(&[hybrid_only(), second], |nginx, platform| {
        let mut clients = vec![our_client()];
        for native in platform.native_modes().iter().filter(|native| **native == Native::Prefer) {
            clients.push(OpensslClient::with_provider(platform, &OpensslConf::new().native(*native))?);
        }
        for client in clients {
            for (server, groups, expected) in [
                (0, "X25519:X25519MLKEM768", HYBRID),
                (0, "SecP256r1MLKEM768:X25519MLKEM768", HYBRID),
                (1, "X25519MLKEM768:SecP256r1MLKEM768", "SecP256r1MLKEM768"),
            ] {
                let run = client.get(nginx.port(server), groups, &["-tls1_3", "-msg"])?;
                let answer = run.answer().with_context(|| format!("{} with {groups}", client.name()))?;
                ensure!(answer.group == expected, "{} with {groups}: {answer:?}", client.name());
                let hellos = run.text.lines().filter(|line| line.ends_with(", ClientHello")).count();
                ensure!(hellos == 2, "{} with {groups} sent {hellos} ClientHellos", client.name());
            }
        }
        Ok(())
    });
}

/// Why `doctor` speaks of clients that send only an X25519 share.
#[test]
fn a_server_with_both_kinds_takes_the_share_that_it_gets() {
    on_every_nginx(&[hybrid_or_classical()], |nginx, _| {
        let exchange = RustlsClient::new("X25519:X25519MLKEM768")?.get(nginx.port(0))?;
        ensure!(exchange.kind == HandshakeKind::Full, "{:?}", exchange.kind);
        ensure!(exchange.answer()?.group == "X25519", "{exchange:?}");
        let exchange = RustlsClient::new("X25519MLKEM768:X25519")?.get(nginx.port(0))?;
        ensure!(exchange.answer()?.group == HYBRID, "{exchange:?}");
        Ok(())
    });
}

#[test]
fn a_client_without_any_pqc_group_is_served_where_classical_groups_are_allowed() {
    on_every_nginx(&[hybrid_or_classical()], |nginx, _| {
        for group in ["X25519", "P-256"] {
            let answer = RustlsClient::new(group)?.get(nginx.port(0))?.answer()?;
            ensure!(answer.group == group && answer.protocol == "TLSv1.3", "{answer:?}");
        }
        let openssl = OpensslClient::native(&DEBIAN_12)?.get(nginx.port(0), "X25519:P-256", &["-tls1_2"])?;
        let answer = openssl.answer()?;
        ensure!(answer.protocol == "TLSv1.2" && ["X25519", "P-256"].contains(&&*answer.group), "{answer:?}");
        Ok(())
    });
}

#[test]
fn a_client_without_any_pqc_group_is_refused_by_a_hybrid_only_server() {
    on_every_nginx(&[hybrid_only()], |nginx, _| {
        let reply = send(nginx.port(0), &[X25519], &[(X25519, &[9; 32])])?;
        ensure!(reply == Reply::Alert(HANDSHAKE_FAILURE), "{reply:?}");
        ensure!(
            RustlsClient::with_tls12("X25519:P-256")?.get(nginx.port(0)).is_err(),
            "a classical client got in"
        );
        Ok(())
    });
}

#[test]
fn another_server_block_on_the_socket_cannot_weaken_the_mode() {
    let sibling = format!(
        "server_name other.localhost; ssl_ecdh_curve X25519; ssl_protocols TLSv1.2 TLSv1.3;\n{}",
        answer_location()
    );
    on_every_nginx(&[hybrid_only().sibling(&sibling)], |nginx, _| {
        let port = nginx.port(0);
        let answer = RustlsClient::new(HYBRID)?.get_as(port, "other.localhost")?.answer()?;
        ensure!(answer.group == HYBRID, "a hybrid client of the other block: {answer:?}");
        for client in [RustlsClient::new("X25519:P-256")?, RustlsClient::with_tls12("X25519:P-256")?] {
            if let Ok(exchange) = client.get_as(port, "other.localhost") {
                anyhow::bail!("a classical client got in through the other block: {exchange:?}");
            }
        }
        Ok(())
    });
}

#[test]
fn proxy_ssl_reaches_an_upstream_over_a_hybrid_group() {
    // The upstream's port is known only when nginx has been started, so the front is a second nginx.
    on_every_nginx(&[hybrid_only()], |upstream, platform| {
        for native in platform.native_modes() {
            let location = format!(
                "location / {{ proxy_pass https://127.0.0.1:{}; proxy_ssl_protocols TLSv1.3; \
                 proxy_ssl_name localhost; proxy_ssl_server_name on; proxy_ssl_session_reuse off; \
                 proxy_ssl_verify on; proxy_ssl_trusted_certificate ca.pem;",
                upstream.port(0)
            );
            let servers = vec![
                // From openssl.cnf, and from the location itself.
                Server::library_groups().lines(&format!("{location} }}")),
                Server::library_groups()
                    .lines(&format!("{location} proxy_ssl_conf_command Groups {HYBRID}:X25519; }}")),
            ];
            let conf = OpensslConf::new().native(*native).groups("X25519MLKEM768:X25519");
            let front = Nginx::start(platform, &Setup::new(conf, servers))?;
            for server in 0..2 {
                let exchange = RustlsClient::new("X25519")?.get(front.port(server))?;
                let answer = exchange.answer().with_context(|| front.error_log().unwrap_or_default())?;
                ensure!(exchange.group == "X25519" && answer.group == HYBRID, "{exchange:?}");
            }
            front.quit()?;
        }
        Ok(())
    });
}
