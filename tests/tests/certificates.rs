//! Certificates: which a server can have, which a client gets, and what is verified, on every OpenSSL.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use qtls_tests::{
    Native, OpensslConf, Platform, WorkDir,
    nginx::{ANSWER, Nginx, Server, Setup},
    openssl::{ClientRun, OpensslClient, OpensslServer},
    pki::{COMPOSITE, ECDSA, KeyType, Leaf, ML_DSA, ML_DSA_65, RSA, pki, strangers},
    platform::{DEBIAN_12, DEBIAN_13, DEBIAN_SID, NGINX_ON_3_4_1, OPENSSL_3_0_2, OPENSSL_3_4_1, OPENSSL_4_0},
    report::Report,
    rustls_client::{RustlsClient, presents},
};
use rustls::SignatureScheme;

const HYBRID: &str = "X25519MLKEM768";
const GROUPS: &str = "X25519MLKEM768:X25519";

/// Every nginx whose libssl knows ML-DSA in TLS, by the provider or by itself.
fn modern_nginx() -> Vec<(&'static Platform, Native)> {
    [&NGINX_ON_3_4_1, &DEBIAN_13, &DEBIAN_SID]
        .into_iter()
        .flat_map(|platform| platform.native_modes().iter().map(move |native| (platform, *native)))
        .collect()
}

/// What answers with nginx's view of the connection and of the client's certificate.
fn answers() -> String {
    format!("location / {{ return 200 \"{ANSWER} verify=$ssl_client_verify subject=$ssl_client_s_dn\\n\"; }}")
}

/// A server's lines for certificates in these files: `NAME.pem` and `NAME.key`.
fn certificates(names: &[&str]) -> String {
    let line = |name: &&str| format!("ssl_certificate {name}.pem; ssl_certificate_key {name}.key;\n");
    names.iter().map(line).collect()
}

/// Adds a chain and its key under this name.
fn with_leaf(setup: Setup, name: &str, leaf: &Leaf) -> Setup {
    setup.file(&format!("{name}.pem"), &leaf.chain).file(&format!("{name}.key"), &leaf.key)
}

/// Connects with `openssl s_client`, which trusts these roots; with a certificate of its own where there is one.
fn s_client(
    client: &OpensslClient,
    port: u16,
    groups: &str,
    roots: &str,
    certificate: Option<&Leaf>,
    more: &[&str],
) -> Result<ClientRun> {
    let directory = client.directory();
    let roots = directory.write("roots.pem", roots)?;
    let mut arguments = vec!["-tls1_3", "-CAfile", &roots];
    let own = certificate.map(|leaf| own_certificate(directory, leaf)).transpose()?.unwrap_or_default();
    arguments.extend(own.iter().map(String::as_str));
    arguments.extend(more);
    client.get(port, groups, &arguments)
}

/// The arguments of `s_client` and `s_server` for a certificate of their own.
fn own_certificate(directory: &WorkDir, leaf: &Leaf) -> Result<Vec<String>> {
    let mut arguments = vec!["-cert".to_owned(), directory.write("own.pem", &leaf.chain)?];
    arguments.extend(["-key".to_owned(), directory.write("own.key", &leaf.key)?]);
    if !leaf.intermediates.is_empty() {
        arguments.extend(["-cert_chain".to_owned(), directory.write("between.pem", &leaf.intermediates)?]);
    }
    Ok(arguments)
}

/// Checks that a server lets nobody in with this certificate: by an alert, or by nginx's page for it.
fn refuses(client: &OpensslClient, port: u16, root: KeyType, certificate: &Leaf) -> Result<()> {
    match s_client(client, port, HYBRID, &pki().root(root)?.pem, Some(certificate), &[]) {
        // With TLS 1.3 the client's side of the handshake is complete before the server refuses.
        Err(error) if format!("{error:#}").contains(" alert ") => Ok(()),
        outcome => {
            let run = outcome?;
            ensure!(run.text.contains("400 The SSL certificate error"), "it got in:\n{}", run.text);
            Ok(())
        }
    }
}

/// Ends nginx and returns its log with whatever failed.
fn then_quit(nginx: Nginx, outcome: Result<()>) -> Result<()> {
    outcome.with_context(|| {
        let log = nginx.error_log().unwrap_or_default();
        let lines: Vec<&str> = log.lines().filter(|line| line.contains("SSL")).collect();
        format!("nginx logged {lines:?}")
    })?;
    nginx.quit()
}

// ---- a server's certificate, and which client gets which ----

#[test]
fn nginx_serves_an_ml_dsa_certificate_of_each_kind_with_either_exchange_to_every_client() {
    let mut report = Report::new();
    let clients = ml_dsa_clients();
    for (platform, native) in modern_nginx() {
        let outcome = ml_dsa_servers(native).and_then(|setup| Nginx::start(platform, &setup));
        let nginx = outcome.unwrap_or_else(|error| panic!("{} {native:?}: {error:#}", platform.name));
        for (index, (key, scheme, _)) in ML_DSA.into_iter().enumerate() {
            for group in GROUPS.split(':') {
                let what = |client: &str| format!("{} {native:?} {scheme} {group}, {client}", platform.name);
                for client in &clients {
                    let outcome = gets_ml_dsa(client, nginx.port(index), group, key, scheme);
                    report.check(&what(&client.name()), outcome);
                }
                report.check(&what("rustls"), rustls_gets(nginx.port(index), group, key));
            }
        }
        report.check(&format!("{} {native:?} ends well", platform.name), then_quit(nginx, Ok(())));
    }
    report.finish();
}

#[test]
fn s_server_of_openssl_4_0_serves_an_ml_dsa_certificate_of_each_kind_to_every_client() {
    let mut report = Report::new();
    let clients = ml_dsa_clients();
    for native in [Native::Yield, Native::Prefer] {
        for (key, scheme, _) in ML_DSA {
            let conf = OpensslConf::new().native(native);
            let server =
                s_server(&OPENSSL_4_0, &conf, &pki().leaf_of_intermediate(ML_DSA_65, key).unwrap(), &[])
                    .unwrap_or_else(|error| panic!("{scheme}: {error:#}"));
            for group in GROUPS.split(':') {
                let what = |client: &str| format!("{native:?} {scheme} {group}, {client}");
                for client in &clients {
                    report.check(
                        &what(&client.name()),
                        gets_ml_dsa(client, server.port, group, key, scheme)
                            .with_context(|| format!("the server wrote:\n{}", server.output())),
                    );
                }
                report.check(&what("rustls"), rustls_gets(server.port, group, key));
            }
        }
    }
    report.finish();
}

/// A server for each kind of ML-DSA.
fn ml_dsa_servers(native: Native) -> Result<Setup> {
    let servers = ML_DSA
        .map(|(_, scheme, _)| Server::groups(GROUPS).lines(&certificates(&[scheme])).lines(&answers()))
        .to_vec();
    ML_DSA
        .into_iter()
        .try_fold(Setup::new(OpensslConf::new().native(native), servers), |setup, (key, scheme, _)| {
            Ok(with_leaf(setup, scheme, &*pki().leaf_of_intermediate(ML_DSA_65, key)?))
        })
}

/// OpenSSL's own ML-DSA, and ours where OpenSSL has none.
fn ml_dsa_clients() -> Vec<OpensslClient> {
    let native = [&DEBIAN_13, &DEBIAN_SID, &OPENSSL_4_0].map(OpensslClient::native);
    let ours = OpensslClient::with_provider(&OPENSSL_3_4_1, &OpensslConf::new());
    native.into_iter().chain([ours]).collect::<Result<_>>().unwrap_or_else(|error| panic!("{error:#}"))
}

fn gets_ml_dsa(client: &OpensslClient, port: u16, group: &str, key: KeyType, scheme: &str) -> Result<()> {
    let run = s_client(client, port, group, &pki().root(ML_DSA_65)?.pem, None, &[])?;
    ensure!(run.connected, "no connection:\n{}", run.text);
    // Before 3.5 it is an object's name: `id-ml-dsa-65`.
    signed_by(&run, &[scheme, &format!("id-{}", key.name)])?;
    run.group.map_or(Ok(()), |found| {
        ensure!(found == group, "the group is {found}");
        Ok(())
    })
}

/// Checks how the server signed, by any of the names that an OpenSSL may print.
fn signed_by(run: &ClientRun, names: &[&str]) -> Result<()> {
    let found = run.signature.as_deref().with_context(|| format!("no signature type in:\n{}", run.text))?;
    ensure!(
        names.iter().any(|name| name.eq_ignore_ascii_case(found)),
        "the server signed by {found}, not {names:?}"
    );
    Ok(())
}

fn rustls_gets(port: u16, group: &str, key: KeyType) -> Result<()> {
    let leaf = pki().leaf_of_intermediate(ML_DSA_65, key)?;
    let root = pki().root(ML_DSA_65)?.der.clone();
    let exchange = RustlsClient::with_certificates(group, &[root], None, None)?.get(port)?;
    ensure!(exchange.group == group, "the group is {}", exchange.group);
    ensure!(exchange.chain.first() == Some(leaf.der()), "it got another certificate");
    Ok(())
}

/// `s_server` with this certificate.
fn s_server(platform: &Platform, conf: &OpensslConf, leaf: &Leaf, more: &[&str]) -> Result<OpensslServer> {
    let directory = WorkDir::new(platform)?;
    let own = own_certificate(&directory, leaf)?;
    let arguments: Vec<&str> = own.iter().map(String::as_str).chain(more.iter().copied()).collect();
    OpensslServer::start_in(platform, directory, conf, GROUPS, &arguments)
}

// ---- OpenSSL 3.0 ----

#[test]
fn on_openssl_3_0_classical_leaves_under_ml_dsa_and_composite_authorities_pass_at_security_level_2() {
    let mut report = Report::new();
    for root in [ML_DSA_65, COMPOSITE] {
        for key in [ECDSA, RSA] {
            for intermediate in [false, true] {
                let leaf =
                    if intermediate { pki().leaf_of_intermediate(root, key) } else { pki().leaf(root, key) };
                let leaf = leaf.unwrap_or_else(|error| panic!("{error:#}"));
                let what = format!("{} under {}, intermediate: {intermediate}", key.name, root.name);
                report.check(&format!("nginx, {what}"), nginx_on_3_0(root, &leaf));
                report.check(&format!("s_server of 3.0.2, {what}"), s_server_of_3_0_2(root, &leaf));
            }
        }
    }
    report.finish();
}

const LEVEL_2: &str = "DEFAULT:@SECLEVEL=2";

fn nginx_on_3_0(root: KeyType, leaf: &Leaf) -> Result<()> {
    let mtls = "ssl_client_certificate roots.pem; ssl_verify_depth 3;";
    let with = |lines: &str| {
        Server::groups(GROUPS)
            .lines(&certificates(&["leaf"]))
            .lines(&format!("ssl_ciphers {LEVEL_2};"))
            .lines(lines)
            .lines(&answers())
    };
    let servers = vec![with(""), with(&format!("{mtls} ssl_verify_client on;"))];
    let setup = with_leaf(Setup::new(OpensslConf::new(), servers), "leaf", leaf)
        .file("roots.pem", &pki().root(root)?.pem);
    let nginx = Nginx::start(&DEBIAN_12, &setup)?;
    let outcome = (|| {
        verified_by_everyone(nginx.port(0), root, leaf, None, "NONE")?;
        verified_by_everyone(nginx.port(1), root, leaf, Some(leaf), "SUCCESS")?;
        let client = OpensslClient::with_provider(&DEBIAN_12, &OpensslConf::new())?;
        refuses(&client, nginx.port(1), root, &*strangers().leaf(root, ECDSA)?)
    })();
    then_quit(nginx, outcome)
}

/// The clients that can verify such a chain; those on 3.0 at security level 2 as well.
fn verified_by_everyone(
    port: u16,
    root: KeyType,
    leaf: &Leaf,
    own: Option<&Leaf>,
    verdict: &str,
) -> Result<()> {
    let conf = OpensslConf::new();
    for (platform, level) in [
        (&DEBIAN_12, LEVEL_2),
        (&OPENSSL_3_0_2, LEVEL_2),
        (&OPENSSL_3_4_1, "DEFAULT"),
        (&DEBIAN_13, "DEFAULT"),
    ] {
        let client = OpensslClient::with_provider(platform, &conf)?;
        let run = s_client(&client, port, HYBRID, &pki().root(root)?.pem, own, &["-cipher", level])?;
        ensure!(run.connected, "{}: no connection:\n{}", client.name(), run.text);
        ensure!(
            verdict.is_empty() || run.text.contains(&format!("verify={verdict} ")),
            "{}: not {verdict}:\n{}",
            client.name(),
            run.text
        );
    }
    if root == ML_DSA_65 {
        let own = own.map(|own| presents(&own.chain_der, own.key_der()?)).transpose()?;
        let own = own.map(|own| own as Arc<dyn rustls::client::ResolvesClientCert>);
        let roots = [pki().root(root)?.der.clone()];
        let exchange = RustlsClient::with_certificates(HYBRID, &roots, None, own)?.get(port)?;
        ensure!(exchange.chain.first() == Some(leaf.der()), "rustls got another certificate");
        ensure!(
            verdict.is_empty() || exchange.text.contains(&format!("verify={verdict} ")),
            "{}",
            exchange.text
        );
    }
    Ok(())
}

fn s_server_of_3_0_2(root: KeyType, leaf: &Leaf) -> Result<()> {
    let roots = WorkDir::new(&OPENSSL_3_0_2)?;
    let roots_file = roots.write("roots.pem", &pki().root(root)?.pem)?;
    let mtls = ["-cipher", LEVEL_2, "-Verify", "3", "-verify_return_error", "-CAfile", &roots_file];
    let server = s_server(&OPENSSL_3_0_2, &OpensslConf::new(), leaf, &mtls)?;
    verified_by_everyone(server.port, root, leaf, Some(leaf), "")?;
    let client = OpensslClient::with_provider(&DEBIAN_12, &OpensslConf::new())?;
    refuses(&client, server.port, root, &*strangers().leaf(root, ECDSA)?)
}

// ---- several certificates on one name ----

/// OpenSSL 3.5 and newer know the names of the schemes, 3.4 those of the keys; a question mark passes over the other.
const SCHEMES: &str = "?mldsa65:?ML-DSA-65:?mldsa87:?ML-DSA-87:?mldsa44:?ML-DSA-44:\
                       ECDSA+SHA256:ECDSA+SHA384:RSA-PSS+SHA256:RSA-PSS+SHA384:RSA-PSS+SHA512:RSA+SHA256";

/// Clients by what they offer, and what a server with three certificates is to choose.
const BY_SERVERS_ORDER: [(&[SignatureScheme], KeyType); 4] =
    [(&[MLDSA65, EC, PSS], ML_DSA_65), (&[EC, PSS, MLDSA65], ML_DSA_65), (&[PSS, EC], ECDSA), (&[PSS], RSA)];
const MLDSA65: SignatureScheme = SignatureScheme::ML_DSA_65;
const EC: SignatureScheme = SignatureScheme::ECDSA_NISTP256_SHA256;
const PSS: SignatureScheme = SignatureScheme::RSA_PSS_SHA256;

#[test]
fn with_three_certificates_on_one_name_each_client_gets_the_best_that_it_knows() {
    let mut report = Report::new();
    for (platform, native) in modern_nginx() {
        let in_nginx =
            format!("ssl_prefer_server_ciphers on; ssl_conf_command SignatureAlgorithms {SCHEMES};");
        let in_openssl_cnf = OpensslConf::new().tls_line(&format!("SignatureAlgorithms = {SCHEMES}"));
        for (what, conf, lines) in [
            ("in nginx.conf", OpensslConf::new(), in_nginx.as_str()),
            ("in openssl.cnf", in_openssl_cnf, "ssl_prefer_server_ciphers on;"),
        ] {
            let outcome = three_certificates(platform, conf.native(native), lines, &BY_SERVERS_ORDER);
            report.check(&format!("{} {native:?}, {what}", platform.name), outcome);
        }
    }
    report.finish();
}

/// Why the lines above are needed.
#[test]
fn without_the_servers_order_the_client_decides_and_openssl_3_4_puts_ml_dsa_last() {
    let by_clients_order = [
        (&[MLDSA65, EC, PSS][..], ML_DSA_65),
        (&[EC, PSS, MLDSA65], ECDSA),
        (&[PSS, EC], RSA),
        (&[PSS], RSA),
    ];
    let ml_dsa_last =
        [(&[MLDSA65, EC, PSS][..], ECDSA), (&[EC, PSS, MLDSA65], ECDSA), (&[PSS, EC], ECDSA), (&[PSS], RSA)];
    let mut report = Report::new();
    for (platform, native) in modern_nginx() {
        let conf = OpensslConf::new().native(native);
        let what = format!("{} {native:?}", platform.name);
        report.check(&what, three_certificates(platform, conf.clone(), "", &by_clients_order));
        let expected = if platform.has_native_groups() { &BY_SERVERS_ORDER } else { &ml_dsa_last };
        let outcome = three_certificates(platform, conf, "ssl_prefer_server_ciphers on;", expected);
        report.check(&format!("{what}, OpenSSL's own list"), outcome);
    }
    report.finish();
}

fn three_certificates(
    platform: &Platform,
    conf: OpensslConf,
    lines: &str,
    expected: &[(&[SignatureScheme], KeyType)],
) -> Result<()> {
    let server = Server::groups(GROUPS)
        .lines(&certificates(&[RSA, ECDSA, ML_DSA_65].map(|key| key.name)))
        .lines(lines)
        .lines(&answers());
    let mut setup = Setup::new(conf, vec![server]);
    for key in [RSA, ECDSA, ML_DSA_65] {
        setup = with_leaf(setup, key.name, &*pki().leaf(key, key)?);
    }
    let nginx = Nginx::start(platform, &setup)?;
    let outcome = expected.iter().try_for_each(|(schemes, key)| chooses(nginx.port(0), schemes, *key));
    then_quit(nginx, outcome)
}

/// Checks which certificate clients with these schemes get: rustls, OpenSSL's own and ours.
fn chooses(port: u16, schemes: &[SignatureScheme], key: KeyType) -> Result<()> {
    let roots = [ECDSA, RSA, ML_DSA_65];
    let ders = roots.iter().map(|root| Ok(pki().root(*root)?.der.clone())).collect::<Result<Vec<_>>>()?;
    let exchange = RustlsClient::with_certificates(HYBRID, &ders, Some(schemes), None)?.get(port)?;
    let leaf = pki().leaf(key, key)?;
    ensure!(exchange.chain.first() == Some(leaf.der()), "rustls with {schemes:?} did not get {}", key.name);
    for (client, ml_dsa) in [
        (OpensslClient::native(&DEBIAN_13)?, "mldsa65"),
        (OpensslClient::with_provider(&OPENSSL_3_4_1, &OpensslConf::new())?, "ML-DSA-65"),
    ] {
        let names: Vec<&str> = schemes
            .iter()
            .map(|scheme| match *scheme {
                MLDSA65 => ml_dsa,
                EC => "ECDSA+SHA256",
                _ => "RSA-PSS+SHA256",
            })
            .collect();
        let sigalgs = names.join(":");
        let run = s_client(&client, port, HYBRID, &pki().roots(&roots)?, None, &["-sigalgs", &sigalgs])?;
        ensure!(run.connected, "{} with {sigalgs}: no connection:\n{}", client.name(), run.text);
        signed_with(&run, key).with_context(|| format!("{} with {sigalgs}", client.name()))?;
    }
    Ok(())
}

/// Checks the type of key that the server signed with, by any of the names that an OpenSSL prints for it.
fn signed_with(run: &ClientRun, key: KeyType) -> Result<()> {
    let names: &[&str] = match key {
        ECDSA => &["ECDSA", "ecdsa_secp256r1_sha256"],
        RSA => &["RSA-PSS", "rsa_pss_rsae_sha256"],
        _ => &["mldsa65", "id-ml-dsa-65"],
    };
    signed_by(run, names)
}

#[test]
fn s_server_of_openssl_4_0_chooses_between_two_certificates() {
    let mut report = Report::new();
    for native in [Native::Yield, Native::Prefer] {
        let outcome = (|| {
            let directory = WorkDir::new(&OPENSSL_4_0)?;
            let (ecdsa, ml_dsa) = (pki().leaf(ECDSA, ECDSA)?, pki().leaf(ML_DSA_65, ML_DSA_65)?);
            let second = [directory.write("2.pem", &ml_dsa.chain)?, directory.write("2.key", &ml_dsa.key)?];
            let conf = OpensslConf::new().native(native);
            let arguments = ["-dcert", &second[0], "-dkey", &second[1], "-serverpref", "-sigalgs", SCHEMES];
            let server = s_server(&OPENSSL_4_0, &conf, &ecdsa, &arguments)?;
            for (schemes, key) in &BY_SERVERS_ORDER[..3] {
                chooses(server.port, schemes, *key).with_context(|| server.output())?;
            }
            Ok(())
        })();
        report.check(&format!("{native:?}"), outcome);
    }
    report.finish();
}
