//! Judging: from what was found to one finding for each check.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use qtls_cli::groups::{self, Kind};
use qtls_cli::probe::survey::{ShareAnswer, Survey, Tls12Answer};

use super::checks::{Findings, Status};
use super::configuration::{Configuration, ProviderEntry, is_yes};
use super::facts::{Facts, ProcessFound, find_library};
use super::inner::{Ending, GroupFacts, ListFacts, ProfileFacts, Report};
use super::permissions::{obstacles, user_name, weaknesses};
use super::process::Process;
use super::target::{Target, has_file_capabilities};
use super::version::Version;
use super::{Arguments, Requirement};

/// First OpenSSL with providers.
const FIRST_WITH_PROVIDERS: (u32, u32, u32) = (3, 0, 0);
/// First with signature schemes of providers in TLS, so with ML-DSA certificates.
const FIRST_WITH_PROVIDER_SIGNATURES: (u32, u32, u32) = (3, 2, 0);
/// First that has ML-KEM itself, offers it by default, and asks a client for a better share.
const FIRST_WITH_ML_KEM: (u32, u32, u32) = (3, 5, 0);

/// Settings the section of `qtls` may have: OpenSSL's own, then ours.
const KNOWN_SETTINGS: [&str; 8] =
    ["module", "activate", "identity", "soft_load", "native", "groups", "self-test", "log"];

/// A clock tick is a hundredth of a second; a file younger than the process by less is not taken for newer.
const CLOCK_TOLERANCE: Duration = Duration::from_millis(100);

/// Judges everything.
pub(super) fn judge(target: &Target, facts: &Facts, arguments: &Arguments) -> Findings {
    let mut findings = Findings::new();
    let judge = Judge { target, facts, arguments };
    judge.outside(&mut findings);
    if judge.program(&mut findings) {
        judge.environment_ignored(&mut findings);
        judge.running_process(&mut findings);
        if let Some(report) = judge.library(&mut findings) {
            judge.openssl_version(report, &mut findings);
            judge.configuration(report, &mut findings);
            judge.providers(report, &mut findings);
            judge.groups(report, &mut findings);
            judge.servers(report, &mut findings);
        }
    }
    judge.explain_skips(&mut findings);
    findings
}

struct Judge<'a> {
    target: &'a Target,
    facts: &'a Facts,
    arguments: &'a Arguments,
}

impl Judge<'_> {
    fn provider(&self) -> &str {
        &self.arguments.provider
    }

    fn application(&self) -> Option<String> {
        self.arguments.application.clone().or_else(|| self.target.application())
    }

    fn suggested_groups(&self, requirements: &[Requirement]) -> &'static str {
        let version = self.facts.report().map_or("", |report| report.version.as_str());
        suggested_groups(requirements, Version::parse(version))
    }

    fn requires(&self, requirement: Requirement) -> bool {
        self.arguments.require.contains(&requirement)
    }

    /// Whether a mode without classical groups is asked for.
    fn requires_no_classical(&self) -> bool {
        [Requirement::RequirePqc, Requirement::RequireBoth, Requirement::PurePqc]
            .iter()
            .any(|mode| self.requires(*mode))
    }

    fn explain_skips(&self, findings: &mut Findings) {
        findings.skip("outside", "no server was named: --connect HOST:PORT asks a running one");
        if self.arguments.require.iter().all(|requirement| *requirement == Requirement::MlDsa) {
            findings.skip("mode", "no mode was asked for: --require MODE");
            findings.skip("tls-1-2", "no mode was asked for: --require MODE");
        }
        findings.skip_rest("what it needs was not found, or it does not apply here");
    }

    /// Is it a program, and how does it come by OpenSSL? False when nothing more can be said.
    fn program(&self, findings: &mut Findings) -> bool {
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
        } else if findings.status("libssl") != Status::Fail {
            self.without_shared_libssl(program.embedded.as_deref(), findings);
        }
        true
    }

    fn without_shared_libssl(&self, embedded: Option<&str>, findings: &mut Findings) {
        let Some(embedded) = embedded else {
            findings.fail(
                "libssl",
                "the program uses no OpenSSL: no libssl among its libraries, none inside",
                "name the program that terminates TLS: qtls doctor --program PATH",
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

    fn static_version_required(&self, embedded: &str, findings: &mut Findings) {
        if self.requires(Requirement::MlDsa) && Version::parse(embedded) < FIRST_WITH_PROVIDER_SIGNATURES {
            findings.fail(
                "openssl-version",
                "ML-DSA certificates in TLS need OpenSSL 3.2",
                "use a build with OpenSSL 3.2 or newer",
            );
        }
    }

    fn library_path(&self, findings: &mut Findings) {
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

    fn environment_ignored(&self, findings: &mut Findings) {
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
    fn library(&self, findings: &mut Findings) -> Option<&Report> {
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

    fn openssl_version(&self, report: &Report, findings: &mut Findings) {
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
            } else if !report.ml_dsa {
                findings.fail(
                    "openssl-version",
                    "libssl does not know the signature scheme mldsa65: no active provider offers it",
                    "activate a provider with ML-DSA, or use OpenSSL 3.5 or newer",
                );
            } else {
                findings.ok("openssl-version", "ML-DSA signatures are there");
            }
        }
    }

    /// Everything between the environment and the list of providers.
    fn configuration(&self, report: &Report, findings: &mut Findings) {
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
    fn set_configuration(&self) -> Vec<String> {
        self.target.how_to_set(&self.example_assignment())
    }

    fn example_assignment(&self) -> String {
        match &self.target.wanted_configuration {
            Some(file) => format!(
                "OPENSSL_CONF={}",
                std::path::absolute(file).unwrap_or_else(|_| file.clone()).display()
            ),
            None => "OPENSSL_CONF=/etc/qtls/openssl.cnf".to_owned(),
        }
    }

    fn readable(&self, id: &str, file: &Path, findings: &mut Findings) {
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

    fn unchangeable(&self, id: &str, file: &Path, findings: &mut Findings) {
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
    fn visible(&self, file: &Path, findings: &mut Findings) {
        let Some(unit) = &self.target.unit else {
            self.process_confinement(findings);
            return;
        };
        match unit.hides(file) {
            Some(setting) => findings.fail(
                "confinement",
                format!("{} has {setting}, so it does not see {}", unit.name, file.display()),
                format!(
                    "move {} to a place like /etc/qtls or /usr/lib, which the service sees",
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

    fn process_confinement(&self, findings: &mut Findings) {
        let Some(process) = self.target.process.filter(|_| findings.status("confinement") == Status::Skipped)
        else {
            return;
        };
        if process.has_other_root() {
            findings.warn(
                "confinement",
                format!("process {} lives in another file system (a container or a chroot); files were looked up in this one", process.0),
                format!("copy qtls there and run it inside: chroot /proc/{}/root /qtls doctor --pid …", process.0),
            );
        }
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

    fn application_section(&self, configuration: &Configuration, findings: &mut Findings) {
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

    fn diagnostics(&self, report: &Report, configuration: &Configuration, findings: &mut Findings) {
        if configuration.diagnostics() {
            findings.ok("diagnostics", "config_diagnostics = 1");
            if Version::parse(&report.version) < FIRST_WITH_PROVIDER_SIGNATURES {
                findings.ok(
                    "diagnostics",
                    "but OpenSSL 3.0 starts all the same when a provider can't be loaded (it takes that for no error); a \
                     post-quantum name in nginx's ssl_ecdh_curve does stop the start then",
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

    fn provider_section(&self, report: &Report, configuration: &Configuration, findings: &mut Findings) {
        let id = "provider-section";
        let name = self.provider();
        let application = self.application();
        let application = application.as_deref();
        if let Some(section) = configuration.names_missing_provider_section(application) {
            findings.fail(
                id,
                format!("`providers = {section}` names a section that does not exist"),
                format!("add [{section}] with the line `{name} = {name}_sect`, or correct the name"),
            );
            return;
        }
        let providers = configuration.providers(application);
        let Some(entry) = providers.iter().find(|entry| entry.name == name) else {
            let listed: Vec<&str> = providers.iter().map(|entry| entry.name.as_str()).collect();
            let listed_text = if listed.is_empty() {
                "none is".to_owned()
            } else {
                format!("listed: {}", listed.join(", "))
            };
            let meant = nearest(name, listed.iter().copied());
            findings.fail(
                id,
                format!("no provider {name} is listed; {listed_text}"),
                match meant {
                    Some(meant) => {
                        format!("is {meant} a misspelling? The name before the equals sign has to be {name}")
                    }
                    None => {
                        format!("list it: `{name} = {name}_sect` in the section that `providers = …` names")
                    }
                },
            );
            return;
        };
        if entry.settings.is_none() {
            findings.fail(
                id,
                format!("`{name} = {}` names a section that does not exist", entry.section),
                format!("add [{}] with the module and activate = 1, or correct the name", entry.section),
            );
            return;
        }
        // Before 3.2 the mere presence of the word activates; since then its value is read.
        let any_value = Version::parse(&report.version) < FIRST_WITH_PROVIDER_SIGNATURES;
        match entry.setting("activate") {
            None => findings.fail(
                id,
                format!("[{}] has no `activate`, so {name} is known but not loaded", entry.section),
                format!("add `activate = 1` to [{}]", entry.section),
            ),
            Some(value) if is_yes(value) => {
                findings.ok(id, format!("[{}], activate = {value}", entry.section))
            }
            Some(value) if any_value => findings.warn(
                id,
                format!(
                    "`activate = {value}` in [{}] activates it all the same: before 3.2 any value does",
                    entry.section
                ),
                "write `activate = 1`, or take the line out",
            ),
            Some(value) => findings.fail(
                id,
                format!("`activate = {value}` in [{}] does not activate", entry.section),
                "write `activate = 1`",
            ),
        }
        self.provider_order(&providers, findings);
        self.module(entry, report, findings);
        self.provider_options(entry, report, findings);
    }

    fn provider_order(&self, providers: &[ProviderEntry], findings: &mut Findings) {
        let position = |name: &str| providers.iter().position(|entry| entry.name == name);
        let (Some(default), Some(ours)) = (position("default"), position(self.provider())) else { return };
        if default < ours {
            findings.ok("provider-order", "default is listed first");
        } else {
            findings.fail(
                "provider-order",
                format!("{} is listed before default, so it takes precedence for everything both have", self.provider()),
                "put the line of default first in the section of the providers; precedence for single algorithms is what \
                 default_properties is for",
            );
        }
    }

    fn module(&self, entry: &ProviderEntry, report: &Report, findings: &mut Findings) {
        let Some((module, ending)) = &self.facts.module else { return };
        let shown = module.display();
        if !module.exists() {
            let how = match entry.setting("module") {
                Some(named) if Path::new(named).is_absolute() => "named by `module`".to_owned(),
                Some(named) => format!("`module = {named}` is looked for in {}", report.modules_directory),
                None => format!("without `module` it is looked for in {}", report.modules_directory),
            };
            findings.fail(
                "module-file",
                format!("{shown} does not exist ({how})"),
                format!(
                    "put the module there, or write its absolute path: `module = /path/to/{}.so` in [{}]",
                    entry.name, entry.section
                ),
            );
            return;
        }
        self.readable("module-file", module, findings);
        self.unchangeable("module-permissions", module, findings);
        self.visible(module, findings);
        match ending {
            Ending::Reported(module_report) => match &module_report.loader_error {
                None => findings.ok("module-loads", format!("{shown} loads and has OSSL_provider_init")),
                Some(error) => findings.fail("module-loads", error.clone(), how_to_mend_loading(error)),
            },
            Ending::Died { step, how, .. } => findings.fail(
                "module-loads",
                format!("while {step}, the process was {how}"),
                "the module crashes when it is loaded: take it out of the configuration and report it to who made it",
            ),
        }
    }

    /// Why the configuration could not be loaded: from OpenSSL's queue, and from standard error, for OpenSSL 3.0 takes a
    /// provider's failure for success and drops its errors.
    fn start_errors(&self) -> Vec<String> {
        match &self.facts.strict {
            Some(Ending::Reported(strict)) => {
                let printed = strict.stderr.lines().filter(|line| line.contains("error:"));
                let printed =
                    printed.map(|line| line.split_once("error: ").map_or(line, |(_, text)| text).to_owned());
                let mut errors = strict.start_errors.clone();
                errors.extend(
                    printed.filter(|line| !strict.start_errors.iter().any(|error| error.contains(line))),
                );
                errors
            }
            Some(Ending::Died { how, .. }) => vec![format!("loading the configuration, OpenSSL was {how}")],
            None => Vec::new(),
        }
    }

    fn provider_options(&self, entry: &ProviderEntry, report: &Report, findings: &mut Findings) {
        // Other providers have other options.
        if entry.name != "qtls" {
            return;
        }
        let id = "provider-options";
        for (key, _) in entry.settings.iter().flatten() {
            let plain = key.rsplit('.').next().unwrap_or(key);
            if KNOWN_SETTINGS.contains(&plain) || plain.starts_with("pkcs11-") {
                continue;
            }
            let meant = nearest(plain, KNOWN_SETTINGS.into_iter());
            findings.fail(
                id,
                format!("[{}] has `{plain}`, which is no option and so is ignored", entry.section),
                match meant {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => format!("the options are {}", KNOWN_SETTINGS.join(", ")),
                },
            );
        }
        if !report.providers.iter().any(|provider| provider.name == entry.name) {
            for error in self.start_errors().into_iter().filter(|error| error.contains("option '")) {
                findings.fail(id, error, format!("correct it in [{}]", entry.section));
            }
        }
        if findings.status(id) == Status::Skipped {
            findings.ok(id, format!("every option of [{}] is known", entry.section));
        }
    }

    fn properties(&self, report: &Report, configuration: &Configuration, findings: &mut Findings) {
        let id = "properties";
        let application = self.application();
        let properties = configuration.default_properties(application.as_deref());
        let providers = configuration.providers(application.as_deref());
        let ours = providers.iter().find(|entry| entry.name == self.provider());
        let prefers = ours.and_then(|entry| entry.setting("native")) == Some("prefer");
        let wanted = format!("?provider={}", self.provider());
        let clauses: Vec<String> = properties
            .unwrap_or_default()
            .split(',')
            .map(|clause| clause.replace(' ', ""))
            .filter(|clause| !clause.is_empty())
            .collect();
        let asked = clauses.contains(&wanted);
        if let Some(mandatory) = clauses.iter().find(|clause| clause.starts_with("provider=")) {
            findings.fail(
                id,
                format!("default_properties has `{mandatory}`, which is mandatory: nothing of any other provider is found, random numbers included"),
                format!("put a question mark before it, which makes it a wish: default_properties = ?{mandatory}"),
            );
        } else if prefers && !asked && Version::parse(&report.version) >= FIRST_WITH_ML_KEM {
            findings.fail(
                id,
                format!(
                    "`native = prefer` has no effect: {} offers the groups, but OpenSSL's own are used",
                    self.provider()
                ),
                vec![
                    "add `alg_section = evp_properties` beside `providers = …`, and a section".to_owned(),
                    "  [evp_properties]".to_owned(),
                    format!("  default_properties = {wanted}"),
                ],
            );
        } else if let Some(other) =
            clauses.iter().find(|clause| clause.starts_with("?provider=") && **clause != wanted)
        {
            findings.warn(
                id,
                format!("default_properties prefers another provider: `{other}`"),
                format!("if {} is to serve the groups, write {wanted}", self.provider()),
            );
        } else {
            findings.ok(
                id,
                properties.map_or("no default properties".to_owned(), |text| {
                    format!("default_properties = {text}")
                }),
            );
        }
    }

    /// Who is active.
    fn providers(&self, report: &Report, findings: &mut Findings) {
        let id = "provider-active";
        let name = self.provider();
        match report.providers.iter().find(|provider| provider.name == name) {
            Some(provider) if !provider.running => findings.fail(
                id,
                format!("{name} is loaded, but its status is \"not running\": its self-test failed"),
                "start once with `log = debug` in its section and look at standard error; the file may be damaged, so install it again",
            ),
            Some(provider) if !provider.self_test => findings.fail(
                id,
                format!("the self-test of {name} fails"),
                "the module or this processor computes wrong values: install it again, then report it",
            ),
            Some(provider) => findings.ok(
                id,
                format!("{} {} {}", provider.title, provider.version, provider.build).trim().to_owned(),
            ),
            None => {
                let mut reasons = self.start_errors().join("; ");
                if !reasons.is_empty() {
                    reasons.insert_str(0, ": ");
                }
                let active: Vec<&str> = report.providers.iter().map(|provider| provider.name.as_str()).collect();
                findings.fail(
                    id,
                    format!("{name} is not active{reasons}; active: {}", if active.is_empty() { "none".to_owned() } else { active.join(", ") }),
                    "mend what is wrong above this line first, then run doctor again",
                );
            }
        }
        let has = |name: &str| report.providers.iter().any(|provider| provider.name == name);
        if has("default") {
            findings.ok("default-provider", "active");
        } else if has("fips") && has("base") {
            findings.ok("default-provider", "fips and base are active in its place");
        } else {
            findings.fail(
                "default-provider",
                "default is not active: activating any provider switches off its implicit activation",
                vec![
                    "add it as the first line of the section of the providers, and activate it:".to_owned(),
                    "  default = default_sect".to_owned(),
                    "  [default_sect]".to_owned(),
                    "  activate = 1".to_owned(),
                ],
            );
        }
    }

    /// Who serves which group, and which lists are accepted.
    fn groups(&self, report: &Report, findings: &mut Findings) {
        if findings.status("provider-active") == Status::Ok {
            self.shadowing(report, findings);
        } else {
            findings.skip("shadowing", format!("{} is not active", self.provider()));
        }
        for list in &report.lists {
            self.group_list(list, report, findings);
        }
        if report.lists.is_empty() {
            findings.ok("group-lists", "no list is configured, so OpenSSL's default list is in force");
        }
    }

    fn shadowing(&self, report: &Report, findings: &mut Findings) {
        let id = "shadowing";
        let name = self.provider();
        let application = self.application();
        let providers = report
            .configuration
            .as_ref()
            .map(|configuration| configuration.providers(application.as_deref()));
        let ours = providers.iter().flatten().find(|entry| entry.name == name);
        let prefers = ours.and_then(|entry| entry.setting("native")) == Some("prefer");
        let offered = ours.and_then(|entry| entry.setting("groups"));
        let is_meant = |group: &&GroupFacts| {
            group.post_quantum
                && offered.is_none_or(|list| {
                    let meant = |part: &str| {
                        qtls_crypto::kem_by_name(part.trim())
                            .is_some_and(|known| known.group_name == group.name)
                    };
                    list.split([':', ',']).any(meant)
                })
        };
        // With `native = yield`, OpenSSL's own implementation is meant to serve where it exists.
        let is_right = |winner: &str| winner == name || (winner == "default" && !prefers);
        let mut served: Vec<(String, bool, Vec<&str>)> = Vec::new();
        for group in report.groups.iter().filter(is_meant) {
            let winners = [&group.key_management, &group.encapsulation]
                .map(|winner| winner.clone().unwrap_or_default());
            let [winner, other] = winners;
            if winner.is_empty() && other.is_empty() {
                continue;
            }
            let right = winner == other && is_right(&winner);
            let winner = if winner == other || is_right(&other) { winner } else { other };
            match served.iter_mut().find(|(known, known_right, _)| *known == winner && *known_right == right)
            {
                Some((_, _, groups)) => groups.push(&group.name),
                None => served.push((winner, right, vec![&group.name])),
            }
        }
        if served.is_empty() && findings.status(id) == Status::Skipped {
            findings.warn(
                id,
                format!("no active provider has a post-quantum group, {name} neither"),
                format!("is {name} the right provider? --provider NAME names another"),
            );
        }
        let wish = format!("alg_section → default_properties = ?provider={name}");
        for (winner, right, groups) in served {
            let found = format!("{winner} serves {}", groups.join(", "));
            if right {
                findings.ok(id, found);
            } else if winner == "default" {
                findings.fail(
                    id,
                    format!("{found}, although {name} is to be preferred"),
                    format!("add {wish}"),
                );
            } else {
                findings.fail(
                    id,
                    format!("{found}, not {name}"),
                    format!("take {winner} out of the configuration, or put it after {name} and add {wish}"),
                );
            }
        }
    }

    fn group_list(&self, list: &ListFacts, report: &Report, findings: &mut Findings) {
        let id = "group-lists";
        let ListFacts { origin, value, accepted, too_long, unknown, repeated } = list;
        if *too_long {
            findings.fail(
                id,
                format!("{origin} has more than 40 names, with which this OpenSSL writes past a buffer (fixed in 3.0.14, 3.1.6 and 3.2.2)"),
                "shorten the list",
            );
            return;
        }
        if *accepted && unknown.is_empty() {
            findings.ok(id, format!("{origin}: {value}"));
            return;
        }
        for name in unknown {
            let known = report.groups.iter().filter(|group| group.accepted).map(|group| group.name.as_str());
            let standard = qtls_crypto::kem_by_name(name).map(|algorithm| algorithm.group_name);
            let meant = standard
                .or_else(|| nearest(name, groups::known_groups().into_iter().map(|group| group.name)));
            let usable = meant
                .filter(|meant| report.groups.iter().any(|group| group.accepted && group.name == *meant));
            let mend = match (usable, meant) {
                (Some(meant), _) if meant.eq_ignore_ascii_case(name) => {
                    format!("write {meant}: before 3.5 case counts")
                }
                (Some(meant), _) => format!("did you mean {meant}?"),
                (None, Some(meant)) if meant == name => {
                    format!(
                        "no active provider offers {name} to this libssl: mend the provider first, or take the name out"
                    )
                }
                (None, Some(meant)) => {
                    format!("did you mean {meant}? No active provider offers it yet, though")
                }
                (None, None) => {
                    format!("take it out; this libssl has {}", known.collect::<Vec<_>>().join(", "))
                }
            };
            findings.fail(
                id,
                format!("{origin}: {name} is unknown, and so the whole list {value} is rejected"),
                mend,
            );
        }
        for name in repeated.iter().filter(|_| !accepted) {
            findings.fail(
                id,
                format!("{origin}: {name} comes twice, and so the whole list is rejected"),
                "name it once",
            );
        }
        if unknown.is_empty() && repeated.is_empty() {
            findings.fail(
                id,
                format!("{origin}: this OpenSSL rejects {value}"),
                "write names separated by colons; the marks ?, *, - and / came with 3.3 and 3.5",
            );
        }
    }

    /// What a server does in the end.
    fn servers(&self, report: &Report, findings: &mut Findings) {
        match &self.target.settings {
            Some(Ok(settings)) => {
                for line in &settings.without_effect {
                    findings.warn(
                        "server-settings",
                        line.clone(),
                        "set ssl_ecdh_curve and ssl_protocols in http {} or in the default server",
                    );
                }
            }
            Some(Err(error)) => findings.warn(
                "server-settings",
                format!("nginx's configuration can't be read: {error:#}"),
                "name it by --nginx-conf FILE",
            ),
            None => {}
        }
        for profile in &report.profiles {
            self.server(profile, report, findings);
        }
    }

    fn server(&self, profile: &ProfileFacts, report: &Report, findings: &mut Findings) {
        let label = &profile.label;
        if !profile.errors.is_empty() {
            let error = profile.errors.join("; ");
            findings.fail(
                "server-settings",
                format!("{label} can't be set up: {error}"),
                "correct the names of groups and commands; this stops the server's start or reload",
            );
            findings.fail(
                "handshake",
                format!("{label}: no handshake could be tried"),
                "mend the settings first",
            );
            return;
        }
        let post_quantum: Vec<u16> =
            profile.accepted.iter().copied().filter(|group| is_post_quantum(*group)).collect();
        self.server_settings(profile, !post_quantum.is_empty(), report, findings);
        if !profile.tls_1_3 {
            findings.fail(
                "tls-1-3",
                format!("{label} does not accept TLS 1.3"),
                match self.target.nginx() {
                    Some(_) => "ssl_protocols TLSv1.2 TLSv1.3;   in http {} or in the default server",
                    None => "set MaxProtocol = TLSv1.3 in the section that `system_default = …` names",
                },
            );
            return;
        }
        findings.ok("tls-1-3", format!("{label} accepts it"));
        self.groups_configured(label, &post_quantum, report, findings);
        self.handshake(profile, findings);
        self.key_share(profile, &post_quantum, report, findings);
        self.mode(label, &profile.accepted, profile.tls_1_2, findings);
    }

    fn server_settings(
        &self,
        profile: &ProfileFacts,
        any_post_quantum: bool,
        report: &Report,
        findings: &mut Findings,
    ) {
        let id = "server-settings";
        let own: Vec<&ListFacts> = report
            .lists
            .iter()
            .filter(|list| list.origin.ends_with(&format!(", {}", profile.label)))
            .collect();
        let Some(last) = own.last() else {
            if self.target.nginx().is_some() {
                findings.ok(
                    id,
                    format!(
                        "{} sets no groups, so those of openssl.cnf or OpenSSL's default count",
                        profile.label
                    ),
                );
            }
            return;
        };
        if any_post_quantum {
            findings.ok(id, format!("{} ({}) includes post-quantum groups", last.origin, last.value));
        } else {
            findings.fail(
                id,
                format!(
                    "{} ({}) replaces the groups of openssl.cnf, and has no post-quantum one",
                    last.origin, last.value
                ),
                format!(
                    "take the directive out, or write ssl_ecdh_curve {};",
                    self.suggested_groups(&self.arguments.require)
                ),
            );
        }
    }

    fn groups_configured(&self, label: &str, post_quantum: &[u16], report: &Report, findings: &mut Findings) {
        let id = "groups-configured";
        if !post_quantum.is_empty() {
            findings.ok(id, format!("{label}: {}", names(post_quantum)));
            return;
        }
        let list = self.suggested_groups(&self.arguments.require);
        let snippet = vec![
            "name them beside `providers = …`, in the section that openssl_conf names:".to_owned(),
            "  ssl_conf = ssl_sect".to_owned(),
            "  [ssl_sect]".to_owned(),
            "  system_default = tls_defaults".to_owned(),
            "  [tls_defaults]".to_owned(),
            format!("  Groups = {list}"),
            format!("or, in nginx: ssl_ecdh_curve {list};"),
        ];
        let configured = report.lists.iter().any(|list| list.accepted);
        if findings.status("provider-active") == Status::Fail
            && Version::parse(&report.version) < FIRST_WITH_ML_KEM
        {
            findings.fail(
                id,
                format!("{label}: none, for the provider is not active"),
                "mend the provider first",
            );
        } else if configured {
            findings.fail(
                id,
                format!("{label}: none; the lists in force name classical groups only"),
                snippet,
            );
        } else if Version::parse(&report.version) < FIRST_WITH_ML_KEM {
            findings.fail(
                id,
                format!("{label}: none; up to OpenSSL 3.4 a provider's groups are offered only when they are named"),
                snippet,
            );
        } else {
            findings.fail(id, format!("{label}: none"), snippet);
        }
    }

    fn handshake(&self, profile: &ProfileFacts, findings: &mut Findings) {
        let id = "handshake";
        let label = &profile.label;
        match profile.capable.group {
            Some(group) if profile.capable.completed && is_post_quantum(group) => {
                findings.ok(id, format!("{label}: {}", groups::name_of(group)));
            }
            Some(group) if profile.capable.completed => findings.fail(
                id,
                format!("{label}: {} was negotiated although the client offered everything it could", groups::name_of(group)),
                "mend what is wrong above this line: the groups are not offered, or the provider is not active",
            ),
            _ => findings.fail(
                id,
                format!("{label}: the handshake fails: {}", if profile.capable.errors.is_empty() { "no reason given".to_owned() } else { profile.capable.errors.join("; ") }),
                "mend what is wrong above this line; without default no handshake can succeed",
            ),
        }
    }

    fn key_share(
        &self,
        profile: &ProfileFacts,
        post_quantum: &[u16],
        report: &Report,
        findings: &mut Findings,
    ) {
        let id = "key-share";
        let label = &profile.label;
        match profile.classical_share {
            Some(group) if is_post_quantum(group) => {
                findings.ok(id, format!("{label} asks such a client for {}", groups::name_of(group)));
            }
            Some(group) if !post_quantum.is_empty() => {
                let old = Version::parse(&report.version) < FIRST_WITH_ML_KEM;
                findings.warn(
                    id,
                    format!("{label} takes the classical share: {} for a client that offers post-quantum groups as well", groups::name_of(group)),
                    if old {
                        "OpenSSL before 3.5 never asks for a better share. Browsers send a post-quantum share, so they are not \
                         concerned; for others take the classical groups out of the list (--require require_pqc), or use 3.5"
                    } else {
                        "put a slash instead of the colon between the post-quantum and the classical groups of the list: from 3.5 \
                         on a server asks for a better share when the better group stands before a slash, as in \
                         X25519MLKEM768:SecP256r1MLKEM768/X25519:P-256"
                    },
                );
            }
            _ => findings.skip(id, format!("{label} takes no classical share, or has no post-quantum group")),
        }
    }

    /// Does what is accepted fit the modes asked for?
    fn mode(&self, label: &str, accepted: &[u16], tls_1_2: bool, findings: &mut Findings) {
        let of_kind = |wanted: &[Kind]| -> Vec<u16> {
            let fits =
                |group: &u16| groups::by_code_point(*group).is_some_and(|group| wanted.contains(&group.kind));
            accepted.iter().copied().filter(fits).collect()
        };
        let (hybrid, pure) = (of_kind(&[Kind::Hybrid, Kind::OtherHybrid]), of_kind(&[Kind::PureMlKem]));
        let classical = of_kind(&[Kind::Classical, Kind::Obsolete]);
        for requirement in &self.arguments.require {
            let (mode, needed, excess) = match requirement {
                Requirement::RequireAny => {
                    let needed =
                        if classical.is_empty() { Vec::new() } else { [&hybrid[..], &pure].concat() };
                    ("require_any", needed, Vec::new())
                }
                Requirement::RequirePqc => ("require_pqc", [&hybrid[..], &pure].concat(), classical.clone()),
                Requirement::RequireBoth => {
                    ("require_both", hybrid.clone(), [&classical[..], &pure].concat())
                }
                Requirement::PurePqc => ("pure_pqc", pure.clone(), [&classical[..], &hybrid].concat()),
                Requirement::MlDsa => continue,
            };
            let mend = format!(
                "Groups = {list}   in openssl.cnf, or ssl_ecdh_curve {list};   in nginx",
                list = self.suggested_groups(&[*requirement])
            );
            if !excess.is_empty() {
                findings.fail("mode", format!("{label}: {mode} must not accept {}", names(&excess)), mend);
            } else if needed.is_empty() {
                findings.fail(
                    "mode",
                    format!("{label}: {mode} needs more than what is accepted: {}", names(accepted)),
                    mend,
                );
            } else {
                findings.ok("mode", format!("{label}: {mode} holds; accepted: {}", names(accepted)));
            }
        }
        if self.requires_no_classical() && tls_1_2 {
            findings.fail(
                "tls-1-2",
                format!("{label} accepts TLS 1.2, whose key exchange is classical whatever the groups are"),
                match self.target.nginx() {
                    Some(_) => "ssl_protocols TLSv1.3;   in http {} or in the default server (nginx overrides openssl.cnf here)",
                    None => "MinProtocol = TLSv1.3   in the section that `system_default = …` names",
                },
            );
        } else if self.requires_no_classical() {
            findings.ok("tls-1-2", format!("{label} refuses TLS 1.2"));
        }
    }

    /// Does what runs have what is configured?
    fn running_process(&self, findings: &mut Findings) {
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
                let identity = |file: &Path| file.canonicalize().ok();
                if let Some(module) = &module
                    && module.exists()
                    && !mappings.iter().any(|mapping| {
                        mapping.path == *module || Some(&mapping.path) == identity(module).as_ref()
                    })
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
    fn process_environment(&self, process: Process, findings: &mut Findings) {
        if self.target.process.is_some() {
            return;
        }
        let Ok(environment) = process.environment() else { return };
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
    fn outside(&self, findings: &mut Findings) {
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

fn is_post_quantum(code_point: u16) -> bool {
    groups::by_code_point(code_point).is_some_and(|group| group.kind.is_post_quantum())
}

fn names(groups: &[u16]) -> String {
    if groups.is_empty() {
        return "nothing".to_owned();
    }
    groups.iter().map(|group| groups::name_of(*group)).collect::<Vec<_>>().join(", ")
}

fn is_later(changed: SystemTime, started: SystemTime) -> bool {
    changed.duration_since(started).is_ok_and(|age| age > CLOCK_TOLERANCE)
}

/// The list to configure for a mode. From 3.5 on a slash makes the server ask for a share of what stands before it.
fn suggested_groups(requirements: &[Requirement], openssl: Version) -> &'static str {
    let mode = requirements.iter().find(|requirement| **requirement != Requirement::MlDsa);
    match mode {
        None | Some(Requirement::RequireAny | Requirement::MlDsa) if openssl < FIRST_WITH_ML_KEM => {
            "X25519MLKEM768:SecP256r1MLKEM768:X25519:P-256"
        }
        None | Some(Requirement::RequireAny | Requirement::MlDsa) => {
            "X25519MLKEM768:SecP256r1MLKEM768/X25519:P-256"
        }
        Some(Requirement::RequirePqc) => {
            "X25519MLKEM768:SecP256r1MLKEM768:SecP384r1MLKEM1024:MLKEM768:MLKEM1024"
        }
        Some(Requirement::RequireBoth) => "X25519MLKEM768:SecP256r1MLKEM768:SecP384r1MLKEM1024",
        Some(Requirement::PurePqc) => "MLKEM768:MLKEM1024",
    }
}

/// The name most like a misspelt one, if any is like it: equal but for case and punctuation, or a few letters off.
fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| {
        text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase()
    };
    let wanted = plain(name);
    let distance = |candidate: &&str| strsim::damerau_levenshtein(&wanted, &plain(candidate));
    let best = candidates.min_by_key(distance)?;
    (distance(&best) <= wanted.len().div_ceil(4)).then_some(best)
}

/// What to do about the words of the dynamic loader.
fn how_to_mend_loading(error: &str) -> String {
    if error.contains("GLIBC_") {
        "the module needs a newer C library than this machine has: install the build for this distribution"
            .to_owned()
    } else if error.contains("wrong ELF class")
        || error.contains("invalid ELF header")
        || error.contains("file too short")
    {
        "the file is no module for this machine: install the build for this architecture, and see that the file is whole".to_owned()
    } else if error.contains("no symbol OSSL_provider_init") {
        "the file is a library, but no provider: correct `module`".to_owned()
    } else if error.contains("failed to map") || error.contains("Operation not permitted") {
        "the file system is mounted noexec, or a security module forbids it: move the module to /usr/lib"
            .to_owned()
    } else {
        "mend what the loader names; ldd MODULE shows what is missing".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_finds_its_neighbour_and_a_strange_one_none() {
        let known = || groups::known_groups().into_iter().map(|group| group.name);
        assert_eq!(nearest("x25519_mlkem768", known()), Some("X25519MLKEM768"));
        assert_eq!(nearest("X25519MLKEM786", known()), Some("X25519MLKEM768"));
        assert_eq!(nearest("brainpoolP256r1", known()), None);
        assert_eq!(nearest("selftest", KNOWN_SETTINGS.into_iter()), Some("self-test"));
    }

    #[test]
    fn the_loaders_words_lead_to_the_right_advice() {
        for (error, advice) in [
            ("/x.so: version `GLIBC_2.38' not found (required by /x.so)", "newer C library"),
            ("/x.so: wrong ELF class: ELFCLASS32", "this architecture"),
            ("it has no symbol OSSL_provider_init", "no provider"),
        ] {
            assert!(how_to_mend_loading(error).contains(advice), "{error}");
        }
    }

    #[test]
    fn suggested_lists_fit_their_modes() {
        for (mode, kinds) in [
            (Requirement::RequirePqc, &[Kind::Hybrid, Kind::PureMlKem][..]),
            (Requirement::RequireBoth, &[Kind::Hybrid]),
            (Requirement::PurePqc, &[Kind::PureMlKem]),
        ] {
            for name in suggested_groups(&[mode], Version::parse("3.0.0")).split(':') {
                let group = groups::known_groups().into_iter().find(|group| group.name == name).expect(name);
                assert!(kinds.contains(&group.kind), "{name}");
            }
        }
    }
}
