//! A certificate authority and a server certificate, made once a process.

use std::sync::LazyLock;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls::pki_types::CertificateDer;

/// An ECDSA P-256 authority and a server certificate for `localhost`, `other.localhost` and 127.0.0.1 under it.
pub struct Identity {
    /// The authority's certificate, PEM.
    pub authority: String,
    /// The authority's certificate, DER.
    pub authority_der: CertificateDer<'static>,
    /// The server's certificate, PEM.
    pub certificate: String,
    /// The server's private key, PKCS#8 PEM.
    pub key: String,
}

/// This process's identity.
pub fn identity() -> &'static Identity {
    static IDENTITY: LazyLock<Identity> = LazyLock::new(|| make().expect("certificates of fixed parameters"));
    &IDENTITY
}

fn make() -> Result<Identity, rcgen::Error> {
    let authority_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut authority = CertificateParams::default();
    authority.distinguished_name = common_name("Q-TLS test authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let authority_certificate = authority.self_signed(&authority_key)?;
    let issuer = Issuer::new(authority, authority_key);

    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut server =
        CertificateParams::new(["localhost", "other.localhost", "127.0.0.1"].map(str::to_owned))?;
    server.distinguished_name = common_name("localhost");
    server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    server.use_authority_key_identifier_extension = true;
    let certificate = server.signed_by(&key, &issuer)?;

    Ok(Identity {
        authority: authority_certificate.pem(),
        authority_der: authority_certificate.der().clone(),
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    })
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished_name = DistinguishedName::new();
    distinguished_name.push(DnType::CommonName, name);
    distinguished_name
}
