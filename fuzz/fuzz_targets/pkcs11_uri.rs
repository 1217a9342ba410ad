//! A PKCS#11 URI: what is read is written in one form that reads back the same, alone and in its PEM block; and no PIN is in
//! an error or in what is written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qtls_pkcs11::Uri;

/// Nothing else in a URI, an error or a canonical form has it.
const PIN: &str = "Zq7-marker";

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for text in [text.to_owned(), format!("pkcs11:{text}"), format!("pkcs11:{text}?pin-value={PIN}")] {
        match Uri::parse(&text) {
            Ok(uri) => {
                let written = uri.with_pin_source();
                assert!(!format!("{uri:?}{uri}{written}").contains(PIN));
                let again = Uri {
                    pin_value: uri.pin_value.clone(),
                    ..Uri::parse(&written).expect("it was written here")
                };
                assert_eq!(again, uri);
                assert_eq!(again.with_pin_source(), written, "there is one form");
                assert_eq!(Uri::from_pem_der(&Uri::to_pem_der(&text)).expect("the URI is right"), Some(uri));
            }
            Err(error) => assert!(!error.to_string().contains(PIN), "{error}"),
        }
    }
});
