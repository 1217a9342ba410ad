//! The certificates and keys that nginx's configuration names, by who shows them to whom.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Directive, Profile};

/// Directives of certificates for upstreams begin so; those of servers have no prefix.
const UPSTREAM_PREFIXES: [&str; 3] = ["proxy_", "grpc_", "uwsgi_"];

/// Whom a certificate is shown to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) enum Side {
    /// To clients, by a server block.
    Server,
    /// To an upstream.
    Client,
}

/// What one server, or one connection to an upstream, shows and trusts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Identity {
    /// For people: which server.
    pub(in super::super) label: String,
    pub(in super::super) side: Side,
    /// Certificate chain and key, several on one server for clients of different kinds.
    pub(in super::super) pairs: Vec<Pair>,
    /// `ssl_password_file`.
    pub(in super::super) passwords: Option<PathBuf>,
    /// `ssl_client_certificate` and `ssl_trusted_certificate`.
    pub(in super::super) authorities: Vec<PathBuf>,
    /// What nginx finds out only when it runs, or asks somebody else for: variables, engines, stores.
    pub(in super::super) elsewhere: Vec<String>,
    /// Whether `ssl_verify_client` asks for a certificate.
    pub(in super::super) verifies_clients: bool,
    /// Whether `ssl_session_tickets` is on, its default.
    pub(in super::super) tickets: bool,
    /// What is in force on the server's socket; nothing of an upstream's.
    pub(in super::super) profile: Profile,
}

/// A certificate file and its key file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Pair {
    pub(in super::super) certificate: PathBuf,
    pub(in super::super) key: PathBuf,
}

/// The directives in force in a block: its own, else the outer one's.
#[derive(Clone, Debug, Default)]
pub(super) struct Named {
    prefix: &'static str,
    certificates: Vec<String>,
    keys: Vec<String>,
    passwords: Option<String>,
    /// The CA files by their directives.
    client_authority: Option<String>,
    trusted_authority: Option<String>,
    verify_client: Option<String>,
    tickets: Option<String>,
    /// Where the certificates, or else the authorities, are named.
    place: String,
}

impl Named {
    fn of(prefix: &'static str) -> Self {
        Self { prefix, ..Self::default() }
    }

    pub(super) fn within(&self, block: &[Directive]) -> Self {
        let mut named = self.clone();
        let values = |name: &str| -> Vec<&Directive> {
            let is = |directive: &&Directive| {
                directive.words.len() == 2
                    && directive.words[0].strip_prefix(self.prefix).is_some_and(|rest| rest == name)
            };
            block.iter().filter(is).collect()
        };
        let texts = |name: &str| -> Vec<String> {
            values(name).iter().map(|directive| directive.words[1].clone()).collect()
        };
        // As with ngx_conf_merge_ptr_value: a block with one of its own inherits none of that directive.
        if let [first, ..] = values("ssl_certificate")[..] {
            named.certificates = texts("ssl_certificate");
            named.place.clone_from(&first.place);
        }
        for (name, field) in [
            ("ssl_password_file", &mut named.passwords),
            ("ssl_client_certificate", &mut named.client_authority),
            ("ssl_trusted_certificate", &mut named.trusted_authority),
            ("ssl_verify_client", &mut named.verify_client),
            ("ssl_session_tickets", &mut named.tickets),
        ] {
            *field = texts(name).pop().or_else(|| field.take());
        }
        let keys = texts("ssl_certificate_key");
        if !keys.is_empty() {
            named.keys = keys;
        }
        named
    }

    /// None when it names no file.
    fn identity(&self, label: String, side: Side, profile: Profile, directory: &Path) -> Option<Identity> {
        let mut elsewhere = Vec::new();
        let mut pairs = Vec::new();
        for (certificate, key) in self.certificates.iter().zip(&self.keys) {
            match (file(certificate, directory), file(key, directory)) {
                (Some(certificate), Some(key)) => pairs.push(Pair { certificate, key }),
                (None, _) => elsewhere.push(certificate.clone()),
                (_, None) => elsewhere.push(key.clone()),
            }
        }
        let authorities = [&self.client_authority, &self.trusted_authority];
        let authorities: Vec<PathBuf> =
            authorities.into_iter().flatten().filter_map(|text| file(text, directory)).collect();
        let verifies_clients = self.verify_client.as_ref().is_some_and(|value| value != "off");
        (!(pairs.is_empty() && elsewhere.is_empty() && authorities.is_empty() && !verifies_clients)).then(
            || Identity {
                label,
                side,
                pairs,
                passwords: self.passwords.as_ref().and_then(|text| file(text, directory)),
                authorities,
                elsewhere,
                verifies_clients,
                tickets: self.tickets.as_ref().is_none_or(|value| value != "off"),
                profile,
            },
        )
    }
}

/// The file that a directive names, relative to nginx's configuration (`ngx_conf_full_name`); none for what is no file.
fn file(text: &str, directory: &Path) -> Option<PathBuf> {
    let is_elsewhere = text.is_empty()
        || text.contains('$')
        || ["data:", "engine:", "store:"].iter().any(|scheme| text.starts_with(scheme));
    (!is_elsewhere).then(|| directory.join(text))
}

/// Every identity of the configuration, each different one once. `profile_of` tells what is in force for a server block
/// by its place, if it is a TLS server.
pub(super) fn identities(
    directives: &[Directive],
    directory: &Path,
    profile_of: &dyn Fn(&str) -> Option<Profile>,
) -> Vec<Identity> {
    let mut found: Vec<Identity> = Vec::new();
    let mut add = |identity: Option<Identity>| {
        let Some(identity) = identity else { return };
        let same = |known: &Identity| Identity { label: identity.label.clone(), ..known.clone() } == identity;
        if !found.iter().any(same) {
            found.push(identity);
        }
    };
    let is = |directive: &Directive, names: &[&str]| names.contains(&directive.words[0].as_str());
    for outer in directives.iter().filter(|directive| is(directive, &["http", "stream", "mail"])) {
        let named = Named::of("").within(&outer.block);
        for server in outer.block.iter().filter(|inner| is(inner, &["server"])) {
            let Some(profile) = profile_of(&server.place) else { continue };
            let names = server.block.iter().find(|directive| is(directive, &["server_name"]));
            let name = names.and_then(|directive| directive.words.get(1)).filter(|name| !name.is_empty());
            let label = match name {
                Some(name) => format!("server {name} ({})", server.place),
                None => format!("the server at {}", server.place),
            };
            add(named.within(&server.block).identity(label, Side::Server, profile, directory));
        }
        for prefix in UPSTREAM_PREFIXES {
            add_upstreams(&outer.block, &Named::of(prefix), directory, &mut add);
        }
    }
    found
}

/// The certificates for upstreams of a block and of those within it.
fn add_upstreams(
    block: &[Directive],
    outer: &Named,
    directory: &Path,
    add: &mut dyn FnMut(Option<Identity>),
) {
    let named = outer.within(block);
    if !named.certificates.is_empty() {
        let label = format!("{}ssl_certificate at {}", named.prefix, named.place);
        add(named.identity(label, Side::Client, Profile::default(), directory));
    }
    for inner in block.iter().filter(|directive| !directive.block.is_empty()) {
        add_upstreams(&inner.block, &named, directory, add);
    }
}
