//! The same file in every OpenSSL at hand: who serves an algorithm that nobody asked a certain provider for, keys of ours
//! against keys of libcrypto's own, and a clean end.

mod common;
#[path = "common/headers.rs"]
mod headers;

use headers::{compile, include_of, openssl_headers};
use qtls_crypto::KEM_ALGORITHMS;
use qtls_tests::platform::{DEBIAN_12, DEBIAN_13, DEBIAN_SID, OPENSSL_3_0_2, OPENSSL_3_4_1, OPENSSL_4_0};
use qtls_tests::{Platform, WorkDir};
use std::path::Path;
use std::process::Output;

/// What of openssl.cnf differs between the cases.
#[derive(Clone, Copy, Debug)]
struct Case {
    /// The sections of `default` and `qtls` in the order in which they are activated.
    order: [&'static str; 2],
    native: &'static str,
    /// Where alg_section stands, which sets `?provider=qtls`; if at all.
    properties: Properties,
    lines: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Properties {
    Unset,
    BeforeProviders,
    AfterProviders,
}

impl Case {
    fn conf(self, module: &str) -> String {
        let Self { order: [first, second], native, properties, lines } = self;
        let [before, after] = match properties {
            Properties::Unset => ["", ""],
            Properties::BeforeProviders => ["alg_section = alg_sect\n", ""],
            Properties::AfterProviders => ["", "alg_section = alg_sect\n"],
        };
        format!(
            "config_diagnostics = 1\nopenssl_conf = openssl_init\n\
             [openssl_init]\n{before}providers = provider_sect\n{after}\
             [provider_sect]\n{first} = {first}_sect\n{second} = {second}_sect\n\
             [default_sect]\nactivate = 1\n\
             [qtls_sect]\nmodule = {module}\nactivate = 1\nnative = {native}\n{lines}\n\
             [alg_sect]\ndefault_properties = ?provider=qtls\n"
        )
    }
}

/// A program of `c/` on a platform.
struct Program {
    platform: &'static Platform,
    folder: WorkDir,
    path: String,
}

impl Program {
    fn new(platform: &'static Platform, name: &str) -> Self {
        let folder = WorkDir::new(platform).unwrap_or_else(|error| panic!("{error:#}"));
        folder.install_module().unwrap_or_else(|error| panic!("{error:#}"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c").join(name).with_extension("c");
        if platform.version < (4, 0) {
            // Compiled against this machine's OpenSSL 3: every later 3 has its functions, under the same soname.
            compile(&source, &folder.outside(name), &[], &["-lssl", "-lcrypto"]);
        } else {
            let includes = openssl_headers(&include_of(platform), &folder.outside("."));
            let libraries = ["libssl", "libcrypto"].map(|library| library_of(platform, library));
            // The platform's C library is newer than ours: what its libraries need of it is found where they run.
            let arguments = [&libraries[0], &libraries[1], "-Wl,--allow-shlib-undefined"];
            compile(&source, &folder.outside(name), &includes, &arguments);
        }
        let path = folder.inside(name);
        Self { platform, folder, path }
    }

    fn run(&self, case: Case) -> Output {
        let conf = self.folder.write("openssl.cnf", &case.conf(&self.folder.inside("qtls.so"))).unwrap();
        let mut command = self.platform.command(&self.path).unwrap();
        if !self.platform.is_chroot() {
            command.env("LD_LIBRARY_PATH", self.platform.home().unwrap().join("lib"));
        }
        command.env("OPENSSL_CONF", conf).output().unwrap()
    }

    /// For `evp_matrix`: asserts that every algorithm is served by `provider` and exchanges secrets with what else is there.
    #[track_caller]
    fn expect(&self, case: Case, provider: &str, exchanges: usize) -> String {
        let output = self.run(case);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let expected: String = KEM_ALGORITHMS
            .iter()
            .map(|row| {
                let name = row.name;
                format!(
                    "{name} keymgmt={provider} kem={provider} generated={provider} exchanges={exchanges}\n"
                )
            })
            .collect();
        assert_eq!(out, expected, "{}, {case:?}: {err}", self.platform.name);
        assert!(output.status.success(), "{}, {case:?}: {} {err}", self.platform.name, output.status);
        err.into_owned()
    }
}

fn library_of(platform: &Platform, library: &str) -> String {
    let libraries = platform.home().unwrap().join("usr/lib");
    let name = format!("{library}.so.{}", platform.version.0);
    std::fs::read_dir(&libraries)
        .unwrap()
        .map(|entry| entry.unwrap().path().join(&name))
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("no {name} in {}", libraries.display()))
        .to_str()
        .unwrap()
        .to_owned()
}

const ALL: [&Platform; 6] =
    [&OPENSSL_3_0_2, &DEBIAN_12, &OPENSSL_3_4_1, &DEBIAN_13, &DEBIAN_SID, &OPENSSL_4_0];

const DEFAULT_FIRST: [&str; 2] = ["default", "qtls"];
const QTLS_FIRST: [&str; 2] = ["qtls", "default"];

const PLACES: [Properties; 3] = [Properties::Unset, Properties::BeforeProviders, Properties::AfterProviders];

fn case(order: [&'static str; 2], native: &'static str, properties: Properties) -> Case {
    Case { order, native, properties, lines: "" }
}

/// Every case that differs in anything.
fn cases() -> impl Iterator<Item = Case> {
    [DEFAULT_FIRST, QTLS_FIRST].into_iter().flat_map(|order| {
        ["yield", "prefer"]
            .into_iter()
            .flat_map(move |native| PLACES.map(|properties| case(order, native, properties)))
    })
}

#[test]
fn where_libcrypto_lacks_the_algorithms_ours_serve_them_in_every_configuration_and_the_program_ends_clean() {
    for platform in [&OPENSSL_3_0_2, &DEBIAN_12, &OPENSSL_3_4_1] {
        let matrix = Program::new(platform, "evp_matrix");
        for case in cases() {
            assert_eq!(matrix.expect(case, "qtls", 1), "", "{}, {case:?}", platform.name);
        }
    }
}

#[test]
fn where_libcrypto_has_the_algorithms_yield_leaves_them_to_it_in_every_configuration() {
    for platform in [&DEBIAN_13, &DEBIAN_SID, &OPENSSL_4_0] {
        let matrix = Program::new(platform, "evp_matrix");
        for case in cases().filter(|case| case.native == "yield") {
            assert_eq!(matrix.expect(case, "default", 1), "", "{}, {case:?}", platform.name);
        }
    }
}

#[test]
fn where_libcrypto_has_the_algorithms_prefer_with_default_properties_takes_them_over_in_either_order() {
    for platform in [&DEBIAN_13, &DEBIAN_SID, &OPENSSL_4_0] {
        let matrix = Program::new(platform, "evp_matrix");
        for case in cases().filter(|case| case.native == "prefer" && case.properties != Properties::Unset) {
            assert_eq!(matrix.expect(case, "qtls", 2), "", "{}, {case:?}", platform.name);
        }
    }
}

#[test]
fn prefer_without_default_properties_depends_on_the_order_and_says_so_loudly() {
    for platform in [&DEBIAN_13, &DEBIAN_SID, &OPENSSL_4_0] {
        let matrix = Program::new(platform, "evp_matrix");
        for order in [DEFAULT_FIRST, QTLS_FIRST] {
            let log = matrix.expect(case(order, "prefer", Properties::Unset), order[0], 2);
            for part in ["error: native = prefer", "listed first", "default_properties = ?provider=qtls"] {
                assert!(log.contains(part), "{}: {log}", platform.name);
            }
            assert_eq!(log.lines().count(), 1, "{}: {log}", platform.name);
        }
    }
}

#[test]
fn a_wrong_option_stops_tls_on_every_version_and_a_right_one_does_not() {
    for platform in ALL {
        let program = Program::new(platform, "tls_context");
        let right = case(DEFAULT_FIRST, "yield", Properties::Unset);
        let output = program.run(right);
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && log.is_empty(), "{}: {} {log}", platform.name, output.status);

        let output = program.run(Case { lines: "groups = X25519MLKEM786", ..right });
        let log = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{}: {log}", platform.name);
        let told = |start: &str, part: &str| {
            log.lines().any(|line| {
                line.contains(start)
                    && line.contains(part)
                    && line.contains("'X25519MLKEM786' is not a group")
            })
        };
        assert!(told("qtls[", "error:"), "not in the log: {}: {log}", platform.name);
        assert!(told(":error:", "invalid option"), "not in the error queue: {}: {log}", platform.name);
    }
}

#[test]
fn threads_that_begin_at_once_all_succeed_on_every_version() {
    for platform in ALL {
        let program = Program::new(platform, "threads");
        let output = program.run(case(DEFAULT_FIRST, "prefer", Properties::BeforeProviders));
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && log.is_empty(), "{}: {} {log}", platform.name, output.status);
    }
}
