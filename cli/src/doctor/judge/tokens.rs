//! Keys in tokens: the options, the way from the module to a signature, and what running servers count.

use std::path::Path;

use qtls_pkcs11::{Config, read_status};

use super::super::checks::{Findings, Status};
use super::super::configuration::ProviderEntry;
use super::super::facts::names_token_key;
use super::super::inner::{Ending, Report};
use super::super::permissions::{obstacles, weaknesses};
use super::super::report::count;
use super::super::tokens::{Check, TokenFacts, TokenReport, Verdict};
use super::{Judge, nearest};
use crate::hsm::parse_options;

const OPTIONS: &str = "hsm-options";
const FAILOVER: &str = "hsm-failover";
const RUNNING: &str = "hsm-running";

const NOT_ASKED: &str = "tokens were not looked at: --hsm does, and logs in";
const NO_TOKEN: &str = "no token is configured";

/// Options to choose from when one is misspelt.
const NAMES: [&str; 10] = [
    "pkcs11-module",
    "pkcs11-token",
    "pkcs11-pin-source",
    "pkcs11-sessions",
    "pkcs11-wait-ms",
    "pkcs11-timeout-ms",
    "pkcs11-retry-ms",
    "pkcs11-breaker-ms",
    "pkcs11-software-key",
    "pkcs11-status-dir",
];

impl Judge<'_> {
    /// Everything about keys in tokens.
    pub(super) fn tokens(&self, report: &Report, findings: &mut Findings) {
        let application = self.application();
        let providers = report
            .configuration
            .as_ref()
            .map(|found| found.providers(application.as_deref()))
            .unwrap_or_default();
        let Some(entry) = providers.iter().find(|entry| entry.name == self.provider()) else { return };
        let keys = self.keys_in_tokens();
        let config = self.token_options(entry, &providers, &keys, findings);
        let Some(config) = config else {
            let reason =
                if findings.status(OPTIONS) > Status::Ok { "mend hsm-options first" } else { NO_TOKEN };
            skip_all(findings, reason);
            return;
        };
        // The last reason to skip a check is the one that is told.
        match &self.facts.tokens {
            None => skip_all(findings, NOT_ASKED),
            Some(ending) => {
                skip_all(findings, "what comes before it is wrong");
                if keys.is_empty() {
                    let reason = "nginx's configuration names no key in a token";
                    ["hsm-key", "hsm-certificate", "hsm-signature"]
                        .iter()
                        .for_each(|id| findings.skip(id, reason));
                }
                match ending {
                    Ending::Reported(report) => self.way(&config, &report.tokens, findings),
                    Ending::Died { step, how, stderr } => died(&config, step, how, stderr, findings),
                }
            }
        }
        if config.tokens.len() == 1 && config.software_keys.is_empty() {
            findings.skip(FAILOVER, "there is no second token and no software key");
        }
        running(&config, findings);
    }

    /// What names a key in a token, for people.
    fn keys_in_tokens(&self) -> Vec<String> {
        let identities = self.target.identities();
        let files =
            identities.iter().flat_map(|identity| &identity.pairs).filter(|pair| names_token_key(pair));
        let stores = identities.iter().flat_map(|identity| &identity.token_pairs);
        let files = files.map(|pair| pair.key.display().to_string());
        files.chain(stores.map(|pair| format!("the key of {}", pair.certificate.display()))).collect()
    }

    /// Are the options right, and are they there when they are needed?
    fn token_options(
        &self,
        entry: &ProviderEntry,
        providers: &[ProviderEntry],
        keys: &[String],
        findings: &mut Findings,
    ) -> Option<Config> {
        let section = &entry.section;
        let settings = entry.plain_settings();
        for (name, _) in settings.iter().filter(|(name, _)| Config::claims(name) && !Config::is_option(name))
        {
            findings.fail(
                OPTIONS,
                format!("[{section}] has `{name}`, which is no option and so is ignored"),
                match nearest(name, NAMES.into_iter()) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => {
                        format!("the options are {}; numbers behind them go from -2 to -9", NAMES.join(", "))
                    }
                },
            );
        }
        let config = match parse_options(&settings) {
            Ok(Some(config)) => config,
            Ok(None) => {
                for key in keys {
                    findings.fail(
                        OPTIONS,
                        format!("{key} is in a token, and [{section}] has no pkcs11-module to find it with"),
                        format!("add `pkcs11-module = /path/to/the/HSM's/pkcs11.so` to [{section}]"),
                    );
                }
                return None;
            }
            Err(error) => {
                findings.fail(OPTIONS, error.to_string(), format!("correct it in [{section}]"));
                return None;
            }
        };
        let mut before = providers.iter().take_while(|entry| entry.name != self.provider());
        if !before.any(|entry| ["default", "fips"].contains(&entry.name.as_str())) {
            findings.fail(
                OPTIONS,
                format!("{} is not listed behind default (or fips), and offers no keys in tokens then", self.provider()),
                "list default first: `default = default_sect` above the line of the provider, and `activate = 1` in its section",
            );
        }
        for (index, token) in config.tokens.iter().enumerate().skip(1) {
            if token.pin_source.is_none() {
                let number = index + 1;
                findings.warn(
                    OPTIONS,
                    format!("token {number} has no pkcs11-pin-source-{number}, so that nobody logs in to it"),
                    format!("add `pkcs11-pin-source-{number} = file:PATH` to [{section}]"),
                );
            }
        }
        let tokens = count(config.tokens.len(), "token");
        let software = count(config.software_keys.len(), "software key");
        findings.ok(OPTIONS, format!("[{section}] names {tokens} and {software}"));
        Some(config)
    }

    fn way(&self, config: &Config, report: &TokenReport, findings: &mut Findings) {
        for token in &report.tokens {
            self.module_file(&token.module, token.number, findings);
            if token.number == 1 {
                first_token(token, findings);
            } else {
                further_token(token, findings);
            }
        }
        for key in &report.software_keys {
            let shown = key.path.display();
            match &key.error {
                Some(error) => findings.fail(
                    FAILOVER,
                    format!("the software key {shown} can't be read: {error}"),
                    "put it there, or take pkcs11-software-key out: without it no token key is read",
                ),
                None if key.exposed => findings.warn(
                    FAILOVER,
                    format!("the software key {shown} can be read by everybody"),
                    format!("chmod 600 {shown}"),
                ),
                None => findings.ok(FAILOVER, format!("the software key {shown} can be read")),
            }
        }
        if config.timeout.is_none() {
            findings.ok(
                "hsm-module",
                "pkcs11-timeout-ms = 0: the module is called directly, and one that hangs hangs the worker",
            );
        }
    }

    /// Who else could change the module's code, and who cannot reach it?
    fn module_file(&self, module: &Path, number: usize, findings: &mut Findings) {
        let id = if number == 1 { "hsm-module" } else { FAILOVER };
        for weakness in weaknesses(module, self.target.user.0) {
            if weakness.grave {
                findings.fail(id, weakness.found, weakness.mend);
            } else {
                findings.warn(id, weakness.found, weakness.mend);
            }
        }
        let worker = self.facts.worker.as_ref();
        let user = worker.map_or(self.target.user, |worker| (worker.user, worker.group));
        for obstacle in obstacles(module, user.0, user.1) {
            let (found, mend) = obstacle.split_once(": ").unwrap_or((&obstacle, ""));
            findings.warn(id, found, mend);
        }
    }
}

/// The first token: a row for each station.
fn first_token(token: &TokenFacts, findings: &mut Findings) {
    for check in Check::ALL {
        for found in token.found.iter().filter(|found| found.check == check) {
            match found.verdict {
                Verdict::Ok => findings.ok(check.id(), &*found.text),
                Verdict::Warn => findings.warn(check.id(), &*found.text, &*found.mend),
                Verdict::Fail => findings.fail(check.id(), &*found.text, &*found.mend),
            }
        }
    }
}

/// The others: one row, since none of them is needed today.
fn further_token(token: &TokenFacts, findings: &mut Findings) {
    let (number, mut wrong) = (token.number, false);
    for found in &token.found {
        let text = format!("token {number}: {}", found.text);
        match found.verdict {
            Verdict::Ok => {}
            Verdict::Warn => findings.warn(FAILOVER, text, &*found.mend),
            Verdict::Fail => findings.fail(FAILOVER, text, &*found.mend),
        }
        wrong |= found.verdict == Verdict::Fail;
    }
    if !wrong {
        let signed = token.found.iter().filter(|found| found.check == Check::Signature).count();
        findings.ok(FAILOVER, format!("token {number} is there, and signs with {}", count(signed, "key")));
    }
}

/// The module took the inner process along, or never came back.
fn died(config: &Config, step: &str, how: &str, stderr: &str, findings: &mut Findings) {
    let (id, what) = step.split_once(": ").unwrap_or(("hsm-module", step));
    let known = Check::ALL.iter().find(|check| check.id() == id).map_or("hsm-module", |check| check.id());
    let last_words = stderr.lines().last().map(|line| format!(" ({line})")).unwrap_or_default();
    let modules: Vec<String> = config.tokens.iter().map(|token| token.module.display().to_string()).collect();
    findings.fail(
        known,
        format!("the process was {how} while {what}{last_words}"),
        format!(
            "a module crashes or hangs: try the HSM's own tools, and {}; servers are kept from hanging by pkcs11-timeout-ms",
            modules.iter().map(|module| format!("pkcs11-tool --module {module} -L")).collect::<Vec<_>>().join(", ")
        ),
    );
}

/// What do servers count that run now?
fn running(config: &Config, findings: &mut Findings) {
    let directory = config.status_directory.display();
    let servers = match read_status(&config.status_directory) {
        Ok(servers) => servers,
        Err(error) => {
            findings.warn(
                RUNNING,
                format!("{directory} can't be read: {error}"),
                "let this user read it, or run doctor as root",
            );
            return;
        }
    };
    if servers.is_empty() {
        findings.skip(RUNNING, format!("no server with keys in a token runs (no live file in {directory})"));
    }
    for server in servers {
        let pid = server.pid;
        for (index, token) in server.tokens.iter().enumerate() {
            let text = format!(
                "process {pid}, {}: {} signatures, {} failed, {} retried, {} reconnects",
                token.name, token.signatures, token.failures, token.retries, token.reconnects
            );
            if token.pin_refused {
                findings.fail(
                    RUNNING,
                    format!("{text}; it refused the PIN, which is not tried again"),
                    "correct the PIN where pkcs11-pin-source says, and reload the server",
                );
            } else if token.connected == Some(false) {
                let fall = if index == 0 { "the first token does not answer" } else { "it does not answer" };
                findings.fail(
                    RUNNING,
                    format!("{text}; {fall}"),
                    "bring the HSM back: servers find it again by themselves within seconds",
                );
            } else if token.breaker_opened > 0 || token.timeouts > 0 {
                findings.warn(
                    RUNNING,
                    format!(
                        "{text}; {} time-outs, breaker opened {} times",
                        token.timeouts, token.breaker_opened
                    ),
                    "the HSM was away or slow since the server started: its own log says when",
                );
            } else {
                findings.ok(RUNNING, text);
            }
        }
        if server.failovers + server.software_signatures > 0 {
            findings.warn(
                RUNNING,
                format!(
                    "process {pid}: {} signatures by another than the first token, {} by a software key",
                    server.failovers, server.software_signatures
                ),
                "the first token was away since the server started",
            );
        }
    }
}

fn skip_all(findings: &mut Findings, reason: &str) {
    Check::ALL
        .iter()
        .map(|check| check.id())
        .chain([OPTIONS, FAILOVER, RUNNING])
        .for_each(|id| findings.skip(id, reason));
}
