//! The algorithms of Q-TLS: one table, two backends, no I/O.
//!
//! # What it is
//! [`KEM_ALGORITHMS`] has one row for each key-encapsulation mechanism that Q-TLS offers as a TLS 1.3 group: ML-KEM
//! (FIPS 203) alone, or joined with X25519, P-256 or P-384. Names, code points, sizes and the order of the halves come
//! from the row; no other file knows them. [`KemPublicKey`] and [`KemPrivateKey`] are keys of any row.
//! [`SIGNATURE_ALGORITHMS`] likewise has ML-DSA (FIPS 204) alone, or joined with ECDSA or Ed25519 as a composite
//! (`draft-ietf-lamps-pq-composite-sigs-19`); [`SignaturePublicKey`] and [`SignaturePrivateKey`] are its keys.
//! [`PublicKey`] and [`PrivateKey`] are those of both tables; they read and write key files.
//!
//! The primitives come from a [`Backend`]:
//!
//! | cargo feature | type | what | build |
//! |---|---|---|---|
//! | `aws-lc` (default) | [`AwsLc`] | AWS-LC: assembly chosen at run time, the fast side | needs a C compiler |
//! | `rustcrypto` | [`RustCrypto`] | `ml-kem`, `ml-dsa`, `x25519-dalek`, `ed25519-dalek`, `p256`, `p384`: the oracle, or all there is | Rust only |
//!
//! With both on, [`DefaultBackend`] is AWS-LC, and a key says which side it wants: `KemPrivateKey::<RustCrypto>`. In an
//! expression `<KemPrivateKey>::generate(…)`, with the angle brackets, stands for the default one.
//! The tests run every operation on both and compare.
//!
//! # One handshake
//! ```
//! use qtls_crypto::{KemPrivateKey, KemPublicKey, kem_by_name};
//! # fn main() -> Result<(), qtls_crypto::Error> {
//! let algorithm: &'static _ = kem_by_name("X25519MLKEM768").expect("a row of the table");
//!
//! // The client makes a key pair and sends its public key, the key share of the ClientHello.
//! let private: KemPrivateKey = KemPrivateKey::generate(algorithm)?;
//! let client_share = private.public_key();
//!
//! // The server checks the share as it takes it in: a bad one fails here and blames the peer.
//! let public: KemPublicKey = KemPublicKey::from_bytes(algorithm, client_share)?;
//! let mut server_share = vec![0; algorithm.ciphertext_bytes()];
//! let mut server_secret = vec![0; algorithm.shared_secret_bytes()];
//! public.encapsulate(&mut server_share, &mut server_secret)?;
//!
//! // The client finds the same secret in the server's share.
//! let mut client_secret = vec![0; algorithm.shared_secret_bytes()];
//! private.decapsulate(&server_share, &mut client_secret)?;
//! assert_eq!(client_secret, server_secret);
//! # Ok(())
//! # }
//! ```
//!
//! # One signature
//! ```
//! use qtls_crypto::{MessageEncoding, SignaturePrivateKey, SignaturePublicKey, SigningRandomness, signature_by_name};
//! # fn main() -> Result<(), qtls_crypto::Error> {
//! let algorithm: &'static _ = signature_by_name("ML-DSA-65").expect("a row of the table");
//! let private: SignaturePrivateKey = SignaturePrivateKey::generate(algorithm)?;
//! let signature = private.sign(b"message", MessageEncoding::PURE, SigningRandomness::Hedged)?;
//!
//! let public: SignaturePublicKey = SignaturePublicKey::from_bytes(algorithm, private.public_key())?;
//! public.verify(b"message", MessageEncoding::PURE, &signature)?;
//!
//! // A message that comes in pieces; what is signed is then its representative.
//! let mut hash = public.message_hash(MessageEncoding::PURE)?;
//! hash.update(b"mess")?;
//! hash.update(b"age")?;
//! public.verify_representative(&hash.finish()?, &signature)?;
//! # Ok(())
//! # }
//! ```
//!
//! Beside the tables stand [`Digest`] and (with `aws-lc`) [`ClassicalPrivateKey`] and [`ClassicalPublicKey`], for signatures of keys in
//! tokens.
//!
//! # One key file
//! ```
//! use qtls_crypto::{KeyAlgorithm, PrivateKey, PrivateKeyForm, pkcs8_algorithm, to_pem};
//! # fn main() -> Result<(), qtls_crypto::Error> {
//! let algorithm = KeyAlgorithm::by_name("ML-DSA-65").expect("a row of one of the tables");
//! let private: PrivateKey = PrivateKey::generate(algorithm)?;
//! let der = private.to_pkcs8_der(PrivateKeyForm::Preferred)?;
//! assert!(to_pem("PRIVATE KEY", &der).starts_with("-----BEGIN PRIVATE KEY-----\n"));
//!
//! assert_eq!(pkcs8_algorithm(&der), Some(algorithm));
//! assert_eq!(<PrivateKey>::from_pkcs8_der(&der)?.public_key(), private.public_key());
//! # Ok(())
//! # }
//! ```
//!
//! # What it promises
//! - A peer's bytes are checked before they are used: length, ML-KEM modulus (FIPS 203 section 7.2), uncompressed point
//!   on the curve, X25519 value of small order. [`Error::fault`] tells a peer's fault from a caller's and the machine's.
//! - Private keys are wiped when their last clone goes, and show nothing in `Debug`. A secret written to a caller's
//!   buffer is the caller's to wipe. (The crates behind [`RustCrypto`] leave copies on the stack until it is used again.)
//! - Random bytes come from the backend's generator, which the operating system seeds and which knows of forks. Nothing
//!   random happens before the first key is made.
//! - Nothing panics on any input; `unsafe` is in `backend/aws_lc.rs` alone.
//!
//! # Adding an algorithm
//! Add its row to `algorithm.rs` or `signature_algorithm.rs`; if its primitive is new, a method to [`Backend`] and its body to both backends; then
//! write its vectors with `cargo run -p qtls-crypto --example known_answers`. The tests go over the whole table.
//!
//! `cargo run --release -p qtls-crypto --example speed` prints what each operation costs on this machine.

#![deny(unsafe_code)]
#![cfg_attr(not(feature = "aws-lc"), forbid(unsafe_code))]

#[cfg(not(any(feature = "aws-lc", feature = "rustcrypto")))]
compile_error!(
    "qtls-crypto needs a backend: build with the feature `aws-lc` (the default, needs a C compiler) or with \
     `--no-default-features --features rustcrypto` (Rust only)"
);

mod algorithm;
mod backend;
#[cfg(feature = "aws-lc")]
mod classical_key;
mod digest;
mod encoding;
mod error;
mod kem;
mod key;
mod known_answer;
mod modulus;
mod signature;
mod signature_algorithm;

pub use algorithm::{
    Curve, KEM_ALGORITHMS, KemAlgorithm, MlKem, OBSOLETE_GROUPS, Order, kem_by_group_id, kem_by_name,
};
#[cfg(feature = "aws-lc")]
pub use backend::AwsLc;
#[cfg(feature = "rustcrypto")]
pub use backend::RustCrypto;
pub use backend::{Backend, DefaultBackend};
#[cfg(feature = "aws-lc")]
pub use classical_key::{ClassicalPrivateKey, ClassicalPublicKey, RsaPadding};
pub use digest::Digest;
pub use encoding::{
    EncodingProblem, PbesCipher, PrivateKeyForm, algorithm_identifier_der, encrypt_pkcs8, pkcs8_algorithm,
    spki_algorithm, to_pem,
};
pub use error::{Error, Fault};
pub use kem::{KemPrivateKey, KemPublicKey};
pub use key::{KeyAlgorithm, PrivateKey, PublicKey};
pub use known_answer::{
    KnownAnswerObserver, KnownAnswerStep, compute_known_answer, compute_signature_known_answer,
    run_known_answer, run_known_answer_on, run_signature_known_answer, run_signature_known_answer_on,
};
pub use signature::{
    MessageEncoding, MessageHash, MessageRepresentative, SignaturePrivateKey, SignaturePublicKey,
    SigningRandomness,
};
pub use signature_algorithm::{
    Classical, Composite, HashFunction, MlDsa, SIGNATURE_ALGORITHMS, SignatureAlgorithm, TlsSignatureScheme,
    signature_by_code_point, signature_by_name,
};
