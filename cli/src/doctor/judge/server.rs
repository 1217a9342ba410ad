//! What a server does in the end: its lists of groups, its own settings, its handshakes.

use qtls_cli::groups::{self, Kind};

use super::super::Requirement;
use super::super::checks::{Findings, Status};
use super::super::inner::{ListFacts, ProfileFacts, Report};
use super::super::version::Version;
use super::{FIRST_WITH_ML_KEM, Judge, is_post_quantum, names, nearest};

impl Judge<'_> {
    pub(super) fn group_list(&self, list: &ListFacts, report: &Report, findings: &mut Findings) {
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
    pub(super) fn servers(&self, report: &Report, findings: &mut Findings) {
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

    pub(super) fn server(&self, profile: &ProfileFacts, report: &Report, findings: &mut Findings) {
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

    pub(super) fn server_settings(
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
        let list = self.suggested_groups(&self.arguments.require);
        if any_post_quantum {
            findings.ok(id, format!("{} ({}) includes post-quantum groups", last.origin, last.value));
        } else {
            findings.fail(
                id,
                format!(
                    "{} ({}) replaces the groups of openssl.cnf, and has no post-quantum one",
                    last.origin, last.value
                ),
                match self.target.nginx() {
                    Some(_) => format!("take the directive out, or write ssl_ecdh_curve {list};"),
                    None => format!("write {list} there"),
                },
            );
        }
    }

    pub(super) fn groups_configured(
        &self,
        label: &str,
        post_quantum: &[u16],
        report: &Report,
        findings: &mut Findings,
    ) {
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

    pub(super) fn handshake(&self, profile: &ProfileFacts, findings: &mut Findings) {
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

    pub(super) fn key_share(
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
    pub(super) fn mode(&self, label: &str, accepted: &[u16], tls_1_2: bool, findings: &mut Findings) {
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
}
