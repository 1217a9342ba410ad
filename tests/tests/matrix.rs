//! Every server, on every OpenSSL, with every group, with every client.

use anyhow::{Result, ensure};
use qtls_tests::{
    GROUPS, Native, OpensslConf, Platform,
    browser::Browser,
    full,
    groups::Group,
    nginx::{Nginx, Server, Setup, answer_location},
    openssl::{OpensslClient, OpensslServer},
    platform::{DEBIAN_12, DEBIAN_13, DEBIAN_SID, NGINX_ON_3_4_1, OPENSSL_3_0_2, OPENSSL_3_4_1, OPENSSL_4_0},
    report::Report,
    rustls_client::RustlsClient,
};

#[test]
fn nginx_on_openssl_3_0_serves_every_group_to_every_client() {
    nginx_serves_every_group_to_every_client(&DEBIAN_12, Native::Yield);
}

#[test]
fn nginx_on_openssl_3_4_1_serves_every_group_to_every_client() {
    nginx_serves_every_group_to_every_client(&NGINX_ON_3_4_1, Native::Yield);
}

#[test]
fn nginx_on_openssl_3_5_serves_every_group_to_every_client_with_native_yield() {
    nginx_serves_every_group_to_every_client(&DEBIAN_13, Native::Yield);
}

#[test]
fn nginx_on_openssl_3_5_serves_every_group_to_every_client_with_native_prefer() {
    nginx_serves_every_group_to_every_client(&DEBIAN_13, Native::Prefer);
}

#[test]
fn nginx_on_openssl_3_6_serves_every_group_to_every_client_with_native_yield() {
    nginx_serves_every_group_to_every_client(&DEBIAN_SID, Native::Yield);
}

#[test]
fn nginx_on_openssl_3_6_serves_every_group_to_every_client_with_native_prefer() {
    nginx_serves_every_group_to_every_client(&DEBIAN_SID, Native::Prefer);
}

#[test]
fn s_server_of_openssl_3_0_2_serves_every_group_to_every_client() {
    s_server_serves_every_group_to_every_client(&OPENSSL_3_0_2, Native::Yield);
}

#[test]
fn s_server_of_openssl_4_0_serves_every_group_to_every_client_with_native_yield() {
    s_server_serves_every_group_to_every_client(&OPENSSL_4_0, Native::Yield);
}

#[test]
fn s_server_of_openssl_4_0_serves_every_group_to_every_client_with_native_prefer() {
    s_server_serves_every_group_to_every_client(&OPENSSL_4_0, Native::Prefer);
}

#[test]
fn s_server_of_openssl_3_4_1_serves_every_group_to_every_client() {
    s_server_serves_every_group_to_every_client(&OPENSSL_3_4_1, Native::Yield);
}

/// All six groups may be on at once; a client that prefers each gets each.
#[test]
fn one_server_with_all_groups_lets_the_client_choose() {
    let mut report = Report::new();
    for platform in [&DEBIAN_12, &NGINX_ON_3_4_1, &DEBIAN_13, &DEBIAN_SID] {
        for native in platform.native_modes() {
            let all = GROUPS.map(|group| group.name).join(":") + ":X25519:P-256";
            let conf = OpensslConf::new().native(*native).groups(&all);
            let servers = vec![Server::library_groups().lines(&answer_location())];
            let nginx = Nginx::start(platform, &Setup::new(conf, servers)).expect(platform.name);
            for group in ["X25519MLKEM768", "SecP256r1MLKEM768", "MLKEM768", "MLKEM1024", "X25519", "P-256"] {
                let outcome = RustlsClient::new(group)
                    .and_then(|client| client.get(nginx.port(0))?.answer())
                    .and_then(|answer| same_group(&answer.group, group));
                report.check(&format!("{} {native:?} {group}", platform.name), outcome);
            }
            report.check(&format!("{} {native:?} ends well", platform.name), nginx.quit());
        }
    }
    report.finish();
}

fn nginx_serves_every_group_to_every_client(platform: &'static Platform, native: Native) {
    let servers = GROUPS.map(|group| Server::groups(group.name).lines(&answer_location())).to_vec();
    let setup = Setup::new(OpensslConf::new().native(native), servers);
    let nginx = Nginx::start(platform, &setup).unwrap_or_else(|error| panic!("{error:#}"));
    let mut report = Report::new();
    let clients = openssl_clients();
    for (index, group) in GROUPS.iter().enumerate() {
        let port = nginx.port(index);
        if group.rustls().is_some() {
            report.check(&format!("{} with rustls", group.name), rustls_gets(port, group));
        }
        for client in &clients {
            let outcome = client.get(port, group.name, &["-tls1_3"]).and_then(|run| {
                let answer = run.answer()?;
                same_group(&answer.group, group.name)?;
                ensure!(answer.protocol == "TLSv1.3", "it is {}", answer.protocol);
                client_says(run.group.as_deref(), group)
            });
            report.check(&format!("{} with {}", group.name, client.name()), outcome);
        }
    }
    report.check("X25519MLKEM768 with Chromium", chromium_gets(nginx.port(0)));
    report.check("nginx ends well", nginx.quit());
    report.finish();
}

fn s_server_serves_every_group_to_every_client(platform: &'static Platform, native: Native) {
    let mut report = Report::new();
    let clients = openssl_clients();
    for group in &GROUPS {
        let conf = OpensslConf::new().native(native);
        let mut server = OpensslServer::start(platform, &conf, group.name, &["-tls1_3"])
            .unwrap_or_else(|error| panic!("{}: {error:#}", group.name));
        if group.rustls().is_some() {
            let outcome = RustlsClient::new(group.name)
                .and_then(|client| client.get(server.port))
                .and_then(|exchange| same_group(&exchange.group, group.name));
            report.check(&format!("{} with rustls", group.name), outcome);
        }
        for client in &clients {
            let outcome = client.get(server.port, group.name, &["-tls1_3"]).and_then(|run| {
                // It has no other group that it could have taken.
                ensure!(
                    run.connected,
                    "no connection:\n{}\nthe server wrote:\n{}",
                    run.text,
                    server.output()
                );
                client_says(run.group.as_deref(), group)
            });
            report.check(&format!("{} with {}", group.name, client.name()), outcome);
        }
        let alive = server.is_alive().and_then(|alive| {
            ensure!(alive, "it ended:\n{}", server.output());
            Ok(())
        });
        report.check(&format!("s_server with {} runs on", group.name), alive);
    }
    report.finish();
}

/// OpenSSL's own implementation, which shares no code with ours; ours as the client on 3.0. The full part also
/// tries ours as the client on every other version.
fn openssl_clients() -> Vec<OpensslClient> {
    let native = [&DEBIAN_13, &DEBIAN_SID, &OPENSSL_4_0].map(OpensslClient::native);
    let mut ours = vec![OpensslClient::with_provider(&DEBIAN_12, &OpensslConf::new())];
    if full() {
        for platform in [&OPENSSL_3_0_2, &OPENSSL_3_4_1] {
            ours.push(OpensslClient::with_provider(platform, &OpensslConf::new()));
        }
        for platform in [&DEBIAN_13, &DEBIAN_SID, &OPENSSL_4_0] {
            ours.push(OpensslClient::with_provider(platform, &OpensslConf::new().native(Native::Prefer)));
        }
    }
    native.into_iter().chain(ours).collect::<Result<_>>().unwrap_or_else(|error| panic!("{error:#}"))
}

fn rustls_gets(port: u16, group: &Group) -> Result<()> {
    let exchange = RustlsClient::new(group.name)?.get(port)?;
    same_group(&exchange.group, group.name)?;
    same_group(&exchange.answer()?.group, group.name)
}

fn chromium_gets(port: u16) -> Result<()> {
    let visit = Browser::start()?.visit(&format!("https://localhost:{port}/"))?;
    ensure!(visit.status == 200 && visit.http == "h2" && visit.protocol == "TLS 1.3", "{visit:?}");
    same_group(&visit.group, "X25519MLKEM768")
}

fn same_group(found: &str, expected: &str) -> Result<()> {
    ensure!(found == expected, "the group is {found}, not {expected}");
    Ok(())
}

/// OpenSSL before 3.5 does not print the group.
fn client_says(found: Option<&str>, group: &Group) -> Result<()> {
    found.map_or(Ok(()), |found| same_group(found, group.name))
}
