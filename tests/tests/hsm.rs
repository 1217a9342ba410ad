//! Private keys in tokens: servers and commands on every OpenSSL, with a root master, unprivileged workers and a PIN that
//! root alone can read. What goes wrong is in `hsm_faults.rs`.

use std::{collections::HashSet, os::unix::fs::chown, sync::Mutex, thread};

use anyhow::{Context, Result, ensure};
use qtls_tests::{
    OpensslConf, OpensslShell, Platform, WorkDir, full,
    nginx::{ANSWER, Nginx, Server, Setup},
    openssl::OpensslClient,
    pki::{ECDSA, KeyType, Leaf, ML_DSA_44, ML_DSA_65, ML_DSA_87, RSA, pki},
    platform::{DEBIAN_12, DEBIAN_13, DEBIAN_SID, NGINX_ON_3_4_1, OPENSSL_3_4_1},
    process::{Process, free_port, wait_for},
    report::Report,
    rustls_client::{RustlsClient, presents},
    token::{Faulty, Kind, Token, WORKERS, uri_pem},
};
use rustix::process::Signal;
use rustls::SignatureScheme;

const GROUPS: &str = "X25519MLKEM768:X25519";
const HYBRID: &str = "X25519MLKEM768";

/// A key in a token and its certificate.
struct Site {
    /// The key's label there.
    object: &'static str,
    key: KeyType,
    leaf: Leaf,
}

/// Puts a key of this type into the token, under a label that is its site's name too.
fn site(token: &Token, object: &'static str, id: &str, key: KeyType) -> Result<Site> {
    let imported = |leaf: &Leaf| Leaf {
        chain: leaf.chain.clone(),
        chain_der: leaf.chain_der.clone(),
        intermediates: leaf.intermediates.clone(),
        key: String::new(),
    };
    let leaf = if matches!(key, RSA | ECDSA) {
        let leaf = pki().leaf(key, key)?;
        token.import(object, id, &leaf.key)?;
        imported(&leaf)
    } else {
        // No tool but ours makes such a key in a token.
        pki().leaf_for(key, &token.generate(object, key)?)?
    };
    Ok(Site { object, key, leaf })
}

/// A server block's lines for a site whose key is named in a PEM file.
fn lines(site: &Site) -> String {
    format!("ssl_certificate {0}.pem; ssl_certificate_key {0}.key;", site.object)
}

/// The same for one whose key nginx asks the store for.
fn store_lines(token: &Token, site: &Site) -> String {
    format!("ssl_certificate {}.pem; ssl_certificate_key \"store:{}\";", site.object, token.uri(site.object))
}

/// The files that [`lines`] name.
fn with_site(setup: Setup, token: &Token, site: &Site) -> Setup {
    setup
        .file(&format!("{}.pem", site.object), &site.leaf.chain)
        .file(&format!("{}.key", site.object), &uri_pem(&token.uri(site.object)))
}

/// Answers with the worker's process id and what it knows of the client's certificate.
fn answers() -> String {
    format!(
        "location / {{ return 200 \"{ANSWER} pid=$pid verify=$ssl_client_verify subject=$ssl_client_s_dn\\n\"; }}"
    )
}

/// No session is kept: every handshake has a signature.
fn server(lines: &str) -> Server {
    Server::groups(GROUPS)
        .lines("ssl_session_cache off; ssl_session_tickets off;")
        .lines(lines)
        .lines(&answers())
}

fn setup(token: &Token, servers: Vec<Server>) -> Setup {
    Setup::new(token.openssl_conf(), servers).workers(2).variable(token.environment())
}

fn rustls(key: KeyType) -> Result<RustlsClient> {
    RustlsClient::with_certificates(HYBRID, &[pki().root(key)?.der.clone()], None, None)
}

/// Ends nginx and returns its log with whatever failed.
fn then_quit(nginx: Nginx, outcome: Result<()>) -> Result<()> {
    outcome.with_context(|| format!("nginx logged:\n{}", nginx.error_log().unwrap_or_default()))?;
    nginx.quit()
}

// ---- nginx ----

#[test]
fn nginx_on_debian_12_serves_rsa_and_ec_keys_in_softhsm() {
    serves(&DEBIAN_12, Kind::SoftHsm, &[RSA, ECDSA]);
}

#[test]
fn nginx_on_debian_13_serves_rsa_and_ec_keys_in_softhsm() {
    serves(&DEBIAN_13, Kind::SoftHsm, &[RSA, ECDSA]);
}

#[test]
fn nginx_on_debian_sid_serves_rsa_and_ec_keys_in_softhsm_from_files_and_from_the_store() {
    serves(&DEBIAN_SID, Kind::SoftHsm, &[RSA, ECDSA]);
}

#[test]
fn nginx_on_openssl_3_4_1_serves_rsa_and_ec_keys_in_softhsm() {
    serves(&NGINX_ON_3_4_1, Kind::SoftHsm, &[RSA, ECDSA]);
}

#[test]
fn nginx_on_debian_13_serves_ml_dsa_ec_and_rsa_keys_in_kryoptic() {
    serves(&DEBIAN_13, Kind::Kryoptic, &[ML_DSA_44, ML_DSA_65, ML_DSA_87, ECDSA, RSA]);
}

#[test]
fn nginx_on_debian_sid_serves_ml_dsa_keys_in_kryoptic_from_files_and_from_the_store() {
    serves(&DEBIAN_SID, Kind::Kryoptic, &[ML_DSA_65]);
}

#[test]
fn nginx_on_openssl_3_4_1_serves_ml_dsa_ec_and_rsa_keys_in_kryoptic() {
    serves(&NGINX_ON_3_4_1, Kind::Kryoptic, &[ML_DSA_44, ML_DSA_65, ML_DSA_87, ECDSA, RSA]);
}

/// Each key by each way into nginx, each to every client, by each worker.
fn serves(platform: &'static Platform, kind: Kind, keys: &[KeyType]) {
    const OBJECTS: [&str; 5] = ["first", "second", "third", "fourth", "fifth"];
    let mut report = Report::new();
    let token = Token::new(platform, kind).unwrap_or_else(|error| panic!("{error:#}"));
    let sites: Vec<Site> = keys
        .iter()
        .zip(OBJECTS)
        .enumerate()
        .map(|(index, (key, object))| site(&token, object, &format!("0{index}"), *key))
        .collect::<Result<_>>()
        .unwrap_or_else(|error| panic!("{error:#}"));
    let has_store = platform.nginx().is_ok_and(|(_, version)| version >= (1, 29));
    let ways = |site: &Site| {
        let store = has_store.then(|| server(&store_lines(&token, site)));
        [server(&lines(site))].into_iter().chain(store).collect::<Vec<_>>()
    };
    let servers: Vec<(&Site, Server)> =
        sites.iter().flat_map(|site| ways(site).into_iter().map(move |server| (site, server))).collect();
    let setup = setup(&token, servers.iter().map(|(_, server)| server.clone()).collect());
    let setup = sites.iter().fold(setup, |setup, site| with_site(setup, &token, site));
    let nginx = Nginx::start(platform, &setup).unwrap_or_else(|error| panic!("{error:#}"));
    for (index, (site, _)) in servers.iter().enumerate() {
        let outcome = every_worker_serves(&nginx, index, site)
            .and_then(|()| s_clients_are_served(nginx.port(index), site))
            .with_context(|| format!("nginx logged:\n{}", nginx.error_log().unwrap_or_default()));
        report.check(&format!("{}, server {index}", site.key.name), outcome);
    }
    report.check("it ends well", nginx.quit());
    report.finish();
}

fn every_worker_serves(nginx: &Nginx, server: usize, site: &Site) -> Result<()> {
    let (client, port) = (rustls(site.key)?, nginx.port(server));
    let workers =
        wait_for("two workers", || Ok(Some(nginx.workers()?).filter(|workers| workers.len() == 2)))?;
    let workers: HashSet<u32> = workers.into_iter().collect();
    let served = Mutex::new(HashSet::new());
    wait_for("an answer of each worker", || {
        // Several at once: a worker that waits alone would take them all.
        thread::scope(|scope| {
            let clients: Vec<_> = (0..4).map(|_| scope.spawn(|| client.get(port))).collect();
            clients.into_iter().try_for_each(|answer| {
                let exchange = answer.join().expect("a client thread")?;
                ensure!(exchange.group == HYBRID, "the group is {}", exchange.group);
                ensure!(exchange.chain.first() == Some(site.leaf.der()), "another certificate came");
                let pid = exchange.text.split("pid=").nth(1).and_then(|rest| rest.split(' ').next());
                served.lock().expect("a set").insert(pid.context("no pid in the answer")?.parse::<u32>()?);
                Ok(())
            })
        })?;
        Ok(workers.is_subset(&*served.lock().expect("a set")).then_some(()))
    })
}

/// By TLS 1.3, and for RSA and EC by TLS 1.2 and by each signature scheme.
fn s_clients_are_served(port: u16, site: &Site) -> Result<()> {
    let schemes: &[(&str, &str, &[&str])] = match site.key {
        RSA => &[
            ("-tls1_3", "RSA-PSS+SHA256", &["RSA-PSS", "rsa_pss_rsae_sha256"]),
            ("-tls1_3", "RSA-PSS+SHA384", &["RSA-PSS", "rsa_pss_rsae_sha384"]),
            ("-tls1_3", "RSA-PSS+SHA512", &["RSA-PSS", "rsa_pss_rsae_sha512"]),
            ("-tls1_2", "RSA+SHA256", &["RSA", "rsa_pkcs1_sha256"]),
            ("-tls1_2", "RSA+SHA512", &["RSA", "rsa_pkcs1_sha512"]),
            ("-tls1_2", "RSA-PSS+SHA256", &["RSA-PSS", "rsa_pss_rsae_sha256"]),
        ],
        ECDSA => &[
            ("-tls1_3", "ECDSA+SHA256", &["ECDSA", "ecdsa_secp256r1_sha256"]),
            ("-tls1_2", "ECDSA+SHA256", &["ECDSA", "ecdsa_secp256r1_sha256"]),
            ("-tls1_2", "ECDSA+SHA384", &["ECDSA", "ecdsa_secp384r1_sha384"]),
        ],
        ML_DSA_44 => &[("-tls1_3", "ML-DSA-44", &["mldsa44", "id-ml-dsa-44"])],
        ML_DSA_65 => &[("-tls1_3", "ML-DSA-65", &["mldsa65", "id-ml-dsa-65"])],
        _ => &[("-tls1_3", "ML-DSA-87", &["mldsa87", "id-ml-dsa-87"])],
    };
    let clients = [
        OpensslClient::native(&DEBIAN_13)?,
        OpensslClient::with_provider(&OPENSSL_3_4_1, &OpensslConf::new())?,
    ];
    for client in &clients {
        for (version, scheme, names) in schemes {
            let roots = client.directory().write("roots.pem", &pki().root(site.key)?.pem)?;
            let group = if *version == "-tls1_2" { "P-256:X25519" } else { HYBRID };
            let run = client.get(port, group, &[version, "-CAfile", &roots, "-sigalgs", scheme])?;
            let what = || format!("{} {version} {scheme}", client.name());
            ensure!(run.connected, "{}: no connection:\n{}", what(), run.text);
            let signed = run.signature.with_context(|| format!("{}: no signature type", what()))?;
            ensure!(
                names.iter().any(|name| signed.eq_ignore_ascii_case(name)),
                "{}: signed by {signed}",
                what()
            );
        }
    }
    Ok(())
}

#[test]
fn a_key_that_an_operator_made_with_pkcs11_tool_serves() {
    let mut report = Report::new();
    for platform in [&DEBIAN_12, &DEBIAN_13] {
        for key in [RSA, ECDSA] {
            let outcome = (|| {
                let token = Token::new(platform, Kind::SoftHsm)?;
                token.generate_by_pkcs11_tool("made", "a1b2", key)?;
                let leaf = pki().leaf_for(key, &token.public_key("made")?)?;
                serves_once(&token, &Site { object: "made", key, leaf })
            })();
            report.check(&format!("{} {}", platform.name, key.name), outcome);
        }
    }
    report.finish();
}

#[test]
fn a_key_that_qtls_made_in_the_token_serves_a_certificate_from_a_request_by_openssl() {
    let mut report = Report::new();
    for (platform, kind, key) in [
        (&DEBIAN_12, Kind::SoftHsm, ECDSA),
        (&DEBIAN_12, Kind::SoftHsm, RSA),
        (&DEBIAN_13, Kind::Kryoptic, ML_DSA_65),
        (&DEBIAN_13, Kind::Kryoptic, ECDSA),
    ] {
        let outcome = (|| {
            let token = Token::new(platform, kind)?;
            token.generate("made", key)?;
            let shell = shell(&token)?;
            shell.succeed(&format!(
                "openssl req -new -key '{}' -subj /CN=localhost -out site.csr\n\
                 openssl req -in site.csr -verify -noout\n\
                 openssl req -in site.csr -noout -pubkey > site.pub",
                token.uri("made")
            ))?;
            let public = String::from_utf8(shell.read("site.pub")?)?;
            let leaf = pki().leaf_for(key, &public)?;
            serves_once(&token, &Site { object: "made", key, leaf })
        })();
        report.check(&format!("{} {kind:?} {}", platform.name, key.name), outcome);
    }
    report.finish();
}

fn serves_once(token: &Token, site: &Site) -> Result<()> {
    let setup = with_site(setup(token, vec![server(&lines(site))]), token, site);
    let nginx = Nginx::start(token.platform, &setup)?;
    let outcome = rustls(site.key).and_then(|client| client.get(nginx.port(0))).and_then(|exchange| {
        ensure!(exchange.chain.first() == Some(site.leaf.der()), "another certificate came");
        Ok(())
    });
    then_quit(nginx, outcome)
}

/// A public key is found without a public object: RSA by the private object, EC by the certificate beside it.
#[test]
fn a_private_key_without_a_public_object_serves() {
    let mut report = Report::new();
    for (platform, key) in [(&DEBIAN_12, RSA), (&DEBIAN_13, RSA), (&DEBIAN_12, ECDSA), (&DEBIAN_13, ECDSA)] {
        let outcome = (|| {
            let token = Token::new(platform, Kind::SoftHsm)?;
            let leaf = pki().leaf(key, key)?;
            token.import_private("alone", "07", &leaf.key)?;
            if key == ECDSA {
                token.directory().write("alone.pem", &leaf.chain)?;
                let file = token.directory().inside("alone.pem");
                let der = token.directory().inside("alone.der");
                let command = format!("openssl x509 -in {file} -outform DER -out {der}");
                shell(&token)?.succeed(&command)?;
                let write = ["--write-object", &der, "--type", "cert", "--label", "alone", "--id", "07"];
                token.pkcs11_tool(&write)?;
            }
            let leaf = pki().leaf_for(key, &token.public_key("alone")?)?;
            serves_once(&token, &Site { object: "alone", key, leaf })
        })();
        report.check(&format!("{} {}", platform.name, key.name), outcome);
    }
    report.finish();
}

#[test]
fn with_ecdsa_in_a_file_and_ml_dsa_in_the_token_each_client_gets_the_best_that_it_knows() {
    let mut report = Report::new();
    for platform in [&NGINX_ON_3_4_1, &DEBIAN_13] {
        report.check(platform.name, two_certificates(platform));
    }
    report.finish();
}

fn two_certificates(platform: &'static Platform) -> Result<()> {
    let token = Token::new(platform, Kind::Kryoptic)?;
    let in_token = site(&token, "ml-dsa", "01", ML_DSA_65)?;
    let in_file = pki().leaf(ECDSA, ECDSA)?;
    let server = server(&lines(&in_token))
        .lines("ssl_certificate file.pem; ssl_certificate_key file.key; ssl_prefer_server_ciphers on;")
        .lines("ssl_conf_command SignatureAlgorithms ML-DSA-65:ECDSA+SHA256;");
    let setup = with_site(setup(&token, vec![server]), &token, &in_token)
        .file("file.pem", &in_file.chain)
        .file("file.key", &in_file.key);
    let nginx = Nginx::start(platform, &setup)?;
    let roots = [pki().root(ML_DSA_65)?.der.clone(), pki().root(ECDSA)?.der.clone()];
    let (ec, ml_dsa) = (SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ML_DSA_65);
    let outcome = [(&[ml_dsa, ec][..], in_token.leaf.der()), (&[ec], in_file.der())]
        .into_iter()
        .try_for_each(|(schemes, expected)| {
            let client = RustlsClient::with_certificates(HYBRID, &roots, Some(schemes), None)?;
            let exchange = client.get(nginx.port(0)).with_context(|| format!("{schemes:?}"))?;
            ensure!(exchange.chain.first() == Some(expected), "{schemes:?} got another certificate");
            Ok(())
        });
    then_quit(nginx, outcome)
}

#[test]
fn a_client_certificate_is_verified_beside_a_key_in_the_token() {
    let mut report = Report::new();
    for (platform, kind, key) in [(&DEBIAN_12, Kind::SoftHsm, ECDSA), (&DEBIAN_13, Kind::Kryoptic, ML_DSA_65)]
    {
        report.check(platform.name, mtls(platform, kind, key));
    }
    report.finish();
}

fn mtls(platform: &'static Platform, kind: Kind, key: KeyType) -> Result<()> {
    let token = Token::new(platform, kind)?;
    let own = site(&token, "own", "01", key)?;
    let lines = format!("{} ssl_client_certificate roots.pem; ssl_verify_client on;", lines(&own));
    let setup = with_site(setup(&token, vec![server(&lines)]), &token, &own)
        .file("roots.pem", &pki().root(ECDSA)?.pem);
    let nginx = Nginx::start(platform, &setup)?;
    let outcome = (|| {
        let (client, roots) = (pki().leaf(ECDSA, ECDSA)?, [pki().root(key)?.der.clone()]);
        let certificate = presents(&client.chain_der, client.key_der()?)?;
        let known = RustlsClient::with_certificates(HYBRID, &roots, None, Some(certificate))?;
        let text = known.get(nginx.port(0))?.text;
        ensure!(text.contains("verify=SUCCESS subject=CN=localhost"), "{text}");
        let text = rustls(key)?.get(nginx.port(0))?.text;
        ensure!(text.contains("400 No required SSL certificate was sent"), "without one: {text}");
        Ok(())
    })();
    then_quit(nginx, outcome)
}

#[test]
fn nginx_presents_a_client_certificate_whose_key_is_in_the_token_to_its_upstream() {
    let mut report = Report::new();
    for (platform, kind, key) in [
        (&DEBIAN_12, Kind::SoftHsm, ECDSA),
        (&DEBIAN_12, Kind::SoftHsm, RSA),
        (&DEBIAN_13, Kind::Kryoptic, ML_DSA_65),
    ] {
        report.check(&format!("{} {}", platform.name, key.name), upstream(platform, kind, key));
    }
    report.finish();
}

fn upstream(platform: &'static Platform, kind: Kind, key: KeyType) -> Result<()> {
    let own = pki().leaf(ECDSA, ECDSA)?;
    let with_own = |setup: Setup| setup.file("own.pem", &own.chain).file("own.key", &own.key);
    let own_lines = "ssl_certificate own.pem; ssl_certificate_key own.key;";
    let asks = server(own_lines).lines("ssl_client_certificate roots.pem; ssl_verify_client on;");
    let behind = Setup::new(OpensslConf::new(), vec![asks]).file("roots.pem", &pki().root(key)?.pem);
    let behind = Nginx::start(platform, &with_own(behind))?;
    let token = Token::new(platform, kind)?;
    let client = site(&token, "client", "01", key)?;
    let proxy = Server::groups(GROUPS).lines(own_lines).lines(&format!(
        "location / {{ proxy_pass https://127.0.0.1:{}; proxy_ssl_session_reuse off; proxy_ssl_protocols TLSv1.3; \
         proxy_ssl_verify on; proxy_ssl_name localhost; proxy_ssl_trusted_certificate upstream.pem; \
         proxy_ssl_certificate client.pem; proxy_ssl_certificate_key client.key; }}",
        behind.port(0)
    ));
    let front =
        with_site(setup(&token, vec![proxy]), &token, &client).file("upstream.pem", &pki().root(ECDSA)?.pem);
    let front = Nginx::start(platform, &with_own(front))?;
    let outcome = rustls(ECDSA).and_then(|client| client.get(front.port(0))).and_then(|exchange| {
        ensure!(exchange.text.contains("verify=SUCCESS subject=CN=localhost"), "{}", exchange.text);
        Ok(())
    });
    then_quit(front, outcome)?;
    behind.quit()
}

// ---- keys that workers read while they serve ----

/// As APISIX and OpenResty do, and nginx where the file's name has a variable: the worker reads the key at each handshake.
#[test]
fn a_key_that_workers_read_at_each_handshake_costs_no_look_up_and_needs_a_pin_that_they_can_have() {
    let mut report = Report::new();
    for platform in [&DEBIAN_12, &DEBIAN_13] {
        for (what, pin) in [
            ("the master has read the key too", Some(true)),
            ("the PIN's file is the workers' own", None),
            ("the PIN's file is root's", Some(false)),
        ] {
            report.check(&format!("{}, {what}", platform.name), read_at_each_handshake(platform, pin));
        }
    }
    report.finish();
}

/// `root_pin`: the PIN's file is root's, and whether another site has the master read the same key.
fn read_at_each_handshake(platform: &'static Platform, root_pin: Option<bool>) -> Result<()> {
    let token = Token::new(platform, Kind::SoftHsm)?;
    let own = site(&token, "localhost", "01", ECDSA)?;
    if root_pin.is_none() {
        chown(token.directory().outside("pin"), Some(WORKERS), Some(WORKERS))?;
    }
    let faulty = Faulty::new(&token)?;
    let dynamic = server("ssl_certificate $ssl_server_name.pem; ssl_certificate_key $ssl_server_name.key;");
    let fixed = root_pin.unwrap_or(false).then(|| server(&lines(&own)));
    let setup = Setup::new(faulty.openssl_conf(), [dynamic].into_iter().chain(fixed).collect());
    let setup = with_site(setup.workers(2).variable(token.environment()), &token, &own);
    let nginx = Nginx::start(platform, &setup)?;
    let outcome = (|| {
        if root_pin == Some(false) {
            ensure!(rustls(ECDSA)?.get(nginx.port(0)).is_err(), "a handshake without PIN");
            let log = nginx.error_log()?;
            let file = token.directory().inside("pin");
            ensure!(log.contains("object=localhost") && log.contains(&file), "it does not name the file");
            return Ok(());
        }
        every_worker_serves(&nginx, 0, &own)?;
        let before = faulty.calls("C_FindObjectsInit")? + faulty.calls("C_Login")?;
        let client = rustls(ECDSA)?;
        (0..20).try_for_each(|_| client.get(nginx.port(0)).map(drop))?;
        let after = faulty.calls("C_FindObjectsInit")? + faulty.calls("C_Login")?;
        ensure!(after == before, "{} look-ups and logins in 20 handshakes", after - before);
        Ok(())
    })();
    then_quit(nginx, outcome)
}

// ---- the token is away ----

#[test]
fn with_a_key_ref_file_nginx_starts_and_reloads_without_the_token_and_serves_every_other_site() {
    let mut report = Report::new();
    for (platform, kind, key) in [
        (&DEBIAN_12, Kind::SoftHsm, ECDSA),
        (&DEBIAN_12, Kind::SoftHsm, RSA),
        (&DEBIAN_13, Kind::Kryoptic, ML_DSA_65),
        (&NGINX_ON_3_4_1, Kind::Kryoptic, ML_DSA_65),
    ] {
        report.check(&format!("{} {}", platform.name, key.name), without_the_token(platform, kind, key));
    }
    report.finish();
}

fn without_the_token(platform: &'static Platform, kind: Kind, key: KeyType) -> Result<()> {
    let token = Token::new(platform, kind)?;
    let away = site(&token, "away", "01", key)?;
    let key_ref = token.key_ref("away")?;
    let own = pki().leaf(ECDSA, ECDSA)?;
    let other = server("ssl_certificate own.pem; ssl_certificate_key own.key;");
    let setup = setup(&token, vec![server(&lines(&away)), other])
        .file("away.pem", &away.leaf.chain)
        .file("away.key", &key_ref)
        .file("own.pem", &own.chain)
        .file("own.key", &own.key);
    token.take_away()?;
    let nginx = Nginx::start(platform, &setup)?;
    let outcome = (|| {
        let other = rustls(ECDSA)?;
        other.get(nginx.port(1)).context("the site with its key in a file")?;
        ensure!(rustls(key)?.get(nginx.port(0)).is_err(), "a handshake without the token");
        nginx.reload()?;
        other.get(nginx.port(1)).context("after a reload")?;
        token.give_back()?;
        wait_for("a handshake with the token that is back", || Ok(rustls(key)?.get(nginx.port(0)).ok()))?;
        Ok(())
    })();
    then_quit(nginx, outcome)
}

// ---- HAProxy ----

#[test]
fn haproxy_serves_with_four_threads_from_a_bounded_pool() {
    let mut report = Report::new();
    for (platform, kind, key) in [
        (&DEBIAN_12, Kind::SoftHsm, ECDSA),
        (&DEBIAN_12, Kind::SoftHsm, RSA),
        (&DEBIAN_13, Kind::SoftHsm, ECDSA),
        (&DEBIAN_13, Kind::Kryoptic, ML_DSA_65),
    ] {
        report.check(&format!("{} {kind:?} {}", platform.name, key.name), haproxy(platform, kind, key));
    }
    report.finish();
}

fn haproxy(platform: &'static Platform, kind: Kind, key: KeyType) -> Result<()> {
    let token = Token::new(platform, kind)?;
    let own = site(&token, "own", "01", key)?;
    let directory = WorkDir::new(platform)?;
    // Fewer sessions than threads: some wait.
    let conf = token.openssl_conf().provider_line("pkcs11-sessions = 2");
    let conf = directory.write_openssl_conf("openssl.cnf", &conf)?;
    let both = directory.write("both.pem", &format!("{}{}", own.leaf.chain, uri_pem(&token.uri("own"))))?;
    let port = free_port()?;
    let text = format!(
        "global\n  nbthread 4\n  user www-data\n  group www-data\n  maxconn 200\n  tune.ssl.cachesize 0\n\
         defaults\n  mode http\n  timeout connect 10s\n  timeout client 20s\n  timeout server 20s\n\
         frontend tls\n  bind 127.0.0.1:{port} ssl crt {both} curves {HYBRID} ssl-min-ver TLSv1.3 no-tls-tickets\n  \
         http-request return status 200 content-type text/plain string \"served\\n\"\n"
    );
    let file = directory.write("haproxy.cfg", &text)?;
    let mut command = token.command("/usr/sbin/haproxy")?;
    command.env("OPENSSL_CONF", conf).args(["-db", "-f", &file]);
    let mut haproxy = Process::spawn("haproxy", command, directory.outside("haproxy.output"))?;
    haproxy.wait_for_port(port)?;
    let client = rustls(key)?;
    let outcome = thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    (0..25).try_for_each(|_| {
                        let exchange = client.get(port)?;
                        ensure!(exchange.text.ends_with("served\n"), "{}", exchange.text);
                        Ok(())
                    })
                })
            })
            .collect();
        clients.into_iter().try_for_each(|client| client.join().expect("a client thread"))
    });
    let status = haproxy.stop(Signal::USR1)?;
    outcome.with_context(|| format!("haproxy wrote:\n{}", haproxy.output()))?;
    ensure!(status.success(), "haproxy ended with {status}:\n{}", haproxy.output());
    Ok(())
}

// ---- a clean end ----

/// Invalid accesses, use of undefined memory, and memory lost for good are errors. With direct calls: what a token's thread had
/// from libcrypto (random generators of its own, for SoftHSM) is lost where it ends after libcrypto was cleaned up.
#[test]
fn valgrind_finds_nothing_in_a_server_with_a_key_in_softhsm() {
    let mut report = Report::new();
    let all = [(&DEBIAN_12, ECDSA), (&DEBIAN_13, RSA), (&DEBIAN_12, RSA), (&DEBIAN_13, ECDSA)];
    for (platform, key) in if full() { &all[..] } else { &all[..2] } {
        report.check(&format!("{} {}", platform.name, key.name), server_under_valgrind(platform, *key));
    }
    report.finish();
}

fn server_under_valgrind(platform: &'static Platform, key: KeyType) -> Result<()> {
    const HANDSHAKES: usize = 3;
    let token = Token::new(platform, Kind::SoftHsm)?;
    let own = site(&token, "own", "01", key)?;
    let directory = WorkDir::new(platform)?;
    let direct = token.openssl_conf().provider_line("pkcs11-timeout-ms = 0");
    let conf = directory.write_openssl_conf("openssl.cnf", &direct)?;
    let chain = directory.write("own.pem", &own.leaf.chain)?;
    let file = directory.write("own.key", &uri_pem(&token.uri("own")))?;
    let port = free_port()?;
    let mut command = platform.command_with_proc("valgrind")?;
    command
        .envs([token.environment()])
        .env("OPENSSL_CONF", conf)
        .args(["--error-exitcode=99", "--leak-check=full", "--errors-for-leak-kinds=definite"])
        .args(["--show-leak-kinds=definite", "--num-callers=30"])
        .args(["/usr/bin/openssl", "s_server", "-www", "-tls1_3", "-groups", HYBRID])
        // One connection is the harness', which looks whether it listens.
        .args(["-naccept", &(1 + HANDSHAKES).to_string(), "-accept", &format!("127.0.0.1:{port}")])
        .args(["-cert", &chain, "-key", &file]);
    let mut server =
        Process::spawn("s_server under valgrind", command, directory.outside("valgrind.output"))?;
    server.wait_for_port(port)?;
    let client = rustls(key)?;
    (0..HANDSHAKES).try_for_each(|_| client.handshake(port).map(drop)).with_context(|| server.output())?;
    let status = server.wait()?;
    ensure!(status.success(), "the server ended with {status}:\n{}", server.output());
    ensure!(server.output().contains("ERROR SUMMARY: 0 errors"), "no summary:\n{}", server.output());
    Ok(())
}

// ---- commands ----

/// A shell whose `openssl` finds the token.
fn shell(token: &Token) -> Result<OpensslShell> {
    let (name, value) = token.environment();
    Ok(OpensslShell::new(token.platform, &token.openssl_conf())?.variable(&name, &value))
}

#[test]
fn openssl_signs_requests_certificates_digests_and_messages_with_a_key_named_by_uri() {
    let mut report = Report::new();
    for (platform, kind, keys) in [
        (&DEBIAN_12, Kind::SoftHsm, &[RSA, ECDSA][..]),
        (&OPENSSL_3_4_1, Kind::Kryoptic, &[ECDSA, ML_DSA_65]),
        (&DEBIAN_13, Kind::SoftHsm, &[RSA, ECDSA]),
        (&DEBIAN_13, Kind::Kryoptic, &[RSA, ECDSA, ML_DSA_65]),
        (&DEBIAN_SID, Kind::SoftHsm, &[RSA, ECDSA]),
        (&DEBIAN_SID, Kind::Kryoptic, &[ML_DSA_87]),
    ] {
        for key in keys {
            let what = format!("{} {kind:?} {}", platform.name, key.name);
            report.check(&what, commands(platform, kind, *key));
        }
    }
    report.finish();
}

fn commands(platform: &'static Platform, kind: Kind, key: KeyType) -> Result<()> {
    let token = Token::new(platform, kind)?;
    let own = site(&token, "own", "01", key)?;
    let shell = shell(&token)?;
    shell.write("own.pem", own.leaf.chain.as_bytes())?;
    shell.write("root.pem", pki().root(key)?.pem.as_bytes())?;
    shell.write("uri.pem", uri_pem(&token.uri("own")).as_bytes())?;
    let uri = format!("URI='{}'\n", token.uri("own"));
    let run = |what: &str, script: &str| shell.succeed(&format!("{uri}{script}")).context(what.to_owned());
    run(
        "the public key",
        "echo a message > message
         openssl x509 -in own.pem -noout -pubkey > expected.pub
         openssl pkey -in \"$URI\" -pubout -out own.pub
         cmp own.pub expected.pub
         openssl pkey -in uri.pem -pubout | cmp - expected.pub",
    )?;
    run(
        "a request and a certificate of its own",
        "openssl req -new -key \"$URI\" -subj /CN=own -out own.csr
         openssl req -in own.csr -verify -noout
         openssl req -x509 -key uri.pem -subj /CN=own -days 2 -addext basicConstraints=critical,CA:TRUE -out ca.crt
         openssl verify -CAfile ca.crt ca.crt",
    )?;
    run(
        "a certificate for another key",
        "openssl genpkey -algorithm EC -pkeyopt group:P-256 -out other.key
         openssl req -new -key other.key -subj /CN=other -out other.csr
         openssl x509 -req -in other.csr -CA ca.crt -CAkey \"$URI\" -days 2 -out other.crt
         openssl verify -CAfile ca.crt other.crt",
    )?;
    if matches!(key, RSA | ECDSA) {
        run(
            "a digest",
            "for hash in sha256 sha384 sha512; do
                 openssl dgst -$hash -sign \"$URI\" -out signature message
                 openssl dgst -$hash -verify own.pub -signature signature message
             done
             openssl dgst -sha256 -binary -out digest message
             openssl pkeyutl -sign -inkey \"$URI\" -in digest -pkeyopt digest:sha256 -out signature
             openssl pkeyutl -verify -pubin -inkey own.pub -in digest -sigfile signature -pkeyopt digest:sha256",
        )?;
    } else {
        run(
            "a message",
            "openssl pkeyutl -sign -rawin -inkey \"$URI\" -in message -out signature
             openssl pkeyutl -verify -rawin -pubin -inkey own.pub -in message -sigfile signature",
        )?;
    }
    if key == RSA {
        run(
            "PSS",
            "for salt in digest max 20; do
                 openssl dgst -sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:$salt -sign \"$URI\" \
                     -out signature message
                 openssl dgst -sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:$salt -verify own.pub \
                     -signature signature message
             done",
        )?;
    }
    run(
        "CMS",
        "openssl cms -sign -nodetach -md sha512 -in message -signer own.pem -inkey \"$URI\" -outform DER -out message.cms
         openssl cms -verify -inform DER -in message.cms -CAfile root.pem -purpose any -out /dev/null",
    )?;
    Ok(())
}

#[test]
fn a_certificate_in_the_token_is_read_by_uri() {
    let mut report = Report::new();
    for platform in [&DEBIAN_12, &DEBIAN_13] {
        let outcome = (|| {
            let token = Token::new(platform, Kind::SoftHsm)?;
            let shell = shell(&token)?;
            let leaf = pki().leaf(ECDSA, ECDSA)?;
            shell.write("own.pem", leaf.chain.as_bytes())?;
            shell.succeed("openssl x509 -in own.pem -outform DER -out own.der")?;
            let der = shell.directory.inside("own.der");
            token.pkcs11_tool(&["--write-object", &der, "--type", "cert", "--label", "own", "--id", "09"])?;
            shell.succeed(&format!(
                "openssl x509 -in own.pem -noout -fingerprint -sha256 > expected
                 openssl x509 -in 'pkcs11:token={};object=own;type=cert' -noout -fingerprint -sha256 | cmp - expected",
                token.label
            ))?;
            Ok(())
        })();
        report.check(platform.name, outcome);
    }
    report.finish();
}

/// The private half never leaves the token, whatever is asked for.
#[test]
fn a_private_key_in_the_token_is_not_exported() {
    let mut report = Report::new();
    for (platform, kind, key) in [
        (&DEBIAN_12, Kind::SoftHsm, RSA),
        (&DEBIAN_12, Kind::SoftHsm, ECDSA),
        (&DEBIAN_13, Kind::Kryoptic, ML_DSA_65),
    ] {
        let outcome = (|| {
            let token = Token::new(platform, kind)?;
            site(&token, "own", "01", key)?;
            let shell = shell(&token)?;
            for arguments in ["-out out.key", "-outform DER -out out.key", "-traditional -out out.key"] {
                let run = shell.run(&format!("openssl pkey -in '{}' {arguments}", token.uri("own")))?;
                let written = shell.read("out.key").unwrap_or_default();
                ensure!(!run.status.success() && written.is_empty(), "{arguments}: {}", run.text());
            }
            Ok(())
        })();
        report.check(&format!("{} {}", platform.name, key.name), outcome);
    }
    report.finish();
}

// ---- who else has the same openssl.cnf ----

/// What programs do with files, and what they say when something is wrong with one.
const WITH_FILES: [&str; 12] = [
    "openssl pkey -in rsa.key -noout -text",
    "openssl pkey -in ec.key -pubout",
    "openssl pkey -in ed25519.key -pubout",
    "openssl pkey -in encrypted.key -passin pass:secret -noout -text",
    "openssl pkey -in encrypted.key -passin pass:wrong -noout",
    "openssl pkey -in garbage -noout",
    "openssl pkey -in missing -noout",
    "openssl dgst -sha256 -sign rsa.key message | openssl base64",
    "openssl rsautl -verify -in signature -inkey rsa.key",
    "openssl pkcs12 -in both.p12 -passin pass:secret -nodes",
    "openssl list -signature-algorithms | grep '@ default'",
    "openssl storeutl -noout -keys rsa.key",
];

/// The module of this configuration does not even exist: whoever asked for it would fail.
#[test]
fn keys_from_files_and_other_programs_behave_as_without_a_token() {
    let mut report = Report::new();
    for platform in [&DEBIAN_12, &OPENSSL_3_4_1, &DEBIAN_13, &DEBIAN_SID] {
        let outcome = (|| {
            let without = OpensslShell::new(platform, &OpensslConf::new())?;
            without.succeed(
                "openssl genpkey -algorithm RSA -pkeyopt bits:2048 -out rsa.key
                 openssl genpkey -algorithm EC -pkeyopt group:P-256 -out ec.key
                 openssl genpkey -algorithm ED25519 -out ed25519.key
                 openssl pkey -in ec.key -aes256 -passout pass:secret -out encrypted.key
                 openssl req -x509 -key ec.key -subj /CN=own -days 2 -out own.crt
                 openssl pkcs12 -export -in own.crt -inkey ec.key -passout pass:secret -out both.p12
                 echo a message > message
                 openssl dgst -sha256 -sign rsa.key -out signature message
                 echo garbage > garbage",
            )?;
            let conf = OpensslConf::new()
                .provider_line("pkcs11-module = /nowhere/token.so")
                .provider_line("pkcs11-pin-source = file:/nowhere/pin");
            let conf = without.directory.write_openssl_conf("token.cnf", &conf)?;
            for command in WITH_FILES {
                let expected = without.run(command)?;
                let found = without.run(&format!("export OPENSSL_CONF={conf}\n{command}"))?;
                let told = |run: &qtls_tests::shell::ScriptRun| {
                    // Each error begins with the number of the thread.
                    let errors: Vec<&str> = run.errors.lines().map(without_thread).collect();
                    format!("{}\n{}{}", run.status, run.output, errors.join("\n"))
                };
                ensure!(
                    told(&found) == told(&expected),
                    "{command}:\n{}\nnot\n{}",
                    told(&found),
                    told(&expected)
                );
            }
            Ok(())
        })();
        report.check(platform.name, outcome);
    }
    report.finish();
}

fn without_thread(line: &str) -> &str {
    line.split_once(":error:").map_or(line, |(_, rest)| rest)
}
