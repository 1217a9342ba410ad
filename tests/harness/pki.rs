//! Certificates with keys of every type, made by the `openssl` command of Debian 13 with the provider.

use std::{
    collections::BTreeMap,
    fs,
    process::Command,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use anyhow::{Context, Result, ensure};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::{
    openssl_conf::OpensslConf,
    platform::{DEBIAN_13, WorkDir},
};

/// A type of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyType {
    /// What failures call it.
    pub name: &'static str,
    /// The arguments of `openssl genpkey`.
    genpkey: &'static [&'static str],
}

const fn key_type(name: &'static str, genpkey: &'static [&'static str]) -> KeyType {
    KeyType { name, genpkey }
}

/// One whose name is its algorithm's.
const fn plain(genpkey: &'static [&'static str; 2]) -> KeyType {
    KeyType { name: genpkey[1], genpkey }
}

/// ECDSA on P-256.
pub const ECDSA: KeyType = key_type("ECDSA", &["-algorithm", "EC", "-pkeyopt", "group:P-256"]);
/// RSA of 2048 bits.
pub const RSA: KeyType = key_type("RSA", &["-algorithm", "RSA", "-pkeyopt", "bits:2048"]);
/// ML-DSA-44.
pub const ML_DSA_44: KeyType = plain(&["-algorithm", "ML-DSA-44"]);
/// ML-DSA-65.
pub const ML_DSA_65: KeyType = plain(&["-algorithm", "ML-DSA-65"]);
/// ML-DSA-87.
pub const ML_DSA_87: KeyType = plain(&["-algorithm", "ML-DSA-87"]);
/// Those with a TLS signature scheme, each with its name there and its code point (draft-ietf-tls-mldsa).
pub const ML_DSA: [(KeyType, &str, u16); 3] =
    [(ML_DSA_44, "mldsa44", 0x0904), (ML_DSA_65, "mldsa65", 0x0905), (ML_DSA_87, "mldsa87", 0x0906)];
/// The composite of ML-DSA-65 and ECDSA P-256.
pub const COMPOSITE: KeyType = COMPOSITES[1];
/// Every composite (draft-ietf-lamps-pq-composite-sigs).
pub const COMPOSITES: [KeyType; 5] = [
    plain(&["-algorithm", "id-MLDSA44-ECDSA-P256-SHA256"]),
    plain(&["-algorithm", "id-MLDSA65-ECDSA-P256-SHA512"]),
    plain(&["-algorithm", "id-MLDSA65-ECDSA-P384-SHA512"]),
    plain(&["-algorithm", "id-MLDSA65-Ed25519-SHA512"]),
    plain(&["-algorithm", "id-MLDSA87-ECDSA-P384-SHA512"]),
];
/// Types that sign nothing in TLS, though a certificate may hold them.
pub const OTHERS: [KeyType; 8] = [
    plain(&["-algorithm", "X25519"]),
    plain(&["-algorithm", "X448"]),
    key_type("DH", &["-algorithm", "DH", "-pkeyopt", "group:ffdhe2048"]),
    key_type("DHX (X9.42)", &["-algorithm", "DHX", "-pkeyopt", "dh_rfc5114:2"]),
    plain(&["-algorithm", "SM2"]),
    plain(&["-algorithm", "ML-KEM-512"]),
    plain(&["-algorithm", "ML-KEM-768"]),
    plain(&["-algorithm", "ML-KEM-1024"]),
];

/// Every type of key that a peer's certificate may hold on a libcrypto with the provider, and that signs nothing there.
pub fn unusable() -> impl Iterator<Item = KeyType> {
    OTHERS.into_iter().chain(COMPOSITES)
}

/// A root certificate.
#[derive(Debug)]
pub struct Root {
    /// PEM.
    pub pem: String,
    /// DER.
    pub der: CertificateDer<'static>,
}

/// A certificate for `localhost`, for servers and clients.
#[derive(Debug)]
pub struct Leaf {
    /// The certificate and what lies between it and the root, PEM.
    pub chain: String,
    /// The same, DER.
    pub chain_der: Vec<CertificateDer<'static>>,
    /// What lies between it and the root alone, PEM; empty without.
    pub intermediates: String,
    /// The private key, PKCS#8 PEM.
    pub key: String,
}

impl Leaf {
    fn new(made: Authority, intermediates: String) -> Result<Leaf> {
        let chain = made.certificate.pem.clone() + &intermediates;
        let chain_der = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<_, _>>()?;
        Ok(Leaf { chain, chain_der, intermediates, key: made.key })
    }

    /// The certificate's own DER.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.chain_der[0]
    }

    /// The private key for rustls.
    pub fn key_der(&self) -> Result<PrivateKeyDer<'static>> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).context("the private key of a test's certificate")
    }
}

/// What a leaf is issued by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Issuer {
    Root(KeyType),
    /// An intermediate authority with such a key, under a root with such a key.
    Intermediate(KeyType),
}

/// Roots, one for each type of key, and what they issue; each is made when it is first asked for.
#[derive(Default)]
pub struct Pki {
    made: Mutex<Made>,
}

#[derive(Default)]
struct Made {
    roots: BTreeMap<KeyType, Authority>,
    intermediates: BTreeMap<KeyType, Authority>,
    leaves: BTreeMap<(Issuer, KeyType), Arc<Leaf>>,
}

/// A certificate that issues others, and its key, PEM.
#[derive(Clone)]
struct Authority {
    certificate: Arc<Root>,
    key: String,
}

/// What this process's servers and clients trust.
pub fn pki() -> &'static Pki {
    static PKI: LazyLock<Pki> = LazyLock::new(Pki::default);
    &PKI
}

/// Authorities of the same names that nobody trusts.
pub fn strangers() -> &'static Pki {
    static PKI: LazyLock<Pki> = LazyLock::new(Pki::default);
    &PKI
}

impl Pki {
    /// The root with a key of this type.
    pub fn root(&self, key: KeyType) -> Result<Arc<Root>> {
        Ok(self.made().root(key)?.certificate)
    }

    /// The PEM of several roots, one after the other.
    pub fn roots(&self, keys: &[KeyType]) -> Result<String> {
        keys.iter().map(|key| Ok(self.root(*key)?.pem.clone())).collect()
    }

    /// A certificate for a key of the second type under a root of the first.
    pub fn leaf(&self, root: KeyType, key: KeyType) -> Result<Arc<Leaf>> {
        self.made().leaf(Issuer::Root(root), key)
    }

    /// The same with an intermediate authority, whose key is of the root's type.
    pub fn leaf_of_intermediate(&self, root: KeyType, key: KeyType) -> Result<Arc<Leaf>> {
        self.made().leaf(Issuer::Intermediate(root), key)
    }

    /// A certificate under a root of this type for a public key, PEM, whose private half is elsewhere: the leaf's `key` is
    /// empty.
    pub fn leaf_for(&self, root: KeyType, public: &str) -> Result<Leaf> {
        let root = self.made().root(root)?;
        let made = Workshop::new()?.issue_for(&root, public, "/CN=localhost", END_ENTITY)?;
        Leaf::new(made, String::new())
    }

    fn made(&self) -> std::sync::MutexGuard<'_, Made> {
        // A panic in between leaves nothing half made in these maps.
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const AUTHORITY: &str =
    "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n";
const END_ENTITY: &str = "basicConstraints=critical,CA:FALSE\nextendedKeyUsage=serverAuth,clientAuth\n\
                          subjectAltName=DNS:localhost,DNS:other.localhost,IP:127.0.0.1\n\
                          subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n";

impl Made {
    fn root(&mut self, key: KeyType) -> Result<Authority> {
        if let Some(root) = self.roots.get(&key) {
            return Ok(root.clone());
        }
        let root = Workshop::new()?.root(key)?;
        self.roots.insert(key, root.clone());
        Ok(root)
    }

    /// The authority between leaves and the root with a key of this type.
    fn intermediate(&mut self, key: KeyType) -> Result<Authority> {
        if let Some(intermediate) = self.intermediates.get(&key) {
            return Ok(intermediate.clone());
        }
        let subject = format!("/CN={} intermediate of the tests", key.name);
        let intermediate = Workshop::new()?.issue(&self.root(key)?, key, &subject, AUTHORITY)?;
        self.intermediates.insert(key, intermediate.clone());
        Ok(intermediate)
    }

    fn leaf(&mut self, issuer: Issuer, key: KeyType) -> Result<Arc<Leaf>> {
        if let Some(leaf) = self.leaves.get(&(issuer, key)) {
            return Ok(Arc::clone(leaf));
        }
        let (authority, intermediates) = match issuer {
            Issuer::Root(root) => (self.root(root)?, String::new()),
            Issuer::Intermediate(root) => {
                let intermediate = self.intermediate(root)?;
                let pem = intermediate.certificate.pem.clone();
                (intermediate, pem)
            }
        };
        let made = Workshop::new()?.issue(&authority, key, "/CN=localhost", END_ENTITY)?;
        let leaf = Arc::new(Leaf::new(made, intermediates)?);
        self.leaves.insert((issuer, key), Arc::clone(&leaf));
        Ok(leaf)
    }
}

/// A directory in which one certificate is made. None is kept: what lives as long as the process is never removed.
struct Workshop {
    directory: WorkDir,
    openssl_conf: String,
}

impl Workshop {
    fn new() -> Result<Workshop> {
        let directory = WorkDir::new(&DEBIAN_13)?;
        let openssl_conf = directory.write_openssl_conf("openssl.cnf", &OpensslConf::new())?;
        Ok(Workshop { directory, openssl_conf })
    }

    fn root(&self, key: KeyType) -> Result<Authority> {
        self.genpkey(key)?;
        let subject = format!("/CN={} root of the tests", key.name);
        let certificate = self.x509(&["-key", "own.key"], &subject, AUTHORITY)?;
        Ok(Authority { certificate, key: self.read("own.key")? })
    }

    /// A certificate for a new key. Not from a request: a key that cannot sign has none.
    fn issue(&self, issuer: &Authority, key: KeyType, subject: &str, extensions: &str) -> Result<Authority> {
        self.genpkey(key)?;
        self.openssl(&["pkey", "-in", "own.key", "-pubout", "-out", "own.pub"])?;
        let made = self.issue_for(issuer, &self.read("own.pub")?, subject, extensions)?;
        Ok(Authority { key: self.read("own.key")?, ..made })
    }

    /// A certificate for this public key; the answer's `key` is empty.
    fn issue_for(
        &self,
        issuer: &Authority,
        public: &str,
        subject: &str,
        extensions: &str,
    ) -> Result<Authority> {
        self.directory.write("own.pub", public)?;
        self.directory.write("issuer.pem", &issuer.certificate.pem)?;
        self.directory.write("issuer.key", &issuer.key)?;
        let arguments = ["-force_pubkey", "own.pub", "-CA", "issuer.pem", "-CAkey", "issuer.key"];
        let certificate = self.x509(&arguments, subject, extensions)?;
        Ok(Authority { certificate, key: String::new() })
    }

    fn genpkey(&self, key: KeyType) -> Result<()> {
        self.openssl(&[&["genpkey", "-out", "own.key"], key.genpkey].concat())
    }

    fn x509(&self, arguments: &[&str], subject: &str, extensions: &str) -> Result<Arc<Root>> {
        self.directory.write("extensions", extensions)?;
        let always = ["x509", "-new", "-days", "30", "-extfile", "extensions", "-out", "own.pem", "-subj"];
        self.openssl(&[&always[..], &[subject], arguments].concat())?;
        let pem = self.read("own.pem")?;
        let der = CertificateDer::from_pem_slice(pem.as_bytes())?;
        Ok(Arc::new(Root { pem, der }))
    }

    fn openssl(&self, arguments: &[&str]) -> Result<()> {
        let mut command: Command = DEBIAN_13.command("sh")?;
        command
            .env("OPENSSL_CONF", &self.openssl_conf)
            .args(["-c", "cd \"$1\" && shift && exec openssl \"$@\"", "sh", &self.directory.inside("")])
            .args(arguments);
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "openssl {}: {said}", arguments.join(" "));
        Ok(())
    }

    fn read(&self, file: &str) -> Result<String> {
        let path = self.directory.outside(file);
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    }
}
