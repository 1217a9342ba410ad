//! What runs now: the process, and the server as strangers see it.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use qtls_cli::probe::survey::{ShareAnswer, Survey, Tls12Answer};

use super::super::checks::{Findings, Status};
use super::super::facts::ProcessFound;
use super::super::process::Process;
use super::{Judge, is_post_quantum, names};

/// A clock tick is a hundredth of a second; a file younger than the process by less is not taken for newer.
const CLOCK_TOLERANCE: Duration = Duration::from_millis(100);

impl Judge<'_> {
    /// Does what runs have what is configured?
    pub(super) fn running_process(&self, findings: &mut Findings) {
        let id = "running-process";
        let process = match &self.facts.process {
            ProcessFound::One(process) => *process,
            ProcessFound::None => {
                findings.skip(id, "the program does not run");
                return;
            }
            ProcessFound::Several(found) => {
                let numbers: Vec<String> = found.iter().map(|process| process.0.to_string()).collect();
                findings.skip(
                    id,
                    format!("several processes run it ({}); name one by --pid", numbers.join(", ")),
                );
                return;
            }
        };
        self.process_environment(process, findings);
        let restart = format!(
            "restart it; a reload is not enough: nginx reads openssl.cnf when it starts (process {})",
            process.0
        );
        let file = self.facts.report().map(|report| PathBuf::from(&report.configuration_file));
        let module = self.facts.module.as_ref().map(|(module, _)| module.clone());
        match process.start_time() {
            Ok(started) => {
                let newer = |file: &PathBuf| {
                    file.metadata()
                        .and_then(|data| data.modified())
                        .is_ok_and(|changed| is_later(changed, started))
                };
                for file in file.iter().chain(&module).filter(|file| newer(file)) {
                    findings.fail(
                        id,
                        format!("{} was changed after process {} had started", file.display(), process.0),
                        restart.as_str(),
                    );
                }
            }
            Err(error) => findings.skip(id, format!("process {}: {error:#}", process.0)),
        }
        match process.mappings() {
            Ok(mappings) => {
                for mapping in mappings.iter().filter(|mapping| mapping.deleted) {
                    let name = mapping.path.file_name().unwrap_or_default().to_string_lossy();
                    if module.as_deref() == Some(&mapping.path)
                        || name.starts_with("libssl.so")
                        || name.starts_with("libcrypto.so")
                    {
                        findings.fail(
                            id,
                            format!(
                                "process {} still uses {} as it was before it was replaced",
                                process.0,
                                mapping.path.display()
                            ),
                            restart.as_str(),
                        );
                    }
                }
                // By inode, for the process may know the file by another path.
                let is_mapped = |module: &Path, data: &Metadata| {
                    mappings.iter().any(|mapping| mapping.path == module || mapping.inode == data.ino())
                };
                if let Some(module) = &module
                    && let Ok(data) = module.metadata()
                    && !is_mapped(module, &data)
                {
                    findings.fail(
                        id,
                        format!("{} is not loaded in process {}", module.display(), process.0),
                        restart.as_str(),
                    );
                }
            }
            Err(error) => findings.skip(id, format!("process {}: {error:#}; run doctor as root", process.0)),
        }
        if findings.status(id) == Status::Skipped {
            findings.ok(id, format!("process {} started after the last change", process.0));
        }
    }

    /// A process that was not named may have been started with another configuration.
    pub(super) fn process_environment(&self, process: Process, findings: &mut Findings) {
        if self.target.process.is_some() {
            return;
        }
        let Ok((environment, _)) = process.environment() else { return };
        let theirs = environment
            .get(std::ffi::OsStr::new("OPENSSL_CONF"))
            .map(|value| value.to_string_lossy().into_owned());
        let ours = self.target.variable("OPENSSL_CONF");
        if theirs != ours {
            let shown = |value: Option<String>| {
                value.map_or("no OPENSSL_CONF".to_owned(), |value| format!("OPENSSL_CONF={value}"))
            };
            findings.fail(
                "running-process",
                format!("process {} was started with {}, and here {} is looked at", process.0, shown(theirs), shown(ours)),
                format!("look at the process itself, by qtls doctor --pid {}, or restart it with the right environment", process.0),
            );
        }
    }

    /// What a running server says to strangers.
    pub(super) fn outside(&self, findings: &mut Findings) {
        let survey = match &self.facts.outside {
            None => return,
            Some(Ok(survey)) => survey,
            Some(Err(error)) => {
                findings.fail("outside", format!("{error:#}"), "start the server, or correct HOST:PORT");
                return;
            }
        };
        let server = self.arguments.connect.as_ref().map(ToString::to_string).unwrap_or_default();
        let accepted: Vec<u16> = survey.accepted().map(|group| group.code_point).collect();
        let post_quantum: Vec<u16> =
            accepted.iter().copied().filter(|group| is_post_quantum(*group)).collect();
        if accepted.is_empty() {
            findings.fail(
                "outside",
                format!("{server} accepts no group of TLS 1.3"),
                "is it a TLS server, and is TLS 1.3 on?",
            );
            return;
        }
        if post_quantum.is_empty() {
            findings.fail(
                "outside",
                format!("{server} accepts classical groups only: {}", names(&accepted)),
                "the configuration is not in force there: see the other checks, then restart the server",
            );
        } else {
            findings.ok("outside", format!("{server} accepts {}", names(&accepted)));
        }
        if survey.x25519_share_only == ShareAnswer::StaysClassical {
            findings.warn(
                "outside",
                format!(
                    "{server} takes an X25519 share from a client that offers post-quantum groups as well"
                ),
                "see the check \"key-share\"",
            );
        }
        self.mode(&server, &accepted, accepts_tls_1_2(survey), findings);
    }
}

fn accepts_tls_1_2(survey: &Survey) -> bool {
    matches!(survey.tls_1_2, Tls12Answer::Accepted(_))
}

fn is_later(changed: SystemTime, started: SystemTime) -> bool {
    changed.duration_since(started).is_ok_and(|age| age > CLOCK_TOLERANCE)
}
