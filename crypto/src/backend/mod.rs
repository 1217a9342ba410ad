//! The seam between the keys of [`crate::kem`] and the primitives.
//!
//! A backend knows ML-KEM and three curves, each alone. How a hybrid puts two together, and every check of lengths,
//! of the ML-KEM modulus and of a point's form, lies above it, once for all backends.

#[cfg(feature = "aws-lc")]
mod aws_lc;
#[cfg(feature = "rustcrypto")]
mod rustcrypto;

#[cfg(feature = "aws-lc")]
pub use aws_lc::AwsLc;
#[cfg(feature = "rustcrypto")]
pub use rustcrypto::RustCrypto;

use crate::{Curve, Error, MlKem};

/// The backend that is used where none is named: AWS-LC when it is built in, the RustCrypto crates otherwise.
#[cfg(feature = "aws-lc")]
pub type DefaultBackend = AwsLc;
/// The backend that is used where none is named: AWS-LC when it is built in, the RustCrypto crates otherwise.
#[cfg(all(feature = "rustcrypto", not(feature = "aws-lc")))]
pub type DefaultBackend = RustCrypto;

/// What an implementation of the primitives provides. Implemented by [`AwsLc`] and [`RustCrypto`] only.
///
/// Every slice has exactly the size that [`MlKem`] or [`Curve`] states; the callers in this crate see to it.
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
}

mod sealed {
    pub trait Sealed {}
    #[cfg(feature = "aws-lc")]
    impl Sealed for super::AwsLc {}
    #[cfg(feature = "rustcrypto")]
    impl Sealed for super::RustCrypto {}
}
