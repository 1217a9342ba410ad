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
pub struct Pki {
    made: Mutex<Made>,
}

struct Made {
    directory: WorkDir,
    openssl_conf: String,
    roots: BTreeMap<KeyType, Arc<Root>>,
    leaves: BTreeMap<(Issuer, KeyType), Arc<Leaf>>,
}

/// What this process's servers and clients trust.
pub fn pki() -> &'static Pki {
    static PKI: LazyLock<Pki> = LazyLock::new(|| Pki::new().unwrap_or_else(|error| panic!("{error:#}")));
    &PKI
}

/// Authorities of the same names that nobody trusts.
pub fn strangers() -> &'static Pki {
    static PKI: LazyLock<Pki> = LazyLock::new(|| Pki::new().unwrap_or_else(|error| panic!("{error:#}")));
    &PKI
}

impl Pki {
    fn new() -> Result<Pki> {
        let directory = WorkDir::new(&DEBIAN_13)?;
        let openssl_conf = directory.write_openssl_conf("openssl.cnf", &OpensslConf::new())?;
        let made = Made { directory, openssl_conf, roots: BTreeMap::new(), leaves: BTreeMap::new() };
        Ok(Pki { made: Mutex::new(made) })
    }

    /// The root with a key of this type.
    pub fn root(&self, key: KeyType) -> Result<Arc<Root>> {
        self.made().root(key)
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

    fn made(&self) -> std::sync::MutexGuard<'_, Made> {
        // A file that a panic left half made is made again.
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const AUTHORITY: &str =
    "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n";
const END_ENTITY: &str = "basicConstraints=critical,CA:FALSE\nextendedKeyUsage=serverAuth,clientAuth\n\
                          subjectAltName=DNS:localhost,DNS:other.localhost,IP:127.0.0.1\n\
                          subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n";

impl Made {
    fn root(&mut self, key: KeyType) -> Result<Arc<Root>> {
        if let Some(root) = self.roots.get(&key) {
            return Ok(Arc::clone(root));
        }
        let file = file_name(Issuer::Root(key));
        self.key(&file, key)?;
        self.directory.write(&format!("{file}.ext"), AUTHORITY)?;
        let subject = format!("/CN={} root of the tests", key.name);
        self.openssl(&["x509", "-new", "-key", &format!("{file}.key"), "-subj", &subject], &file)?;
        let pem = self.read(&format!("{file}.pem"))?;
        let der = CertificateDer::from_pem_slice(pem.as_bytes())?;
        let root = Arc::new(Root { pem, der });
        self.roots.insert(key, Arc::clone(&root));
        Ok(root)
    }

    fn leaf(&mut self, issuer: Issuer, key: KeyType) -> Result<Arc<Leaf>> {
        if let Some(leaf) = self.leaves.get(&(issuer, key)) {
            return Ok(Arc::clone(leaf));
        }
        let intermediates = match issuer {
            Issuer::Root(root) => {
                self.root(root)?;
                String::new()
            }
            Issuer::Intermediate(root) => {
                self.root(root)?;
                let subject = format!("/CN={} intermediate of the tests", root.name);
                self.certificate(&file_name(issuer), root, &subject, AUTHORITY, Issuer::Root(root))?
            }
        };
        let file = format!("{}-{}", file_name(issuer), file_name(Issuer::Root(key)));
        let chain = self.certificate(&file, key, "/CN=localhost", END_ENTITY, issuer)? + &intermediates;
        let chain_der = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<_, _>>()?;
        let leaf =
            Arc::new(Leaf { chain, chain_der, intermediates, key: self.read(&format!("{file}.key"))? });
        self.leaves.insert((issuer, key), Arc::clone(&leaf));
        Ok(leaf)
    }

    /// Makes a key and a certificate for it; returns the certificate's PEM.
    fn certificate(
        &self,
        file: &str,
        key: KeyType,
        subject: &str,
        extensions: &str,
        issuer: Issuer,
    ) -> Result<String> {
        self.key(file, key)?;
        self.directory.write(&format!("{file}.ext"), extensions)?;
        let (public, issuer) = (format!("{file}.pub"), file_name(issuer));
        self.run(&["pkey", "-in", &format!("{file}.key"), "-pubout", "-out", &public])?;
        // Not from a request: a key that cannot sign has none.
        self.openssl(
            &[
                "x509",
                "-new",
                "-force_pubkey",
                &public,
                "-subj",
                subject,
                "-CA",
                &format!("{issuer}.pem"),
                "-CAkey",
                &format!("{issuer}.key"),
            ],
            file,
        )?;
        self.read(&format!("{file}.pem"))
    }

    fn key(&self, file: &str, key: KeyType) -> Result<()> {
        let out = format!("{file}.key");
        self.run(&[&["genpkey", "-out", &out], key.genpkey].concat())
    }

    /// Makes the certificate of this name.
    fn openssl(&self, arguments: &[&str], file: &str) -> Result<()> {
        let (extensions, out) = (format!("{file}.ext"), format!("{file}.pem"));
        self.run(&[arguments, &["-days", "30", "-extfile", &extensions, "-out", &out]].concat())
    }

    fn run(&self, arguments: &[&str]) -> Result<()> {
        let directory = self.directory.inside("");
        let mut command: Command = DEBIAN_13.command("sh")?;
        command
            .env("OPENSSL_CONF", &self.openssl_conf)
            .args(["-c", "cd \"$1\" && shift && exec openssl \"$@\"", "sh", &directory])
            .args(arguments);
        let output = command.output()?;
        ensure!(
            output.status.success(),
            "openssl {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    fn read(&self, file: &str) -> Result<String> {
        let path = self.directory.outside(file);
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    }
}

fn file_name(issuer: Issuer) -> String {
    let (prefix, key) = match issuer {
        Issuer::Root(key) => ("", key),
        Issuer::Intermediate(key) => ("intermediate-", key),
    };
    let name = key.name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' });
    format!("{prefix}{}", name.collect::<String>())
}
