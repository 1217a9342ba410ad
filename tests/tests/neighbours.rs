//! Other servers and clients with the same file: HAProxy, PostgreSQL, curl.

use std::{
    fs,
    io::{Read, Write},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use qtls_tests::{
    GROUPS, Native, OpensslConf, Platform, WorkDir,
    identity::identity,
    nginx::{Answer, Nginx, Server, Setup, answer_location},
    openssl::OpensslClient,
    platform::{DEBIAN_12, DEBIAN_13, DEBIAN_SID},
    process::{Process, free_port},
    report::Report,
    rustls_client::{RustlsClient, connect},
};
use rustix::process::Signal;

/// PostgreSQL's SSLRequest: a length of 8 and the code 80877103 (its manual, "Message Formats").
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

#[test]
fn haproxy_serves_every_group_by_its_curves_option() {
    let mut report = Report::new();
    for platform in [&DEBIAN_12, &DEBIAN_13, &DEBIAN_SID] {
        for native in platform.native_modes() {
            report.check(&format!("{} {native:?}", platform.name), haproxy(platform, *native));
        }
    }
    report.finish();
}

fn haproxy(platform: &'static Platform, native: Native) -> Result<()> {
    let directory = WorkDir::new(platform)?;
    let conf = directory.write_openssl_conf("openssl.cnf", &OpensslConf::new().native(native))?;
    let both = directory.write("both.pem", &format!("{}{}", identity().certificate, identity().key))?;
    let ports = GROUPS.iter().map(|_| free_port()).collect::<Result<Vec<_>>>()?;
    let binds: String = GROUPS
        .iter()
        .zip(&ports)
        .map(|(group, port)| {
            format!(
                "  bind 127.0.0.1:{port} ssl crt {both} curves {} ssl-min-ver TLSv1.3 alpn h2,http/1.1\n",
                group.name
            )
        })
        .collect();
    let text = format!(
        "global\n  maxconn 200\ndefaults\n  mode http\n  timeout connect 10s\n  timeout client 20s\n  \
         timeout server 20s\nfrontend tls\n{binds}  http-request return status 200 content-type text/plain \
         string \"served\\n\"\n"
    );
    let file = directory.write("haproxy.cfg", &text)?;
    let mut command = platform.command("/usr/sbin/haproxy")?;
    command.env("OPENSSL_CONF", conf).args(["-db", "-f", &file]);
    let mut server = Process::spawn("haproxy", command, directory.outside("haproxy.output"))?;
    let native = OpensslClient::native(&DEBIAN_13)?;
    for (group, port) in GROUPS.iter().zip(ports) {
        server.wait_for_port(port)?;
        if group.rustls().is_some() {
            let exchange = RustlsClient::new(group.name)?.get(port).context(group.name)?;
            ensure!(exchange.group == group.name && exchange.text.ends_with("served\n"), "{exchange:?}");
        }
        let run = native.get(port, group.name, &[])?;
        ensure!(run.connected && run.group.as_deref() == Some(group.name), "{}: {}", group.name, run.text);
        ensure!(run.text.contains("served"), "{}: {}", group.name, run.text);
    }
    let status = server.stop(Signal::USR1)?;
    ensure!(status.success(), "haproxy ended with {status}:\n{}", server.output());
    Ok(())
}

#[test]
fn postgresql_18_serves_every_group_by_ssl_groups() {
    let mut report = Report::new();
    for native in DEBIAN_SID.native_modes() {
        report.check(&format!("{native:?}"), postgresql(*native));
    }
    report.finish();
}

fn postgresql(native: Native) -> Result<()> {
    let platform = &DEBIAN_SID;
    let directory = WorkDir::new(platform)?;
    let conf = directory.write_openssl_conf("openssl.cnf", &OpensslConf::new().native(native))?;
    let home = directory.outside("postgresql");
    fs::create_dir(&home)?;
    for (file, target) in [("server.pem", "tls.pem"), ("server.key", "tls.key")] {
        fs::copy(directory.outside(file), home.join(target))?;
    }
    let inside = directory.inside("postgresql");
    succeeds(platform.command("chown")?.args(["-R", "postgres:postgres", &inside]))?;
    let data = format!("{inside}/data");
    succeeds(platform.command_as("postgres", "/usr/lib/postgresql/18/bin/initdb")?.args([
        "-D",
        &data,
        "-A",
        "trust",
        "-U",
        "postgres",
        "-E",
        "UTF8",
        "--no-sync",
    ]))?;
    for group in &GROUPS {
        postgresql_with(platform, &directory, &conf, &inside, group.name).context(group.name)?;
    }
    Ok(())
}

fn postgresql_with(
    platform: &'static Platform,
    directory: &WorkDir,
    conf: &str,
    home: &str,
    group: &str,
) -> Result<()> {
    let port = free_port()?;
    let mut command = platform.command_as("postgres", "/usr/lib/postgresql/18/bin/postgres")?;
    command.env("OPENSSL_CONF", conf).args(["-D", &format!("{home}/data"), "-p", &port.to_string(), "-F"]);
    for setting in [
        "listen_addresses=127.0.0.1",
        "ssl=on",
        "ssl_min_protocol_version=TLSv1.3",
        "shared_buffers=16MB",
        &format!("ssl_cert_file={home}/tls.pem"),
        &format!("ssl_key_file={home}/tls.key"),
        &format!("ssl_groups={group}"),
        &format!("unix_socket_directories={home}"),
    ] {
        command.args(["-c", setting]);
    }
    let mut server =
        Process::spawn("postgres", command, directory.outside(&format!("postgres-{group}.output")))?;
    server.wait_for_port(port)?;

    if qtls_tests::Group::named(group).rustls().is_some() {
        let mut socket = connect(port)?;
        socket.write_all(&SSL_REQUEST)?;
        let mut answer = [0];
        socket.read_exact(&mut answer)?;
        ensure!(answer == *b"S", "it answers '{}' to an SSLRequest:\n{}", answer[0] as char, server.output());
        let exchange = RustlsClient::new(group)?.handshake_on(socket)?;
        ensure!(exchange.group == group, "{exchange:?}");
    }

    // libpq has no option for groups; openssl.cnf decides.
    let client_conf = OpensslConf::without_provider().groups(group);
    let client_conf = directory.write_openssl_conf("client.cnf", &client_conf)?;
    let url = format!(
        "host=localhost hostaddr=127.0.0.1 port={port} user=postgres sslmode=verify-full sslrootcert={}",
        directory.inside("ca.pem")
    );
    let query = "select version from pg_stat_ssl where pid = pg_backend_pid()";
    let told = postgres_answers(platform, &client_conf, &url, query).with_context(|| server.output())?;
    ensure!(told.trim() == "TLSv1.3", "pg_stat_ssl says '{told}'");
    let status = server.stop(Signal::INT)?;
    ensure!(status.success(), "postgres ended with {status}:\n{}", server.output());
    Ok(())
}

/// psql's answer; the server refuses connections until it has recovered, so psql is asked again then.
fn postgres_answers(platform: &Platform, conf: &str, url: &str, query: &str) -> Result<String> {
    qtls_tests::process::wait_for("PostgreSQL's start", || {
        let output = platform
            .command("/usr/lib/postgresql/18/bin/psql")?
            .env("OPENSSL_CONF", conf)
            .args(["-X", "-A", "-t", "-c", query, url])
            .output()?;
        let error = String::from_utf8_lossy(&output.stderr);
        if error.contains("starting up") {
            return Ok(None);
        }
        ensure!(output.status.success(), "psql: {error}");
        Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned()))
    })
}

fn succeeds(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[test]
fn curl_chooses_every_group_by_its_curves_option() {
    let servers = GROUPS.map(|group| Server::groups(group.name).lines(&answer_location())).to_vec();
    // A server whose groups are OpenSSL's own.
    let nginx = Nginx::start(&DEBIAN_SID, &Setup::new(OpensslConf::without_provider(), servers))
        .unwrap_or_else(|error| panic!("{error:#}"));
    let mut report = Report::new();
    for platform in [&DEBIAN_12, &DEBIAN_SID] {
        for native in platform.native_modes() {
            let directory = WorkDir::new(platform).unwrap_or_else(|error| panic!("{error:#}"));
            for (index, group) in GROUPS.iter().enumerate() {
                let what = format!("{} {native:?} {}", platform.name, group.name);
                report.check(&what, curl(platform, &directory, *native, nginx.port(index), group.name));
            }
        }
    }
    report.check("nginx ends well", nginx.quit());
    report.finish();
}

fn curl(platform: &Platform, directory: &WorkDir, native: Native, port: u16, group: &str) -> Result<()> {
    let conf = directory.write_openssl_conf("openssl.cnf", &OpensslConf::new().native(native))?;
    let output = platform
        .command("curl")?
        .env("OPENSSL_CONF", conf)
        .args(["--silent", "--show-error", "--max-time", "20", "--http2", "--curves", group, "--cacert"])
        .arg(directory.inside("ca.pem"))
        .arg(format!("https://localhost:{port}/"))
        .output()?;
    ensure!(output.status.success(), "curl: {}", String::from_utf8_lossy(&output.stderr));
    let answer = Answer::parse(&String::from_utf8_lossy(&output.stdout))?;
    ensure!(answer.group == group && answer.http == "HTTP/2.0", "{answer:?}");
    Ok(())
}
