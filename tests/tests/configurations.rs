//! Every file of `openssl-cnf/` and `nginx-conf/` is started as it is, placeholders filled in, and does what it says.

use std::{
    collections::BTreeSet,
    fs,
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    path::Path,
    sync::Arc,
};

use anyhow::{Context, Result, bail, ensure};
use qtls_tests::{
    GROUPS, Group, Platform, WorkDir,
    client_hello::{ILLEGAL_PARAMETER, Reply, send},
    full,
    identity::identity,
    nginx::{Nginx, Server, Setup, answer_location},
    openssl::OpensslClient,
    openssl_conf::OpensslConf,
    pki::{COMPOSITE, ECDSA, KeyType, Leaf, ML_DSA_65, RSA, pki, strangers},
    platform::{DEBIAN_12, DEBIAN_13, DEBIAN_SID, NGINX_ON_3_4_1, OPENSSL_3_0_2, OPENSSL_4_0, workspace},
    process::{Process, free_port, wait_for},
    report::Report,
    rustls_client::{RustlsClient, connect, presents},
    token::{Kind, Token},
};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, SignatureScheme, version::TLS12};

/// The files, each with the check that holds it; a test for each, and [`TESTED`] for the one that compares them with
/// what the folders hold.
macro_rules! files {
    ($($test:ident: $folder:literal $file:literal, $run:ident($check:expr);)*) => {
        const TESTED: &[(&str, &str)] = &[$(($folder, $file)),*];
        $(#[test]
        fn $test() {
            $run($file, $check);
        })*
    };
}

files! {
    openssl_cnf_require_any_accepts_every_group:
        "openssl-cnf" "require_any.cnf", with_openssl_cnf(|server| mode(server, &every_group(), true));
    openssl_cnf_require_pqc_accepts_hybrids_and_pure_ml_kem:
        "openssl-cnf" "require_pqc.cnf", with_openssl_cnf(|server| mode(server, &post_quantum(), false));
    openssl_cnf_require_both_accepts_hybrids_only:
        "openssl-cnf" "require_both.cnf", with_openssl_cnf(|server| mode(server, &hybrids(), false));
    openssl_cnf_pure_pqc_accepts_pure_ml_kem_only:
        "openssl-cnf" "pure_pqc.cnf", with_openssl_cnf(|server| mode(server, &pure(), false));
    openssl_cnf_prefer_takes_over_openssls_own_groups:
        "openssl-cnf" "prefer.cnf", with_openssl_cnf(prefers_ours);
    openssl_cnf_nginx_only_is_read_by_nginx_alone:
        "openssl-cnf" "nginx-only.cnf", with_openssl_cnf(read_by_nginx_alone);
    openssl_cnf_with_system_adds_to_the_systems_file:
        "openssl-cnf" "with-system.cnf", with_openssl_cnf(|server| mode(server, &every_group(), true));

    openssl_cnf_hsm_serves_a_key_in_a_token:
        "openssl-cnf" "hsm.cnf", with_token(key_in_a_token);

    nginx_conf_require_any_accepts_every_group_and_tls_1_2:
        "nginx-conf" "require_any.conf", with_nginx_conf(|gateway| nginx_mode(gateway, &every_group(), true));
    nginx_conf_require_pqc_accepts_hybrids_and_pure_ml_kem:
        "nginx-conf" "require_pqc.conf", with_nginx_conf(|gateway| nginx_mode(gateway, &post_quantum(), false));
    nginx_conf_require_both_accepts_hybrids_only:
        "nginx-conf" "require_both.conf", with_nginx_conf(|gateway| nginx_mode(gateway, &hybrids(), false));
    nginx_conf_pure_pqc_accepts_pure_ml_kem_only:
        "nginx-conf" "pure_pqc.conf", with_nginx_conf(|gateway| nginx_mode(gateway, &pure(), false));
    nginx_conf_several_sites_share_the_mode_and_refuse_unknown_names:
        "nginx-conf" "several-sites.conf", with_nginx_conf(several_sites);
    nginx_conf_log_tells_the_kind_of_every_key_exchange:
        "nginx-conf" "log.conf", with_nginx_conf(logs_the_kind);
    nginx_conf_upstream_is_reached_over_a_hybrid_group_or_not_at_all:
        "nginx-conf" "upstream.conf", with_nginx_conf(upstream);
    nginx_conf_h2_speaks_both_versions_of_http:
        "nginx-conf" "h2.conf", with_nginx_conf(h2);
    nginx_conf_tickets_resume_at_every_gateway_until_their_key_is_gone:
        "nginx-conf" "tickets.conf", with_nginx_conf(tickets);
    nginx_conf_session_cache_resumes:
        "nginx-conf" "session-cache.conf", with_nginx_conf(session_cache);
    nginx_conf_early_data_takes_idempotent_requests_only:
        "nginx-conf" "early-data.conf", with_nginx_conf(early_data);
    nginx_conf_ml_dsa_gives_each_client_the_best_certificate_that_it_knows:
        "nginx-conf" "ml-dsa.conf", with_modern_nginx_conf(three_certificates);
    nginx_conf_mtls_lets_in_clients_of_both_authorities_and_resumes:
        "nginx-conf" "mtls.conf", with_nginx_conf(client_certificates);
    nginx_conf_upstream_mtls_presents_an_ml_dsa_certificate:
        "nginx-conf" "upstream-mtls.conf", with_modern_nginx_conf(upstream_with_certificate);
    nginx_conf_hsm_signs_by_the_token_and_by_the_file:
        "nginx-conf" "hsm.conf", with_token(key_in_a_token);
}

#[test]
fn every_file_of_the_folders_is_tested() {
    let tested: BTreeSet<String> = TESTED.iter().map(|(folder, file)| format!("{folder}/{file}")).collect();
    assert_eq!(tested.len(), TESTED.len(), "a file is listed twice");
    let mut found = BTreeSet::new();
    for folder in ["openssl-cnf", "nginx-conf"] {
        for entry in fs::read_dir(workspace().join(folder)).expect("the folder") {
            let name = entry.expect("an entry").file_name();
            found.insert(format!("{folder}/{}", name.to_str().expect("a UTF-8 file name")));
        }
    }
    assert_eq!(found, tested, "left: the folders; right: the files that have a test here");
}

const CLASSICAL: [(&str, u16); 3] = [("X25519", 0x001d), ("P-256", 0x0017), ("P-384", 0x0018)];
/// `handshake_failure` (RFC 8446, section 6).
const HANDSHAKE_FAILURE: u8 = 40;
const HYBRID: &str = "X25519MLKEM768";

fn hybrids() -> BTreeSet<&'static str> {
    GROUPS.iter().filter(|group| group.classical.is_some()).map(|group| group.name).collect()
}

fn pure() -> BTreeSet<&'static str> {
    GROUPS.iter().filter(|group| group.classical.is_none()).map(|group| group.name).collect()
}

fn post_quantum() -> BTreeSet<&'static str> {
    GROUPS.iter().map(|group| group.name).collect()
}

fn every_group() -> BTreeSet<&'static str> {
    post_quantum().into_iter().chain(CLASSICAL.map(|(name, _)| name)).collect()
}

/// Checks that a server takes these groups and no other, and whether it speaks TLS 1.2.
fn accepts(port: u16, expected: &BTreeSet<&str>, tls_1_2: bool) -> Result<()> {
    let all = GROUPS.iter().map(|group| (group.name, group.code_point)).chain(CLASSICAL);
    for (name, code_point) in all {
        // Named without a share: a server that wants the group asks for one.
        let reply = send(port, &[code_point], &[])?;
        let wanted =
            if expected.contains(name) { Reply::Retry(code_point) } else { Reply::Alert(HANDSHAKE_FAILURE) };
        ensure!(reply == wanted, "{name} is answered by {reply:?}");
    }
    for name in ["X25519MLKEM768", "SecP256r1MLKEM768", "MLKEM768", "MLKEM1024", "X25519", "P-256", "P-384"] {
        match (RustlsClient::new(name)?.handshake(port), expected.contains(name)) {
            (Ok(exchange), true) => ensure!(exchange.group == name, "{name}: {exchange:?}"),
            (Err(error), true) => return Err(error.context(format!("a client with {name}"))),
            (Ok(exchange), false) => bail!("a client with {name} got in: {exchange:?}"),
            (Err(_), false) => {}
        }
    }
    let run = OpensslClient::native(&DEBIAN_12)?.get(port, "X25519:P-256", &["-tls1_2"])?;
    ensure!(run.connected == tls_1_2, "TLS 1.2, expected {tls_1_2}:\n{}", run.text);
    Ok(())
}

// ---- openssl-cnf ----

const MODULE: &str = "/usr/local/lib/qtls/qtls.so";
const SYSTEM_FILE: &str = "/etc/ssl/openssl.cnf";

/// Reads a file of `openssl-cnf/`, with the module's path of `directory` in it.
fn openssl_cnf(directory: &WorkDir, file: &str) -> Result<String> {
    let text = shipped("openssl-cnf", file)?;
    fill(&text, &format!("module = {MODULE}"), &format!("module = {}", directory.install_module()?))
}

fn shipped(folder: &str, file: &str) -> Result<String> {
    let path = workspace().join(folder).join(file);
    fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
}

/// Puts `value` where a file says `placeholder`.
fn fill(text: &str, placeholder: &str, value: &str) -> Result<String> {
    ensure!(text.contains(placeholder), "the file does not say '{placeholder}'");
    Ok(text.replace(placeholder, value))
}

/// A server that was given nothing but a file of `openssl-cnf/`: no list of groups of its own.
struct PlainServer {
    platform: &'static Platform,
    /// Removed with the server.
    _directory: WorkDir,
    openssl_cnf: String,
    port: u16,
    process: Process,
    is_nginx: bool,
}

impl PlainServer {
    fn start(platform: &'static Platform, directory: WorkDir, openssl_cnf: &str) -> Result<PlainServer> {
        let openssl_cnf = directory.write("openssl.cnf", openssl_cnf)?;
        let (port, is_nginx) = (free_port()?, platform.nginx().is_ok());
        let command = if is_nginx {
            let conf = format!(
                "pid nginx.pid; events {{}}\nhttp {{ access_log off;\n{}\n\
                 ssl_certificate server.pem; ssl_certificate_key server.key;\n\
                 server {{ listen 127.0.0.1:{port} ssl; ssl_protocols TLSv1.2 TLSv1.3; {} }} }}\n",
                TEMPORARY_PATHS,
                answer_location(),
            );
            let conf = directory.write("nginx.conf", &conf)?;
            let (mut command, _) = platform.nginx()?;
            command.args(["-g", "daemon off; error_log stderr info;", "-c", &conf]);
            command.args(["-p", &folder(&directory), "-e", "stderr"]);
            command
        } else {
            let mut command = platform.openssl()?;
            command.args(["s_server", "-accept", &format!("127.0.0.1:{port}"), "-www", "-cert"]).args([
                &directory.inside("server.pem"),
                "-key",
                &directory.inside("server.key"),
            ]);
            command
        };
        let (mut command, output) = (command, directory.outside("output"));
        command.env("OPENSSL_CONF", &openssl_cnf);
        let mut process = Process::spawn(if is_nginx { "nginx" } else { "s_server" }, command, output)?;
        process.wait_for_port(port)?;
        Ok(PlainServer { platform, _directory: directory, openssl_cnf, port, process, is_nginx })
    }

    /// What `openssl` of the same platform prints with the same file.
    fn openssl(&self, arguments: &[&str]) -> Result<String> {
        let output =
            self.platform.openssl()?.env("OPENSSL_CONF", &self.openssl_cnf).args(arguments).output()?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "openssl {arguments:?}: {error}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Whether qtls.so is mapped into its memory.
    fn has_loaded_qtls(&self) -> Result<bool> {
        Ok(fs::read_to_string(format!("/proc/{}/maps", self.process.pid()))?.contains("/qtls.so"))
    }
}

/// nginx writes below its prefix in a test, not below /var/lib.
const TEMPORARY_PATHS: &str = "client_body_temp_path temporary; proxy_temp_path temporary; fastcgi_temp_path temporary; \
                               uwsgi_temp_path temporary; scgi_temp_path temporary;";

/// A test's directory as the platform's programs see it.
fn folder(directory: &WorkDir) -> String {
    let file = directory.inside("server.pem");
    Path::new(&file).parent().expect("it lies in a directory").display().to_string()
}

/// Runs `check` against a server with this file of `openssl-cnf/` on every OpenSSL: nginx, `s_server` where there is
/// none.
fn with_openssl_cnf(file: &str, check: impl Fn(&PlainServer) -> Result<()>) {
    let mut report = Report::new();
    for platform in every_openssl() {
        let outcome = (|| {
            let directory = WorkDir::new(platform)?;
            let text = openssl_cnf(&directory, file)?;
            let server = PlainServer::start(platform, directory, &text)?;
            check(&server).with_context(|| format!("the server wrote:\n{}", server.process.output()))
        })();
        report.check(platform.name, outcome);
    }
    report.finish();
}

/// With an ECDSA certificate: no group, no TLS 1.2, even in nginx, which sets its protocols itself.
fn mode(server: &PlainServer, expected: &BTreeSet<&str>, tls_1_2: bool) -> Result<()> {
    ensure!(server.has_loaded_qtls()?, "qtls.so was not loaded");
    accepts(server.port, expected, tls_1_2)
}

fn prefers_ours(server: &PlainServer) -> Result<()> {
    ensure!(server.has_loaded_qtls()?, "qtls.so was not loaded");
    RustlsClient::new("X25519")?.handshake(server.port)?;
    if !server.platform.has_native_groups() {
        // As the file says: below 3.5 no group is used that is not listed.
        return accepts(server.port, &CLASSICAL.iter().map(|(name, _)| *name).collect(), true);
    }
    let exchange = RustlsClient::new(HYBRID)?.handshake(server.port)?;
    ensure!(exchange.group == HYBRID, "{exchange:?}");
    // Who refuses a share of the right length that is none names itself in OpenSSL's error queue.
    let group = Group::named(HYBRID);
    let share = vec![0xff; group.client_share_length()];
    let reply = send(server.port, &[group.code_point], &[(group.code_point, &share)])?;
    ensure!(reply == Reply::Alert(ILLEGAL_PARAMETER), "{reply:?}");
    wait_for("the provider's name in the server's log", || {
        Ok(server.process.output().contains(":qtls:").then_some(()))
    })
}

fn read_by_nginx_alone(server: &PlainServer) -> Result<()> {
    let providers = server.openssl(&["list", "-providers"]);
    if let Ok(providers) = &providers {
        ensure!(providers.contains("default") && !providers.contains("qtls"), "openssl has: {providers}");
    }
    let reads_it = server.is_nginx && server.platform.nginx()?.1 >= (1, 26);
    ensure!(server.has_loaded_qtls()? == reads_it, "qtls.so: expected {reads_it}");
    if reads_it {
        // Its list has this group, OpenSSL's own default list has not.
        ensure!(send(server.port, &[0x0200], &[])? == Reply::Retry(0x0200), "the Groups line is not used");
        accepts(server.port, &every_group(), true)
    } else {
        ensure!(send(server.port, &[0x0200], &[])? == Reply::Alert(HANDSHAKE_FAILURE), "the file is read");
        RustlsClient::new("X25519")?.handshake(server.port).map(drop)
    }
}

/// What a system's file may say, besides what Debian's says.
const SYSTEM_LINES: &str = "
[openssl_init]
providers = provider_sect
ssl_conf = ssl_sect
[provider_sect]
default = default_sect
legacy = legacy_sect
[default_sect]
activate = 1
[legacy_sect]
activate = 1
[ssl_sect]
system_default = system_default_sect
[system_default_sect]
MinProtocol = TLSv1.3
CipherString = ECDHE-RSA-AES256-GCM-SHA384
";

#[test]
fn with_system_loses_nothing_of_the_systems_file() {
    let mut platforms = vec![&DEBIAN_12, &DEBIAN_13];
    if full() {
        platforms.push(&DEBIAN_SID);
    }
    let mut report = Report::new();
    for platform in platforms {
        report.check(platform.name, keeps_the_system(platform, SYSTEM_LINES, &every_group()));
        let groups = format!("{SYSTEM_LINES}Groups = P-256:P-384\n");
        let classical = BTreeSet::from(["P-256", "P-384"]);
        report.check(
            &format!("{}, system with groups", platform.name),
            keeps_the_system(platform, &groups, &classical),
        );
    }
    report.finish();
}

fn keeps_the_system(platform: &'static Platform, lines: &str, groups: &BTreeSet<&str>) -> Result<()> {
    let directory = WorkDir::new(platform)?;
    let system = fs::read_to_string(platform.home()?.join("etc/ssl/openssl.cnf"))?;
    let system = directory.write("system.cnf", &(system + lines))?;
    let text = openssl_cnf(&directory, "with-system.cnf")?;
    let text = fill(&text, &format!(".include {SYSTEM_FILE}"), &format!(".include {system}"))?;
    let conf = directory.write("openssl.cnf", &text)?;
    let openssl = |arguments: &[&str]| -> Result<String> {
        let output = platform.openssl()?.env("OPENSSL_CONF", &conf).args(arguments).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let providers = openssl(&["list", "-providers"])?;
    for provider in ["default", "legacy", "qtls"] {
        ensure!(providers.contains(&format!("\n  {provider}\n")), "no {provider} in: {providers}");
    }
    // SSL_CTX_new applies the system's ciphers; the server below shows its protocols.
    let ciphers = openssl(&["ciphers"])?;
    let tls_1_2: Vec<&str> = ciphers.trim().split(':').filter(|cipher| !cipher.starts_with("TLS_")).collect();
    ensure!(tls_1_2 == ["ECDHE-RSA-AES256-GCM-SHA384"], "the system's ciphers are lost: {ciphers}");

    let port = free_port()?;
    let mut command = platform.openssl()?;
    command
        .env("OPENSSL_CONF", &conf)
        .args(["s_server", "-accept", &format!("127.0.0.1:{port}"), "-www", "-cert"])
        .args([&directory.inside("server.pem"), "-key", &directory.inside("server.key")]);
    let mut server = Process::spawn("s_server", command, directory.outside("output"))?;
    server.wait_for_port(port)?;
    accepts(port, groups, false).with_context(|| server.output())
}

/// OpenSSL itself goes on without a module that it can't load: the stricter modes must not become classical then.
#[test]
fn the_stricter_modes_let_nobody_in_when_the_module_is_missing() {
    let mut report = Report::new();
    for platform in every_openssl() {
        for file in ["require_pqc.cnf", "require_both.cnf", "pure_pqc.cnf"] {
            report.check(&format!("{} {file}", platform.name), closed_without_module(platform, file));
        }
    }
    report.finish();
}

fn closed_without_module(platform: &'static Platform, file: &str) -> Result<()> {
    let directory = WorkDir::new(platform)?;
    let text = shipped("openssl-cnf", file)?;
    let text = fill(&text, MODULE, &directory.inside("missing.so"))?;
    let server = match PlainServer::start(platform, directory, &text) {
        // From 3.4 on it is an error of its own, if no group is native.
        Err(error) if format!("{error:#}").contains("cmd=Groups") => return Ok(()),
        server => server?,
    };
    ensure!(!server.has_loaded_qtls()?, "qtls.so was loaded");
    for client in [RustlsClient::new("X25519:P-256:P-384")?, RustlsClient::with_tls12("X25519:P-256:P-384")?]
    {
        if let Ok(exchange) = client.handshake(server.port) {
            bail!("a classical client got in: {exchange:?}");
        }
    }
    Ok(())
}

/// The platforms of this run.
fn every_openssl() -> Vec<&'static Platform> {
    let mut platforms = vec![&DEBIAN_12, &DEBIAN_13];
    if full() {
        platforms.extend([&OPENSSL_3_0_2, &NGINX_ON_3_4_1, &DEBIAN_SID, &OPENSSL_4_0]);
    }
    platforms
}

/// Why the stricter files speak of `ssl_protocols`.
#[test]
fn nginx_overrides_min_protocol_and_tls_1_2_with_rsa_passes_by_the_groups() {
    let mut report = Report::new();
    for platform in [&DEBIAN_12, &DEBIAN_13] {
        for (protocols, gets_in) in [("TLSv1.2 TLSv1.3", true), ("TLSv1.3", false)] {
            report.check(
                &format!("{}, ssl_protocols {protocols}", platform.name),
                rsa_client(platform, protocols, gets_in),
            );
        }
    }
    report.finish();
}

fn rsa_client(platform: &'static Platform, protocols: &str, gets_in: bool) -> Result<()> {
    let directory = WorkDir::new(platform)?;
    let (key, certificate) = (directory.inside("rsa.key"), directory.inside("rsa.pem"));
    let made = platform
        .openssl()?
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2"])
        .args(["-keyout", &key, "-out", &certificate])
        .output()?;
    ensure!(made.status.success(), "openssl req: {}", String::from_utf8_lossy(&made.stderr));
    let conf = openssl_cnf(&directory, "require_pqc.cnf")?;
    let conf = directory.write("openssl.cnf", &conf)?;
    let port = free_port()?;
    let text = format!(
        "pid nginx.pid; error_log error.log info; events {{}}\nhttp {{ access_log off; {TEMPORARY_PATHS}\n\
         server {{ listen 127.0.0.1:{port} ssl; ssl_protocols {protocols}; ssl_certificate rsa.pem; \
         ssl_certificate_key rsa.key; {} }} }}\n",
        answer_location()
    );
    let nginx = Nginx::start_with(platform, directory, &conf, &text, vec![port])?;
    let client = OpensslClient::native(&DEBIAN_12)?;
    let authority =
        client.directory().write("rsa.pem", &fs::read_to_string(nginx.directory().outside("rsa.pem"))?)?;
    let arguments = ["-tls1_2", "-cipher", "AES128-GCM-SHA256", "-CAfile", &authority];
    let run = client.get(port, "X25519", &arguments)?;
    ensure!(run.connected == gets_in, "expected {gets_in}:\n{}", run.text);
    nginx.quit()
}

// ---- nginx-conf ----

/// nginx with one file of `nginx-conf/`, an application behind it, and `with-system.cnf`.
struct Gateway {
    platform: &'static Platform,
    nginx: Nginx,
}

/// What the application behind every gateway answers: what nginx tells it of the connection.
const APPLICATION: &str = "protocol=$http_x_tls_protocol group=$http_x_tls_group verify=$http_x_client_verify \
                           client=$http_x_client_dn early=$http_early_data";

/// Runs `check` for the platforms whose nginx has to take this file of `nginx-conf/`.
fn with_nginx_conf(file: &str, check: impl Fn(&Files) -> Result<()>) {
    let mut platforms = vec![&DEBIAN_12, &DEBIAN_13];
    if full() {
        platforms.extend([&NGINX_ON_3_4_1, &DEBIAN_SID]);
    }
    on_platforms(platforms, file, check);
}

/// The same where libssl knows ML-DSA in TLS.
fn with_modern_nginx_conf(file: &str, check: impl Fn(&Files) -> Result<()>) {
    on_platforms(vec![&NGINX_ON_3_4_1, &DEBIAN_13, &DEBIAN_SID], file, check);
}

fn on_platforms(platforms: Vec<&'static Platform>, file: &str, check: impl Fn(&Files) -> Result<()>) {
    let mut report = Report::new();
    for platform in platforms {
        report.check(platform.name, check(&Files { platform, name: file.to_owned() }));
    }
    report.finish();
}

/// The file of `nginx-conf/` that a check is about, and where.
struct Files {
    platform: &'static Platform,
    name: String,
}

impl Files {
    /// Starts a gateway with this file.
    fn start(&self) -> Result<Gateway> {
        self.start_with(|text, _| Ok(text))
    }

    /// The same; `adjust` sees the file with its certificates, ports and application filled in.
    fn start_with(&self, adjust: impl FnOnce(String, &WorkDir) -> Result<String>) -> Result<Gateway> {
        self.start_on(&[], |directory| openssl_cnf(directory, "with-system.cnf"), adjust)
    }

    /// The same with another openssl.cnf, and with variables in the environment of nginx's master.
    fn start_on(
        &self,
        environment: &[(String, String)],
        openssl_conf: impl FnOnce(&WorkDir) -> Result<String>,
        adjust: impl FnOnce(String, &WorkDir) -> Result<String>,
    ) -> Result<Gateway> {
        let directory = WorkDir::new(self.platform)?;
        let (port, application) = (free_port()?, free_port()?);
        let mut text = shipped("nginx-conf", &self.name)?
            .replace("/etc/nginx/tls/", &format!("{}/", folder(&directory)))
            .replace("http://127.0.0.1:8080;", &format!("http://127.0.0.1:{application};"))
            .replace("listen 443 ", &format!("listen 127.0.0.1:{port} "))
            .replace("listen 127.0.0.1:8081;", &format!("listen 127.0.0.1:{port};"));
        text = adjust(text, &directory)?;
        ensure!(text.contains(&format!("127.0.0.1:{port}")), "{} listens nowhere", self.name);
        let conf = format!(
            "user www-data;\nworker_processes 2;\npid nginx.pid;\nerror_log error.log info;\n\
             events {{ worker_connections 512; }}\nhttp {{\naccess_log access.log; {TEMPORARY_PATHS}\n\
             server {{ listen 127.0.0.1:{application}; location / {{ return 200 \"{APPLICATION}\\n\"; }} }}\n\
             {text}\n}}\n"
        );
        let openssl_conf = openssl_conf(&directory)?;
        let openssl_conf = directory.write("openssl.cnf", &openssl_conf)?;
        let environment = [environment, &[("OPENSSL_CONF".to_owned(), openssl_conf)]].concat();
        let nginx = Nginx::start_in(self.platform, directory, &environment, &conf, vec![port, application])?;
        Ok(Gateway { platform: self.platform, nginx })
    }
}

impl Gateway {
    fn port(&self) -> u16 {
        self.nginx.port(0)
    }

    /// Makes a request of this text as [`request`] does; the headers' end is added.
    fn request(&self, client: &Arc<ClientConfig>, head: &str) -> Result<Told> {
        request(client, self.port(), head).with_context(|| self.nginx.error_log().unwrap_or_default())
    }

    /// Ends it; what went wrong in a worker is an error.
    fn quit(self) -> Result<()> {
        self.nginx.quit().context(self.platform.name)
    }
}

fn nginx_mode(files: &Files, expected: &BTreeSet<&str>, tls_1_2: bool) -> Result<()> {
    let gateway = files.start()?;
    accepts(gateway.port(), expected, tls_1_2)
        .with_context(|| gateway.nginx.error_log().unwrap_or_default())?;
    // The application is told, and nobody else can tell it.
    let group = if expected.contains(HYBRID) { HYBRID } else { "MLKEM768" };
    let told = gateway.request(
        &client(group, false)?,
        "GET / HTTP/1.1\r\nHost: localhost\r\nX-TLS-Group: forged\r\nX-TLS-Protocol: forged\r\nConnection: close\r\n",
    )?;
    ensure!(told.text.starts_with("HTTP/1.1 200 ") && told.text.contains("protocol=TLSv1.3 "), "{told:?}");
    ensure!(!told.text.contains("forged"), "{told:?}");
    let named = told.text.split("group=").nth(1).and_then(|rest| rest.split_whitespace().next());
    ensure!(named.map(qtls_tests::groups::canonical_name).as_deref() == Some(group), "{told:?}");
    gateway.quit()
}

fn several_sites(files: &Files) -> Result<()> {
    // Names that the test's certificate has.
    let gateway = files.start_with(|text, _| {
        let text = fill(&text, "server_name shop.example;", "server_name localhost;")?;
        fill(&text, "server_name api.example;", "server_name other.localhost;")
    })?;
    for name in ["localhost", "other.localhost"] {
        let exchange = RustlsClient::new(HYBRID)?.get_as(gateway.port(), name)?;
        ensure!(
            exchange.group == HYBRID && exchange.text.starts_with("HTTP/1.1 200 "),
            "{name}: {exchange:?}"
        );
        let classical = RustlsClient::with_tls12("X25519:P-256")?.get_as(gateway.port(), name);
        ensure!(classical.is_err(), "a classical client got in to {name}: {classical:?}");
    }
    let unknown = RustlsClient::new(HYBRID)?.get_as(gateway.port(), "unknown.localhost");
    let error = format!("{:#}", unknown.err().context("an unknown name was served")?);
    ensure!(error.to_lowercase().contains("unrecognisedname"), "an unknown name: {error}");
    gateway.quit()
}

fn logs_the_kind(files: &Files) -> Result<()> {
    let require_any = Files { platform: files.platform, name: "require_any.conf".to_owned() };
    let gateway = require_any.start_with(|text, directory| {
        let log = shipped("nginx-conf", &files.name)?;
        Ok(format!("{}\n{text}", fill(&log, "/var/log/nginx/", &format!("{}/", folder(directory)))?))
    })?;
    for (group, kind) in [
        ("X25519MLKEM768", "hybrid"),
        ("SecP256r1MLKEM768", "hybrid"),
        ("MLKEM768", "pure"),
        ("MLKEM1024", "pure"),
        ("X25519", "classical"),
        ("P-256", "classical"),
    ] {
        RustlsClient::new(group)?.get(gateway.port())?;
        let entry = last_entry(&gateway, |entry| {
            qtls_tests::groups::canonical_name(entry["group"].as_str().unwrap_or_default()) == group
        })?;
        ensure!(entry["key_exchange"] == kind && entry["protocol"] == "TLSv1.3", "{group}: {entry}");
        ensure!(entry["server"] == "localhost" && entry["status"] == 200, "{group}: {entry}");
    }
    for group in ["SecP384r1MLKEM1024", "MLKEM512"] {
        let run = OpensslClient::native(&DEBIAN_13)?.get(gateway.port(), group, &[])?;
        ensure!(run.connected, "{}", run.text);
        let kind = if group == "MLKEM512" { "pure" } else { "hybrid" };
        last_entry(&gateway, |entry| {
            let logged = qtls_tests::groups::canonical_name(entry["group"].as_str().unwrap_or_default());
            logged == group && entry["key_exchange"] == kind
        })?;
    }
    let run = OpensslClient::native(&DEBIAN_12)?.get(gateway.port(), "X25519:P-256", &["-tls1_2"])?;
    ensure!(run.connected, "{}", run.text);
    let entry = last_entry(&gateway, |entry| entry["protocol"] == "TLSv1.2")?;
    ensure!(entry["key_exchange"] == "classical", "{entry}");
    gateway.quit()
}

/// Waits until the newest TLS line of the log is one that `is_it` looks for. The application behind the gateway is a
/// server of the same nginx and logs its plain request before or after it.
fn last_entry(gateway: &Gateway, is_it: impl Fn(&serde_json::Value) -> bool) -> Result<serde_json::Value> {
    let path = gateway.nginx.directory().outside("tls.log");
    let mut last = None;
    wait_for("the request's line in the log", || {
        let log = fs::read_to_string(&path).unwrap_or_default();
        // A line without its end is being written.
        let whole = log.rsplit_once('\n').map_or("", |(lines, _)| lines);
        let Some(line) = whole.lines().rfind(|line| !line.contains(r#""protocol":"""#)) else {
            return Ok(None);
        };
        let entry: serde_json::Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        last = Some(line.to_owned());
        Ok(Some(entry).filter(|entry| is_it(entry)))
    })
    .with_context(|| format!("the newest line is {last:?}"))
}

fn upstream(files: &Files) -> Result<()> {
    let servers = vec![
        Server::groups(HYBRID).lines("ssl_protocols TLSv1.3;").lines(&answer_location()),
        // Asks for another group than the one that nginx sends a share of.
        Server::groups("SecP384r1MLKEM1024").lines("ssl_protocols TLSv1.3;").lines(&answer_location()),
        Server::groups("X25519:P-256").lines(&answer_location()),
    ];
    let upstream = Nginx::start(&DEBIAN_12, &Setup::new(OpensslConf::new(), servers))?;
    for (server, expected) in [(0, Some("X25519MLKEM768")), (1, Some("SecP384r1MLKEM1024")), (2, None)] {
        let gateway = files.start_with(|text, _| {
            fill(&text, "https://127.0.0.1:9443;", &format!("https://127.0.0.1:{};", upstream.port(server)))
        })?;
        let text = plain_get(gateway.port())?;
        match expected {
            Some(group) => {
                let answer = qtls_tests::nginx::Answer::parse(&text)
                    .with_context(|| gateway.nginx.error_log().unwrap_or_default())?;
                ensure!(answer.group == group && answer.protocol == "TLSv1.3", "{answer:?}");
            }
            None => ensure!(text.starts_with("HTTP/1.1 502 "), "a classical upstream was taken: {text}"),
        }
        // nginx logs the refused upstream as an error, not as an emergency.
        gateway.quit()?;
    }
    upstream.quit()
}

fn three_certificates(files: &Files) -> Result<()> {
    let keys = [("ml-dsa", ML_DSA_65), ("ecdsa", ECDSA), ("rsa", RSA)];
    let gateway = files.start_with(|text, directory| {
        for (name, key) in keys {
            write_leaf(directory, &format!("server-{name}"), &*pki().leaf(key, key)?)?;
        }
        Ok(text)
    })?;
    let roots = keys.iter().map(|(_, key)| Ok(pki().root(*key)?.der.clone()));
    let roots = roots.collect::<Result<Vec<_>>>()?;
    let (ml_dsa, ecdsa, rsa) =
        (SignatureScheme::ML_DSA_65, SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::RSA_PSS_SHA256);
    for (schemes, key) in [
        (&[ml_dsa, ecdsa, rsa][..], ML_DSA_65),
        (&[ecdsa, rsa, ml_dsa], ML_DSA_65),
        (&[rsa, ecdsa], ECDSA),
        (&[rsa], RSA),
    ] {
        let client = RustlsClient::with_certificates(HYBRID, &roots, Some(schemes), None)?;
        let exchange = client.get(gateway.port())?;
        let leaf = pki().leaf(key, key)?;
        ensure!(exchange.chain.first() == Some(leaf.der()), "{schemes:?} did not get {}", key.name);
        ensure!(exchange.text.contains("protocol=TLSv1.3 "), "{}", exchange.text);
    }
    // TLS 1.2 has no ML-DSA.
    let client = RustlsClient::with_version(&TLS12, "X25519:P-256", &roots, None, None)?;
    let exchange = client.get(gateway.port())?;
    ensure!(exchange.chain.first() == Some(pki().leaf(ECDSA, ECDSA)?.der()), "TLS 1.2 did not get ECDSA");
    gateway.quit()
}

/// Runs `check` where a software token has ML-DSA, and where the oldest OpenSSL has to do with RSA and EC.
fn with_token(file: &str, check: impl Fn(&Files, Kind) -> Result<()>) {
    let mut report = Report::new();
    for (platform, kind) in [(&DEBIAN_12, Kind::SoftHsm), (&DEBIAN_13, Kind::Kryoptic)] {
        report.check(platform.name, check(&Files { platform, name: file.to_owned() }, kind));
    }
    report.finish();
}

/// `openssl-cnf/hsm.cnf` and `nginx-conf/hsm.conf` belong together: a key in the token beside one in a file.
fn key_in_a_token(files: &Files, kind: Kind) -> Result<()> {
    let token = Token::new(files.platform, kind)?;
    let key = if kind == Kind::Kryoptic { ML_DSA_65 } else { ECDSA };
    let leaf = pki().leaf_for(key, &token.generate("web", key)?)?;
    let rsa = pki().leaf(RSA, RSA)?;
    let openssl_conf = |directory: &WorkDir| {
        let below = directory.write("with-system.cnf", &openssl_cnf(directory, "with-system.cnf")?)?;
        let text = shipped("openssl-cnf", "hsm.cnf")?;
        let text = fill(&text, ".include /usr/local/lib/qtls/with-system.cnf", &format!(".include {below}"))?;
        let text = fill(&text, "/usr/lib/softhsm/libsofthsm2.so", &token.module())?;
        let status = format!("pkcs11-status-dir = {}", directory.inside(""));
        let text = fill(&text, "pkcs11-token = gateway", &format!("pkcs11-token = gateway\n{status}"))?;
        fill(&text, "file:/etc/qtls/hsm.pin", &token.pin_source())
    };
    let shipped = Files { platform: files.platform, name: "hsm.conf".to_owned() };
    let gateway = shipped.start_on(&[token.environment()], openssl_conf, |text, directory| {
        directory.write("server-hsm.pem", &leaf.chain)?;
        directory.write("server-hsm.key", &token.key_ref("web")?)?;
        write_leaf(directory, "server-rsa", &rsa)?;
        Ok(text)
    })?;
    let own = if key == ECDSA { SignatureScheme::ECDSA_NISTP256_SHA256 } else { SignatureScheme::ML_DSA_65 };
    // Of a client that knows both, the client's order decides.
    for (scheme, root, expected) in
        [(own, key, leaf.der()), (SignatureScheme::RSA_PSS_SHA256, RSA, rsa.der())]
    {
        let roots = [pki().root(root)?.der.clone()];
        let client = RustlsClient::with_certificates(HYBRID, &roots, Some(&[scheme]), None)?;
        let exchange = client.get(gateway.port())?;
        ensure!(exchange.chain.first() == Some(expected), "not the {} certificate came", root.name);
        ensure!(exchange.text.contains("protocol=TLSv1.3 "), "{}", exchange.text);
    }
    gateway.quit()
}

fn write_leaf(directory: &WorkDir, name: &str, leaf: &Leaf) -> Result<()> {
    directory.write(&format!("{name}.pem"), &leaf.chain)?;
    directory.write(&format!("{name}.key"), &leaf.key).map(drop)
}

fn client_certificates(files: &Files) -> Result<()> {
    let gateway = files.start_with(|text, directory| {
        directory.write("clients.pem", &pki().roots(&[ML_DSA_65, COMPOSITE])?)?;
        Ok(text)
    })?;
    let with = |leaf: &Leaf| {
        let own = presents(&leaf.chain_der, leaf.key_der()?)?;
        let roots = [identity().authority_der.clone()];
        RustlsClient::with_certificates(HYBRID, &roots, None, Some(own))
    };
    let is_modern = files.platform.version >= (3, 2);
    for root in [ML_DSA_65, COMPOSITE] {
        for key in [ECDSA, ML_DSA_65].into_iter().filter(|key| is_modern || *key == ECDSA) {
            let client = with(&*pki().leaf_of_intermediate(root, key)?)?;
            for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
                let exchange = client.get(gateway.port())?;
                let what = format!("{} under {}", key.name, root.name);
                ensure!(
                    exchange.text.contains("verify=SUCCESS client=CN=localhost "),
                    "{what}: {}",
                    exchange.text
                );
                ensure!(exchange.kind == expected, "{what} is {:?}, not {expected:?}", exchange.kind);
            }
        }
        let text = with(&*strangers().leaf(root, ECDSA)?)?.get(gateway.port())?.text;
        ensure!(text.contains("400 The SSL certificate error"), "a stranger got in: {text}");
    }
    let text = RustlsClient::new(HYBRID)?.get(gateway.port())?.text;
    ensure!(text.contains("400 No required SSL certificate was sent"), "nobody got in: {text}");
    gateway.quit()
}

fn upstream_with_certificate(files: &Files) -> Result<()> {
    let behind = |root: KeyType| -> Result<Nginx> {
        let server = Server::groups(HYBRID)
            .lines("ssl_client_certificate clients.pem; ssl_verify_client on; ssl_verify_depth 2;")
            .lines("location / { return 200 \"$ssl_client_verify $ssl_client_s_dn\\n\"; }");
        let setup = Setup::new(OpensslConf::new(), vec![server]).file("clients.pem", &pki().root(root)?.pem);
        Nginx::start(files.platform, &setup)
    };
    // The last knows another authority.
    for (root, says) in [(ML_DSA_65, "SUCCESS CN=localhost"), (COMPOSITE, "400 The SSL certificate error")] {
        let upstream = behind(root)?;
        let gateway = files.start_with(|text, directory| {
            write_leaf(directory, "client-ml-dsa", &*pki().leaf_of_intermediate(ML_DSA_65, ML_DSA_65)?)?;
            fill(&text, "https://127.0.0.1:9443;", &format!("https://127.0.0.1:{};", upstream.port(0)))
        })?;
        let text = plain_get(gateway.port())?;
        ensure!(text.contains(says), "{text}\n{}", gateway.nginx.error_log().unwrap_or_default());
        gateway.quit()?;
        upstream.quit()?;
    }
    Ok(())
}

fn plain_get(port: u16) -> Result<String> {
    let mut socket = connect(port)?;
    socket.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    socket.read_to_string(&mut text)?;
    Ok(text)
}

fn h2(files: &Files) -> Result<()> {
    let gateway = files.start()?;
    for protocol in ["h2", "http/1.1"] {
        let exchange = RustlsClient::with_alpn(HYBRID, &[protocol])?.handshake(gateway.port())?;
        ensure!(exchange.alpn.as_deref() == Some(protocol) && exchange.group == HYBRID, "{exchange:?}");
    }
    let both = RustlsClient::with_alpn("X25519", &["http/1.1", "h2"])?.handshake(gateway.port())?;
    ensure!(both.alpn.as_deref() == Some("h2"), "of both, {:?} is chosen", both.alpn);
    let exchange = RustlsClient::with_alpn(HYBRID, &["http/1.1"])?.get(gateway.port())?;
    ensure!(exchange.text.contains("protocol=TLSv1.3"), "{exchange:?}");
    gateway.quit()
}

/// nginx's ticket keys are 80 bytes: a name, an HMAC key and an AES-256 key.
fn ticket_key(round: u8) -> [u8; 80] {
    [round; 80]
}

fn write_ticket_keys(directory: &WorkDir, round: u8) -> Result<()> {
    for (name, round) in [("previous", round - 1), ("current", round), ("next", round + 1)] {
        fs::write(directory.outside(&format!("ticket-{name}.key")), ticket_key(round))?;
    }
    Ok(())
}

fn tickets(files: &Files) -> Result<()> {
    let start = || {
        files.start_with(|text, directory| {
            write_ticket_keys(directory, 10)?;
            Ok(text)
        })
    };
    let (first, second) = (start()?, start()?);
    let kind_at = |client: &RustlsClient, gateway: &Gateway| -> Result<HandshakeKind> {
        let exchange = client.get(gateway.port())?;
        ensure!(exchange.group == HYBRID, "{exchange:?}");
        Ok(exchange.kind)
    };
    let expect = |what: &str, found: HandshakeKind, expected: HandshakeKind| -> Result<()> {
        ensure!(found == expected, "{what}: {found:?}");
        Ok(())
    };
    let clients = (0..3).map(|_| RustlsClient::new(HYBRID)).collect::<Result<Vec<_>>>()?;
    for client in &clients {
        expect("the first connection", kind_at(client, &first)?, HandshakeKind::Full)?;
    }
    expect("at another gateway", kind_at(&clients[0], &second)?, HandshakeKind::Resumed)?;

    // The second gateway is a round ahead: each takes what the other makes.
    write_ticket_keys(second.nginx.directory(), 11)?;
    reload(&second)?;
    expect("with the previous key", kind_at(&clients[1], &second)?, HandshakeKind::Resumed)?;
    expect("with the next key", kind_at(&clients[1], &first)?, HandshakeKind::Resumed)?;

    // Two rounds later nobody knows the key any more.
    write_ticket_keys(second.nginx.directory(), 12)?;
    reload(&second)?;
    expect("with a key that is gone", kind_at(&clients[2], &second)?, HandshakeKind::Full)?;
    first.quit()?;
    second.quit()
}

/// Reloads, and waits until no worker with the old configuration can accept a connection.
fn reload(gateway: &Gateway) -> Result<()> {
    let before = gateway.nginx.workers()?;
    gateway.nginx.reload()?;
    wait_for("the end of the old workers", || {
        Ok(gateway.nginx.workers()?.iter().all(|pid| !before.contains(pid)).then_some(()))
    })
}

fn session_cache(files: &Files) -> Result<()> {
    let (gateway, other) = (files.start()?, files.start()?);
    let client = RustlsClient::new(HYBRID)?;
    for round in 0..4 {
        let exchange = client.get(gateway.port())?;
        let expected = if round == 0 { HandshakeKind::Full } else { HandshakeKind::Resumed };
        ensure!(exchange.kind == expected && exchange.group == HYBRID, "connection {round}: {exchange:?}");
    }
    // Stateful: what one gateway's memory holds, another does not know.
    let exchange = client.get(other.port())?;
    ensure!(exchange.kind == HandshakeKind::Full, "{exchange:?}");
    gateway.quit()?;
    other.quit()
}

fn early_data(files: &Files) -> Result<()> {
    let gateway = files.start()?;
    let client = client(HYBRID, true)?;
    let get = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
    let post = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n";

    let told = gateway.request(&client, get)?;
    ensure!(!told.early && told.text.contains("early=\n"), "the first connection: {told:?}");
    let told = gateway.request(&client, get)?;
    ensure!(told.early && told.text.starts_with("HTTP/1.1 200 "), "an early GET: {told:?}");
    ensure!(told.text.contains("early=1\n"), "the application is not told: {told:?}");
    let told = gateway.request(&client, post)?;
    ensure!(told.early && told.text.starts_with("HTTP/1.1 425 "), "an early POST: {told:?}");
    let late = self::client(HYBRID, false)?;
    let told = gateway.request(&late, post)?;
    ensure!(!told.early && told.text.starts_with("HTTP/1.1 200 "), "a POST after the handshake: {told:?}");
    gateway.quit()
}

/// A client whose requests a test words itself.
fn client(group: &str, early_data: bool) -> Result<Arc<ClientConfig>> {
    let provider = rustls::crypto::CryptoProvider {
        kx_groups: vec![qtls_tests::groups::rustls_group(group)?],
        ..rustls::crypto::aws_lc_rs::default_provider()
    };
    let mut roots = RootCertStore::empty();
    roots.add(identity().authority_der.clone())?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.enable_early_data = early_data;
    Ok(Arc::new(config))
}

/// What came of a request.
#[derive(Debug)]
struct Told {
    /// Whether it was taken as 0-RTT data.
    early: bool,
    text: String,
}

/// Connects, sends the request, as 0-RTT data where that is possible, and reads the answer to its end.
fn request(config: &Arc<ClientConfig>, port: u16, head: &str) -> Result<Told> {
    let mut connection = ClientConnection::new(Arc::clone(config), "localhost".try_into()?)?;
    let mut socket: TcpStream = connect(port)?;
    let message = format!("{head}\r\n");
    let sent_early = match connection.early_data() {
        Some(mut early) => {
            early.write_all(message.as_bytes())?;
            true
        }
        None => false,
    };
    if sent_early {
        answer_before_finished(&mut connection, &mut socket)?;
    }
    while connection.is_handshaking() {
        let (read, written) = connection.complete_io(&mut socket).context("handshake")?;
        ensure!(read + written > 0 || !connection.is_handshaking(), "the server hung up in the handshake");
    }
    let early = sent_early && connection.is_early_data_accepted();
    if !early {
        connection.writer().write_all(message.as_bytes())?;
    }
    let mut text = Vec::new();
    match rustls::Stream::new(&mut connection, &mut socket).read_to_end(&mut text) {
        // A server that closes without close_notify has still answered.
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {}
        outcome => drop(outcome.context("reading the answer")?),
    }
    Ok(Told { early, text: String::from_utf8_lossy(&text).into_owned() })
}

/// Holds the client's Finished back until the server answers or refuses the 0-RTT data: once the handshake is complete
/// the request is an ordinary one, and whether nginx sees it before or after would be chance.
fn answer_before_finished(connection: &mut ClientConnection, socket: &mut TcpStream) -> Result<()> {
    while connection.wants_write() {
        connection.write_tls(socket)?;
    }
    loop {
        ensure!(connection.read_tls(socket)? > 0, "the server hung up in the handshake");
        let state = connection.process_new_packets()?;
        let refused = !connection.is_handshaking() && !connection.is_early_data_accepted();
        if state.plaintext_bytes_to_read() > 0 || refused {
            return Ok(());
        }
    }
}
