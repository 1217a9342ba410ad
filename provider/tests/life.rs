//! Loading, unloading and ending: nothing grows, nothing leaks, nothing is touched after it was freed.

mod common;
#[path = "common/headers.rs"]
mod headers;

use common::openssl::{Context, File};
use headers::compile;
use qtls_crypto::{KEM_ALGORITHMS, KeyAlgorithm};
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
    for algorithm in ["ML-DSA-44", "id-MLDSA44-ECDSA-P256-SHA256"] {
        let key = context.generate(algorithm).unwrap();
        let signer = key.signer(None, &[]).unwrap();
        signer.update(b"mess").unwrap();
        let copy = signer.duplicate().unwrap();
        copy.update(b"age").unwrap();
        key.verify(b"message", &copy.finish().unwrap()).unwrap();
        key.verify(b"message", &[0; 100]).unwrap_err();
    }
    assert!(context.accepts_groups("X25519MLKEM768"));
}

/// Reads and writes the files of every key, and reads bad ones: 66 files.
fn read_and_write(context: &Context) {
    for algorithm in KeyAlgorithm::all() {
        let key = context.generate(algorithm.name()).unwrap();
        for file in [File::private(c"PEM"), File::public(c"DER")] {
            let Ok(mut written) = key.encode(file) else {
                assert_eq!(algorithm.oid(), None);
                continue;
            };
            assert_eq!(context.decode(&written, None).unwrap().equals(&key), 1);
            // In the algorithm identifier of the public key's DER; in the middle of the private key's base64.
            let at = if written[0] == b'-' { written.len() / 2 } else { 6 };
            written[at] ^= 1;
            drop(context.decode(&written, None));
            written.truncate(at.max(40));
            context.decode(&written, None).err().expect("a file that is cut short");
        }
    }
}

/// Holds that doing something `times` times more takes no more memory than doing it a few times.
fn does_not_grow(what: &str, times: u32, mut once: impl FnMut()) {
    // Kilobytes. 200 bytes lost in each of a thousand loads, or 50 with each of the files, would be more.
    const TOLERANCE: u64 = 128;
    let memory = || anonymous_memory(std::process::id()).unwrap();
    for _ in 0..times / 10 {
        once();
    }
    let before = memory();
    for _ in 0..times {
        once();
    }
    let after = memory();
    println!("{what}: {before} kB, then {after} kB");
    assert!(after <= before + TOLERANCE, "{what}: from {before} to {after} kB");
}

/// One test and not two: they would measure each other.
#[test]
fn a_thousand_loads_and_thousands_of_files_good_and_bad_do_not_grow_the_process() {
    does_not_grow("loads", 1000, load_use_and_unload);
    let context = common::with_provider("");
    does_not_grow("files", 100, || read_and_write(&context));
}

#[test]
fn valgrind_finds_no_leak_and_no_wrong_access() {
    for (name, line) in [
        ("evp_matrix", "X25519MLKEM768 keymgmt=qtls"),
        ("key_matrix", "ML-DSA-65 keymgmt=qtls operation=qtls"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join(name);
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c").join(name).with_extension("c");
        compile(&source, &program, &[], &["-g", "-lcrypto"]);
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
        assert!(output.status.success() && told.is_empty(), "{name}: {}: {told}", output.status);
        assert!(String::from_utf8_lossy(&output.stdout).contains(line), "{name}");
    }
}
