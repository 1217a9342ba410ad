//! The program, its libssl, and whether its environment is honoured.

use std::path::PathBuf;

use super::super::Requirement;
use super::super::checks::{Findings, Status};
use super::super::facts::find_library;
use super::super::inner::{Ending, Report};
use super::super::target::has_file_capabilities;
use super::super::version::Version;
use super::{FIRST_WITH_PROVIDER_SIGNATURES, FIRST_WITH_PROVIDERS, Judge};

impl Judge<'_> {
    /// Is it a program, and how does it come by OpenSSL? False when nothing more can be said.
    pub(super) fn program(&self, findings: &mut Findings) -> bool {
        let program = match &self.facts.program {
            Ok(program) => program,
            Err(error) => {
                findings.fail(
                    "program",
                    format!("{error:#}"),
                    "name the program file itself: qtls doctor --program PATH",
                );
                return false;
            }
        };
        let built = match &self.target.build {
            Some(Ok(build)) => format!(", {}", build.name),
            _ => String::new(),
        };
        findings.ok("program", format!("{}{built}", self.target.program.display()));
        if let Some(Err(error)) = &self.target.build {
            findings.warn(
                "program",
                format!("its version is unknown, and taken for a new one: {error:#}"),
                "see whether the program can be run here by hand",
            );
        }

        let libraries = match &self.facts.libraries {
            Ok(libraries) => libraries,
            Err(error) => {
                findings.fail(
                    "libssl",
                    format!("{error:#}"),
                    "run doctor on the machine, and in the container or chroot, where the program runs",
                );
                return true;
            }
        };
        for missing in libraries.iter().filter(|library| library.path.is_none()) {
            findings.fail(
                "libssl",
                format!("{} is not found by the dynamic loader", missing.name),
                format!(
                    "install the package that has {}, or put its directory into /etc/ld.so.conf.d/ and run ldconfig{}",
                    missing.name,
                    if program.run_paths.is_empty() {
                        String::new()
                    } else {
                        format!(" (the program looks in {} first)", program.run_paths.join(":"))
                    }
                ),
            );
        }
        if find_library(libraries, "libssl.so").is_some() {
            findings.ok("static-openssl", "linked to a shared libssl");
            self.library_path(findings);
        } else if self.facts.openssl.is_some() {
            findings.ok("static-openssl", "a shared libssl, loaded after the start");
        } else if findings.status("libssl") != Status::Fail {
            self.without_shared_libssl(program.embedded.as_deref(), findings);
        }
        true
    }

    pub(super) fn without_shared_libssl(&self, embedded: Option<&str>, findings: &mut Findings) {
        let Some(embedded) = embedded else {
            findings.fail(
                "libssl",
                "the program uses no OpenSSL: no libssl among its libraries, none inside",
                "name the program that terminates TLS: qtls doctor --program PATH; if it loads libssl after its start, as \
                 interpreters and Apache do, name its running process: --pid PID",
            );
            return;
        };
        let ask = if self.facts.outside.is_none() {
            "start it and let it be asked from outside: add --connect HOST:PORT"
        } else {
            "see the check \"outside\" for what the running server does"
        };
        findings.warn(
            "static-openssl",
            format!("{embedded} is linked into the program; only the outside can be seen"),
            ask,
        );
        if !embedded.starts_with("OpenSSL ") || Version::parse(embedded) < FIRST_WITH_PROVIDERS {
            findings.fail(
                "openssl-version",
                format!("{embedded} has no providers"),
                "use a build with OpenSSL 3.0 or newer",
            );
        } else {
            findings.ok("openssl-version", embedded);
            self.static_version_required(embedded, findings);
        }
        if self.target.variable("OPENSSL_CONF").is_none() {
            findings.fail(
                "configuration-read",
                "OPENSSL_CONF is not set, and a program with OpenSSL inside reads a configuration only then",
                self.target.how_to_set(&self.example_assignment()),
            );
        } else if !self.target.reads_configuration() {
            findings.fail(
                "configuration-read",
                "nginx with OpenSSL inside reads no configuration before 1.25.2, not even with OPENSSL_CONF",
                "update nginx to 1.25.2 or newer, or use one linked to the system's libssl",
            );
        }
        if let Some(file) = self.target.variable("OPENSSL_CONF").map(PathBuf::from) {
            self.readable("configuration-file", &file, findings);
            self.unchangeable("configuration-permissions", &file, findings);
        }
    }

    pub(super) fn static_version_required(&self, embedded: &str, findings: &mut Findings) {
        if self.requires(Requirement::MlDsa) && Version::parse(embedded) < FIRST_WITH_PROVIDER_SIGNATURES {
            findings.fail(
                "openssl-version",
                "ML-DSA certificates in TLS need OpenSSL 3.2",
                "use a build with OpenSSL 3.2 or newer",
            );
        }
    }

    pub(super) fn library_path(&self, findings: &mut Findings) {
        let set: Vec<String> = ["LD_LIBRARY_PATH", "LD_PRELOAD"]
            .iter()
            .filter_map(|name| {
                self.target
                    .variable(name)
                    .filter(|value| !value.is_empty())
                    .map(|value| format!("{name}={value}"))
            })
            .collect();
        let libraries = self.facts.libraries.as_deref().unwrap_or_default();
        let (with, without) =
            (find_library(libraries, "libssl.so"), find_library(&self.facts.plain_libraries, "libssl.so"));
        if set.is_empty() {
            findings.ok("library-path", "neither LD_LIBRARY_PATH nor LD_PRELOAD is set");
        } else if with == without {
            findings.ok("library-path", format!("{} does not change which libssl is used", set.join(" ")));
        } else {
            let shown =
                |path: Option<PathBuf>| path.map_or("none".to_owned(), |path| path.display().to_string());
            findings.warn(
                "library-path",
                format!("{} makes it {}; without it is {}", set.join(" "), shown(with), shown(without)),
                "see that every way the service is started sets the same, or link with a run path instead",
            );
        }
    }

    pub(super) fn environment_ignored(&self, findings: &mut Findings) {
        if let Some(reason) = &self.target.secure {
            findings.fail(
                "environment-ignored",
                format!("OPENSSL_CONF and OPENSSL_MODULES are ignored, for {reason}"),
                vec![
                    "start the program as root or with systemd's AmbientCapabilities=CAP_NET_BIND_SERVICE, and take the".to_owned(),
                    format!("privilege off the file: setcap -r {0} (or chmod ug-s {0})", self.target.program.display()),
                    "or put the settings into the configuration that OpenSSL reads by default".to_owned(),
                ],
            );
        } else if self.target.process.is_none()
            && self.target.user.0 == 0
            && has_file_capabilities(&self.target.program)
        {
            findings.warn(
                "environment-ignored",
                "the program has file capabilities: started by any user but root it ignores OPENSSL_CONF",
                format!(
                    "if it is not always root who starts it: setcap -r {}",
                    self.target.program.display()
                ),
            );
        } else {
            findings.ok("environment-ignored", "nothing makes the program distrust its environment");
        }
    }

    /// Did the library load, and live?
    pub(super) fn library(&self, findings: &mut Findings) -> Option<&Report> {
        let (libcrypto, libssl) = self.facts.openssl.as_ref()?;
        let report = match self.facts.examination.as_ref()? {
            Ending::Reported(report) => report,
            Ending::Died { step, how, stderr } => {
                let last_words =
                    stderr.lines().last().map(|line| format!(" (\"{line}\")")).unwrap_or_default();
                findings.fail(
                    "libssl",
                    format!("while {step}, OpenSSL was {how}{last_words}"),
                    "a provider or another module of the configuration crashes or hangs: take providers out of the \
                     configuration one by one until the crash is gone, and report it to whoever made that one",
                );
                return None;
            }
        };
        if let Some(error) = &report.loader_error {
            findings.fail(
                "libssl",
                format!("{} does not load here: {error}", libssl.display()),
                "run a doctor of the program's own architecture and C library, in its own container or chroot",
            );
            return None;
        }
        if let Some(version) = &report.unsupported {
            findings.ok("libssl", libssl.display().to_string());
            findings.fail(
                "openssl-version",
                format!("{version} has no providers"),
                "use OpenSSL 3.0 or newer; Debian 12, Ubuntu 22.04 and RHEL 9 have one",
            );
            return None;
        }
        findings.ok("libssl", libssl.display().to_string());
        if let Some(how) = &report.bad_end {
            findings.warn(
                "libssl",
                format!("at the end of its process OpenSSL was {how}"),
                "a provider does not stand the clean-up at exit; a server may crash when it is stopped: report it to \
                 whoever made the provider",
            );
        }
        if libcrypto.parent() != libssl.parent() {
            findings.warn(
                "libssl",
                format!("libcrypto comes from another directory: {}", libcrypto.display()),
                "see that both are of one build; ldd shows why the loader chose them",
            );
        }
        Some(report)
    }

    pub(super) fn openssl_version(&self, report: &Report, findings: &mut Findings) {
        findings.ok("openssl-version", report.version.clone());
        if self.requires(Requirement::MlDsa) {
            if Version::parse(&report.version) < FIRST_WITH_PROVIDER_SIGNATURES {
                findings.fail(
                    "openssl-version",
                    "ML-DSA certificates in TLS need OpenSSL 3.2; before that libssl has no place for a provider's \
                     signature schemes",
                    "use OpenSSL 3.2 or newer (Debian 13 has 3.5), or keep classical certificates: the key exchange does \
                     not depend on them",
                );
            } else if report.ml_dsa.is_empty() {
                findings.fail(
                    "openssl-version",
                    "libssl knows none of the signature schemes mldsa44, mldsa65 and mldsa87: no active provider offers them",
                    "activate a provider with ML-DSA, without `signatures = none` (the check foreign-key-types tells when it \
                     withholds them), or use OpenSSL 3.5 or newer",
                );
            } else {
                findings.ok("openssl-version", "ML-DSA signatures are there");
            }
        }
    }
}
