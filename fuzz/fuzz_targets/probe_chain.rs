//! A chain that a server sends: no certificate but the true one verifies, whatever its bytes, and none ends the process.
//!
//! `certificates/` holds an ECDSA root, a composite intermediate and an ML-DSA-44 leaf, made once with the `openssl` command
//! for a hundred years (docs/openssl.md has the recipes).
#![no_main]

use libfuzzer_sys::fuzz_target;
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use std::sync::LazyLock;
use std::time::Duration;

// The file alone and not the crate: the tool has many more dependencies.
#[allow(dead_code)]
#[path = "../../cli/src/probe/chain.rs"]
mod chain;
#[path = "file_edits.rs"]
#[allow(dead_code)]
mod file_edits;

static GOOD: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/certificates");
    ["leaf", "intermediate", "root"].map(|name| std::fs::read(format!("{folder}/{name}.der")).unwrap()).into()
});

static ROOT: LazyLock<TrustAnchor<'static>> = LazyLock::new(|| {
    let root = CertificateDer::from_slice(&GOOD[2]);
    webpki::anchor_from_trusted_cert(&root).unwrap().to_owned()
});

fuzz_target!(|data: &[u8]| {
    let [leaf, intermediate, root] = &GOOD[..] else { unreachable!("three files") };
    let now = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));
    let localhost = ServerName::try_from("localhost").unwrap();
    let verify = |leaf: &[u8], intermediate: &[u8]| {
        let (leaf, intermediate) = (CertificateDer::from_slice(leaf), CertificateDer::from_slice(intermediate));
        chain::verify_chain(&leaf, &[intermediate], &[ROOT.clone()], &localhost, now)
    };
    assert_eq!(verify(leaf, intermediate), Ok(()));
    let Some(file) = file_edits::edited(data, &GOOD) else { return };
    assert!(file == *leaf || verify(&file, intermediate).is_err(), "another leaf verifies");
    assert!(file == *intermediate || verify(leaf, &file).is_err(), "another intermediate verifies");
    let certificate = CertificateDer::from_slice(&file);
    for other in [leaf, intermediate, root] {
        let other = CertificateDer::from_slice(other);
        let _ = (chain::is_signed_by(&certificate, &other), chain::is_signed_by(&other, &certificate));
    }
});
