//! Certificates and keys: whether they can be read, belong together, work in this libssl, and for whom.

use std::fmt::Display;
use std::path::Path;

use qtls_cli::probe::certificate::Certificate;

use super::super::Requirement;
use super::super::checks::Findings;
use super::super::identity::{Authority, ChainEnd, IdentityFacts, PairFacts, Shown};
use super::super::inner::{ProviderFacts, Report};
use super::super::nginx::Side;
use super::super::permissions::user_name;
use super::super::version::Version;
use super::{FIRST_WITH_ML_KEM, FIRST_WITH_PROVIDER_SIGNATURES, Judge};
use crate::libssl::IdentityStep;

/// A certificate that ends within this many days is a warning: those renewed by ACME have more.
const SOON_DAYS: i64 = 30;

/// `NGX_SSL_MAX_SESSION_SIZE`: what is larger is not cached, and nobody is told. 4,096 bytes until this version, 8,192 then.
const FIRST_WITH_LARGER_SESSIONS: (u32, u32, u32) = (1, 29, 2);

/// What a certificate has beside key and signature, and a session beside the certificate, at least.
const REST_OF_A_SESSION: usize = 400;

/// What to put beside an ML-DSA certificate for clients without it.
const SECOND_PAIR: &str = "add a second pair ssl_certificate and ssl_certificate_key with ECDSA or RSA beside it, for browsers \
                           and every other client that does not verify ML-DSA yet; each client gets what it can verify";

impl Judge<'_> {
    /// Everything about certificates and keys.
    pub(super) fn certificates(&self, report: &Report, findings: &mut Findings) {
        for facts in &report.identities {
            self.files(facts, findings);
            for pair in &facts.pairs {
                keys(pair, findings);
                self.usable(pair, report, findings);
                chain(facts, pair, findings);
                pair.chain
                    .iter()
                    .for_each(|certificate| validity(&pair.pair.certificate, certificate, findings));
            }
            for (file, found) in &facts.authorities {
                match found {
                    Ok(authorities) => {
                        for authority in authorities {
                            authority_key(file, authority, findings);
                            validity(file, &authority.certificate, findings);
                        }
                    }
                    Err(error) => findings.fail(
                        "certificate-files",
                        format!("{}: {error}", file.display()),
                        "write the certificates of the authorities there, in PEM",
                    ),
                }
            }
            clients(facts, findings);
            self.session_size(facts, report, findings);
        }
        self.ml_dsa(report, findings);
    }

    /// Can the service read what its configuration names?
    fn files(&self, facts: &IdentityFacts, findings: &mut Findings) {
        let id = "certificate-files";
        let user = user_name(self.target.user.0);
        for file in &facts.files {
            let path = file.path.display();
            match &file.error {
                // nginx is started by root as a rule, whoever runs doctor.
                Some(error) if file.denied && self.is_anybody() => findings.warn(
                    id,
                    format!("{path} can't be read by {user}: {error}"),
                    "run doctor as root, or name the service by --unit or --pid, to see what the service sees",
                ),
                Some(error) => findings.fail(
                    id,
                    format!("{path}, named by {}, can't be read by {user}: {error}", facts.identity.label),
                    format!("put the file there and let {user} read it, or correct the path"),
                ),
                None if file.exposed => findings.warn(
                    id,
                    format!("the private key {path} can be read by everybody"),
                    format!("chmod 600 {path}"),
                ),
                None => findings.ok(id, format!("{path} can be read by {user}")),
            }
        }
        for text in &facts.identity.elsewhere {
            findings.ok(
                id,
                format!("{text} is not looked at: nginx finds it when it runs, or asks an engine or store"),
            );
        }
    }

    /// Whether nothing says who the service is, and it is not root who asks.
    fn is_anybody(&self) -> bool {
        self.target.user.0 != 0 && self.target.unit.is_none() && self.target.process.is_none()
    }

    /// Does this libssl take it for TLS?
    fn usable(&self, facts: &PairFacts, report: &Report, findings: &mut Findings) {
        let id = "certificate-usable";
        let Some(leaf) = facts.chain.first() else { return };
        let file = facts.pair.certificate.display();
        let key = &leaf.key;
        if is_composite(key) {
            findings.fail(
                id,
                format!("{file} has a composite key ({key}), which signs certificates and never TLS handshakes"),
                "keep the composite for the authority, and issue the server an ML-DSA, ECDSA or RSA certificate under it",
            );
            return;
        }
        if is_ml_dsa(key) && !has_provider_signatures(report) {
            findings.fail(
                id,
                format!(
                    "{file} has an {key} key, and TLS of {} cannot use one: libssl has no place for a provider's signatures \
                     before 3.2",
                    report.version
                ),
                vec![
                    "use an OpenSSL from 3.2 on (Debian 13 has 3.5),".to_owned(),
                    "or issue the server an ECDSA or RSA certificate under the ML-DSA authority".to_owned(),
                ],
            );
            return;
        }
        let refused: Vec<String> = facts
            .refusals
            .iter()
            .filter(|(step, _)| {
                matches!(
                    step,
                    IdentityStep::UseCertificate
                        | IdentityStep::ParseChain
                        | IdentityStep::UseChain
                        | IdentityStep::UseKey
                )
            })
            .map(|(_, errors)| errors.join("; "))
            .collect();
        // A key that does not match can't be used either, which is told elsewhere.
        if !refused.is_empty() && !facts.refusals.iter().any(|(step, _)| *step == IdentityStep::Match) {
            findings.fail(
                id,
                format!("this libssl refuses {file} ({key}): {}", refused.join("; ")),
                how_to_be_used(&refused, leaf),
            );
        } else if !facts.refusals.iter().any(|(step, _)| *step == IdentityStep::ParseCertificate) {
            findings.ok(id, format!("this libssl takes {file} ({key})"));
        }
    }

    /// Does a session with a client's certificate fit into nginx's cache?
    fn session_size(&self, facts: &IdentityFacts, report: &Report, findings: &mut Findings) {
        let id = "session-size";
        let (label, identity) = (&facts.identity.label, &facts.identity);
        if !identity.verifies_clients {
            return;
        }
        let authorities = facts.authorities.iter().filter_map(|(_, found)| found.as_ref().ok()).flatten();
        // A client's certificate most likely has a key of its authority's strength.
        let signers = authorities.filter_map(|Authority { certificate, .. }| {
            let algorithm = qtls_crypto::signature_by_name(&certificate.key)?;
            // Without the schemes of ML-DSA a client's own key is a classical one, of a hundred bytes at most.
            let key = if report.ml_dsa.is_empty() { 100 } else { algorithm.ml_dsa.public_key_bytes() };
            Some((&certificate.key, key + algorithm.max_signature_bytes() + REST_OF_A_SESSION))
        });
        let Some((signer, bytes)) = signers.max_by_key(|(_, bytes)| *bytes) else {
            findings.ok(id, format!("{label} knows no authority that signs with ML-DSA"));
            return;
        };
        let version = self.target.nginx().and_then(|build| build.version);
        let limit = match version.is_none_or(|version| version >= FIRST_WITH_LARGER_SESSIONS) {
            true => 8192,
            false => 4096,
        };
        if bytes <= limit {
            findings.ok(
                id,
                format!("{label}: a session with a client's certificate of an {signer} authority has about {bytes} bytes, nginx caches {limit}"),
            );
        } else if identity.tickets {
            findings.warn(
                id,
                format!(
                    "{label}: a session with a client's certificate of an {signer} authority has at least {bytes} bytes. nginx \
                     caches no session above {limit} and does not say so; clients resume only by tickets, which get as big"
                ),
                "leave ssl_session_tickets on for these clients, or update nginx to 1.29.2 or newer, which caches 8,192 bytes",
            );
        } else {
            findings.warn(
                id,
                format!(
                    "{label}: a session with a client's certificate of an {signer} authority has at least {bytes} bytes. nginx \
                     caches no session above {limit} and does not say so; with ssl_session_tickets off these clients never resume"
                ),
                "update nginx to 1.29.2 or newer, which caches 8,192 bytes, or switch ssl_session_tickets on with a key of your own",
            );
        }
    }

    /// Does a client that knows ML-DSA get it?
    fn ml_dsa(&self, report: &Report, findings: &mut Findings) {
        let id = "ml-dsa";
        let required = self.requires(Requirement::MlDsa);
        let servers: Vec<&IdentityFacts> =
            report.identities.iter().filter(|facts| facts.identity.side == Side::Server).collect();
        if required && self.target.nginx().is_none() {
            findings.warn(
                id,
                "which certificates this program shows is not known here; only nginx's configuration is read",
                "ask the running server: qtls probe HOST:PORT shows its signature scheme and its certificates",
            );
            return;
        }
        for facts in &servers {
            let label = &facts.identity.label;
            let has = facts.pairs.iter().any(|pair| leaf_key(pair).is_some_and(is_ml_dsa));
            match &facts.capable {
                Some(Shown::Key(key)) if is_ml_dsa(key) => {
                    findings.ok(id, format!("{label}: a client that knows ML-DSA gets {key}"));
                }
                Some(Shown::Key(key)) if has => {
                    let found = format!(
                        "{label}: a client that knows ML-DSA gets {key}, although there is an ML-DSA certificate"
                    );
                    let mend = format!(
                        "take `ssl_prefer_server_ciphers on` out, or name {} first in ssl_conf_command SignatureAlgorithms",
                        report.ml_dsa.join(":")
                    );
                    if required { findings.fail(id, found, mend) } else { findings.warn(id, found, mend) }
                }
                Some(Shown::Nothing(errors)) if has => findings.fail(
                    id,
                    format!("{label}: the handshake of a client that knows ML-DSA fails: {}", errors.join("; ")),
                    "mend what is wrong with the certificate above this line",
                ),
                None if has && required => findings.fail(
                    id,
                    format!("{label} has an ML-DSA certificate that this libssl cannot use"),
                    "mend what is wrong above this line: openssl-version and certificate-usable tell",
                ),
                _ if required && !has && facts.identity.elsewhere.is_empty() => findings.fail(
                    id,
                    format!("{label} has no ML-DSA certificate"),
                    "add one as a further pair ssl_certificate and ssl_certificate_key: openssl req -x509 -newkey ml-dsa-65 makes \
                     one to try, from OpenSSL 3.5 on",
                ),
                _ => {}
            }
        }
        if required && servers.is_empty() {
            findings.fail(
                id,
                "no TLS server with a certificate is configured",
                "name the configuration by --nginx-conf FILE, or add a server with an ML-DSA certificate",
            );
        }
    }

    /// Can a peer's certificate make this libssl read past a table? From 3.2 to 3.4 `ssl_cert_lookup_by_pkey` does so for a
    /// key type that no provider lists, as soon as any provider offers signature schemes. Q-TLS lists the key types of
    /// OpenSSL's own providers and its own; beside any other provider it offers no scheme (`unguarded-signatures`).
    pub(super) fn foreign_key_types(&self, report: &Report, findings: &mut Findings) {
        let id = "foreign-key-types";
        let version = Version::parse(&report.version);
        if version < FIRST_WITH_PROVIDER_SIGNATURES || version >= FIRST_WITH_ML_KEM {
            let found = "does not have this defect, which came with 3.2 and is gone in 3.5";
            findings.ok(id, format!("{} {found}", report.version));
            return;
        }
        let known = ["default", "base", "legacy", "fips", "null", "qtls"];
        let strangers: Vec<&ProviderFacts> =
            report.providers.iter().filter(|provider| !known.contains(&provider.name.as_str())).collect();
        let names = |providers: &[&ProviderFacts]| -> String {
            providers.iter().map(|provider| provider.name.as_str()).collect::<Vec<_>>().join(", ")
        };
        let offering: Vec<&ProviderFacts> =
            report.providers.iter().filter(|provider| !provider.schemes.is_empty()).collect();
        let unguarded: Vec<String> = strangers
            .iter()
            .filter(|provider| !provider.key_types.is_empty())
            .map(|provider| format!("{} ({})", provider.name, shortened(&provider.key_types)))
            .collect();
        let ours = report.providers.iter().find(|provider| provider.name == "qtls");
        if offering.is_empty() {
            let withheld = ours.is_some_and(|ours| ours.key_types.iter().any(|key| is_ml_dsa(key)))
                && !strangers.is_empty()
                && self.option_of_ours("signatures", report).is_none_or(|list| list != "none");
            if withheld {
                findings.warn(
                    id,
                    format!(
                        "qtls offers no ML-DSA in TLS, because this libssl would die of a peer's certificate with a key type of \
                         {}",
                        names(&strangers)
                    ),
                    "update OpenSSL to 3.5 or newer, or take that provider out of the configuration; if it decodes no other public \
                     keys than OpenSSL does: `unguarded-signatures = offer` in the section of qtls",
                );
            } else {
                findings.ok(id, "no provider offers TLS signatures, so the defect is out of reach");
            }
        } else if unguarded.is_empty() && ours.is_some_and(|ours| !ours.schemes.is_empty()) {
            findings.ok(id, "every key type that a peer's certificate can have here is one that qtls lists");
        } else {
            let types =
                if unguarded.is_empty() { "OpenSSL's own (X448)".to_owned() } else { unguarded.join(", ") };
            findings.warn(
                id,
                format!(
                    "a peer's certificate with a key type of {types} makes this libssl read past a table, which ends the worker, \
                     for {} offers TLS signatures",
                    names(&offering)
                ),
                "update OpenSSL to 3.5 or newer, or take that provider out of the configuration, or let none offer TLS signatures \
                 (`signatures = none` in the section of qtls)",
            );
        }
    }

    /// The value of an option in the section of qtls.
    fn option_of_ours(&self, option: &str, report: &Report) -> Option<String> {
        let application = self.application();
        let providers = report.configuration.as_ref()?.providers(application.as_deref());
        let ours = providers.iter().find(|entry| entry.name == "qtls")?;
        ours.setting(option).map(|value| value.trim().to_owned())
    }
}

/// Can libcrypto verify what an authority has signed?
fn authority_key(file: &Path, authority: &Authority, findings: &mut Findings) {
    if let Some(errors) = &authority.key_problem {
        let Certificate { subject, key, .. } = &authority.certificate;
        findings.fail(
            "certificate-usable",
            format!(
                "{}: this libcrypto makes nothing of the {key} key of {subject} ({}), so that every certificate under it is refused",
                file.display(),
                errors.join("; ")
            ),
            "activate a provider that has such keys (qtls has ML-DSA and composites), or use OpenSSL 3.5 or newer for ML-DSA",
        );
    }
}

/// Does libcrypto read the key, and is it this certificate's?
fn keys(facts: &PairFacts, findings: &mut Findings) {
    let id = "certificate-keys";
    let (certificate, key) = (facts.pair.certificate.display(), facts.pair.key.display());
    for (step, errors) in &facts.refusals {
        let errors = errors.join("; ");
        match step {
            IdentityStep::ParseCertificate => findings.fail(
                id,
                format!("{certificate} is no certificate to this libcrypto: {errors}"),
                "write the chain there in PEM, the server's own certificate first",
            ),
            IdentityStep::ParseKey => findings.fail(
                id,
                format!("{key} is no private key to this libcrypto: {errors}"),
                if facts.key_in_token {
                    "the file names a key in a token: qtls doctor --hsm says where the way to it ends"
                } else if !facts.key_is_pem {
                    "write the key there in PEM, from BEGIN PRIVATE KEY to END PRIVATE KEY"
                } else if errors.contains("unsupported") {
                    "the active providers have no such type of key: activate one that has it, or use another key"
                } else {
                    "a key behind a passphrase needs ssl_password_file with that passphrase; else write it anew, it is damaged"
                },
            ),
            IdentityStep::Match => findings.fail(
                id,
                format!("{key} is not the key of {certificate}: {errors}"),
                "name the key that the certificate was issued for; the lines pair off in their order",
            ),
            _ => {}
        }
    }
    let refused = [IdentityStep::ParseCertificate, IdentityStep::ParseKey, IdentityStep::Match];
    if !facts.refusals.iter().any(|(step, _)| refused.contains(step)) {
        findings.ok(id, format!("{key} is the key of {certificate}"));
    }
}

/// Does each certificate's issuer follow?
fn chain(facts: &IdentityFacts, pair: &PairFacts, findings: &mut Findings) {
    let id = "certificate-chain";
    let file = pair.pair.certificate.display();
    let length = pair.chain.len();
    let append = "write into that file, in this order: the server's certificate, its issuer's, that one's issuer's, without the root";
    match &pair.chain_end {
        ChainEnd::Root if length > 1 => {
            let bytes = pair.chain.last().map_or(0, |root| root.bytes);
            findings.ok(
                id,
                format!("{file} leads to its root, which need not be sent ({bytes} bytes of each handshake)"),
            );
        }
        ChainEnd::Root => findings.ok(id, format!("{file} is self-signed: clients have to have it")),
        ChainEnd::KnownRoot(root) => {
            findings.ok(id, format!("{file} leads to {root}, a root that is known here"))
        }
        ChainEnd::Unknown(issuer) => {
            let found =
                format!("{file} ends with a certificate of {issuer}, which is no root that is known here");
            let mend = format!("if it is not a root that the peers have, append the certificate of {issuer}");
            match facts.identity.side {
                Side::Server => findings.warn(id, found, mend),
                Side::Client => findings.ok(id, found),
            }
        }
        ChainEnd::OutOfOrder(subject) => findings.warn(
            id,
            format!("{file}: {subject} is not followed by its issuer, which stands elsewhere in the file"),
            append,
        ),
        ChainEnd::Broken(subject) => findings.fail(
            id,
            format!("{file}: {subject} is followed by other certificates, and none of them is its issuer's"),
            append,
        ),
        ChainEnd::FalseSignature(subject) => findings.fail(
            id,
            format!("{file}: the next certificate has the name of the issuer of {subject}, and another key"),
            "append the certificate that the authority has used for it; it may have had a new key since",
        ),
        ChainEnd::Unreadable(error) => findings.fail(id, format!("{file}: {error}"), append),
    }
}

fn validity(file: &Path, certificate: &Certificate, findings: &mut Findings) {
    let id = "certificate-validity";
    let found = |what: &dyn Display| format!("{}: {} {what}", file.display(), certificate.subject);
    let renew = "renew it, and let nginx read it: nginx -s reload";
    match certificate.days_left {
        ..0 => findings.fail(id, found(&format_args!("expired at {}", certificate.not_after)), renew),
        _ if !certificate.started => findings.fail(
            id,
            found(&format_args!("is valid from {} on only", certificate.not_before)),
            "set this machine's clock right, or wait",
        ),
        days @ 0..=SOON_DAYS => {
            findings.warn(
                id,
                found(&format_args!("expires in {days} days, at {}", certificate.not_after)),
                renew,
            );
        }
        days => findings.ok(id, found(&format_args!("is valid for {days} days"))),
    }
}

/// Who can make something of the certificates?
fn clients(facts: &IdentityFacts, findings: &mut Findings) {
    let id = "certificate-clients";
    // What is refused is shown to nobody, and told elsewhere.
    let usable = facts.pairs.iter().filter(|pair| pair.refusals.is_empty());
    let keys: Vec<&str> = usable.filter_map(leaf_key).collect();
    let label = &facts.identity.label;
    if facts.identity.side == Side::Client || facts.identity.placeholders || keys.is_empty() {
        return;
    }
    let (modern, classical): (Vec<&str>, Vec<&str>) = keys.iter().copied().partition(|key| is_ml_dsa(key));
    let told = |shown: &Option<Shown>| match shown {
        Some(Shown::Key(key)) => key.clone(),
        Some(Shown::Nothing(_)) => "nothing".to_owned(),
        None => "nothing known".to_owned(),
    };
    match (&modern[..], &classical[..]) {
        ([], _) => findings.ok(id, format!("{label}: {} for every client, none post-quantum", classical.join(", "))),
        (_, []) => findings.warn(
            id,
            format!(
                "{label}: {} alone, so only clients that verify ML-DSA get in (OpenSSL 3.5 and newer, rustls, Go with it); no \
                 browser does yet",
                modern.join(", ")
            ),
            SECOND_PAIR,
        ),
        _ => match &facts.classical {
            Some(Shown::Nothing(errors)) => findings.fail(
                id,
                format!("{label}: a client without ML-DSA gets no certificate, although there is {}: {}", classical.join(", "), errors.join("; ")),
                "mend what is wrong with that certificate above this line",
            ),
            classical => findings.ok(
                id,
                format!(
                    "{label}: clients that verify ML-DSA get {}, others {}; browsers do not verify ML-DSA yet and are among the others",
                    told(&facts.capable),
                    told(classical)
                ),
            ),
        },
    }
}

/// What to do about OpenSSL's reason.
fn how_to_be_used(errors: &[String], leaf: &Certificate) -> &'static str {
    let has = |reason: &str| errors.iter().any(|error| error.contains(reason));
    if has("ca md too weak") && leaf.signature_post_quantum {
        "before 3.2 OpenSSL knows no strength for a signature without a digest: activate the provider qtls, which tells one"
    } else if has("too weak") || has("too small") {
        "issue it anew with a key and a hash that the security level of this OpenSSL allows (128 bits are enough everywhere)"
    } else if has("unknown certificate type") {
        "no active provider offers a TLS signature for that type of key: activate one that does, or use another key"
    } else {
        "openssl x509 -in FILE -noout -text shows what is in it; issue it anew if it is damaged"
    }
}

fn leaf_key(pair: &PairFacts) -> Option<&str> {
    pair.chain.first().map(|leaf| leaf.key.as_str())
}

fn is_ml_dsa(key: &str) -> bool {
    key.starts_with("ML-DSA-")
}

/// Composites are named by [`qtls_cli::probe::certificate::algorithm_name`], which knows more than the table has rows.
fn is_composite(key: &str) -> bool {
    key.starts_with("MLDSA")
}

fn has_provider_signatures(report: &Report) -> bool {
    Version::parse(&report.version) >= FIRST_WITH_PROVIDER_SIGNATURES
}

fn shortened(names: &[String]) -> String {
    const SHOWN: usize = 3;
    let more = if names.len() > SHOWN { ", …" } else { "" };
    format!("{}{more}", names[..names.len().min(SHOWN)].join(", "))
}
