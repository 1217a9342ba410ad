//! The report: a verdict from what was seen, and the table for people.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde::Serialize;

use super::certificate::Certificate;
use super::handshake::{ClassicalClient, Handshake};
use super::survey::{Acceptance, GroupAnswer, ShareAnswer, Survey, Tls12Answer};
use crate::groups::Kind;
use crate::style::{BAD, BOLD, DIM, GOOD, WARN, paint, thousands};

/// Everything one run found, as `--json` prints it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `HOST:PORT` as asked for.
    pub target: String,
    /// The address connected to.
    pub address: String,
    /// The name sent in SNI; none for an address.
    pub server_name: Option<String>,
    /// What it comes to.
    pub verdict: Verdict,
    /// The handshake.
    pub handshake: Handshake,
    /// What a client without ML-DSA gets from a server that signs with it; none when it does not.
    pub classical_client: Option<ClassicalClient>,
    /// Set when a handshake that offers post-quantum groups fails and one without them succeeds: what it failed with.
    pub post_quantum_offer_fails: Option<String>,
    /// What else is accepted; none when not asked.
    pub survey: Option<Survey>,
}

/// What it comes to.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// Whether the key exchange negotiated resists a quantum computer.
    pub post_quantum: bool,
    /// One line.
    pub summary: String,
    /// What to look at or to do, most important first.
    pub advice: Vec<String>,
}

impl Verdict {
    /// Judges what was seen.
    pub fn of(
        handshake: &Handshake,
        post_quantum_offer_fails: Option<&str>,
        survey: Option<&Survey>,
    ) -> Self {
        let mut advice = Vec::new();
        if let Some(problem) = post_quantum_offer_fails {
            advice.push(format!(
                "a ClientHello that offers post-quantum groups fails ({problem}): it is larger than one packet, and \
                 the server or something in front of it does not read all of it; update that middlebox"
            ));
        }
        if let Some(problem) = &handshake.signature_problem {
            advice.push(format!("the server's handshake signature does not verify: {problem}"));
        }
        let post_quantum = handshake.group.as_ref().filter(|group| group.is_post_quantum());
        let summary = match post_quantum {
            Some(group) => {
                let kind = match group.kind {
                    Some(Kind::PureMlKem) => "pure post-quantum",
                    _ => "hybrid post-quantum",
                };
                let mut summary = format!("{kind}: {} negotiated", group.name);
                if let Some(survey) = survey {
                    summary.push_str(&classical_clients(survey));
                }
                summary
            }
            None => classical_summary(handshake, survey, &mut advice),
        };
        if let Some(survey) = survey
            && survey.x25519_share_only == ShareAnswer::StaysClassical
        {
            advice.push(
                "a capable client that first sends only an X25519 share stays classical: the server takes the share \
                 it is given (OpenSSL up to 3.4 always does). Remedy: offer post-quantum groups alone, or OpenSSL 3.5 \
                 with tuples, such as X25519MLKEM768/X25519"
                    .to_owned(),
            );
        }
        if let Some(survey) = survey
            && let [obsolete, ..] = survey.accepted_names(|kind| kind == Kind::Obsolete)[..]
        {
            advice.push(format!("{obsolete} is obsolete and no client offers it any more; take it out"));
        }
        Self { post_quantum: post_quantum.is_some(), summary, advice }
    }
}

fn classical_clients(survey: &Survey) -> String {
    let mut classical = survey.accepted_names(|kind| kind == Kind::Classical);
    if matches!(survey.tls_1_2, Tls12Answer::Accepted(_)) {
        classical.push("TLS 1.2");
    }
    if classical.is_empty() {
        "; classical clients are refused".to_owned()
    } else {
        format!("; classical clients still accepted ({})", classical.join(", "))
    }
}

fn classical_summary(handshake: &Handshake, survey: Option<&Survey>, advice: &mut Vec<String>) -> String {
    let group = handshake.group.as_ref().map_or("no group", |group| group.name.as_str());
    let post_quantum = survey.map(|survey| survey.accepted_names(Kind::is_post_quantum)).unwrap_or_default();
    if !post_quantum.is_empty() {
        advice.push(format!(
            "put {} before {group} in the server's list of groups (nginx: ssl_ecdh_curve), or ask with a client that \
             offers it first",
            post_quantum[0]
        ));
        return format!(
            "classical: {group} negotiated, although the server accepts {}",
            post_quantum.join(", ")
        );
    }
    if handshake.protocol == "TLS 1.3" {
        advice.push(
            "to turn post-quantum on: load qtls.so through OPENSSL_CONF and list X25519MLKEM768 first in \
             ssl_ecdh_curve; `qtls doctor` on that machine says what is missing"
                .to_owned(),
        );
        format!(
            "classical only: {group} negotiated, recorded traffic can be read once quantum computers exist"
        )
    } else {
        advice.push(format!(
            "post-quantum key exchange needs TLS 1.3 and {} was negotiated: enable TLSv1.3 (nginx: ssl_protocols \
             TLSv1.2 TLSv1.3)",
            handshake.protocol
        ));
        format!("classical only: {} with {group}", handshake.protocol)
    }
}

impl Report {
    /// 0 for post-quantum, 1 for classical.
    pub fn exit_code(&self) -> ExitCode {
        if self.verdict.post_quantum { ExitCode::SUCCESS } else { ExitCode::from(1) }
    }

    /// The table for people.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        let style = if self.verdict.post_quantum { GOOD } else { WARN };
        let _ = writeln!(out, "{} {}", paint(BOLD, &self.target), paint(DIM, format!("({})", self.address)));
        let _ = writeln!(out, "{}\n", paint(style, &self.verdict.summary));
        self.write_handshake(&mut out);
        if let Some(survey) = &self.survey {
            write_survey(&mut out, survey);
        }
        for advice in &self.verdict.advice {
            let _ = writeln!(out, "\n{} {advice}", paint(WARN, "!"));
        }
        out
    }

    fn write_handshake(&self, out: &mut String) {
        let handshake = &self.handshake;
        let mut row = |name: &str, value: String| {
            let _ = writeln!(out, "  {name:<12} {value}");
        };
        row("protocol", handshake.protocol.clone());
        row(
            "group",
            match &handshake.group {
                Some(group) => {
                    let kind = group.kind.map_or("unknown", Kind::describe);
                    format!("{} (0x{:04X}, {kind})", group.name, group.code_point)
                }
                None => "none".to_owned(),
            },
        );
        row("cipher", handshake.cipher.clone());
        if let Some(scheme) = &handshake.signature_scheme {
            row(
                "signature",
                match &handshake.signature_problem {
                    Some(problem) => {
                        format!("{scheme} {}", paint(BAD, format!("does not verify: {problem}")))
                    }
                    None if handshake.signature_post_quantum => {
                        format!("{scheme} {}", paint(GOOD, "(post-quantum)"))
                    }
                    None => scheme.clone(),
                },
            );
        }
        if let Some(protocol) = &handshake.alpn {
            row("ALPN", protocol.clone());
        }
        row(
            "time",
            format!(
                "{} ms, first byte after {} ms{}",
                milliseconds(handshake.handshake_us),
                milliseconds(handshake.first_byte_us),
                if handshake.hello_retry_request {
                    ", one round trip more for a HelloRetryRequest"
                } else {
                    ""
                }
            ),
        );
        row(
            "bytes",
            format!(
                "{} sent, {} received",
                thousands(handshake.bytes_sent),
                thousands(handshake.bytes_received)
            ),
        );
        row("resumption", resumption(handshake));
        row(
            "trust",
            if handshake.trust.verified {
                paint(GOOD, &handshake.trust.detail)
            } else {
                paint(WARN, format!("not verified: {}", handshake.trust.detail))
            },
        );
        for (index, certificate) in handshake.chain.iter().enumerate() {
            let name = if index == 0 { "certificate" } else { "then" };
            row(
                name,
                format!(
                    "{} · {} · {} bytes",
                    certificate.subject,
                    marked(&certificate.key, certificate.key_post_quantum),
                    thousands(certificate.bytes as u64)
                ),
            );
            if !certificate.names.is_empty() {
                row("", paint(DIM, format!("for {}", shortened(&certificate.names))));
            }
            row(
                "",
                paint(
                    DIM,
                    format!(
                        "issued by {}, signed with {}",
                        certificate.issuer,
                        marked(&certificate.signature, certificate.signature_post_quantum)
                    ),
                ),
            );
            let until = certificate.not_after.split('T').next().unwrap_or_default();
            row(
                "",
                match certificate.days_left {
                    ..0 => paint(BAD, format!("expired on {until}")),
                    days @ 0..14 => paint(WARN, format!("valid until {until}, {days} days left")),
                    days => paint(
                        DIM,
                        format!("valid until {until}, {} days left", thousands(days.unsigned_abs())),
                    ),
                },
            );
        }
        for problem in &handshake.unreadable_certificates {
            row("certificate", paint(BAD, problem));
        }
        if let Some(client) = &self.classical_client {
            row("others", without_ml_dsa(client));
        }
    }
}

/// A certificate's algorithm, with what it is good for where that is more than usual.
fn marked(algorithm: &str, post_quantum: bool) -> String {
    if post_quantum { format!("{algorithm} (post-quantum)") } else { algorithm.to_owned() }
}

/// What a client gets that does not know ML-DSA, browsers first.
fn without_ml_dsa(client: &ClassicalClient) -> String {
    match (&client.refused, &client.certificate) {
        (Some(reason), _) => paint(WARN, format!("a client without ML-DSA is turned away: {reason}")),
        (None, Some(Certificate { key, .. })) => format!(
            "a client without ML-DSA gets the {key} certificate{}",
            client
                .signature_scheme
                .as_ref()
                .map(|scheme| format!(", signed with {scheme}"))
                .unwrap_or_default()
        ),
        (None, None) => "a client without ML-DSA gets a certificate that cannot be read".to_owned(),
    }
}

fn resumption(handshake: &Handshake) -> String {
    let early_data = match handshake.max_early_data {
        0 => String::new(),
        bytes => format!(", 0-RTT up to {} bytes", thousands(u64::from(bytes))),
    };
    match handshake.resumed {
        Some(true) => format!("ticket received, a second handshake was resumed{early_data}"),
        Some(false) => "ticket received, but a second handshake was not resumed".to_owned(),
        None => "no ticket received".to_owned(),
    }
}

fn write_survey(out: &mut String, survey: &Survey) {
    let _ = writeln!(out, "\n{}", paint(BOLD, "What the server accepts, each asked for alone"));
    let width = survey.groups.iter().map(|group| group.name.len()).max().unwrap_or(0);
    for group in &survey.groups {
        let GroupAnswer { name, code_point, kind, acceptance } = group;
        let answer = match acceptance {
            Acceptance::Accepted if kind.is_post_quantum() => paint(GOOD, "accepted"),
            Acceptance::Accepted => "accepted".to_owned(),
            Acceptance::Refused(reason) => paint(DIM, format!("refused: {reason}")),
            Acceptance::Unclear(reason) => paint(WARN, format!("unclear: {reason}")),
        };
        let _ = writeln!(out, "  {name:<width$}  0x{code_point:04X}  {:<14}  {answer}", kind.describe());
    }
    let tls_1_2 = match &survey.tls_1_2 {
        Tls12Answer::Accepted(cipher) => format!("accepted with {cipher}, always classical"),
        Tls12Answer::Refused(reason) => paint(DIM, format!("refused: {reason}")),
        Tls12Answer::Unclear(reason) => paint(WARN, format!("unclear: {reason}")),
    };
    let _ = writeln!(out, "  {:<width$}  {:<6}  {:<14}  {tls_1_2}", "TLS 1.2", "", "classical");
    let share = match &survey.x25519_share_only {
        ShareAnswer::AsksForPostQuantum(group) => paint(GOOD, format!("asked for {group} instead")),
        ShareAnswer::StaysClassical => paint(WARN, "stays classical"),
        ShareAnswer::NotApplicable => return,
        ShareAnswer::Unclear(reason) => paint(WARN, format!("unclear: {reason}")),
    };
    let _ = writeln!(out, "  A client that could do more but sends only an X25519 share: {share}");
}

fn milliseconds(micros: u64) -> String {
    format!("{:.1}", micros as f64 / 1000.0)
}

fn shortened(names: &[String]) -> String {
    const SHOWN: usize = 4;
    let shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
