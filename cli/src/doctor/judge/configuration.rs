//! The configuration file: which one, whether it can be read, what it starts with.

use std::path::Path;

use super::super::checks::{Findings, Status};
use super::super::configuration::Configuration;
use super::super::inner::Report;
use super::super::permissions::{obstacles, user_name, weaknesses};
use super::super::version::Version;
use super::{FIRST_WITH_ML_KEM, Judge};

impl Judge<'_> {
    /// Everything between the environment and the list of providers.
    pub(super) fn configuration(&self, report: &Report, findings: &mut Findings) {
        let file = Path::new(&report.configuration_file);
        let shown = file.display();
        let variable = self.target.variable("OPENSSL_CONF");
        let origin = match &variable {
            Some(_) => format!("named by OPENSSL_CONF of {}", self.target.environment_of),
            None => format!("OpenSSL's default; OPENSSL_CONF of {} is not set", self.target.environment_of),
        };
        let wanted = self.target.wanted_configuration.as_deref();
        let is_wanted = |wanted: &Path| wanted.canonicalize().ok() == file.canonicalize().ok();
        let configured = report.configuration.as_ref().is_some_and(|configuration| {
            configuration
                .providers(self.application().as_deref())
                .iter()
                .any(|entry| entry.name == self.provider())
        });
        if !self.target.reads_configuration() {
            findings.fail(
                "configuration-read",
                "this nginx was built with an OpenSSL of its own and reads no configuration",
                "set OPENSSL_CONF (from nginx 1.25.2 on), or use an nginx linked to the system's libssl",
            );
        } else if report.configuration_file.is_empty() {
            findings.fail(
                "configuration-read",
                "OPENSSL_CONF is empty, so no file is read",
                self.set_configuration(),
            );
        } else if let Some(wanted) = wanted.filter(|wanted| !is_wanted(wanted)) {
            findings.fail(
                "configuration-read",
                format!("{shown} is read ({origin}), not {}", wanted.display()),
                self.set_configuration(),
            );
        } else if file.is_relative() {
            findings.fail(
                "configuration-read",
                format!("{shown} is relative: which file it is depends on where the service is started"),
                self.target.how_to_set("OPENSSL_CONF=/the/absolute/path.cnf"),
            );
        } else if variable.is_none() && !configured && report.syntax_error.is_none() {
            findings.fail(
                "configuration-read",
                format!("{shown} is read ({origin}), and it does not list {}", self.provider()),
                self.set_configuration(),
            );
        } else {
            findings.ok("configuration-read", format!("{shown}, {origin}"));
        }
        if report.configuration_file.is_empty() {
            return;
        }

        if let Some(error) = &report.open_error {
            let mut mend = obstacles(file, self.target.user.0, self.target.user.1);
            if mend.is_empty() {
                mend.push(format!(
                    "see that {shown} exists and that the user {} can read it",
                    user_name(self.target.user.0)
                ));
            }
            findings.fail("configuration-file", format!("{shown}: {error}"), mend);
            return;
        }
        self.readable("configuration-file", file, findings);
        self.unchangeable("configuration-permissions", file, findings);
        self.visible(file, findings);

        if let Some((line, errors)) = &report.syntax_error {
            findings.fail(
                "configuration-syntax",
                format!("{shown} line {line}: {}", errors.join("; ")),
                format!("correct line {line} (and what .include brings in there), then run doctor again"),
            );
            return;
        }
        findings.ok("configuration-syntax", format!("{shown} parses"));
        if let Some(configuration) = &report.configuration {
            self.application_section(configuration, findings);
            self.diagnostics(report, configuration, findings);
            self.provider_section(report, configuration, findings);
            self.properties(report, configuration, findings);
        }
    }

    /// How to get the wanted file read.
    pub(super) fn set_configuration(&self) -> Vec<String> {
        self.target.how_to_set(&self.example_assignment())
    }

    pub(super) fn example_assignment(&self) -> String {
        match &self.target.wanted_configuration {
            Some(file) => format!(
                "OPENSSL_CONF={}",
                std::path::absolute(file).unwrap_or_else(|_| file.clone()).display()
            ),
            None => "OPENSSL_CONF=/usr/local/lib/qtls/with-system.cnf".to_owned(),
        }
    }

    pub(super) fn readable(&self, id: &str, file: &Path, findings: &mut Findings) {
        let obstacles = obstacles(file, self.target.user.0, self.target.user.1);
        match std::fs::metadata(file) {
            Err(error) => findings.fail(
                id,
                format!("{}: {error}", file.display()),
                format!("put the file at {}, or correct the path", file.display()),
            ),
            Ok(data) if !data.is_file() => {
                findings.fail(id, format!("{} is no file", file.display()), "name the file itself");
            }
            // The inner process has opened what it was asked to as that user; mode bits only explain.
            Ok(_)
                if obstacles.is_empty()
                    || self.target.user_to_become().is_some()
                        && self.facts.report().is_some()
                        && id == "configuration-file" =>
            {
                findings
                    .ok(id, format!("{} can be read by {}", file.display(), user_name(self.target.user.0)));
            }
            Ok(_) => {
                let found = obstacles.join("; ");
                let mend: Vec<String> = obstacles
                    .iter()
                    .filter_map(|line| line.split_once(": "))
                    .map(|(_, mend)| mend.to_owned())
                    .collect();
                findings.fail(id, found, mend);
            }
        }
    }

    pub(super) fn unchangeable(&self, id: &str, file: &Path, findings: &mut Findings) {
        let weaknesses = weaknesses(file, self.target.user.0);
        if weaknesses.is_empty() && file.exists() {
            findings.ok(
                id,
                format!(
                    "only root and the service's own user can change {} and its directories",
                    file.display()
                ),
            );
        }
        for weakness in weaknesses {
            if weakness.grave {
                findings.fail(id, weakness.found, weakness.mend);
            } else {
                findings.warn(id, weakness.found, weakness.mend);
            }
        }
    }

    /// Does a sandbox hide a file?
    pub(super) fn visible(&self, file: &Path, findings: &mut Findings) {
        let Some(unit) = &self.target.unit else {
            self.process_confinement(findings);
            return;
        };
        match unit.hides(file) {
            Some(setting) => findings.fail(
                "confinement",
                format!("{} has {setting}, so it does not see {}", unit.name, file.display()),
                format!(
                    "move {} to a place like /usr/local/lib/qtls, which the service sees",
                    file.display()
                ),
            ),
            None => findings.ok("confinement", format!("nothing in {} hides {}", unit.name, file.display())),
        }
        if let Some(profile) = unit.value("AppArmorProfile") {
            findings.warn(
                "confinement",
                format!("{} runs under the AppArmor profile {profile}", unit.name),
                format!("see that the profile lets it read {}", file.display()),
            );
        }
    }

    pub(super) fn process_confinement(&self, findings: &mut Findings) {
        let Some(process) = self.target.process.filter(|_| findings.status("confinement") == Status::Skipped)
        else {
            return;
        };
        if let Some(profile) = process.apparmor_profile() {
            findings.warn(
                "confinement",
                format!("process {} runs under the AppArmor profile {profile}", process.0),
                "see that the profile lets it read the configuration and map the module (rm)",
            );
        }
        if findings.status("confinement") == Status::Skipped {
            findings.ok("confinement", format!("process {} sees the files we see", process.0));
        }
    }

    pub(super) fn application_section(&self, configuration: &Configuration, findings: &mut Findings) {
        let id = "application-section";
        let application = self.application();
        let lists = |application: Option<&str>| {
            configuration.providers(application).iter().any(|entry| entry.name == self.provider())
        };
        let Some((key, section)) = configuration.start(application.as_deref()) else {
            let ignored = configuration.get("default", "nginx").is_some() && application.is_none();
            if ignored {
                findings.fail(
                    id,
                    "there is a line `nginx = …`, but this program looks for `openssl_conf = …` only (nginx looks for its \
                     own from 1.25.2 on)",
                    "name the same section by openssl_conf: openssl_conf = THE_SECTION",
                );
            } else {
                findings.fail(
                    id,
                    "there is no line `openssl_conf = …` at the top, so nothing of the file takes effect",
                    "put `openssl_conf = openssl_init` before the first [section]; after one it belongs to that section",
                );
            }
            return;
        };
        let exists = configuration.sections.contains_key(&section);
        if !exists {
            findings.fail(
                id,
                format!("`{key} = {section}` names a section that does not exist"),
                format!("add [{section}], or correct the name; blanks and case count"),
            );
        } else if Some(&key) == application.as_ref() && !lists(Some(&key)) && lists(None) {
            findings.fail(
                id,
                format!("`{key} = {section}` wins over openssl_conf for this program, and [{section}] does not list {}", self.provider()),
                format!("list {} in the providers of [{section}], or delete the line `{key} = {section}`", self.provider()),
            );
        } else if application.is_none() && !lists(None) && lists(Some("nginx")) {
            findings.fail(
                id,
                format!("{} is listed under `nginx = …` only, which this program does not look for (nginx does from 1.25.2 on)", self.provider()),
                "name the same section by openssl_conf",
            );
        } else {
            findings.ok(id, format!("`{key} = {section}`"));
        }
    }

    pub(super) fn diagnostics(
        &self,
        report: &Report,
        configuration: &Configuration,
        findings: &mut Findings,
    ) {
        if configuration.diagnostics() {
            findings.ok("diagnostics", "config_diagnostics = 1");
            // provider_conf.c, `provider_conf_load`: "non-fatal activation failure", 3.0 to 4.0.
            if Version::parse(&report.version) < FIRST_WITH_ML_KEM {
                findings.ok(
                    "diagnostics",
                    "but OpenSSL starts all the same when a module can't be loaded; a post-quantum name in nginx's \
                     ssl_ecdh_curve does stop the start then",
                );
            }
        } else {
            findings.warn(
                "diagnostics",
                "config_diagnostics is not set: when anything of this file fails, the server starts all the same, without it",
                "put `config_diagnostics = 1` at the top, before the first [section]",
            );
        }
    }
}
