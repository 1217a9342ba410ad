//! A signature by a token, verified with the public key: the only proof that the private key is there and works.

use qtls_crypto::{Digest, HashFunction, MessageEncoding, SignaturePublicKey};
use qtls_pkcs11::{EcCurve, Mechanism, PublicKey, TokenKey};
use rustls::pki_types::SignatureVerificationAlgorithm;
use webpki::aws_lc_rs as verification;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::SubjectPublicKeyInfo;

/// What is signed. It begins as no handshake and no certificate does, so that nobody can use the signature.
const MESSAGE: &[u8] = b"qtls doctor: a trial signature";

/// Signs, and verifies.
///
/// # Errors
/// The token does not sign, or its signature is not one of this public key.
pub(crate) fn sign_and_verify(key: &TokenKey) -> Result<(), String> {
    let hash = HashFunction::Sha256;
    let digest =
        || Digest::<qtls_crypto::DefaultBackend>::of(hash, MESSAGE).map_err(|error| error.to_string());
    let sign = |mechanism, input: &[u8]| key.sign(mechanism, input).map_err(|error| error.to_string());
    let false_signature =
        || format!("the token made a signature for {} that its public key does not verify", key.uri());
    match key.public() {
        PublicKey::MlDsa { algorithm, key: bytes } => {
            let mechanism = Mechanism::MlDsa { context: &[], deterministic: false };
            let signature = sign(mechanism, MESSAGE)?;
            let public: SignaturePublicKey =
                SignaturePublicKey::from_bytes(algorithm, bytes).map_err(|error| error.to_string())?;
            public.verify(MESSAGE, MessageEncoding::PURE, &signature).map_err(|_| false_signature())
        }
        PublicKey::Rsa { .. } => {
            let signature = sign(Mechanism::RsaPkcs1 { hash }, &digest()?)?;
            verify(verification::RSA_PKCS1_2048_8192_SHA256, key.public(), &signature)
                .map_err(|()| false_signature())
        }
        PublicKey::Ec { curve, .. } => {
            let signature = sign(Mechanism::Ecdsa, &digest()?)?;
            let algorithm = match curve {
                EcCurve::P256 => verification::ECDSA_P256_SHA256,
                EcCurve::P384 => verification::ECDSA_P384_SHA256,
            };
            verify(algorithm, key.public(), &signature).map_err(|()| false_signature())
        }
    }
}

fn verify(
    algorithm: &dyn SignatureVerificationAlgorithm,
    public: &PublicKey,
    signature: &[u8],
) -> Result<(), ()> {
    let der = public.to_spki_der();
    let (_, info) = SubjectPublicKeyInfo::from_der(&der).map_err(|_| ())?;
    algorithm.verify_signature(&info.subject_public_key.data, MESSAGE, signature).map_err(|_| ())
}
