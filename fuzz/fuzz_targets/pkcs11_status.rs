//! A status file, which whoever may write into its directory may have written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qtls_pkcs11::Status;

fuzz_target!(|data: &[u8]| {
    // The input, and the same behind a right header for as many tokens as the first byte says.
    let tokens = u64::from(data.first().copied().unwrap_or(0) % 4);
    let header = [u64::from_be_bytes(*b"QTLSHSM\x01"), 1, tokens];
    let mut framed: Vec<u8> = header.iter().flat_map(|word| word.to_ne_bytes()).collect();
    framed.extend_from_slice(data);
    framed.resize((8 + tokens as usize * 48) * 8, 0);
    let framed = Status::parse(&framed).expect("it has the header and the length");
    for status in [Status::parse(data), Some(framed)].into_iter().flatten() {
        assert!(status.tokens.iter().all(|token| !token.name.contains(char::is_control)));
    }
});
