//! The OpenSSL face of Q-TLS: one file, `qtls.so`, that any libcrypto from 3.0 to 4.0 loads through `openssl.cnf`.
//!
//! ```text
//!   libssl ──▶ libcrypto ──▶ ffi/        C types, dispatch tables, upcalls, the guard: the only unsafe code
//!                              │
//!                              ▼
//!                 provider.rs  what is offered, and when libcrypto's own is left alone (`native`)
//!                 options.rs   the section of openssl.cnf
//!                 key.rs       keys: what they hold and what may be asked of them
//!                 signature.rs signing and verifying, at once or in pieces
//!                 key_file.rs  what encoders and decoders do, key_text.rs for people
//!                 token_key.rs RSA and EC keys of tokens, token_signature.rs what they sign,
//!                              token_file.rs files that name them, token_store.rs what a URI leads to
//!                 signature_schemes.rs  what TLS is told, and the guard against a defect of libssl
//!                 self_test.rs known answers before first use
//!                 problem.rs   every error, with the text its reader sees
//!                 log.rs       stderr, which nginx points at its error log
//!                              │
//!                              ▼
//!                         qtls-crypto, qtls-pkcs11
//! ```
//!
//! Nothing here links libcrypto: what is needed of it comes through the functions that the core hands to
//! `OSSL_provider_init` (`provider-base(7)`). Nothing unwinds across the boundary: see `ffi::guard`.
#![deny(unsafe_code)]

#[allow(unsafe_code)]
pub mod ffi;
mod key;
mod key_file;
mod key_text;
mod log;
mod options;
mod problem;
mod provider;
mod self_test;
mod signature;
mod signature_schemes;
mod token_file;
mod token_key;
mod token_signature;
mod token_store;
mod token_text;
