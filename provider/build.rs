//! Linker arguments of `qtls.so`, and what the provider says of its build.

use std::env;

fn main() {
    // Never unmapped: a thread-exit destructor of the Rust runtime may run after OpenSSL's dlclose.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,relro,-z,now");
    let aws_lc = env::var_os("CARGO_FEATURE_AWS_LC").is_some();
    if aws_lc && env::var("CARGO_CFG_TARGET_ENV").as_deref() == Ok("gnu") {
        println!("cargo::rerun-if-changed=glibc_compat.c");
        for object in cc::Build::new().file("glibc_compat.c").compile_intermediates() {
            println!("cargo::rustc-cdylib-link-arg={}", object.display());
        }
    }
    let backend = if aws_lc { "aws-lc" } else { "rustcrypto" };
    println!("cargo::rustc-env=QTLS_BACKEND={backend}");
    println!("cargo::rustc-env=QTLS_TARGET={}", env::var("TARGET").unwrap_or_default());
    println!("cargo::rerun-if-changed=build.rs");
}
