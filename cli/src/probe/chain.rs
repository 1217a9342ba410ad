//! A server's chain, verified: webpki builds the path and judges it, composite signatures (which it does not know) and a
//! check of key usage (which it leaves out) are added here.

use std::cell::Cell;
use std::str::FromStr as _;
use std::sync::LazyLock;

use qtls_crypto::{MessageEncoding, SIGNATURE_ALGORITHMS, SignatureAlgorithm, SignaturePublicKey};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{
    AlgorithmIdentifier, CertificateDer, InvalidSignature, ServerName, SignatureVerificationAlgorithm,
    TrustAnchor, UnixTime,
};
use webpki::{EndEntityCert, Error, KeyUsage, VerifiedPath};
use x509_parser::asn1_rs::{Oid, ToDer as _};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// The chain ends at an issuer that nobody here trusts.
pub(super) const UNKNOWN_ISSUER: &str = "issued by an authority that is not trusted here";
/// What every certificate of `openssl req -x509` meets.
pub(super) const CA_AS_SERVER: &str = "an authority's certificate (CA:TRUE) used as a server's";

/// Why a chain is not to be trusted, for people.
pub type Problem = String;

/// Verifies a server's chain as a strict client does: a path over `intermediates` to one of `roots` with every signature,
/// validity, basic constraints, key usage, extended key usage and name constraint in order (RFC 5280 section 6), and a
/// leaf for this name.
///
/// # Errors
/// The first problem found.
pub fn verify_chain(
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    roots: &[TrustAnchor<'_>],
    server_name: &ServerName<'_>,
    now: UnixTime,
) -> Result<(), Problem> {
    let leaf = EndEntityCert::try_from(end_entity).map_err(problem_of)?;
    let may_not_sign = Cell::new(false);
    let may_sign = |path: &VerifiedPath<'_>| {
        if path.intermediate_certificates().all(|issuer| may_sign_certificates(&issuer.der())) {
            Ok(())
        } else {
            may_not_sign.set(true);
            Err(Error::UnknownIssuer)
        }
    };
    leaf.verify_for_usage(
        algorithms(),
        roots,
        intermediates,
        now,
        KeyUsage::server_auth(),
        None,
        Some(&may_sign),
    )
    .map_err(|error| {
        if may_not_sign.get() {
            "an authority of the chain may not sign certificates (its key usage lacks keyCertSign)".to_owned()
        } else {
            problem_of(error)
        }
    })?;
    verify_name(end_entity, server_name)
}

/// Whether a certificate is made out to this name.
///
/// # Errors
/// That it is not, or that it cannot be parsed.
pub fn verify_name(end_entity: &CertificateDer<'_>, server_name: &ServerName<'_>) -> Result<(), Problem> {
    EndEntityCert::try_from(end_entity)
        .and_then(|leaf| leaf.verify_is_valid_for_subject_name(server_name))
        .map_err(problem_of)
}

/// Whether `issuer`'s key made the signature of `subject`; none when one of them cannot be parsed or the algorithm is not
/// known here.
pub fn is_signed_by(subject: &CertificateDer<'_>, issuer: &CertificateDer<'_>) -> Option<bool> {
    let (_, subject) = X509Certificate::from_der(subject).ok()?;
    let (_, issuer) = X509Certificate::from_der(issuer).ok()?;
    let key = issuer.public_key();
    let signed_with = identifier_of(&subject.signature_algorithm)?;
    let made_for = identifier_of(&key.algorithm)?;
    let algorithm = algorithms().iter().find(|algorithm| {
        algorithm.signature_alg_id().as_ref() == signed_with
            && algorithm.public_key_alg_id().as_ref() == made_for
    })?;
    let outcome = algorithm.verify_signature(
        &key.subject_public_key.data,
        subject.tbs_certificate.as_ref(),
        &subject.signature_value.data,
    );
    Some(outcome.is_ok())
}

/// An `AlgorithmIdentifier` as webpki compares it: DER without the outer SEQUENCE.
fn identifier_of(algorithm: &x509_parser::x509::AlgorithmIdentifier<'_>) -> Option<Vec<u8>> {
    let mut identifier = tagged_oid(&algorithm.algorithm)?;
    if let Some(parameters) = &algorithm.parameters {
        identifier.extend(parameters.to_der_vec_raw().ok()?);
    }
    Some(identifier)
}

/// An object identifier in DER; none for one of 128 bytes or more.
fn tagged_oid(oid: &Oid<'_>) -> Option<Vec<u8>> {
    const OBJECT_IDENTIFIER: u8 = 6;
    let length = u8::try_from(oid.as_bytes().len()).ok().filter(|length| *length < 0x80)?;
    Some([&[OBJECT_IDENTIFIER, length], oid.as_bytes()].concat())
}

/// RFC 5280 section 4.2.1.3: where the extension is present it has to allow it. What can't be parsed allows nothing.
fn may_sign_certificates(certificate: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(certificate).is_ok_and(|(_, certificate)| match certificate.key_usage() {
        Ok(None) => true,
        Ok(Some(usage)) => usage.value.key_cert_sign(),
        Err(_) => false,
    })
}

/// Every algorithm a certificate may be signed with: rustls' own, ML-DSA among them, and the composites.
fn algorithms() -> &'static [&'static dyn SignatureVerificationAlgorithm] {
    static ALL: LazyLock<Vec<&'static dyn SignatureVerificationAlgorithm>> = LazyLock::new(|| {
        let known = aws_lc_rs::default_provider().signature_verification_algorithms.all;
        let composites = SIGNATURE_ALGORITHMS.iter().filter(|algorithm| algorithm.composite.is_some());
        let composites = composites.filter_map(|algorithm| {
            let identifier = tagged_oid(&Oid::from_str(algorithm.oid).ok()?)?;
            // Once for each row of the table, for the life of the process; webpki asks for 'static.
            let verifier = CompositeVerifier {
                algorithm,
                identifier: AlgorithmIdentifier::from_slice(Vec::leak(identifier)),
            };
            Some(&*Box::leak(Box::new(verifier)) as &dyn SignatureVerificationAlgorithm)
        });
        known.iter().copied().chain(composites).collect()
    });
    &ALL
}

/// A composite of the table, which has one identifier for key and signature and no parameters
/// (draft-ietf-lamps-pq-composite-sigs-19 section 5).
#[derive(Debug)]
struct CompositeVerifier {
    algorithm: &'static SignatureAlgorithm,
    identifier: AlgorithmIdentifier,
}

impl SignatureVerificationAlgorithm for CompositeVerifier {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        <SignaturePublicKey>::from_bytes(self.algorithm, public_key)
            .and_then(|key| key.verify(message, MessageEncoding::PURE, signature))
            .map_err(|_| InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.identifier
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.identifier
    }
}

fn problem_of(error: Error) -> Problem {
    match error {
        Error::UnknownIssuer => UNKNOWN_ISSUER,
        Error::CertExpired { .. } => "expired",
        Error::CertNotValidYet { .. } => "not valid yet",
        Error::CertNotValidForName(_) => "not made out to this name",
        Error::CaUsedAsEndEntity => CA_AS_SERVER,
        Error::EndEntityUsedAsCa => "a certificate that is no authority's (CA:FALSE) signed another",
        Error::PathLenConstraintViolated => "an authority stands higher than its path length allows",
        Error::NameConstraintViolation => "an authority may not vouch for this name (its name constraints)",
        Error::RequiredEkuNotFoundContext(_) => {
            "not for TLS servers (its extended key usage lacks serverAuth)"
        }
        Error::UnsupportedCriticalExtension => "a critical extension is not understood here",
        Error::InvalidSignatureForPublicKey => "a signature of the chain does not verify",
        Error::UnsupportedSignatureAlgorithmContext(_) => "signed with an algorithm that is not known here",
        Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
            "signed with an algorithm that does not fit the issuer's key"
        }
        other => return format!("the chain does not verify: {other}"),
    }
    .to_owned()
}
