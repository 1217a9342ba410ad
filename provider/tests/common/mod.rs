//! What the provider's tests share.

pub(crate) mod openssl;

use openssl::{Context, Errors};
use std::path::PathBuf;

/// Loads `default`, and the built qtls.so with these lines in its section of an openssl.cnf.
///
/// The section does not activate it: libcrypto would drop the reason why a provider does not load from its error queue
/// (`CONF_modules_load_file_ex`). Those of `tests/versions.rs` do.
#[allow(dead_code, reason = "each test program uses a part of this")]
pub(crate) fn configure(context: &Context, lines: &str) -> Result<(), Errors> {
    // The first load adds to libcrypto's table of objects, which OpenSSL 3.0 reads without a lock: no other test may run
    // meanwhile.
    static FIRST: std::sync::Once = std::sync::Once::new();
    FIRST.call_once(|| load(&Context::new(), "").expect("the provider loads"));
    load(context, lines)
}

fn load(context: &Context, lines: &str) -> Result<(), Errors> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("openssl.cnf");
    let text = format!(
        "config_diagnostics = 1\nopenssl_conf = openssl_init\n\
         [openssl_init]\nproviders = provider_sect\n\
         [provider_sect]\ndefault = default_sect\nqtls = qtls_sect\n\
         [default_sect]\nactivate = 1\n\
         [qtls_sect]\nmodule = {}\n{lines}\n",
        module().display()
    );
    std::fs::write(&file, text).expect("a writable temporary directory");
    context.configure(&file)?;
    context.activate("qtls")
}

/// A context with `default` and the built qtls.so.
#[allow(dead_code, reason = "each test program uses a part of this")]
pub(crate) fn with_provider(lines: &str) -> Context {
    let context = Context::new();
    configure(&context, lines).unwrap_or_else(|errors| panic!("the provider does not load: {errors}"));
    context
}

/// The built provider.
pub(crate) fn module() -> PathBuf {
    qtls_tests::platform::module().unwrap_or_else(|error| panic!("{error:#}"))
}
