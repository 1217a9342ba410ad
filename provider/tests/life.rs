//! Loading, unloading and ending: nothing grows, nothing leaks, nothing is touched after it was freed.

mod common;
#[path = "common/headers.rs"]
mod headers;

use common::openssl::Context;
use headers::compile;
use qtls_crypto::KEM_ALGORITHMS;
use qtls_tests::process::anonymous_memory;
use std::path::Path;
use std::process::Command;

fn load_use_and_unload() {
    let context = Context::new();
    // Not through a configuration file: libcrypto keeps an entry of each that it reads until the process ends.
    let module = common::module();
    context.search(module.parent().unwrap()).unwrap();
    context.activate("default").unwrap();
    context.activate(module.file_stem().unwrap().to_str().unwrap()).unwrap();
    for algorithm in &KEM_ALGORITHMS {
        let key = context.generate(algorithm.name).unwrap();
        let (ciphertext, secret) = key.encapsulate().unwrap();
        assert_eq!(key.decapsulate(&ciphertext).unwrap(), secret);
        key.set_encoded(&[]).unwrap_err();
    }
    assert!(context.accepts_groups("X25519MLKEM768"));
}

#[test]
fn a_thousand_loads_do_not_grow_the_process() {
    // Kilobytes. 200 bytes lost in each load would be more.
    const TOLERANCE: u64 = 128;
    let memory = || anonymous_memory(std::process::id()).unwrap();
    for _ in 0..100 {
        load_use_and_unload();
    }
    let before = memory();
    for _ in 0..1000 {
        load_use_and_unload();
    }
    let after = memory();
    println!("{before} kB, then {after} kB");
    assert!(after <= before + TOLERANCE, "from {before} to {after} kB");
}

#[test]
fn valgrind_finds_no_leak_and_no_wrong_access() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("evp_matrix");
    compile(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c/evp_matrix.c"),
        &program,
        &[],
        &["-g", "-lcrypto"],
    );
    let conf = folder.path().join("openssl.cnf");
    let text = qtls_tests::OpensslConf::new().text(common::module().to_str().unwrap());
    std::fs::write(&conf, text).unwrap();
    let output = Command::new("valgrind")
        .args(["--quiet", "--leak-check=full", "--show-leak-kinds=definite,indirect"])
        .args(["--errors-for-leak-kinds=definite,indirect", "--error-exitcode=99"])
        .arg(&program)
        .env("OPENSSL_CONF", &conf)
        .output()
        .expect("valgrind (tests/setup/install-host-packages.sh installs it)");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.is_empty(), "{}: {told}", output.status);
    assert!(String::from_utf8_lossy(&output.stdout).contains("X25519MLKEM768 keymgmt=qtls"));
}
