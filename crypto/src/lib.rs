//! Algorithms of Q-TLS.
#![deny(unsafe_code)]

#[cfg(not(any(feature = "aws-lc", feature = "rustcrypto")))]
compile_error!(
    "qtls-crypto needs a backend: build with the feature `aws-lc` (the default, needs a C compiler) or with \
     `--no-default-features --features rustcrypto` (Rust only)"
);

mod algorithm;
mod backend;
mod error;
mod kem;
mod known_answer;
mod modulus;

pub use algorithm::{
    Curve, KEM_ALGORITHMS, KemAlgorithm, MlKem, OBSOLETE_GROUPS, Order, kem_by_group_id, kem_by_name,
};
#[cfg(feature = "aws-lc")]
pub use backend::AwsLc;
#[cfg(feature = "rustcrypto")]
pub use backend::RustCrypto;
pub use backend::{Backend, DefaultBackend};
pub use error::{Error, Fault};
pub use kem::{KemPrivateKey, KemPublicKey};
pub use known_answer::{
    KnownAnswerObserver, KnownAnswerStep, compute_known_answer, run_known_answer, run_known_answer_on,
};
