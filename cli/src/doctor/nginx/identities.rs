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
    /// Certificate chain and the PKCS#11 URI of its key, `store:pkcs11:…` (nginx 1.29 on).
    pub(in super::super) token_pairs: Vec<TokenPair>,
    /// `ssl_password_file`.
    pub(in super::super) passwords: Option<PathBuf>,
    /// `ssl_client_certificate` and `ssl_trusted_certificate`.
    pub(in super::super) authorities: Vec<PathBuf>,
    /// What nginx finds out only when it runs, or asks somebody else for: variables, engines, stores.
    pub(in super::super) elsewhere: Vec<String>,
    /// Whether the files only stand in for what Lua chooses (OpenResty, APISIX).
    pub(in super::super) placeholders: bool,
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

/// A certificate file and the URI of its key, which may hold a PIN.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct TokenPair {
    pub(in super::super) certificate: PathBuf,
    pub(in super::super) uri: String,
}

impl std::fmt::Debug for TokenPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenPair").field("certificate", &self.certificate).finish_non_exhaustive()
    }
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
    by_lua: Option<String>,
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
        let lua = block.iter().find(|directive| directive.words[0].starts_with("ssl_certificate_by_lua"));
        named.by_lua = lua.map(|directive| directive.words[0].clone()).or(named.by_lua);
        let keys = texts("ssl_certificate_key");
        if !keys.is_empty() {
            named.keys = keys;
        }
        named
    }

    /// None when it names no file.
    fn identity(&self, label: String, side: Side, profile: Profile, directory: &Path) -> Option<Identity> {
        let mut elsewhere: Vec<String> = self.by_lua.iter().cloned().collect();
        let mut pairs = Vec::new();
        let mut token_pairs = Vec::new();
        for (certificate, key) in self.certificates.iter().zip(&self.keys) {
            let uri = key.strip_prefix("store:").filter(|uri| qtls_pkcs11::Uri::is_one(uri));
            if let (Some(uri), Some(certificate)) = (uri, file(certificate, directory)) {
                token_pairs.push(TokenPair { certificate, uri: uri.to_owned() });
                continue;
            }
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
        (!(pairs.is_empty()
            && token_pairs.is_empty()
            && elsewhere.is_empty()
            && authorities.is_empty()
            && !verifies_clients))
            .then(|| Identity {
                label,
                side,
                pairs,
                token_pairs,
                passwords: self.passwords.as_ref().and_then(|text| file(text, directory)),
                authorities,
                elsewhere,
                placeholders: self.by_lua.is_some(),
                verifies_clients,
                tickets: self.tickets.as_ref().is_none_or(|value| value != "off"),
                profile,
            })
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

#[cfg(test)]
mod tests {
    use super::super::{Build, read_settings};
    use super::*;

    fn identities_of(text: &str) -> Vec<Identity> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("nginx.conf");
        std::fs::write(&file, text).unwrap();
        let build =
            Build::parse("nginx version: nginx/1.26.0\nconfigure arguments: --prefix=/etc/nginx\n").unwrap();
        let mut found = read_settings(&file, &build).unwrap().identities;
        // What is relative is so to the file.
        for pair in found.iter_mut().flat_map(|identity| &mut identity.pairs) {
            for path in [&mut pair.certificate, &mut pair.key] {
                if let Ok(relative) = path.strip_prefix(directory.path()) {
                    *path = relative.to_owned();
                }
            }
        }
        found
    }

    fn pairs(identity: &Identity) -> Vec<(&str, &str)> {
        identity
            .pairs
            .iter()
            .map(|pair| (pair.certificate.to_str().unwrap(), pair.key.to_str().unwrap()))
            .collect()
    }

    #[test]
    fn a_server_inherits_certificates_as_a_whole_and_pairs_them_in_order() {
        let found = identities_of(
            "http { ssl_certificate a.pem; ssl_certificate_key /k/a.key; ssl_verify_client optional;\n\
             server { listen 443 ssl; server_name one; }\n\
             server { listen 443 ssl; server_name two; ssl_certificate b.pem; ssl_certificate c.pem;\n\
             ssl_certificate_key b.key; ssl_certificate_key c.key; ssl_session_tickets off; }\n\
             server { listen 80; ssl_certificate unused.pem; ssl_certificate_key unused.key; }\n\
             server { listen 443 ssl; server_name like-one; } }",
        );
        let [one, two] = &found[..] else { panic!("{found:#?}") };
        assert_eq!(pairs(one), [("a.pem", "/k/a.key")]);
        assert!(one.label.starts_with("server one (") && one.verifies_clients && one.tickets);
        assert_eq!(pairs(two), [("b.pem", "b.key"), ("c.pem", "c.key")]);
        assert!(two.verifies_clients && !two.tickets);
    }

    #[test]
    fn what_is_no_file_is_named_and_not_looked_for() {
        let found = identities_of(
            "http { server { listen 443 ssl; ssl_certificate $name.pem; ssl_certificate_key $name.key; }\n\
             server { listen 444 ssl; ssl_certificate a.pem; ssl_certificate_key engine:pkcs11:x; }\n\
             server { listen 445 ssl; ssl_certificate a.pem; ssl_certificate_key a.key;\n\
             ssl_certificate_by_lua_block { choose() } } }",
        );
        let elsewhere: Vec<&str> =
            found.iter().flat_map(|identity| &identity.elsewhere).map(String::as_str).collect();
        assert_eq!(elsewhere, ["$name.pem", "engine:pkcs11:x", "ssl_certificate_by_lua_block"]);
        assert_eq!(
            found.iter().map(|identity| identity.placeholders).collect::<Vec<_>>(),
            [false, false, true]
        );
    }

    #[test]
    fn a_key_that_a_store_has_in_a_token_is_paired_with_its_certificate() {
        let found = identities_of(
            "http { server { listen 443 ssl; ssl_certificate /a.pem; ssl_certificate_key \"store:pkcs11:object=a?pin-value=4711\"; } }",
        );
        assert_eq!(found[0].token_pairs.len(), 1);
        assert_eq!(found[0].token_pairs[0].uri, "pkcs11:object=a?pin-value=4711");
        assert!(found[0].pairs.is_empty() && found[0].elsewhere.is_empty());
        assert!(!format!("{found:?}").contains("4711"));
    }

    #[test]
    fn certificates_for_upstreams_are_found_where_they_are_set() {
        let found = identities_of(
            "http { proxy_ssl_certificate outer.pem; proxy_ssl_certificate_key outer.key;\n\
             server { location / { grpc_ssl_certificate g.pem; grpc_ssl_certificate_key g.key;\n\
             if ($x) { proxy_ssl_certificate inner.pem; proxy_ssl_certificate_key inner.key; } } } }",
        );
        let named: Vec<_> = found.iter().map(|identity| (identity.side, pairs(identity))).collect();
        let expected = ["outer", "inner", "g"].map(|name| format!("{name}.pem"));
        assert_eq!(named.iter().map(|(_, pairs)| pairs[0].0).collect::<Vec<_>>(), expected);
        assert!(named.iter().all(|(side, _)| *side == Side::Client));
    }
}
