//! A mistake in the provider's section of openssl.cnf is named, and never ends in classical groups in silence.
//!
//! A wrong option stops nginx on every OpenSSL: the provider is loaded and makes `SSL_CTX_new` fail. A module that
//! can't be loaded has no such means: OpenSSL goes on, whatever `config_diagnostics` says ("non-fatal activation
//! failure", crypto/provider_conf.c, `provider_conf_load`, 3.0 to 4.0). Up to 3.4 the hybrid names are unknown then.
//! `Groups` in the same file is passed over on 3.0, and fatal only later; nginx's own `ssl_ecdh_curve` stops it on
//! each. From 3.5 on OpenSSL knows the names itself, and serves them.

use anyhow::{Result, ensure};
use qtls_tests::{
    OpensslConf, Platform, WorkDir,
    nginx::{Nginx, Server, Setup, answer_location},
    platform::{DEBIAN_12, DEBIAN_13, DEBIAN_SID, NGINX_ON_3_4_1},
    report::Report,
    rustls_client::RustlsClient,
};

/// A line of the provider's section, and what the message must contain.
const MISTAKES: &[(&str, &[&str])] = &[
    ("native = perhaps", &["native = perhaps", "yield, prefer"]),
    ("self-test = never", &["self-test = never", "on-load, on-demand, off"]),
    ("log = loud", &["log = loud", "error, warn, info, debug"]),
    ("groups = X25519MLKEM769", &["groups = X25519MLKEM769", "X25519MLKEM768"]),
    ("groups = X25519MLKEM768:X25519", &["'X25519' is not a group of this provider", "ssl_conf"]),
    ("signatures = mldsa66", &["signatures = mldsa66", "mldsa44, mldsa65, mldsa87"]),
    ("signatures = id-MLDSA65-ECDSA-P256-SHA512", &["certificates, not handshakes"]),
    ("unguarded-signatures = perhaps", &["unguarded-signatures = perhaps", "withhold, offer"]),
];

/// The later of two values holds.
const NO_MODULE: &str = "module = /nowhere/qtls.so";

const PLATFORMS: [&Platform; 4] = [&DEBIAN_12, &NGINX_ON_3_4_1, &DEBIAN_13, &DEBIAN_SID];

const HYBRID: &str = "X25519MLKEM768";
const GROUPS: &str = "X25519MLKEM768:X25519";

fn conf() -> OpensslConf {
    OpensslConf::new().groups(GROUPS)
}

#[test]
fn a_wrong_option_stops_nginx_and_is_named_on_standard_error() {
    let mut report = Report::new();
    for platform in PLATFORMS {
        // Neither file names a group: it is the option alone that stops nginx.
        for (line, says) in MISTAKES {
            let conf = OpensslConf::new().provider_line(line);
            let outcome = check(platform, &conf, "auto").and_then(|(passed, message)| {
                ensure!(!passed, "nginx -t passes:\n{message}");
                says.iter().try_for_each(|part| {
                    ensure!(message.contains(part), "the message lacks '{part}':\n{message}");
                    Ok(())
                })
            });
            report.check(&format!("{}: {line}", platform.name), outcome);
        }
        let outcome = check(platform, &OpensslConf::new(), "auto").and_then(|(passed, message)| {
            ensure!(passed, "nginx -t fails:\n{message}");
            Ok(())
        });
        report.check(&format!("{}: no mistake", platform.name), outcome);
    }
    report.finish();
}

#[test]
fn up_to_openssl_3_4_a_missing_module_stops_an_nginx_that_names_its_groups() {
    let mut report = Report::new();
    for platform in [&DEBIAN_12, &NGINX_ON_3_4_1] {
        let outcome =
            check(platform, &conf().provider_line(NO_MODULE), GROUPS).and_then(|(passed, message)| {
                ensure!(!passed, "nginx -t passes:\n{message}");
                Ok(())
            });
        report.check(platform.name, outcome);
        // What is refused above is refused for the mistake alone.
        let outcome = check(platform, &conf(), GROUPS).and_then(|(passed, message)| {
            ensure!(passed, "nginx -t fails:\n{message}");
            Ok(())
        });
        report.check(&format!("{}: no mistake", platform.name), outcome);
    }
    report.finish();
}

#[test]
fn from_openssl_3_5_on_a_missing_module_leaves_openssls_own_hybrid_groups() {
    let mut report = Report::new();
    for platform in [&DEBIAN_13, &DEBIAN_SID] {
        let servers = vec![Server::library_groups().lines(&answer_location())];
        let outcome =
            Nginx::start(platform, &Setup::new(conf().provider_line(NO_MODULE), servers)).and_then(|nginx| {
                let answer = RustlsClient::new(GROUPS)?.get(nginx.port(0))?.answer()?;
                ensure!(answer.group == HYBRID, "{answer:?}");
                nginx.quit()
            });
        report.check(platform.name, outcome);
    }
    report.finish();
}

fn check(platform: &Platform, conf: &OpensslConf, groups: &str) -> Result<(bool, String)> {
    let directory = WorkDir::new(platform)?;
    let openssl_conf = directory.write_openssl_conf("openssl.cnf", conf)?;
    let nginx_conf = format!(
        "error_log {log};\npid {pid};\nevents {{}}\nhttp {{ server {{ listen 127.0.0.1:1 ssl; ssl_ecdh_curve {groups}; \
         ssl_certificate {certificate}; ssl_certificate_key {key}; }} }}\n",
        log = directory.inside("error.log"),
        pid = directory.inside("nginx.pid"),
        certificate = directory.inside("server.pem"),
        key = directory.inside("server.key"),
    );
    Nginx::check(platform, &directory, &openssl_conf, &nginx_conf)
}
