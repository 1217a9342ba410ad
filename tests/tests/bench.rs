//! `qtls bench` measures stock nginx with and without the provider, and says so when the group is not what was asked for.

use anyhow::{Result, ensure};
use qtls_tests::{
    OpensslConf, WorkDir,
    platform::{DEBIAN_12, workspace},
};
use std::process::{Command, Output};

const HYBRID: &str = "X25519MLKEM768";

#[test]
fn bench_compares_nginx_with_and_without_the_provider_in_one_run() -> Result<()> {
    let directory = WorkDir::new(&DEBIAN_12)?;
    let output = bench(&directory.write_openssl_conf("openssl.cnf", &OpensslConf::new())?)?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let text = report.to_string();
    for part in ["classical", "qtls", "X25519", HYBRID] {
        ensure!(text.contains(part), "the report lacks {part}: {text}");
    }
    Ok(())
}

#[test]
fn bench_refuses_to_report_a_configuration_that_does_not_negotiate_the_group() -> Result<()> {
    // The system's own OpenSSL 3.0, which has no such group.
    let output = bench("-")?;
    ensure!(output.status.code() == Some(2), "it ended with {}", output.status);
    let message = String::from_utf8_lossy(&output.stderr);
    ensure!(message.contains("qtls"), "the message does not say which configuration: {message}");
    Ok(())
}

/// `qtls bench`, briefly: the system's OpenSSL against another configuration.
fn bench(openssl_conf: &str) -> Result<Output> {
    let output = Command::new(workspace().join("dist/qtls"))
        .args([
            "bench",
            "--nginx",
            "/usr/sbin/nginx",
            "--rounds",
            "1",
            "--handshakes",
            "60",
            "--only",
            "full",
            "--json",
        ])
        .arg("--chroot")
        .arg(DEBIAN_12.home()?)
        .args(["--conf", "classical=-,group=X25519"])
        .args(["--conf", &format!("qtls={openssl_conf},group={HYBRID}")])
        .output()?;
    Ok(output)
}
