//! What goes wrong with keys in tokens: it heals by itself where that is possible, it is said where it is not (the key's
//! URI, the cause, and what to do, in nginx's error log), and it never costs a site whose key is elsewhere.

use std::{
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use qtls_tests::{
    OpensslConf, OpensslShell, Platform, full,
    nginx::{Nginx, Server, Setup, answer_location},
    pki::{ECDSA, KeyType, Leaf, ML_DSA_65, RSA, pki},
    platform::{DEBIAN_12, DEBIAN_13, DEBIAN_SID, NGINX_ON_3_4_1},
    process::{anonymous_memory, wait_for},
    report::Report,
    rustls_client::{Exchange, RustlsClient},
    token::{Faulty, Kind, PIN, Token, TokenServer, uri_pem},
};

const HYBRID: &str = "X25519MLKEM768";
/// What PKCS#11 answers (version 2.40, section 4).
const CKR_DEVICE_ERROR: u32 = 0x30;
const CKR_DEVICE_MEMORY: u32 = 0x31;
const CKR_PIN_INCORRECT: u32 = 0xa0;
const CKR_SESSION_HANDLE_INVALID: u32 = 0xb3;
const CKR_SESSION_CLOSED: u32 = 0xb0;
const CKR_KEY_HANDLE_INVALID: u32 = 0x60;
const CKR_USER_NOT_LOGGED_IN: u32 = 0x101;
const CKF_USER_PIN_FINAL_TRY: u32 = 0x0002_0000;
const CKF_USER_PIN_LOCKED: u32 = 0x0004_0000;

/// A token with the key `own`, and a site for it.
struct Site {
    token: Token,
    key: KeyType,
    leaf: Arc<Leaf>,
}

impl Site {
    fn new(platform: &'static Platform, key: KeyType) -> Result<Site> {
        let (token, leaf) = (Token::new(platform, Kind::SoftHsm)?, pki().leaf(key, key)?);
        token.import("own", "01", &leaf.key)?;
        Ok(Site { token, key, leaf })
    }

    /// An ML-DSA key, made in the token.
    fn of_ml_dsa(platform: &'static Platform) -> Result<Site> {
        let (token, key) = (Token::new(platform, Kind::Kryoptic)?, ML_DSA_65);
        let leaf = Arc::new(pki().leaf_for(key, &token.generate("own", key)?)?);
        Ok(Site { token, key, leaf })
    }

    /// Two servers with workers beside each other: the first's key is in the token, the second's in a file.
    fn setup(&self, conf: OpensslConf, workers: u32) -> Result<Setup> {
        self.setup_with(conf, workers, &uri_pem(&self.token.uri("own")))
    }

    /// The same with another file for the key in the token.
    fn setup_with(&self, conf: OpensslConf, workers: u32, key: &str) -> Result<Setup> {
        let file = pki().leaf(ECDSA, ECDSA)?;
        let server = |name: &str| {
            Server::groups(HYBRID)
                .lines("ssl_session_cache off; ssl_session_tickets off;")
                .lines(&format!("ssl_certificate {name}.pem; ssl_certificate_key {name}.key;"))
                .lines(&answer_location())
        };
        Ok(Setup::new(conf, vec![server("own"), server("file")])
            .workers(workers)
            .variable(self.token.environment())
            .file("own.pem", &self.leaf.chain)
            .file("own.key", key)
            .file("file.pem", &file.chain)
            .file("file.key", &file.key))
    }

    fn start(&self, conf: OpensslConf, workers: u32) -> Result<Nginx> {
        Nginx::start(self.token.platform, &self.setup(conf, workers)?)
    }

    /// nginx with a key file by `qtls key-ref`: the start asks no token for anything.
    fn start_with_key_ref(&self, conf: OpensslConf, workers: u32) -> Result<Nginx> {
        let setup = self.setup_with(conf, workers, &self.token.key_ref("own")?)?;
        Nginx::start(self.token.platform, &setup)
    }

    /// `nginx -t` with this configuration must fail, and say all this.
    fn is_refused(&self, conf: OpensslConf, says: &[&str]) -> Result<()> {
        let (passed, message) = Nginx::check_setup(self.token.platform, &self.setup(conf, 1)?)?;
        ensure!(!passed, "nginx -t passes:\n{message}");
        says_all(&message, says)
    }

    fn client(&self) -> Result<Client> {
        client(self.key)
    }
}

/// A client of the first server.
struct Client(RustlsClient);

fn client(key: KeyType) -> Result<Client> {
    let roots = [pki().root(key)?.der.clone()];
    Ok(Client(RustlsClient::with_certificates(HYBRID, &roots, None, None)?))
}

impl Client {
    fn get(&self, nginx: &Nginx) -> Result<Exchange> {
        self.0.get(nginx.port(0))
    }

    fn is_served(&self, nginx: &Nginx) -> Result<()> {
        self.get(nginx).map(drop)
    }

    /// The handshake fails, and the site with its key in a file is served as ever.
    fn is_refused(&self, nginx: &Nginx) -> Result<()> {
        ensure!(self.get(nginx).is_err(), "the handshake succeeds");
        client(ECDSA)?.0.get(nginx.port(1)).context("the site with its key in a file").map(drop)
    }

    /// Handshakes until one succeeds; how long that took.
    fn is_served_again(&self, nginx: &Nginx, within: Duration) -> Result<()> {
        let began = Instant::now();
        wait_for("a handshake", || Ok(self.get(nginx).ok()))?;
        ensure!(began.elapsed() < within, "it took {:?}", began.elapsed());
        Ok(())
    }

    /// Once every worker is on its feet again, no handshake fails.
    fn is_served_by_all(&self, nginx: &Nginx, workers: usize) -> Result<()> {
        wait_for("twenty handshakes in a row", || {
            Ok((0..10 * workers).all(|_| self.get(nginx).is_ok()).then_some(()))
        })
    }
}

/// The text holds all of these and no PIN.
fn says_all(text: &str, parts: &[&str]) -> Result<()> {
    for part in parts {
        ensure!(text.contains(part), "no '{part}' in:\n{text}");
    }
    holds_no_pin(text)
}

fn holds_no_pin(text: &str) -> Result<()> {
    ensure!(!text.contains(PIN), "the PIN is in:\n{text}");
    Ok(())
}

/// nginx's log says all this.
fn log_says(nginx: &Nginx, parts: &[&str]) -> Result<()> {
    says_all(&nginx.error_log()?, parts)
}

/// Ends nginx and returns its log with whatever failed.
fn then_quit(nginx: Nginx, outcome: Result<()>) -> Result<()> {
    outcome.with_context(|| {
        let log = nginx.error_log().unwrap_or_default();
        let lines: Vec<&str> = log.lines().filter(|line| !line.contains("[notice]")).collect();
        format!("nginx logged:\n{}", lines[lines.len().saturating_sub(12)..].join("\n"))
    })?;
    nginx.quit()
}

/// Runs one check and panics with its error.
fn must(outcome: Result<()>) {
    outcome.unwrap_or_else(|error| panic!("{error:#}"));
}

// ---- starts and reloads ----

/// Ten starts, each with four reloads under load; with a time limit on the token's calls, and with direct ones.
#[test]
fn fifty_starts_and_reloads_with_four_workers_lose_no_handshake() {
    let mut report = Report::new();
    let (limited, direct) = ("pkcs11-timeout-ms = 5000", "pkcs11-timeout-ms = 0");
    report.check("Debian 12, ECDSA", Site::new(&DEBIAN_12, ECDSA).and_then(starts_and_reloads(limited)));
    report.check("Debian 13, RSA, direct", Site::new(&DEBIAN_13, RSA).and_then(starts_and_reloads(direct)));
    report.check("Debian 13, ML-DSA", Site::of_ml_dsa(&DEBIAN_13).and_then(starts_and_reloads(limited)));
    if full() {
        for platform in [&DEBIAN_SID, &NGINX_ON_3_4_1] {
            for option in [limited, direct] {
                let what = |key: &str| format!("{}, {key}, {option}", platform.name);
                report.check(&what("ECDSA"), Site::new(platform, ECDSA).and_then(starts_and_reloads(option)));
                report.check(&what("ML-DSA"), Site::of_ml_dsa(platform).and_then(starts_and_reloads(option)));
            }
        }
    }
    report.finish();
}

fn starts_and_reloads(option: &str) -> impl Fn(Site) -> Result<()> {
    move |site| {
        let client = site.client()?;
        for start in 0..10 {
            let nginx = site.start(site.token.openssl_conf().provider_line(option), 4)?;
            let outcome = reloads_under_load(&nginx, &client).with_context(|| format!("start {start}"));
            then_quit(nginx, outcome)?;
        }
        Ok(())
    }
}

fn reloads_under_load(nginx: &Nginx, client: &Client) -> Result<()> {
    let over = AtomicBool::new(false);
    let served = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    match client.get(nginx) {
                        Ok(_) => drop(served.fetch_add(1, Ordering::Relaxed)),
                        Err(error) => failures.lock().expect("a list").push(format!("{error:#}")),
                    }
                }
            });
        }
        let outcome = (0..4).try_for_each(|_| {
            let before = served.load(Ordering::Relaxed);
            nginx.reload()?;
            // The new workers serve before the next reload.
            wait_for("forty answers after a reload", || {
                let failed = !failures.lock().expect("a list").is_empty();
                Ok((failed || served.load(Ordering::Relaxed) >= before + 40).then_some(()))
            })
        });
        over.store(true, Ordering::Relaxed);
        outcome
    })?;
    let failures = failures.into_inner().expect("a list");
    let served = served.into_inner();
    ensure!(failures.is_empty(), "{} of {} failed: {}", failures.len(), served + failures.len(), failures[0]);
    Ok(())
}

// ---- the token goes and comes back ----

#[test]
fn a_tokens_files_are_taken_away_and_given_back_without_a_reload() {
    let mut report = Report::new();
    report.check(
        "Debian 12, ECDSA",
        Site::new(&DEBIAN_12, ECDSA).and_then(files_away("pkcs11-timeout-ms = 5000")),
    );
    report.check(
        "Debian 13, RSA, direct",
        Site::new(&DEBIAN_13, RSA).and_then(files_away("pkcs11-timeout-ms = 0")),
    );
    report.finish();
}

fn files_away(option: &str) -> impl Fn(Site) -> Result<()> {
    move |site| {
        let nginx = site.start(site.token.openssl_conf().provider_line(option), 2)?;
        let outcome = (|| {
            let client = site.client()?;
            client.is_served_by_all(&nginx, 2)?;
            site.token.take_away()?;
            wait_for("a failed handshake", || Ok(client.get(&nginx).is_err().then_some(())))?;
            client.is_refused(&nginx)?;
            log_says(&nginx, &["object=own", "token=gateway", "look "])?;
            site.token.give_back()?;
            client.is_served_again(&nginx, Duration::from_secs(5))?;
            client.is_served_by_all(&nginx, 2)
        })();
        then_quit(nginx, outcome)
    }
}

#[test]
fn a_tokens_process_is_killed_and_started_again_without_a_reload() {
    let mut report = Report::new();
    for (platform, key) in [(&DEBIAN_12, ECDSA), (&DEBIAN_13, RSA)] {
        report.check(platform.name, process_killed(platform, key));
    }
    report.finish();
}

fn process_killed(platform: &'static Platform, key: KeyType) -> Result<()> {
    let site = Site::new(platform, key)?;
    let mut server = TokenServer::start(&site.token)?;
    let conf = site
        .token
        .openssl_conf_of_module(server.module())
        .provider_line(&format!("pkcs11-pin-source = {}", site.token.pin_source()));
    let setup = site.setup(conf, 2)?.variable(server.environment());
    let nginx = Nginx::start(platform, &setup)?;
    let outcome = (|| {
        let client = site.client()?;
        client.is_served_by_all(&nginx, 2)?;
        for _ in 0..2 {
            server.kill()?;
            client.is_refused(&nginx)?;
            log_says(&nginx, &["object=own", "token=gateway", "look "])?;
            server.start_again()?;
            client.is_served_again(&nginx, Duration::from_secs(5))?;
            client.is_served_by_all(&nginx, 2)?;
        }
        Ok(())
    })();
    then_quit(nginx, outcome)
}

/// What a token says when it lost its sessions, its login or its objects: the same request is served on a new one.
#[test]
fn a_lost_session_login_or_handle_costs_no_handshake() {
    let mut report = Report::new();
    let outcome = (|| {
        let site = Site::new(&DEBIAN_12, ECDSA)?;
        let faulty = Faulty::new(&site.token)?;
        let nginx = site.start(faulty.openssl_conf(), 1)?;
        let client = site.client()?;
        client.is_served(&nginx)?;
        for (function, answer) in [
            ("C_SignInit", CKR_SESSION_HANDLE_INVALID),
            ("C_Sign", CKR_SESSION_CLOSED),
            ("C_SignInit", CKR_KEY_HANDLE_INVALID),
            ("C_Sign", CKR_USER_NOT_LOGGED_IN),
            ("C_Sign", CKR_DEVICE_ERROR),
        ] {
            let outcome = (|| {
                faulty.set(&format!("{function} once {answer}"))?;
                client.is_served(&nginx)?;
                client.is_served(&nginx)
            })();
            report.check(&format!("{function} {answer:#x}"), outcome);
        }
        then_quit(nginx, Ok(()))
    })();
    report.check("nginx", outcome);
    report.finish();
}

// ---- sessions ----

#[test]
fn a_token_with_one_session_left_serves_and_one_with_none_is_named() {
    let mut report = Report::new();
    report.check(DEBIAN_12.name, session_limit(&DEBIAN_12));
    report.finish();
}

fn session_limit(platform: &'static Platform) -> Result<()> {
    let site = Site::new(platform, ECDSA)?;
    let faulty = Faulty::new(&site.token)?;
    faulty.set("C_OpenSession limit 1")?;
    let nginx = site.start(faulty.openssl_conf(), 2)?;
    let client = site.client()?;
    let outcome = client.is_served_by_all(&nginx, 2);
    then_quit(nginx, outcome)?;
    faulty.set("C_OpenSession limit 0")?;
    let nginx = site.start_with_key_ref(faulty.openssl_conf(), 2)?;
    let outcome = (|| {
        client.is_refused(&nginx)?;
        log_says(&nginx, &["object=own", "no session left", "pkcs11-sessions"])?;
        faulty.set("")?;
        client.is_served_again(&nginx, Duration::from_secs(5))
    })();
    then_quit(nginx, outcome)
}

// ---- the PIN ----

#[test]
fn a_wrong_pin_is_tried_once_by_four_workers_together() {
    let mut report = Report::new();
    report.check(DEBIAN_12.name, wrong_pin(&DEBIAN_12));
    report.finish();
}

fn wrong_pin(platform: &'static Platform) -> Result<()> {
    let site = Site::new(platform, ECDSA)?;
    let faulty = Faulty::new(&site.token)?;
    let key_ref = site.token.key_ref("own")?;
    site.token.write_pin("not-the-right-one")?;
    let nginx = Nginx::start(platform, &site.setup_with(faulty.openssl_conf(), 4, &key_ref)?)?;
    let client = site.client()?;
    let outcome = (|| {
        let refused = thread::scope(|scope| {
            let clients: Vec<_> =
                (0..8).map(|_| scope.spawn(|| (0..10).try_for_each(|_| client.is_refused(&nginx)))).collect();
            clients.into_iter().try_for_each(|client| client.join().expect("a client thread"))
        });
        refused?;
        let logins = faulty.calls("C_Login")?;
        ensure!(logins == 1, "C_Login was called {logins} times");
        log_says(&nginx, &["object=own", "CKR_PIN_INCORRECT", "correct what pkcs11-pin-source"])?;
        ensure!(!nginx.error_log()?.contains("not-the-right-one"), "the wrong PIN is in the log");
        // The right one, and a reload.
        site.token.write_pin(PIN)?;
        nginx.reload()?;
        client.is_served_again(&nginx, Duration::from_secs(5))
    })();
    then_quit(nginx, outcome)
}

#[test]
fn a_wrong_pin_at_the_start_is_refused_by_name_after_one_try() {
    must((|| {
        let site = Site::new(&DEBIAN_12, ECDSA)?;
        let faulty = Faulty::new(&site.token)?;
        site.token.write_pin("not-the-right-one")?;
        site.is_refused(
            faulty.openssl_conf(),
            &["object=own", "CKR_PIN_INCORRECT", "correct what pkcs11-pin-source"],
        )?;
        let logins = faulty.calls("C_Login")?;
        ensure!(logins == 1, "C_Login was called {logins} times");
        Ok(())
    })());
}

#[test]
fn a_pin_on_its_last_try_or_locked_is_not_tried() {
    let mut report = Report::new();
    for (flag, says) in
        [(CKF_USER_PIN_FINAL_TRY, "one more wrong PIN locks it"), (CKF_USER_PIN_LOCKED, "unlock it")]
    {
        let outcome = (|| {
            let site = Site::new(&DEBIAN_12, ECDSA)?;
            let faulty = Faulty::new(&site.token)?;
            faulty.set(&format!("C_GetTokenInfo flags {flag}"))?;
            site.is_refused(faulty.openssl_conf(), &["object=own", "PIN", says])?;
            let logins = faulty.calls("C_Login")?;
            ensure!(logins == 0, "C_Login was called {logins} times");
            Ok(())
        })();
        report.check(&format!("{flag:#x}"), outcome);
    }
    report.finish();
}

#[test]
fn a_pin_that_the_token_refuses_later_is_tried_once() {
    must((|| {
        let site = Site::new(&DEBIAN_12, ECDSA)?;
        let faulty = Faulty::new(&site.token)?;
        let nginx = site.start_with_key_ref(faulty.openssl_conf(), 2)?;
        let outcome = (|| {
            let client = site.client()?;
            client.is_served_by_all(&nginx, 2)?;
            faulty.set(&format!(
                "C_Login fail {CKR_PIN_INCORRECT}\nC_SignInit fail {CKR_USER_NOT_LOGGED_IN}"
            ))?;
            faulty.forget_calls()?;
            (0..20).try_for_each(|_| client.is_refused(&nginx))?;
            let logins = faulty.calls("C_Login")?;
            ensure!(logins == 1, "C_Login was called {logins} times");
            Ok(())
        })();
        then_quit(nginx, outcome)
    })());
}

// ---- what is missing ----

#[test]
fn whatever_is_missing_at_the_start_is_named_with_what_to_do() {
    let mut report = Report::new();
    for platform in [&DEBIAN_12, &DEBIAN_13] {
        let outcome = (|| {
            let site = Site::new(platform, ECDSA)?;
            let token = &site.token;
            let nowhere =
                token.openssl_conf_without_pin().provider_line("pkcs11-pin-source = file:/nowhere/pin");
            site.is_refused(nowhere, &["object=own", "/nowhere/pin"]).context("PIN file missing")?;
            let module = token.openssl_conf_of_module("/nowhere/token.so");
            site.is_refused(module, &["object=own", "/nowhere/token.so"]).context("module missing")?;
            let other = token.openssl_conf_of_module("/usr/lib/x86_64-linux-gnu/libz.so.1");
            site.is_refused(other, &["object=own", "libz.so.1"]).context("no PKCS#11 module")?;
            let file = |key: &str| site.setup_with(token.openssl_conf(), 1, key);
            let missing = uri_pem("pkcs11:token=gateway;object=nobody;type=private");
            refused(platform, &file(&missing)?, &["object=nobody", "own"]).context("object missing")?;
            let elsewhere = uri_pem("pkcs11:token=elsewhere;object=own;type=private");
            refused(platform, &file(&elsewhere)?, &["token=elsewhere", "gateway"])
                .context("token missing")?;
            token.import("own", "02", &pki().leaf(RSA, RSA)?.key)?;
            let two = site.setup(token.openssl_conf(), 1)?;
            refused(platform, &two, &["object=own", "id 01", "id 02"]).context("two objects")
        })();
        report.check(platform.name, outcome);
    }
    report.finish();
}

/// Root reads every file: what cannot be read is read by a process that is not root's.
#[test]
fn a_pin_file_that_the_process_cannot_read_is_named() {
    must((|| {
        let site = Site::new(&DEBIAN_12, ECDSA)?;
        let directory = site.token.directory();
        let conf = directory.write_openssl_conf("openssl.cnf", &site.token.openssl_conf())?;
        let mut command = DEBIAN_12.command_as("www-data", "/usr/bin/openssl")?;
        command.envs([site.token.environment()]).env("OPENSSL_CONF", conf);
        let output = command.args(["pkey", "-noout", "-in", &site.token.uri("own")]).output()?;
        ensure!(!output.status.success(), "it succeeds");
        says_all(
            &String::from_utf8_lossy(&output.stderr),
            &["object=own", &directory.inside("pin"), "ermission"],
        )
    })());
}

fn refused(platform: &Platform, setup: &Setup, says: &[&str]) -> Result<()> {
    let (passed, message) = Nginx::check_setup(platform, setup)?;
    ensure!(!passed, "nginx -t passes:\n{message}");
    says_all(&message, says)
}

// ---- modules that fail ----

#[test]
fn a_module_that_hangs_costs_one_timeout_and_never_the_worker() {
    let mut report = Report::new();
    for platform in [&DEBIAN_12, &DEBIAN_13] {
        report.check(platform.name, hangs(platform));
    }
    report.finish();
}

fn hangs(platform: &'static Platform) -> Result<()> {
    let site = Site::new(platform, ECDSA)?;
    let faulty = Faulty::new(&site.token)?;
    let conf = faulty
        .openssl_conf()
        .provider_line("pkcs11-timeout-ms = 300")
        .provider_line("pkcs11-breaker-ms = 1500");
    let nginx = site.start(conf, 1)?;
    let outcome = (|| {
        let client = site.client()?;
        client.is_served(&nginx)?;
        faulty.set("C_Sign hang 600")?;
        let began = Instant::now();
        client.is_refused(&nginx)?;
        let first = began.elapsed();
        ensure!(first < Duration::from_secs(3), "the first failure took {first:?}");
        log_says(&nginx, &["object=own", "300 ms (pkcs11-timeout-ms)", "look at"])?;
        // The breaker is open: nothing is asked of the module.
        let began = Instant::now();
        client.is_refused(&nginx)?;
        ensure!(began.elapsed() < Duration::from_millis(250), "the second took {:?}", began.elapsed());
        faulty.set("")?;
        client.is_served_again(&nginx, Duration::from_secs(5))
    })();
    then_quit(nginx, outcome)
}

#[test]
fn a_module_that_hangs_at_the_start_is_named() {
    must((|| {
        let site = Site::new(&DEBIAN_12, ECDSA)?;
        let faulty = Faulty::new(&site.token)?;
        for function in ["C_Initialize", "C_Login"] {
            faulty.set(&format!("{function} hang 600"))?;
            let conf = faulty.openssl_conf().provider_line("pkcs11-timeout-ms = 300");
            let began = Instant::now();
            site.is_refused(conf, &["object=own", "300 ms (pkcs11-timeout-ms)", "look at"])
                .context(function)?;
            ensure!(began.elapsed() < Duration::from_secs(5), "{function}: {:?}", began.elapsed());
        }
        Ok(())
    })());
}

#[test]
fn a_token_that_fails_opens_the_breaker_and_closes_it_when_it_works_again() {
    must((|| {
        let site = Site::new(&DEBIAN_12, ECDSA)?;
        let faulty = Faulty::new(&site.token)?;
        let conf = faulty.openssl_conf().provider_line("pkcs11-breaker-ms = 1000");
        let nginx = site.start(conf, 1)?;
        let outcome = (|| {
            let client = site.client()?;
            client.is_served(&nginx)?;
            faulty.set(&format!("C_SignInit fail {CKR_DEVICE_ERROR}"))?;
            (0..30).try_for_each(|_| client.is_refused(&nginx))?;
            log_says(&nginx, &["object=own", "CKR_DEVICE_ERROR", "look at"])?;
            faulty.set("")?;
            client.is_served_again(&nginx, Duration::from_secs(8))?;
            client.is_served_by_all(&nginx, 1)
        })();
        then_quit(nginx, outcome)
    })());
}

#[test]
fn a_full_token_is_named_by_whoever_makes_a_key() {
    must((|| {
        let site = Site::new(&DEBIAN_12, ECDSA)?;
        let faulty = Faulty::new(&site.token)?;
        faulty.set(&format!("C_GenerateKeyPair fail {CKR_DEVICE_MEMORY}"))?;
        let directory = site.token.directory();
        let conf = directory.write_openssl_conf("faulty.cnf", &faulty.openssl_conf())?;
        let output = site.token.qtls_output(&[
            "hsm",
            "generate",
            "--conf",
            &conf,
            "--type",
            "ec-p256",
            &site.token.pair("new"),
        ])?;
        ensure!(!output.status.success(), "it succeeds");
        let text =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        says_all(&text, &["object=new", "CKR_DEVICE_MEMORY", "the token is full: delete"])
    })());
}

// ---- failover ----

#[test]
fn a_second_token_takes_over_and_gives_back() {
    must((|| {
        let site = Site::new(&DEBIAN_13, ECDSA)?;
        let second = Token::with_label(&DEBIAN_13, Kind::Kryoptic, "standby")?;
        second.import("own", "01", &site.leaf.key)?;
        let faulty = Faulty::new(&site.token)?;
        let conf = faulty
            .openssl_conf()
            .provider_line("pkcs11-breaker-ms = 1000")
            .provider_line(&format!("pkcs11-module-2 = {}", second.module()))
            .provider_line("pkcs11-token-2 = standby")
            .provider_line(&format!("pkcs11-pin-source-2 = {}", second.pin_source()));
        let setup = site.setup(conf, 2)?.variable(second.environment());
        let nginx = Nginx::start(&DEBIAN_13, &setup)?;
        let outcome = (|| {
            let client = site.client()?;
            client.is_served_by_all(&nginx, 2)?;
            faulty
                .set(&format!("C_SignInit fail {CKR_DEVICE_ERROR}\nC_Initialize fail {CKR_DEVICE_ERROR}"))?;
            // Not one handshake is lost.
            (0..60).try_for_each(|_| client.is_served(&nginx)).context("while the first fails")?;
            ensure!(failovers(&site.token)? > 0, "no failover was counted");
            faulty.set("")?;
            wait_for("signatures by the first token alone", || {
                let before = failovers(&site.token)?;
                (0..20).try_for_each(|_| client.is_served(&nginx))?;
                Ok((failovers(&site.token)? == before).then_some(()))
            })
        })();
        then_quit(nginx, outcome)
    })());
}

/// Signatures by another than the first token, as `qtls hsm status` says.
fn failovers(token: &Token) -> Result<u64> {
    let text = status(token, &["--json"])?;
    let status: serde_json::Value = serde_json::from_str(&text)?;
    find(&status, "failovers").with_context(|| format!("no failovers in {text}"))
}

/// What `qtls hsm status` says; it ends with 1 where a token does not answer.
fn status(token: &Token, more: &[&str]) -> Result<String> {
    let output = token.qtls_output(&[&["hsm", "status"], more].concat())?;
    let told = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    ensure!(matches!(output.status.code(), Some(0 | 1)), "qtls hsm status: {}", told(&output.stderr));
    Ok(told(&output.stdout))
}

/// The first number of this name, wherever it stands.
fn find(value: &serde_json::Value, name: &str) -> Option<u64> {
    match value {
        serde_json::Value::Object(members) => members
            .get(name)
            .and_then(serde_json::Value::as_u64)
            .or_else(|| members.values().find_map(|member| find(member, name))),
        serde_json::Value::Array(items) => items.iter().find_map(|item| find(item, name)),
        _ => None,
    }
}

#[test]
fn a_declared_software_key_is_the_last_resort_and_no_other_is() {
    must((|| {
        let site = Site::new(&DEBIAN_12, ECDSA)?;
        let faulty = Faulty::new(&site.token)?;
        let directory = site.token.directory();
        let right = directory.write("right.key", &site.leaf.key)?;
        let wrong = directory.write("wrong.key", &qtls_tests::pki::strangers().leaf(ECDSA, ECDSA)?.key)?;
        for (file, served) in [(&right, true), (&wrong, false)] {
            faulty.set("")?;
            let conf = faulty.openssl_conf().provider_line(&format!("pkcs11-software-key = {file}"));
            let nginx = site.start(conf, 1)?;
            let outcome = (|| {
                let client = site.client()?;
                client.is_served(&nginx)?;
                faulty.set(&format!("C_SignInit fail {CKR_DEVICE_ERROR}"))?;
                if served {
                    (0..10).try_for_each(|_| client.is_served(&nginx))
                } else {
                    client.is_refused(&nginx)
                }
            })();
            then_quit(nginx, outcome).with_context(|| file.clone())?;
        }
        Ok(())
    })());
}

// ---- a long life ----

#[test]
fn twenty_thousand_token_handshakes_leave_a_worker_its_size_and_its_files() {
    let mut report = Report::new();
    report.check(DEBIAN_12.name, stays_its_size(&DEBIAN_12));
    report.finish();
}

fn stays_its_size(platform: &'static Platform) -> Result<()> {
    let site = Site::new(platform, ECDSA)?;
    let nginx = site.start(site.token.openssl_conf(), 1)?;
    let outcome = (|| {
        let workers = nginx.workers()?;
        let [worker] = workers[..] else { bail!("the workers are {workers:?}") };
        let files = || Ok::<_, anyhow::Error>(fs::read_dir(format!("/proc/{worker}/fd"))?.count());
        handshakes(&nginx, &site, 2_000)?;
        let (early, early_files) = (anonymous_memory(worker)?, files()?);
        handshakes(&nginx, &site, 18_000)?;
        let (late, late_files) = (anonymous_memory(worker)?, files()?);
        ensure!(nginx.workers()? == [worker], "the worker was replaced");
        println!(
            "{early} kB and {early_files} files after 2,000 handshakes, {late} kB and {late_files} after 20,000"
        );
        ensure!(late <= early + 512, "it grew from {early} kB to {late} kB");
        // A few connections may still be closing.
        ensure!(late_files <= early_files + 4, "it has {late_files} files, and had {early_files}");
        Ok(())
    })();
    then_quit(nginx, outcome)
}

fn handshakes(nginx: &Nginx, site: &Site, number: usize) -> Result<()> {
    let client = site.client()?;
    let left = AtomicUsize::new(number);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let take = |left: usize| left.checked_sub(1);
                    while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
                        client.0.handshake(nginx.port(0))?;
                    }
                    Ok(())
                })
            })
            .collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("a client thread"))
    })
}

// ---- secrecy ----

/// In no file that was written, and in no memory but what is locked and left out of core dumps.
#[test]
fn no_pin_is_left_anywhere() {
    let mut report = Report::new();
    for platform in [&DEBIAN_12, &DEBIAN_13] {
        report.check(platform.name, no_pin(platform));
    }
    report.finish();
}

fn no_pin(platform: &'static Platform) -> Result<()> {
    let site = Site::new(platform, ECDSA)?;
    let faulty = Faulty::new(&site.token)?;
    let conf = faulty.openssl_conf().provider_line("log = debug");
    let nginx = site.start(conf, 2)?;
    let outcome = (|| {
        let client = site.client()?;
        client.is_served_by_all(&nginx, 2)?;
        for fault in [CKR_DEVICE_ERROR, CKR_PIN_INCORRECT, CKR_USER_NOT_LOGGED_IN] {
            faulty.set(&format!("C_SignInit fail {fault}\nC_Login fail {fault}"))?;
            drop(client.get(&nginx));
        }
        holds_no_pin(&nginx.error_log()?)?;
        holds_no_pin(&nginx.output())?;
        holds_no_pin(&status(&site.token, &[])?)?;
        for entry in fs::read_dir(site.token.directory().outside("status"))? {
            let bytes = fs::read(entry?.path())?;
            ensure!(!contains(&bytes, PIN.as_bytes()), "the PIN is in a status file");
        }
        for pid in nginx.workers()?.into_iter().chain([nginx.master()]) {
            for file in ["environ", "cmdline"] {
                let bytes = fs::read(format!("/proc/{pid}/{file}"))?;
                ensure!(!contains(&bytes, PIN.as_bytes()), "the PIN is in /proc/{pid}/{file}");
            }
            pin_lies_in_locked_memory(pid)?;
        }
        Ok(())
    })();
    then_quit(nginx, outcome)
}

/// Looks through a process's memory. `dd`: left out of core dumps; `lo`: locked (proc_pid_smaps(5)).
fn pin_lies_in_locked_memory(pid: u32) -> Result<()> {
    use std::os::unix::fs::FileExt;
    let memory = fs::File::open(format!("/proc/{pid}/mem"))?;
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps"))?;
    let mut mapping = "";
    let mut found = 0;
    for line in smaps.lines() {
        let first = line.split(' ').next().unwrap_or_default();
        if !first.ends_with(':') {
            mapping = line;
        }
        let Some(flags) = line.strip_prefix("VmFlags:") else { continue };
        let (range, rest) = mapping.split_once(' ').context("a mapping")?;
        if !rest.starts_with("rw") {
            continue;
        }
        let (start, end) = range.split_once('-').context("a range")?;
        let (start, end) = (u64::from_str_radix(start, 16)?, u64::from_str_radix(end, 16)?);
        let mut bytes = vec![0; usize::try_from(end - start)?];
        if memory.read_exact_at(&mut bytes, start).is_err() || !contains(&bytes, PIN.as_bytes()) {
            continue;
        }
        found += 1;
        let has = |flag: &str| flags.split(' ').any(|found| found == flag);
        ensure!(has("dd") && has("lo"), "process {pid} has the PIN in {mapping}, flags{flags}");
    }
    ensure!(found > 0, "process {pid} has no PIN at all: is this test blind?");
    Ok(())
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// An error of a command names the key and no PIN, wherever the PIN stands.
#[test]
fn a_pin_in_the_uri_or_in_openssl_cnf_is_in_no_error() {
    let mut report = Report::new();
    for platform in [&DEBIAN_12, &DEBIAN_13] {
        let outcome = (|| {
            let site = Site::new(platform, ECDSA)?;
            let (name, value) = site.token.environment();
            let without = site.token.openssl_conf_without_pin();
            let wrong = format!("{PIN}-wrong");
            let in_conf = without.clone().provider_line(&format!("pkcs11-pin-source = value:{wrong}"));
            let uri = site.token.uri("own");
            for (conf, uri) in [
                (in_conf.clone(), uri.clone()),
                (without.clone(), format!("{uri}?pin-value={wrong}")),
                (without, format!("{uri}?pin-value={wrong}&pin-value={wrong}")),
                (in_conf, format!("pkcs11:token=gateway;object=nobody?pin-value={PIN}")),
            ] {
                let shell = OpensslShell::new(platform, &conf)?.variable(&name, &value);
                let run = shell.run(&format!("openssl pkey -noout -in '{uri}'"))?;
                ensure!(!run.status.success(), "{uri} is read");
                // OpenSSL's own repeat what stood on its command line.
                let errors: Vec<&str> = run.errors.lines().filter(|line| line.contains("qtls")).collect();
                ensure!(!errors.is_empty(), "no error of ours: {}", run.text());
                holds_no_pin(&errors.join("\n"))?;
            }
            Ok(())
        })();
        report.check(platform.name, outcome);
    }
    report.finish();
}
