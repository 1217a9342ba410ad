//! The choice of backends at build time. `cargo check` runs in a target folder of its own, so nothing built before helps.

use std::path::Path;
use std::process::{Command, Output};

#[test]
fn rustcrypto_alone_builds_without_a_c_compiler() {
    let output = check(&["--no-default-features", "--features", "rustcrypto"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn without_a_backend_the_build_says_what_to_do() {
    let output = check(&["--no-default-features"]);
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    let first = message.lines().find(|line| line.starts_with("error")).unwrap_or_default();
    assert!(first.contains("qtls-crypto needs a backend: build with the feature `aws-lc`"), "{message}");
}

fn check(features: &[&str]) -> Output {
    Command::new(env!("CARGO"))
        .args(["check", "--locked", "--offline", "--lib", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .arg("--target-dir")
        .arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("features"))
        .args(features)
        .envs(
            ["CC", "CXX", "HOST_CC", "HOST_CXX", "TARGET_CC", "TARGET_CXX"].map(|name| (name, "/bin/false")),
        )
        .output()
        .unwrap()
}
