//! The table of checks, and the findings it is filled with.

use serde::Serialize;

/// One thing that silently goes wrong.
pub(super) struct Check {
    /// Stable name for scripts.
    pub(super) id: &'static str,
    /// What is right when it is right.
    pub(super) title: &'static str,
    /// Why it matters, for the documentation.
    pub(super) why: &'static str,
}

/// Every check, in the order of the report: from the program to the handshake, then the running process.
pub(super) const CHECKS: [Check; 52] = [
    Check {
        id: "program",
        title: "The program can be examined",
        why: "The program is read as an ELF file; a wrapper script has no libssl of its own.",
    },
    Check {
        id: "libssl",
        title: "The program's libssl is found and loads",
        why: "Resolved by the program's own dynamic loader in the program's own environment: a private OpenSSL (APISIX, \
              OpenResty) or a second one in LD_LIBRARY_PATH is a different library with a different openssl.cnf.",
    },
    Check {
        id: "static-openssl",
        title: "OpenSSL is a shared library",
        why: "A program with OpenSSL inside can be looked at from outside only, and an nginx built with --with-openssl \
              reads a configuration only when OPENSSL_CONF is set (from 1.25.2; before that never).",
    },
    Check {
        id: "openssl-version",
        title: "This OpenSSL can do what is asked",
        why: "Providers need 3.0; ML-DSA certificates in TLS need 3.2. libssl and libcrypto must be of one version.",
    },
    Check {
        id: "library-path",
        title: "No loader variable changes the library",
        why: "LD_LIBRARY_PATH and LD_PRELOAD decide which libssl is used, and are often set for one start of the \
              service but not for the next.",
    },
    Check {
        id: "environment-ignored",
        title: "OPENSSL_CONF is honoured",
        why: "OpenSSL reads its variables by secure_getenv: under setuid, setgid, file capabilities or an AppArmor \
              transition that scrubs the environment they do not exist.",
    },
    Check {
        id: "configuration-read",
        title: "The right configuration file is read",
        why: "Without OPENSSL_CONF the file in OpenSSL's own directory is read, whatever was prepared elsewhere.",
    },
    Check {
        id: "configuration-file",
        title: "The configuration file can be read by the service",
        why: "A missing or unreadable file is not an error to most programs: they start without it.",
    },
    Check {
        id: "configuration-permissions",
        title: "Nobody else can change the configuration file",
        why: "Who can write the file can load code into the server, often as root.",
    },
    Check {
        id: "configuration-syntax",
        title: "The configuration file is well-formed",
        why: "nginx starts happily with a file that OpenSSL can't parse.",
    },
    Check {
        id: "application-section",
        title: "The section the program starts from is the intended one",
        why: "nginx looks for a line `nginx = section` before `openssl_conf` from 1.25.2 on, and never before that.",
    },
    Check {
        id: "diagnostics",
        title: "Errors in the configuration stop the start",
        why: "Without `config_diagnostics = 1` OpenSSL swallows every error of the configuration and nginx goes on \
              with classical key exchange.",
    },
    Check {
        id: "provider-section",
        title: "The provider is listed and activated",
        why: "The chain openssl_conf → providers → the provider's section → `activate = 1` breaks at one misspelt name, \
              and OpenSSL says nothing.",
    },
    Check {
        id: "module-file",
        title: "The module is where the configuration says",
        why: "A module without an absolute path is looked for in OPENSSL_MODULES, else in OpenSSL's own directory.",
    },
    Check {
        id: "module-permissions",
        title: "Nobody else can change the module",
        why: "The module is code that the server runs, as root where nginx is started by root.",
    },
    Check {
        id: "module-loads",
        title: "The dynamic loader accepts the module",
        why: "Wrong architecture, a C library that is too old, no OSSL_provider_init: only the loader knows.",
    },
    Check {
        id: "provider-options",
        title: "The provider's options are right",
        why: "A wrong value makes the provider refuse to start; a misspelt name is ignored.",
    },
    Check {
        id: "provider-active",
        title: "The provider is active and healthy",
        why: "Asked of the library after it has started as the program starts it; the self-test is run.",
    },
    Check {
        id: "default-provider",
        title: "The default provider is active",
        why: "As soon as a configuration activates any provider, OpenSSL no longer activates `default` by itself; then \
              there is no AES, no SHA-2, no certificate.",
    },
    Check {
        id: "provider-order",
        title: "The default provider is listed first",
        why: "A provider listed before `default` takes precedence for every algorithm both have.",
    },
    Check {
        id: "properties",
        title: "The default properties fit",
        why: "`native = prefer` works through `default_properties = ?provider=qtls`; a mandatory `provider=` breaks \
              everything that the named provider lacks, random numbers first.",
    },
    Check {
        id: "shadowing",
        title: "No other provider takes the groups over",
        why: "Where several providers have an algorithm only one is used, and not always the one meant.",
    },
    Check {
        id: "foreign-key-types",
        title: "No peer's certificate can crash this libssl",
        why: "From 3.2 to 3.4 libssl reads past a table for a certificate's key type that no provider lists, as soon as any \
              offers TLS signatures. Q-TLS lists OpenSSL's own key types and its own; beside another provider it offers none.",
    },
    Check {
        id: "group-lists",
        title: "OpenSSL accepts the configured lists of groups",
        why: "One unknown or repeated name rejects the whole list, names are case-sensitive before 3.5, and with a \
              rejected list in openssl.cnf the default list stays.",
    },
    Check {
        id: "groups-configured",
        title: "Post-quantum groups are offered",
        why: "Up to 3.4 the default list is a fixed one: a provider's groups are never offered unless they are named.",
    },
    Check {
        id: "server-settings",
        title: "nginx's own settings do not undo the configuration",
        why: "ssl_ecdh_curve and ssl_conf_command replace the groups of openssl.cnf, ssl_protocols its protocols, and \
              on a socket those of the default server count.",
    },
    Check {
        id: "tls-1-3",
        title: "TLS 1.3 is on",
        why: "There is no post-quantum key exchange in TLS 1.2; nginx before 1.23.4 has TLS 1.3 only when \
              ssl_protocols names it.",
    },
    Check {
        id: "handshake",
        title: "A capable client gets a post-quantum group",
        why: "A real handshake in memory with the program's libssl, configuration and settings.",
    },
    Check {
        id: "key-share",
        title: "A capable client with a classical share gets a post-quantum group",
        why: "Up to 3.4 a server takes the first share it can use and never asks for a better group: a client that \
              offers X25519MLKEM768 but sends a share of X25519 stays classical. A server from 3.5 on asks.",
    },
    Check {
        id: "mode",
        title: "What is accepted is what was asked for",
        why: "With --require: every group is asked of the server by itself, so that what it accepts is known, not \
              guessed from its configuration.",
    },
    Check {
        id: "tls-1-2",
        title: "TLS 1.2 does not go around the mode",
        why: "TLS 1.2 has key exchanges that no list of groups limits, none of them post-quantum.",
    },
    Check {
        id: "certificate-files",
        title: "The service can read its certificates and keys",
        why: "Every ssl_certificate, ssl_certificate_key, ssl_client_certificate and ssl_trusted_certificate of nginx, and \
              those for upstreams, are read as the service's user. A key that everybody can read is a warning.",
    },
    Check {
        id: "certificate-keys",
        title: "Each key is one to this libcrypto, and its certificate's",
        why: "Whether a file is a key depends on the providers: ML-DSA's are none to OpenSSL before 3.5 alone. nginx \
              starts with a certificate and a key of different types, and then every handshake fails.",
    },
    Check {
        id: "certificate-usable",
        title: "TLS of this libssl can use each certificate",
        why: "An ML-DSA certificate needs libssl 3.2, a composite key signs certificates only, and the security level \
              refuses what is weak. nginx does not start then.",
    },
    Check {
        id: "certificate-chain",
        title: "Each chain is complete",
        why: "A missing intermediate is no error to nginx, and none to browsers that have met it before: other clients fail.",
    },
    Check {
        id: "certificate-validity",
        title: "No certificate is expired, or will be soon",
        why: "Less than 30 days are a warning; the certificates of the chain and of the authorities for clients count as well.",
    },
    Check {
        id: "certificate-clients",
        title: "Every kind of client gets a certificate it can verify",
        why: "ML-DSA alone shuts out every browser of today. With a classical pair beside it each client gets what it can \
              verify, which is tried by handshakes in memory.",
    },
    Check {
        id: "ml-dsa",
        title: "A client that knows ML-DSA gets an ML-DSA certificate",
        why: "With --require ml-dsa. A real handshake in memory with the configured certificates; the order of schemes can \
              keep the classical one in front.",
    },
    Check {
        id: "session-size",
        title: "A session with a client's certificate fits into nginx's cache",
        why: "nginx keeps no session above 4,096 bytes (8,192 from 1.29.2) and does not say so. One that holds a client's \
              ML-DSA-65 certificate has more than 5,500, so such clients never resume.",
    },
    Check {
        id: "hsm-options",
        title: "The options of tokens are right, and there where they are needed",
        why: "A key file can name a key in a PKCS#11 token, which is found only with pkcs11-module in the provider's section, and \
              with the provider listed behind default. OpenSSL ignores a misspelt option.",
    },
    Check {
        id: "hsm-module",
        title: "The HSM's module loads and answers",
        why: "With --hsm, in a process of its own: a module that crashes or hangs is a finding. Its code runs in the server, so \
              nobody else may be able to change it, and the workers must be able to read it.",
    },
    Check {
        id: "hsm-token",
        title: "The token is there, and only one fits",
        why: "With --hsm: asked of the module with the service's environment (SOFTHSM2_CONF and its like), which is often not the \
              shell's.",
    },
    Check {
        id: "hsm-pin",
        title: "The PIN can be had, and not by everybody",
        why: "With --hsm: its file, variable, command or credential is read as the user that starts the server.",
    },
    Check {
        id: "hsm-login",
        title: "The token takes the PIN",
        why: "With --hsm: one login, which counts as a try when the PIN is wrong; none where the next wrong one locks the token.",
    },
    Check {
        id: "hsm-key",
        title: "Each key that nginx's configuration names is in the token, once",
        why: "With --hsm: key files with a `PKCS#11 PROVIDER URI` block, and `store:pkcs11:…`. The public key in the file has to be \
              the token's.",
    },
    Check {
        id: "hsm-certificate",
        title: "Each key in the token is its certificate's",
        why: "With --hsm: with a certificate of another key the server may start, and every handshake fails.",
    },
    Check {
        id: "hsm-signature",
        title: "Each key signs, as nginx's workers do",
        why: "With --hsm: a trial signature as the workers' user, verified with the public key. Workers have fewer rights than the \
              master that reads the keys.",
    },
    Check {
        id: "hsm-failover",
        title: "The other tokens and software keys could take over",
        why: "With --hsm: each is looked at by itself, since nobody notices one that fails before it is needed.",
    },
    Check {
        id: "hsm-running",
        title: "Running servers reach their tokens",
        why: "From the counters that servers share (`qtls hsm status`): connected, PIN refused, time-outs, failovers.",
    },
    Check {
        id: "confinement",
        title: "The sandbox shows the service its files",
        why: "ProtectHome, PrivateTmp, RootDirectory and AppArmor profiles hide files from the service that everybody \
              else sees.",
    },
    Check {
        id: "running-process",
        title: "The running process has this configuration",
        why: "nginx reads openssl.cnf and loads the module when it starts, not at a reload.",
    },
    Check {
        id: "outside",
        title: "The server, asked from outside, accepts post-quantum groups",
        why: "With --connect HOST:PORT: one ClientHello a group; a HelloRetryRequest tells what the server accepts.",
    },
];

/// How a check ended. The order is the order of gravity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    /// It does not apply, or could not be done.
    Skipped,
    /// Right.
    Ok,
    /// Right for now, or meant perhaps.
    Warn,
    /// Wrong.
    Fail,
}

/// What was found for one check.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Finding {
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    pub(super) status: Status,
    /// What was found, one line each, the worst first.
    pub(super) found: Vec<String>,
    /// How grave each of these lines is.
    #[serde(skip)]
    pub(super) gravity: Vec<Status>,
    /// What to do, one line each.
    pub(super) mend: Vec<String>,
}

/// A finding for every check of the table.
pub(super) struct Findings(Vec<Finding>);

impl Findings {
    /// Nothing found yet: every check skipped.
    pub(super) fn new() -> Self {
        let blank = |check: &Check| Finding {
            id: check.id,
            title: check.title,
            status: Status::Skipped,
            found: Vec::new(),
            gravity: Vec::new(),
            mend: Vec::new(),
        };
        Self(CHECKS.iter().map(blank).collect())
    }

    fn add(&mut self, id: &str, status: Status, found: impl Into<String>, mend: &[String]) {
        let finding = self.0.iter_mut().find(|finding| finding.id == id);
        // Every id in the code is in the table; the tests go through each.
        let Some(finding) = finding else { unreachable!("no check {id}") };
        if finding.status == Status::Skipped {
            // A reason to skip is void once something was found.
            finding.found.clear();
            finding.gravity.clear();
        }
        let found = found.into();
        // Several servers may use one file.
        if !finding.found.contains(&found) {
            let at = finding.gravity.partition_point(|known| *known >= status);
            finding.found.insert(at, found);
            finding.gravity.insert(at, status);
        }
        finding.status = finding.status.max(status);
        for line in mend {
            if !finding.mend.contains(line) {
                finding.mend.push(line.clone());
            }
        }
    }

    /// It is right.
    pub(super) fn ok(&mut self, id: &str, found: impl Into<String>) {
        self.add(id, Status::Ok, found, &[]);
    }

    /// It is wrong; `mend` tells what to do.
    pub(super) fn fail(&mut self, id: &str, found: impl Into<String>, mend: impl Mend) {
        self.add(id, Status::Fail, found, &mend.lines());
    }

    /// It may be wrong.
    pub(super) fn warn(&mut self, id: &str, found: impl Into<String>, mend: impl Mend) {
        self.add(id, Status::Warn, found, &mend.lines());
    }

    /// It was not looked at, for a reason.
    pub(super) fn skip(&mut self, id: &str, reason: impl Into<String>) {
        if self.status(id) == Status::Skipped {
            self.add(id, Status::Skipped, reason, &[]);
        }
    }

    /// Gives every check without a finding a reason for that.
    pub(super) fn skip_rest(&mut self, reason: &str) {
        for finding in self.0.iter_mut().filter(|finding| finding.found.is_empty()) {
            finding.found.push(reason.to_owned());
            finding.gravity.push(Status::Skipped);
        }
    }

    /// How a check stands.
    pub(super) fn status(&self, id: &str) -> Status {
        self.0.iter().find(|finding| finding.id == id).map_or(Status::Skipped, |finding| finding.status)
    }

    /// All findings, in the order of the table.
    pub(super) fn all(&self) -> &[Finding] {
        &self.0
    }

    /// How many findings have a status.
    pub(super) fn count(&self, status: Status) -> usize {
        self.0.iter().filter(|finding| finding.status == status).count()
    }
}

/// Lines that tell how to mend something.
pub(super) trait Mend {
    /// The lines.
    fn lines(self) -> Vec<String>;
}

impl Mend for &str {
    fn lines(self) -> Vec<String> {
        self.lines().map(str::to_owned).collect()
    }
}

impl Mend for String {
    fn lines(self) -> Vec<String> {
        self.as_str().lines().map(str::to_owned).collect()
    }
}

impl Mend for Vec<String> {
    fn lines(self) -> Vec<String> {
        self
    }
}

/// The page `docs/doctor.md`'s table of checks, as Markdown.
pub(super) fn as_markdown() -> String {
    let mut text = String::from("| check | right when | why it is looked at |\n|---|---|---|\n");
    for check in &CHECKS {
        text += &format!("| `{}` | {} | {} |\n", check.id, check.title, check.why);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_fit_for_scripts() {
        for (index, check) in CHECKS.iter().enumerate() {
            assert!(
                check
                    .id
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            );
            assert!(CHECKS[..index].iter().all(|other| other.id != check.id), "{}", check.id);
        }
    }

    #[test]
    fn the_worst_finding_counts_and_a_skip_never_hides_one() {
        let mut findings = Findings::new();
        findings.skip("mode", "no mode was asked for");
        findings.fail("mode", "wrong", "mend it");
        findings.ok("mode", "right");
        findings.warn("mode", "odd", "look at it");
        findings.ok("mode", "right");
        findings.skip("mode", "late");
        let finding = findings.all().iter().find(|finding| finding.id == "mode").unwrap();
        assert_eq!(finding.status, Status::Fail);
        assert_eq!(finding.found, ["wrong", "odd", "right"]);
        assert_eq!(finding.mend, ["mend it", "look at it"]);
    }

    #[test]
    fn the_documentation_has_the_table_as_it_is() {
        let page = include_str!("../../../docs/doctor.md");
        assert!(
            page.contains(&as_markdown()),
            "docs/doctor.md is behind: put in the output of `qtls doctor --list-checks`"
        );
    }
}
