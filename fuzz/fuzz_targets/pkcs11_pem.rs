//! The content of a PEM block `PKCS#11 PROVIDER URI`: read without a panic, and what is read has one encoding.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qtls_pkcs11::Uri;

fuzz_target!(|data: &[u8]| {
    // The input as it is, or as edits of a right block, each two bytes (position, value).
    let mut edited = Uri::to_pem_der("pkcs11:token=gateway;object=key;id=%01?pin-source=file:/etc/pin");
    for edit in data.chunks_exact(2) {
        let position = usize::from(edit[0]) % edited.len();
        edited[position] = edit[1];
    }
    for der in [data, &edited] {
        if let Ok(Some(uri)) = Uri::from_pem_der(der) {
            let again =
                Uri::from_pem_der(&Uri::to_pem_der(&uri.with_pin_source())).expect("it was written here");
            assert_eq!(again, Some(Uri { pin_value: None, ..uri }));
        }
    }
});
