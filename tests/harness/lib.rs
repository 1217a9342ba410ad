//! What the cross-component tests share: platforms (an OpenSSL with its servers, each in a Debian root or a prefix of its
//! own), the servers and clients that run on them, and a raw ClientHello writer.
//!
//! Everything a test starts is stopped when its guard is dropped. Platforms are made on first use by the
//! scripts in `tests/setup/` and cached; they need root, and say so.
//!
//! One test: `make build && cargo test -p qtls-tests --test handshake early_data -- --nocapture`. A [`report::Report`]
//! tells every platform and group that failed, with what nginx or OpenSSL wrote. `QTLS_MODULE=path` tries another
//! provider file, `QTLS_TESTS=full` the whole product.

pub mod browser;
pub mod client_hello;
pub mod groups;
pub mod identity;
pub mod nginx;
pub mod openssl;
pub mod openssl_conf;
pub mod pki;
pub mod platform;
pub mod process;
pub mod report;
pub mod rustls_client;
pub mod rustls_server;
pub mod shell;
pub mod token;

pub use groups::{GROUPS, Group};
pub use openssl_conf::{Native, OpensslConf};
pub use platform::{Platform, WorkDir};
pub use shell::OpensslShell;

/// How much of the product to try: `QTLS_TESTS=ci` (the default) or `full`.
pub fn full() -> bool {
    match std::env::var("QTLS_TESTS").as_deref() {
        Ok("full") => true,
        Ok("ci" | "") | Err(_) => false,
        Ok(other) => panic!("QTLS_TESTS is '{other}'; it may be 'ci' or 'full'"),
    }
}
