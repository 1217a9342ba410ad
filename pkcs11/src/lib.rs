//! Keys in PKCS#11 tokens, for whoever signs with them: the provider inside nginx, the CLI, the KMS.
//!
//! A caller asks for a *key* and never sees a session:
//!
//! ```text
//!  Config   (config.rs)  the options of openssl.cnf: modules in order of failover, limits, times
//!    │
//!  Hsm      (hsm.rs)     the tokens of one configuration: keys by URI, certificates, generation
//!    │
//!  TokenKey (key.rs)     one key pair: its public key, and `sign`, which tries one token after another
//!    │
//!  Token    (token.rs)   one token in one process: sessions, login, back-off, circuit breaker, handles
//!    │
//!  Module   (module.rs)  one loaded library in one process: initialised, finalised, initialised again after a fork
//!    │
//!  raw.rs                the C calls of PKCS#11 and of locked memory: the only unsafe code
//! ```
//!
//! Beside them: RFC 7512 URIs (`uri.rs`), PIN sources (`pin.rs`), which PINs were refused (`ledger.rs`), objects and their
//! attributes (`object.rs`), a little ASN.1 (`encoding.rs`), declared software keys (`software.rs`), calls with a time limit
//! (`timed.rs`), the circuit breaker (`breaker.rs`), and counters that other processes read (`status.rs`).
//!
//! # What it promises
//! - **Lazy**: nothing is loaded, opened or logged in before a key is asked for; what was opened to read a public key is
//!   closed again, so that a server forks with nothing open.
//! - **Forks**: a process that finds itself forked never uses its parent's handles, nor closes them.
//! - **Two calls a signature**: `C_SignInit` and `C_Sign`.
//! - **A wrong PIN is tried once**, by one process of those that share the counters, and never on a token that says that the
//!   next one locks it.
//! - **No PIN leaves**: it is in no error, no `Debug`, no log, no status file; it lies in locked memory that core dumps leave
//!   out, and is wiped.
#![deny(unsafe_code)]

mod breaker;
mod config;
mod encoding;
mod error;
mod hsm;
mod key;
mod ledger;
mod module;
mod object;
mod pin;
mod raw;
mod software;
mod status;
mod timed;
mod token;
mod uri;

pub use config::{Config, TokenConfig};
pub use error::{Error, ErrorKind};
pub use hsm::{Certificate, GenerateType, Hsm, ObjectInfo, TokenInfo};
pub use key::{EcCurve, KeyType, Mechanism, PublicKey, TokenKey};
pub use pin::{Pin, PinSource};
pub use status::{Status, TokenStatus, read_status};
pub use uri::{ObjectClass, Uri};

/// Whether the calling thread is inside a call of a token's module. A software token uses the libcrypto of the process,
/// whose providers may lead back to us: whoever is asked then refuses.
pub fn inside_token() -> bool {
    module::inside()
}
