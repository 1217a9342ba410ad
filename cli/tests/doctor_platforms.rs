//! `qtls doctor` beside the real programs: Debian's nginx on OpenSSL 3.0, 3.5 and 3.6, OpenSSL 3.0.2, 3.4.1 and 4.0,
//! and a running nginx.

use std::fs;
use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};
use qtls_tests::nginx::{Nginx, Server, Setup};
use qtls_tests::openssl_conf::{Native, OpensslConf};
use qtls_tests::platform::{
    DEBIAN_12, DEBIAN_13, DEBIAN_SID, NGINX_ON_3_4_1, OPENSSL_3_0_2, OPENSSL_3_4_1, OPENSSL_4_0, Platform,
    WorkDir,
};
use serde_json::Value;

/// What doctor reports.
struct Report(Value);

impl Report {
    fn of(output: &Output) -> Result<Self> {
        let report = serde_json::from_slice(&output.stdout);
        Ok(Self(report.with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?))
    }

    fn finding(&self, id: &str) -> (String, String) {
        let findings = self.0["findings"].as_array().expect("findings");
        let finding = findings.iter().find(|finding| finding["id"] == id).expect(id);
        let found = finding["found"].as_array().expect("lines");
        let lines: Vec<&str> = found
            .iter()
            .chain(finding["mend"].as_array().expect("lines"))
            .filter_map(Value::as_str)
            .collect();
        (finding["status"].as_str().expect("a status").to_owned(), lines.join("\n"))
    }

    #[track_caller]
    fn says(&self, id: &str, status: &str, text: &str) -> &Self {
        let (found_status, found) = self.finding(id);
        assert_eq!(found_status, status, "{id}: {found}");
        assert!(found.contains(text), "{id}: \"{text}\" is not in: {found}");
        self
    }

    fn nothing_wrong(&self) -> &Self {
        for finding in self.0["findings"].as_array().expect("findings") {
            assert_ne!(finding["status"], "fail", "{finding:#}");
        }
        self
    }
}

/// Puts qtls where the platform's programs see it, and returns a command of it.
fn doctor(platform: &Platform, place: &WorkDir) -> Result<Command> {
    let program = place.outside("qtls");
    // By another process: a program that a thread of ours has open for writing while another thread forks is "busy".
    let copied =
        Command::new("install").args(["-m", "755", env!("CARGO_BIN_EXE_qtls")]).arg(&program).status()?;
    ensure!(copied.success(), "install: {copied}");
    let mut command = if platform.is_chroot() {
        platform.command(&place.inside("qtls"))?
    } else {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    };
    command.args(["doctor", "--json"]);
    Ok(command)
}

/// Examines a program of a platform with a configuration.
fn examine(platform: &Platform, program: &str, conf: &OpensslConf, arguments: &[&str]) -> Result<Report> {
    let place = WorkDir::new(platform)?;
    let file = place.write_openssl_conf("openssl.cnf", conf)?;
    let program = if platform.is_chroot() {
        program.to_owned()
    } else {
        platform.home()?.join(program).to_str().context("a path in UTF-8")?.to_owned()
    };
    let output =
        doctor(platform, &place)?.args(["--program", &program, "--conf", &file]).args(arguments).output()?;
    Report::of(&output)
}

/// Every OpenSSL there is, each by a program linked to it.
const PROGRAMS: [(&Platform, &str, &str); 7] = [
    (&OPENSSL_3_0_2, "bin/openssl", "OpenSSL 3.0.2 "),
    (&DEBIAN_12, "/usr/sbin/nginx", "OpenSSL 3.0."),
    (&OPENSSL_3_4_1, "bin/openssl", "OpenSSL 3.4.1 "),
    (&NGINX_ON_3_4_1, "sbin/nginx", "OpenSSL 3.4.1 "),
    (&DEBIAN_13, "/usr/sbin/nginx", "OpenSSL 3.5."),
    (&DEBIAN_SID, "/usr/sbin/nginx", "OpenSSL 3.6."),
    (&OPENSSL_4_0, "/usr/bin/openssl", "OpenSSL 4.0."),
];

#[test]
fn a_right_setup_is_right_on_every_version() -> Result<()> {
    for (platform, program, version) in PROGRAMS {
        let conf = OpensslConf::new().groups("X25519MLKEM768:SecP256r1MLKEM768");
        let report = examine(platform, program, &conf, &["--require", "require_both"])?;
        report
            .says("openssl-version", "ok", version)
            .says("provider-active", "ok", "Q-TLS")
            .says("group-lists", "ok", "X25519MLKEM768")
            .says("handshake", "ok", "X25519MLKEM768")
            .says("key-share", "ok", "asks such a client for X25519MLKEM768")
            .says("mode", "ok", "require_both holds");
        let server = if platform.has_native_groups() { "default serves" } else { "qtls serves" };
        report.says("shadowing", "ok", server);
        let (status, found) = report.finding("libssl");
        ensure!(status == "ok", "{}: {found}", platform.name);
    }
    Ok(())
}

#[test]
fn prefer_takes_over_only_with_its_property() -> Result<()> {
    for (platform, program, _) in PROGRAMS.iter().filter(|(platform, ..)| platform.has_native_groups()) {
        let conf = OpensslConf::new().groups("X25519MLKEM768");
        let alone = conf.clone().provider_line("native = prefer");
        examine(platform, program, &alone, &[])?
            .says("properties", "fail", "default_properties = ?provider=qtls")
            .says("shadowing", "fail", "default serves X25519MLKEM768");
        examine(platform, program, &conf.native(Native::Prefer), &[])?
            .says("properties", "ok", "?provider=qtls")
            .says("shadowing", "ok", "qtls serves X25519MLKEM768")
            .says("handshake", "ok", "X25519MLKEM768");
    }
    Ok(())
}

#[test]
fn a_classical_share_stays_classical_before_3_5_and_from_then_on_where_no_slash_says_otherwise() -> Result<()>
{
    for (platform, program, _) in PROGRAMS {
        let report = examine(platform, program, &OpensslConf::new().groups("X25519MLKEM768:X25519"), &[])?;
        if report.finding("tls-1-3").0 == "fail" {
            // nginx 1.22 without a configuration of its own.
            continue;
        }
        let mend = if platform.has_native_groups() { "put a slash" } else { "never asks for a better share" };
        report.says("key-share", "warn", mend);
        if platform.has_native_groups() {
            let slash = OpensslConf::new().groups("X25519MLKEM768/X25519");
            examine(platform, program, &slash, &[])?.says(
                "key-share",
                "ok",
                "asks such a client for X25519MLKEM768",
            );
        }
    }
    Ok(())
}

#[test]
fn the_default_list_has_post_quantum_groups_from_3_5_on_only() -> Result<()> {
    for (platform, program, _) in [PROGRAMS[2], PROGRAMS[4], PROGRAMS[6]] {
        let report = examine(platform, program, &OpensslConf::new(), &[])?;
        if platform.has_native_groups() {
            report.nothing_wrong().says("groups-configured", "ok", "X25519MLKEM768");
        } else {
            report.says("groups-configured", "fail", "only when they are named");
        }
    }
    Ok(())
}

#[test]
fn ml_dsa_certificates_need_3_2_and_a_provider_that_has_them() -> Result<()> {
    let conf = OpensslConf::without_provider();
    let ask = |row: usize| {
        let (platform, program, _) = PROGRAMS[row];
        examine(platform, program, &conf, &["--require", "ml-dsa"])
    };
    ask(0)?.says("openssl-version", "fail", "need OpenSSL 3.2");
    ask(2)?.says("openssl-version", "fail", "mldsa65");
    ask(4)?.says("openssl-version", "ok", "ML-DSA signatures are there");
    Ok(())
}

/// A provider with one key type that does nothing.
const STRANGER: &str = "typedef struct { int id; void (*function)(void); } dispatch;\n\
    typedef struct { const char *names, *properties; const dispatch *functions; const char *text; } algorithm;\n\
    static const dispatch nothing[] = { { 0, 0 } };\n\
    static const algorithm keys[] = { { \"STRANGE:other\", \"provider=stranger\", nothing, 0 }, { 0 } };\n\
    static const algorithm *query(void *context, int operation, int *no_cache) {\n\
    *no_cache = 0; return operation == 10 ? keys : 0; }\n\
    static const dispatch table[] = { { 1027, (void (*)(void))query }, { 0, 0 } };\n\
    int OSSL_provider_init(void *core, const dispatch *in, const dispatch **out, void **context) {\n\
    *out = table; *context = core; return 1; }\n";

#[test]
fn a_provider_whose_key_types_can_crash_an_old_libssl_is_a_warning() -> Result<()> {
    let examine = |platform: &Platform, source: &str, option: &str| -> Result<Report> {
        let place = WorkDir::new(platform)?;
        let stranger = place.outside("stranger.so");
        place.write("stranger.c", source)?;
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .arg(&stranger)
            .arg(place.outside("stranger.c"))
            .status()?;
        ensure!(built.success(), "cc: {built}");
        let conf = OpensslConf::new().groups("X25519MLKEM768").provider_line(option);
        let text = conf.text(&place.install_module()?);
        let text = text.replace("qtls = qtls_sect\n", "qtls = qtls_sect\nstranger = stranger_sect\n");
        let text = format!("{text}[stranger_sect]\nmodule = {}\nactivate = 1\n", stranger.display());
        let conf = place.write("openssl.cnf", &text)?;
        let program = platform.home()?.join("bin/openssl");
        Report::of(&doctor(platform, &place)?.arg("--program").arg(program).args(["--conf", &conf]).output()?)
    };
    examine(&OPENSSL_3_4_1, STRANGER, "log = error")?
        .says("provider-active", "ok", "Q-TLS")
        .says("foreign-key-types", "warn", "qtls offers no ML-DSA in TLS")
        .says("foreign-key-types", "warn", "`unguarded-signatures = offer`");
    examine(&OPENSSL_3_4_1, STRANGER, "unguarded-signatures = offer")?
        .says("provider-options", "ok", "is known")
        .says(
            "foreign-key-types",
            "warn",
            "a key type of stranger (STRANGE) makes this libssl read past a table",
        )
        .says("foreign-key-types", "warn", "for qtls offers TLS signatures");
    let harmless = STRANGER.replace("operation == 10 ? keys : 0", "0");
    examine(&OPENSSL_3_4_1, &harmless, "unguarded-signatures = offer")?.says(
        "foreign-key-types",
        "ok",
        "is one that qtls lists",
    );
    examine(&OPENSSL_3_4_1, STRANGER, "signatures = none")?.says("foreign-key-types", "ok", "out of reach");
    // 3.0 asks no provider for signatures.
    examine(&OPENSSL_3_0_2, STRANGER, "log = error")?.says(
        "foreign-key-types",
        "ok",
        "does not have this defect",
    );
    Ok(())
}

/// Keys and certificates that a platform's own openssl makes: an ML-DSA-65 authority, and under it one of each kind.
fn ml_dsa_identities(platform: &Platform, place: &WorkDir) -> Result<()> {
    let openssl = |arguments: &[&str]| -> Result<()> {
        let output = platform.command("/usr/bin/openssl")?.args(arguments).output()?;
        ensure!(
            output.status.success(),
            "openssl {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    };
    let inside = |file: &str| place.inside(file);
    let new = ["req", "-x509", "-nodes", "-days", "90"];
    let (ca, ca_key) = (inside("authority.pem"), inside("authority.key"));
    openssl(
        &[&new[..], &["-newkey", "ml-dsa-65", "-subj", "/CN=authority", "-keyout", &ca_key, "-out", &ca]]
            .concat(),
    )?;
    for (name, kind) in
        [("modern", &["ml-dsa-65"][..]), ("classical", &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"])]
    {
        let (key, certificate) = (inside(&format!("{name}.key")), inside(&format!("{name}.pem")));
        let subject = format!("/CN={name}");
        let files = ["-subj", &subject, "-CA", &ca, "-CAkey", &ca_key, "-keyout", &key, "-out", &certificate];
        openssl(
            &[&new[..], &["-newkey"], kind, &["-addext", "basicConstraints=critical,CA:FALSE"], &files]
                .concat(),
        )?;
    }
    Ok(())
}

#[test]
fn ml_dsa_beside_ecdsa_serves_both_kinds_of_client_and_alone_only_one() -> Result<()> {
    let makers = WorkDir::new(&DEBIAN_13)?;
    ml_dsa_identities(&DEBIAN_13, &makers)?;
    // OpenSSL's own signatures, and ours where it has none.
    let without = OpensslConf::without_provider();
    judge_ml_dsa(&DEBIAN_13, "/usr/sbin/nginx", &without, &makers).context("OpenSSL alone")?;
    judge_ml_dsa(&DEBIAN_13, "/usr/sbin/nginx", &OpensslConf::new(), &makers).context("with qtls")?;
    let nginx = NGINX_ON_3_4_1.home()?.join("sbin/nginx");
    let nginx = nginx.to_str().context("a path in UTF-8")?;
    judge_ml_dsa(&NGINX_ON_3_4_1, nginx, &OpensslConf::new(), &makers).context("OpenSSL 3.4.1")
}

fn judge_ml_dsa(platform: &Platform, nginx: &str, conf: &OpensslConf, makers: &WorkDir) -> Result<()> {
    let place = WorkDir::new(platform)?;
    for file in ["modern.pem", "modern.key", "classical.pem", "classical.key", "authority.pem"] {
        fs::copy(makers.outside(file), place.outside(file))?;
    }
    let conf = place.write_openssl_conf("openssl.cnf", conf)?;
    let pair = |name: &str| {
        let file = |ending: &str| place.inside(&format!("{name}.{ending}"));
        format!("ssl_certificate {}; ssl_certificate_key {}; ", file("pem"), file("key"))
    };
    let ca = format!("ssl_trusted_certificate {};", place.inside("authority.pem"));
    let examine = |lines: &str| -> Result<Report> {
        let nginx_conf = format!(
            "events {{}} http {{ server {{ listen 8443 ssl; server_name shop.example; ssl_protocols TLSv1.3; {ca} {lines} }} }}"
        );
        let file = place.write("nginx.conf", &nginx_conf)?;
        let mut start = platform.command(nginx)?;
        let started = start.args(["-t", "-q", "-c", &file]).env("OPENSSL_CONF", &conf).output()?;
        ensure!(started.status.success(), "{lines}: {}", String::from_utf8_lossy(&started.stderr));
        let program = ["--program", nginx, "--conf", &conf, "--nginx-conf", &file];
        let output = doctor(platform, &place)?.args(program).args(["--require", "ml-dsa"]).output()?;
        Report::of(&output)
    };
    examine(&(pair("modern") + &pair("classical")))?
        .says("certificate-usable", "ok", "modern.pem (ML-DSA-65)")
        .says("certificate-chain", "ok", "leads to CN=authority")
        .says("certificate-clients", "ok", "clients that verify ML-DSA get ML-DSA-65, others ECDSA P-256")
        .says("ml-dsa", "ok", "gets ML-DSA-65");
    examine(&pair("modern"))?
        .says("certificate-clients", "warn", "no browser does yet")
        .says("certificate-clients", "warn", "add a second pair")
        .says("ml-dsa", "ok", "gets ML-DSA-65");
    examine(&pair("classical"))?
        .says("certificate-clients", "ok", "ECDSA P-256 for every client, none post-quantum")
        .says("ml-dsa", "fail", "has no ML-DSA certificate");
    let ml_dsa = if platform.has_native_groups() { "mldsa65" } else { "ML-DSA-65" };
    let classical_first =
        format!("ssl_prefer_server_ciphers on; ssl_conf_command SignatureAlgorithms ECDSA+SHA256:{ml_dsa};");
    examine(&(pair("modern") + &pair("classical") + &classical_first))?.says(
        "ml-dsa",
        "fail",
        "gets ECDSA P-256, although there is an ML-DSA certificate",
    );
    // nginx starts with this, and every handshake fails: OpenSSL keeps a key of another type beside the certificate.
    let crossed = pair("modern").replace("modern.key", "classical.key");
    examine(&crossed)?.says("certificate-keys", "fail", "is not the key of");
    let clients = format!("ssl_verify_client on; ssl_client_certificate {};", place.inside("authority.pem"));
    examine(&(pair("classical") + &clients))?.says("session-size", "warn", "has at least 5661 bytes");
    Ok(())
}

#[test]
fn before_3_2_tls_cannot_use_an_ml_dsa_certificate_and_doctor_says_what_can() -> Result<()> {
    let makers = WorkDir::new(&DEBIAN_13)?;
    ml_dsa_identities(&DEBIAN_13, &makers)?;
    let place = WorkDir::new(&DEBIAN_12)?;
    for file in ["modern.pem", "modern.key", "classical.pem", "classical.key", "authority.pem"] {
        fs::copy(makers.outside(file), place.outside(file))?;
    }
    let inside = |file: &str| place.inside(file);
    // What doctor finds, and whether nginx starts.
    let examine = |conf: &OpensslConf, name: &str| -> Result<(Report, bool)> {
        let conf = place.write_openssl_conf("openssl.cnf", conf)?;
        let nginx_conf = format!(
            "events {{}} http {{ server {{ listen 8443 ssl; ssl_certificate {}; ssl_certificate_key {}; \
             ssl_trusted_certificate {}; }} }}",
            inside(&format!("{name}.pem")),
            inside(&format!("{name}.key")),
            inside("authority.pem")
        );
        let file = place.write("nginx.conf", &nginx_conf)?;
        let mut nginx = DEBIAN_12.command("/usr/sbin/nginx")?;
        let nginx = nginx.args(["-t", "-q", "-c", &file]).env("OPENSSL_CONF", &conf).output()?;
        let program = ["--program", "/usr/sbin/nginx", "--conf", &conf, "--nginx-conf", &file];
        Ok((Report::of(&doctor(&DEBIAN_12, &place)?.args(program).output()?)?, nginx.status.success()))
    };
    let (modern, starts) = examine(&OpensslConf::new(), "modern")?;
    modern.says("certificate-usable", "fail", "before 3.2").says(
        "certificate-usable",
        "fail",
        "under the ML-DSA authority",
    );
    assert!(!starts, "nginx on 3.0 starts with an ML-DSA certificate");
    let (alone, _) = examine(&OpensslConf::without_provider(), "classical")?;
    alone.says("certificate-usable", "fail", "makes nothing of the ML-DSA-65 key of CN=authority").says(
        "certificate-usable",
        "fail",
        "activate a provider that has such keys",
    );
    // Whether a classical leaf under it is taken depends on the provider; doctor has to say what nginx does.
    let (classical, starts) = examine(&OpensslConf::new(), "classical")?;
    let (_, found) = classical.finding("certificate-usable");
    assert_eq!(found.contains("this libssl takes"), starts, "{found}");
    Ok(())
}

#[test]
fn names_in_lists_are_judged_by_the_rules_of_their_version() -> Result<()> {
    for (platform, program, _) in [PROGRAMS[0], PROGRAMS[2], PROGRAMS[5]] {
        let report = examine(platform, program, &OpensslConf::new().groups("x25519mlkem768"), &[])?;
        if platform.has_native_groups() {
            report.says("group-lists", "ok", "x25519mlkem768");
        } else {
            report.says("group-lists", "fail", "write X25519MLKEM768");
        }
    }
    let optional = OpensslConf::new().groups("?nosuchgroup:X25519MLKEM768");
    let (platform, program, _) = PROGRAMS[2];
    examine(platform, program, &optional, &[])?.says("group-lists", "ok", "?nosuchgroup");
    let (platform, program, _) = PROGRAMS[0];
    examine(platform, program, &optional, &[])?.says("group-lists", "fail", "rejects");
    Ok(())
}

#[test]
fn a_running_nginx_is_examined_by_its_process_and_from_outside() -> Result<()> {
    for platform in [&DEBIAN_12, &DEBIAN_13] {
        let servers = vec![Server::groups("X25519MLKEM768:X25519").lines("ssl_protocols TLSv1.3;")];
        let nginx = Nginx::start(platform, &Setup::new(OpensslConf::new(), servers))?;
        let place = nginx.directory();
        doctor(platform, place)?;
        let examine = || -> Result<Report> {
            let mut command = platform.command_with_proc(&place.inside("qtls"))?;
            command.args(["doctor", "--json", "--pid", &nginx.master().to_string()]);
            command.args(["--connect", &format!("127.0.0.1:{}", nginx.port(0))]);
            Report::of(&command.output()?)
        };
        let report = examine()?;
        report
            .nothing_wrong()
            .says("running-process", "ok", "started after the last change")
            .says("configuration-read", "ok", "named by OPENSSL_CONF of process")
            .says("server-settings", "ok", "ssl_ecdh_curve")
            .says("handshake", "ok", "X25519MLKEM768")
            .says("outside", "warn", "takes an X25519 share");
        // A worker's number leads to the same master.
        let worker = nginx.workers()?[0].to_string();
        let mut command = platform.command_with_proc(&place.inside("qtls"))?;
        let output = command.args(["doctor", "--json", "--pid", &worker]).output()?;
        Report::of(&output)?.says("configuration-read", "ok", "named by OPENSSL_CONF of process");

        let conf = place.outside("openssl.cnf");
        let text = fs::read_to_string(&conf)?;
        fs::write(&conf, text + "# touched\n")?;
        examine()?.says("running-process", "fail", "openssl.cnf was changed after process");

        // Another file system: said, not guessed.
        let output = Command::new(env!("CARGO_BIN_EXE_qtls"))
            .args(["doctor", "--pid", &nginx.master().to_string()])
            .output()?;
        ensure!(output.status.code() == Some(2), "exit code {:?}", output.status.code());
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(message.contains("run doctor in there"), "{message}");
        nginx.quit()?;
    }
    Ok(())
}
