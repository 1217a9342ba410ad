//! `qtls doctor` against a set-up that is right, and against one that is deliberately wrong for each of its checks.
//!
//! The library is the host's own; the program is the host's `openssl`, or a small stand-in for nginx that is linked to
//! the same libssl and says what version it is. What needs another OpenSSL is in `doctor_platforms.rs`.

mod common;

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use common::Authority;
use common::composite::CompositeKey;
use common::doctor::{Doctor, LIBSSL, Place, VERSION, compile, pair, stand_in, with_nginx};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PKCS_ML_DSA_65, PKCS_ML_DSA_87,
};
use serde_json::Value;

/// A process of ours, ended when dropped.
struct Running(Child);

impl Running {
    fn start(program: &Path, environment: &[(&str, &Path)]) -> Self {
        let mut command = Command::new(program);
        command.stdout(Stdio::piped()).env_remove("OPENSSL_CONF").envs(environment.iter().copied());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self(child)
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn a_right_setup_has_nothing_wrong_and_nothing_to_look_at() {
    let place = Place::new();
    let outcome = Doctor::of("openssl").conf(&place.right()).args(&["--require", "require_both"]).run();
    // Only TLS 1.2 is left to complain about.
    outcome.says("tls-1-2", "fail", "accepts TLS 1.2", "MinProtocol = TLSv1.3");
    let mended = place.wrong("Groups =", "MinProtocol = TLSv1.3\nGroups =");
    let outcome = Doctor::of("openssl").conf(&mended).args(&["--require", "require_both"]).run();
    for finding in outcome.report["findings"].as_array().unwrap() {
        assert!(["ok", "skipped"].contains(&finding["status"].as_str().unwrap()), "{finding:#}");
        assert!(!finding["found"].as_array().unwrap().is_empty(), "{finding:#}");
    }
    assert_eq!((outcome.code, &outcome.report["verdict"]), (0, &Value::from("ok")));
    outcome
        .says("handshake", "ok", "X25519MLKEM768", "")
        .says("key-share", "ok", "asks such a client for X25519MLKEM768", "")
        .says("mode", "ok", "require_both holds", "")
        .says("tls-1-2", "ok", "refuses TLS 1.2", "")
        .says("provider-active", "ok", "Q-TLS", "");
}

#[test]
fn a_program_that_is_a_script_is_refused_with_its_first_line() {
    let place = Place::new();
    let script = place.write("start-nginx", "#!/bin/sh\nexec nginx\n");
    fs::set_permissions(&script, Permissions::from_mode(0o755)).unwrap();
    let outcome = Doctor::of(script.to_str().unwrap()).run();
    outcome.says("program", "fail", "is a script (#!/bin/sh)", "name the program file itself");
}

#[test]
fn a_program_that_does_not_exist_is_no_verdict_but_exit_code_2() {
    let outcome = Doctor::of("/no/such/nginx").run();
    assert_eq!((outcome.code, &outcome.report), (2, &Value::Null));
    assert!(outcome.stderr.contains("/no/such/nginx"), "{}", outcome.stderr);
}

#[test]
fn a_program_without_openssl_and_a_missing_libssl_are_told_apart() {
    Doctor::of("/bin/true").run().says(
        "libssl",
        "fail",
        "uses no OpenSSL",
        "name the program that terminates TLS",
    );

    let place = Place::new();
    let library = place.path("libssl.so.77");
    compile("int nothing;", &library, &["-shared", "-fPIC", "-Wl,-soname,libssl.so.77"]);
    let program = place.path("haproxy");
    compile("int main(void) { return 0; }", &program, &["-Wl,--no-as-needed", library.to_str().unwrap()]);
    fs::remove_file(&library).unwrap();
    let outcome = Doctor::of(program.to_str().unwrap()).run();
    outcome.says("libssl", "fail", "libssl.so.77 is not found", "install the package that has libssl.so.77");
}

#[test]
fn a_provider_that_crashes_or_hangs_is_a_finding_and_never_takes_doctor_along() {
    let place = Place::new();
    let crash = "#include <stdlib.h>\n__attribute__((constructor)) static void start(void) { abort(); }\n";
    let module = place.library("crash.so", crash);
    let conf =
        place.wrong("[qtls_sect]\nmodule = ", &format!("[qtls_sect]\nmodule = {}\n#", module.display()));
    let outcome = Doctor::of("openssl").conf(&conf).run();
    outcome.says("libssl", "fail", "killed by SIGABRT", "take providers out");

    let hang =
        "#include <unistd.h>\n__attribute__((constructor)) static void start(void) { for (;;) pause(); }\n";
    let module = place.library("hang.so", hang);
    let conf =
        place.wrong("[qtls_sect]\nmodule = ", &format!("[qtls_sect]\nmodule = {}\n#", module.display()));
    let outcome = Doctor::of("openssl").conf(&conf).args(&["--time-limit", "1"]).run();
    outcome.says("libssl", "fail", "found no end in 1 seconds", "crashes or hangs");
}

#[test]
fn a_provider_that_crashes_at_the_end_loses_no_finding() {
    let place = Place::new();
    let conf = place.right();
    let source = sick_provider(1, 1)
        + "#include <stdlib.h>\n__attribute__((destructor)) static void end(void) { abort(); }\n";
    place.library("qtls.so", &source);
    let outcome = Doctor::of("openssl").conf(&conf).run();
    outcome
        .says("libssl", "warn", "at the end of its process OpenSSL was killed by SIGABRT", "report it")
        .says("provider-active", "ok", "", "");
}

#[test]
fn a_static_openssl_is_said_to_be_one_and_needs_openssl_conf() {
    let place = Place::new();
    let source = "#include <stdio.h>\nconst char *inside = \"OpenSSL 3.5.4 30 Sep 2025\";\n\
                  int main(void) { fputs(\"nginx version: nginx/1.27.5\\nconfigure arguments: --with-openssl=/src\\n\", stderr); \
                  puts(inside); return 0; }\n";
    let program = place.path("nginx");
    compile(source, &program, &[]);
    let name = program.to_str().unwrap();
    Doctor::of(name)
        .run()
        .says(
            "static-openssl",
            "warn",
            "OpenSSL 3.5.4 30 Sep 2025 is linked into the program",
            "--connect HOST:PORT",
        )
        .says("configuration-read", "fail", "OPENSSL_CONF is not set", "Environment=OPENSSL_CONF=");
    Doctor::of(name).conf(&place.right()).run().says("configuration-permissions", "ok", "", "");

    let old = source
        .replace("1.27.5", "1.24.0")
        .replace("OpenSSL 3.5.4 30 Sep 2025", "OpenSSL 1.1.1w  11 Sep 2023");
    compile(&old, &program, &[]);
    Doctor::of(name)
        .conf(&place.right())
        .run()
        .says("configuration-read", "fail", "no configuration before 1.25.2", "update nginx")
        .says("openssl-version", "fail", "has no providers", "3.0 or newer");
}

#[test]
fn a_version_without_providers_is_too_old() {
    // A libssl of 1.1.1 is in no release this runs on; a library that says it is one is enough.
    let place = Place::new();
    let text = "const char *OpenSSL_version(int what) { return \"OpenSSL 1.1.1w  11 Sep 2023\"; }";
    for name in ["libcrypto.so.1.1", "libssl.so.1.1"] {
        let library = place.path(name);
        compile(text, &library, &["-shared", "-fPIC", &format!("-Wl,-soname,{name}")]);
    }
    let program = place.path("haproxy");
    let directory = place.directory.path().to_str().unwrap();
    let (libssl, libcrypto) = (format!("{directory}/libssl.so.1.1"), format!("{directory}/libcrypto.so.1.1"));
    compile(
        "int main(void) { return 0; }",
        &program,
        &["-Wl,--no-as-needed", &libssl, &libcrypto, &format!("-Wl,-rpath,{directory}")],
    );
    let outcome = Doctor::of(program.to_str().unwrap()).run();
    outcome.says(
        "openssl-version",
        "fail",
        "OpenSSL 1.1.1w  11 Sep 2023 has no providers",
        "use OpenSSL 3.0 or newer",
    );
}

#[test]
fn ml_dsa_needs_a_new_libssl_and_a_provider_that_has_it() {
    let place = Place::new();
    let outcome = Doctor::of("openssl").conf(&place.right()).args(&["--require", "ml-dsa"]).run();
    match *VERSION {
        (3, 0 | 1) => outcome.says("openssl-version", "fail", "need OpenSSL 3.2", "use OpenSSL 3.2 or newer"),
        _ => outcome.says("openssl-version", "ok", "ML-DSA signatures are there", ""),
    };
}

#[test]
fn a_library_path_that_changes_libssl_is_shown() {
    let place = Place::new();
    let name = LIBSSL.file_name().unwrap();
    fs::copy(LIBSSL.canonicalize().unwrap(), place.path(name.to_str().unwrap())).unwrap();
    let directory = place.directory.path();
    Doctor::of("openssl")
        .conf(&place.right())
        .env("LD_LIBRARY_PATH", directory)
        .run()
        .says(
            "library-path",
            "warn",
            &format!("LD_LIBRARY_PATH={}", directory.display()),
            "every way the service is started",
        )
        .says("libssl", "warn", "libcrypto comes from another directory", "of one build");
    Doctor::of("openssl").conf(&place.right()).env("LD_LIBRARY_PATH", "/nowhere").run().says(
        "library-path",
        "ok",
        "does not change",
        "",
    );
}

/// A unit that starts a program as somebody.
fn unit(place: &Place, program: &Path, more: &str) -> PathBuf {
    place.write(
        "gateway.service",
        &format!("[Unit]\nDescription=x\n[Service]\nExecStart={}\n{more}\n", program.display()),
    )
}

#[test]
fn an_environment_that_the_kernel_distrusts_is_ignored_as_openssl_ignores_it() {
    let place = Place::new();
    let program = stand_in(&place, "nginx/1.26.0", "");
    fs::set_permissions(&program, Permissions::from_mode(0o4755)).unwrap();
    let service =
        unit(&place, &program, &format!("User=nobody\nEnvironment=OPENSSL_CONF={}", place.right().display()));
    Doctor::bare()
        .args(&["--unit", service.to_str().unwrap()])
        .run()
        .says("environment-ignored", "fail", "it is setuid", "AmbientCapabilities=CAP_NET_BIND_SERVICE")
        .says(
            "configuration-read",
            "fail",
            "OPENSSL_CONF of gateway.service is not set",
            "systemctl edit gateway.service",
        );
}

#[test]
fn file_capabilities_make_the_environment_distrusted_for_all_but_root() {
    if !rustix::process::geteuid().is_root() {
        // Only root may give a file capabilities.
        return;
    }
    let place = Place::new();
    let program = stand_in(&place, "nginx/1.26.0", "");
    // VFS_CAP_REVISION_2 with the effective bit, then CAP_NET_BIND_SERVICE (10) permitted (<linux/capability.h>).
    let words: [u32; 5] = [0x0200_0001, 1 << 10, 0, 0, 0];
    let value: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    rustix::fs::setxattr(&program, "security.capability", &value, rustix::fs::XattrFlags::empty()).unwrap();
    let conf = place.right();
    let environment = format!("Environment=OPENSSL_CONF={}", conf.display());
    let service = unit(&place, &program, &format!("User=nobody\n{environment}"));
    let outcome = Doctor::bare().args(&["--unit", service.to_str().unwrap()]).run();
    outcome.says("environment-ignored", "fail", "it has file capabilities", "setcap -r");
    let outcome = Doctor::of(program.to_str().unwrap()).conf(&conf).run();
    outcome.says("environment-ignored", "warn", "started by any user but root", "setcap -r");
    outcome.says("configuration-read", "ok", "", "");
}

#[test]
fn the_units_environment_counts_and_not_the_one_that_was_prepared() {
    let place = Place::new();
    let program = stand_in(&place, "nginx/1.26.0", "");
    let right = place.right();
    let with = unit(&place, &program, &format!("Environment=OPENSSL_CONF={}", right.display()));
    let with = Doctor::bare().args(&["--unit", with.to_str().unwrap()]).conf(&right).run();
    with.says("configuration-read", "ok", "named by OPENSSL_CONF of gateway.service", "");
    let without = unit(&place, &program, "Environment=OTHER=1");
    let without = Doctor::bare().args(&["--unit", without.to_str().unwrap()]).conf(&right).run();
    let mend = format!("Environment=OPENSSL_CONF={}", right.display());
    without.says("configuration-read", "fail", &format!("not {}", right.display()), &mend);
}

#[test]
fn no_openssl_conf_and_an_empty_and_a_relative_one_are_all_wrong() {
    Doctor::of("openssl").run().says(
        "configuration-read",
        "fail",
        "does not list qtls",
        "with OPENSSL_CONF=",
    );
    let outcome = Doctor::of("openssl").env("OPENSSL_CONF", "").run();
    assert_eq!(outcome.finding("configuration-read")["status"], "fail");
    let place = Place::new();
    place.right();
    let mut doctor = Doctor::of("openssl").env("OPENSSL_CONF", "openssl.cnf");
    doctor.command.current_dir(place.directory.path());
    doctor.run().says("configuration-read", "fail", "is relative", "/the/absolute/path.cnf");
}

#[test]
fn a_missing_and_an_unreadable_configuration_are_found() {
    let place = Place::new();
    Doctor::of("openssl").conf(&place.path("none.cnf")).run().says(
        "configuration-file",
        "fail",
        "No such file",
        "exists",
    );

    let program = stand_in(&place, "nginx/1.26.0", "");
    let conf = place.right();
    fs::set_permissions(&conf, Permissions::from_mode(0o600)).unwrap();
    let service =
        unit(&place, &program, &format!("User=nobody\nEnvironment=OPENSSL_CONF={}", conf.display()));
    let outcome = Doctor::bare().args(&["--unit", service.to_str().unwrap()]).run();
    outcome.says("configuration-file", "fail", "", &format!("chmod o+r {}", conf.display()));
}

#[test]
fn files_that_others_can_change_are_found() {
    let place = Place::new();
    let conf = place.right();
    fs::set_permissions(&conf, Permissions::from_mode(0o666)).unwrap();
    fs::set_permissions(place.path("qtls.so"), Permissions::from_mode(0o757)).unwrap();
    let outcome = Doctor::of("openssl").conf(&conf).run();
    outcome
        .says(
            "configuration-permissions",
            "fail",
            "writable by everybody (mode 666)",
            &format!("chmod o-w {}", conf.display()),
        )
        .says("module-permissions", "fail", "writable by everybody", "chmod o-w");
    fs::set_permissions(&conf, Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(place.path("qtls.so"), Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(place.directory.path(), Permissions::from_mode(0o777)).unwrap();
    Doctor::of("openssl").conf(&conf).run().says(
        "module-permissions",
        "fail",
        "is writable by everybody (mode 777)",
        "chmod o-w",
    );
}

#[test]
fn a_syntax_error_is_shown_with_its_line() {
    let place = Place::new();
    let conf = place.wrong("[providers]", "[providers");
    let outcome = Doctor::of("openssl").conf(&conf).run();
    outcome.says("configuration-syntax", "fail", "line 8", "correct line 8");
}

#[test]
fn the_application_section_counts_for_nginx_from_1_25_2_and_not_before() {
    let place = Place::new();
    let own_line = place.wrong("openssl_conf = init", "openssl_conf = init\nnginx = other");
    let text = fs::read_to_string(&own_line).unwrap()
        + "\n[other]\nproviders = others\n[others]\ndefault = default_sect\n";
    let wins = place.write("wins.cnf", &text);
    let new = stand_in(&place, "nginx/1.25.2", "");
    Doctor::of(new.to_str().unwrap())
        .conf(&wins)
        .run()
        .says(
            "application-section",
            "fail",
            "`nginx = other` wins over openssl_conf",
            "list qtls in the providers of [other]",
        )
        .says("provider-active", "fail", "qtls is not active", "");
    let old = stand_in(&place, "nginx/1.22.1", "");
    let outcome = Doctor::of(old.to_str().unwrap()).conf(&wins).run();
    outcome.says("application-section", "ok", "`openssl_conf = init`", "").says(
        "provider-active",
        "ok",
        "Q-TLS",
        "",
    );

    let only = place.wrong("openssl_conf = init", "nginx = init");
    Doctor::of(old.to_str().unwrap()).conf(&only).run().says(
        "application-section",
        "fail",
        "from 1.25.2 on",
        "openssl_conf = THE_SECTION",
    );
    let new = stand_in(&place, "nginx/1.27.5", "");
    Doctor::of(new.to_str().unwrap()).conf(&only).run().says(
        "application-section",
        "ok",
        "`nginx = init`",
        "",
    );
}

#[test]
fn a_start_that_leads_nowhere_is_found() {
    let place = Place::new();
    let late = place.wrong("config_diagnostics = 1\n", "[early]\n");
    let outcome = Doctor::of("openssl").conf(&late).run();
    outcome.says("application-section", "fail", "no line `openssl_conf", "before the first [section]");
    let missing = place.wrong("openssl_conf = init", "openssl_conf = int");
    let outcome = Doctor::of("openssl").conf(&missing).run();
    outcome.says(
        "application-section",
        "fail",
        "`openssl_conf = int` names a section that does not exist",
        "add [int]",
    );
}

#[test]
fn missing_diagnostics_are_a_warning() {
    let place = Place::new();
    let conf = place.wrong("config_diagnostics = 1\n", "");
    let outcome = Doctor::of("openssl").conf(&conf).run();
    outcome.says("diagnostics", "warn", "starts all the same", "config_diagnostics = 1");
}

#[test]
fn each_broken_link_to_the_provider_is_named() {
    let place = Place::new();
    let cases: BTreeMap<(&str, &str), (&str, &str)> = BTreeMap::from([
        (
            ("providers = providers", "providers = provider"),
            ("`providers = provider` names a section", "add [provider]"),
        ),
        (("qtls = qtls_sect", "qtsl = qtls_sect"), ("no provider qtls is listed", "is qtsl a misspelling")),
        (("qtls = qtls_sect\n", ""), ("no provider qtls is listed; listed: default", "list it")),
        (
            ("qtls = qtls_sect", "qtls = qtls"),
            ("`qtls = qtls` names a section that does not exist", "add [qtls]"),
        ),
        (("qtls.so\nactivate = 1", "qtls.so"), ("has no `activate`", "add `activate = 1`")),
    ]);
    for ((right, wrong), (found, mend)) in cases {
        let outcome = Doctor::of("openssl").conf(&place.wrong(right, wrong)).run();
        outcome.says("provider-section", "fail", found, mend);
        outcome.says("provider-active", "fail", "qtls is not active", "");
    }
    let zero = place.wrong("qtls.so\nactivate = 1", "qtls.so\nactivate = 0");
    let outcome = Doctor::of("openssl").conf(&zero).run();
    if *VERSION < (3, 2) {
        outcome.says("provider-section", "warn", "activates it all the same", "take the line out");
    } else {
        outcome.says("provider-section", "fail", "does not activate", "activate = 1");
    }
}

#[test]
fn a_module_that_is_not_there_is_named_with_the_place_it_was_looked_for() {
    let place = Place::new();
    let conf = place.wrong("/qtls.so", "/absent.so");
    let outcome = Doctor::of("openssl").conf(&conf).run();
    outcome.says(
        "module-file",
        "fail",
        "absent.so does not exist (named by `module`)",
        "put the module there",
    );
    let text = place
        .right_text()
        .replace(&format!("module = {}", place.path("qtls.so").display()), "module = qtls.so");
    let conf = place.write("relative.cnf", &text);
    Doctor::of("openssl").conf(&conf).run().says(
        "module-file",
        "fail",
        "`module = qtls.so` is looked for in",
        "absolute path",
    );
    let outcome = Doctor::of("openssl").conf(&conf).env("OPENSSL_MODULES", place.directory.path()).run();
    outcome.says("module-file", "ok", "can be read by", "").says("provider-active", "ok", "Q-TLS", "");
}

#[test]
fn a_module_that_the_loader_refuses_is_quoted() {
    let place = Place::new();
    let conf = place.right();
    let mut bytes = fs::read(place.path("qtls.so")).unwrap();
    // e_ident[EI_CLASS]: 1 is 32-bit, 2 is 64-bit.
    bytes[4] = 3 - bytes[4];
    fs::write(place.path("qtls.so"), &bytes).unwrap();
    let outcome = Doctor::of("openssl").conf(&conf).run();
    outcome.says("module-loads", "fail", "wrong ELF class", "the build for this architecture").says(
        "provider-active",
        "fail",
        "qtls is not active",
        "",
    );

    place.library("qtls.so", "int nothing;");
    let outcome = Doctor::of("openssl").conf(&conf).run();
    outcome.says("module-loads", "fail", "no symbol OSSL_provider_init", "no provider: correct `module`");
}

#[test]
fn wrong_options_are_named_with_what_is_allowed() {
    let place = Place::new();
    let value = place.wrong("qtls.so\nactivate = 1", "qtls.so\nactivate = 1\nnative = force");
    Doctor::of("openssl")
        .conf(&value)
        .run()
        .says("provider-options", "fail", "native = force", "correct it in [qtls_sect]")
        .says("provider-active", "fail", "yield, prefer", "");
    let name = place.wrong("qtls.so\nactivate = 1", "qtls.so\nactivate = 1\nselftest = off");
    Doctor::of("openssl").conf(&name).run().says(
        "provider-options",
        "fail",
        "`selftest`",
        "did you mean `self-test`?",
    );
    let known = place.wrong("qtls.so\nactivate = 1", "qtls.so\nactivate = 1\nsignatures = mldsa65:mldsa87");
    let outcome = Doctor::of("openssl").conf(&known).run();
    outcome.says("provider-options", "ok", "every option of [qtls_sect] is known", "");
    let strange = place.wrong("qtls.so\nactivate = 1", "qtls.so\nactivate = 1\ncolour = red");
    Doctor::of("openssl").conf(&strange).run().says(
        "provider-options",
        "fail",
        "`colour`",
        "the options are module",
    );
}

/// A provider with no algorithms that tells a given status and self-test outcome.
fn sick_provider(status: u8, self_test: u8) -> String {
    format!(
        "#include <stddef.h>\n#include <string.h>\n\
         typedef struct {{ const char *key; unsigned type; void *data; size_t size, used; }} param;\n\
         typedef struct {{ int id; void (*function)(void); }} dispatch;\n\
         static int get(void *context, param *p) {{\n\
         for (; p->key; p++) if (!strcmp(p->key, \"status\") && p->size == sizeof(int)) {{ *(int *)p->data = {status}; p->used = p->size; }}\n\
         return 1; }}\n\
         static int test(void *context) {{ return {self_test}; }}\n\
         static const dispatch table[] = {{ {{ 1026, (void (*)(void))get }}, {{ 1031, (void (*)(void))test }}, {{ 0, NULL }} }};\n\
         int OSSL_provider_init(const void *core, const dispatch *in, const dispatch **out, void **context) {{\n\
         *out = table; *context = (void *)core; return 1; }}\n"
    )
}

#[test]
fn a_provider_that_is_loaded_but_sick_is_not_healthy() {
    let place = Place::new();
    let conf = place.right();
    place.library("qtls.so", &sick_provider(0, 1));
    let outcome = Doctor::of("openssl").conf(&conf).run();
    outcome.says("provider-active", "fail", "not running", "log = debug");
    place.library("qtls.so", &sick_provider(1, 0));
    let outcome = Doctor::of("openssl").conf(&conf).run();
    outcome.says("provider-active", "fail", "self-test of qtls fails", "install it again");
    place.library("qtls.so", &sick_provider(1, 1));
    let outcome = Doctor::of("openssl").conf(&conf).run();
    outcome.says("provider-active", "ok", "", "").says(
        "groups-configured",
        "fail",
        "none",
        "Groups = X25519MLKEM768",
    );
    if *VERSION < (3, 5) {
        outcome.says("shadowing", "warn", "no active provider has a post-quantum group", "--provider NAME");
    }
}

#[test]
fn a_default_provider_that_is_switched_off_is_found() {
    let place = Place::new();
    for (right, wrong) in
        [("default = default_sect\n", ""), ("[default_sect]\nactivate = 1", "[default_sect]")]
    {
        let outcome = Doctor::of("openssl").conf(&place.wrong(right, wrong)).run();
        outcome
            .says(
                "default-provider",
                "fail",
                "switches off its implicit activation",
                "default = default_sect",
            )
            .says("handshake", "fail", "", "mend");
    }
}

#[test]
fn a_provider_before_default_is_in_the_wrong_order() {
    let place = Place::new();
    let conf =
        place.wrong("default = default_sect\nqtls = qtls_sect", "qtls = qtls_sect\ndefault = default_sect");
    let outcome = Doctor::of("openssl").conf(&conf).run();
    outcome.says("provider-order", "fail", "qtls is listed before default", "put the line of default first");
}

#[test]
fn a_mandatory_property_is_wrong_and_a_wish_for_another_provider_is_odd() {
    let place = Place::new();
    let with = |properties: &str| {
        let text = place.right_text().replace("[init]\n", "[init]\nalg_section = evp\n");
        place.write("properties.cnf", &format!("{text}\n[evp]\ndefault_properties = {properties}\n"))
    };
    let outcome = Doctor::of("openssl").conf(&with("provider=qtls")).run();
    outcome.says("properties", "fail", "mandatory", "default_properties = ?provider=qtls");
    let outcome = Doctor::of("openssl").conf(&with("?provider=legacy")).run();
    outcome.says("properties", "warn", "prefers another provider", "?provider=qtls");
    let outcome = Doctor::of("openssl").conf(&with("?provider=qtls")).run();
    outcome.says("properties", "ok", "?provider=qtls", "").says(
        "shadowing",
        "ok",
        "qtls serves X25519MLKEM768",
        "",
    );
}

/// A provider that claims a key management and an encapsulation of this name, and can do nothing.
fn pretender(name: &str) -> String {
    format!(
        "#include <stddef.h>\n\
         typedef struct {{ int id; void (*function)(void); }} dispatch;\n\
         typedef struct {{ const char *names, *properties; const dispatch *table; const char *text; }} algorithm;\n\
         static void *make(void *context) {{ return NULL; }}\n\
         static void drop(void *key) {{ }}\n\
         static int no(void) {{ return 0; }}\n\
         #define F(id, f) {{ id, (void (*)(void))f }}\n\
         static const dispatch keys[] = {{ F(1, make), F(10, drop), F(21, no), {{ 0, NULL }} }};\n\
         static const dispatch kem[] = {{ F(1, make), F(2, no), F(3, no), F(4, no), F(5, no), F(6, drop), {{ 0, NULL }} }};\n\
         static const algorithm key_list[] = {{ {{ \"{name}\", \"provider=other\", keys, \"\" }}, {{ NULL }} }};\n\
         static const algorithm kem_list[] = {{ {{ \"{name}\", \"provider=other\", kem, \"\" }}, {{ NULL }} }};\n\
         static const algorithm *query(void *context, int operation, int *no_cache) {{\n\
         *no_cache = 0; return operation == 10 ? key_list : operation == 14 ? kem_list : NULL; }}\n\
         static const dispatch table[] = {{ F(1027, query), {{ 0, NULL }} }};\n\
         int OSSL_provider_init(const void *core, const dispatch *in, const dispatch **out, void **context) {{\n\
         *out = table; *context = (void *)core; return 1; }}\n"
    )
}

#[test]
fn another_provider_that_takes_the_groups_is_named() {
    let place = Place::new();
    let other = place.library("other.so", &pretender("X25519MLKEM768"));
    let text = place.right_text().replace("qtls = qtls_sect", "other = other_sect\nqtls = qtls_sect");
    let text = text.replace("[init]\n", "[init]\nalg_section = evp\n");
    let other =
        format!("\n[other_sect]\nmodule = {}\nactivate = 1\n[evp]\ndefault_properties = ", other.display());
    let conf = place.write("shadow.cnf", &format!("{text}{other}?provider=other\n"));
    let outcome = Doctor::of("openssl").conf(&conf).run();
    outcome
        .says(
            "shadowing",
            "fail",
            "other serves X25519MLKEM768, not qtls",
            "take other out of the configuration",
        )
        .says("properties", "warn", "prefers another provider", "");
    let conf = place.write("mended.cnf", &format!("{text}{other}?provider=qtls\n"));
    Doctor::of("openssl").conf(&conf).run().says("shadowing", "ok", "qtls serves", "");
}

#[test]
fn a_list_is_rejected_for_each_reason_and_the_name_is_told() {
    let place = Place::new();
    let list = "X25519MLKEM768:SecP256r1MLKEM768";
    for (wrong, found, mend) in [
        ("X25519MLKEM786:X25519", "X25519MLKEM786 is unknown", "did you mean X25519MLKEM768?"),
        ("X25519MLKEM768:brainpool", "brainpool is unknown", "take it out; this libssl has X25519MLKEM768"),
        ("kyber768:X25519", "kyber768 is unknown", "did you mean MLKEM768?"),
    ] {
        let outcome = Doctor::of("openssl").conf(&place.wrong(list, wrong)).run();
        outcome.says("group-lists", "fail", found, mend);
    }
    if *VERSION < (3, 5) {
        let outcome = Doctor::of("openssl").conf(&place.wrong(list, "x25519mlkem768")).run();
        outcome.says(
            "group-lists",
            "fail",
            "x25519mlkem768 is unknown",
            "write X25519MLKEM768: before 3.5 case counts",
        );
        outcome.says("groups-configured", "fail", "", "");
        let outcome = Doctor::of("openssl").conf(&place.wrong(list, "X25519:X25519")).run();
        outcome.says("group-lists", "fail", "X25519 comes twice", "name it once");
    }
    let absent = place.wrong("qtls.so\nactivate = 1", "qtls.so\nactivate = 1\ngroups = MLKEM768");
    let outcome = Doctor::of("openssl").conf(&absent).run();
    if *VERSION < (3, 5) {
        outcome.says(
            "group-lists",
            "fail",
            "X25519MLKEM768 is unknown",
            "no active provider offers X25519MLKEM768",
        );
    }
}

#[test]
fn a_list_too_long_for_an_old_openssl_is_not_given_to_it() {
    if *VERSION >= (3, 3) {
        return;
    }
    let place = Place::new();
    let long = vec!["X25519"; 41].join(":");
    let conf = place.wrong("X25519MLKEM768:SecP256r1MLKEM768", &long);
    let outcome = Doctor::of("openssl").conf(&conf).run();
    let found = outcome.finding("libssl")["status"].as_str().unwrap();
    // Where the overflow is still there it may also kill the inner process; either way it is told.
    assert!(found == "fail" || outcome.finding("group-lists")["status"] == "fail", "{:#}", outcome.report);
    assert_eq!(outcome.code, 1);
}

#[test]
fn groups_that_are_not_named_are_not_offered_before_3_5() {
    let place = Place::new();
    let conf = place.wrong("ssl_conf = ssl\n", "");
    let outcome = Doctor::of("openssl").conf(&conf).run();
    if *VERSION < (3, 5) {
        outcome
            .says("groups-configured", "fail", "only when they are named", "system_default = tls_defaults")
            .says("handshake", "fail", "was negotiated although", "mend");
    } else {
        outcome.says("groups-configured", "ok", "X25519MLKEM768", "");
    }
    let classical = place.wrong("X25519MLKEM768:SecP256r1MLKEM768", "X25519:P-256");
    let outcome = Doctor::of("openssl").conf(&classical).run();
    outcome.says("groups-configured", "fail", "name classical groups only", "Groups = X25519MLKEM768");
}

#[test]
fn nginxs_own_groups_and_protocols_override_and_are_found() {
    let place = Place::new();
    let program = stand_in(&place, "nginx/1.22.1", "");
    let run = |conf: &Path, nginx: &str| {
        place.write("nginx.conf", nginx);
        Doctor::of(program.to_str().unwrap()).conf(conf).args(&["--require", "require_both"]).run()
    };
    let right = place.right();
    let outcome = run(
        &right,
        "http { ssl_protocols TLSv1.3; ssl_ecdh_curve X25519:P-256; server { listen 443 ssl; } }",
    );
    outcome
        .says(
            "server-settings",
            "fail",
            "replaces the groups of openssl.cnf",
            "ssl_ecdh_curve X25519MLKEM768",
        )
        .says("mode", "fail", "require_both must not accept X25519", "");
    let outcome = run(
        &right,
        "http { server { listen 443 ssl; ssl_ecdh_curve X25519MLKEM786; ssl_protocols TLSv1.3; } }",
    );
    outcome
        .says("server-settings", "fail", "ssl_ecdh_curve X25519MLKEM786 fails", "stops the server's start")
        .says("group-lists", "fail", "X25519MLKEM786 is unknown", "did you mean X25519MLKEM768?");
    let outcome = run(
        &right,
        "http { server { listen 443 ssl; ssl_protocols TLSv1.3; } server { listen 443 ssl; ssl_protocols TLSv1.3; ssl_ecdh_curve X25519; } }",
    );
    outcome.says("server-settings", "warn", "those of the default server", "in the default server");
    // 1.22 has no TLS 1.3 unless it is named.
    let outcome = run(&right, "http { server { listen 443 ssl; } }");
    outcome.says("tls-1-3", "fail", "does not accept TLS 1.3", "ssl_protocols TLSv1.2 TLSv1.3;");
    // MinProtocol of openssl.cnf does not count under nginx.
    let minimum = place.wrong("Groups =", "MinProtocol = TLSv1.3\nGroups =");
    let outcome = run(&minimum, "http { server { listen 443 ssl; ssl_protocols TLSv1.2 TLSv1.3; } }");
    outcome.says("tls-1-2", "fail", "accepts TLS 1.2", "ssl_protocols TLSv1.3;");
    let outcome = run(&right, "http { server { listen 443 ssl; ssl_protocols TLSv1.3; } }");
    outcome.says("tls-1-2", "ok", "refuses TLS 1.2", "").says("server-settings", "ok", "sets no groups", "");
    let missing = Doctor::of(program.to_str().unwrap())
        .conf(&right)
        .args(&["--nginx-conf", "/no/such/nginx.conf"])
        .run();
    missing.says("server-settings", "warn", "can't be read", "--nginx-conf FILE");
}

#[test]
fn a_list_that_another_program_sets_by_itself_can_be_told() {
    let place = Place::new();
    let judge = |groups: &str| Doctor::of("openssl").conf(&place.right()).args(&["--groups", groups]).run();
    judge("X25519:P-256")
        .says(
            "server-settings",
            "fail",
            "the program's own list, a plain server (X25519:P-256) replaces the groups",
            "",
        )
        .says("handshake", "fail", "was negotiated although", "");
    judge("X25519MLKEM768").says("server-settings", "ok", "includes post-quantum groups", "");
}

#[test]
fn an_nginx_that_does_not_answer_is_not_waited_for() {
    let place = Place::new();
    let program = place.path("nginx");
    compile("#include <unistd.h>\nint main(void) { for (;;) pause(); }", &program, &[]);
    let outcome = Doctor::of(program.to_str().unwrap()).run();
    outcome.says("program", "warn", "does not end within 10 seconds", "can be run here by hand");
}

#[test]
fn the_share_that_keeps_old_servers_classical_is_a_warning() {
    let place = Place::new();
    let conf = place.wrong("X25519MLKEM768:SecP256r1MLKEM768", "X25519MLKEM768:X25519");
    let outcome = Doctor::of("openssl").conf(&conf).run();
    outcome.says("handshake", "ok", "X25519MLKEM768", "");
    let mend =
        if *VERSION < (3, 5) { "OpenSSL before 3.5 never asks" } else { "put a slash instead of the colon" };
    outcome.says("key-share", "warn", "takes the classical share: X25519", mend);
    assert_eq!(outcome.code, 0, "a warning alone is no failure");
}

#[test]
fn each_mode_is_judged_by_what_the_server_accepts() {
    let place = Place::new();
    let list = "X25519MLKEM768:SecP256r1MLKEM768";
    let judge = |groups: &str, mode: &str, status: &str, found: &str| {
        let outcome = Doctor::of("openssl").conf(&place.wrong(list, groups)).args(&["--require", mode]).run();
        outcome.says("mode", status, found, if status == "fail" { "Groups = " } else { "" });
    };
    judge("X25519MLKEM768:X25519", "require_any", "ok", "require_any holds");
    judge("X25519MLKEM768", "require_any", "fail", "require_any needs more");
    judge("X25519MLKEM768:MLKEM768", "require_pqc", "ok", "require_pqc holds");
    judge("X25519MLKEM768:P-256", "require_pqc", "fail", "require_pqc must not accept secp256r1");
    judge("X25519MLKEM768:MLKEM768", "require_both", "fail", "require_both must not accept MLKEM768");
    judge("MLKEM768:MLKEM1024", "pure_pqc", "ok", "pure_pqc holds; accepted: MLKEM768, MLKEM1024");
    judge("MLKEM768:X25519MLKEM768", "pure_pqc", "fail", "pure_pqc must not accept X25519MLKEM768");
}

#[test]
fn a_sandbox_that_hides_the_files_is_found() {
    let place = Place::new();
    let program = stand_in(&place, "nginx/1.26.0", "");
    let hidden = place.directory.path().display().to_string();
    let environment = format!("Environment=OPENSSL_CONF={}", place.right().display());
    let service =
        unit(&place, &program, &format!("{environment}\nInaccessiblePaths={hidden}\nAppArmorProfile=nginx"));
    let outcome = Doctor::bare().args(&["--unit", service.to_str().unwrap()]).run();
    outcome.says("confinement", "fail", &format!("InaccessiblePaths={hidden}"), "move");
    assert!(outcome.lines("confinement", "found").contains("AppArmor profile nginx"));
    let service = unit(&place, &program, &environment);
    Doctor::bare().args(&["--unit", service.to_str().unwrap()]).run().says(
        "confinement",
        "ok",
        "nothing in",
        "",
    );
}

#[test]
fn a_process_is_seen_with_its_own_environment_and_its_age() {
    let place = Place::new();
    let program = stand_in(&place, "nginx/1.26.0", "");
    let (conf, module) = (place.right(), place.path("qtls.so"));
    let old = SystemTime::now() - Duration::from_secs(60);
    for file in [&conf, &module] {
        File::options().write(true).open(file).unwrap().set_modified(old).unwrap();
    }
    let running = Running::start(&program, &[("OPENSSL_CONF", &conf), ("LOAD", &module)]);
    let outcome = Doctor::bare().args(&["--pid", &running.pid()]).run();
    outcome
        .says("running-process", "ok", "started after the last change", "")
        .says("configuration-read", "ok", &format!("named by OPENSSL_CONF of process {}", running.pid()), "")
        .says("confinement", "ok", "sees the files we see", "");

    File::options()
        .write(true)
        .open(&conf)
        .unwrap()
        .set_modified(SystemTime::now() + Duration::from_secs(1))
        .unwrap();
    let outcome = Doctor::bare().args(&["--pid", &running.pid()]).run();
    outcome.says(
        "running-process",
        "fail",
        "openssl.cnf was changed after process",
        "restart it; a reload is not enough",
    );
    File::options().write(true).open(&conf).unwrap().set_modified(old).unwrap();

    // Installed anew, as a package does it: another file under the same name.
    fs::copy(&module, place.path("new.so")).unwrap();
    File::options().write(true).open(place.path("new.so")).unwrap().set_modified(old).unwrap();
    fs::rename(place.path("new.so"), &module).unwrap();
    let outcome = Doctor::bare().args(&["--pid", &running.pid()]).run();
    outcome.says("running-process", "fail", "as it was before it was replaced", "restart it");
}

#[test]
fn a_libssl_that_a_process_loads_after_its_start_is_found_in_the_process() {
    let place = Place::new();
    let program = place.path("interpreter");
    let source = "#include <dlfcn.h>\n#include <stdio.h>\n#include <stdlib.h>\n#include <unistd.h>\n\
                  int main(void) { if (!dlopen(getenv(\"LOAD\"), RTLD_NOW)) return 1;\n\
                  puts(\"ready\"); fflush(stdout); pause(); return 0; }\n";
    compile(source, &program, &["-ldl"]);
    let running = Running::start(&program, &[("OPENSSL_CONF", &place.right()), ("LOAD", &LIBSSL)]);
    let outcome = Doctor::bare().args(&["--pid", &running.pid()]).run();
    outcome
        .says("static-openssl", "ok", "loaded after the start", "")
        .says("provider-active", "ok", "Q-TLS", "")
        .says("running-process", "fail", "qtls.so is not loaded", "restart it");
    let alone = Doctor::of(program.to_str().unwrap()).run();
    alone.says("libssl", "fail", "uses no OpenSSL", "name its running process: --pid PID");
}

#[test]
fn a_process_without_the_module_or_with_another_configuration_is_found() {
    let place = Place::new();
    let program = stand_in(&place, "nginx/1.26.0", "");
    let conf = place.right();
    let running = Running::start(&program, &[("OPENSSL_CONF", &conf)]);
    let outcome = Doctor::bare().args(&["--pid", &running.pid()]).run();
    outcome.says("running-process", "fail", "qtls.so is not loaded in process", "restart it");
    // Not named, but found: the only process of this program.
    let outcome = Doctor::of(program.to_str().unwrap()).run();
    outcome.says("configuration-read", "ok", &format!("OPENSSL_CONF of process {}", running.pid()), "");
    let other = place.write("other.cnf", &place.right_text());
    let outcome = Doctor::of(program.to_str().unwrap()).conf(&other).run();
    outcome.says(
        "running-process",
        "fail",
        "was started with OPENSSL_CONF=",
        &format!("--pid {}", running.pid()),
    );
    let second = Running::start(&program, &[("OPENSSL_CONF", &conf)]);
    let outcome = Doctor::of(program.to_str().unwrap()).conf(&conf).run();
    assert_eq!(outcome.finding("running-process")["status"], "skipped");
    assert!(outcome.lines("running-process", "found").contains(&second.pid()));
}

/// `qtls serve` on a free port, ended when dropped.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(groups: &str) -> Self {
        let port = qtls_tests::process::free_port().unwrap();
        let address = format!("127.0.0.1:{port}");
        let mut command = Command::new(env!("CARGO_BIN_EXE_qtls"));
        command
            .args(["serve", "--listen", &address, "--groups", groups])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.spawn().unwrap();
        let server = Self { child, address };
        qtls_tests::process::wait_for(
            "qtls serve",
            || Ok(std::net::TcpStream::connect(&server.address).ok()),
        )
        .unwrap();
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn a_running_server_is_asked_from_outside() {
    let place = Place::new();
    let ask = |server: &Server, more: &[&str]| {
        let connect = ["--connect", server.address.as_str()];
        Doctor::of("openssl").conf(&place.right()).args(&connect).args(more).run()
    };
    let server = Server::start("X25519MLKEM768,X25519");
    let outcome = ask(&server, &["--require", "require_both"]);
    outcome.says("outside", "ok", "accepts X25519MLKEM768, X25519", "").says(
        "mode",
        "fail",
        &format!("{}: require_both must not accept X25519", server.address),
        "",
    );
    let server = Server::start("X25519");
    ask(&server, &[]).says("outside", "fail", "accepts classical groups only: X25519", "restart the server");
    let free = qtls_tests::process::free_port().unwrap();
    let nobody = Doctor::of("openssl").args(&["--connect", &format!("127.0.0.1:{free}")]).run();
    nobody.says("outside", "fail", "cannot connect", "start the server");
}

fn sign_composite(file: &Path, sign: impl Fn(&[u8]) -> Vec<u8>) {
    let der = qtls_cli::tls::read_certificates(file).unwrap().remove(0);
    fs::write(file, pem::encode(&pem::Pem::new("CERTIFICATE", sign(&der)))).unwrap();
}

fn append(to: &Path, files: &[&Path]) {
    let parts: Vec<String> =
        std::iter::once(&to).chain(files).map(|file| fs::read_to_string(file).unwrap()).collect();
    fs::write(to, parts.concat()).unwrap();
}

#[test]
fn right_certificates_have_nothing_wrong_for_server_and_upstream() {
    let (place, authority) = (Place::new(), Authority::new());
    let server = authority.issue("server", &["shop.example"], |_| {});
    let upstream = authority.issue("upstream", &["shop.example"], |_| {});
    let lines = format!(
        "{} ssl_trusted_certificate {}; location / {{ proxy_ssl_certificate {}; proxy_ssl_certificate_key {}; }}",
        pair(&server),
        authority.certificate(),
        upstream.certificate(),
        pair(&upstream).split(' ').next_back().unwrap().trim_end_matches(';'),
    );
    let outcome = with_nginx(&place, "nginx/1.26.0", &lines).run();
    outcome
        .says("certificate-files", "ok", server.key(), "")
        .says("certificate-keys", "ok", &format!("{} is the key of", server.key()), "")
        .says("certificate-usable", "ok", "(ECDSA P-256)", "")
        .says("certificate-chain", "ok", "leads to CN=test authority", "")
        .says("certificate-validity", "ok", "CN=test authority is valid for", "")
        .says("certificate-clients", "ok", "server shop.example", "");
    for id in ["certificate-files", "certificate-keys", "certificate-usable", "certificate-validity"] {
        assert!(outcome.lines(id, "found").contains("upstream"), "{id}");
    }
    assert_eq!(outcome.finding("ml-dsa")["status"], "skipped");
    assert_eq!(outcome.finding("session-size")["status"], "skipped");
}

#[test]
fn certificates_that_the_service_cannot_read_and_keys_that_everybody_can_are_found() {
    let (place, authority) = (Place::new(), Authority::new());
    let identity = authority.issue("server", &["shop.example"], |_| {});
    let lines = pair(&identity);
    let missing = lines.replace("server.key", "absent.key");
    with_nginx(&place, "nginx/1.26.0", &missing).run().says(
        "certificate-files",
        "fail",
        "absent.key, named by server shop.example",
        "correct the path",
    );
    fs::set_permissions(&identity.key, Permissions::from_mode(0o644)).unwrap();
    with_nginx(&place, "nginx/1.26.0", &lines).run().says(
        "certificate-files",
        "warn",
        "can be read by everybody",
        "chmod 600",
    );
    let lines = pair(&identity);
    with_nginx(&place, "nginx/1.26.0", &lines);
    let program = place.path("nginx");
    let environment = format!("User=nobody\nEnvironment=OPENSSL_CONF={}", place.right().display());
    let service = unit(&place, &program, &environment);
    Doctor::bare().args(&["--unit", service.to_str().unwrap()]).run().says(
        "certificate-files",
        "fail",
        "can't be read by nobody: Permission denied",
        "let nobody read it",
    );
    let at_run_time = "ssl_certificate $ssl_server_name.crt; ssl_certificate_key $ssl_server_name.key;";
    let outcome = with_nginx(&place, "nginx/1.26.0", at_run_time).run();
    outcome.says("certificate-files", "ok", "$ssl_server_name.crt is not looked at", "");
}

#[test]
fn a_key_that_is_none_or_anothers_or_behind_a_passphrase_is_told_apart() {
    let (place, authority) = (Place::new(), Authority::new());
    let one = authority.issue("one", &["shop.example"], |_| {});
    let other = authority.issue("other", &["shop.example"], |_| {});
    let lines = pair(&one);
    let swapped = lines.replace("one.key", "other.key");
    let outcome = with_nginx(&place, "nginx/1.26.0", &swapped).run();
    outcome.says("certificate-keys", "fail", "is not the key of", "pair off in their order");
    // Said once, not as a second fault.
    outcome.says("certificate-usable", "ok", "", "");

    let key = fs::read_to_string(&other.key).unwrap();
    let passwords = place.write("passwords", "wrong\nright\n");
    let status = Command::new("openssl")
        .args(["pkey", "-aes256", "-passout", "pass:right", "-in", one.key(), "-out", other.key()])
        .status()
        .unwrap();
    assert!(status.success());
    let behind = lines.replace("one.key", "other.key");
    with_nginx(&place, "nginx/1.26.0", &behind).run().says(
        "certificate-keys",
        "fail",
        "is no private key to this libcrypto",
        "ssl_password_file",
    );
    let opened = format!("{behind} ssl_password_file {};", passwords.display());
    with_nginx(&place, "nginx/1.26.0", &opened).run().says("certificate-keys", "ok", "is the key of", "");

    fs::write(&other.key, key.replace("BEGIN PRIVATE", "BEGIN PRIVY")).unwrap();
    with_nginx(&place, "nginx/1.26.0", &behind).run().says(
        "certificate-keys",
        "fail",
        "is no private key to this libcrypto",
        "in PEM",
    );
    fs::write(&one.certificate, "nothing").unwrap();
    with_nginx(&place, "nginx/1.26.0", &lines).run().says(
        "certificate-keys",
        "fail",
        "is no certificate to this libcrypto",
        "in PEM",
    );
}

#[test]
fn a_certificate_that_tls_of_this_libssl_cannot_use_is_found() {
    let (place, authority) = (Place::new(), Authority::new());
    let ml_dsa = KeyPair::generate_for(&PKCS_ML_DSA_65).unwrap();
    let ml_dsa = authority.issue_for(ml_dsa, "ml-dsa", &["shop.example"], |_| {});
    let outcome = with_nginx(&place, "nginx/1.26.0", &pair(&ml_dsa)).args(&["--require", "ml-dsa"]).run();
    if *VERSION < (3, 2) {
        outcome
            .says("certificate-usable", "fail", "has an ML-DSA-65 key, and TLS of", "an OpenSSL from 3.2 on")
            .says("certificate-usable", "fail", "", "under the ML-DSA authority")
            .says("ml-dsa", "fail", "that this libssl cannot use", "openssl-version");
    }
    let composite = authority.issue("composite", &["shop.example"], |_| {});
    let key = CompositeKey::generate(qtls_crypto::signature_by_name("HYBRID:DILITHIUM3+P256").unwrap());
    sign_composite(&composite.certificate, |der| key.self_sign(der));
    with_nginx(&place, "nginx/1.26.0", &pair(&composite)).run().says(
        "certificate-usable",
        "fail",
        "has a composite key (MLDSA65-ECDSA-P256-SHA512)",
        "keep the composite for the authority",
    );
}

#[test]
fn a_chain_is_judged_by_who_follows_whom() {
    let (place, authority) = (Place::new(), Authority::new());
    let middle_key = KeyPair::generate().unwrap();
    let mut middle = CertificateParams::default();
    middle.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    middle.distinguished_name.push(DnType::CommonName, "middle");
    let middle_file = place.write("middle.pem", &authority.sign(&middle, &middle_key));
    // The same name with another key, as after a change of keys.
    let false_middle = place.write("false.pem", &authority.sign(&middle, &KeyPair::generate().unwrap()));
    let under = Authority::of(Issuer::new(middle, middle_key));
    let chain = |more: &[&Path]| {
        let leaf = under.issue("server", &["shop.example"], |_| {});
        append(&leaf.certificate, more);
        with_nginx(&place, "nginx/1.26.0", &pair(&leaf)).run()
    };
    let root = authority.certificate.as_path();
    chain(&[&middle_file, root]).says("certificate-chain", "ok", "its root, which need not be sent", "");
    chain(&[]).says(
        "certificate-chain",
        "warn",
        "a certificate of CN=middle",
        "append the certificate of CN=middle",
    );
    chain(&[&middle_file]).says("certificate-chain", "warn", "a certificate of CN=test authority", "append");
    let disordered = chain(&[root, &middle_file]);
    disordered.says("certificate-chain", "warn", "CN=server is not followed by its issuer", "in this order");
    chain(&[root]).says("certificate-chain", "fail", "none of them is its issuer's", "in this order");
    chain(&[&false_middle, root]).says(
        "certificate-chain",
        "fail",
        "and another key",
        "may have had a new key",
    );
    let alone = authority.self_signed("alone");
    let outcome = with_nginx(&place, "nginx/1.26.0", &pair(&alone)).run();
    outcome.says("certificate-chain", "ok", "is self-signed", "");
}

#[test]
fn certificates_that_end_are_found_before_and_after() {
    let (place, authority) = (Place::new(), Authority::new());
    let valid = |from: i64, to: i64| {
        let day = |days: i64| {
            // Half a day more, so that whole days do not depend on when exactly the test runs.
            let seconds = Duration::from_secs(days.unsigned_abs() * 86_400 + 43_200);
            if days < 0 { SystemTime::now() - seconds } else { SystemTime::now() + seconds }
        };
        let identity = authority.issue("server", &["shop.example"], |params| {
            (params.not_before, params.not_after) = (day(from).into(), day(to).into());
        });
        with_nginx(&place, "nginx/1.26.0", &pair(&identity)).run()
    };
    valid(-10, -1).says("certificate-validity", "fail", "CN=server expired at", "renew it");
    valid(2, 100).says("certificate-validity", "fail", "CN=server is valid from", "clock");
    valid(-10, 20).says("certificate-validity", "warn", "CN=server expires in 20 days", "renew it");
    valid(-10, 40).says("certificate-validity", "ok", "CN=server is valid for 40 days", "");
    // An authority for clients ends as well.
    let identity = authority.issue("server", &["shop.example"], |_| {});
    let old = authority.issue("old", &[], |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
    let lines =
        format!("{} ssl_verify_client on; ssl_client_certificate {};", pair(&identity), old.certificate());
    let outcome = with_nginx(&place, "nginx/1.26.0", &lines).run();
    outcome.says("certificate-validity", "fail", "CN=old expired at 2020-01-01", "renew it");
    let empty = place.write("empty.pem", "");
    let lines = lines.replace(old.certificate(), empty.to_str().unwrap());
    let outcome = with_nginx(&place, "nginx/1.26.0", &lines).run();
    outcome.says("certificate-files", "fail", "holds no certificate", "certificates of the authorities");
}

#[test]
fn a_session_too_big_for_nginxs_cache_is_found_by_its_version() {
    let place = Place::new();
    let authority = Authority::with_key(KeyPair::generate_for(&PKCS_ML_DSA_87).unwrap());
    let classical = Authority::new();
    let identity = classical.issue("server", &["shop.example"], |_| {});
    let session = |version: &str, authority: &Authority, more: &str| {
        let ca = authority.certificate();
        let lines = format!("{} ssl_client_certificate {ca}; {more}", pair(&identity));
        with_nginx(&place, version, &lines).run()
    };
    let on = "ssl_verify_client on;";
    let off = "ssl_verify_client optional; ssl_session_tickets off;";
    let big = session("nginx/1.26.0", &authority, on);
    big.says("session-size", "warn", "resume only by tickets", "leave ssl_session_tickets on");
    let never = session("nginx/1.29.1", &authority, off);
    never.says("session-size", "warn", "these clients never resume", "1.29.2 or newer");
    session("nginx/1.29.2", &authority, off).says("session-size", "ok", "nginx caches 8192", "");
    let small = session("nginx/1.26.0", &classical, off);
    small.says("session-size", "ok", "no authority that signs with ML-DSA", "");
    let unasked = session("nginx/1.26.0", &authority, "");
    assert_eq!(unasked.finding("session-size")["status"], "skipped");
}

#[test]
fn an_ml_dsa_certificate_that_is_required_and_not_there_is_missed() {
    let (place, authority) = (Place::new(), Authority::new());
    let identity = authority.issue("server", &["shop.example"], |_| {});
    let require = ["--require", "ml-dsa"];
    let outcome = with_nginx(&place, "nginx/1.26.0", &pair(&identity)).args(&require).run();
    outcome.says("ml-dsa", "fail", "server shop.example", "as a further pair");
    let outcome = with_nginx(&place, "nginx/1.26.0", "").args(&require).run();
    outcome.says("ml-dsa", "fail", "no TLS server with a certificate", "--nginx-conf FILE");
    let outcome = Doctor::of("openssl").conf(&place.right()).args(&require).run();
    outcome.says("ml-dsa", "warn", "is not known here", "qtls probe HOST:PORT");
}

#[test]
fn the_report_for_people_says_the_same_without_colour_in_a_file() {
    let place = Place::new();
    let conf = place.wrong("/qtls.so", "/absent.so");
    let output = Command::new(env!("CARGO_BIN_EXE_qtls"))
        .args(["doctor", "--program", "openssl", "--conf", conf.to_str().unwrap()])
        .env_remove("OPENSSL_CONF")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("FAIL  module-file"), "{text}");
    assert!(text.contains("→ put the module there"), "{text}");
    assert!(!text.contains('\u{1b}'), "colour in a file");
}

#[test]
fn every_check_has_a_setup_here_that_makes_it_fail_or_warn() {
    let output = Command::new(env!("CARGO_BIN_EXE_qtls")).args(["doctor", "--list-checks"]).output().unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    let ids: Vec<&str> =
        table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert!(ids.len() > 30, "{table}");
    let tests =
        [include_str!("doctor.rs"), include_str!("doctor_hsm.rs"), include_str!("doctor_platforms.rs")]
            .concat();
    let tests: String = tests.split_whitespace().collect();
    for id in ids {
        let asserted =
            ["fail", "warn"].iter().any(|status| tests.contains(&format!("says(\"{id}\",\"{status}\"")));
        assert!(asserted, "no test makes {id} fail or warn");
    }
}
