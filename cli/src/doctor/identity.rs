//! Certificates and keys, looked at by the inner process: as the service's user, with the service's libssl.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use qtls_cli::probe::certificate::Certificate;
use qtls_cli::probe::chain::is_signed_by;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::inner::{Report, capable_client, set_up_server, step};
use super::nginx::{Identity, Pair, Side};
use super::tokens::uri_in_key_file;
use crate::libssl::{Context, IdentityStep, OpenSsl};

/// What a client without ML-DSA offers, browsers among them.
const CLASSICAL_SCHEMES: &str = "ecdsa_secp256r1_sha256:ecdsa_secp384r1_sha384:ecdsa_secp521r1_sha512:ed25519:ed448:\
                                 rsa_pss_rsae_sha256:rsa_pss_rsae_sha384:rsa_pss_rsae_sha512:rsa_pss_pss_sha256:\
                                 rsa_pss_pss_sha384:rsa_pss_pss_sha512:rsa_pkcs1_sha256:rsa_pkcs1_sha384:rsa_pkcs1_sha512";

/// What one server, or one connection to an upstream, has.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct IdentityFacts {
    /// What the configuration says.
    pub(super) identity: Identity,
    /// Every file that was looked at.
    pub(super) files: Vec<FileFacts>,
    /// As [`Identity::pairs`], those that could be read.
    pub(super) pairs: Vec<PairFacts>,
    /// The certificates of the CA files, by file.
    pub(super) authorities: Vec<(PathBuf, Result<Vec<Authority>, String>)>,
    /// What a client that knows ML-DSA gets; none where none could be tried.
    pub(super) capable: Option<Shown>,
    /// What a client that does not gets.
    pub(super) classical: Option<Shown>,
}

/// An authority for peers' certificates.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Authority {
    pub(super) certificate: Certificate,
    /// Why libcrypto can make nothing of its key.
    pub(super) key_problem: Option<Vec<String>>,
}

/// Whether a file can be read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct FileFacts {
    pub(super) path: PathBuf,
    /// Why not.
    pub(super) error: Option<String>,
    /// Whether it is there and not for this user.
    pub(super) denied: bool,
    /// A private key that everybody can read.
    pub(super) exposed: bool,
}

/// One certificate chain and its key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct PairFacts {
    pub(super) pair: Pair,
    /// Leaf first.
    pub(super) chain: Vec<Certificate>,
    /// What this program does not find in order with the chain; OpenSSL's words are among the refusals.
    pub(super) chain_end: ChainEnd,
    pub(super) refusals: Vec<(IdentityStep, Vec<String>)>,
    /// Whether the key file has a block of PEM for a private key, of whatever kind.
    pub(super) key_is_pem: bool,
    /// Whether the key file names a key in a token.
    pub(super) key_in_token: bool,
}

/// Where a chain of certificates leads.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum ChainEnd {
    /// To a root, which is in the file.
    Root,
    /// To a root that this machine or a CA file of the configuration knows.
    KnownRoot(String),
    /// To an issuer that is not known here.
    Unknown(String),
    /// Not on: a certificate is not followed by its issuer, which stands elsewhere in the file.
    OutOfOrder(String),
    /// Not on: a certificate is followed by others, none of them its issuer.
    Broken(String),
    /// The next certificate has the issuer's name, and its key did not make the signature.
    FalseSignature(String),
    /// Not known: a certificate can't be parsed.
    Unreadable(String),
}

/// What a server showed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Shown {
    /// A certificate with this key.
    Key(String),
    /// None: the handshake failed.
    Nothing(Vec<String>),
}

/// Looks at everything one identity names.
pub(super) fn examine_identity(openssl: &OpenSsl, identity: &Identity, report: &Report) -> IdentityFacts {
    step(&format!("reading the certificates of {}", identity.label));
    let mut files = Files::default();
    let passwords = identity.passwords.as_ref().and_then(|path| files.read(path, false));
    let passwords: Vec<String> = passwords
        .map(|text| String::from_utf8_lossy(&text).lines().map(str::to_owned).collect())
        .unwrap_or_default();
    let authorities: Vec<(PathBuf, Result<Vec<CertificateDer<'static>>, String>)> = identity
        .authorities
        .iter()
        .filter_map(|path| Some((path.clone(), certificates_in(&files.read(path, false)?))))
        .collect();
    let known: Vec<&CertificateDer<'_>> =
        authorities.iter().filter_map(|(_, found)| found.as_ref().ok()).flatten().collect();

    let server = openssl.context();
    let mut pairs = Vec::new();
    for pair in &identity.pairs {
        let (chain, key) = (files.read(&pair.certificate, false), files.read(&pair.key, true));
        let (Some(chain), Some(key), Some(server)) = (chain, key, &server) else { continue };
        step(&format!("giving {} to libssl", pair.certificate.display()));
        let refusals = server.use_identity(&chain, &key, &passwords);
        let (chain, chain_end) = match certificates_in(&chain)
            .and_then(|chain| describe(&chain).map(|described| (chain, described)))
        {
            Ok((chain, described)) => {
                let end = end_of(&chain, &described, &known);
                (described, end)
            }
            Err(error) => (Vec::new(), ChainEnd::Unreadable(error)),
        };
        let key_is_pem = key.split(|byte| *byte == b'\n').any(|line| {
            line.starts_with(b"-----BEGIN ") && line.trim_ascii_end().ends_with(b"PRIVATE KEY-----")
        });
        let key_in_token = uri_in_key_file(&key).is_some();
        pairs.push(PairFacts { pair: pair.clone(), chain, chain_end, refusals, key_is_pem, key_in_token });
    }
    let (mut capable, mut classical) = (None, None);
    if let Some(server) = server.filter(|_| identity.side == Side::Server && !pairs.is_empty())
        && set_up_server(openssl, &server, &identity.profile).is_empty()
    {
        step(&format!("handshakes with the certificates of {}", identity.label));
        let capable_schemes = [&report.ml_dsa.join(":"), CLASSICAL_SCHEMES].join(":");
        capable = (!report.ml_dsa.is_empty()).then(|| shown(openssl, &server, report, &capable_schemes));
        classical = Some(shown(openssl, &server, report, CLASSICAL_SCHEMES));
    }
    step(&format!("asking for the keys of the authorities of {}", identity.label));
    let authority = |der: &CertificateDer<'_>| {
        let key_problem = openssl.public_key_problem(der);
        Certificate::describe(der).map(|certificate| Authority { certificate, key_problem })
    };
    let authorities = authorities
        .iter()
        .map(|(path, found)| {
            let found = found.as_ref().map_err(Clone::clone);
            (path.clone(), found.and_then(|found| found.iter().map(authority).collect()))
        })
        .collect();
    IdentityFacts { identity: identity.clone(), files: files.0, pairs, authorities, capable, classical }
}

/// Files that were read, each once in the list.
#[derive(Default)]
struct Files(Vec<FileFacts>);

impl Files {
    fn read(&mut self, path: &Path, secret: bool) -> Option<Zeroizing<Vec<u8>>> {
        const READABLE_BY_ALL: u32 = 0o004;
        let read = std::fs::read(path).map(Zeroizing::new);
        let mode = std::fs::metadata(path).map_or(0, |data| data.mode());
        // A file that only names a key, without a PIN, is no secret.
        let harmless = |text: &[u8]| {
            let uri = uri_in_key_file(text);
            uri.is_some_and(|uri| uri.is_ok_and(|uri| uri.pin_value.is_none()))
        };
        let facts = FileFacts {
            path: path.to_path_buf(),
            error: read.as_ref().err().map(ToString::to_string),
            denied: read.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied),
            exposed: secret && mode & READABLE_BY_ALL != 0 && !read.as_ref().is_ok_and(|text| harmless(text)),
        };
        if !self.0.iter().any(|known| known.path == path && known.exposed == facts.exposed) {
            self.0.push(facts);
        }
        read.ok()
    }
}

/// The certificates of a PEM file, at least one.
fn certificates_in(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err("it holds no certificate".to_owned()),
        Ok(found) => Ok(found),
        Err(error) => Err(format!("it is no PEM file: {error}")),
    }
}

fn describe(certificates: &[CertificateDer<'_>]) -> Result<Vec<Certificate>, String> {
    certificates.iter().map(Certificate::describe).collect()
}

fn end_of(
    chain: &[CertificateDer<'_>],
    described: &[Certificate],
    authorities: &[&CertificateDer<'_>],
) -> ChainEnd {
    for (index, certificate) in described.iter().enumerate() {
        let subject = certificate.subject.clone();
        if certificate.self_issued {
            return ChainEnd::Root;
        }
        let Some(next) = described.get(index + 1) else {
            let known = system_roots().get(&certificate.issuer).map(Vec::as_slice).unwrap_or_default();
            let mut roots = authorities.iter().copied().chain(known);
            return match roots.find(|root| is_signed_by(&chain[index], root) == Some(true)) {
                Some(_) => ChainEnd::KnownRoot(certificate.issuer.clone()),
                None => ChainEnd::Unknown(certificate.issuer.clone()),
            };
        };
        if next.subject != certificate.issuer {
            let elsewhere = described.iter().any(|other| other.subject == certificate.issuer);
            return if elsewhere { ChainEnd::OutOfOrder(subject) } else { ChainEnd::Broken(subject) };
        }
        if is_signed_by(&chain[index], &chain[index + 1]) == Some(false) {
            return ChainEnd::FalseSignature(subject);
        }
    }
    ChainEnd::Unreadable("it holds no certificate".to_owned())
}

/// The roots this machine trusts, by their names.
fn system_roots() -> &'static BTreeMap<String, Vec<CertificateDer<'static>>> {
    static ROOTS: LazyLock<BTreeMap<String, Vec<CertificateDer<'static>>>> = LazyLock::new(|| {
        let mut roots: BTreeMap<String, Vec<CertificateDer<'static>>> = BTreeMap::new();
        for root in rustls_native_certs::load_native_certs().certs {
            if let Ok(described) = Certificate::describe(&root) {
                roots.entry(described.subject).or_default().push(root);
            }
        }
        roots
    });
    &ROOTS
}

fn shown(openssl: &OpenSsl, server: &Context<'_>, report: &Report, schemes: &str) -> Shown {
    let Some(client) = capable_client(openssl, report).filter(|client| client.set_signature_schemes(schemes))
    else {
        return Shown::Nothing(openssl.take_errors());
    };
    let handshake = server.handshake_with(&client);
    match Certificate::describe(&CertificateDer::from(handshake.certificate)) {
        Ok(certificate) if handshake.completed => Shown::Key(certificate.key),
        _ => Shown::Nothing(handshake.errors),
    }
}
