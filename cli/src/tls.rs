//! What probe, serve and bench share of rustls: the provider with chosen groups, names for what was negotiated, files.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{CipherSuite, ProtocolVersion, SignatureScheme};

use crate::groups::{Group, key_exchange};

/// rustls over AWS-LC with exactly these groups, in this order.
pub fn provider_with(groups: &[Group]) -> Arc<CryptoProvider> {
    let kx_groups = groups.iter().filter_map(|group| key_exchange(group.code_point)).collect();
    Arc::new(CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() })
}

/// `TLS 1.3`.
pub fn version_name(version: ProtocolVersion) -> String {
    version_number_name(u16::from(version))
}

/// `TLS 1.3` for 0x0304.
pub fn version_number_name(version: u16) -> String {
    match version {
        0x0300 => "SSL 3.0".to_owned(),
        0x0301 => "TLS 1.0".to_owned(),
        0x0302 => "TLS 1.1".to_owned(),
        0x0303 => "TLS 1.2".to_owned(),
        0x0304 => "TLS 1.3".to_owned(),
        other => format!("0x{other:04X}"),
    }
}

/// The suite by its IANA name, `TLS_AES_256_GCM_SHA384`.
pub fn cipher_name(suite: CipherSuite) -> String {
    match suite.as_str() {
        // rustls writes TLS13_ where the registry writes TLS_.
        Some(name) => name.replacen("TLS13_", "TLS_", 1),
        None => format!("0x{:04X}", u16::from(suite)),
    }
}

/// The scheme by its IANA name in lower case, `ecdsa_secp256r1_sha256`, `mldsa65`.
pub fn scheme_name(scheme: SignatureScheme) -> String {
    match u16::from(scheme) {
        0x0401 => "rsa_pkcs1_sha256",
        0x0501 => "rsa_pkcs1_sha384",
        0x0601 => "rsa_pkcs1_sha512",
        0x0403 => "ecdsa_secp256r1_sha256",
        0x0503 => "ecdsa_secp384r1_sha384",
        0x0603 => "ecdsa_secp521r1_sha512",
        0x0804 => "rsa_pss_rsae_sha256",
        0x0805 => "rsa_pss_rsae_sha384",
        0x0806 => "rsa_pss_rsae_sha512",
        0x0807 => "ed25519",
        0x0808 => "ed448",
        0x0809 => "rsa_pss_pss_sha256",
        0x080a => "rsa_pss_pss_sha384",
        0x080b => "rsa_pss_pss_sha512",
        0x0904 => "mldsa44",
        0x0905 => "mldsa65",
        0x0906 => "mldsa87",
        other => return format!("0x{other:04X}"),
    }
    .to_owned()
}

/// Whether a scheme is one of draft-ietf-tls-mldsa, the only post-quantum ones there are.
pub fn is_ml_dsa(scheme: SignatureScheme) -> bool {
    qtls_crypto::signature_by_code_point(u16::from(scheme)).is_some()
}

/// The certificates of a PEM file.
///
/// # Errors
/// When the file cannot be read or holds none.
pub fn read_certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let pem = fs::read(path).with_context(|| format!("cannot read certificates from {}", path.display()))?;
    let certificates = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| anyhow::anyhow!("{} is no PEM file: {error}", path.display()))?;
    if certificates.is_empty() {
        bail!("{} holds no certificate; a PEM block BEGIN CERTIFICATE is needed", path.display());
    }
    Ok(certificates)
}

/// The first private key of a PEM file.
///
/// # Errors
/// When the file cannot be read or holds none.
pub fn read_private_key(path: &Path) -> anyhow::Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| {
        anyhow::anyhow!(
            "no private key can be read from {}: {error}; a PEM block BEGIN PRIVATE KEY, without a passphrase, is needed",
            path.display()
        )
    })
}
