//! Linker arguments of `qtls.so`, and what the provider says of its build.

fn main() {
    // Never unmapped: a thread-exit destructor of the Rust runtime may run after OpenSSL's dlclose.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,relro,-z,now");
    let backend = if std::env::var_os("CARGO_FEATURE_AWS_LC").is_some() { "aws-lc" } else { "rustcrypto" };
    println!("cargo::rustc-env=QTLS_BACKEND={backend}");
    println!("cargo::rustc-env=QTLS_TARGET={}", std::env::var("TARGET").unwrap_or_default());
    println!("cargo::rerun-if-changed=build.rs");
}
