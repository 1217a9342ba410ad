//! A peer's certificate with a key that no signature scheme is for, against a defect of libssl.
//!
//! From 3.2.1 to 3.4.1 `ssl_cert_lookup_by_pkey` (ssl/ssl_cert.c) walks past the end of its table for such a key, as soon as
//! a provider offers any signature scheme: `for (i = 0; ctx->sigalg_list_len; i++)`. A worker of nginx dies of it, by
//! anybody's certificate, because nginx judges the chain only after CertificateVerify. The provider's guard rows end the
//! walk (provider/src/signature_schemes.rs). Where the memory behind the table happens to end it, `unknown nid` on
//! OpenSSL's error queue still tells that it was left.

use anyhow::{Context, Result, bail, ensure};
use qtls_tests::{
    Native, OpensslConf, Platform, WorkDir,
    nginx::{ANSWER, Nginx, Server, Setup},
    openssl::{OpensslClient, OpensslServer},
    pki::{ECDSA, KeyType, ML_DSA_44, ML_DSA_65, ML_DSA_87, pki, strangers, unusable},
    platform::{DEBIAN_13, DEBIAN_SID, NGINX_ON_3_4_1, OPENSSL_3_4_1},
    process::wait_for,
    report::Report,
    rustls_client::{RustlsClient, presents},
    rustls_server::RustlsServer,
};
use rustls::version::{TLS12, TLS13};

const GROUPS: &str = "X25519MLKEM768:X25519";
const HYBRID: &str = "X25519MLKEM768";
/// What libssl's security callback lets through; at level 0 guard rows are sent to peers.
const LEVELS: [&str; 2] = ["DEFAULT", "DEFAULT:@SECLEVEL=0"];

/// The provider's options, and the types of keys that a certificate may hold and that TLS has no use for then.
fn cases() -> Vec<(OpensslConf, &'static str, Vec<KeyType>)> {
    let all = "all schemes";
    let one = "signatures = mldsa65";
    let also = unusable().chain([ML_DSA_44, ML_DSA_87]).collect();
    vec![(OpensslConf::new(), all, unusable().collect()), (OpensslConf::new().provider_line(one), one, also)]
}

#[test]
fn no_client_certificate_kills_a_worker_of_nginx_on_openssl_3_4_1() {
    let mut report = Report::new();
    for (conf, what, keys) in cases() {
        clients_against_nginx(&NGINX_ON_3_4_1, &conf, what, &keys, &mut report);
    }
    report.finish();
}

/// Where libssl is sound the guard is not there, and nothing else may have changed.
#[test]
fn no_client_certificate_kills_a_worker_of_nginx_on_newer_openssl() {
    let keys: Vec<KeyType> = unusable().collect();
    let mut report = Report::new();
    for platform in [&DEBIAN_13, &DEBIAN_SID] {
        for native in [Native::Yield, Native::Prefer] {
            clients_against_nginx(
                platform,
                &OpensslConf::new().native(native),
                "all schemes",
                &keys,
                &mut report,
            );
        }
    }
    report.finish();
}

fn clients_against_nginx(
    platform: &Platform,
    conf: &OpensslConf,
    what: &str,
    keys: &[KeyType],
    report: &mut Report,
) {
    let what = format!("{} {:?} {what}", platform.name, conf.native);
    let mut servers = Vec::new();
    for verify in ["on", "optional", "optional_no_ca"] {
        for level in LEVELS {
            servers.push((
                format!("ssl_verify_client {verify}, {level}"),
                Server::groups(GROUPS)
                    .lines("ssl_certificate own.pem; ssl_certificate_key own.key;")
                    .lines(&format!("ssl_verify_client {verify}; ssl_client_certificate roots.pem;"))
                    .lines(&format!("ssl_ciphers {level};"))
                    .lines(&format!(
                        "location / {{ return 200 \"{ANSWER} verify=$ssl_client_verify\\n\"; }}"
                    )),
            ));
        }
    }
    let started = (|| {
        let own = pki().leaf(ECDSA, ECDSA)?;
        let setup = Setup::new(conf.clone(), servers.iter().map(|(_, server)| server.clone()).collect())
            .file("own.pem", &own.chain)
            .file("own.key", &own.key)
            .file("roots.pem", &pki().root(ECDSA)?.pem);
        Nginx::start(platform, &setup)
    })();
    let nginx = started.unwrap_or_else(|error| panic!("{what}: {error:#}"));
    for (index, (server, _)) in servers.iter().enumerate() {
        for key in keys {
            for (whose, authority) in [("a trusted", pki()), ("an unknown", strangers())] {
                let outcome = untouched(&nginx, 2, || {
                    refused(nginx.port(index), &authority.leaf(ECDSA, *key)?.chain_der)
                });
                report.check(&format!("{what}, {server}: {} by {whose} authority", key.name), outcome);
            }
        }
        report.check(&format!("{what}, {server}: others go on"), others_go_on(nginx.port(index)));
    }
    report.check(&format!("{what}: nginx ends well"), nginx.quit());
}

/// Checks that `attempt` passes after so many failed handshakes, and leaves the worker and the error queue of nginx as they
/// were.
fn untouched(nginx: &Nginx, failed: usize, attempt: impl FnOnce() -> Result<()>) -> Result<()> {
    let (workers, before) = (nginx.workers()?, nginx.error_log()?.len());
    let outcome = attempt();
    // A peer gets its alert before the log has its line.
    let log = wait_for("the failed handshakes in nginx's log, or a new worker", || {
        let log = nginx.error_log()?[before..].to_owned();
        let is_told = log.matches("SSL_do_handshake() failed").count() >= failed;
        Ok((is_told || nginx.workers()? != workers).then_some(log))
    })?;
    let now = nginx.workers()?;
    ensure!(now == workers, "the workers were {workers:?} and are {now:?}: {log}");
    ensure!(!log.contains("unknown nid"), "the walk left its table: {log}");
    outcome
}

/// Connects with this certificate, by either version of TLS, signs with an ECDSA key that is not its own, and expects an
/// alert.
fn refused(port: u16, chain: &[rustls::pki_types::CertificateDer<'static>]) -> Result<()> {
    let presented = presents(chain, pki().leaf(ECDSA, ECDSA)?.key_der()?)?;
    let roots = [pki().root(ECDSA)?.der.clone()];
    for (version, groups) in [(&TLS13, HYBRID), (&TLS12, "X25519")] {
        let client = RustlsClient::with_version(version, groups, &roots, None, Some(presented.clone()))?;
        match client.get(port) {
            Ok(exchange) => bail!("it got in by {version:?}: {}", exchange.text),
            Err(error) => {
                let text = format!("{error:#}");
                ensure!(text.contains("received fatal alert"), "no alert by {version:?}: {text}");
            }
        }
    }
    Ok(())
}

/// A client with a right certificate, and one without.
fn others_go_on(port: u16) -> Result<()> {
    let leaf = pki().leaf(ECDSA, ECDSA)?;
    let roots = [pki().root(ECDSA)?.der.clone()];
    let right = presents(&leaf.chain_der, leaf.key_der()?)?;
    let exchange = RustlsClient::with_certificates(HYBRID, &roots, None, Some(right))?.get(port)?;
    ensure!(exchange.text.contains("verify=SUCCESS"), "{}", exchange.text);
    let exchange = RustlsClient::with_certificates(HYBRID, &roots, None, None)?.get(port)?;
    let (here, elsewhere) = ("verify=NONE", "400 No required SSL certificate was sent");
    ensure!(exchange.text.contains(here) || exchange.text.contains(elsewhere), "{}", exchange.text);
    Ok(())
}

#[test]
fn no_client_certificate_leads_s_server_of_openssl_3_4_1_past_the_table() {
    let mut report = Report::new();
    for (conf, what, keys) in cases() {
        for level in LEVELS {
            let outcome = (|| {
                let directory = WorkDir::new(&OPENSSL_3_4_1)?;
                let own = pki().leaf(ECDSA, ECDSA)?;
                let [cert, key] =
                    [directory.write("own.pem", &own.chain)?, directory.write("own.key", &own.key)?];
                let arguments = ["-cert", &cert, "-key", &key, "-verify", "3", "-cipher", level];
                OpensslServer::start_in(&OPENSSL_3_4_1, directory, &conf, GROUPS, &arguments)
            })();
            let mut server = outcome.unwrap_or_else(|error| panic!("{what}: {error:#}"));
            for key in &keys {
                let outcome = stays_in_its_table(&mut server, *key);
                report.check(&format!("{what}, {level}: {}", key.name), outcome);
            }
            let roots = pki().root(ECDSA).expect("the root").der.clone();
            let outcome = RustlsClient::with_certificates(HYBRID, &[roots], None, None)
                .and_then(|client| client.get(server.port))
                .map(drop);
            report.check(&format!("{what}, {level}: others go on"), outcome);
        }
    }
    report.finish();
}

fn stays_in_its_table(server: &mut OpensslServer, key: KeyType) -> Result<()> {
    let before = server.output().len();
    let outcome = refused(server.port, &pki().leaf(ECDSA, key)?.chain_der);
    // A peer gets its alert before s_server writes its errors.
    let said = wait_for("what s_server says of two handshakes", || {
        let said = server.output()[before..].to_owned();
        let is_told = said.matches(":error:").count() >= 2;
        Ok((is_told || !server.is_alive()?).then_some(said))
    })?;
    ensure!(server.is_alive()?, "s_server ended: {said}");
    ensure!(!said.contains("unknown nid"), "the walk left its table: {said}");
    outcome
}

// ---- the same from a server ----

/// A server that presents such a certificate and signs with an ECDSA key that is not the certificate's.
fn server_with(key: KeyType) -> Result<RustlsServer> {
    let leaf = pki().leaf(ECDSA, key)?;
    RustlsServer::start(presents(&leaf.chain_der, pki().leaf(ECDSA, ECDSA)?.key_der()?)?)
}

#[test]
fn no_server_certificate_leads_s_client_of_openssl_3_4_1_past_the_table() {
    let mut report = Report::new();
    for (conf, what, keys) in cases() {
        for key in keys {
            for level in LEVELS {
                let outcome = server_with(key).and_then(|server| {
                    let client = OpensslClient::with_provider(&OPENSSL_3_4_1, &conf)?;
                    let roots = client.directory().write("roots.pem", &pki().root(ECDSA)?.pem)?;
                    for version in ["-tls1_3", "-tls1_2"] {
                        let arguments = ["-CAfile", &roots, "-cipher", level, version];
                        let outcome = client.get(server.port, GROUPS, &arguments);
                        let text = outcome.map_or_else(|error| format!("{error:#}"), |run| run.text);
                        ensure!(!text.contains("HTTP/1.1 200"), "it was served: {text}");
                        // A process that dies of a signal says nothing.
                        ensure!(text.contains(":error:"), "no error of OpenSSL: {text}");
                        ensure!(!text.contains("unknown nid"), "the walk left its table: {text}");
                    }
                    Ok(())
                });
                report.check(&format!("{what}, {level}: {}", key.name), outcome);
            }
        }
    }
    report.finish();
}

/// nginx does not verify an upstream unless it is told to.
#[test]
fn no_upstreams_certificate_kills_a_worker_of_nginx_on_openssl_3_4_1() {
    let mut report = Report::new();
    for (conf, what, keys) in cases() {
        let outcome = proxies(&conf, &keys, what, &mut report);
        report.check(&format!("{what}: nginx"), outcome);
    }
    report.finish();
}

fn proxies(conf: &OpensslConf, keys: &[KeyType], what: &str, report: &mut Report) -> Result<()> {
    let upstreams = keys.iter().map(|key| server_with(*key)).collect::<Result<Vec<_>>>()?;
    let right = pki().leaf(ML_DSA_65, ML_DSA_65)?;
    let right = RustlsServer::start(presents(&right.chain_der, right.key_der()?)?)?;
    let locations = |verify: &str| -> String {
        let ports = upstreams.iter().chain([&right]).map(|server| server.port).enumerate();
        ports
            .map(|(index, port)| {
                format!(
                    "location = /{index} {{ proxy_pass https://127.0.0.1:{port}; proxy_ssl_session_reuse off; {verify} }}\n"
                )
            })
            .collect()
    };
    let verified = "proxy_ssl_verify on; proxy_ssl_name localhost; proxy_ssl_trusted_certificate roots.pem;";
    let own = pki().leaf(ECDSA, ECDSA)?;
    let settings = ["", "proxy_ssl_ciphers DEFAULT:@SECLEVEL=0;", "proxy_ssl_protocols TLSv1.2;", verified];
    let servers = settings
        .iter()
        .map(|verify| {
            Server::groups(GROUPS)
                .lines("ssl_certificate own.pem; ssl_certificate_key own.key;")
                .lines(&locations(verify))
        })
        .collect();
    let setup = Setup::new(conf.clone(), servers)
        .file("own.pem", &own.chain)
        .file("own.key", &own.key)
        .file("roots.pem", &pki().roots(&[ECDSA, ML_DSA_65])?);
    let nginx = Nginx::start(&NGINX_ON_3_4_1, &setup)?;
    let client = RustlsClient::with_certificates(HYBRID, &[pki().root(ECDSA)?.der.clone()], None, None)?;
    for (server, setting) in settings.iter().enumerate() {
        for (index, key) in keys.iter().enumerate() {
            let outcome = untouched(&nginx, 1, || {
                let exchange = client.get_path(nginx.port(server), &format!("/{index}"))?;
                ensure!(exchange.text.starts_with("HTTP/1.1 502 "), "{}", exchange.text);
                Ok(())
            });
            report.check(&format!("{what} [{setting}]: {}", key.name), outcome);
        }
        // TLS 1.2 has no ML-DSA.
        let (status, served) =
            if setting.contains("TLSv1.2") { ("502", "refused") } else { ("200", "served") };
        let exchange = client.get_path(nginx.port(server), &format!("/{}", keys.len()))?;
        ensure!(
            exchange.text.starts_with(&format!("HTTP/1.1 {status} ")),
            "an upstream with ML-DSA is not {served} [{setting}]: {}\n{}",
            exchange.text,
            nginx.error_log()?
        );
    }
    nginx.quit()
}

// ---- where no complete guard exists ----

#[test]
fn beside_a_provider_with_unknown_keys_nothing_is_offered_on_openssl_3_4_1_unless_it_is_asked_for() {
    let mut report = Report::new();
    let beside = OpensslConf::new().second_provider("vendor");
    for (what, conf, offered) in [
        ("withheld by default", beside.clone(), false),
        ("withheld when told to", beside.clone().provider_line("unguarded-signatures = withhold"), false),
        ("offered when told to", beside.clone().provider_line("unguarded-signatures = offer"), true),
        ("offered without the other", OpensslConf::new(), true),
    ] {
        report.check(what, offers(&conf, offered));
    }
    report.finish();
}

fn offers(conf: &OpensslConf, expected: bool) -> Result<()> {
    let leaf = pki().leaf(ML_DSA_65, ML_DSA_65)?;
    let server = Server::groups(GROUPS)
        .lines("ssl_certificate leaf.pem; ssl_certificate_key leaf.key;")
        .lines("location / { return 200 \"served\\n\"; }");
    let setup =
        Setup::new(conf.clone(), vec![server]).file("leaf.pem", &leaf.chain).file("leaf.key", &leaf.key);
    match Nginx::start(&NGINX_ON_3_4_1, &setup) {
        Ok(nginx) => {
            ensure!(expected, "nginx starts with an ML-DSA certificate");
            let roots = [pki().root(ML_DSA_65)?.der.clone()];
            RustlsClient::with_certificates(HYBRID, &roots, None, None)?.get(nginx.port(0))?;
            nginx.quit()
        }
        Err(error) => {
            let text = format!("{error:#}");
            ensure!(!expected, "{text}");
            for part in
                ["no ML-DSA in TLS", "[vendor]", "unguarded-signatures = offer", "unknown certificate type"]
            {
                ensure!(text.contains(part), "it does not say '{part}': {text}");
            }
            Ok(())
        }
    }
    .context("nginx on OpenSSL 3.4.1")
}
