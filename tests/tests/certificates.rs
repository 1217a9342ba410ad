//! Certificates: which a server can have, which a client gets, and what is verified, on every OpenSSL.

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use qtls_tests::{
    Native, OpensslConf, Platform, WorkDir,
    nginx::{ANSWER, Nginx, Server, Setup},
    openssl::{ClientRun, OpensslClient, OpensslServer},
    pki::{COMPOSITE, ECDSA, KeyType, Leaf, ML_DSA, ML_DSA_65, RSA, pki, strangers},
    platform::{DEBIAN_12, DEBIAN_13, DEBIAN_SID, NGINX_ON_3_4_1, OPENSSL_3_0_2, OPENSSL_3_4_1, OPENSSL_4_0},
    process::wait_for,
    report::Report,
    rustls_client::{Exchange, RustlsClient, presents},
};
use rustls::{
    HandshakeKind, SignatureAlgorithm, SignatureScheme,
    sign::{CertifiedKey, Signer, SigningKey, SingleCertAndKey},
};

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

/// By the names of the keys: those of the schemes, `mldsa65`, are known from 3.5 on.
const SCHEMES: &str = "ML-DSA-65:ML-DSA-87:ML-DSA-44:\
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
    let by_scheme = "ssl_conf_command SignatureAlgorithms mldsa65:ECDSA+SHA256;";
    let outcome = three_certificates(&NGINX_ON_3_4_1, OpensslConf::new(), by_scheme, &BY_SERVERS_ORDER);
    let told = match outcome {
        Err(error) if format!("{error:#}").contains("bad value:cmd=SignatureAlgorithms") => Ok(()),
        outcome => Err(anyhow::anyhow!("{outcome:?}")),
    };
    report.check("nginx on OpenSSL 3.4.1 does not know the names of schemes", told);
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
    for client in [
        OpensslClient::native(&DEBIAN_13)?,
        OpensslClient::with_provider(&OPENSSL_3_4_1, &OpensslConf::new())?,
    ] {
        let names: Vec<&str> = schemes
            .iter()
            .map(|scheme| match *scheme {
                MLDSA65 => "ML-DSA-65",
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

// ---- client certificates ----

/// What a client may present, by root, key, and whether an intermediate stands between.
fn client_certificates() -> Result<Vec<(String, KeyType, Arc<Leaf>)>> {
    let mut leaves = Vec::new();
    for root in [ML_DSA_65, COMPOSITE] {
        for key in [ECDSA, ML_DSA[0].0, ML_DSA[1].0, ML_DSA[2].0] {
            let name = format!("{} under {}", key.name, root.name);
            leaves.push((name.clone(), root, pki().leaf(root, key)?));
            leaves.push((format!("{name}, intermediate"), root, pki().leaf_of_intermediate(root, key)?));
        }
    }
    Ok(leaves)
}

#[test]
fn nginx_verifies_client_chains_of_ml_dsa_and_under_a_composite_authority_and_refuses_others() {
    let mut report = Report::new();
    for (platform, native) in modern_nginx() {
        let what = format!("{} {native:?}", platform.name);
        let outcome =
            mtls(OpensslConf::new().native(native), "").and_then(|setup| Nginx::start(platform, &setup));
        let nginx = outcome.unwrap_or_else(|error| panic!("{what}: {error:#}"));
        for (name, root, leaf) in client_certificates().unwrap_or_else(|error| panic!("{error:#}")) {
            report.check(&format!("{what}: {name}"), client_is_verified(nginx.port(0), root, &leaf));
        }
        for (name, root) in [("ML-DSA", ML_DSA_65), ("composite", COMPOSITE)] {
            // The same names and types of keys as the trusted authority.
            let outcome =
                strangers().leaf(root, ML_DSA_65).and_then(|leaf| client_is_refused(nginx.port(0), &leaf));
            report.check(&format!("{what}: an unknown {name} authority"), outcome);
        }
        let outcome = pki().leaf(ECDSA, ML_DSA_65).and_then(|leaf| client_is_refused(nginx.port(0), &leaf));
        report.check(&format!("{what}: an authority that is not in the list"), outcome);
        report.check(&format!("{what}: no certificate"), no_certificate_is_refused(nginx.port(0)));
        report.check(&format!("{what}: a signature by another key"), another_key(nginx.port(0)));
        report.check(&format!("{what} ends well"), nginx.quit());
    }
    report.finish();
}

/// A server with an ECDSA certificate that asks for one under the ML-DSA or the composite root.
fn mtls(conf: OpensslConf, lines: &str) -> Result<Setup> {
    let server = Server::groups(GROUPS)
        .lines(&certificates(&["own"]))
        .lines("ssl_client_certificate roots.pem; ssl_verify_depth 3; ssl_verify_client on;")
        .lines(lines)
        .lines(&answers());
    let setup = Setup::new(conf, vec![server]).file("roots.pem", &pki().roots(&[ML_DSA_65, COMPOSITE])?);
    Ok(with_leaf(setup, "own", &*pki().leaf(ECDSA, ECDSA)?))
}

fn rustls_with(leaf: &Leaf) -> Result<RustlsClient> {
    let own = presents(&leaf.chain_der, leaf.key_der()?)?;
    RustlsClient::with_certificates(HYBRID, &[pki().root(ECDSA)?.der.clone()], None, Some(own))
}

fn client_is_verified(port: u16, root: KeyType, leaf: &Leaf) -> Result<()> {
    let text = rustls_with(leaf)?.get(port)?.text;
    ensure!(text.contains("verify=SUCCESS subject=CN=localhost"), "rustls: {text}");
    let mut clients = vec![OpensslClient::with_provider(&OPENSSL_3_4_1, &OpensslConf::new())?];
    if root == COMPOSITE {
        clients.push(OpensslClient::with_provider(&DEBIAN_13, &OpensslConf::new())?);
    } else {
        clients.push(OpensslClient::native(&DEBIAN_13)?);
        clients.push(OpensslClient::native(&OPENSSL_4_0)?);
    }
    for client in clients {
        let run = s_client(&client, port, HYBRID, &pki().root(ECDSA)?.pem, Some(leaf), &[])?;
        ensure!(run.text.contains("verify=SUCCESS "), "{}: {}", client.name(), run.text);
    }
    Ok(())
}

fn client_is_refused(port: u16, leaf: &Leaf) -> Result<()> {
    let text = rustls_with(leaf)?.get(port)?.text;
    ensure!(text.contains("400 The SSL certificate error"), "it got in: {text}");
    Ok(())
}

fn no_certificate_is_refused(port: u16) -> Result<()> {
    let roots = [pki().root(ECDSA)?.der.clone()];
    let text = RustlsClient::with_certificates(HYBRID, &roots, None, None)?.get(port)?.text;
    ensure!(text.contains("400 No required SSL certificate was sent"), "it got in: {text}");
    Ok(())
}

/// A chain that is right, and a key of its type that is not its own.
fn another_key(port: u16) -> Result<()> {
    let (right, other) = (pki().leaf(ML_DSA_65, ML_DSA_65)?, strangers().leaf(ML_DSA_65, ML_DSA_65)?);
    let own = presents(&right.chain_der, other.key_der()?)?;
    let roots = [pki().root(ECDSA)?.der.clone()];
    is_alerted(RustlsClient::with_certificates(HYBRID, &roots, None, Some(own))?.get(port))
}

fn is_alerted(outcome: Result<Exchange>) -> Result<()> {
    match outcome {
        Ok(exchange) => bail!("it got in: {}", exchange.text),
        Err(error) => {
            let text = format!("{error:#}");
            ensure!(text.contains("received fatal alert"), "no alert: {text}");
            Ok(())
        }
    }
}

#[test]
fn nginx_presents_an_ml_dsa_certificate_to_its_upstream() {
    let mut report = Report::new();
    for (platform, native) in modern_nginx() {
        for (key, scheme, _) in ML_DSA {
            let outcome = upstream(platform, OpensslConf::new().native(native), key);
            report.check(&format!("{} {native:?} {scheme}", platform.name), outcome);
        }
    }
    report.finish();
}

fn upstream(platform: &Platform, conf: OpensslConf, key: KeyType) -> Result<()> {
    let behind = Nginx::start(platform, &mtls(conf.clone(), "")?)?;
    let proxy = |lines: &str| {
        Server::groups(GROUPS).lines(&certificates(&["own"])).lines(&format!(
            "location / {{ proxy_pass https://127.0.0.1:{}; proxy_ssl_session_reuse off; proxy_ssl_protocols TLSv1.3; \
             proxy_ssl_verify on; proxy_ssl_name localhost; proxy_ssl_trusted_certificate upstream.pem; {lines} }}",
            behind.port(0)
        ))
    };
    let with = "proxy_ssl_certificate client.pem; proxy_ssl_certificate_key client.key;";
    let setup = Setup::new(conf, vec![proxy(with), proxy("")]).file("upstream.pem", &pki().root(ECDSA)?.pem);
    let setup = with_leaf(setup, "own", &*pki().leaf(ECDSA, ECDSA)?);
    let setup = with_leaf(setup, "client", &*pki().leaf_of_intermediate(ML_DSA_65, key)?);
    let front = Nginx::start(platform, &setup)?;
    let client = RustlsClient::with_certificates(HYBRID, &[pki().root(ECDSA)?.der.clone()], None, None)?;
    let outcome = (|| {
        let text = client.get(front.port(0))?.text;
        ensure!(text.contains("verify=SUCCESS subject=CN=localhost"), "{text}");
        let text = client.get(front.port(1))?.text;
        ensure!(text.contains("No required SSL certificate was sent"), "without one: {text}");
        Ok(())
    })();
    then_quit(front, outcome)?;
    behind.quit()
}

// ---- what a session holds ----

/// nginx keeps no session in its cache that is longer than a buffer of ngx_event_openssl.c, 4,096 bytes before 1.29.2 and
/// 8,192 since, and says nothing; a session holds the client's certificate.
#[test]
fn a_session_with_an_ml_dsa_client_certificate_is_too_long_for_the_cache_of_nginx_before_1_29_2() {
    let (ml_dsa, none) = (|key| Some((ML_DSA_65, key)), None);
    // Whether a session is resumed: by the cache of an old nginx, of a new one, and by stateless tickets.
    let cases = [
        ("no certificate", none, [true, true, true]),
        ("ECDSA under ML-DSA-65", ml_dsa(ECDSA), [true, true, true]),
        ("ML-DSA-44 under ML-DSA-65", ml_dsa(ML_DSA[0].0), [false, true, true]),
        ("ML-DSA-65 under ML-DSA-65", ml_dsa(ML_DSA[1].0), [false, true, true]),
        ("ML-DSA-87 under ML-DSA-65", ml_dsa(ML_DSA[2].0), [false, true, true]),
        ("ML-DSA-87 under ML-DSA-87", Some((ML_DSA[2].0, ML_DSA[2].0)), [false, true, true]),
        ("ML-DSA-65 under ECDSA", Some((ECDSA, ML_DSA_65)), [true, true, true]),
    ];
    let mut report = Report::new();
    for platform in [&NGINX_ON_3_4_1, &DEBIAN_13, &DEBIAN_SID] {
        let nginx = sessions(platform).unwrap_or_else(|error| panic!("{}: {error:#}", platform.name));
        let has_large_buffer = platform.nginx().is_ok_and(|(_, version)| version >= (1, 30));
        for (name, certificate, [old, new, ticket]) in cases {
            let cached = if has_large_buffer { new } else { old };
            for (server, how, expected) in [(0, "cache", cached), (1, "ticket", ticket)] {
                let outcome = resumes(nginx.port(server), certificate, expected);
                report.check(&format!("{}, {name}, {how}", platform.name), outcome);
            }
        }
        let told = nginx.error_log().map(|log| log.to_lowercase().contains("too large"));
        report.check(
            &format!("{}: the log says nothing of it", platform.name),
            told.and_then(|told| {
                ensure!(!told, "it does");
                Ok(())
            }),
        );
        report.check(&format!("{} ends well", platform.name), nginx.quit());
    }
    report.finish();
}

/// A server that keeps sessions, and one that gives them to its clients.
fn sessions(platform: &Platform) -> Result<Nginx> {
    let with = |lines: &str| {
        Server::groups(GROUPS)
            .lines(&certificates(&["own"]))
            .lines("ssl_client_certificate roots.pem; ssl_verify_client optional;")
            .lines(lines)
            .lines(&answers())
    };
    let setup = Setup::new(
        OpensslConf::new(),
        vec![
            with("ssl_session_tickets off; ssl_session_cache shared:kept:1m;"),
            with("ssl_session_tickets on; ssl_session_cache off;"),
        ],
    );
    let setup = setup.file("roots.pem", &pki().roots(&[ML_DSA_65, ML_DSA[2].0, ECDSA])?);
    Nginx::start(platform, &with_leaf(setup, "own", &*pki().leaf(ECDSA, ECDSA)?))
}

fn resumes(port: u16, certificate: Option<(KeyType, KeyType)>, expected: bool) -> Result<()> {
    let (client, verdict) = match certificate {
        Some((root, key)) => (rustls_with(&*pki().leaf(root, key)?)?, "SUCCESS"),
        None => {
            let roots = [pki().root(ECDSA)?.der.clone()];
            (RustlsClient::with_certificates(HYBRID, &roots, None, None)?, "NONE")
        }
    };
    for round in 0..3 {
        let exchange = client.get(port)?;
        let kind = if round > 0 && expected { HandshakeKind::Resumed } else { HandshakeKind::Full };
        ensure!(exchange.kind == kind, "connection {round} is {:?}, not {kind:?}", exchange.kind);
        ensure!(
            exchange.text.contains(&format!("verify={verdict} ")),
            "connection {round}: {}",
            exchange.text
        );
    }
    Ok(())
}

// ---- what TLS cannot use ----

#[test]
fn on_openssl_3_0_nginx_refuses_an_ml_dsa_or_composite_certificate_and_the_provider_says_what_to_do_instead()
{
    let mut report = Report::new();
    for key in [ML_DSA_65, COMPOSITE] {
        let outcome = pki().leaf(ML_DSA_65, key).and_then(|leaf| {
            refused_at_start(
                &DEBIAN_12,
                Native::Yield,
                &leaf,
                &[key.name, "OpenSSL 3.0", "ECDSA or RSA certificate"],
            )
        });
        report.check(key.name, outcome);
    }
    report.finish();
}

#[test]
fn from_openssl_3_5_on_nginx_refuses_a_composite_certificate_and_the_provider_says_what_to_do_instead() {
    let mut report = Report::new();
    for platform in [&DEBIAN_13, &DEBIAN_SID] {
        for native in [Native::Yield, Native::Prefer] {
            let outcome = pki().leaf(COMPOSITE, COMPOSITE).and_then(|leaf| {
                refused_at_start(
                    platform,
                    native,
                    &leaf,
                    &[COMPOSITE.name, "ML-DSA, ECDSA or RSA certificate"],
                )
            });
            report.check(&format!("{} {native:?}", platform.name), outcome);
        }
    }
    report.finish();
}

/// `nginx -t` fails with libssl's message and the provider's.
fn refused_at_start(platform: &Platform, native: Native, leaf: &Leaf, says: &[&str]) -> Result<()> {
    let directory = WorkDir::new(platform)?;
    let openssl_conf = directory.write_openssl_conf("openssl.cnf", &OpensslConf::new().native(native))?;
    let (chain, key) = (directory.write("leaf.pem", &leaf.chain)?, directory.write("leaf.key", &leaf.key)?);
    let text = format!(
        "error_log {log};\npid {pid};\nevents {{}}\nhttp {{ server {{ listen 127.0.0.1:1 ssl; ssl_certificate {chain}; \
         ssl_certificate_key {key}; }} }}\n",
        log = directory.inside("error.log"),
        pid = directory.inside("nginx.pid"),
    );
    let (passed, message) = Nginx::check(platform, &directory, &openssl_conf, &text)?;
    ensure!(!passed, "nginx -t passes:\n{message}");
    for part in ["unknown certificate type", "qtls["].iter().chain(says) {
        ensure!(message.contains(part), "the message lacks '{part}':\n{message}");
    }
    ensure!(message.matches("qtls[").count() == 1, "it is said more than once:\n{message}");
    Ok(())
}

/// What is right is not spoken of.
#[test]
fn nginx_starts_in_silence_with_certificates_that_tls_can_use() {
    let mut report = Report::new();
    for (platform, native) in [(&DEBIAN_12, Native::Yield)].into_iter().chain(modern_nginx()) {
        let keys: &[KeyType] = if platform.version < (3, 2) { &[ECDSA] } else { &[ECDSA, ML_DSA_65] };
        for key in keys {
            let outcome = (|| {
                let server = Server::groups(GROUPS).lines(&certificates(&["own"])).lines(&answers());
                let setup = Setup::new(OpensslConf::new().native(native), vec![server]);
                let nginx = Nginx::start(platform, &with_leaf(setup, "own", &*pki().leaf(*key, *key)?))?;
                let roots = [pki().root(*key)?.der.clone()];
                RustlsClient::with_certificates(HYBRID, &roots, None, None)?.get(nginx.port(0))?;
                let said = nginx.output();
                ensure!(!said.contains("qtls["), "{said}");
                nginx.quit()
            })();
            report.check(&format!("{} {native:?} {}", platform.name, key.name), outcome);
        }
    }
    report.finish();
}

/// 3.4.1 finds the guard row of such a key and takes it for one of a scheme. It sends that at security level 0 alone.
#[test]
fn on_openssl_3_4_1_a_composite_certificate_is_spoken_of_at_the_start_and_signs_no_handshake() {
    let level_0 = "ssl_ciphers DEFAULT:@SECLEVEL=0;";
    let private_use: Vec<SignatureScheme> = (0xfe00..0xfe20).map(SignatureScheme::from).collect();
    let mut report = Report::new();
    for (what, lines, schemes, says) in [
        ("an ordinary client", "", &[EC, PSS, MLDSA65][..], "no suitable signature algorithm"),
        ("one that names the guard row", "", &private_use, "no shared signature algorithms"),
        (
            "the same at level 0",
            level_0,
            &private_use,
            "TLS 1.3 has no signature scheme for this type of key",
        ),
    ] {
        report.check(what, composite_on_3_4_1(lines, schemes, says));
    }
    report.finish();
}

fn composite_on_3_4_1(lines: &str, schemes: &[SignatureScheme], says: &str) -> Result<()> {
    let server = Server::groups(GROUPS).lines(&certificates(&["own"])).lines(lines).lines(&answers());
    let setup = Setup::new(OpensslConf::new(), vec![server]);
    let nginx = Nginx::start(&NGINX_ON_3_4_1, &with_leaf(setup, "own", &*pki().leaf(COMPOSITE, COMPOSITE)?))?;
    let said = nginx.output();
    ensure!(said.contains(COMPOSITE.name) && said.contains("may have issued"), "at its start: {said}");
    let roots = [pki().root(ECDSA)?.der.clone()];
    is_alerted(RustlsClient::with_certificates(HYBRID, &roots, Some(schemes), None)?.get(nginx.port(0)))?;
    let logged =
        wait_for(&format!("'{says}' in nginx's log"), || Ok(nginx.error_log()?.contains(says).then_some(())));
    then_quit(nginx, logged)
}

// ---- a key under another name ----

/// Signs with one key and gives the signature the name of another scheme.
#[derive(Debug)]
struct Pretender {
    key: std::path::PathBuf,
    scheme: SignatureScheme,
}

impl SigningKey for Pretender {
    fn choose_scheme(&self, _: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        Some(Box::new(Pretender { key: self.key.clone(), scheme: self.scheme }))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::Unknown(0)
    }
}

impl Signer for Pretender {
    /// By 3.0.2, whose `pkeyutl` gives the provider a message in pieces: as a whole the provider takes this one for a
    /// handshake, and does not sign it.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        let sign = || -> Result<Vec<u8>> {
            let directory = WorkDir::new(&OPENSSL_3_0_2)?;
            let conf = directory.write_openssl_conf("openssl.cnf", &OpensslConf::new())?;
            std::fs::write(directory.outside("message"), message)?;
            let output = OPENSSL_3_0_2
                .openssl()?
                .env("OPENSSL_CONF", conf)
                .args(["pkeyutl", "-sign", "-rawin", "-in", &directory.inside("message"), "-inkey"])
                .arg(&self.key)
                .output()?;
            ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Ok(output.stdout)
        };
        sign().map_err(|error| rustls::Error::General(format!("{error:#}")))
    }

    fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}

#[test]
fn a_client_cannot_pass_off_a_composite_key_or_one_that_is_not_offered_under_another_scheme() {
    let mut report = Report::new();
    for (what, conf, key, gets_in) in [
        // libssl compares no scheme with a provider's key: this one would pass, and shows that the others are tried.
        ("ML-DSA-44 offered", OpensslConf::new(), ML_DSA[0].0, true),
        (
            "ML-DSA-44 not offered",
            OpensslConf::new().provider_line("signatures = mldsa65"),
            ML_DSA[0].0,
            false,
        ),
        ("composite", OpensslConf::new(), COMPOSITE, false),
    ] {
        let outcome = pretend(&NGINX_ON_3_4_1, conf, key, gets_in);
        report.check(what, outcome);
    }
    for platform in [&DEBIAN_13, &DEBIAN_SID] {
        for native in [Native::Yield, Native::Prefer] {
            let outcome = pretend(platform, OpensslConf::new().native(native), COMPOSITE, false);
            report.check(&format!("{} {native:?}: composite", platform.name), outcome);
        }
    }
    report.finish();
}

fn pretend(platform: &Platform, conf: OpensslConf, key: KeyType, gets_in: bool) -> Result<()> {
    let nginx = Nginx::start(platform, &mtls(conf, "")?)?;
    let leaf = pki().leaf(ML_DSA_65, key)?;
    let directory = WorkDir::new(&OPENSSL_3_0_2)?;
    directory.write("own.key", &leaf.key)?;
    let signer = Pretender { key: directory.outside("own.key"), scheme: MLDSA65 };
    let own = CertifiedKey::new(leaf.chain_der.clone(), Arc::new(signer));
    let own: Arc<SingleCertAndKey> = Arc::new(own.into());
    let roots = [pki().root(ECDSA)?.der.clone()];
    let outcome = RustlsClient::with_certificates(HYBRID, &roots, None, Some(own))?.get(nginx.port(0));
    let checked = if gets_in {
        outcome.map(|exchange| exchange.text).and_then(|text| {
            ensure!(text.contains("verify=SUCCESS"), "{text}");
            Ok(())
        })
    } else {
        is_alerted(outcome)
    };
    then_quit(nginx, checked)
}
