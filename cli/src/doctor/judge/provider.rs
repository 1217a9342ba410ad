//! The provider: its section, module and options, and whether it serves what it should.

use std::path::Path;

use qtls_pkcs11::Config;

use super::super::checks::{Findings, Status};
use super::super::configuration::{Configuration, ProviderEntry, is_yes};
use super::super::inner::{Ending, GroupFacts, Report};
use super::super::version::Version;
use super::{FIRST_WITH_ML_KEM, FIRST_WITH_PROVIDER_SIGNATURES, Judge, nearest};

/// Settings the section of `qtls` may have: OpenSSL's own, then ours.
const KNOWN_SETTINGS: [&str; 10] = [
    "module",
    "activate",
    "identity",
    "soft_load",
    "native",
    "groups",
    "signatures",
    "unguarded-signatures",
    "self-test",
    "log",
];

impl Judge<'_> {
    pub(super) fn provider_section(
        &self,
        report: &Report,
        configuration: &Configuration,
        findings: &mut Findings,
    ) {
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

    pub(super) fn provider_order(&self, providers: &[ProviderEntry], findings: &mut Findings) {
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

    pub(super) fn module(&self, entry: &ProviderEntry, report: &Report, findings: &mut Findings) {
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
    pub(super) fn start_errors(&self) -> Vec<String> {
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

    pub(super) fn provider_options(&self, entry: &ProviderEntry, report: &Report, findings: &mut Findings) {
        // Other providers have other options.
        if entry.name != "qtls" {
            return;
        }
        let id = "provider-options";
        for (key, _) in entry.settings.iter().flatten() {
            let plain = key.rsplit('.').next().unwrap_or(key);
            // Those of tokens have a check of their own.
            if KNOWN_SETTINGS.contains(&plain) || Config::claims(plain) {
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
        // One with a wrong option is loaded and does not run, so that TLS stops.
        if !report.providers.iter().any(|provider| provider.name == entry.name && provider.running) {
            for error in self.start_errors().into_iter().filter(|error| error.contains("option '")) {
                findings.fail(id, error, format!("correct it in [{}]", entry.section));
            }
        }
        if findings.status(id) == Status::Skipped {
            findings.ok(id, format!("every option of [{}] is known", entry.section));
        }
    }

    pub(super) fn properties(&self, report: &Report, configuration: &Configuration, findings: &mut Findings) {
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
    pub(super) fn providers(&self, report: &Report, findings: &mut Findings) {
        let id = "provider-active";
        let name = self.provider();
        match report.providers.iter().find(|provider| provider.name == name) {
            Some(provider) if !provider.running => {
                let reasons = self.start_errors();
                if reasons.is_empty() {
                    findings.fail(
                        id,
                        format!("{name} is loaded, but its status is \"not running\": its self-test failed"),
                        "start once with `log = debug` in its section and look at standard error; the file may be damaged, so install it again",
                    );
                } else {
                    findings.fail(
                        id,
                        format!("{name} is loaded and refuses to run: {}", reasons.join("; ")),
                        "mend that; until then no TLS server or client starts with this configuration",
                    );
                }
            }
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
                let active: Vec<&str> =
                    report.providers.iter().map(|provider| provider.name.as_str()).collect();
                findings.fail(
                    id,
                    format!(
                        "{name} is not active{reasons}; active: {}",
                        if active.is_empty() { "none".to_owned() } else { active.join(", ") }
                    ),
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
    pub(super) fn groups(&self, report: &Report, findings: &mut Findings) {
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

    pub(super) fn shadowing(&self, report: &Report, findings: &mut Findings) {
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
    fn the_loaders_words_lead_to_the_right_advice() {
        for (error, advice) in [
            ("/x.so: version `GLIBC_2.38' not found (required by /x.so)", "newer C library"),
            ("/x.so: wrong ELF class: ELFCLASS32", "this architecture"),
            ("it has no symbol OSSL_provider_init", "no provider"),
        ] {
            assert!(how_to_mend_loading(error).contains(advice), "{error}");
        }
    }
}
