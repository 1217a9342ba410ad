//! Judging: from what was found to one finding for each check.

mod certificates;
mod configuration;
mod library;
mod provider;
mod running;
mod server;
mod tokens;

use qtls_cli::groups;

use super::checks::Findings;
use super::facts::Facts;
use super::target::Target;
use super::version::Version;
use super::{Arguments, Requirement};

/// First OpenSSL with providers.
const FIRST_WITH_PROVIDERS: (u32, u32, u32) = (3, 0, 0);
/// First with signature schemes of providers in TLS, so with ML-DSA certificates.
const FIRST_WITH_PROVIDER_SIGNATURES: (u32, u32, u32) = (3, 2, 0);
/// First that has ML-KEM itself, offers it by default, and asks a client for a better share.
const FIRST_WITH_ML_KEM: (u32, u32, u32) = (3, 5, 0);

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
            judge.foreign_key_types(report, &mut findings);
            judge.certificates(report, &mut findings);
            judge.tokens(report, &mut findings);
        }
    }
    judge.explain_skips(&mut findings);
    findings
}

/// The checks of what nginx's configuration names.
const CERTIFICATE_CHECKS: [&str; 6] = [
    "certificate-files",
    "certificate-keys",
    "certificate-usable",
    "certificate-chain",
    "certificate-validity",
    "certificate-clients",
];

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
        findings.skip("ml-dsa", "there is no ML-DSA certificate, and none was asked for: --require ml-dsa");
        findings.skip("session-size", "no server asks for client certificates");
        let reason = match self.target.nginx() {
            Some(_) => "nginx's configuration names no certificate that could be looked at",
            None => "only nginx's configuration is read for certificates",
        };
        CERTIFICATE_CHECKS.iter().for_each(|id| findings.skip(id, reason));
        findings.skip_rest("what it needs was not found, or it does not apply here");
    }
}

/// Whether a group is known to be post-quantum.
fn is_post_quantum(code_point: u16) -> bool {
    groups::by_code_point(code_point).is_some_and(|group| group.kind.is_post_quantum())
}

/// Names of groups, for a sentence.
fn names(groups: &[u16]) -> String {
    if groups.is_empty() {
        return "nothing".to_owned();
    }
    groups.iter().map(|group| groups::name_of(*group)).collect::<Vec<_>>().join(", ")
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

#[cfg(test)]
mod tests {
    use qtls_cli::groups::Kind;

    use super::*;

    #[test]
    fn a_misspelt_name_finds_its_neighbour_and_a_strange_one_none() {
        let known = || groups::known_groups().into_iter().map(|group| group.name);
        assert_eq!(nearest("x25519_mlkem768", known()), Some("X25519MLKEM768"));
        assert_eq!(nearest("X25519MLKEM786", known()), Some("X25519MLKEM768"));
        assert_eq!(nearest("brainpoolP256r1", known()), None);
        assert_eq!(nearest("selftest", ["self-test", "log"].into_iter()), Some("self-test"));
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
