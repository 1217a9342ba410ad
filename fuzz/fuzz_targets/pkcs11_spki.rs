//! The public key beside the URI in a key file: what is read has one encoding.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use qtls_pkcs11::{EcCurve, PublicKey};

/// One of each kind, to be edited: random bytes do not get past the first object identifier.
static GOOD: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let point = |bytes| [vec![4], vec![7; bytes]].concat();
    let algorithm = qtls_crypto::signature_by_name("ML-DSA-44").expect("a row of the table");
    let keys = [
        PublicKey::Rsa { modulus: vec![0x81; 256], exponent: vec![1, 0, 1] },
        PublicKey::Ec { curve: EcCurve::P256, point: point(64) },
        PublicKey::Ec { curve: EcCurve::P384, point: point(96) },
        PublicKey::MlDsa { algorithm, key: vec![7; algorithm.ml_dsa.public_key_bytes()] },
    ];
    keys.iter().map(PublicKey::to_spki_der).collect()
});

fuzz_target!(|data: &[u8]| {
    let Some((choice, edits)) = data.split_first() else { return };
    // Each three bytes are an edit (position, value); most are meant for the beginning, where the structure is.
    let mut edited = GOOD[usize::from(*choice) % GOOD.len()].clone();
    for edit in edits.chunks_exact(3) {
        let position = usize::from(u16::from_le_bytes([edit[0], edit[1] & 3])) % edited.len();
        edited[position] = edit[2];
    }
    for der in [data, &edited] {
        if let Ok(key) = PublicKey::from_spki_der(der) {
            assert_eq!(key.to_spki_der(), der, "there is one encoding");
        }
    }
});
