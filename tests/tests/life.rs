//! A long life: reloads under load, memory, no invalid access, a clean end.

use std::{
    process::{Command, Output},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use anyhow::{Context, Result, ensure};
use qtls_tests::{
    GROUPS, Group, Native, OpensslConf, Platform, WorkDir,
    client_hello::{ILLEGAL_PARAMETER, Reply, send},
    full,
    nginx::{Nginx, Server, Setup, answer_location},
    openssl::{OpensslClient, OpensslServer},
    platform::{DEBIAN_12, DEBIAN_13, DEBIAN_SID, NGINX_ON_3_4_1, OPENSSL_3_0_2, OPENSSL_3_4_1, OPENSSL_4_0},
    process::{Process, anonymous_memory, free_port},
    report::Report,
    rustls_client::RustlsClient,
};

const HYBRID: &str = "X25519MLKEM768";

fn platforms(ci: &[&'static Platform]) -> Vec<&'static Platform> {
    if full() { vec![&DEBIAN_12, &NGINX_ON_3_4_1, &DEBIAN_13, &DEBIAN_SID] } else { ci.to_vec() }
}

/// What takes over the most on this platform.
fn busiest(platform: &Platform) -> Native {
    if platform.has_native_groups() { Native::Prefer } else { Native::Yield }
}

fn start(platform: &'static Platform, workers: u32) -> Result<Nginx> {
    // No session is kept: every handshake is a full one.
    let server = Server::groups(HYBRID)
        .lines("ssl_session_cache off; ssl_session_tickets off;")
        .lines(&answer_location());
    let conf = OpensslConf::new().native(busiest(platform));
    Nginx::start(platform, &Setup { workers, ..Setup::new(conf, vec![server]) })
}

#[test]
fn a_reload_under_load_fails_no_handshake() {
    let mut report = Report::new();
    for platform in platforms(&[&DEBIAN_12, &DEBIAN_SID]) {
        report.check(platform.name, reload_under_load(platform));
    }
    report.finish();
}

fn reload_under_load(platform: &'static Platform) -> Result<()> {
    let nginx = start(platform, 8)?;
    let client = RustlsClient::new(HYBRID)?;
    let port = nginx.port(0);
    let over = AtomicBool::new(false);
    let served = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    match client.get(port).and_then(|exchange| exchange.answer()) {
                        Ok(answer) if answer.group == HYBRID => drop(served.fetch_add(1, Ordering::Relaxed)),
                        Ok(answer) => failures.lock().expect("a list").push(format!("{answer:?}")),
                        Err(error) => failures.lock().expect("a list").push(format!("{error:#}")),
                    }
                }
            });
        }
        let outcome = (0..6).try_for_each(|_| {
            let before = served.load(Ordering::Relaxed);
            nginx.reload()?;
            // The new workers serve before the next reload.
            qtls_tests::process::wait_for("twenty answers after a reload", || {
                let failed = !failures.lock().expect("a list").is_empty();
                Ok((failed || served.load(Ordering::Relaxed) >= before + 20).then_some(()))
            })
        });
        over.store(true, Ordering::Relaxed);
        outcome
    })?;
    let failures = failures.into_inner().expect("a list");
    let served = served.into_inner();
    ensure!(
        failures.is_empty(),
        "{} of {} failed: {:?}",
        failures.len(),
        served + failures.len(),
        &failures[..1]
    );
    ensure!(served >= 120, "only {served} handshakes were made");
    nginx.quit()
}

/// Of one worker, by memory that it allocated itself, between the first tenth and the end.
#[test]
fn twenty_thousand_handshakes_leave_a_worker_its_size() {
    let mut report = Report::new();
    for platform in platforms(&[&DEBIAN_12]) {
        report.check(platform.name, stays_its_size(platform));
    }
    report.finish();
}

fn stays_its_size(platform: &'static Platform) -> Result<()> {
    let nginx = start(platform, 1)?;
    let workers = nginx.workers()?;
    let [worker] = workers[..] else { anyhow::bail!("the workers are {workers:?}") };
    handshakes(nginx.port(0), 2_000)?;
    let early = anonymous_memory(worker)?;
    handshakes(nginx.port(0), 18_000)?;
    let late = anonymous_memory(worker)?;
    ensure!(nginx.workers()? == [worker], "the worker was replaced");
    // A lost ML-KEM-768 key pair a handshake would be over 60 MB; the allocator's own play is less than this.
    ensure!(late <= early + 512, "it grew from {early} kB to {late} kB");
    println!("{}: {early} kB after 2,000 handshakes, {late} kB after 20,000", platform.name);
    nginx.quit()
}

fn handshakes(port: u16, number: usize) -> Result<()> {
    let client = RustlsClient::new(HYBRID)?;
    let left = AtomicUsize::new(number);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let take = |left: usize| left.checked_sub(1);
                    while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
                        let exchange = client.handshake(port)?;
                        ensure!(exchange.group == HYBRID, "{exchange:?}");
                    }
                    Ok(())
                })
            })
            .collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("a client thread"))
    })
}

#[test]
fn valgrind_finds_nothing_in_a_server_or_client_on_openssl_3_0() {
    valgrind_finds_nothing(&DEBIAN_12);
}

#[test]
fn valgrind_finds_nothing_in_a_server_or_client_on_openssl_3_5() {
    valgrind_finds_nothing(&DEBIAN_13);
}

#[test]
fn valgrind_finds_nothing_in_a_server_or_client_on_openssl_4_0() {
    valgrind_finds_nothing(&OPENSSL_4_0);
}

/// Invalid accesses, use of undefined memory, and memory lost for good are errors.
fn valgrind_finds_nothing(platform: &'static Platform) {
    let mut report = Report::new();
    let directory = WorkDir::new(platform).unwrap_or_else(|error| panic!("{error:#}"));
    let conf = OpensslConf::new().native(busiest(platform));
    let conf = directory.write_openssl_conf("openssl.cnf", &conf).unwrap_or_else(|error| panic!("{error:#}"));
    report.check("a server", server_under_valgrind(platform, &directory, &conf));
    let server = OpensslServer::start(&DEBIAN_SID, &OpensslConf::without_provider(), &all_groups(), &[]);
    let server = server.unwrap_or_else(|error| panic!("{error:#}"));
    // A process of each takes seconds here; the operations are the same code for every group.
    let groups = if full() { &GROUPS[..] } else { &GROUPS[..1] };
    for group in groups {
        let outcome = client_under_valgrind(platform, &directory, &conf, server.port, group);
        report.check(&format!("a client, {}", group.name), outcome);
    }
    report.finish();
}

fn all_groups() -> String {
    GROUPS.map(|group| group.name).join(":")
}

/// A whole handshake and a refused one with each group.
fn server_under_valgrind(platform: &'static Platform, directory: &WorkDir, conf: &str) -> Result<()> {
    let port = free_port()?;
    let mut command = valgrind(platform, conf)?;
    command
        .args(["/usr/bin/openssl", "s_server", "-www", "-tls1_3", "-groups", &all_groups()])
        // One connection is the harness', which looks whether it listens.
        .args(["-naccept", &(1 + 2 * GROUPS.len()).to_string(), "-accept", &format!("127.0.0.1:{port}")])
        .args(["-cert", &directory.inside("server.pem"), "-key", &directory.inside("server.key")]);
    let mut server =
        Process::spawn("s_server under valgrind", command, directory.outside("valgrind.output"))?;
    server.wait_for_port(port)?;
    let native = OpensslClient::native(&DEBIAN_SID)?;
    for group in &GROUPS {
        let run = native.get(port, group.name, &[])?;
        ensure!(
            run.connected,
            "no handshake with {} over {}:\n{}",
            native.name(),
            group.name,
            server.output()
        );
        let reply = send(port, &[group.code_point], &[(group.code_point, &[4; 33])])?;
        ensure!(
            reply == Reply::Alert(ILLEGAL_PARAMETER),
            "{}: a short share is answered by {reply:?}",
            group.name
        );
    }
    let status = server.wait()?;
    ensure!(status.success(), "the server ended with {status}:\n{}", findings(&server.output()));
    ensure!(server.output().contains("ERROR SUMMARY: 0 errors"), "no summary:\n{}", server.output());
    Ok(())
}

fn client_under_valgrind(
    platform: &'static Platform,
    directory: &WorkDir,
    conf: &str,
    port: u16,
    group: &Group,
) -> Result<()> {
    let mut client = valgrind(platform, conf)?;
    client.args(["/usr/bin/openssl", "s_client", "-connect", &format!("127.0.0.1:{port}"), "-tls1_3"]).args(
        ["-groups", group.name, "-CAfile", &directory.inside("ca.pem"), "-verify_return_error", "-ign_eof"],
    );
    let output = with_input(client, b"GET / HTTP/1.0\r\n\r\n")?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "it ended with {}:\n{text}", output.status);
    ensure!(text.contains("ERROR SUMMARY: 0 errors"), "no summary:\n{text}");
    let told = String::from_utf8_lossy(&output.stdout);
    ensure!(told.contains("Verify return code: 0 (ok)"), "no handshake:\n{told}");
    Ok(())
}

fn valgrind(platform: &Platform, conf: &str) -> Result<Command> {
    let mut command = platform.command_with_proc("valgrind")?;
    command
        .args(["--error-exitcode=99", "--leak-check=full", "--errors-for-leak-kinds=definite"])
        .args(["--show-leak-kinds=definite", "--num-callers=30"])
        .env("OPENSSL_CONF", conf);
    Ok(command)
}

fn findings(text: &str) -> String {
    text.lines().filter(|line| line.starts_with("==")).take(60).collect::<Vec<_>>().join("\n")
}

fn with_input(mut command: Command, input: &[u8]) -> Result<Output> {
    use std::{io::Write, process::Stdio};
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting it")?;
    child.stdin.take().context("standard input")?.write_all(input)?;
    Ok(child.wait_with_output()?)
}

/// With the provider loaded and used: the program's status is 0, and no signal or message comes at exit.
#[test]
fn programs_end_cleanly_on_every_version() {
    let mut report = Report::new();
    for platform in [&OPENSSL_3_0_2, &DEBIAN_12, &OPENSSL_3_4_1, &DEBIAN_13, &DEBIAN_SID, &OPENSSL_4_0] {
        for native in platform.native_modes() {
            let what = format!("{} {native:?}", platform.name);
            report.check(&what, ends_cleanly(platform, *native));
        }
    }
    report.finish();
}

fn ends_cleanly(platform: &'static Platform, native: Native) -> Result<()> {
    let directory = WorkDir::new(platform)?;
    let conf = directory.write_openssl_conf("openssl.cnf", &OpensslConf::new().native(native))?;
    let run = |arguments: &[&str]| -> Result<String> {
        let output = platform.openssl()?.env("OPENSSL_CONF", &conf).args(arguments).output()?;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(
            output.status.success() && err.is_empty(),
            "{arguments:?} ended with {}: {err}",
            output.status
        );
        Ok(out.into_owned())
    };
    let listed = run(&["list", "-providers"])?;
    ensure!(listed.contains("qtls") && listed.matches("status: active").count() == 2, "providers:\n{listed}");
    run(&["list", "-kem-algorithms"])?;
    let random = run(&["rand", "-hex", "16"])?;
    ensure!(random.trim().len() == 32, "rand gave {random}");
    Ok(())
}
