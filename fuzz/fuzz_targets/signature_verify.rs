//! A signature: both backends must say the same of it.
#![no_main]

mod signature_edits;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some((prepared, signature)) = signature_edits::edited(data, |prepared| &prepared.signature) {
        let verify = (
            prepared.fast.verify(signature_edits::MESSAGE, signature_edits::ENCODING, &signature),
            prepared.oracle.verify(signature_edits::MESSAGE, signature_edits::ENCODING, &signature),
        );
        assert_eq!(verify.0, verify.1);
        if signature == prepared.signature {
            assert_eq!(verify.0, Ok(()));
        }
    }
});
