//! The seam between the keys of [`crate::kem`] and [`crate::signature`] and the primitives.
//!
//! A backend knows ML-KEM, ML-DSA, three curves, three classical signatures and three hash functions, each alone. How a
//! hybrid or a composite puts two together, what a signature's message representative is, and every check of lengths,
//! ranges and of a point's form, lies above it, once for all backends.

#[cfg(feature = "aws-lc")]
mod aws_lc;
#[cfg(feature = "rustcrypto")]
mod expanded_ml_dsa;
#[cfg(feature = "rustcrypto")]
mod rustcrypto;

#[cfg(feature = "aws-lc")]
pub use aws_lc::AwsLc;
#[cfg(feature = "aws-lc")]
pub(crate) use aws_lc::ClassicalKey;
#[cfg(feature = "rustcrypto")]
pub use rustcrypto::RustCrypto;

use crate::{Classical, Curve, Error, HashFunction, MlDsa, MlKem};

/// The backend that is used where none is named: AWS-LC when it is built in, the RustCrypto crates otherwise.
#[cfg(feature = "aws-lc")]
pub type DefaultBackend = AwsLc;
/// The backend that is used where none is named: AWS-LC when it is built in, the RustCrypto crates otherwise.
#[cfg(all(feature = "rustcrypto", not(feature = "aws-lc")))]
pub type DefaultBackend = RustCrypto;

/// What an implementation of the primitives provides. Implemented by [`AwsLc`] and [`RustCrypto`] only.
///
/// Every slice has exactly the size that [`MlKem`], [`Curve`], [`MlDsa`] or [`Classical`] states; the callers in this crate
/// see to it.
pub trait Backend: sealed::Sealed + Send + Sync + Sized + 'static {
    /// The name for reports: `aws-lc`, `rustcrypto`.
    const NAME: &'static str;

    /// An ML-KEM public key, ready to encapsulate to.
    type EncapsulationKey: Send + Sync;
    /// An ML-KEM private key, ready to decapsulate with; wiped when dropped.
    type DecapsulationKey: Send + Sync;
    /// A peer's point, known to lie on its curve and not to be the identity.
    type Point: Send + Sync;
    /// A private scalar; wiped when dropped.
    type Scalar: Send + Sync;

    /// An ML-DSA public key, ready to verify with.
    type VerifyingKey: Send + Sync;
    /// An ML-DSA private key in its expanded form, ready to sign with; wiped when dropped.
    type SigningKey: Send + Sync;
    /// A public key of a composite's classical half.
    type ClassicalVerifyingKey: Send + Sync;
    /// A private key of a composite's classical half; wiped when dropped.
    type ClassicalSigningKey: Send + Sync;
    /// A hash being computed.
    type Hash: Send + Sync;

    /// Fills `out` from the backend's own generator, which the operating system seeds.
    fn random(out: &mut [u8]) -> Result<(), Error>;

    /// Takes a key whose coefficients are known to be below q.
    fn encapsulation_key(parameters: MlKem, encoded: &[u8]) -> Result<Self::EncapsulationKey, Error>;

    /// FIPS 203 algorithm 20 or, with the randomness `m` given, algorithm 17.
    fn encapsulate(
        key: &Self::EncapsulationKey,
        randomness: Option<&[u8; MlKem::RANDOMNESS_BYTES]>,
        ciphertext: &mut [u8],
        shared_secret: &mut [u8],
    ) -> Result<(), Error>;

    /// FIPS 203 algorithm 16; the encoded public key goes to `encapsulation_key`.
    fn decapsulation_key_from_seed(
        parameters: MlKem,
        seed: &[u8; MlKem::SEED_BYTES],
        encapsulation_key: &mut [u8],
    ) -> Result<Self::DecapsulationKey, Error>;

    /// Takes an expanded key whose coefficients are known to be below q; `None` when its hash does not fit.
    fn decapsulation_key_from_bytes(
        parameters: MlKem,
        expanded: &[u8],
    ) -> Result<Option<Self::DecapsulationKey>, Error>;

    /// Writes the expanded key.
    fn decapsulation_key_to_bytes(key: &Self::DecapsulationKey, expanded: &mut [u8]) -> Result<(), Error>;

    /// FIPS 203 algorithm 21. A wrong ciphertext of the right length gives the implicit-rejection secret.
    fn decapsulate(
        key: &Self::DecapsulationKey,
        ciphertext: &[u8],
        shared_secret: &mut [u8],
    ) -> Result<(), Error>;

    /// Takes a peer's public value; `None` when it is not on the curve. The form byte of an uncompressed point was
    /// checked by the caller.
    fn point(curve: Curve, encoded: &[u8]) -> Result<Option<Self::Point>, Error>;

    /// Takes a private scalar, big-endian for the NIST curves; `None` when it is zero or not below the group's order.
    fn scalar(curve: Curve, encoded: &[u8]) -> Result<Option<Self::Scalar>, Error>;

    /// Writes the public value of a scalar.
    fn public_value(scalar: &Self::Scalar, encoded: &mut [u8]) -> Result<(), Error>;

    /// Writes the x coordinate of the product; `false` (and nothing written) when X25519 gives the all-zero value.
    fn diffie_hellman(scalar: &Self::Scalar, point: &Self::Point, secret: &mut [u8]) -> Result<bool, Error>;

    /// Begins a hash.
    fn hash(function: HashFunction) -> Result<Self::Hash, Error>;

    /// Takes in more of the message.
    fn hash_update(hash: &mut Self::Hash, message: &[u8]) -> Result<(), Error>;

    /// A second hash that has taken in the same message.
    fn hash_clone(hash: &Self::Hash) -> Result<Self::Hash, Error>;

    /// Writes the output of [`HashFunction::output_bytes`], or of any length from SHAKE256.
    fn hash_finish(hash: Self::Hash, out: &mut [u8]) -> Result<(), Error>;

    /// FIPS 204 algorithm 23; every string of the right length is a key.
    fn verifying_key(parameters: MlDsa, encoded: &[u8]) -> Result<Self::VerifyingKey, Error>;

    /// FIPS 204 algorithm 8 from its line 8 on, with µ given: whether the signature holds.
    fn verify_mu(
        key: &Self::VerifyingKey,
        mu: &[u8; MlDsa::MU_BYTES],
        signature: &[u8],
    ) -> Result<bool, Error>;

    /// FIPS 204 algorithm 6; the encoded public key goes to `public`.
    fn signing_key_from_seed(
        parameters: MlDsa,
        seed: &[u8; MlDsa::SEED_BYTES],
        public: &mut [u8],
    ) -> Result<Self::SigningKey, Error>;

    /// Takes an expanded key whose coefficients are known to be in range, and computes the public key into `public`;
    /// `None` when `t0` or `tr` is not what the rest of the key gives.
    fn signing_key_from_bytes(
        parameters: MlDsa,
        expanded: &[u8],
        public: &mut [u8],
    ) -> Result<Option<Self::SigningKey>, Error>;

    /// Writes the expanded key.
    fn signing_key_to_bytes(key: &Self::SigningKey, expanded: &mut [u8]) -> Result<(), Error>;

    /// FIPS 204 algorithm 7 from its line 7 on, with µ and `rnd` given.
    fn sign_mu(
        key: &Self::SigningKey,
        mu: &[u8; MlDsa::MU_BYTES],
        randomness: &[u8; MlDsa::RANDOMNESS_BYTES],
        signature: &mut [u8],
    ) -> Result<(), Error>;

    /// Takes a public key; `None` when it is not on its NIST curve. The form byte of an uncompressed point, and that
    /// Ed25519's encoding is canonical, was checked by the caller. An Ed25519 key that is not on the curve is taken and no
    /// signature holds under it: AWS-LC has no function that only looks.
    fn classical_verifying_key(
        classical: Classical,
        encoded: &[u8],
    ) -> Result<Option<Self::ClassicalVerifyingKey>, Error>;

    /// Whether the signature, `Ecdsa-Sig-Value` in DER or Ed25519's 64 bytes, holds.
    fn classical_verify(
        key: &Self::ClassicalVerifyingKey,
        message: &[u8],
        signature: &[u8],
    ) -> Result<bool, Error>;

    /// Takes a private scalar, or Ed25519's seed, and writes the public key; `None` when the scalar is zero or not below
    /// the group's order.
    fn classical_signing_key(
        classical: Classical,
        scalar: &[u8],
        public: &mut [u8],
    ) -> Result<Option<Self::ClassicalSigningKey>, Error>;

    /// The signature in the form that [`Self::classical_verify`] takes. Where ECDSA's nonce comes from is the backend's:
    /// AWS-LC draws it, with key and message mixed in; the RustCrypto crates derive it (RFC 6979).
    fn classical_sign(key: &Self::ClassicalSigningKey, message: &[u8]) -> Result<Vec<u8>, Error>;
}

mod sealed {
    pub trait Sealed {}
    #[cfg(feature = "aws-lc")]
    impl Sealed for super::AwsLc {}
    #[cfg(feature = "rustcrypto")]
    impl Sealed for super::RustCrypto {}
}
